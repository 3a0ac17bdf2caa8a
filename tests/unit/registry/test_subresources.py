"""Binding, eviction, scale."""

import pytest

from orchestrator.api.access import ADMIN
from orchestrator.api.errors import BadRequest, Conflict, Invalid, NotFound
from orchestrator.api.options import WriteOptions
from orchestrator.api.resources import DEPLOYMENTS, PODS, REPLICASETS

_ON_N1 = {"target": {"kind": "Node", "name": "n1"}, "metadata": {"annotations": {"why": "fits"}}}


async def _bind(api, name, binding=_ON_N1):
    return await api.registry.subresources.bind("default", name, binding, WriteOptions(), ADMIN)


async def test_binding_assigns_the_node_and_says_so_in_the_status(api):
    await api.create(PODS, api.pod("a"))
    await _bind(api, "a")
    pod = await api.get(PODS, "a")
    assert pod["spec"]["nodeName"] == "n1"
    assert pod["metadata"]["annotations"] == {"why": "fits"}
    (condition,) = [entry for entry in pod["status"]["conditions"] if entry["type"] == "PodScheduled"]
    assert condition["status"] == "True"


async def test_a_pod_is_bound_once(api):
    await api.create(PODS, api.pod("a"))
    await _bind(api, "a")
    with pytest.raises(Conflict, match='pods/binding "a": pod a is already assigned to node "n1"'):
        await _bind(api, "a", {"target": {"kind": "Node", "name": "n2"}})


async def test_a_pod_that_is_going_is_not_bound(api):
    await api.create(PODS, {**api.pod("a"), "metadata": {"name": "a", "finalizers": ["example.com/x"]}})
    await api.delete(PODS, "a")
    with pytest.raises(Conflict, match="is being deleted, cannot be assigned to a host"):
        await _bind(api, "a")


@pytest.mark.parametrize(
    ("binding", "error"),
    [
        ({"target": {"kind": "Pod", "name": "n1"}}, Invalid),
        ({"target": {"kind": "Node"}}, Invalid),
        ({}, Invalid),
        ({"target": {"name": "n1"}, "metadata": {"uid": "other"}}, Conflict),
    ],
)
async def test_bindings_that_are_refused(api, binding, error):
    await api.create(PODS, api.pod("a"))
    with pytest.raises(error):
        await _bind(api, "a", binding)
    assert "nodeName" not in (await api.get(PODS, "a"))["spec"]


async def test_binding_an_absent_pod_is_not_found(api):
    with pytest.raises(NotFound, match='pods "a" not found'):
        await _bind(api, "a")


async def test_eviction_deletes_with_the_options_it_carries(api):
    await api.create(PODS, api.pod("a", nodeName="n1"))
    evict = api.registry.subresources.evict
    with pytest.raises(BadRequest, match="name in URL"):
        await evict("default", "a", {"metadata": {"name": "b"}}, WriteOptions(), ADMIN)
    body = {"metadata": {"name": "a"}, "deleteOptions": {"gracePeriodSeconds": 7}}
    deleted = await evict("default", "a", body, WriteOptions(), ADMIN)
    assert deleted.item.object["metadata"]["deletionGracePeriodSeconds"] == 7


async def test_scale_shows_and_sets_the_replicas(api):
    await api.create(DEPLOYMENTS, api.deployment("web", 3))
    scale = (await api.registry.get(DEPLOYMENTS, "default", "web", "scale")).object
    stored = await api.get(DEPLOYMENTS, "web")
    assert scale["kind"] == "Scale" and scale["apiVersion"] == "autoscaling/v1"
    assert scale["spec"] == {"replicas": 3}
    assert scale["status"] == {"replicas": 0, "selector": "app=web"}
    assert scale["metadata"]["resourceVersion"] == stored["metadata"]["resourceVersion"]
    written = await api.update(DEPLOYMENTS, {**scale, "spec": {"replicas": 5}}, "scale")
    assert written.item.object["spec"] == {"replicas": 5}
    changed = await api.get(DEPLOYMENTS, "web")
    assert changed["spec"] == {**stored["spec"], "replicas": 5}
    assert changed["metadata"]["generation"] == 2
    with pytest.raises(Conflict):
        await api.update(DEPLOYMENTS, scale, "scale")


async def test_scale_is_patched_as_a_scale(api):
    await api.create(REPLICASETS, {**api.deployment("web"), "kind": "ReplicaSet"})
    written = await api.patch(REPLICASETS, "web", {"spec": {"replicas": 0}}, subresource="scale")
    assert written.item.object["spec"] == {"replicas": 0}
    assert (await api.get(REPLICASETS, "web"))["spec"]["replicas"] == 0


@pytest.mark.parametrize(("replicas", "error"), [(-1, Invalid), ("3", BadRequest), (True, BadRequest)])
async def test_scale_refuses_what_is_no_count(api, replicas, error):
    await api.create(DEPLOYMENTS, api.deployment("web"))
    with pytest.raises(error, match=r"spec\.replicas"):
        await api.patch(DEPLOYMENTS, "web", {"spec": {"replicas": replicas}}, subresource="scale")
