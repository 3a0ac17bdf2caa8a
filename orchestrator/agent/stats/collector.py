"""Collects what the node, its pods and their containers use, when somebody asks. Nothing runs in between.

Two that ask within a second share one look; rates are from the look before, at least a second ago, and at first the
average since the container's start. All files are read in threads. Owner: the agent of the node.
"""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from orchestrator.agent import podspec
from orchestrator.agent.pods.observed import Observed
from orchestrator.agent.stats import host
from orchestrator.agent.stats.disk import Disks
from orchestrator.agent.stats.usage import (
    ContainerUsage,
    DiskUse,
    FileSystem,
    NodeUsage,
    PodUsage,
    Snapshot,
    VolumeUse,
)
from orchestrator.api.item import Object
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime.interface import Container, Places, Runtime
from orchestrator.runtime.usage import Reading, Usage

SHARED_S = 1.0
"""A look that is younger serves the next who asks."""
DISKS_WAIT_S = 2.0
_LOCAL = ("configMap", "downwardAPI")
"""Volumes that count as the pod's ephemeral storage, beside an emptyDir on disk."""


class Worked(Protocol):
    """A pod and what the engine has of it: its worker."""

    pod: Object
    seen: Observed


class Collector:
    """The figures of one node. `directory` is the agent's: its disk is the node's, its pods' volumes are in it."""

    def __init__(
        self,
        runtime: Runtime,
        pods: Callable[[], Iterable[Worked]],
        directory: Path,
        clock: Clock,
        supervisor: Supervisor,
    ) -> None:
        self._runtime = runtime
        self._pods = pods
        self._directory = directory
        self._clock = clock
        self._disks = Disks(clock, supervisor)
        self._places: dict[str, Places] = {}
        self._rates: dict[str, tuple[float, int, int]] = {}
        self._turn = asyncio.Lock()
        self._last: tuple[float, bool, bool, Snapshot] | None = None

    async def node(self) -> NodeUsage:
        """The host alone: cheap enough for every few seconds."""
        return self._node(await asyncio.to_thread(host.read, self._clock.now_s()))

    async def snapshot(self, *, detail: bool = False, disks: bool = False) -> Snapshot:
        """Everything that runs. `detail` adds throttling, disk traffic and the like, `disks` what is stored.

        Raises `RuntimeFailure` when the engine does not answer.
        """
        async with self._turn:
            now_s = self._clock.monotonic_s()
            if self._last is not None:
                taken_s, had_detail, had_disks, snapshot = self._last
                if now_s - taken_s < SHARED_S and had_detail >= detail and had_disks >= disks:
                    return snapshot
            snapshot = await self._look(detail, disks)
            self._last = now_s, detail, disks, snapshot
            return snapshot

    async def _look(self, detail: bool, disks: bool) -> Snapshot:
        worked = [(each.pod, each.seen.running()) for each in self._pods()]
        worked = [(pod, running) for pod, running in worked if running]
        everyone = [container for _, running in worked for container in running]
        shared = frozenset(pod["metadata"]["uid"] for pod, _ in worked if podspec.is_host_network(pod))
        node = await self.node()
        reading = await self._runtime.usage(everyone, shared, detail=detail)
        if disks:
            await self._measure(worked)
        pods = tuple(self._pod(pod, running, reading, disks) for pod, running in worked)
        self._forget(everyone, worked)
        if not disks:
            return Snapshot(node, pods)
        node_fs, image_fs = await self._file_systems()
        return Snapshot(node, pods, node_fs, image_fs, await self._images_bytes())

    # Parts

    def _node(self, fresh: NodeUsage) -> NodeUsage:
        rate = self._rate("node", fresh.time_s, fresh.cpu_ns, fresh.boot_s)
        return host.with_rate(fresh, rate)

    def _pod(self, pod: Object, running: list[Container], reading: Reading, disks: bool) -> PodUsage:
        uid, now_s = pod["metadata"]["uid"], self._clock.now_s()
        containers = tuple(
            self._container(each, reading, disks, now_s) for each in running if each.id in reading.containers
        )
        usage = reading.pods.get(uid) or total(each.usage for each in containers)
        volumes = self._volumes(pod) if disks else ()
        return PodUsage(
            pod=pod,
            time_s=now_s,
            usage=usage,
            rate_nanocores=self._rate(f"pod/{uid}", now_s, usage.cpu_ns, _began_s(running)),
            containers=containers,
            interfaces=reading.networks.get(uid, ()),
            volumes=volumes,
            ephemeral=_ephemeral(containers, volumes) if disks else None,
        )

    def _container(self, container: Container, reading: Reading, disks: bool, now_s: float) -> ContainerUsage:
        usage = reading.containers[container.id]
        places = self._places.get(container.id) or Places()
        return ContainerUsage(
            container=container,
            time_s=now_s,
            usage=usage,
            rate_nanocores=self._rate(container.id, now_s, usage.cpu_ns, container.started_s),
            cgroup=reading.paths.get(container.id, ""),
            rootfs=self._disks.get(places.rootfs) if disks and places.rootfs else None,
            logs=self._disks.get(places.logs) if disks and places.logs else None,
        )

    def _rate(self, key: str, now_s: float, cpu_ns: int, began_s: float) -> int:
        """Nanocores between this look and the last one that is old enough; at first since `began_s`."""
        last_s, last_ns, rate = self._rates.get(key, (began_s, 0, 0))
        if now_s - last_s >= SHARED_S:
            rate = max(0, int((cpu_ns - last_ns) / (now_s - last_s)))
            self._rates[key] = now_s, cpu_ns, rate
        return rate

    def _forget(self, everyone: list[Container], worked: list[tuple[Object, list[Container]]]) -> None:
        known = {"node", *(each.id for each in everyone)}
        known |= {f"pod/{pod['metadata']['uid']}" for pod, _ in worked}
        self._rates = {key: value for key, value in self._rates.items() if key in known}
        self._places = {key: value for key, value in self._places.items() if key in known}

    # Disks

    async def _measure(self, worked: list[tuple[Object, list[Container]]]) -> None:
        paths: set[Path] = set()
        for pod, running in worked:
            paths.update(self._volume_path(pod, volume["name"]) for volume in _measured(pod))
            for container in running:
                if container.id not in self._places:
                    self._places[container.id] = await self._runtime.places(container.id)
                places = self._places[container.id]
                paths.update(path for path in (places.rootfs, places.logs) if path is not None)
        await self._disks.refresh(paths, DISKS_WAIT_S)

    def _volume_path(self, pod: Object, name: str) -> Path:
        return self._directory / "pods" / str(pod["metadata"]["uid"]) / "volumes" / name

    def _volumes(self, pod: Object) -> tuple[VolumeUse, ...]:
        found = []
        for volume in _measured(pod):
            use = self._disks.get(self._volume_path(pod, volume["name"]))
            if use is not None:
                found.append(VolumeUse(volume["name"], use, _claim(pod, volume), _is_local(volume)))
        return tuple(found)

    async def _file_systems(self) -> tuple[FileSystem | None, FileSystem | None]:
        store = await self._runtime.image_store()
        return (
            await asyncio.to_thread(_file_system, self._directory, self._clock.now_s()),
            await asyncio.to_thread(_file_system, store or self._directory, self._clock.now_s()),
        )

    async def _images_bytes(self) -> int:
        return sum(image.size_bytes for image in await self._runtime.list_images())


