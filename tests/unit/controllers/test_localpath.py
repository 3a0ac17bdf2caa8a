"""A claim of the default class gets a directory where its pod is, and takes it along."""

from pathlib import Path

import pytest

from orchestrator.agent.volumes import claimed as claimedvolumes
from orchestrator.agent.volumes.local import Home, LocalVolumes
from orchestrator.api.resources import (
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    STORAGECLASSES,
)
from orchestrator.controllers.ephemeralvolume import EphemeralVolumeController
from orchestrator.controllers.localpath import LocalPathProvisioner, Make, Refuse, TakeBack, plan
from orchestrator.controllers.persistentvolume import PersistentVolumeController
from orchestrator.controllers.storageprotection import StorageProtectionController
from orchestrator.controllers.volumebinder import VolumeBinder
from orchestrator.controllers.volumeexpand import VolumeExpander
from tests.unit.controllers.firstconsumer import FirstConsumer

LOCAL_PATH = "orchestrator.internal/local-path"
FINALIZER = "external-provisioner.volume.kubernetes.io/finalizer"
NODE = "volume.kubernetes.io/selected-node"
KINDS = (
    VolumeBinder, PersistentVolumeController, FirstConsumer, LocalPathProvisioner, StorageProtectionController,
    VolumeExpander, EphemeralVolumeController,
)  # fmt: skip


class Disk:
    """The nodes' side: real directories below a temporary one."""

    def __init__(self, cluster, root: Path) -> None:
        self.cluster = cluster
        self.volumes, self.pods = root / "volumes", root / "pods"
        self.keeper = LocalVolumes()
        claimedvolumes.prepare(self.volumes)

    async def add_node(self, name: str) -> None:
        metadata = {
            "name": name,
            "labels": {"kubernetes.io/hostname": name},
            "annotations": {LOCAL_PATH: str(self.volumes)},
        }
        await self.cluster.create(NODES, {"metadata": metadata})
        self.keeper.add(Home(name, self.cluster.client, self.cluster.recorder, self.pods))

    def mount(self, volume, uid: str) -> Path:
        return claimedvolumes.set_up(volume, self.pods / uid / "volumes" / "data", None, "Always")

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in self.volumes.iterdir() if not path.name.startswith("."))


@pytest.fixture
async def disk(cluster, tmp_path):
    made = Disk(cluster, tmp_path)
    controllers = [kind(cluster.client, cluster.clock, cluster.recorder) for kind in KINDS]
    await cluster.start(*controllers, made.keeper, kubelet=False)
    await cluster.create(STORAGECLASSES, storage_class())
    await made.add_node("n1")
    return made


def storage_class(**more):
    mark = {"storageclass.kubernetes.io/is-default-class": "true"}
    return {
        "metadata": {"name": "local-path", "annotations": mark},
        "provisioner": LOCAL_PATH,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
        **more,
    }


def claim(name="c", node=None, **spec):
    size = {"requests": {"storage": "1Gi"}}
    marks = {"annotations": {NODE: node}} if node else {}
    return {
        "metadata": {"name": name, "finalizers": ["kubernetes.io/pvc-protection"], **marks},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": size,
            "storageClassName": "local-path",
            **spec,
        },
    }


def pod(name="p", node="n1", volume=None):
    volume = volume or {"persistentVolumeClaim": {"claimName": "c"}}
    spec = {"nodeName": node, "containers": [{"name": "main", "image": "i"}]}
    return {"metadata": {"name": name}, "spec": {**spec, "volumes": [{"name": "data", **volume}]}}


async def provisioned(cluster):
    await cluster.create(PERSISTENTVOLUMECLAIMS, claim())
    await cluster.create(PODS, pod())
    await cluster.settle()
    [volume] = await cluster.list(PERSISTENTVOLUMES, None)
    return volume


async def end(cluster, name="p"):
    await cluster.patch(PODS, name, {"status": {"phase": "Succeeded"}}, subresource="status")
    await cluster.client.delete(PERSISTENTVOLUMECLAIMS, "c", "default")
    await cluster.settle()


