"""Volumes of the pods on this node: directories on disk, prepared before a container starts, refreshed after.

Below `<root>/<pod uid>/volumes/<name>`. Config maps, secrets, downward API and projections are written
atomically: a new directory, then one rename of the symlink `..data`, as clients of such volumes expect. Memory
volumes are tmpfs mounts; a claimed volume is a link to where it lies. Called by pod workers; knows of the cluster
only what `Sources` fetches.
"""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.agent import podspec
from orchestrator.agent.containers import podfiles
from orchestrator.agent.containers.env import ConfigError, PodFacts, expand
from orchestrator.agent.containers.podfiles import DnsSettings
from orchestrator.agent.volumes import claimed as claimedvolumes
from orchestrator.agent.volumes.sources import Files, Sources
from orchestrator.api.item import Object
from orchestrator.runtime.interface import Container, Mount

MOUNT_TIMEOUT_S = 30.0
_WRITTEN = ("configMap", "secret", "downwardAPI", "projected")
_CLAIMED = ("persistentVolumeClaim", "ephemeral")


class VolumeError(ConfigError):
    """A volume can't be set up; the message names volume and cause."""


@dataclass(frozen=True, slots=True)
class Volumes:
    """The volumes and files of the pods of one node. `root` is the agent's directory of pods."""

    root: Path
    sources: Sources
    dns: DnsSettings

    def pod_dir(self, pod_uid: str) -> Path:
        return self.root / pod_uid

    async def mounts(
        self, pod: Object, container: Object, facts: PodFacts, env: Mapping[str, str], attempt: int
    ) -> list[Mount]:
        """Everything that one incarnation of a container mounts, prepared. Raises `ConfigError`, `OSError`."""
        paths = await self.prepare(pod, facts)
        directory = self.pod_dir(pod["metadata"]["uid"])

        def work() -> list[Mount]:
            podfiles.write(pod, facts.pod_ip, directory, self.dns)
            return [
                *volume_mounts(pod, container, paths, env),
                *podfiles.mounts(container, directory, attempt),
            ]

        # In a thread: a path of the host may lie on a file system that does not answer.
        return await asyncio.to_thread(work)

    async def last_words(self, container: Container) -> str:
        """The termination message of a container that has ended."""
        directory = self.pod_dir(container.pod_uid)
        return await asyncio.to_thread(
            podfiles.read_termination_message, container.name, directory, container.attempt
        )

    async def prepare(self, pod: Object, facts: PodFacts) -> dict[str, Path]:
        """Every volume of the pod, ready to be mounted: name → host path. May run again to refresh.

        Raises `ConfigError` when something that a volume names is missing.
        """
        paths: dict[str, Path] = {}
        for volume in pod["spec"].get("volumes") or ():
            paths[volume["name"]] = await self._one(pod, volume, facts)
        return paths

    async def refresh(self, pod: Object, facts: PodFacts) -> None:
        """Bring written volumes up to date (changed config maps, tokens that age)."""
        for volume in pod["spec"].get("volumes") or ():
            if any(kind in volume for kind in _WRITTEN):
                await self._one(pod, volume, facts)

    def ages(self, pod: Object) -> bool:
        """Whether the pod has volumes that follow the cluster."""
        return any(kind in volume for volume in pod["spec"].get("volumes") or () for kind in _WRITTEN)

    async def retain(self, pod_uids: Collection[str]) -> None:
        """Delete everything of pods that are none of these: what a crash left behind."""
        if self.root.is_dir():
            for uid in {path.name for path in self.root.iterdir()} - set(pod_uids):
                await self.remove(uid)

    async def remove(self, pod_uid: str) -> None:
        """Unmount and delete everything of a pod; an unknown pod is fine."""
        self.sources.forget(pod_uid)
        directory = self.pod_dir(pod_uid)
        await asyncio.to_thread(_remove_tree, directory)

    async def _one(self, pod: Object, volume: Object, facts: PodFacts) -> Path:
        name = volume["name"]
        if "hostPath" in volume:
            return await asyncio.to_thread(_host_path, name, volume["hostPath"])
        path: Path = self.pod_dir(pod["metadata"]["uid"]) / "volumes" / name
        if "emptyDir" in volume:
            await asyncio.to_thread(_empty_dir, path, volume["emptyDir"], _fs_group(pod))
            return path
        if any(kind in volume for kind in _CLAIMED):
            return await self._claimed(pod, volume, path, facts)
        kind = next((kind for kind in _WRITTEN if kind in volume), None)
        if kind is None:
            sort = next((key for key in volume if key != "name"), "nothing")
            raise VolumeError(f'volume "{name}": this node does not support volumes of type {sort}')
        files = await self.sources.files(pod, kind, volume[kind], facts)
        await asyncio.to_thread(write_atomically, path, files, _fs_group(pod))
        return path

    async def _claimed(self, pod: Object, volume: Object, link: Path, facts: PodFacts) -> Path:
        held = await asyncio.to_thread(link.is_symlink)
        found = await claimedvolumes.volume_of(
            self.sources.fetch, self.sources.clock, pod, volume, facts, held=held
        )
        policy = (pod["spec"].get("securityContext") or {}).get("fsGroupChangePolicy") or "Always"
        return await asyncio.to_thread(claimedvolumes.set_up, found, link, _fs_group(pod), policy)


