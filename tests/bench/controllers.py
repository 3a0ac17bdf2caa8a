"""The controllers on simulated nodes: how long things take from the client's request to the observed end.

`python -m tests.bench.controllers [PART …]`, of `rollout`, `deployments`, `jobs`, `namespace`, `latency`, `rest`; all
by default. Prints one JSON line per row. The server is a process of its own over TLS, its simulated nodes run in it, so
that the time of their agents is part of every figure. Beside each duration stands the server's CPU time, which a
machine that is paused from outside changes least.
"""

import argparse
import asyncio
import contextlib
import json
import re
import ssl
import sys
import time
import urllib.error
from collections.abc import Callable, Iterator
from typing import Any

from tests.bench.cluster import BenchCluster
from tests.bench.report import paused_share, percentile, row

NODES = 100
PODS, DEPLOYMENTS, JOBS, JOB_PODS = 1000, 1000, 500, 10
CONFIG_MAPS, SECRETS, SERVICES = 9000, 500, 500
REST_NODES, REST_PODS, REST_S = 1000, 10_000, 60.0
CHANGED, CHANGES_PER_S, CHANGES_S = 500, 500, 10.0
PATIENCE_S = 300.0
DEFAULT = "/apis/apps/v1/namespaces/default/deployments"


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.bench.controllers", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="default: all")
    chosen = parser.parse_args().parts or list(PARTS)
    row("controllers", "share of its time that this machine is paused", paused_share(), "1", "lower")
    for name in chosen:
        nodes, part = PARTS[name]
        with BenchCluster("--no-agent", "--simulated-nodes", str(nodes)) as cluster:
            part(cluster)
    return 0


def rollout(cluster: BenchCluster) -> None:
    """One Deployment of many pods: created, then rolled over."""
    with _timed(cluster, f"a Deployment of {PODS} pods on {NODES} nodes available", 3.0):
        cluster.call("POST", DEFAULT, deployment("big", PODS))
        _until(lambda: _available(cluster, "big", PODS, 1))
    patch = {"spec": {"template": {"metadata": {"annotations": {"bench": "2"}}}}}
    with _timed(cluster, f"a Deployment of {PODS} pods on {NODES} nodes rolled over", 8.0):
        cluster.call("PATCH", f"{DEFAULT}/big", patch, "application/merge-patch+json")
        _until(lambda: _available(cluster, "big", PODS, 2))


def deployments(cluster: BenchCluster) -> None:
    """Many small ones at once."""
    with _timed(cluster, f"{DEPLOYMENTS} Deployments of 3 pods available", 10.0):
        _many(cluster, [(DEFAULT, deployment(f"d-{n}", 3)) for n in range(DEPLOYMENTS)])
        _until(lambda: _all_available(cluster))


def jobs(cluster: BenchCluster) -> None:
    """Jobs whose pods end at once."""
    path = "/apis/batch/v1/namespaces/default/jobs"
    with _timed(cluster, f"{JOBS} Jobs of {JOB_PODS} pods complete", 20.0):
        _many(cluster, [(path, job(f"j-{n}")) for n in range(JOBS)])
        _until(lambda: all((j.get("status") or {}).get("succeeded") == JOB_PODS and _complete(j)
                           for j in cluster.call("GET", path)["items"]))  # fmt: skip


def namespace(cluster: BenchCluster) -> None:
    """A full namespace deleted."""
    cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": "full"}})
    base = "/api/v1/namespaces/full"
    kinds = (("configmaps", CONFIG_MAPS), ("secrets", SECRETS), ("services", SERVICES))
    _many(cluster, [(f"{base}/{kind}", _plain(kind, n)) for kind, count in kinds for n in range(count)])
    total = sum(count for _, count in kinds)
    with _timed(cluster, f"a namespace of {total} objects deleted", 10.0):
        cluster.call("DELETE", base)
        _until(lambda: _absent(cluster, base))


