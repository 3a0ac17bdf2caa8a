"""The host's devices as an OCI spec lists them: all for a privileged container, single ones by their path. Blocking.

Called by `containerd`.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.runtime.interface import Device, RuntimeFailure

NO_DEVICES = ("pts", "shm", "fd", "mqueue", "console", ".lxc", ".lxd-mounts", ".udev")
"""Below /dev, but made by runc in each container."""

Oci = dict[str, Any]


def host_devices(root: Path = Path("/dev")) -> list[Oci]:
    """Every device below `root`."""
    found = []
    for directory, names, files in os.walk(root):
        if Path(directory) == root:
            names[:] = [name for name in names if name not in NO_DEVICES]
            files = [name for name in files if name not in NO_DEVICES]
        for name in files:
            path = os.path.join(directory, name)
            with suppress(OSError):
                facts = os.lstat(path)
                if _kind(facts):
                    found.append(_device(path, facts))
    return found


def asked(device: Device) -> list[Oci]:
    """One device, or all below a directory. Raises `RuntimeFailure` for what is neither."""
    try:
        if os.path.isdir(device.host_path):
            inner = host_devices(Path(device.host_path))
            place = len(device.host_path)
            return [{**each, "path": device.container_path + each["path"][place:]} for each in inner]
        facts = os.stat(device.host_path)
    except OSError as error:
        raise RuntimeFailure(
            f'error gathering device information while adding custom device "{device.host_path}": '
            f"{(error.strerror or str(error)).lower()}",
            "CreateContainerError",
        ) from error
    if not _kind(facts):
        raise RuntimeFailure(f'"{device.host_path}" is not a device node', "CreateContainerError")
    return [_device(device.container_path, facts)]


def rule(device: Oci, permissions: str) -> Oci:
    """The right to use it, for the cgroup."""
    known = {key: device[key] for key in ("type", "major", "minor")}
    return {"allow": True, **known, "access": permissions}


def _kind(facts: os.stat_result) -> str:
    return "c" if stat.S_ISCHR(facts.st_mode) else "b" if stat.S_ISBLK(facts.st_mode) else ""


def _device(path: str, facts: os.stat_result) -> Oci:
    return {
        "path": path,
        "type": _kind(facts),
        "major": os.major(facts.st_rdev),
        "minor": os.minor(facts.st_rdev),
        "fileMode": stat.S_IMODE(facts.st_mode),
        "uid": facts.st_uid,
        "gid": facts.st_gid,
    }
