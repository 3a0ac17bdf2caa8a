"""Whatever is done to volumes, claims, pods and classes, in whatever order: what is left is consistent and at rest."""

import contextlib
import random

import pytest

from orchestrator.agent.volumes.local import Home, LocalVolumes
from orchestrator.api.errors import ApiError
from orchestrator.api.resources import (
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    STORAGECLASSES,
)
from orchestrator.api.volumes import LOCAL_PATH
from orchestrator.controllers.ephemeralvolume import EphemeralVolumeController
from orchestrator.controllers.localpath import LocalPathProvisioner
from orchestrator.controllers.persistentvolume import PersistentVolumeController
from orchestrator.controllers.storageprotection import StorageProtectionController
from orchestrator.controllers.volumebinder import VolumeBinder
from orchestrator.controllers.volumeexpand import VolumeExpander
from tests.unit.controllers.firstconsumer import FirstConsumer

KINDS = (
    VolumeBinder, PersistentVolumeController, FirstConsumer, LocalPathProvisioner, StorageProtectionController,
    VolumeExpander, EphemeralVolumeController,
)  # fmt: skip
STEPS = 60
NAMES = ("a", "b", "c", "d")
SIZES = ("1Gi", "2Gi", "5Gi")
CLASSES = ("", "local-path", "static")


class Chaos:
    """One edit after the other, as a user may make them; those that the API refuses are no matter."""

    def __init__(self, cluster, rng: random.Random) -> None:
        self.cluster, self.rng = cluster, rng

    async def step(self) -> None:
        edits = (
            self.make_claim, self.make_claim, self.make_volume, self.make_pod, self.make_pod, self.drop_claim,
            self.drop_volume, self.drop_pod, self.steal, self.forget, self.grow, self.node,
        )  # fmt: skip
        with contextlib.suppress(ApiError):
            await self.rng.choice(edits)()
        if self.rng.random() < 0.4:
            await self.cluster.settle()

    def pick(self, values):
        return self.rng.choice(values)

    async def make_claim(self) -> None:
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": self.pick(SIZES)}},
            "storageClassName": self.pick(CLASSES),
            **({"volumeName": f"v{self.pick(NAMES)}"} if self.rng.random() < 0.2 else {}),
        }
        metadata = {"name": self.pick(NAMES), "finalizers": ["kubernetes.io/pvc-protection"]}
        await self.cluster.create(PERSISTENTVOLUMECLAIMS, {"metadata": metadata, "spec": spec})

    async def make_volume(self) -> None:
        reserved = {"claimRef": {"namespace": "default", "name": self.pick(NAMES)}}
        spec = {
            "capacity": {"storage": self.pick(SIZES)},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": "/x"},
            "storageClassName": self.pick(("", "static")),
            "persistentVolumeReclaimPolicy": self.pick(("Retain", "Delete")),
            **(reserved if self.rng.random() < 0.3 else {}),
        }
        await self.cluster.create(
            PERSISTENTVOLUMES, {"metadata": {"name": f"v{self.pick(NAMES)}"}, "spec": spec}
        )

    async def make_pod(self) -> None:
        source = {"persistentVolumeClaim": {"claimName": self.pick(NAMES)}}
        spec = {
            "nodeName": self.pick(("n1", "n2")),
            "containers": [{"name": "main", "image": "i"}],
            "volumes": [{"name": "data", **source}],
        }
        await self.cluster.create(PODS, {"metadata": {"name": f"p{self.pick(NAMES)}"}, "spec": spec})

    async def drop_claim(self) -> None:
        await self.cluster.client.delete(PERSISTENTVOLUMECLAIMS, self.pick(NAMES), "default")

    async def drop_volume(self) -> None:
        volumes = await self.cluster.list(PERSISTENTVOLUMES, None)
        if volumes:
            await self.cluster.client.delete(PERSISTENTVOLUMES, self.pick(volumes)["metadata"]["name"])

    async def drop_pod(self) -> None:
        status = {"status": {"phase": "Succeeded"}}
        await self.cluster.patch(PODS, f"p{self.pick(NAMES)}", status, subresource="status")
        await self.cluster.client.delete(PODS, f"p{self.pick(NAMES)}", "default")

    async def steal(self) -> None:
        """A volume is given to another claim by hand."""
        reference = {"namespace": "default", "name": self.pick(NAMES), "uid": None}
        name = f"v{self.pick(NAMES)}"
        await self.cluster.patch(PERSISTENTVOLUMES, name, {"spec": {"claimRef": reference}}, namespace="")

    async def forget(self) -> None:
        """A volume's reference is taken away by hand."""
        volumes = await self.cluster.list(PERSISTENTVOLUMES, None)
        if volumes:
            name = self.pick(volumes)["metadata"]["name"]
            await self.cluster.patch(PERSISTENTVOLUMES, name, {"spec": {"claimRef": None}}, namespace="")

    async def grow(self) -> None:
        patch = {"spec": {"resources": {"requests": {"storage": "7Gi"}}}}
        await self.cluster.patch(PERSISTENTVOLUMECLAIMS, self.pick(NAMES), patch)

    async def node(self) -> None:
        name = self.pick(("n1", "n2"))
        if self.rng.random() < 0.5:
            await self.cluster.client.delete(NODES, name)
        else:
            await make_node(self.cluster, name)


async def make_node(cluster, name: str) -> None:
    labels, marks = {"kubernetes.io/hostname": name}, {LOCAL_PATH: "/volumes"}
    await cluster.create(NODES, {"metadata": {"name": name, "labels": labels, "annotations": marks}})


@pytest.mark.parametrize("seed", range(4))
async def test_everything_converges(cluster, seed):
    keeper = LocalVolumes()
    await cluster.start(
        *(kind(cluster.client, cluster.clock, cluster.recorder) for kind in KINDS), keeper, kubelet=False
    )
    for name in ("n1", "n2"):
        await make_node(cluster, name)
        keeper.add(Home(name, cluster.client, cluster.recorder, None))
    for name, provisioner in (("local-path", LOCAL_PATH), ("static", "kubernetes.io/no-provisioner")):
        mode = "WaitForFirstConsumer" if name == "local-path" else "Immediate"
        body = {"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode}
        await cluster.create(STORAGECLASSES, {**body, "allowVolumeExpansion": True})
    chaos = Chaos(cluster, random.Random(seed))
    for _ in range(STEPS):
        await chaos.step()
    await cluster.advance(30)
    claims = {c["metadata"]["uid"]: c for c in await cluster.list(PERSISTENTVOLUMECLAIMS)}
    volumes = {v["metadata"]["name"]: v for v in await cluster.list(PERSISTENTVOLUMES, None)}
    check(claims, volumes)
    assert await cluster.is_at_rest(60)


def check(claims, volumes) -> None:
    """Who is bound is so on both sides, and to nobody else."""
    for uid, claim in claims.items():
        name = claim["spec"].get("volumeName")
        if claim["status"]["phase"] == "Bound":
            assert volumes[name]["spec"]["claimRef"]["uid"] == uid
            assert volumes[name]["status"]["phase"] == "Bound"
    for name, volume in volumes.items():
        phase, reference = volume["status"]["phase"], volume["spec"].get("claimRef") or {}
        owner = claims.get(reference.get("uid"))
        if phase == "Bound":
            assert owner is not None
            assert owner["spec"]["volumeName"] == name
        elif phase == "Available":
            assert not reference.get("uid")
        else:
            assert phase in ("Released", "Failed"), (phase, volume)
            assert owner is None or owner["spec"].get("volumeName") != name
