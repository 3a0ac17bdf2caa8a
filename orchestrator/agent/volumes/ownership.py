"""`fsGroup`: everything in a volume belongs to the pod's group and is open to it. Blocking.

Source of the modes: Kubernetes' `SetVolumeOwnership`. No symlink is followed: a volume may be in use by other pods,
whose containers may exchange its files meanwhile.
"""

import os
import stat
from pathlib import Path

_FILE, _READ_ONLY_FILE, _DIRECTORY = 0o660, 0o440, stat.S_ISGID | 0o110


def give_to_group(root: Path, group: int, *, policy: str = "Always", read_only: bool = False) -> None:
    """`root` and all below; with the policy `OnRootMismatch` only where `root` does not say that it is done."""
    base = _READ_ONLY_FILE if read_only else _FILE
    if policy == "OnRootMismatch" and _is_done(root.stat(), group, base | _DIRECTORY):
        return
    # The root last: it tells that all is done.
    for _, directories, files, descriptor in os.fwalk(root, topdown=False, follow_symlinks=False):
        for name in (*files, *directories):
            _give(name, descriptor, group, base)
    parent = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chown(root, -1, group)
        _open_up(parent, base)
    finally:
        os.close(parent)


def _is_done(facts: os.stat_result, group: int, mode: int) -> bool:
    return facts.st_gid == group and facts.st_mode & mode == mode


def _give(name: str, directory: int, group: int, base: int) -> None:
    try:
        os.chown(name, -1, group, dir_fd=directory, follow_symlinks=False)
        found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return
    try:
        _open_up(found, base)
    finally:
        os.close(found)


def _open_up(found: int, base: int) -> None:
    mode = os.fstat(found).st_mode
    if stat.S_ISLNK(mode):
        return
    wanted = base | (_DIRECTORY if stat.S_ISDIR(mode) else 0)
    os.chmod(f"/proc/self/fd/{found}", stat.S_IMODE(mode) | wanted)


def group_of(pod: dict[str, object]) -> int | None:
    """The pod's `fsGroup`."""
    spec = pod["spec"]
    context = (spec.get("securityContext") or {}) if isinstance(spec, dict) else {}
    group = context.get("fsGroup")
    return int(group) if group is not None else None
