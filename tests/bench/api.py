"""The API under load: GET, POST, LIST, watch, memory and the longest turn of the event loop.

`python -m tests.bench.api [PART …]`, of `requests`, `lists`, `watches`; all by default. Prints one JSON line per
row. The server is a process of its own without an agent, over TLS, with a token that RBAC decides about. Requests
come from Debian's `wrk` (rates and latencies) where it is installed, and from a Python client.
"""

import argparse
import asyncio
import json
import re
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable

from tests.bench.cluster import BenchCluster
from tests.bench.report import paused_share, percentile, row

RUNS, LOAD_S = 3, 3.0
PODS = 7800
MEMORY_PODS = 10_000
WATCHES, WATCHED_WRITES = 100, 400
DEFAULT = "/api/v1/namespaces/default"
CONFIG_MAP = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"generateName": "bench-"},
    "data": {"key": "x" * 400},
}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"generateName": "bench-", "labels": {"app": "bench", "tier": "front"}},
    "spec": {
        "containers": [
            {
                "name": "app",
                "image": "registry.invalid/app:1",
                "env": [{"name": "COLOUR", "value": "red"}],
                "ports": [{"containerPort": 8080}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
            }
        ],
        "schedulerName": "nobody",
    },
}
SCRIPT = """
wrk.method = "POST"
wrk.body = [[%s]]
wrk.headers["Content-Type"] = "application/json"
"""
_WRK_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.bench.api", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="default: all")
    chosen = parser.parse_args().parts or list(PARTS)
    row("api", "share of its time that this machine is paused", paused_share(), "1", "lower")
    for name in chosen:
        with BenchCluster("--no-agent") as cluster:
            PARTS[name](cluster, cluster.token())
            _longest_turn(cluster, name)
    return 0


def requests(cluster: BenchCluster, token: str) -> None:
    """Rates and latencies of single objects, by two drivers."""
    cluster.call("POST", f"{DEFAULT}/pods", {**POD, "metadata": {"name": "one"}})
    plans: list[tuple[str, str, str, int, object, float | None, float, float, float | None]] = [
        ("GET pod", "GET", f"{DEFAULT}/pods/one", 32, None, 2460, 3.0, 1.0, None),
        ("POST config map", "POST", f"{DEFAULT}/configmaps", 64, CONFIG_MAP, 1780, 2.0, 0.5, 98),
        ("POST pod", "POST", f"{DEFAULT}/pods", 64, POD, 960, 2.0, 0.5, 217),
    ]
    for driver, drive in (("wrk", _wrk), ("Python client", _python)):
        if driver == "wrk" and shutil.which("wrk") is None:
            print(
                "wrk is not installed (Debian package wrk): rows by the Python client only", file=sys.stderr
            )
            continue
        results: dict[str, list[dict[str, float]]] = {plan[0]: [] for plan in plans}
        for _ in range(RUNS):
            for name, method, path, connections, body, *_ in plans:
                results[name].append(drive(cluster, token, method, path, connections, body))
        for name, _, _, connections, _, rate, times, share, p99_ms in plans:
            found = {key: statistics.median(run[key] for run in results[name]) for key in results[name][0]}
            title = f"{name}, {connections} connections, {driver}"
            row("api", title, found["rate"], "1/s", "higher", target=times, of="ratio", recorded_peer=rate)
            row("api", f"{title}, p50", found["p50_ms"], "ms", "lower")
            wanted = share if p99_ms is not None else None
            row("api", f"{title}, p99", found["p99_ms"], "ms", "lower", wanted, "ratio", recorded_peer=p99_ms)


def _python(
    cluster: BenchCluster, token: str, method: str, path: str, connections: int, body: object
) -> dict[str, float]:
    plan = {"method": method, "path": path, "connections": connections, "duration_s": LOAD_S, "token": token}
    found = cluster.load(**plan, **({"body": json.dumps(body)} if body is not None else {}))
    assert set(found.pop("statuses")) <= {"200", "201"}, found
    return found