async def test_a_claim_gets_a_directory_on_the_node_of_its_pod(cluster, disk):
    await disk.add_node("n2")
    await cluster.create(PERSISTENTVOLUMECLAIMS, claim())
    await cluster.settle()
    assert await cluster.list(PERSISTENTVOLUMES, None) == []
    await cluster.create(PODS, pod(node="n2"))
    await cluster.settle()
    bound = await cluster.get(PERSISTENTVOLUMECLAIMS, "c")
    [volume] = await cluster.list(PERSISTENTVOLUMES, None)
    assert (bound["status"]["phase"], volume["status"]["phase"]) == ("Bound", "Bound")
    assert bound["metadata"]["annotations"][NODE] == "n2"
    assert volume["metadata"]["name"] == f"pvc-{bound['metadata']['uid']}"
    [term] = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"][0]["values"] == ["n2"]
    reasons = ("WaitForFirstConsumer", "ExternalProvisioning", "Provisioning", "ProvisioningSucceeded")
    assert all([await cluster.events(reason) for reason in reasons])
    assert await cluster.is_at_rest()


async def test_the_directory_goes_with_the_claim_once_no_pod_has_it(cluster, disk):
    volume = await provisioned(cluster)
    path = disk.mount(volume, "uid-1")
    (path / "kept").write_text("words")
    assert disk.mount(volume, "uid-2") == path
    assert (path / "kept").read_text() == "words"
    await end(cluster)
    await cluster.advance(5)
    [left] = await cluster.list(PERSISTENTVOLUMES, None)
    assert left["metadata"]["finalizers"] == [FINALIZER]
    assert disk.names == [volume["metadata"]["name"]]
    for uid in ("uid-1", "uid-2"):
        (disk.pods / uid / "volumes" / "data").unlink()
    await cluster.advance(10)
    assert await cluster.list(PERSISTENTVOLUMES, None) == []
    assert [path.name for path in disk.volumes.iterdir()] == [claimedvolumes.BASE_MARK]


async def test_a_volume_that_was_never_mounted_goes_too(cluster, disk):
    await provisioned(cluster)
    await end(cluster)
    assert await cluster.list(PERSISTENTVOLUMES, None) == []


async def test_a_deletion_that_was_cut_off_is_finished(cluster, disk):
    volume = await provisioned(cluster)
    path = disk.mount(volume, "uid-1")
    (disk.pods / "uid-1" / "volumes" / "data").unlink()
    path.rename(path.parent / f".deleting-{path.name}")
    await end(cluster)
    assert await cluster.list(PERSISTENTVOLUMES, None) == []
    assert [entry.name for entry in disk.volumes.iterdir()] == [claimedvolumes.BASE_MARK]


async def test_nothing_is_deleted_that_is_no_volume_of_ours(cluster, disk, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    name = "precious"
    volume = {
        "metadata": {
            "name": name,
            "finalizers": [FINALIZER],
            "annotations": {
                "pv.kubernetes.io/provisioned-by": LOCAL_PATH,
                "orchestrator.internal/node": "n1",
            },
        },
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Delete",
            "local": {"path": str(precious)},
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "Exists"}]}
                    ]
                }
            },
        },
    }
    await cluster.create(PERSISTENTVOLUMES, volume)
    await cluster.client.delete(PERSISTENTVOLUMES, name)
    await cluster.settle()
    assert precious.is_dir()
    assert "does not lie in a directory of volumes" in (await cluster.events("VolumeFailedDelete"))[0]


async def test_a_volume_that_is_kept_keeps_its_directory(cluster, disk):
    volume = await provisioned(cluster)
    path = disk.mount(volume, "uid-1")
    name = volume["metadata"]["name"]
    await cluster.patch(
        PERSISTENTVOLUMES, name, {"spec": {"persistentVolumeReclaimPolicy": "Retain"}}, namespace=""
    )
    await end(cluster)
    [left] = await cluster.list(PERSISTENTVOLUMES, None)
    assert left["status"]["phase"] == "Released"
    await cluster.client.delete(PERSISTENTVOLUMES, name)
    await cluster.settle()
    assert await cluster.list(PERSISTENTVOLUMES, None) == []
    assert path.is_dir()


async def test_a_volume_waits_for_its_node_or_for_somebody_to_delete_it(cluster, disk):
    volume = await provisioned(cluster)
    await cluster.client.delete(NODES, "n1")
    await end(cluster)
    assert await cluster.events("VolumeFailedDelete")
    assert len(await cluster.list(PERSISTENTVOLUMES, None)) == 1
    await cluster.client.delete(PERSISTENTVOLUMES, volume["metadata"]["name"])
    await cluster.settle()
    assert await cluster.list(PERSISTENTVOLUMES, None) == []


