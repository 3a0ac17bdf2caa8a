import random
from collections import Counter

import pytest

from orchestrator.api.errors import ApiError, InternalError
from orchestrator.api.item import Object
from orchestrator.api.resources import PODS, REPLICASETS
from orchestrator.controllers.replicaset import ReplicaSetController, deletion_rank, plan

NOW_S = 1_700_000_000.0
READY = {"type": "Ready", "status": "True", "lastTransitionTime": "2023-11-14T22:00:00Z"}
RUNNING = {"phase": "Running", "conditions": [READY]}


@pytest.fixture
def controller(cluster):
    return ReplicaSetController(cluster.client, cluster.clock, cluster.recorder)


def replica_set(name="rs", replicas=3, **spec) -> Object:
    labels = {"app": name}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "busybox"}]}}
    return {
        "metadata": {"name": name, "namespace": "default", "uid": "u"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod, **spec},
    }


@pytest.mark.parametrize(
    ("replicas", "pods", "gone", "create", "delete"),
    [
        (3, [], (), 3, []),
        (3, [("a", {})], (), 2, []),
        (1, [("a", RUNNING)], (), 0, []),
        (1, [("a", {"phase": "Failed"})], (), 1, []),
        (1, [("a", RUNNING), ("b", {})], (), 0, ["b"]),
        (0, [("a", RUNNING)], (), 0, ["a"]),
        (0, [("a", RUNNING)], ("uid-a",), 0, []),
        (1, [("a", RUNNING)], ("uid-a",), 1, []),
    ],
)
def test_plan_counts_only_pods_that_will_stay(pod_item, replicas, pods, gone, create, delete):
    items = [pod_item(name, status=status) for name, status in pods]
    steps = plan(replica_set(replicas=replicas), items, set(gone), Counter(), NOW_S)
    assert (steps.create, [pod.meta.name for pod in steps.delete]) == (create, delete)


def test_the_least_valuable_pod_goes_first(pod_item):
    bound = {"spec": {"nodeName": "n1"}}
    old, new = "2023-11-14T20:00:00Z", "2023-11-14T22:13:00Z"
    ranked = [
        pod_item("unassigned", status=RUNNING),
        pod_item("pending", status={"phase": "Pending"}, **bound),
        pod_item("unready", status={"phase": "Running"}, **bound),
        pod_item(
            "cheap", status=RUNNING, **bound,
            meta={"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-5"}},
        ),
        pod_item("crowded", status=RUNNING, spec={"nodeName": "n2"}),
        pod_item("fresh", status={**RUNNING, "conditions": [{**READY, "lastTransitionTime": new}]}, **bound),
        pod_item("restarted", status={**RUNNING, "containerStatuses": [{"restartCount": 4}]}, **bound),
        pod_item("young", status=RUNNING, meta={"creationTimestamp": new}, **bound),
        pod_item("old", status=RUNNING, meta={"creationTimestamp": old}, **bound),
    ]  # fmt: skip
    crowds = Counter({"n1": 1, "n2": 2})
    found = sorted(
        random.Random(1).sample(ranked, len(ranked)), key=lambda pod: deletion_rank(pod, crowds, NOW_S)
    )
    assert [pod.meta.name for pod in found] == [pod.meta.name for pod in ranked]


def test_a_ready_pod_is_available_only_after_min_ready_seconds(pod_item):
    item = pod_item("a", status=RUNNING)  # ready since 22:00:00, 800 s before NOW_S
    steps = plan(replica_set(replicas=1, minReadySeconds=900), [item], set(), Counter(), NOW_S)
    assert (steps.counts["readyReplicas"], steps.counts["availableReplicas"]) == (1, 0)
    assert steps.look_again_s == 100


async def test_pods_are_made_counted_and_replaced(cluster, controller):
    await cluster.start(controller)
    await cluster.create(REPLICASETS, replica_set())
    await cluster.settle()
    pods = await cluster.pods()
    assert len(pods) == 3
    owner = pods[0]["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"], owner["controller"], owner["blockOwnerDeletion"]) == (
        "ReplicaSet", "rs", True, True,
    )  # fmt: skip
    await cluster.client.delete(PODS, pods[0]["metadata"]["name"], "default")
    await cluster.settle()
    assert len(await cluster.pods()) == 3
    status = (await cluster.get(REPLICASETS, "rs"))["status"]
    counted = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas")
    assert [status[name] for name in counted] == [3, 3, 3, 3]
    assert len(await cluster.events("SuccessfulCreate")) == 4
    assert await cluster.is_at_rest()


async def test_a_cache_that_lags_never_makes_a_pod_too_many(cluster, controller):
    await cluster.start(controller)
    pods = cluster.informers.of(PODS)
    take, held = pods._take, []

    async def hold(batch):
        held.append(batch)

    pods._take = hold
    await cluster.create(REPLICASETS, replica_set(replicas=20))
    await cluster.settle()
    for _ in range(5):
        await cluster.patch(REPLICASETS, "rs", {"metadata": {"annotations": {"poke": str(_)}}})
        await cluster.settle()
    assert len(await cluster.pods()) == 20
    pods._take = take
    for batch in held:
        await take(batch)
    await cluster.settle()
    assert len(await cluster.pods()) == 20


async def test_a_matching_orphan_is_adopted_and_a_relabelled_pod_released(cluster, controller):
    await cluster.start(controller)
    orphan = replica_set()["spec"]["template"]
    await cluster.create(PODS, {**orphan, "metadata": {"name": "orphan", "labels": {"app": "rs"}}})
    await cluster.create(REPLICASETS, replica_set(replicas=2))
    await cluster.settle()
    pods = await cluster.pods()
    assert len(pods) == 2
    assert all(pod["metadata"]["ownerReferences"][0]["name"] == "rs" for pod in pods)
    await cluster.patch(PODS, "orphan", {"metadata": {"labels": {"app": "other"}}})
    await cluster.settle()
    assert len(await cluster.pods()) == 3
    assert "ownerReferences" not in (await cluster.get(PODS, "orphan"))["metadata"]


async def test_a_refused_template_costs_one_request_and_shows_in_the_condition(cluster, controller):
    await cluster.start(controller)
    tried = []

    async def refuse(resource, *args, **options) -> Object:
        tried.append(resource)
        raise InternalError("quota exceeded")

    create, cluster.client.create = cluster.client.create, refuse
    await create(
        REPLICASETS, {"apiVersion": "apps/v1", "kind": "ReplicaSet", **replica_set(replicas=50)}, "default"
    )
    await cluster.settle()
    status = (await cluster.get(REPLICASETS, "rs"))["status"]
    assert [(c["type"], c["reason"], c["message"]) for c in status["conditions"]] == [
        ("ReplicaFailure", "FailedCreate", "quota exceeded")
    ]
    attempts = sum(resource is PODS for resource in tried)
    assert attempts < 10
    cluster.client.create = create
    await cluster.advance(5.0)
    assert len(await cluster.pods()) == 50
    assert "conditions" not in (await cluster.get(REPLICASETS, "rs"))["status"]


def test_errors_of_a_namespace_that_goes_away_are_final():
    from orchestrator.api.errors import Cause, Forbidden
    from orchestrator.controllers.replicaset import Failure

    going = Forbidden("no", causes=(Cause("NamespaceTerminating", "", "metadata.namespace"),))
    outcomes = [Failure("FailedCreate", error).final for error in (going, Forbidden("no"), ApiError("no"))]
    assert outcomes == [True, False, False]
