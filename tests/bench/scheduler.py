"""The scheduler: `python -m tests.bench.scheduler [--nodes N …] [--pods N] [--workloads W …] [--only PART]`. Parts:

- decision: pods per second, and CPU per pod, of the pure core; each decision is placed.
- waiting: pods that are there already until all are bound and the informer has seen it; registry, store on disk and
  scheduler in this process, no HTTP.
- end-to-end: a client creates pods through the API of a server with simulated nodes, until all are bound.
- idle: latency from create to bound of single pods, through the API.
- large: decisions on 100,000 nodes, and their memory.

Recorded peers: Kubernetes v1.36 on a machine like this, 1,000 nodes.
"""

import argparse
import asyncio
import json
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from orchestrator.admission.chain import AdmissionChain
from orchestrator.api.access import Attributes, Identity, component
from orchestrator.api.item import Item, Object, encode
from orchestrator.api.resources import NAMESPACES, NODES, PODS, ResourceTable
from orchestrator.api.schema import Schemas
from orchestrator.base.clock import SystemClock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.events import EventRecorder
from orchestrator.client.local import LocalClient
from orchestrator.informer.cache import Informers
from orchestrator.registry.registry import Registry
from orchestrator.registry.strategies import built_in
from orchestrator.scheduler.decide import Decider
from orchestrator.scheduler.preemption import Preemption
from orchestrator.scheduler.rules.columns import Columns
from orchestrator.scheduler.rules.infos import NodeInfo, PodInfo
from orchestrator.scheduler.scheduler import Scheduler
from orchestrator.store.engine import LogStore
from tests.bench.cluster import BenchCluster
from tests.bench.report import paused_share, percentile, row

ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
APP = {"matchLabels": {"app": "a"}}
TEN = {"matchExpressions": [{"key": "zone-of-ten", "operator": "In", "values": ["0", "1", "2"]}]}


def spread(when: str) -> Object:
    entry = {"maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": when, "labelSelector": APP}
    return {"topologySpreadConstraints": [entry]}


def affinity(kind: str, key: str, weight: int = 0, **more: Any) -> Object:
    term = {"topologyKey": key, "labelSelector": APP, **more}
    when = "preferred" if weight else "required"
    value = [{"weight": weight, "podAffinityTerm": term}] if weight else [term]
    return {"affinity": {kind: {f"{when}DuringSchedulingIgnoredDuringExecution": value}}}


WORKLOADS: dict[str, Object] = {
    "plain": {},
    "node affinity": {
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [TEN]},
            }
        }
    },
    "secrets": {"volumes": [{"name": "s", "secret": {"secretName": "s"}}]},
    "required zone spread": spread("DoNotSchedule"),
    "preferred zone spread": spread("ScheduleAnyway"),
    "required pod affinity": affinity("podAffinity", ZONE),
    "required host anti-affinity": affinity("podAntiAffinity", HOST),
    "preferred affinity": affinity("podAffinity", HOST, 1),
    "preferred anti-affinity": affinity("podAntiAffinity", HOST, 1),
    "affinity with namespace selector": affinity("podAffinity", ZONE, namespaceSelector={}),
}
PEERS = {
    "waiting": {"plain": 312, "required zone spread": 83, "required host anti-affinity": 72},
    "end-to-end": {"plain": 185, "required zone spread": 118, "required host anti-affinity": 116},
}
TARGETS = {
    "waiting": {
        "plain": 3000, "required zone spread": 2000, "required host anti-affinity": 1800, "preemption": 300,
    },
    "end-to-end": {"plain": 1850, "required zone spread": 1180, "required host anti-affinity": 1160},
}  # fmt: skip


def node(number: int) -> Object:
    name = f"n{number}"
    labels = {HOST: name, ZONE: f"z{number % 3}", "zone-of-ten": str(number % 10)}
    room = {"cpu": "32", "memory": "64Gi", "pods": "110"}
    return {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {},
        "status": {"allocatable": room, "capacity": room},
    }  # fmt: skip