def total(usages: Iterable[Usage]) -> Usage:
    """The sum, for a pod that has no cgroup of its own."""
    everyone = list(usages)
    return Usage(**{name: sum(getattr(each, name) for each in everyone) for name in Usage.__slots__})


def _began_s(running: list[Container]) -> float:
    return min((container.started_s for container in running), default=0.0)


def _measured(pod: Object) -> list[Object]:
    """Volumes that have a size of their own on this node."""
    kinds = ("emptyDir", *_LOCAL, "secret", "projected", "persistentVolumeClaim", "ephemeral")
    volumes = pod["spec"].get("volumes") or ()
    return [volume for volume in volumes if any(kind in volume for kind in kinds)]


def _is_local(volume: Object) -> bool:
    if "emptyDir" in volume:
        return not (volume["emptyDir"] or {}).get("medium")
    return any(kind in volume for kind in _LOCAL)


def _claim(pod: Object, volume: Object) -> str:
    if "persistentVolumeClaim" in volume:
        return str(volume["persistentVolumeClaim"]["claimName"])
    return f"{pod['metadata']['name']}-{volume['name']}" if "ephemeral" in volume else ""


def _ephemeral(containers: tuple[ContainerUsage, ...], volumes: tuple[VolumeUse, ...]) -> DiskUse | None:
    disks = [disk for each in containers for disk in (each.rootfs, each.logs) if disk is not None]
    disks += [volume.disk for volume in volumes if volume.local]
    if not disks:
        return None
    used, inodes = sum(disk.used_bytes for disk in disks), sum(disk.inodes_used for disk in disks)
    return DiskUse(min(disk.time_s for disk in disks), used, inodes, disks[0].file_system)


def _file_system(path: Path, now_s: float) -> FileSystem | None:
    try:
        return host.file_system(path, now_s)
    except OSError:
        return None
