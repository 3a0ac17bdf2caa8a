"""The store's disk in memory: as fast as a dictionary, and it keeps a journal of everything that was asked of it.

What reads return is what a running process sees (the page cache). What a power loss would leave is worked out
from the journal, by `medium`. Every method may be called from any thread.
"""

import errno
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from orchestrator.store.disk import Disk


class File:
    """Contents; bytes from the end of `data` up to `size` are zero."""

    __slots__ = ("data", "size")

    def __init__(self, data: bytes | bytearray = b"", size: int = 0) -> None:
        self.data = bytearray(data)
        self.size = max(size, len(data))

    def read(self, size: int, offset: int) -> bytes:
        size = max(0, min(size, self.size - offset))
        return bytes(self.data[offset : offset + size]).ljust(size, b"\0")

    def write(self, data: bytes, offset: int) -> None:
        if offset > len(self.data):
            self.data.extend(bytes(offset - len(self.data)))
        self.data[offset : offset + len(data)] = data
        self.size = max(self.size, len(self.data))

    def resize(self, size: int) -> None:
        del self.data[size:]
        self.size = size

    def copy(self) -> "File":
        return File(self.data, self.size)


Image = Mapping[str, File]
"""Files by path: what a disk holds when a process starts on it."""


class Write(NamedTuple):
    """`durable`: on the medium when the call returned."""

    file: int
    offset: int
    data: bytes
    durable: bool


class Grow(NamedTuple):
    file: int
    size: int


class Cut(NamedTuple):
    file: int
    size: int


class Sync(NamedTuple):
    file: int


class Link(NamedTuple):
    path: str
    file: int


class Unlink(NamedTuple):
    path: str


class Rename(NamedTuple):
    source: str
    target: str
    file: int


class SyncNames(NamedTuple):
    """A directory was synced."""

    directory: str


class Spoiled(NamedTuple):
    """A write or sync of the file failed: what waits for the medium may reach it or not, whatever comes later."""

    file: int


class SpoiledNames(NamedTuple):
    """The sync of a directory failed: likewise for its names."""

    directory: str


class Mark(NamedTuple):
    """Not of the disk: the workload's own note of what had happened by then."""

    note: object


Op = Write | Grow | Cut | Sync | Link | Unlink | Rename | SyncNames | Spoiled | SpoiledNames | Mark


def no_such_file(path: Path) -> OSError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


