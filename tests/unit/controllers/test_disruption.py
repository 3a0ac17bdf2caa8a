import pytest

from orchestrator.api.errors import TooManyRequests
from orchestrator.api.item import Object
from orchestrator.api.resources import (
    PODDISRUPTIONBUDGETS,
    PODS,
    REPLICASETS,
    STATEFULSETS,
    CustomColumn,
    Resource,
    Subresource,
)
from orchestrator.controllers.disruption import DisruptionController, plan
from orchestrator.controllers.replicaset import ReplicaSetController

NOW_S = 1_700_000_000.0
READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
AGO = {60: "2023-11-14T22:12:20Z", 130: "2023-11-14T22:11:10Z"}


def budget(status: Object | None = None, **spec: int | str) -> Object:
    return {
        "metadata": {"name": "b", "namespace": "default", "generation": 3},
        "spec": spec,
        "status": status or {},
    }


@pytest.mark.parametrize(
    ("spec", "ready", "pods", "scale", "allowed", "desired", "expected"),
    [
        ({"minAvailable": 2}, 3, 3, None, 1, 2, 3),
        ({"minAvailable": 5}, 3, 3, None, 0, 5, 3),
        ({"minAvailable": 0}, 0, 0, None, 0, 0, 0),
        ({"minAvailable": "50%"}, 3, 3, 5, 0, 3, 5),
        ({"minAvailable": "50%"}, 4, 4, 5, 1, 3, 5),
        ({"maxUnavailable": 1}, 5, 5, 5, 1, 4, 5),
        ({"maxUnavailable": 1}, 3, 5, 5, 0, 4, 5),
        ({"maxUnavailable": "30%"}, 5, 5, 5, 2, 3, 5),
        ({"maxUnavailable": 7}, 5, 5, 5, 5, 0, 5),
        ({}, 2, 2, None, 2, 0, 2),
    ],
)
def test_what_a_budget_allows(pod_item, spec, ready, pods, scale, allowed, desired, expected):
    items = [pod_item(f"p{n}", status=READY if n < ready else {}) for n in range(pods)]
    status = plan(budget(**spec), items, None if scale is None else {"u": scale}, NOW_S).status
    counted = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
    assert [status[name] for name in counted] == [allowed, ready, desired, expected]
    (condition,) = status["conditions"]
    assert (condition["type"], condition["status"]) == ("DisruptionAllowed", "True" if allowed else "False")
    assert condition["reason"] == ("SufficientPods" if allowed else "InsufficientPods")
    assert status["observedGeneration"] == condition["observedGeneration"] == 3


def test_an_eviction_that_was_granted_counts_until_it_is_late(pod_item):
    granted = {"new": AGO[60], "late": AGO[130], "gone": AGO[60], "going": AGO[60]}
    pods = [pod_item(name, status=READY) for name in ("new", "late", "other")]
    pods.append(pod_item("going", status=READY, meta={"deletionTimestamp": AGO[60]}))
    steps = plan(budget({"disruptedPods": granted}, minAvailable=1), pods, None, NOW_S)
    assert steps.status["disruptedPods"] == {"new": AGO[60]}
    assert (steps.status["currentHealthy"], [pod.meta.name for pod in steps.not_deleted]) == (2, ["late"])
    assert steps.look_again_s == 60


@pytest.fixture
async def running(cluster):
    parts = cluster.client, cluster.clock, cluster.recorder
    await cluster.start(ReplicaSetController(*parts), DisruptionController(*parts, cluster.table))
    return cluster


def workload(replicas: int) -> Object:
    labels = {"app": "web"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "busybox"}]}}
    return {
        "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod},
    }


async def protect(cluster, **spec: int | str) -> None:
    selector = {"matchLabels": {"app": "web"}}
    await cluster.create(
        PODDISRUPTIONBUDGETS, {"metadata": {"name": "b"}, "spec": {"selector": selector, **spec}}
    )
    await cluster.settle()


async def status_of(cluster) -> Object:
    return (await cluster.get(PODDISRUPTIONBUDGETS, "b"))["status"]


async def evict(cluster, name: str) -> None:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    await cluster.client.create(PODS, body, "default", subresource="eviction", name=name)