def latency(cluster: BenchCluster) -> None:
    """From a change of a Deployment's spec, as a watch shows it, to its controller's answer in the status."""
    _many(cluster, [(DEFAULT, deployment(f"w-{n}", 0)) for n in range(CHANGED)])
    _until(lambda: all((d.get("status") or {}).get("observedGeneration") for d in _items(cluster)))
    rate, took = asyncio.run(_answered(cluster, cluster.token()))
    title = f"watch to write at {rate:.0f} of {CHANGES_PER_S} changes/s"
    row("controllers", f"{title}, p50", percentile(took, 0.5) * 1000, "ms", "lower")
    row("controllers", f"{title}, p99", percentile(took, 0.99) * 1000, "ms", "lower", target=50)


def rest(cluster: BenchCluster) -> None:
    """Nobody wants anything: what nodes and controllers still cost."""
    per = 100
    _many(cluster, [(DEFAULT, deployment(f"r-{n}", per)) for n in range(REST_PODS // per)])
    _until(lambda: _all_available(cluster))
    time.sleep(20)
    before = _revision(cluster)
    cpu_s, began_s = cluster.cpu_s(), time.perf_counter()
    time.sleep(REST_S)
    minutes = (time.perf_counter() - began_s) / 60
    title = f"at rest with {REST_NODES} nodes and {REST_PODS} pods"
    row("controllers", f"CPU {title}", (cluster.cpu_s() - cpu_s) / minutes, "s/min", "lower")
    row("controllers", f"writes {title}", (_revision(cluster) - before) / minutes, "1/min", "lower")
    row("controllers", f"resident memory {title}", cluster.resident_mib(), "MiB", "lower")


async def _answered(cluster: BenchCluster, token: str) -> tuple[float, list[float]]:
    """Changes per second that were made, and the time (s) that each took to be answered."""
    context = ssl.create_default_context(cafile=str(cluster.ca))
    seen: dict[tuple[str, int], float] = {}
    took: list[float] = []
    ended = asyncio.Event()

    async def follow(revision: str) -> None:
        reader, writer = await asyncio.open_connection("localhost", cluster.port, ssl=context, limit=1 << 22)
        writer.write(_head("GET", f"{DEFAULT}?watch=true&resourceVersion={revision}", token))
        while not ended.is_set():
            line = await reader.readline()
            if not line.startswith(b'{"type":"MODIFIED"'):
                continue
            now_s, found = time.perf_counter(), json.loads(line)["object"]
            name, generation = found["metadata"]["name"], found["metadata"]["generation"]
            seen.setdefault((name, generation), now_s)
            if found["status"].get("observedGeneration") == generation:
                took.append(now_s - seen[name, generation])
        writer.close()

    async def change(first: int, step: int, each_s: float) -> None:
        reader, writer = await asyncio.open_connection("localhost", cluster.port, ssl=context)
        began_s = time.perf_counter()
        for number in range(first, int(CHANGES_PER_S * CHANGES_S), step):
            await asyncio.sleep(max(0.0, began_s + number * each_s - time.perf_counter()))
            limit = 2 + number // CHANGED % 8
            body = json.dumps({"spec": {"revisionHistoryLimit": limit}}).encode()
            writer.write(_head("PATCH", f"{DEFAULT}/w-{number % CHANGED}", token, body))
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head[:20], head
            await reader.readexactly(int(re.search(rb"(?i)content-length: (\d+)", head).group(1)))  # type: ignore[union-attr]
        writer.close()

    listed = cluster.call("GET", f"{DEFAULT}?limit=1")["metadata"]["resourceVersion"]
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        watch = group.create_task(follow(listed))
        began_s = time.perf_counter()
        await asyncio.gather(*(change(n, 16, 1 / CHANGES_PER_S) for n in range(16)))
        rate = CHANGES_PER_S * CHANGES_S / (time.perf_counter() - began_s)
        await asyncio.sleep(1)
        ended.set()
        watch.cancel()
    return rate, took


def _head(method: str, path: str, token: str, body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {token}"]
    if body:
        lines += ["Content-Type: application/merge-patch+json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def deployment(name: str, replicas: int) -> dict[str, Any]:
    labels = {"app": name}
    container = {"name": "main", "image": "registry.invalid/app:1"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def job(name: str) -> dict[str, Any]:
    container = {"name": "main", "image": "registry.invalid/app:1", "command": ["true"]}
    template = {"spec": {"containers": [container], "restartPolicy": "Never"}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"parallelism": JOB_PODS, "completions": JOB_PODS, "template": template},
    }


def _plain(kind: str, number: int) -> dict[str, Any]:
    metadata = {"name": f"{kind}-{number}"}
    if kind == "services":
        return {"metadata": metadata, "spec": {"ports": [{"port": 80}], "clusterIP": "None"}}
    return {"metadata": metadata, "data": {"key": "eA=="}}


@contextlib.contextmanager
def _timed(cluster: BenchCluster, title: str, target_s: float) -> Iterator[None]:
    began_s, cpu_s = time.perf_counter(), cluster.cpu_s()
    yield
    took_s, cpu_s = time.perf_counter() - began_s, cluster.cpu_s() - cpu_s
    row("controllers", title, took_s, "s", "lower", target=target_s)
    row("controllers", f"{title}, CPU of the server", cpu_s, "s", "lower")


def _until(holds: Callable[[], bool]) -> None:
    """Ask again every 100 ms; the asking is in the figure."""
    end_s = time.perf_counter() + PATIENCE_S
    while not holds():
        if time.perf_counter() > end_s:
            raise TimeoutError("it did not come about")
        time.sleep(0.1)


def _many(cluster: BenchCluster, objects: list[tuple[str, dict[str, Any]]]) -> None:
    """Create them all over 16 connections."""
    asyncio.run(_create_all(cluster, objects))


async def _create_all(cluster: BenchCluster, objects: list[tuple[str, dict[str, Any]]]) -> None:
    context, rest = cluster.admin_context(), iter(objects)

    async def create() -> None:
        reader, writer = await asyncio.open_connection("localhost", cluster.port, ssl=context)
        for path, body in rest:
            data = json.dumps(body).encode()
            writer.write(_head("POST", path, "", data).replace(b"application/merge-patch+json", b"application/json")
                         .replace(b"Authorization: Bearer \r\n", b""))  # fmt: skip
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))  # type: ignore[union-attr]
            answer = await reader.readexactly(length)
            assert b" 201 " in head[:20], answer
        writer.close()

    await asyncio.gather(*(create() for _ in range(16)))


def _items(cluster: BenchCluster) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cluster.call("GET", DEFAULT)["items"]
    return found


def _available(cluster: BenchCluster, name: str, replicas: int, generation: int) -> bool:
    status = cluster.call("GET", f"{DEFAULT}/{name}").get("status") or {}
    wanted = ("replicas", "updatedReplicas", "availableReplicas")
    return status.get("observedGeneration", 0) >= generation and all(
        status.get(key) == replicas for key in wanted
    )


def _all_available(cluster: BenchCluster) -> bool:
    return all(
        (d.get("status") or {}).get("availableReplicas") == d["spec"]["replicas"] for d in _items(cluster)
    )


def _complete(found: dict[str, Any]) -> bool:
    conditions = found["status"].get("conditions") or []
    return any(c["type"] == "Complete" and c["status"] == "True" for c in conditions)


def _absent(cluster: BenchCluster, path: str) -> bool:
    try:
        cluster.call("GET", path)
    except urllib.error.HTTPError as error:
        return error.code == 404
    return False


def _revision(cluster: BenchCluster) -> int:
    return int(cluster.call("GET", f"{DEFAULT}?limit=1")["metadata"]["resourceVersion"])


PARTS: dict[str, tuple[int, Callable[[BenchCluster], None]]] = {
    "rollout": (NODES, rollout),
    "deployments": (NODES, deployments),
    "jobs": (NODES, jobs),
    "namespace": (0, namespace),
    "latency": (0, latency),
    "rest": (REST_NODES, rest),
}

if __name__ == "__main__":
    sys.exit(main())