class MemoryDisk(Disk):
    """Starts with the files of `image`, which it does not change; file numbers are those of its paths, sorted."""

    def __init__(self, image: Image | None = None) -> None:
        self.journal: list[Op] = []
        self._image = dict(image or {})
        self._mutex = threading.RLock()
        self._files = [file.copy() for _, file in sorted(self._image.items())]
        self._names = {path: number for number, path in enumerate(sorted(self._image))}
        self._directories = {str(Path(path).parent) for path in self._image}
        self._open: dict[int, int] = {}
        self._opened: dict[int, str] = {}
        self._locks: dict[int, str] = {}
        self._next_fd = 1_000_000

    @property
    def open_files(self) -> list[str]:
        """Paths under which what has not been closed was opened."""
        return sorted([*self._opened.values(), *self._locks.values()])

    @classmethod
    def resumed(cls, image: Image, journal: Sequence[Op]) -> "MemoryDisk":
        """As a journal left it, with everything in the cache that a killed process had written."""
        disk = cls(image)
        for op in journal:
            disk._repeat(op)
            disk._log(op)
        return disk

    def _repeat(self, op: Op) -> None:
        if isinstance(op, Write):
            self._files[op.file].write(op.data, op.offset)
        elif isinstance(op, Cut) or (isinstance(op, Grow) and op.size > self._files[op.file].size):
            self._files[op.file].resize(op.size)
        elif isinstance(op, Link):
            if op.file == len(self._files):
                self._files.append(File())
            self._names[op.path] = op.file
            self._directories.add(str(Path(op.path).parent))
        elif isinstance(op, Unlink):
            self._names.pop(op.path, None)
        elif isinstance(op, Rename):
            self._names.pop(op.source, None)
            self._names[op.target] = op.file

    def mark(self, note: object) -> None:
        with self._mutex:
            self.journal.append(Mark(note))

    def image(self) -> dict[str, File]:
        """What another process would find now, without a power loss."""
        with self._mutex:
            return {path: self._files[number].copy() for path, number in self._names.items()}

    def first_image(self) -> Image:
        return self._image

    def _log(self, op: Op) -> None:
        self.journal.append(op)

    def _fd(self, path: Path, number: int) -> int:
        self._next_fd += 1
        self._open[self._next_fd] = number
        self._opened[self._next_fd] = str(path)
        return self._next_fd

    def _file(self, fd: int) -> tuple[int, File]:
        if fd not in self._open:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        number = self._open[fd]
        return number, self._files[number]

    def make_directory(self, path: Path) -> None:
        self._directories.add(str(path))

    def lock(self, path: Path) -> int:
        with self._mutex:
            if str(path) in self._locks.values():
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path))
            self._next_fd += 1
            self._locks[self._next_fd] = str(path)
            return self._next_fd

    def create(self, path: Path) -> int:
        with self._mutex:
            if (number := self._names.get(str(path))) is not None:
                self._files[number].resize(0)
                self._log(Cut(number, 0))
            else:
                number = self._names[str(path)] = len(self._files)
                self._files.append(File())
                self._log(Link(str(path), number))
            return self._fd(path, number)

    def open(self, path: Path) -> int:
        with self._mutex:
            if str(path) not in self._names:
                raise no_such_file(path)
            return self._fd(path, self._names[str(path)])

    def close(self, fd: int) -> None:
        with self._mutex:
            self._opened.pop(fd, None)
            if self._open.pop(fd, None) is None and self._locks.pop(fd, None) is None:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def size(self, fd: int) -> int:
        with self._mutex:
            return self._file(fd)[1].size

    def read(self, fd: int, size: int, offset: int) -> bytes:
        with self._mutex:
            return self._file(fd)[1].read(size, offset)

    def write_some(self, fd: int, data: memoryview, offset: int, flags: int) -> int:
        with self._mutex:
            number, file = self._file(fd)
            written = bytes(data)
            file.write(written, offset)
            self._log(Write(number, offset, written, bool(flags & os.RWF_DSYNC)))
            return len(written)

    def sync(self, fd: int) -> None:
        with self._mutex:
            self._log(Sync(self._file(fd)[0]))

    def allocate(self, fd: int, offset: int, size: int) -> None:
        with self._mutex:
            number, file = self._file(fd)
            if offset + size > file.size:
                file.resize(offset + size)
            self._log(Grow(number, offset + size))
            self._log(Sync(number))

    def truncate(self, fd: int, size: int) -> None:
        with self._mutex:
            number, file = self._file(fd)
            file.resize(size)
            self._log(Cut(number, size))
            self._log(Sync(number))

    def rename(self, source: Path, target: Path) -> None:
        with self._mutex:
            if str(source) not in self._names:
                raise no_such_file(source)
            number = self._names.pop(str(source))
            self._names[str(target)] = number
            self._log(Rename(str(source), str(target), number))

    def link(self, source: Path, target: Path) -> None:
        with self._mutex:
            if str(source) not in self._names:
                raise no_such_file(source)
            if str(target) in self._names:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
            number = self._names[str(target)] = self._names[str(source)]
            self._log(Link(str(target), number))

    def unlink(self, path: Path) -> None:
        with self._mutex:
            if self._names.pop(str(path), None) is not None:
                self._log(Unlink(str(path)))

    def names(self, directory: Path) -> list[str]:
        with self._mutex:
            if str(directory) not in self._directories:
                raise no_such_file(directory)
            return sorted(Path(path).name for path in self._names if str(Path(path).parent) == str(directory))

    def sync_directory(self, path: Path) -> None:
        with self._mutex:
            self._log(SyncNames(str(path)))
