"""A segment is filled with zeros beside the writer, which may take it meanwhile: no failure gets lost there."""

import asyncio
import errno
import os
import threading

import pytest

from orchestrator.base.clock import VirtualClock
from orchestrator.store.engine import LogStore
from orchestrator.store.interface import Put, StoppedError, Txn
from orchestrator.store.settings import KIB, LogSettings
from tests.store.ledger import STORE
from tests.store.memory_disk import MemoryDisk

SMALL_SEGMENTS = LogSettings(segment_bytes=16 * KIB)
WRITES_MAX = 10_000


class LateFillDisk(MemoryDisk):
    """The sync of a segment that is being filled comes back only when the segment is in use, and fails."""

    def __init__(self) -> None:
        super().__init__()
        self.in_use = threading.Event()
        self.failed = threading.Event()
        self.filling: set[int] = set()
        self.writing: set[int] = set()
        self._filled: set[int] = set()

    def write(self, fd: int, data: bytes, offset: int) -> None:
        if not any(data):
            self.filling.add(fd)
            self._filled.add(self._open[fd])
        super().write(fd, data, offset)

    def write_durably(self, fd: int, data: bytes, offset: int) -> None:
        super().write_durably(fd, data, offset)
        if self._open[fd] in self._filled and offset:
            self.writing.add(fd)
            self.in_use.set()

    def sync(self, fd: int) -> None:
        if fd in self.filling and not self.failed.is_set():
            assert self.in_use.wait(20)
            self.failed.set()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync(fd)


async def put(store: LogStore, number: int) -> None:
    await store.transact(Txn((), (Put(f"/{number % 7}", b"x" * 100),)))


async def test_failed_sync_of_a_segment_that_came_into_use_stops_the_store() -> None:
    """It may have been the batches' pages that failed."""
    disk = LateFillDisk()
    store = await LogStore.open(STORE, VirtualClock(), disk=disk, settings=SMALL_SEGMENTS)
    async with asyncio.timeout(30):
        with pytest.raises(StoppedError):
            for number in range(WRITES_MAX):
                await put(store, number)
    assert disk.failed.is_set() and not store.healthy
    await store.close()


async def test_such_a_store_says_so_before_anybody_writes() -> None:
    disk = LateFillDisk()
    store = await LogStore.open(STORE, VirtualClock(), disk=disk, settings=SMALL_SEGMENTS)
    async with asyncio.timeout(30):
        for number in range(WRITES_MAX):
            await put(store, number)
            if disk.in_use.is_set():
                break
        while store.healthy:  # noqa: ASYNC110 - what a thread does is waited for
            await asyncio.sleep(0.001)
    assert "failed" in store.fault
    await store.close()


async def test_filling_takes_no_error_that_is_the_writers() -> None:
    """Linux tells of a failed write-back once per open file: hence the two must not share one."""
    disk = LateFillDisk()
    disk.failed.set()
    store = await LogStore.open(STORE, VirtualClock(), disk=disk, settings=SMALL_SEGMENTS)
    async with asyncio.timeout(30):
        for number in range(WRITES_MAX):
            await put(store, number)
            if disk.in_use.is_set():
                break
    assert disk.filling and disk.writing and not disk.filling & disk.writing
    await store.close()
    assert not disk.open_files
