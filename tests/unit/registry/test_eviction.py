import asyncio

import pytest

from orchestrator.api.access import ADMIN
from orchestrator.api.errors import ApiError, Conflict, InternalError, TooManyRequests
from orchestrator.api.item import Object
from orchestrator.api.options import WriteOptions
from orchestrator.api.resources import PODDISRUPTIONBUDGETS, PODS

READY = [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]


async def running_pod(api, name: str, *, ready: bool = True, phase: str = "Running") -> None:
    pod = api.pod(name, nodeName="n1")
    await api.create(PODS, {**pod, "metadata": {"name": name, "labels": {"app": "web"}}})
    status = {"status": {"phase": phase, "conditions": READY if ready else []}}
    await api.patch(PODS, name, status, subresource="status")


async def budget(api, name: str = "b", policy: str | None = None, **status: int) -> None:
    spec: Object = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    if policy:
        spec["unhealthyPodEvictionPolicy"] = policy
    body = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name},
        "spec": spec,
    }
    await api.create(PODDISRUPTIONBUDGETS, body)
    counted = {"observedGeneration": 1, "disruptionsAllowed": 0, "expectedPods": 3, **status}
    await api.patch(PODDISRUPTIONBUDGETS, name, {"status": counted}, subresource="status")


async def evict(api, name: str, dry_run: bool = False, **options) -> None:
    body = {"metadata": {"name": name}, "deleteOptions": options}
    await api.registry.subresources.evict("default", name, body, WriteOptions(dry_run=dry_run), ADMIN)


async def test_an_eviction_charges_the_budget_and_says_why_the_pod_goes(api):
    await running_pod(api, "a")
    await budget(api, disruptionsAllowed=1, currentHealthy=3, desiredHealthy=2)
    await evict(api, "a")
    pod = await api.get(PODS, "a")
    assert "deletionTimestamp" in pod["metadata"]
    (why,) = [entry for entry in pod["status"]["conditions"] if entry["type"] == "DisruptionTarget"]
    assert (why["status"], why["reason"]) == ("True", "EvictionByEvictionAPI")
    assert why["message"] == "Eviction API: evicting"
    status = (await api.get(PODDISRUPTIONBUDGETS, "b"))["status"]
    assert (status["disruptionsAllowed"], list(status["disruptedPods"])) == (0, ["a"])
    assert status["conditions"][0]["reason"] == "InsufficientPods"


async def test_a_budget_without_room_refuses(api):
    await running_pod(api, "a")
    await budget(api, currentHealthy=2, desiredHealthy=2)
    with pytest.raises(TooManyRequests) as caught:
        await evict(api, "a")
    error = caught.value
    assert error.message == "Cannot evict pod as it would violate the pod's disruption budget."
    assert error.retry_after_s is None
    cause = error.causes[0]
    assert cause.reason == "DisruptionBudget"
    assert cause.message == "The disruption budget b needs 2 healthy pods and has 2 currently"
    assert "deletionTimestamp" not in (await api.get(PODS, "a"))["metadata"]


async def test_a_budget_that_was_changed_lately_refuses_for_now(api):
    await running_pod(api, "a")
    await budget(api, disruptionsAllowed=1)
    await api.patch(PODDISRUPTIONBUDGETS, "b", {"spec": {"minAvailable": 2}})
    with pytest.raises(TooManyRequests) as caught:
        await evict(api, "a")
    assert caught.value.retry_after_s == 10
    assert caught.value.causes[0].message == "The disruption budget b is still being processed by the server."


async def test_two_budgets_for_one_pod_are_an_error(api):
    await running_pod(api, "a")
    await budget(api, disruptionsAllowed=1)
    await budget(api, "c", disruptionsAllowed=1)
    with pytest.raises(InternalError, match="more than one PodDisruptionBudget"):
        await evict(api, "a")


@pytest.mark.parametrize(
    ("policy", "current", "desired", "goes"),
    [
        (None, 2, 2, True),
        ("IfHealthyBudget", 1, 2, False),
        ("IfHealthyBudget", 2, 2, True),
        ("IfHealthyBudget", 0, 0, False),
        ("AlwaysAllow", 0, 2, True),
    ],
)
async def test_a_pod_that_is_not_ready_goes_by_the_policy(api, policy, current, desired, goes):
    await running_pod(api, "a", ready=False)
    await budget(api, policy=policy, currentHealthy=current, desiredHealthy=desired)
    if not goes:
        with pytest.raises(TooManyRequests):
            await evict(api, "a")
    else:
        await evict(api, "a")
        assert "disruptedPods" not in (await api.get(PODDISRUPTIONBUDGETS, "b"))["status"]


@pytest.mark.parametrize("phase", ["Pending", "Succeeded", "Failed"])
async def test_a_pod_that_does_not_run_needs_no_budget(api, phase):
    await running_pod(api, "a", ready=False, phase=phase)
    await budget(api, currentHealthy=0, desiredHealthy=2)
    await evict(api, "a")


async def test_a_dry_run_changes_nothing(api):
    await running_pod(api, "a")
    await budget(api, disruptionsAllowed=1)
    before = await api.get(PODS, "a"), await api.get(PODDISRUPTIONBUDGETS, "b")
    await evict(api, "a", dry_run=True)
    await evict(api, "a", dryRun=["All"])
    assert (await api.get(PODS, "a"), await api.get(PODDISRUPTIONBUDGETS, "b")) == before


async def test_preconditions_hold_for_the_pod(api):
    await running_pod(api, "a")
    for wanted in ({"uid": "other"}, {"resourceVersion": "1"}):
        with pytest.raises(Conflict, match="in the precondition"):
            await evict(api, "a", preconditions=wanted)
    meta = (await api.get(PODS, "a"))["metadata"]
    await evict(api, "a", preconditions={"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]})
    assert "deletionTimestamp" in (await api.get(PODS, "a"))["metadata"]


async def test_concurrent_evictions_never_get_more_than_the_budget_has(api):
    names = [f"p{number}" for number in range(40)]
    for name in names:
        await running_pod(api, name)
    await budget(api, disruptionsAllowed=7, currentHealthy=40, desiredHealthy=33)
    results = await asyncio.gather(*(evict(api, name) for name in names), return_exceptions=True)
    refused = [result for result in results if result is not None]
    assert len(refused) == 33 and all(isinstance(error, TooManyRequests) for error in refused), {
        str(error) for error in refused if not isinstance(error, ApiError)
    }
    going = [name for name in names if "deletionTimestamp" in (await api.get(PODS, name))["metadata"]]
    status = (await api.get(PODDISRUPTIONBUDGETS, "b"))["status"]
    assert (status["disruptionsAllowed"], sorted(status["disruptedPods"])) == (0, sorted(going))
