"""A log of format 1 becomes a store of today, whichever step of that a crash hits; the old file is kept."""

import os
from pathlib import Path

import pytest
from google_crc32c import value as crc32c

from orchestrator.base.clock import VirtualClock
from orchestrator.base.errors import StartupError
from orchestrator.store.disk import Disk
from orchestrator.store.engine import LogStore
from orchestrator.store.format_1 import BACKUP
from orchestrator.store.header import FIELDS_1, HEADER_BYTES, SEGMENT_MAGIC, DamagedLogError
from orchestrator.store.interface import Put, Txn
from orchestrator.store.record import (
    DELETE,
    GRANT,
    PUT,
    Operation,
    Record,
    encode_batch,
    number_value,
)

NAME = "0000000000000002.log"
BATCHES = [
    [Record(0, [Operation(GRANT, 7, "", number_value(60))])],
    [Record(1, [Operation(PUT, 7, "/a", b"1"), Operation(PUT, 0, "/b", b"1")])],
    [Record(2, [Operation(PUT, 0, "/b", b"2")]), Record(3, [Operation(DELETE, 0, "/a", b"")])],
]


def format_1(version: int = 1) -> bytes:
    """A file as the first version of this project wrote it."""
    salt = os.urandom(16)
    fields = FIELDS_1.pack(SEGMENT_MAGIC, version, HEADER_BYTES, b"i" * 16, 2, 0, salt, bytes(32))
    header = (fields + crc32c(fields).to_bytes(4, "little")).ljust(HEADER_BYTES, b"\0")
    batches = [encode_batch(batch, n + 1, crc32c(salt)) for n, batch in enumerate(BATCHES)]
    return header + b"".join(batches) + bytes(10_000)


async def check(path: Path, disk: Disk, torn: bool = False) -> None:
    store = await LogStore.open(path, VirtualClock(), disk=disk)
    entry = await store.get("/b")
    assert entry is not None
    found = (store.revision, entry.value, entry.revision, entry.create_revision, entry.version)
    assert found == ((1, b"1", 1, 1, 1) if torn else (3, b"2", 2, 1, 2))
    assert (await store.get("/a") is not None) == torn
    assert await store.lease_keep_alive(7) == 60 and await store.lease_grant(5) == 8
    result = await store.transact(Txn((), (Put("/c", b"v"),)))
    await store.close()
    store = await LogStore.open(path, VirtualClock(), disk=disk)
    assert store.revision == result.revision
    await store.close()


async def test_old_log_is_migrated_and_kept(tmp_path: Path, lazy_disk: Disk) -> None:
    data = format_1()
    (tmp_path / NAME).write_bytes(data)
    (tmp_path / "0000000000000001.log").write_bytes(b"superseded")
    await check(tmp_path, lazy_disk)
    assert (tmp_path / BACKUP / NAME).read_bytes() == data
    assert not any(name.endswith(".log") for name in lazy_disk.names(tmp_path))


async def test_torn_tail_of_an_old_log_is_dropped(tmp_path: Path, lazy_disk: Disk) -> None:
    data = format_1().rstrip(b"\0")[:-3]
    (tmp_path / NAME).write_bytes(data)
    await check(tmp_path, lazy_disk, torn=True)


async def test_damaged_old_log_is_refused_and_left_alone(tmp_path: Path, lazy_disk: Disk) -> None:
    data = bytearray(format_1())
    data[HEADER_BYTES + 60] ^= 1
    (tmp_path / NAME).write_bytes(bytes(data))
    with pytest.raises(DamagedLogError):
        await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk)
    assert set(lazy_disk.names(tmp_path)) == {"LOCK", NAME}


class Stopping(Disk):
    """Raises at the n-th call that changes something."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def _count(self) -> None:
        self.calls -= 1
        if self.calls < 0:
            raise OSError(5, "the process ends here")

    def create(self, path: Path) -> int:
        self._count()
        return super().create(path)

    def _write(self, fd: int, data: bytes, offset: int, flags: int) -> None:
        self._count()
        super()._write(fd, data, offset, 0)

    def sync(self, fd: int) -> None:
        self._count()

    def rename(self, source: Path, target: Path) -> None:
        self._count()
        super().rename(source, target)

    def sync_directory(self, path: Path) -> None:
        self._count()


async def test_migration_goes_on_after_a_crash_at_any_step(tmp_path: Path, lazy_disk: Disk) -> None:
    data = format_1()
    for calls in range(30):
        directory = tmp_path / str(calls)
        directory.mkdir()
        (directory / NAME).write_bytes(data)
        try:
            store = await LogStore.open(directory, VirtualClock(), disk=Stopping(calls))
        except OSError:
            await check(directory, lazy_disk)
            assert (directory / BACKUP / NAME).read_bytes() == data
        else:
            await store.close()
            break
    else:
        raise AssertionError("the migration has more steps than were tried")
    assert calls > 8


async def test_old_log_beside_another_store_is_refused(tmp_path: Path, lazy_disk: Disk) -> None:
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk)
    await store.transact(Txn((), (Put("/a", b"v"),)))
    await store.close()
    (tmp_path / NAME).write_bytes(format_1())
    with pytest.raises(StartupError, match="two stores"):
        await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk)


async def test_newer_format_in_a_file_of_the_old_name_is_refused(tmp_path: Path, lazy_disk: Disk) -> None:
    (tmp_path / NAME).write_bytes(format_1(version=3))
    with pytest.raises(StartupError, match="format 3"):
        await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk)