async def test_evictions_go_on_as_pods_are_replaced(running):
    await running.create(REPLICASETS, workload(3))
    await protect(running, maxUnavailable=1)
    assert (await status_of(running))["disruptionsAllowed"] == 1
    running.kubelet.hold = lambda pod: bool(pod.meta.deletion_timestamp)
    first, second, _ = await running.pods()
    await evict(running, first["metadata"]["name"])
    with pytest.raises(TooManyRequests):
        await evict(running, second["metadata"]["name"])
    running.kubelet.hold = lambda pod: False
    await running.advance(3, step_s=1)
    status = await status_of(running)
    assert (status["disruptionsAllowed"], status.get("disruptedPods")) == (1, None)
    await evict(running, second["metadata"]["name"])
    await running.advance(3, step_s=1)
    assert await running.is_at_rest(300)


async def test_a_pod_without_an_owner_is_told_and_nothing_is_expected(running):
    template = workload(1)["spec"]["template"]
    await running.create(PODS, {**template, "metadata": {"name": "a", "labels": {"app": "web"}}})
    await protect(running, minAvailable="50%")
    (text,) = await running.events("UnmanagedPods")
    shown = "&LabelSelector{MatchLabels:map[string]string{app: web,},MatchExpressions:[]LabelSelectorRequirement{},}"
    assert text.startswith(
        f"Pods selected by this PodDisruptionBudget (selector: {shown}) were found to be unmanaged."
    )
    assert (await status_of(running))["disruptionsAllowed"] == 0


ODD = Resource(
    "example.com", "v1", "Odd", "odds", columns=(CustomColumn("Age", "date", ".metadata.creationTimestamp"),),
    subresources=(Subresource("scale", "Scale", ("get",), paths=(".spec.size", ".status.size", "")),),
)  # fmt: skip


async def own_pod(cluster, kind: str, name: str, api_version: str, uid: str) -> None:
    owner = {"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": True}
    metadata = {"name": f"of-{name}", "labels": {"app": "web"}, "ownerReferences": [owner]}
    await cluster.create(PODS, {**workload(1)["spec"]["template"], "metadata": metadata})


async def test_the_owners_scale_counts_even_that_of_a_stateful_set(running):
    made = await running.create(
        STATEFULSETS, {**workload(4), "spec": {**workload(4)["spec"], "serviceName": "s"}}
    )
    await own_pod(running, "StatefulSet", "web", "apps/v1", made["metadata"]["uid"])
    await protect(running, maxUnavailable=3)
    status = await status_of(running)
    assert (status["expectedPods"], status["desiredHealthy"], status["disruptionsAllowed"]) == (4, 1, 0)


async def test_the_scale_of_a_custom_kind_is_asked(running):
    running.table.add(ODD)
    real = running.client.get
    odd: Object = {"metadata": {"uid": "o"}, "spec": {"size": 3}}

    async def get(resource: Resource, *args: str) -> Object:
        return odd if resource is ODD else await real(resource, *args)

    running.client.get = get
    await own_pod(running, "Odd", "x", "example.com/v1", "o")
    await protect(running, maxUnavailable=3)
    status = await status_of(running)
    assert (status["expectedPods"], status["disruptionsAllowed"]) == (3, 1)


@pytest.mark.parametrize(
    ("kind", "api_version", "why"),
    [
        ("Odd", "example.com/v1", 'no matches for kind "Odd" in version "example.com/v1"'),
        ("DaemonSet", "apps/v1", "daemonsets.apps does not implement the scale subresource"),
        ("ReplicaSet", "apps/v1", 'found no controllers for pod "of-x"'),
    ],
)
async def test_what_has_no_scale_allows_nothing(running, kind, api_version, why):
    await own_pod(running, kind, "x", api_version, "u")
    await protect(running, maxUnavailable=1)
    status = await status_of(running)
    (condition,) = status["conditions"]
    assert (condition["reason"], condition["message"], status["disruptionsAllowed"]) == ("SyncFailed", why, 0)
    failed = "Failed to calculate the number of expected pods: "
    assert await running.events("CalculateExpectedPodCountFailed") == [failed + why]
    assert await running.is_at_rest(120)


async def test_a_pod_that_stayed_is_not_disrupted_for_ever(running):
    await running.create(REPLICASETS, workload(1))
    await running.settle()
    (pod,) = await running.pods()
    entry = {
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
        "lastTransitionTime": pod["metadata"]["creationTimestamp"],
    }  # fmt: skip
    patch = {"status": {"conditions": [entry]}}
    name = pod["metadata"]["name"]
    await running.patch(PODS, name, patch, type="strategic", subresource="status")
    await running.advance(130, step_s=65)
    conditions = (await running.get(PODS, name))["status"]["conditions"]
    (found,) = [each for each in conditions if each["type"] == "DisruptionTarget"]
    assert found["status"] == "False" and "reason" not in found
