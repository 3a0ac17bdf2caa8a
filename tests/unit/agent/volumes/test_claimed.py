"""From a pod's claim to a directory: waiting for the binding, refusals, who has a volume, groups."""

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from orchestrator.agent.containers.env import PodFacts
from orchestrator.agent.volumes import claimed as claimedvolumes
from orchestrator.agent.volumes.containermounts import Place, container_mounts
from orchestrator.agent.volumes.errors import VolumeError
from orchestrator.api.errors import NotFound
from orchestrator.api.item import Object
from orchestrator.api.resources import Resource
from orchestrator.base.clock import VirtualClock
from tests.unit.agent.builders import pod

FACTS = PodFacts("10.42.0.2", "192.0.2.7", "n1", {})
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="other owners need root")
VOLUME = {"name": "data", "persistentVolumeClaim": {"claimName": "c"}}
EPHEMERAL = {"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}


class Cluster:
    def __init__(self, root: Path) -> None:
        self.clock = VirtualClock()
        claimedvolumes.prepare(root / "volumes")
        self.path = root / "volumes" / "pvc-1"
        reference = {"namespace": "default", "name": "c", "uid": "u"}
        self.claim: Object = {
            "metadata": {"namespace": "default", "name": "c", "uid": "u"},
            "spec": {"volumeName": "pvc-1"},
            "status": {"phase": "Bound"},
        }
        hostname = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}
        self.volume: Object = {
            "metadata": {
                "name": "pvc-1",
                "annotations": {"pv.kubernetes.io/provisioned-by": "orchestrator.internal/local-path"},
            },
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "claimRef": reference,
                "local": {"path": str(self.path)},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [hostname]}]}},
            },
        }
        self.labels = {"kubernetes.io/hostname": "n1"}

    async def fetch(self, resource: Resource, namespace: str, name: str) -> Object:
        found: dict[tuple[str, str], Object] = {
            ("persistentvolumes", "pvc-1"): self.volume,
            ("nodes", "n1"): {"metadata": {"name": "n1", "labels": self.labels}},
        }
        if self.claim:
            found["persistentvolumeclaims", self.claim["metadata"]["name"]] = self.claim
        if (resource.plural, name) not in found:
            raise NotFound(f'{resource.plural} "{name}" not found')
        return found[resource.plural, name]

    async def find(self, volume: Object = VOLUME, *, held: bool = False) -> Object:
        owner = pod(volumes=[volume])
        return await claimedvolumes.volume_of(self.fetch, self.clock, owner, volume, FACTS, held=held)

    def set_up(self, uid: str, group: int | None = None, policy: str = "Always") -> Path:
        link = self.path.parents[1] / "pods" / uid / "volumes" / "data"
        return claimedvolumes.set_up(self.volume, link, group, policy)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


async def test_a_claim_that_is_not_bound_yet_is_waited_for(cluster: Cluster) -> None:
    cluster.claim["status"] = {"phase": "Pending"}
    finding = asyncio.ensure_future(cluster.find())
    await cluster.clock.advance(0.5)
    cluster.claim["status"] = {"phase": "Bound"}
    await cluster.clock.advance(0.5)
    assert await finding is cluster.volume


async def test_a_claim_that_is_being_deleted_serves_only_who_has_it(cluster: Cluster) -> None:
    cluster.claim["metadata"]["deletionTimestamp"] = "2023-11-14T22:13:20Z"
    with pytest.raises(VolumeError, match="PVC is being deleted"):
        await cluster.find()
    assert await cluster.find(held=True) is cluster.volume


