import pytest

from orchestrator.api.item import Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import LEASES, NAMESPACES, NODES, PODS
from orchestrator.api.times import timestamp
from orchestrator.controllers.nodelifecycle import NodeLifecycleController, Pace
from orchestrator.controllers.nodelifecycle import plan as plan_at_pace
from orchestrator.controllers.podgc import QUARANTINE_S, PodGarbageCollector, surplus
from orchestrator.controllers.tainteviction import TaintEvictionController
from orchestrator.controllers.tainteviction import plan as plan_eviction

NOW_S = 1_700_000_000.0
NOW = "2023-11-14T22:13:20Z"
NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"


def plan(node, silent_s, grace_s, now_s, pace=None):
    return plan_at_pace(node, silent_s, grace_s, now_s, pace or Pace())


def node(ready="True", taints=(), **spec) -> Object:
    conditions = [{"type": "Ready", "status": ready, "lastHeartbeatTime": NOW, "lastTransitionTime": NOW}]
    if not ready:
        conditions = []
    return {
        "metadata": {"name": "n1"},
        "spec": {"taints": list(taints), **spec},
        "status": {"conditions": conditions},
    }


def taint(key, effect, **more) -> Object:
    return {"key": key, "effect": effect, **more}


@pytest.mark.parametrize(
    ("ready", "silent_s", "unschedulable", "wanted"),
    [
        ("True", 0, False, []),
        ("True", 39.9, False, []),
        ("True", 40, False, [(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
        ("False", 0, False, [(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
        ("", 40, False, [(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
        ("", 0, False, []),
        ("True", 0, True, [("node.kubernetes.io/unschedulable", "NoSchedule")]),
    ],
)
def test_taints_follow_conditions(ready, silent_s, unschedulable, wanted):
    steps = plan(node(ready, unschedulable=unschedulable), silent_s, 40.0, NOW_S)
    assert [(t["key"], t["effect"]) for t in steps.taints or []] == wanted


@pytest.mark.parametrize(
    ("pace", "old", "wanted", "again_s"),
    [
        (Pace(), [], ["NoSchedule", "NoExecute"], 40.0),
        (Pace(take=lambda: 7.0), [], ["NoSchedule"], 7.0),
        (Pace(take=lambda: 7.0), [taint(NOT_READY, "NoExecute")], ["NoSchedule", "NoExecute"], 40.0),
        (Pace(off=True), [taint(UNREACHABLE, "NoExecute")], ["NoSchedule"], 40.0),
    ],
)
def test_nodes_are_emptied_one_after_the_other(pace, old, wanted, again_s):
    steps = plan(node("Unknown", old), 50.0, 40.0, NOW_S, pace)
    assert [(t["key"], t["effect"]) for t in steps.taints] == [(UNREACHABLE, effect) for effect in wanted]
    assert steps.look_again_s == again_s


def test_silence_makes_every_reported_condition_unknown():
    steps = plan(node(), 41.0, 40.0, NOW_S)
    found = {c["type"]: (c["status"], c["reason"]) for c in steps.conditions}
    assert found.pop("Ready") == ("Unknown", "NodeStatusUnknown")
    never = ("Unknown", "NodeStatusNeverUpdated")
    assert found == {"MemoryPressure": never, "DiskPressure": never, "PIDPressure": never}
    marked = {**node(), "status": {"conditions": steps.conditions}, "spec": {"taints": steps.taints}}
    again = plan(marked, 90.0, 40.0, NOW_S + 50)
    assert (again.conditions, again.taints) == (None, None)


def test_taints_of_others_stay_and_ours_go_with_their_reason():
    mine = taint("example.com/mine", "NoExecute")
    old = [taint(NOT_READY, "NoSchedule"), mine, taint(UNREACHABLE, "NoExecute", timeAdded=NOW)]
    assert plan(node("True", old), 0.0, 40.0, NOW_S).taints == [mine]


@pytest.mark.parametrize(
    ("tolerations", "evicted", "later_s"),
    [
        ([], True, None),
        ([{"operator": "Exists"}], False, None),
        ([{"key": "k", "operator": "Exists", "tolerationSeconds": 300}], False, 290.0),
        ([{"key": "k", "operator": "Exists", "tolerationSeconds": 5}], True, None),
        ([{"key": "k", "operator": "Exists", "tolerationSeconds": -1}], True, None),
        ([{"key": "k", "operator": "Exists", "effect": "NoSchedule"}], True, None),
        ([{"key": "other", "operator": "Exists"}], True, None),
    ],
)
def test_how_long_a_pod_may_stay(pod_item, tolerations, evicted, later_s):
    item = pod_item("p", spec={"nodeName": "n1", "tolerations": tolerations})
    steps = plan_eviction([taint("k", "NoExecute", timeAdded=NOW)], [item], NOW_S + 10)
    assert (bool(steps.evict), steps.look_again_s) == (evicted, later_s)


def test_a_pod_that_came_after_the_taint_may_stay_as_long_as_any(pod_item):
    tolerations = [{"key": "k", "operator": "Exists", "tolerationSeconds": 30}]
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": timestamp(NOW_S + 95)}
    late = pod_item(
        "late", spec={"nodeName": "n1", "tolerations": tolerations}, status={"conditions": [scheduled]}
    )
    made = pod_item("made", spec={"nodeName": "n1", "tolerations": tolerations})
    steps = plan_eviction([taint("k", "NoExecute", timeAdded=NOW)], [late, made], NOW_S + 100)
    assert ([pod.meta.name for pod in steps.evict], steps.look_again_s) == (["made"], 25.0)


def test_only_the_oldest_finished_pods_beyond_the_limit_go(pod_item):
    pods = [pod_item(f"p{n}", meta={"creationTimestamp": f"2023-11-14T0{n}:00:00Z"}) for n in (3, 1, 2)]
    assert [pod.meta.name for pod in surplus(pods, 2)] == ["p1"]
    assert surplus(pods, 3) == surplus(pods, 0) == []


def test_evicted_pods_go_before_older_ones(pod_item):
    old = pod_item("old", meta={"creationTimestamp": "2023-11-14T01:00:00Z"})
    evicted = pod_item(
        "new",
        meta={"creationTimestamp": "2023-11-14T02:00:00Z"},
        status={"phase": "Failed", "reason": "Evicted"},
    )
    assert surplus([old, evicted], 1) == [evicted]


@pytest.fixture
async def watched(cluster):
    """A node `n1` with a lease and a ready pod `p` that tolerates silence for 60 s."""
    await cluster.create(NAMESPACES, {"metadata": {"name": "kube-node-lease"}})
    controllers = (NodeLifecycleController, TaintEvictionController, PodGarbageCollector)
    await cluster.start(*(make(cluster.client, cluster.clock, cluster.recorder) for make in controllers))
    await cluster.node("n1")
    await report(cluster)
    await alive(cluster)
    await cluster.create(LEASES, {"metadata": {"name": "n1"}, "spec": {}}, "kube-node-lease")
    tolerations = [{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}]
    spec = {"containers": [{"name": "c", "image": "i"}], "tolerations": tolerations}
    await cluster.create(PODS, {"metadata": {"name": "p"}, "spec": spec})
    await cluster.settle()
    return cluster


async def alive(cluster) -> None:
    """Another node, in a zone of its own, that goes on: where all are down nobody is emptied."""
    labels = {"topology.kubernetes.io/zone": "other"}
    await cluster.create(NODES, {"metadata": {"name": "other", "labels": labels}})
    await report(cluster, name="other")

    async def beat() -> None:
        while True:
            await cluster.clock.sleep(5)
            await report(cluster, name="other")

    cluster.supervisor.serve("other", beat)


async def report(cluster, status="True", name="n1") -> None:
    now = {"lastHeartbeatTime": timestamp(cluster.clock.now_s()), "lastTransitionTime": NOW}
    patch = {
        "status": {
            "conditions": [
                {"type": "Ready", "status": status, "reason": "KubeletReady", "message": "m", **now}
            ]
        }
    }
    await cluster.client.patch(NODES, name, "", patch, type="strategic", subresource="status")


async def renew(cluster, duration_s: float) -> None:
    for _ in range(int(duration_s / 10)):
        await cluster.advance(10, step_s=10)
        now = f"2023-11-14T22:13:{int(cluster.clock.monotonic_s()) % 60:02}.000000Z"
        await cluster.patch(LEASES, "n1", {"spec": {"renewTime": now}}, namespace="kube-node-lease")


async def state(cluster) -> tuple[str, set[str], str]:
    """Ready condition and taints of the node, Ready condition of the pod."""
    live = await cluster.client.get(NODES, "n1")
    ready = next(c for c in live["status"]["conditions"] if c["type"] == "Ready")["status"]
    taints = {f"{t['key'].rpartition('/')[2]}:{t['effect']}" for t in live["spec"].get("taints") or []}
    pods = await cluster.pods()
    conditions = pods[0]["status"]["conditions"] if pods else []
    return ready, taints, next((c["status"] for c in conditions if c["type"] == "Ready"), "gone")


async def test_a_silent_node_is_marked_and_its_pods_leave_in_time(watched):
    await renew(watched, 100)
    assert await state(watched) == ("True", set(), "True")
    await watched.advance(45)
    assert await state(watched) == ("Unknown", {"unreachable:NoSchedule", "unreachable:NoExecute"}, "False")
    await watched.advance(40)
    assert len(await watched.pods()) == 1
    watched.kubelet.hold = lambda pod: True
    await watched.advance(30)
    (pod,) = await watched.pods()
    assert "deletionTimestamp" in pod["metadata"]
    target = next(c for c in pod["status"]["conditions"] if c["type"] == "DisruptionTarget")
    assert target["reason"] == "DeletionByTaintManager"


async def test_a_taint_that_does_not_say_when_it_came_counts_from_when_it_was_seen(watched):
    (pod,) = await watched.pods()
    added = {"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 15}
    await watched.patch(PODS, "p", {"spec": {"tolerations": [*pod["spec"]["tolerations"], added]}})
    taints = [{"key": "k", "value": "v", "effect": "NoExecute"}]

    async def after(duration_s: float, taints: list[Object]) -> int:
        await watched.client.patch(NODES, "n1", "", {"spec": {"taints": taints}})
        await renew(watched, duration_s)
        return len(await watched.pods())

    assert await after(10, taints) == 1
    assert await after(10, []) == 1
    told = ["Cancelling deletion of Pod default/p"]
    assert await watched.events("TaintManagerEviction") == told
    assert await after(10, taints) == 1
    assert await after(10, taints) == 0


async def test_a_node_that_returns_loses_its_taints_and_keeps_its_pods(watched):
    await watched.advance(60)
    assert (await state(watched))[0] == "Unknown"
    await report(watched)
    await renew(watched, 100)
    ready, taints, _ = await state(watched)
    assert (ready, taints, len(await watched.pods())) == ("True", set(), 1)
    kept = [await watched.client.get(NODES, "n1"), await watched.pods()]
    await renew(watched, 30)
    assert [await watched.client.get(NODES, "n1"), await watched.pods()] == kept


async def test_a_node_that_reports_itself_not_ready_is_tainted_at_once(watched):
    await report(watched, "False")
    await watched.settle()
    assert await state(watched) == ("False", {"not-ready:NoSchedule", "not-ready:NoExecute"}, "gone")


async def test_pods_of_a_node_that_is_gone_fail_and_are_removed_after_the_quarantine(watched):
    watched.kubelet.hold = lambda pod: True
    await watched.client.delete(NODES, "n1", "", DeleteOptions(grace_period_s=0))
    await watched.settle()
    await watched.advance(QUARANTINE_S - 5)
    assert len(await watched.pods()) == 1
    await watched.advance(10)
    assert await watched.pods() == []


async def test_pods_leave_a_node_that_an_operator_declared_out_of_service(watched):
    watched.kubelet.hold = lambda pod: True
    await watched.patch(PODS, "p", {"metadata": {"finalizers": ["example.com/keep"]}})
    await watched.client.delete(PODS, "p", "default", DeleteOptions(grace_period_s=600))
    await report(watched, "False")
    await watched.settle()
    (pod,) = await watched.pods()
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 600
    taints = (await watched.client.get(NODES, "n1"))["spec"].get("taints") or []
    out = {"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute", "value": "nodeshutdown"}
    await watched.client.patch(NODES, "n1", "", {"spec": {"taints": [*taints, out]}})
    await watched.settle()
    (pod,) = await watched.pods()
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 0
    assert pod["status"]["phase"] == "Failed"
    assert "DisruptionTarget" not in {c["type"] for c in pod["status"]["conditions"]}


async def test_a_pod_that_never_got_a_node_fails_when_it_goes_so_that_its_job_can_count_it(cluster):
    await cluster.start(PodGarbageCollector(cluster.client, cluster.clock, cluster.recorder), kubelet=False)
    for name in ("one", "two"):
        metadata = {"name": name, "finalizers": ["example.com/counts"]}
        await cluster.create(
            PODS, {"metadata": metadata, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        )
        await cluster.client.delete(PODS, name, "default")
        await cluster.settle()
        if name == "one":
            first = await cluster.pods()
    one, two = await cluster.pods()
    assert ([one], two["status"]["phase"]) == (first, "Failed")
    assert "conditions" not in two["status"]
    assert await cluster.is_at_rest()


async def test_a_node_that_reports_itself_not_ready_is_told_of_once(watched):
    for _ in range(2):
        await report(watched, "False")
        await watched.advance(6, step_s=6)
    assert await watched.events("NodeNotReady") == [
        "Node n1 status is now: NodeNotReady",
        "Node is not ready",
    ]
