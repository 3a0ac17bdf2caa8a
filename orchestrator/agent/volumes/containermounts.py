"""From a container's `volumeMounts` to what the engine is told to mount. Blocking; called by `podvolumes`."""

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.agent import podspec
from orchestrator.agent.volumes import subpaths
from orchestrator.agent.volumes.errors import SubPathError, VolumeError
from orchestrator.api.item import Object
from orchestrator.base import mounting
from orchestrator.runtime.interface import Mount

READ_ONLY_TREES = "volume-read-only"
PROPAGATING = ("HostToContainer", "Bidirectional")
_CANNOT = (errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a volume is on the host. `block` tells that it is a device and not a directory."""

    path: Path
    read_only: bool = False
    block: bool = False


def shared_volumes(pod: Object) -> set[str]:
    """Names of volumes whose mounts are to pass between host and containers."""
    return {
        mount["name"]
        for container in podspec.all_containers(pod)
        for mount in container.get("volumeMounts") or ()
        if mount.get("mountPropagation") in PROPAGATING
    }


def container_mounts(
    container: Object, places: Mapping[str, Place], env: Mapping[str, str], directory: Path
) -> list[Mount]:
    """The bind mounts of one container; `directory` is its pod's. Raises `VolumeError`, `SubPathError`, `OSError`."""
    found = []
    for number, mount in enumerate(container.get("volumeMounts") or ()):
        name = mount["name"]
        if name not in places:
            raise VolumeError.unready(name, f'no volume with name "{name}" in the pod')
        place = places[name]
        if place.block:
            text = f"volume {name} has volumeMode Block, but is specified in volumeMounts"
            raise VolumeError.unready(name, text)
        source = _source(container["name"], number, mount, place, env, directory)
        read_only = bool(mount.get("readOnly")) or place.read_only
        if read_only and mount.get("recursiveReadOnly") in ("IfPossible", "Enabled"):
            target = directory / READ_ONLY_TREES / container["name"] / str(number)
            source = _read_only_tree(source, target, mount)
        found.append(
            Mount(str(source), mount["mountPath"], read_only, mount.get("mountPropagation") or "None")
        )
    return found


def _source(
    container: str, number: int, mount: Object, place: Place, env: Mapping[str, str], directory: Path
) -> Path:
    part = subpaths.sub_path(mount, env)
    if not part:
        return place.path
    target = directory / subpaths.DIRECTORY / mount["name"] / container / str(number)
    try:
        return subpaths.mount_part(place.path, part, target)
    except OSError as error:
        named = f'volumeMount "{mount["name"]}" of container "{container}"'
        raise SubPathError(f"failed to prepare subPath for {named}: {error.strerror}") from error


def _read_only_tree(source: Path, target: Path, mount: Object) -> Path:
    try:
        if mounting.is_mounted(target):
            mounting.unmount(target)
        subpaths.make_target(target, directory=source.is_dir())
        mounting.bind_read_only(source, target)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        if mount["recursiveReadOnly"] == "IfPossible":
            return source
        text = f'volume "{mount["name"]}" requested recursive read-only mode, but it is not supported by the kernel'
        raise SubPathError(text) from error
    return target