async def test_a_selected_node_that_is_gone_is_taken_back(cluster, disk):
    await cluster.create(PERSISTENTVOLUMECLAIMS, claim(node="gone"))
    await cluster.settle()
    assert NODE not in (await cluster.get(PERSISTENTVOLUMECLAIMS, "c"))["metadata"]["annotations"]
    await cluster.create(PODS, pod())
    await cluster.settle()
    assert (await cluster.get(PERSISTENTVOLUMECLAIMS, "c"))["status"]["phase"] == "Bound"


async def test_more_room_is_given_at_once(cluster, disk):
    volume = await provisioned(cluster)
    await cluster.patch(
        PERSISTENTVOLUMECLAIMS, "c", {"spec": {"resources": {"requests": {"storage": "3Gi"}}}}
    )
    await cluster.settle()
    grown = await cluster.get(PERSISTENTVOLUMECLAIMS, "c")
    assert grown["status"]["capacity"] == {"storage": "3Gi"}
    volume = await cluster.get(PERSISTENTVOLUMES, volume["metadata"]["name"], "")
    assert volume["spec"]["capacity"] == {"storage": "3Gi"}
    assert await cluster.is_at_rest()


async def test_an_ephemeral_volume_is_the_pods_own(cluster, disk):
    spec = claim()["spec"]
    template = {"metadata": {"labels": {"a": "b"}}, "spec": spec}
    await cluster.create(PODS, pod(volume={"ephemeral": {"volumeClaimTemplate": template}}))
    await cluster.settle()
    made = await cluster.get(PERSISTENTVOLUMECLAIMS, "p-data")
    assert made["metadata"]["labels"] == {"a": "b"}
    assert made["metadata"]["ownerReferences"][0]["name"] == "p"
    assert made["status"]["phase"] == "Bound"
    await cluster.create(PERSISTENTVOLUMECLAIMS, claim("q-data"))
    await cluster.create(PODS, pod("q", volume={"ephemeral": {"volumeClaimTemplate": template}}))
    await cluster.settle()
    [text] = await cluster.events("FailedBinding")
    expected = "PVC default/q-data was not created for pod default/q (pod is not the owner)"
    assert text == f"ephemeral volume data: {expected}"


OFFERS = {"n1": "/volumes", "bare": ""}


@pytest.mark.parametrize(
    ("wanted", "offers", "outcome"),
    [
        (claim(node="n1"), OFFERS, Make),
        (claim(node="bare"), OFFERS, Refuse),
        (claim(node="gone"), OFFERS, TakeBack),
        (claim(), OFFERS, Make),
        (claim(), {**OFFERS, "n2": "/volumes"}, Refuse),
        (claim(node="n1", accessModes=["ReadWriteOncePod"]), OFFERS, Make),
        (claim(node="n1", accessModes=["ReadWriteOnce", "ReadWriteMany"]), OFFERS, Refuse),
        (claim(node="n1", volumeMode="Block"), OFFERS, Refuse),
        (claim(node="n1", selector={"matchLabels": {"a": "b"}}), OFFERS, Refuse),
        (
            claim(node="n1", dataSource={"kind": "PersistentVolumeClaim", "name": "other"}),
            OFFERS,
            Refuse,
        ),
    ],
)
def test_what_a_directory_can_not_be_is_refused(wanted, offers, outcome):
    metadata = {"uid": "u", "namespace": "default", "resourceVersion": "1", **wanted["metadata"]}
    assert isinstance(plan({**wanted, "metadata": metadata}, storage_class(), offers), outcome)


async def test_a_directory_without_a_volume_is_told_and_kept(cluster, tmp_path, capsys):
    stray = tmp_path / "volumes" / "pvc-gone"
    claimedvolumes.prepare(stray.parent)
    stray.mkdir()
    keeper = LocalVolumes()
    await cluster.start(keeper, kubelet=False)
    keeper.add(Home("n1", cluster.client, cluster.recorder, tmp_path / "pods", stray.parent))
    await cluster.settle()
    assert "pvc-gone" in capsys.readouterr().out
    assert stray.is_dir()
