"""Opening and making paths that stay below a directory, whoever changes symlinks meanwhile.

The kernel resolves (`openat2`, Linux 5.6) where it can; elsewhere a walk from descriptor to descriptor does, on which
no name is looked up twice. A symlink may lead anywhere inside; `..` above the directory and absolute links are refused
with EXDEV. All functions block. Called by `subpaths`.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_BENEATH = 0x02, 0x08
_LINKS_MAX = 40
_TRIES = 100
"""A resolution that a rename disturbed is tried again so often."""

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_beneath(root: int, path: str) -> int:
    """A descriptor (`O_PATH`) of `path` below the directory `root`. Raises `OSError`."""
    try:
        return _openat2(root, path or ".")
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
    return walk(root, path)


def read_beneath(root: os.PathLike[str], path: str, bytes_max: int) -> str:
    """The beginning of a plain file below the directory `root`. Raises `OSError`."""
    base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = open_beneath(base, path)
    finally:
        os.close(base)
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise OSError(errno.EINVAL, "it is no plain file", path)
        with open(f"/proc/self/fd/{found}", "rb") as file:
            return file.read(bytes_max).decode("utf-8", "replace")
    finally:
        os.close(found)


def _openat2(root: int, path: str) -> int:
    how = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    size = ctypes.c_size_t(ctypes.sizeof(how))
    code = 0
    for _ in range(_TRIES):
        name = os.fsencode(path)
        found = _libc.syscall(ctypes.c_long(_OPENAT2), ctypes.c_int(root), name, ctypes.byref(how), size)
        if found >= 0:
            return int(found)
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(code, os.strerror(code), path)


def walk(root: int, path: str) -> int:
    """As `open_beneath`, one component after the other."""
    opened = [os.dup(root)]
    try:
        _walk(opened, path)
        return opened.pop()
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _walk(opened: list[int], path: str) -> None:
    """Leave the descriptor of `path` last in `opened`, whose first is the root."""
    left, links = _parts(path), 0
    while left:
        part = left.pop(0)
        if part == "..":
            if len(opened) == 1:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
            os.close(opened.pop())
            continue
        found = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=opened[-1])
        opened.append(found)
        if not stat.S_ISLNK(os.fstat(found).st_mode):
            continue
        links += 1
        if links > _LINKS_MAX:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink("", dir_fd=found)
        os.close(opened.pop())
        left = _parts(target) + left


def _parts(path: str) -> list[str]:
    if path.startswith("/"):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    return [part for part in path.split("/") if part not in ("", ".")]


def make_beneath(root: int, path: str, mode: int) -> int:
    """A descriptor of the directory `path` below `root`, made with `mode` where it is missing. Raises `OSError`."""
    parts = _parts(path)
    here = os.dup(root)
    try:
        for number, part in enumerate(parts, 1):
            try:
                # From the root: a symlink on the way may go up again.
                found = open_beneath(root, "/".join(parts[:number]))
            except FileNotFoundError:
                found = _make(here, part, mode)
            os.close(here)
            here = found
        return os.dup(here)
    finally:
        os.close(here)


def _make(parent: int, name: str, mode: int) -> int:
    """What stands there meanwhile must not be a symlink."""
    made = True
    try:
        os.mkdir(name, mode & 0o777, dir_fd=parent)
    except FileExistsError:
        made = False
    found = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    if made:
        os.fchmod(found, mode)
    return found


@contextmanager
def closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)