def _wrk(
    cluster: BenchCluster, token: str, method: str, path: str, connections: int, body: object
) -> dict[str, float]:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT % json.dumps(body) if body is not None else "")
        script.flush()
        done = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{LOAD_S:.0f}s", "--timeout", "30s", "--latency", "-s", script.name,
             "-H", f"Authorization: Bearer {token}", f"https://localhost:{cluster.port}{path}"],
            capture_output=True, text=True, check=True, timeout=LOAD_S + 60,
        )  # fmt: skip
    assert "Non-2xx" not in done.stdout, f"{method} {path}: {done.stdout}"
    return {
        "rate": float(_found(r"Requests/sec:\s+([\d.]+)", done.stdout)),
        "p50_ms": _wrk_ms(_found(r"(?m)^\s+50%\s+(\S+)", done.stdout)),
        "p99_ms": _wrk_ms(_found(r"(?m)^\s+99%\s+(\S+)", done.stdout)),
    }


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found is not None, text
    return found.group(1)


def _wrk_ms(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()  # type: ignore[union-attr]
    return float(number) * _WRK_UNITS[unit]


def lists(cluster: BenchCluster, token: str) -> None:
    """Lists of many pods: whole, filtered, paged; and what they take in memory."""
    before_mib = cluster.resident_mib()
    _fill(cluster, token, MEMORY_PODS)
    time.sleep(5)
    grown_mib = cluster.resident_mib() - before_mib
    row("api", f"resident memory for {MEMORY_PODS} pods", grown_mib, "MiB", "lower")
    surplus = cluster.call("GET", f"{DEFAULT}/pods?limit={MEMORY_PODS - PODS}")["items"]
    for pod in surplus:
        cluster.call("DELETE", f"{DEFAULT}/pods/{pod['metadata']['name']}?gracePeriodSeconds=0")
    client = _Client(cluster, token)
    assert len(json.loads(client.get(f"{DEFAULT}/pods"))["items"]) == PODS
    whole: list[float] = []
    none: list[float] = []
    node: list[float] = []
    paged: list[float] = []
    for _ in range(RUNS):
        whole.append(_rate(lambda: client.get(f"{DEFAULT}/pods"), 3.0))
        none.append(_rate(lambda: client.get(f"{DEFAULT}/pods?labelSelector=app%3Dabsent"), 2.0))
        node.append(_rate(lambda: client.get(f"{DEFAULT}/pods?fieldSelector=spec.nodeName%3Delsewhere"), 2.0))
        paged.append(_rate(lambda: _all_pages(client), 3.0))
    row(
        "api",
        f"LIST {PODS} pods whole",
        statistics.median(whole),
        "1/s",
        "higher",
        2.0,
        "ratio",
        recorded_peer=5.5,
    )
    title = f"LIST {PODS} pods, selector matching none"
    row("api", title, statistics.median(none), "1/s", "higher", 3.0, "ratio", recorded_peer=580)
    title = f"LIST {PODS} pods, of a node that has none"
    row("api", title, statistics.median(node), "1/s", "higher")
    row("api", f"LIST {PODS} pods in pages of 500", statistics.median(paged), "1/s", "higher")


def _fill(cluster: BenchCluster, token: str, count: int) -> None:
    """About as many pods, by load in parts until they are there."""
    while True:
        found = cluster.call("GET", f"{DEFAULT}/pods?limit=1")
        there = len(found["items"]) + int(found["metadata"].get("remainingItemCount", 0))
        if there >= count:
            break
        cluster.load(
            method="POST", path=f"{DEFAULT}/pods", connections=32, token=token, body=json.dumps(POD),
            duration_s=min(4.0, max(0.2, (count - there) / 2000)),
        )  # fmt: skip
    over = there - count
    if over:
        for pod in cluster.call("GET", f"{DEFAULT}/pods?limit={over}")["items"]:
            cluster.call("DELETE", f"{DEFAULT}/pods/{pod['metadata']['name']}?gracePeriodSeconds=0")


def _all_pages(client: "_Client") -> None:
    token = ""
    while True:
        page = json.loads(client.get(f"{DEFAULT}/pods?limit=500&continue={token}"))
        token = page["metadata"].get("continue", "")
        if not token:
            return


def _rate(action: Callable[[], object], duration_s: float) -> float:
    """How often one client after the other gets through."""
    began_s, done = time.perf_counter(), 0
    while time.perf_counter() - began_s < duration_s:
        action()
        done += 1
    return done / (time.perf_counter() - began_s)


class _Client:
    """One client with a token; a connection that is kept would hide nothing here."""

    def __init__(self, cluster: BenchCluster, token: str) -> None:
        import http.client

        context = ssl.create_default_context(cafile=str(cluster.ca))
        self._connection = http.client.HTTPSConnection("localhost", cluster.port, context=context, timeout=60)
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}

    def get(self, path: str) -> bytes:
        self._connection.request("GET", path, headers=self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body[:300]
        return body


def watches(cluster: BenchCluster, token: str) -> None:
    """Every write delivered to many watches: how many events per second, how late."""
    rates, p50s, p99s = [], [], []
    for _ in range(RUNS):
        latencies, took_s = asyncio.run(_watch(cluster, token))
        rates.append(len(latencies) / took_s)
        p50s.append(percentile(latencies, 0.5) * 1000)
        p99s.append(percentile(latencies, 0.99) * 1000)
    title = f"watch deliveries, {WATCHES} watches"
    row("api", title, statistics.median(rates), "1/s", "higher")
    row("api", f"{title}, p50 from the write's begin", statistics.median(p50s), "ms", "lower")
    row("api", f"{title}, p99 from the write's begin", statistics.median(p99s), "ms", "lower")


async def _watch(cluster: BenchCluster, token: str) -> tuple[list[float], float]:
    context = ssl.create_default_context(cafile=str(cluster.ca))
    begun: dict[bytes, float] = {}
    latencies: list[float] = []
    ready = asyncio.Semaphore(0)

    async def follow() -> None:
        reader, writer = await asyncio.open_connection("localhost", cluster.port, ssl=context, limit=1 << 20)
        path = f"{DEFAULT}/configmaps?watch=true&resourceVersion={revision}&timeoutSeconds=60"
        writer.write(_head("GET", path, token))
        await reader.readuntil(b"\r\n\r\n")
        ready.release()
        left = WATCHED_WRITES
        while left:
            line = await reader.readline()
            if (at := line.find(b'"stamp":"')) >= 0:
                latencies.append(time.perf_counter() - begun[line[at + 9 : at + 15]])
                left -= 1
        writer.close()

    async def write() -> None:
        reader, writer = await asyncio.open_connection("localhost", cluster.port, ssl=context)
        for number in range(WATCHED_WRITES):
            stamp = b"%06d" % number
            body = json.dumps({**CONFIG_MAP, "data": {"stamp": stamp.decode()}}).encode()
            begun[stamp] = time.perf_counter()
            writer.write(_head("POST", f"{DEFAULT}/configmaps", token, body))
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))  # type: ignore[union-attr]
            await reader.readexactly(length)
        writer.close()

    revision = cluster.call("GET", f"{DEFAULT}/configmaps?limit=1")["metadata"]["resourceVersion"]
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        for _ in range(WATCHES):
            group.create_task(follow())
        for _ in range(WATCHES):
            await ready.acquire()
        began_s = time.perf_counter()
        group.create_task(write())
    return latencies, time.perf_counter() - began_s


def _head(method: str, path: str, token: str, body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {token}"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _longest_turn(cluster: BenchCluster, part: str) -> None:
    """Of the last minute or two: start and the part's work."""
    url = f"https://localhost:{cluster.port}/metrics"
    context = cluster.admin_context()
    with urllib.request.urlopen(url, context=context, timeout=30) as answer:
        text = answer.read().decode()
    longest_s = float(_found(r"(?m)^orchestrator_event_loop_longest_turn_seconds (\S+)", text))
    row("api", f"longest turn of the event loop, {part}", longest_s * 1000, "ms", "lower", target=20)


PARTS: dict[str, Callable[[BenchCluster, str], None]] = {
    "requests": requests,
    "lists": lists,
    "watches": watches,
}

if __name__ == "__main__":
    sys.exit(main())