def volume_mounts(
    pod: Object, container: Object, volumes: Mapping[str, Path], env: Mapping[str, str]
) -> list[Mount]:
    """The bind mounts of a container's `volumeMounts`. Raises `VolumeError` for a path that escapes."""
    result = []
    for mount in container.get("volumeMounts") or ():
        source = volumes.get(mount["name"])
        if source is None:
            raise VolumeError(f'volumeMount names an unknown volume "{mount["name"]}"')
        sub_path = _sub_path(mount, env)
        if sub_path:
            source = _inside(source, sub_path)
        volume = next(v for v in pod["spec"]["volumes"] if v["name"] == mount["name"])
        result.append(
            Mount(
                host_path=str(source),
                container_path=mount["mountPath"],
                read_only=bool(mount.get("readOnly")) or _is_read_only(volume),
                propagation=mount.get("mountPropagation") or "None",
            )
        )
    return result


def _is_read_only(volume: Object) -> bool:
    claim = volume.get("persistentVolumeClaim") or {}
    return bool(claim.get("readOnly")) or any(kind in volume for kind in _WRITTEN)


def _sub_path(mount: Object, env: Mapping[str, str]) -> str:
    expression = mount.get("subPathExpr")
    if not expression:
        return str(mount.get("subPath", ""))
    text = expand(str(expression), dict(env))
    if "$(" in text:
        raise VolumeError(f"subPathExpr {expression!r} names a variable that the container does not have")
    return text


def _inside(volume: Path, sub_path: str) -> Path:
    """`sub_path` below `volume`, made where it is missing; a symlink must not lead out."""
    root = volume.resolve()
    target = (root / sub_path).resolve()
    if os.path.isabs(sub_path) or not target.is_relative_to(root):
        raise VolumeError(f"subPath {sub_path!r} is outside of the volume")
    if not target.exists():
        target.mkdir(parents=True, mode=0o755)
    return target


def _fs_group(pod: Object) -> int | None:
    group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
    return int(group) if group is not None else None


def _host_path(name: str, source: Object) -> Path:
    path, kind = Path(source["path"]), source.get("type") or ""
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
    elif kind == "FileOrCreate" and not path.exists():
        path.touch(mode=0o644)
    good = {
        "": True,
        "Directory": path.is_dir(),
        "DirectoryOrCreate": path.is_dir(),
        "File": path.is_file(),
        "FileOrCreate": path.is_file(),
        "Socket": path.is_socket(),
        "CharDevice": path.is_char_device(),
        "BlockDevice": path.is_block_device(),
    }
    if not good.get(kind, False):
        raise VolumeError(f'volume "{name}": hostPath type check failed: {path} is not a {kind or "path"}')
    if not kind and not path.exists():
        path.mkdir(parents=True, mode=0o755)
    return path


