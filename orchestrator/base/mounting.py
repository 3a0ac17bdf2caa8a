"""Mounts, through the kernel's own calls, and the table of what is mounted.

All functions block and are called from threads. What is mounted already is mounted once more: who does not want that
asks `is_mounted` first. Unmounting what is not mounted is fine. Called by the agent's volumes and by the runtimes.
"""

import ctypes
import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_SHARED = 0x1, 0x20, 0x1000, 0x4000, 0x100000
_MNT_DETACH, _UMOUNT_NOFOLLOW = 0x2, 0x8
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 0x1, os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_MOUNT_ATTR_RDONLY = 0x1
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
"""Numbers of the calls, the same on every architecture."""
_TABLE = Path("/proc/self/mountinfo")
_ESCAPED = (0o40, 0o11, 0o12, 0o134)

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class MountPoint:
    """One line of the table of mounts. `shared` tells that mounts below it propagate."""

    path: str
    kind: str
    shared: bool


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def mount(source: str, target: Path, kind: str, options: str = "", flags: int = 0) -> None:
    """Mount a file system of `kind`. Raises `OSError`."""
    arguments = (source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode())
    if _libc.mount(*arguments) != 0:
        _fail(str(target))


def bind(source: Path | str, target: Path, *, deep: bool = False) -> None:
    """Show `source` at `target`, with what is mounted below it if `deep`. Raises `OSError`."""
    flags = MS_BIND | (MS_REC if deep else 0)
    if _libc.mount(os.fsencode(source), os.fsencode(target), None, ctypes.c_ulong(flags), None) != 0:
        _fail(str(target))


def restrict(target: Path, flags: int) -> None:
    """Give the mount at `target` these flags (`MS_RDONLY` and the like). Raises `OSError`."""
    wanted = ctypes.c_ulong(MS_REMOUNT | MS_BIND | flags)
    if _libc.mount(None, os.fsencode(target), None, wanted, None) != 0:
        _fail(str(target))


def bind_descriptor(descriptor: int, target: Path) -> None:
    """Show at `target` what a descriptor is open on, wherever its name leads by now. Raises `OSError`."""
    bind(f"/proc/self/fd/{descriptor}", target)


def bind_read_only(source: Path, target: Path) -> None:
    """Show `source` at `target`, nothing of it and of what is mounted below it writable.

    Raises `OSError`; ENOSYS where the kernel can't (before 5.12).
    """
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_RECURSIVE
    tree = _syscall(_OPEN_TREE, ctypes.c_int(_AT_FDCWD), os.fsencode(source), ctypes.c_uint(flags))
    try:
        wanted = _MountAttr(attr_set=_MOUNT_ATTR_RDONLY)
        how = ctypes.c_uint(_AT_EMPTY_PATH | _AT_RECURSIVE)
        size = ctypes.c_size_t(ctypes.sizeof(wanted))
        _syscall(_MOUNT_SETATTR, ctypes.c_int(tree), b"", how, ctypes.byref(wanted), size)
        where = (ctypes.c_int(_AT_FDCWD), os.fsencode(target), ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH))
        _syscall(_MOVE_MOUNT, ctypes.c_int(tree), b"", *where)
    finally:
        os.close(tree)


def share(directory: Path) -> None:
    """Make mounts below `directory` visible in both directions, through a mount of its own where it has none."""
    holder = holding(directory, table())
    if holder is not None and holder.shared:
        return
    if holder is None or holder.path != str(directory):
        bind(directory, directory, deep=True)
    if _libc.mount(b"none", os.fsencode(directory), None, ctypes.c_ulong(MS_SHARED | MS_REC), None) != 0:
        _fail(str(directory))


def unmount(target: Path | str) -> None:
    """Take one mount away, lazily where it is busy or its server does not answer. Raises `OSError`."""
    path = os.fsencode(target)
    if _libc.umount2(path, _UMOUNT_NOFOLLOW) == 0:
        return
    if ctypes.get_errno() in (errno.EINVAL, errno.ENOENT):
        return
    if _libc.umount2(path, _UMOUNT_NOFOLLOW | _MNT_DETACH) != 0 and ctypes.get_errno() != errno.EINVAL:
        _fail(os.fsdecode(path))


def unmount_below(directory: Path) -> None:
    """Unmount everything below `directory`, what lies on top first. Raises `OSError` if something stays."""
    for _ in range(3):
        found = below(directory, table())
        if not found:
            return
        for point in found:
            unmount(point.path)
    left = below(directory, table())
    if left:
        raise OSError(errno.EBUSY, "still mounted", left[0].path)


def is_mounted(path: Path, kind: str = "") -> bool:
    """Whether `path`, without symlinks in it, is a mount point (of a file system of `kind`)."""
    text = _TABLE.read_text(errors="surrogateescape")
    if f" {_escaped(str(path))} " not in text:
        return False  # Mostly, and a thousand lines need not be taken apart for it.
    return any(point.path == str(path) and kind in ("", point.kind) for point in parse(text))


def table() -> list[MountPoint]:
    """What is mounted, in the order in which it was."""
    return parse(_TABLE.read_text(errors="surrogateescape"))


def parse(text: str) -> list[MountPoint]:
    """The lines of `/proc/self/mountinfo`. Source: proc_pid_mountinfo(5)."""
    found = []
    for line in text.splitlines():
        fields = line.split(" ")
        rest = fields.index("-")
        shared = any(field.startswith("shared:") for field in fields[6:rest])
        found.append(MountPoint(_unescaped(fields[4]), fields[rest + 1], shared))
    return found


def below(directory: Path, points: Iterable[MountPoint]) -> list[MountPoint]:
    """Mount points strictly below `directory`, the newest and innermost first."""
    prefix = f"{directory}/"
    return [point for point in reversed(list(points)) if point.path.startswith(prefix)]


def holding(path: Path, points: Iterable[MountPoint]) -> MountPoint | None:
    """The mount that `path` lies on."""
    holders = [p for p in points if p.path in ("/", str(path)) or str(path).startswith(f"{p.path}/")]
    longest = max((len(point.path) for point in holders), default=0)
    return next((point for point in reversed(holders) if len(point.path) == longest), None)


def _unescaped(text: str) -> str:
    """The kernel writes space, tab, newline and backslash as three octal digits."""
    for number in _ESCAPED:
        text = text.replace(f"\\{number:03o}", chr(number))
    return text


def _escaped(text: str) -> str:
    for number in reversed(_ESCAPED):
        text = text.replace(chr(number), f"\\{number:03o}")
    return text


def _syscall(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        _fail("")
    return result


def _fail(path: str) -> None:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code), path)
