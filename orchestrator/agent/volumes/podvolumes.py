"""Volumes of the pods on this node: prepared before a container starts, refreshed after, taken away with the pod.

Below `<root>/<pod uid>`: `volumes/<name>` is a volume (a directory, a mount, or a link to where a claimed one lies),
`volume-subpaths/…` are parts of volumes as containers mount them, `volume-read-only/…` whole ones of which nothing is
writable, `image-volumes/<name>` contents of images. Everything may run twice: what is there is left as it is, also
after a crash or a restart of the host. Called by pod workers; knows of the cluster only what `Sources` fetches. What
touches a disk runs in threads: a path of the host may lie on a file system that does not answer.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.agent.containers import envfile, podfiles
from orchestrator.agent.containers.env import ConfigError, PodFacts
from orchestrator.agent.containers.podfiles import DnsSettings
from orchestrator.agent.volumes import atomic, beneath, claimed, emptydirs, hostpaths, networked
from orchestrator.agent.volumes.atomic import Files
from orchestrator.agent.volumes.containermounts import (
    READ_ONLY_TREES,
    Place,
    container_mounts,
    shared_volumes,
)
from orchestrator.agent.volumes.errors import VolumeError
from orchestrator.agent.volumes.images import DIRECTORY as IMAGES
from orchestrator.agent.volumes.images import ImageVolumes
from orchestrator.agent.volumes.ownership import group_of
from orchestrator.agent.volumes.sources import WRITTEN, Sources, is_secret
from orchestrator.agent.volumes.subpaths import DIRECTORY as SUB_PATHS
from orchestrator.agent.volumes.usage import VolumeUsage, of_pod
from orchestrator.api.errors import ApiError
from orchestrator.api.item import Object
from orchestrator.base import mounting
from orchestrator.runtime.interface import Container, Device, Mount

OF_VOLUMES = ("volumes", SUB_PATHS, READ_ONLY_TREES, IMAGES)
"""What of a pod's directory goes when the pod has ended."""

Placing = Callable[[Object, Object, PodFacts], Awaitable[Place]]
"""(pod, volume, facts) → where the volume is; raises `ConfigError`, `ApiError`, `OSError`."""


