"""Deletion as clients see it: grace, propagation, finalizers, preconditions."""

from typing import Any

import pytest

from tests.contract.api_support import Cluster

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
MERGE = {"Content-Type": "application/merge-patch+json"}


async def _made(cluster: Cluster, path: str, name: str, **metadata: Any) -> Any:
    obj: Any = {"metadata": {"name": name, **metadata}}
    if path == PODS:
        obj["spec"] = {"containers": [{"name": "c", "image": "i"}], "nodeName": "n1"}
    status, made, _ = await cluster.call("POST", path, obj)
    assert status == 201, made
    return made


async def _status_of(cluster: Cluster, path: str) -> int:
    return (await cluster.call("GET", path))[0]


async def test_a_pods_grace_period_can_only_be_shortened(ready: Cluster) -> None:
    await _made(ready, PODS, "p")
    seen = []
    for seconds in (None, 60, 10, 20, 1):
        query = "" if seconds is None else f"?gracePeriodSeconds={seconds}"
        status, pod, _ = await ready.call("DELETE", f"{PODS}/p{query}")
        assert status == 200 and pod["metadata"]["deletionTimestamp"]
        seen.append(pod["metadata"]["deletionGracePeriodSeconds"])
    assert seen == [30, 30, 10, 10, 1]
    assert (await ready.call("DELETE", f"{PODS}/p?gracePeriodSeconds=0"))[0] == 200
    assert await _status_of(ready, f"{PODS}/p") == 404


@pytest.mark.parametrize(
    ("policy", "finalizers"), [("Foreground", ["foregroundDeletion"]), ("Orphan", ["orphan"])]
)
async def test_propagation_holds_the_object_by_a_finalizer(
    ready: Cluster, policy: str, finalizers: list[str]
) -> None:
    await _made(ready, MAPS, "a")
    status, obj, _ = await ready.call("DELETE", f"{MAPS}/a?propagationPolicy={policy}")
    assert (status, obj["metadata"]["finalizers"]) == (200, finalizers)
    assert obj["metadata"]["deletionGracePeriodSeconds"] == 0
    # Once it is being deleted the policy stays what it was.
    _, again, _ = await ready.call("DELETE", f"{MAPS}/a?propagationPolicy=Background")
    assert again["metadata"]["finalizers"] == finalizers
    await ready.call("PATCH", f"{MAPS}/a", {"metadata": {"finalizers": None}}, headers=MERGE)
    assert await _status_of(ready, f"{MAPS}/a") == 404


async def test_finalizers_hold_until_the_last_is_gone_and_none_may_come(ready: Cluster) -> None:
    path = f"{MAPS}/a"
    await _made(ready, MAPS, "a", finalizers=["example.com/one", "example.com/two"])
    for _ in range(2):
        status, obj, _ = await ready.call("DELETE", path)
        assert status == 200 and obj["metadata"]["deletionTimestamp"]
    more = {"metadata": {"finalizers": ["example.com/one", "example.com/two", "example.com/new"]}}
    status, refused, _ = await ready.call("PATCH", path, more, headers=MERGE)
    assert (status, refused["reason"]) == (422, "Invalid")
    (cause,) = refused["details"]["causes"]
    assert cause == {
        "reason": "FieldValueForbidden",
        "field": "metadata.finalizers",
        "message": "Forbidden: no new finalizers can be added if the object is being deleted, "
        'found new finalizers []string{"example.com/new"}',
    }
    # Anything else may still change while it waits.
    status, _, _ = await ready.call("PATCH", path, {"data": {"x": "1"}}, headers=MERGE)
    assert status == 200
    one = {"metadata": {"finalizers": ["example.com/two"]}}
    assert (await ready.call("PATCH", path, one, headers=MERGE))[0] == 200
    assert await _status_of(ready, path) == 200
    await ready.call("PATCH", path, {"metadata": {"finalizers": []}}, headers=MERGE)
    assert await _status_of(ready, path) == 404


async def test_preconditions_guard_a_deletion(ready: Cluster) -> None:
    made = (await _made(ready, MAPS, "a"))["metadata"]
    for wrong in ({"uid": "other"}, {"resourceVersion": "1"}):
        status, refused, _ = await ready.call("DELETE", f"{MAPS}/a", {"preconditions": wrong})
        assert (status, refused["reason"]) == (409, "Conflict")
    right = {"uid": made["uid"], "resourceVersion": made["resourceVersion"]}
    assert (await ready.call("DELETE", f"{MAPS}/a", {"preconditions": right}))[0] == 200


async def test_a_dry_run_deletes_nothing(ready: Cluster) -> None:
    await _made(ready, MAPS, "a")
    await _made(ready, PODS, "p")
    for path in (f"{MAPS}/a", f"{PODS}/p", MAPS):
        assert (await ready.call("DELETE", f"{path}?dryRun=All"))[0] == 200
    assert await _status_of(ready, f"{MAPS}/a") == 200
    _, pod, _ = await ready.call("GET", f"{PODS}/p")
    assert "deletionTimestamp" not in pod["metadata"]


async def test_a_collection_is_deleted_by_selector_and_policy(ready: Cluster) -> None:
    for name, tier in (("a", "x"), ("b", "x"), ("c", "y")):
        await _made(ready, MAPS, name, labels={"tier": tier})
    status, gone, _ = await ready.call("DELETE", f"{MAPS}?labelSelector=tier%3Dx&propagationPolicy=Orphan")
    assert status == 200
    assert [obj["metadata"]["finalizers"] for obj in gone["items"]] == [["orphan"], ["orphan"]]
    _, left, _ = await ready.call("GET", MAPS)
    marked = {obj["metadata"]["name"]: "deletionTimestamp" in obj["metadata"] for obj in left["items"]}
    assert marked == {"a": True, "b": True, "c": False}


@pytest.mark.parametrize(
    "options",
    [
        {"propagationPolicy": "Sideways"},
        {"propagationPolicy": "Foreground", "orphanDependents": True},
        {"gracePeriodSeconds": -5, "propagationPolicy": "Never"},
    ],
)
async def test_options_that_contradict_are_refused(ready: Cluster, options: Any) -> None:
    await _made(ready, MAPS, "a")
    status, refused, _ = await ready.call("DELETE", f"{MAPS}/a", options)
    assert (status, refused["reason"]) == (422, "Invalid")
    assert await _status_of(ready, f"{MAPS}/a") == 200


async def test_a_namespace_waits_for_its_finalizer(ready: Cluster) -> None:
    status, obj, _ = await ready.call("DELETE", "/api/v1/namespaces/default")
    assert (status, obj["status"]["phase"]) == (200, "Terminating")
    assert obj["spec"]["finalizers"] == ["kubernetes"]
    obj["spec"]["finalizers"] = []
    status, _, _ = await ready.call("PUT", "/api/v1/namespaces/default/finalize", obj)
    assert status == 200
    assert await _status_of(ready, "/api/v1/namespaces/default") == 404
