"""The baseline: start to ready, idle memory, GET and POST rates over TLS, create → Ready on a real container.

`python -m tests.bench.smoke` prints one JSON line per figure. Without a container engine the last one is left
out, and the first two are of the control plane alone. Each figure is the median of a few runs in turn.
"""

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from orchestrator.runtime.imagetar import Entry, build
from tests.bench.cluster import BenchCluster
from tests.bench.report import paused_share, row

IMAGE = "orchestrator.internal/bench:1"
STARTS, LOADS, PODS, LOAD_S = 5, 3, 9, 4.0
CONFIG_MAP = (
    '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"generateName":"bench-"},"data":{"key-{n}":"'
    + "x" * 400
    + '"}}'
)


def main() -> None:
    engine = _engine_answers()
    row("smoke", "share of its time that this machine is paused", paused_share(), "1", "lower")
    flags = () if engine else ("--no-agent",)
    with BenchCluster(*flags) as cluster:
        starts = [cluster.ready_s, *(_restart(cluster) for _ in range(STARTS - 1))]
        row("smoke", "start to ready", statistics.median(starts), "s", "lower", target=1.0)
        row("smoke", "start to ready, fastest", min(starts), "s", "lower", target=1.0)
        if engine:
            _wait_for_node(cluster)
        time.sleep(10)
        row("smoke", "resident, idle", cluster.resident_mib(), "MiB", "lower", target=132, recorded_peer=660)
        _idle_cpu(cluster)
        _rates(cluster)
        if engine:
            _pods(cluster)
        row("smoke", "kill -9 to ready with all state", _kill_and_restart(cluster), "s", "lower", target=2.0)


def _engine_answers() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    return subprocess.run([docker, "version"], capture_output=True, check=False).returncode == 0


def _restart(cluster: BenchCluster) -> float:
    cluster.stop()
    cluster.start()
    return cluster.ready_s


def _kill_and_restart(cluster: BenchCluster) -> float:
    """From the start of the process after `kill -9`; the store holds what the benchmark wrote."""
    took = []
    for _ in range(3):
        cluster.kill()
        cluster.start()
        cluster.call("GET", "/api/v1/namespaces/default/configmaps/bench")
        took.append(cluster.ready_s)
    return statistics.median(took)


def _idle_cpu(cluster: BenchCluster) -> None:
    before_s, began_s = cluster.cpu_s(), time.perf_counter()
    time.sleep(10)
    per_minute = (cluster.cpu_s() - before_s) / (time.perf_counter() - began_s) * 60
    row("smoke", "CPU at rest", per_minute, "CPU s/min", "lower", target=0.78, recorded_peer=2.6)


def _rates(cluster: BenchCluster) -> None:
    token = cluster.token()
    cluster.call("POST", "/api/v1/namespaces/default/configmaps", _config_map("bench"))
    get = {"method": "GET", "path": "/api/v1/namespaces/default/configmaps/bench", "connections": 32}
    post = {
        "method": "POST",
        "path": "/api/v1/namespaces/default/configmaps",
        "connections": 64,
        "body": CONFIG_MAP,
    }
    results: dict[str, list[dict[str, Any]]] = {"GET": [], "POST": []}
    for _ in range(LOADS):
        for plan in (get, post):
            result = cluster.load(token=token, duration_s=LOAD_S, **plan)
            assert set(result["statuses"]) <= {"200", "201"}, result
            results[str(plan["method"])].append(result)
    for method, connections in (("GET", 32), ("POST", 64)):
        p50_ms = statistics.median(result["p50_ms"] for result in results[method])
        row("smoke", f"{method} config map, {connections} connections, p50", p50_ms, "ms", "lower")
    rates = {method: statistics.median(r["rate"] for r in runs) for method, runs in results.items()}
    p99_ms = statistics.median(r["p99_ms"] for r in results["POST"])
    row(
        "smoke",
        "GET config map, 32 connections",
        rates["GET"],
        "1/s",
        "higher",
        target=7000,
        recorded_peer=2460,
    )
    row(
        "smoke",
        "POST config map, 64 connections",
        rates["POST"],
        "1/s",
        "higher",
        target=3500,
        recorded_peer=1780,
    )
    row("smoke", "POST config map, 64 connections, p99", p99_ms, "ms", "lower", target=49, recorded_peer=98)


def _config_map(name: str) -> object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": "x" * 400}}


def _pods(cluster: BenchCluster) -> None:
    _load_image()
    _wait_for_node(cluster)
    took = [_create_to_ready_s(cluster, number) * 1000 for number in range(PODS)]
    row("smoke", "pod create to Ready", statistics.median(took), "ms", "lower", target=600, recorded_peer=576)
    row("smoke", "pod create to Ready, fastest", min(took), "ms", "lower", target=600)


def _wait_for_node(cluster: BenchCluster) -> None:
    for _ in range(600):
        nodes = cluster.call("GET", "/api/v1/nodes")["items"]
        conditions = [
            c for node in nodes for c in node["status"].get("conditions", ()) if c["type"] == "Ready"
        ]
        if any(condition["status"] == "True" for condition in conditions):
            return
        time.sleep(0.05)
    raise RuntimeError("the node did not become Ready")


def _create_to_ready_s(cluster: BenchCluster, number: int) -> float:
    pods, name = "/api/v1/namespaces/default/pods", f"bench-{number}"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "app", "image": IMAGE, "command": ["/bin/busybox", "sleep", "3600"]}],
        },
    }
    began_s = time.perf_counter()
    cluster.call("POST", pods, pod)
    while True:
        status = cluster.call("GET", f"{pods}/{name}").get("status", {})
        conditions = {c["type"]: c["status"] for c in status.get("conditions", ())}
        if conditions.get("Ready") == "True":
            break
        if time.perf_counter() - began_s > 60:
            raise RuntimeError(f"{name} did not become Ready: {status}")
        time.sleep(0.01)
    took_s = time.perf_counter() - began_s
    cluster.call("DELETE", f"{pods}/{name}")
    while any(item["metadata"]["name"] == name for item in cluster.call("GET", pods)["items"]):
        time.sleep(0.05)
    return took_s


def _load_image() -> None:
    busybox = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
    tar = build(IMAGE, {"/bin/busybox": Entry(data=busybox)}, {"Cmd": ["/bin/busybox", "sleep", "3600"]})
    subprocess.run(["docker", "load"], input=tar, check=True, capture_output=True)


if __name__ == "__main__":
    sys.exit(main())