@dataclass(frozen=True, slots=True)
class Volumes:
    """The volumes and files of the pods of one node. `root` is the agent's directory of pods."""

    root: Path
    sources: Sources
    dns: DnsSettings
    images: ImageVolumes
    _digests: dict[tuple[str, str], int] = field(default_factory=dict)
    """What was written last into a volume, by pod and name: a refresh that finds the same writes nothing."""

    def pod_dir(self, pod_uid: str) -> Path:
        return self.root / pod_uid

    async def mounts(
        self, pod: Object, container: Object, facts: PodFacts, env: Mapping[str, str], attempt: int
    ) -> list[Mount]:
        """Everything that one incarnation of a container mounts, prepared.

        Raises `VolumeError` for a volume, `SubPathError` for a part of one, `ApiError`, `OSError`.
        """
        places = await self.prepare(pod, facts)
        directory = self.pod_dir(pod["metadata"]["uid"])

        def work() -> list[Mount]:
            podfiles.write(pod, facts.pod_ip, directory, self.dns)
            return [
                *container_mounts(container, places, env, directory),
                *podfiles.mounts(container, directory, attempt),
            ]

        return await asyncio.to_thread(work)

    async def text(self, pod_uid: str, volume: str, path: str) -> str:
        """A file that a container wrote into a volume of the pod's own. Raises `OSError`."""
        return await asyncio.to_thread(
            beneath.read_beneath, self.pod_dir(pod_uid) / "volumes" / volume, path, envfile.TEXT_BYTES_MAX
        )

    async def devices(self, pod: Object, container: Object, facts: PodFacts) -> list[Device]:
        """Volumes that the container is given as block devices. Raises as `mounts` does."""
        found = []
        for device in container.get("volumeDevices") or ():
            volume = next(v for v in pod["spec"]["volumes"] if v["name"] == device["name"])
            place = await self._placed(pod, volume, facts)
            if not place.block:
                text = f"volume {device['name']} has volumeMode Filesystem, but is specified in volumeDevices"
                raise VolumeError.unready(device["name"], text)
            found.append(Device(str(place.path), device["devicePath"], "rm" if place.read_only else "rwm"))
        return found

    async def last_words(self, container: Container) -> str:
        """The termination message of a container that has ended."""
        directory = self.pod_dir(container.pod_uid)
        return await asyncio.to_thread(
            podfiles.read_termination_message, container.name, directory, container.attempt
        )

    async def prepare(self, pod: Object, facts: PodFacts) -> dict[str, Place]:
        """Every volume of the pod, ready to be mounted. Raises `VolumeError` for the first that can't be."""
        places: dict[str, Place] = {}
        for volume in pod["spec"].get("volumes") or ():
            places[volume["name"]] = await self._placed(pod, volume, facts)
        own = self.pod_dir(pod["metadata"]["uid"])
        for name in shared_volumes(pod):
            if name in places and places[name].path.is_relative_to(own):
                await asyncio.to_thread(mounting.share, places[name].path)
        return places

    async def refresh(self, pod: Object, facts: PodFacts) -> None:
        """Bring written volumes up to date (changed config maps, tokens that age). Raises for the first that can't be.

        One that can't be brought up to date stays as it is, and the others are.
        """
        problem: Exception | None = None
        for volume in pod["spec"].get("volumes") or ():
            kind = next((kind for kind in WRITTEN if kind in volume), None)
            if kind is None:
                continue
            try:
                await self._write(pod, volume, kind, facts)
            except (ConfigError, ApiError, OSError) as error:
                problem = problem or VolumeError.mount(volume["name"], error)
        if problem is not None:
            raise problem

    def ages(self, pod: Object) -> bool:
        """Whether the pod has volumes that follow the cluster."""
        return any(kind in volume for volume in pod["spec"].get("volumes") or () for kind in WRITTEN)

    async def usage(self, pod: Object) -> list[VolumeUsage]:
        """What the pod's own volumes take of the node's disk and memory."""
        return await asyncio.to_thread(of_pod, self.pod_dir(pod["metadata"]["uid"]), pod)

    async def retain(self, pod_uids: Collection[str]) -> None:
        """Delete everything of pods that are none of these: what a crash left behind."""
        if self.root.is_dir():
            for uid in {path.name for path in self.root.iterdir()} - set(pod_uids):
                await self.remove(uid)

    async def release(self, pod_uid: str) -> None:
        """Unmount and delete the volumes of a pod that has ended: its memory is free, its claims are nobody's."""
        self.sources.forget(pod_uid)
        for key in [key for key in self._digests if key[0] == pod_uid]:
            del self._digests[key]
        directory = self.pod_dir(pod_uid)
        # Parts of images go before the images, whose files the engine may then delete.
        await asyncio.to_thread(_unmount, directory)
        await self.images.release(directory / IMAGES)
        for name in OF_VOLUMES:
            await asyncio.to_thread(_remove_tree, directory / name)

    async def remove(self, pod_uid: str) -> None:
        """Unmount and delete everything of a pod; an unknown pod is fine."""
        await self.release(pod_uid)
        await asyncio.to_thread(_remove_tree, self.pod_dir(pod_uid))

    # One volume

    async def _placed(self, pod: Object, volume: Object, facts: PodFacts) -> Place:
        name = volume["name"]
        place = next((place for kind, place in self._kinds().items() if kind in volume), None)
        if place is None:
            sort = next((key for key in volume if key != "name"), "nothing")
            text = f'failed to get Plugin from volumeSpec for volume "{name}" err=no volume plugin matched: {sort}'
            raise VolumeError.unready(name, text)
        try:
            return await place(pod, volume, facts)
        except VolumeError:
            raise
        except (ConfigError, ApiError, OSError) as error:
            raise VolumeError.mount(name, error) from error

    def _kinds(self) -> dict[str, Placing]:
        return {
            **dict.fromkeys(WRITTEN, self._written),
            "hostPath": self._host_path,
            "emptyDir": self._empty_dir,
            "persistentVolumeClaim": self._claimed,
            "ephemeral": self._claimed,
            "image": self._image,
            "nfs": self._nfs,
            "csi": self._csi,
        }

    def _path(self, pod: Object, volume: Object) -> Path:
        return self.pod_dir(pod["metadata"]["uid"]) / "volumes" / str(volume["name"])

    async def _host_path(self, pod: Object, volume: Object, facts: PodFacts) -> Place:
        path = await asyncio.to_thread(hostpaths.set_up, volume["name"], volume["hostPath"])
        return Place(path)

    async def _empty_dir(self, pod: Object, volume: Object, facts: PodFacts) -> Place:
        path, source = self._path(pod, volume), volume["emptyDir"]
        allocatable, group = facts.node_allocatable, group_of(pod)
        await asyncio.to_thread(emptydirs.set_up, volume["name"], path, source, pod, allocatable, group)
        return Place(path)

    async def _written(self, pod: Object, volume: Object, facts: PodFacts) -> Place:
        """What was complete once does not keep a container from starting again."""
        kind = next(kind for kind in WRITTEN if kind in volume)
        try:
            path = await self._write(pod, volume, kind, facts)
        except (ConfigError, ApiError):
            path = self._path(pod, volume)
            if not await asyncio.to_thread(atomic.is_written, path):
                raise
        return Place(path, read_only=True)

    async def _write(self, pod: Object, volume: Object, kind: str, facts: PodFacts) -> Path:
        files = await self.sources.files(pod, kind, volume[kind], facts)
        key = (pod["metadata"]["uid"], volume["name"])
        digest, path = hash(frozenset(files.items())), self._path(pod, volume)
        if self._digests.get(key) != digest:
            secret = is_secret(kind, volume[kind])
            await asyncio.to_thread(_write_files, path, files, group_of(pod), in_memory=secret)
            self._digests[key] = digest
        return path

    async def _claimed(self, pod: Object, volume: Object, facts: PodFacts) -> Place:
        sources, link = self.sources, self._path(pod, volume)
        held = await asyncio.to_thread(claimed.is_held, link)
        found = await claimed.volume_of(sources.fetch, sources.clock, pod, volume, facts, held=held)
        policy = (pod["spec"].get("securityContext") or {}).get("fsGroupChangePolicy") or "Always"
        only_read = bool((volume.get("persistentVolumeClaim") or {}).get("readOnly"))
        path = await asyncio.to_thread(
            claimed.set_up, found, link, None if only_read else group_of(pod), policy
        )
        return Place(path, only_read or claimed.is_read_only(found), claimed.is_block(found))

    async def _image(self, pod: Object, volume: Object, facts: PodFacts) -> Place:
        target = self.pod_dir(pod["metadata"]["uid"]) / IMAGES / str(volume["name"])
        await self.images.mount(volume["image"], target)
        return Place(target, read_only=True)

    async def _nfs(self, pod: Object, volume: Object, facts: PodFacts) -> Place:
        path, source = self._path(pod, volume), volume["nfs"]
        await asyncio.to_thread(networked.mount_nfs, volume["name"], source, (), path)
        return Place(path, read_only=bool(source.get("readOnly")))

    async def _csi(self, pod: Object, volume: Object, facts: PodFacts) -> Place:
        raise claimed.no_driver(volume["name"], volume["csi"])


def _write_files(path: Path, files: Files, group: int | None, *, in_memory: bool) -> None:
    """A volume that is complete on disk already stays there: containers may look at it."""
    if in_memory and not atomic.is_written(path):
        path.mkdir(parents=True, exist_ok=True)
        if not mounting.is_mounted(path):
            mounting.mount("tmpfs", path, "tmpfs", "mode=0777")
    atomic.write(path, files, group)


def _unmount(directory: Path) -> None:
    if directory.exists():
        mounting.unmount_below(directory.resolve())


def _remove_tree(directory: Path) -> None:
    """Nothing that is mounted there may still be when files are deleted: they would be somebody else's."""
    if not directory.exists():
        return
    _unmount(directory)
    shutil.rmtree(directory, ignore_errors=False, onerror=_ignore_missing)


def _ignore_missing(
    _function: object, _path: str, info: tuple[type[BaseException], BaseException, object]
) -> None:
    if not isinstance(info[1], FileNotFoundError):
        raise info[1]
