"""Pods on real engines: create to Ready and delete to gone, one at a time and many at once, and the agent's cost.

`python -m tests.bench.pods [--runtimes docker,containerd] [--docker SOCKET] [--containerd SOCKET] [--singles N]
[--many 50,110]` prints one JSON line per figure. Beside each pod the engine's own client runs the same image, turn
by turn, which is the peer of the row. Engines that are not named are started for the run and ended after it.
"""

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Iterator

from tests.bench.cluster import BenchCluster
from tests.bench.engines import ENGINES, Engine
from tests.bench.podwatch import PodWatch
from tests.bench.report import paused_share, percentile, row

IMAGE = "orchestrator.internal/bench:1"
COMMAND = ["/bin/busybox", "sh", "-c", "trap 'exit 0' TERM; while true; do sleep 3600 & wait; done"]
RANGES = ("--pod-cidr", "10.96.0.0/16", "--service-cidr", "10.106.0.0/16", "--dns-address", "10.106.0.10")
PODS = "/api/v1/namespaces/default/pods"
KUBELET_MS, KUBELET_RATE = 576, 4.2
TARGETS = {"docker": (290, 3.5), "containerd": (150, 12.0)}
"""Median of create to Ready in ms, and pods per second of 50 at once."""
SETTLE_S = 2.0
DEADLINE_S = 300.0


def main() -> None:
    options = _options()
    row("pods", "share of its time that this machine is paused", paused_share(), "1", "lower")
    for name in options.runtimes.split(","):
        with ENGINES[name](getattr(options, name)) as engine, _cluster(engine) as cluster:
            engine.load(IMAGE, cluster.instance)
            with PodWatch(cluster) as watch:
                _singles(engine, cluster, watch, options.singles)
                for count in map(int, filter(None, options.many.split(","))):
                    _many(engine, cluster, watch, count)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pods")
    parser.add_argument("--runtimes", default="docker,containerd")
    parser.add_argument("--docker", default="", help="socket of an engine that runs")
    parser.add_argument("--containerd", default="", help="socket of an engine that runs")
    parser.add_argument("--singles", type=int, default=15)
    parser.add_argument("--many", default="50,110")
    return parser.parse_args()


@contextlib.contextmanager
def _cluster(engine: Engine) -> Iterator[BenchCluster]:
    flags = ("--runtime", engine.name, "--runtime-endpoint", engine.socket)
    with BenchCluster(*RANGES, *flags) as cluster:
        cluster.wait_for_node()
        yield cluster


def _singles(engine: Engine, cluster: BenchCluster, watch: PodWatch, count: int) -> None:
    """One pod, one bare container, and so on; the first of each only warms up."""
    ready, gone, bare, writes = [], [], [], []
    for number in range(count + 1):
        name = f"single-{number}"
        began_s = _create(cluster, name)
        ready.append((watch.ready_s([name], DEADLINE_S)[name] - began_s) * 1000)
        writes.append(watch.writes(name))
        bare.append(engine.bare(IMAGE, COMMAND, name) * 1000)
        began_s = _delete(cluster, name)
        gone.append((watch.gone_s([name], DEADLINE_S)[name] - began_s) * 1000)
        time.sleep(SETTLE_S)
    _tell_singles(engine, ready[1:], gone[1:], bare[1:])
    row("pods", f"{engine.name}: status writes from binding to Ready", max(writes), "1", "lower", target=2)


def _tell_singles(engine: Engine, ready: list[float], gone: list[float], bare: list[float]) -> None:
    target, peer = TARGETS[engine.name][0], f"bare {engine.client} run"
    shares = (("p50", statistics.median), ("p99", lambda v: percentile(v, 0.99)), ("fastest", min))
    for share, of in shares:
        row(
            "pods",
            f"{engine.name}: create to Ready, one at a time, {share}",
            of(ready),
            "ms",
            "lower",
            target=target if share != "p99" else None,
            peer=peer,
            peer_value=of(bare),
            recorded_peer=KUBELET_MS if share == "p50" else None,
        )
        row("pods", f"{engine.name}: delete to gone, one at a time, {share}", of(gone), "ms", "lower")


def _many(engine: Engine, cluster: BenchCluster, watch: PodWatch, count: int) -> None:
    """All at once until the last is Ready; then what the agent needs for them, then all away."""
    names = [f"many-{count}-{number}" for number in range(count)]
    cpu_s, began_s = cluster.cpu_s(), time.perf_counter()
    for name in names:
        _create(cluster, name)
    took_s = max(watch.ready_s(names, DEADLINE_S).values()) - began_s
    used_s = cluster.cpu_s() - cpu_s
    bare_s = engine.bare_many(IMAGE, COMMAND, count)
    _tell_many(engine, count, count / took_s, count / bare_s)
    row("pods", f"{engine.name}: CPU of the process per pod, {count} at once", used_s / count, "s", "lower")
    _tell_rest(engine, cluster, count)
    began_s = time.perf_counter()
    for name in names:
        _delete(cluster, name)
    took_s = max(watch.gone_s(names, DEADLINE_S).values()) - began_s
    row("pods", f"{engine.name}: delete to gone, {count} at once", count / took_s, "1/s", "higher")


def _tell_many(engine: Engine, count: int, rate: float, bare: float) -> None:
    target = TARGETS[engine.name][1] if count == 50 else None
    row(
        "pods",
        f"{engine.name}: create to Ready, {count} at once",
        rate,
        "1/s",
        "higher",
        target=target,
        peer=f"bare {engine.client} run, as many at a time",
        peer_value=bare,
        recorded_peer=KUBELET_RATE if count == 50 else None,
    )


def _tell_rest(engine: Engine, cluster: BenchCluster, count: int) -> None:
    time.sleep(SETTLE_S)
    cpu_s, began_s = cluster.cpu_s(), time.perf_counter()
    time.sleep(10)
    per_minute = (cluster.cpu_s() - cpu_s) / (time.perf_counter() - began_s) * 60
    row("pods", f"{engine.name}: CPU at rest with {count} pods", per_minute, "CPU s/min", "lower")
    row("pods", f"{engine.name}: resident with {count} pods", cluster.resident_mib(), "MiB", "lower")


def _create(cluster: BenchCluster, name: str) -> float:
    """When the request was sent."""
    container = {"name": "app", "image": IMAGE, "command": COMMAND}
    spec = {"terminationGracePeriodSeconds": 30, "containers": [container]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    began_s = time.perf_counter()
    cluster.call("POST", PODS, pod)
    return began_s


def _delete(cluster: BenchCluster, name: str) -> float:
    """When the request was sent."""
    began_s = time.perf_counter()
    cluster.call("DELETE", f"{PODS}/{name}", {"gracePeriodSeconds": 30})
    return began_s


if __name__ == "__main__":
    sys.exit(main())
