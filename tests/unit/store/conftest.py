"""File layers for the store's tests: one that skips syncs, one that fails on demand."""

import errno
import os
from pathlib import Path

import pytest

from orchestrator.store.disk import Disk


class LazyDisk(Disk):
    """Real files without waiting for the disk: for tests that are not about durability."""

    def _write(self, fd: int, data: bytes, offset: int, flags: int) -> None:
        super()._write(fd, data, offset, 0)

    def sync(self, fd: int) -> None:
        pass

    def allocate(self, fd: int, offset: int, size: int) -> None:
        os.ftruncate(fd, offset + size)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def sync_directory(self, path: Path) -> None:
        pass


class FaultyDisk(LazyDisk):
    """`faults[method]` is a list of outcomes for the next calls: an errno, or 0 for success."""

    def __init__(self) -> None:
        self.faults: dict[str, list[int]] = {}
        self.short_writes = False

    def _maybe_fail(self, method: str) -> None:
        if (outcomes := self.faults.get(method)) and (code := outcomes.pop(0)):
            raise OSError(code, os.strerror(code))

    def create(self, path: Path) -> int:
        self._maybe_fail("create")
        return super().create(path)

    def write_durably(self, fd: int, data: bytes, offset: int) -> None:
        self._maybe_fail("write_durably")
        super().write_durably(fd, data, offset)

    def write_some(self, fd: int, data: memoryview, offset: int, flags: int) -> int:
        self._maybe_fail("write_some")
        return super().write_some(fd, data[: 1 + len(data) // 2] if self.short_writes else data, offset, 0)

    def allocate(self, fd: int, offset: int, size: int) -> None:
        self._maybe_fail("allocate")
        super().allocate(fd, offset, size)

    def sync(self, fd: int) -> None:
        self._maybe_fail("sync")

    def rename(self, source: Path, target: Path) -> None:
        self._maybe_fail("rename")
        super().rename(source, target)

    def sync_directory(self, path: Path) -> None:
        self._maybe_fail("sync_directory")


NO_SPACE = errno.ENOSPC
BROKEN = errno.EIO


@pytest.fixture
def lazy_disk() -> LazyDisk:
    return LazyDisk()


@pytest.fixture
def faulty_disk() -> FaultyDisk:
    return FaultyDisk()