def _empty_dir(path: Path, source: Object, fs_group: int | None) -> None:
    path.mkdir(parents=True, exist_ok=True)
    if source.get("medium") == "Memory" and not os.path.ismount(path):
        size = podspec.whole(source.get("sizeLimit"))
        options = f"mode=0777,size={size}" if size else "mode=0777"
        _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path))
    path.chmod(0o777 if fs_group is None else 0o2777)
    if fs_group is not None:
        os.chown(path, -1, fs_group)


def write_atomically(path: Path, files: Files, fs_group: int | None) -> None:
    """Make the volume at `path` hold exactly `files`; readers see the old or the new set, never a mixture."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o755)
    current = path / "..data"
    if current.is_symlink() and _same(current.resolve(), files):
        return
    _discard_leftovers(path, current.readlink().name if current.is_symlink() else "")
    fresh = path / f"..{os.urandom(8).hex()}"
    for name, (data, mode) in files.items():
        _write_file(fresh / name, data, mode, fs_group)
    fresh.mkdir(exist_ok=True)
    fresh.chmod(0o755)
    link = path / "..data_tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(fresh.name)
    os.replace(link, current)
    _link_names(path, files)
    _discard_leftovers(path, fresh.name)


def _discard_leftovers(path: Path, current: str) -> None:
    """Directories of earlier writes, also of one that a crash cut off."""
    for entry in path.iterdir():
        if entry.name.startswith("..") and not entry.is_symlink() and entry.name != current:
            shutil.rmtree(entry, ignore_errors=True)


def _write_file(target: Path, data: bytes, mode: int, fs_group: int | None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    if fs_group is not None:
        os.chown(target, -1, fs_group)
        mode |= 0o040
    target.chmod(mode)


def _link_names(path: Path, files: Files) -> None:
    wanted = {name.split("/", 1)[0] for name in files}
    for name in wanted:
        link = path / name
        if not link.is_symlink():
            link.symlink_to(f"..data/{name}")
    for entry in path.iterdir():
        if not entry.name.startswith("..") and entry.name not in wanted:
            entry.unlink()


def _same(directory: Path, files: Files) -> bool:
    found = {str(p.relative_to(directory)): p for p in directory.rglob("*") if p.is_file()}
    return found.keys() == files.keys() and all(
        found[name].read_bytes() == data and (found[name].stat().st_mode & 0o7737) == (mode & 0o7737)
        for name, (data, mode) in files.items()
    )


def _remove_tree(directory: Path) -> None:
    if not directory.exists():
        return
    for mounted in _mounts_below(directory):
        _run("umount", "-l", mounted)
    shutil.rmtree(directory, ignore_errors=False, onerror=_ignore_missing)


def _ignore_missing(
    _function: object, _path: str, info: tuple[type[BaseException], BaseException, object]
) -> None:
    if not isinstance(info[1], FileNotFoundError):
        raise info[1]


def _mounts_below(directory: Path) -> list[str]:
    """Mount points at or below `directory`, innermost first."""
    prefix = str(directory.resolve()) + "/"
    with open("/proc/self/mountinfo") as table:
        points = [line.split()[4].encode().decode("unicode_escape") for line in table]
    return sorted((point for point in points if point.startswith(prefix)), key=len, reverse=True)


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=MOUNT_TIMEOUT_S)
    except (subprocess.SubprocessError, OSError) as error:
        detail = getattr(error, "stderr", b"") or str(error).encode()
        raise VolumeError(f"{' '.join(command)}: {detail.decode(errors='replace').strip()}") from error
