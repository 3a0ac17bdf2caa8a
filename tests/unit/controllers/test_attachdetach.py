"""CSI volumes follow their pods from node to node, never to two at once where that would harm."""

import hashlib

import pytest

from orchestrator.api.resources import (
    CSIDRIVERS,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    VOLUMEATTACHMENTS,
)
from orchestrator.controllers.attachdetach import AttachDetachController

UNIQUE = "kubernetes.io/csi/example.com^h1"
READY = {"type": "Ready", "status": "True", "lastTransitionTime": "2023-11-14T22:13:20Z"}


@pytest.fixture
async def started(cluster):
    await cluster.start(
        AttachDetachController(cluster.client, cluster.clock, cluster.recorder), kubelet=False
    )
    for name in ("n1", "n2"):
        await cluster.node(name)
        await set_node(cluster, name, conditions=[READY])
    return cluster


async def set_node(cluster, name, **status):
    await cluster.patch(NODES, name, {"status": status}, namespace="", subresource="status")


async def claimed(cluster, modes=("ReadWriteOnce",), driver="example.com"):
    amount = {"storage": "1Gi"}
    spec = {"accessModes": list(modes), "resources": {"requests": amount}, "volumeName": "v"}
    claim = await cluster.create(PERSISTENTVOLUMECLAIMS, {"metadata": {"name": "c"}, "spec": spec})
    reference = {"namespace": "default", "name": "c", "uid": claim["metadata"]["uid"]}
    source = {"csi": {"driver": driver, "volumeHandle": "h1"}, "claimRef": reference}
    volume = {
        "metadata": {"name": "v"},
        "spec": {"capacity": amount, "accessModes": list(modes), **source},
    }
    await cluster.create(PERSISTENTVOLUMES, volume)


async def pod(cluster, name, node):
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "c"}}]
    spec = {"nodeName": node, "containers": [{"name": "main", "image": "i"}], "volumes": volumes}
    await cluster.create(PODS, {"metadata": {"name": name}, "spec": spec})
    await cluster.settle()


async def finish(cluster, name):
    await cluster.patch(PODS, name, {"status": {"phase": "Succeeded"}}, subresource="status")
    await cluster.settle()


async def attached(cluster):
    """Nodes that attachments name."""
    await cluster.settle()
    return sorted(a["spec"]["nodeName"] for a in await cluster.list(VOLUMEATTACHMENTS, None))


async def confirm(cluster):
    for found in await cluster.list(VOLUMEATTACHMENTS, None):
        status = {"status": {"attached": True}}
        await cluster.patch(
            VOLUMEATTACHMENTS, found["metadata"]["name"], status, namespace="", subresource="status"
        )
    await cluster.settle()


async def reported(cluster, node):
    status = (await cluster.get(NODES, node, "")).get("status") or {}
    return [entry["name"] for entry in status.get("volumesAttached") or ()]


async def test_a_volume_is_attached_for_its_pod_and_detached_after_it(started):
    await claimed(started)
    await pod(started, "p", "n1")
    [made] = await started.list(VOLUMEATTACHMENTS, None)
    assert made["metadata"]["name"] == f"csi-{hashlib.sha256(b'h1example.comn1').hexdigest()}"
    assert made["spec"] == {
        "attacher": "example.com", "nodeName": "n1", "source": {"persistentVolumeName": "v"},
    }  # fmt: skip
    assert await reported(started, "n1") == []
    await confirm(started)
    assert await reported(started, "n1") == [UNIQUE]
    assert await started.events("SuccessfulAttachVolume") == ['AttachVolume.Attach succeeded for volume "v" ']
    assert await started.is_at_rest()
    await finish(started, "p")
    assert await attached(started) == []
    assert await reported(started, "n1") == []
    assert await started.is_at_rest()


@pytest.mark.parametrize(
    ("modes", "nodes"), [(("ReadWriteOnce",), ["n1"]), (("ReadWriteMany",), ["n1", "n2"])]
)
async def test_a_volume_for_one_node_is_attached_to_one(started, modes, nodes):
    await claimed(started, modes)
    await pod(started, "a", "n1")
    await pod(started, "b", "n2")
    assert await attached(started) == nodes
    assert bool(await started.events("FailedAttachVolume")) is (len(nodes) == 1)
    await finish(started, "a")
    assert await attached(started) == ["n2"]


async def test_a_driver_that_attaches_nothing_gets_no_attachments(started):
    await started.create(CSIDRIVERS, {"metadata": {"name": "example.com"}, "spec": {"attachRequired": False}})
    await claimed(started)
    await pod(started, "p", "n1")
    assert await attached(started) == []


async def test_why_attaching_failed_is_told_to_the_pod(started):
    await claimed(started)
    await pod(started, "p", "n1")
    [made] = await started.list(VOLUMEATTACHMENTS, None)
    failure = {"status": {"attached": False, "attachError": {"message": "no such disk"}}}
    name = made["metadata"]["name"]
    await started.patch(VOLUMEATTACHMENTS, name, failure, namespace="", subresource="status")
    await started.settle()
    expected = 'AttachVolume.Attach failed for volume "v" : no such disk'
    assert await started.events("FailedAttachVolume") == [expected]


@pytest.mark.parametrize("sick", [False, True])
async def test_a_mounted_volume_stays_until_it_is_unmounted_or_its_node_is_lost(started, sick):
    await claimed(started)
    await pod(started, "p", "n1")
    await confirm(started)
    await set_node(
        started, "n1", volumesInUse=[UNIQUE], conditions=[{**READY, "status": "Unknown" if sick else "True"}]
    )
    await finish(started, "p")
    await started.advance(300, step_s=60)
    assert await attached(started) == ["n1"]
    await started.advance(120, step_s=60)
    assert await attached(started) == ([] if sick else ["n1"])
    await set_node(started, "n1", volumesInUse=[])
    assert await attached(started) == []


async def test_a_node_that_is_out_of_service_gives_its_volumes_back_at_once(started):
    await claimed(started)
    await pod(started, "p", "n1")
    await confirm(started)
    await set_node(started, "n1", volumesInUse=[UNIQUE])
    taint = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
    await started.patch(NODES, "n1", {"spec": {"taints": [taint]}}, namespace="")
    await finish(started, "p")
    assert await attached(started) == []


async def test_attachments_of_others_are_left_alone(started):
    spec = {"attacher": "example.com", "nodeName": "n1", "source": {"persistentVolumeName": "none"}}
    await started.create(VOLUMEATTACHMENTS, {"metadata": {"name": "by-hand"}, "spec": spec})
    await started.advance(30)
    assert await attached(started) == ["n1"]
