"""Volumes, claims and classes that are in use wait for their users."""

from orchestrator.api.resources import (
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    VOLUMEATTRIBUTESCLASSES,
)
from orchestrator.api.volumes import claim_index
from orchestrator.controllers.storageprotection import StorageProtectionController


async def _started(cluster):
    controller = StorageProtectionController(cluster.client, cluster.clock, cluster.recorder)
    await cluster.start(controller, kubelet=False)


def _claim(name="c", **spec):
    size = {"requests": {"storage": "1Gi"}}
    return {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "finalizers": ["kubernetes.io/pvc-protection"]},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": size, **spec},
    }  # fmt: skip


async def _names(cluster, resource):
    await cluster.settle()
    return [item["metadata"]["name"] for item in await cluster.list(resource, None)]


async def test_a_claim_goes_with_its_last_pod(cluster):
    await _started(cluster)
    await cluster.create(PERSISTENTVOLUMECLAIMS, _claim())
    await cluster.create(PERSISTENTVOLUMECLAIMS, _claim("unused"))
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"nodeName": "n1", "containers": [{"name": "a", "image": "i"}], "volumes": volumes},
    }  # fmt: skip
    await cluster.create(PODS, pod)
    for name in ("c", "unused"):
        await cluster.client.delete(PERSISTENTVOLUMECLAIMS, name, "default")
    assert await _names(cluster, PERSISTENTVOLUMECLAIMS) == ["c"]
    await cluster.client.patch(PODS, "p", "default", {"status": {"phase": "Succeeded"}}, subresource="status")
    assert await _names(cluster, PERSISTENTVOLUMECLAIMS) == []


async def test_a_volume_goes_once_it_is_not_bound(cluster):
    await _started(cluster)
    volume = {
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": "v", "finalizers": ["kubernetes.io/pv-protection"]},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}},
    }  # fmt: skip
    await cluster.create(PERSISTENTVOLUMES, volume, "")
    phase = {"status": {"phase": "Bound"}}
    await cluster.client.patch(PERSISTENTVOLUMES, "v", "", phase, subresource="status")
    await cluster.client.delete(PERSISTENTVOLUMES, "v")
    assert await _names(cluster, PERSISTENTVOLUMES) == ["v"]
    released = {"status": {"phase": "Released"}}
    await cluster.client.patch(PERSISTENTVOLUMES, "v", "", released, subresource="status")
    assert await _names(cluster, PERSISTENTVOLUMES) == []


async def test_a_class_of_attributes_goes_with_its_last_claim(cluster):
    await _started(cluster)
    gold = {
        "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttributesClass", "driverName": "d",
        "metadata": {"name": "gold", "finalizers": ["kubernetes.io/vac-protection"]}, "parameters": {"a": "b"},
    }  # fmt: skip
    await cluster.create(VOLUMEATTRIBUTESCLASSES, gold, "")
    await cluster.create(PERSISTENTVOLUMECLAIMS, _claim(volumeAttributesClassName="gold"))
    await cluster.client.delete(VOLUMEATTRIBUTESCLASSES, "gold")
    assert await _names(cluster, VOLUMEATTRIBUTESCLASSES) == ["gold"]
    await cluster.client.delete(PERSISTENTVOLUMECLAIMS, "c", "default")
    assert await _names(cluster, VOLUMEATTRIBUTESCLASSES) == []


def test_the_index_names_claims_and_ephemeral_volumes(pod_item):
    volumes = [
        {"name": "v", "persistentVolumeClaim": {"claimName": "c"}},
        {"name": "e", "ephemeral": {"x": 1}},
    ]
    item = pod_item("p", spec={"volumes": volumes})
    namespace = item.meta.namespace
    assert claim_index(item) == (f"{namespace}/c", f"{namespace}/p-e")
    assert claim_index(pod_item("q")) == ()