@pytest.mark.parametrize(
    ("change", "volume", "why"),
    [
        (
            {"claim": None},
            VOLUME,
            'failed to fetch PVC from API server: persistentvolumeclaims "c" not found',
        ),
        ({"status": {"phase": "Lost"}}, VOLUME, "error processing PVC default/c: PVC is not bound"),
        ({"status": {"phase": "Pending"}}, VOLUME, "error processing PVC default/c: PVC is not bound"),
        ({"spec": {"volumeName": "other"}}, VOLUME, "failed to fetch PV other from API server"),
        ({"uid": "new"}, VOLUME, "found PV object pvc-1 with an unexpected claim UID u, expected new"),
        ({"labels": {"kubernetes.io/hostname": "n2"}}, VOLUME, "MountVolume.NodeAffinity check failed"),
        ({"name": "web-data"}, EPHEMERAL, "PVC default/web-data was not created for pod default/web"),
    ],
)
async def test_a_claim_that_can_not_be_used_says_why(
    cluster: Cluster, change: dict[str, Any], volume: Object, why: str
) -> None:
    for name in ("status", "spec"):
        if name in change:
            cluster.claim[name] = change[name]
    for name in ("uid", "name"):
        if name in change:
            cluster.claim["metadata"][name] = change[name]
    cluster.labels = change.get("labels", cluster.labels)
    if "claim" in change:
        cluster.claim = {}
    finding = asyncio.ensure_future(cluster.find(volume))
    await cluster.clock.advance(claimedvolumes.BOUND_WAIT_S + 1)
    with pytest.raises(VolumeError, match=why.replace("(", r"\(")):
        await finding


def test_a_new_volume_is_open_to_every_user_of_a_pod_and_to_nobody_else(cluster: Cluster) -> None:
    path = cluster.set_up("a")
    assert stat.S_IMODE(path.stat().st_mode) == 0o777
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert claimedvolumes.users(path.parents[1] / "pods", path) == ["a"]


def test_a_volume_is_not_made_where_its_disk_is_missing(cluster: Cluster) -> None:
    (cluster.path.parent / claimedvolumes.BASE_MARK).unlink()
    with pytest.raises(VolumeError, match="is not a directory of volumes"):
        cluster.set_up("a")


def test_a_volume_for_one_pod_is_given_to_one(cluster: Cluster) -> None:
    cluster.volume["spec"]["accessModes"] = ["ReadWriteOncePod"]
    cluster.set_up("a")
    cluster.set_up("a")
    with pytest.raises(VolumeError, match="already in use by another pod"):
        cluster.set_up("b")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ({"local": {"path": "/nowhere/at/all"}}, 'path "/nowhere/at/all" does not exist'),
        ({"csi": {"driver": "d"}}, "driver name d not found in the list of registered CSI drivers"),
        ({"local": {"path": "/"}, "volumeMode": "Block"}, "path / is not a block device"),
        ({"fc": {"lun": 1}, "claimRef": {}}, 'volume "pvc-1" err=no volume plugin matched: fc'),
        ({"hostPath": {"path": "/", "type": "File"}}, "hostPath type check failed: / is not a file"),
    ],
)
def test_what_this_node_can_not_mount_is_refused(cluster: Cluster, source: Object, why: str) -> None:
    cluster.volume["metadata"]["annotations"] = {}
    cluster.volume["spec"] = source
    with pytest.raises(VolumeError, match=why):
        cluster.set_up("a")


@NEEDS_ROOT
def test_files_of_a_volume_belong_to_the_group_of_the_pod(cluster: Cluster) -> None:
    path = cluster.set_up("a")
    (path / "below").mkdir()
    (path / "below" / "file").write_text("x")
    (path / "link").symlink_to("/etc/hostname")
    before = os.stat("/etc/hostname")
    cluster.set_up("b", group=4321)
    for entry in (path, path / "below", path / "below" / "file"):
        assert entry.stat().st_gid == 4321
    assert path.stat().st_mode & 0o2070 == 0o2070
    assert (path / "below" / "file").stat().st_mode & 0o060 == 0o060
    assert os.stat("/etc/hostname") == before
    (path / "late").write_text("x")
    os.chown(path / "late", -1, 0)
    cluster.set_up("b", group=4321)
    cluster.set_up("c", group=4321, policy="OnRootMismatch")
    assert (path / "late").stat().st_gid == 0


@pytest.mark.parametrize(
    ("claim", "mount", "read_only"), [(True, False, True), (False, True, True), (False, False, False)]
)
def test_a_claim_may_be_mounted_read_only(claim: bool, mount: bool, read_only: bool) -> None:
    container = {"name": "app", "volumeMounts": [{"name": "data", "mountPath": "/d", "readOnly": mount}]}
    [found] = container_mounts(container, {"data": Place(Path("/x"), read_only=claim)}, {}, Path("/y"))
    assert found.read_only is read_only