def pod(number: int, workload: str, priority: int = 0, cpu: str = "100m") -> Object:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu, "memory": "100Mi"}}}
    spec = {"containers": [container], **WORKLOADS.get(workload, {})}
    if priority:
        spec["priority"] = priority
    metadata = {"name": f"p{number}", "namespace": "default", "labels": {"app": "a"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def info(number: int, obj: Object) -> PodInfo:
    return PodInfo(Item(encode({**obj, "metadata": {**obj["metadata"], "uid": f"u{number}"}}), number + 1))


def pods_of(workload: str, nodes: int, pods: int) -> int:
    """Host anti-affinity takes a node each."""
    return min(pods, nodes) if workload == "required host anti-affinity" else pods


# ── decision ────────────────────────────────────────────────────────────────────────────────────────────


def decisions(nodes: int, pods: int) -> None:
    for workload in WORKLOADS:
        columns = Columns()
        for number in range(nodes):
            columns.set_node(NodeInfo(node(number)))
        decider = Decider(columns, random.Random(1))
        made = [info(number, pod(number, workload)) for number in range(pods_of(workload, nodes, pods))]
        began_s, cpu_s = time.perf_counter(), time.process_time()
        for each in made:
            decision = decider.decide(each)
            if decision.node:
                columns.place(each, decision.node)
        say(
            "decision", workload, nodes, len(made), time.perf_counter() - began_s, time.process_time() - cpu_s
        )
    preemption_decisions(nodes, min(pods, 500))


def preemption_decisions(nodes: int, pods: int) -> None:
    """Nodes full of less urgent pods; each preemptor takes the place of some."""
    columns = Columns()
    for number in range(nodes):
        columns.set_node(NodeInfo(node(number)))
        for at in range(20):
            low = 100 * number + at
            columns.place(info(low, pod(low, "plain", cpu="1600m")), f"n{number}")
    rng = random.Random(1)
    nominated: dict[str, PodInfo] = {}
    decider, preemption = Decider(columns, rng, nominated=nominated), Preemption(columns, rng)
    made = [info(10**7 + number, pod(10**7 + number, "plain", 100, "3")) for number in range(pods)]
    began_s, cpu_s = time.perf_counter(), time.process_time()
    for each in made:
        assert not decider.decide(each).node
        outcome = preemption.find(decider, each, ())
        for victim in outcome.victims:
            columns.displace(victim.uid)
        columns.place(each, outcome.node)
    say("decision", "preemption", nodes, pods, time.perf_counter() - began_s, time.process_time() - cpu_s)


def say(kind: str, workload: str, nodes: int, pods: int, took_s: float, cpu_s: float) -> None:
    name = f"{kind}, {workload}, {nodes} nodes"
    scale = 2 / 3 if nodes > 1000 else 1
    target = TARGETS.get(kind, {}).get(workload) if nodes >= 1000 else None
    peer = PEERS.get(kind, {}).get(workload) if nodes == 1000 else None
    row(
        "scheduler", name, pods / took_s, "1/s", "higher",
        target=target * scale if target else None, recorded_peer=peer,
    )  # fmt: skip
    row("scheduler", f"{name}, CPU per pod", cpu_s / pods * 1e6, "us", "lower")


# ── waiting ─────────────────────────────────────────────────────────────────────────────────────────────


class AllowAll:
    async def authorize(self, identity: Identity, attributes: Attributes) -> None:
        return None


async def waiting(workload: str, nodes: int, pods: int) -> None:
    """Everything in one process; the clock starts with the scheduler."""
    directory = Path(tempfile.mkdtemp(prefix="orc-bench-"))
    clock = SystemClock()
    supervisor = Supervisor("bench", clock)
    store = await LogStore.open(directory / "store", clock, supervisor)
    rng = random.Random(7)
    strategies = built_in("10.43.0.0/16", range(30000, 30010), clock, rng)
    registry = Registry(store, ResourceTable(), Schemas.load(), strategies, AdmissionChain(), clock, rng)
    client = LocalClient(registry, AllowAll(), component("kube-scheduler"))
    try:
        await prepare(client, workload, nodes, pods)
        informers = Informers(client, supervisor, clock, resync_s=0)
        informers.of(PODS)
        informers.of(NODES)
        informers.start()
        await informers.synced()
        recorder = EventRecorder(client, "default-scheduler", "", clock)
        supervisor.serve("events", recorder.run)
        done = watch_bound(informers, pods, workload)
        began_s, cpu_s = time.perf_counter(), time.process_time()
        scheduler = Scheduler(client, informers, clock, recorder, rng)
        supervisor.serve("scheduler", scheduler.run)
        await done.wait()
        say("waiting", workload, nodes, pods, time.perf_counter() - began_s, time.process_time() - cpu_s)
    finally:
        await supervisor.stop()
        await registry.close()
        await store.close()
        shutil.rmtree(directory, ignore_errors=True)


async def prepare(client: LocalClient, workload: str, nodes: int, pods: int) -> None:
    await client.create(
        NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}
    )
    for start in range(0, nodes, 100):
        group = [node(number) for number in range(start, min(start + 100, nodes))]
        await asyncio.gather(*(client.create(NODES, each) for each in group))
        await asyncio.gather(*(client.update(NODES, each, subresource="status") for each in group))
    kind, priority = ("plain", 100) if workload == "preemption" else (workload, 0)
    cpu = "3" if priority else "100m"
    for start in range(0, pods, 100):
        group = [pod(n, kind, priority, cpu) for n in range(start, min(start + 100, pods))]
        await asyncio.gather(*(client.create(PODS, each, "default") for each in group))
    for start in range(0, nodes if priority else 0, 10):  # the nodes are full of less urgent ones
        numbers = [100 * n + at + 10**6 for n in range(start, min(start + 10, nodes)) for at in range(20)]
        fillers = [pod(n, "plain", -1, "1600m") for n in numbers]
        for n, each in zip(numbers, fillers, strict=True):
            each["spec"]["nodeName"] = f"n{(n - 10**6) // 100}"
            each["spec"]["terminationGracePeriodSeconds"] = 0
        await asyncio.gather(*(client.create(PODS, each, "default") for each in fillers))


def watch_bound(informers: Informers, pods: int, workload: str) -> asyncio.Event:
    done, bound = asyncio.Event(), set()

    def changed(old: Item | None, new: Item | None) -> None:
        if new is not None and b'"nodeName":' in new.raw and len(new.meta.name) < 8:
            bound.add(new.meta.name)
            if len(bound) == pods:
                done.set()

    informers.of(PODS).on_change(changed)
    return done


# ── through the API ─────────────────────────────────────────────────────────────────────────────────────


def end_to_end(workload: str, nodes: int, seconds: float = 5.0) -> None:
    """A client creates for some seconds; the clock stops when all that it created are bound."""
    with BenchCluster("--no-agent", "--simulated-nodes", str(nodes)) as cluster:
        until(lambda: ready_nodes(cluster) >= nodes)
        body = {**pod(0, workload), "metadata": {"name": "p{n}", "labels": {"app": "a"}}}
        token = cluster.token()
        before_s, began_s = cluster.cpu_s(), time.perf_counter()
        sent = cluster.load(
            token=token, method="POST", path="/api/v1/namespaces/default/pods", connections=64,
            duration_s=seconds, body=json.dumps(body),
        )  # fmt: skip
        if set(sent["statuses"]) != {"201"}:
            raise RuntimeError(f"pods were not created: {sent['statuses']}")
        until(lambda: unbound_pods(cluster) == 0)
        took_s = time.perf_counter() - began_s
        say("end-to-end", workload, nodes, all_pods(cluster), took_s, cluster.cpu_s() - before_s)


def idle(nodes: int, count: int = 100) -> None:
    with BenchCluster("--no-agent", "--simulated-nodes", str(nodes)) as cluster:
        until(lambda: ready_nodes(cluster) >= nodes)
        took: list[float] = []
        for number in range(count):
            began_s = time.perf_counter()
            cluster.call("POST", "/api/v1/namespaces/default/pods", pod(number, "plain"))
            path = f"/api/v1/namespaces/default/pods/p{number}"
            until(lambda path=path: cluster.call("GET", path)["spec"].get("nodeName"), 0.001)  # type: ignore[misc]
            took.append((time.perf_counter() - began_s) * 1000)
        row("scheduler", f"idle, one pod, {nodes} nodes, p50", percentile(took, 0.5), "ms", "lower")
        row("scheduler", f"idle, one pod, {nodes} nodes, p99", percentile(took, 0.99), "ms", "lower")
        row("scheduler", f"memory, {nodes} nodes", cluster.resident_mib(), "MiB", "lower")


def until(condition: Any, pause_s: float = 0.1, limit_s: float = 300.0) -> None:
    began_s = time.perf_counter()
    while not condition():
        if time.perf_counter() - began_s > limit_s:
            raise TimeoutError("it takes too long")
        time.sleep(pause_s)


def ready_nodes(cluster: BenchCluster) -> int:
    return len(cluster.call("GET", "/api/v1/nodes")["items"])


def unbound_pods(cluster: BenchCluster) -> int:
    return counted(cluster, "?fieldSelector=spec.nodeName%3D")


def all_pods(cluster: BenchCluster) -> int:
    return counted(cluster, "?limit=1")


def counted(cluster: BenchCluster, query: str) -> int:
    found = cluster.call("GET", f"/api/v1/pods{query}")
    return len(found["items"]) + int(found["metadata"].get("remainingItemCount") or 0)


# ── large ───────────────────────────────────────────────────────────────────────────────────────────────


def large(nodes: int = 100_000, pods: int = 1000) -> None:
    import resource

    columns = Columns()
    for number in range(nodes):
        columns.set_node(NodeInfo(node(number)))
    for workload in ("plain", "required zone spread", "required host anti-affinity"):
        decider = Decider(columns, random.Random(1))
        made = [info(number, pod(number, workload)) for number in range(pods)]
        began_s, cpu_s = time.perf_counter(), time.process_time()
        for each in made:
            columns.place(each, decider.decide(each).node)
        say("decision", workload, nodes, pods, time.perf_counter() - began_s, time.process_time() - cpu_s)
        for each in made:
            columns.displace(each.uid)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    row("scheduler", f"memory, {nodes} nodes, core only", used, "MiB", "lower")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, nargs="*", default=[100, 1000, 5000])
    parser.add_argument("--pods", type=int, default=3000)
    parser.add_argument("--only", default="")
    parser.add_argument("--workloads", nargs="*", default=[*WORKLOADS, "preemption"])
    args = parser.parse_args()
    row("scheduler", "share of time that this machine is paused", paused_share(), "", "lower")
    for nodes in args.nodes:
        if args.only in ("", "decision"):
            decisions(nodes, args.pods)
        for workload in args.workloads:
            pods = min(500, args.pods) if workload == "preemption" else pods_of(workload, nodes, args.pods)
            if args.only in ("", "waiting"):
                asyncio.run(waiting(workload, nodes, pods))
            if args.only in ("", "end-to-end") and workload != "preemption":
                end_to_end(workload, nodes)
        if args.only in ("", "idle"):
            idle(nodes)
    if args.only in ("", "large"):
        large()


if __name__ == "__main__":
    main()
