"""Files that are superseded: what can't be removed is not forgotten, and nobody is told that it is gone."""

import asyncio
import errno
import gc
import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.assembly.health import check_store
from orchestrator.base.clock import VirtualClock
from orchestrator.store.engine import LogStore
from orchestrator.store.files import finish
from orchestrator.store.interface import Put, StoreError, Txn
from orchestrator.store.settings import KIB, LogSettings
from tests.unit.store.conftest import BROKEN, FaultyDisk, LazyDisk

SMALL = LogSettings(segment_bytes=16 * KIB, snapshot_bytes=1024 * KIB)


class StickyDisk(LazyDisk):
    """Does not remove files with certain endings; counts syncs of the directory after removals."""

    def __init__(self) -> None:
        self.sticky: tuple[str, ...] = ()
        self.unsynced = False

    def unlink(self, path: Path) -> None:
        if path.suffix in self.sticky:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(path))
        super().unlink(path)
        self.unsynced = True

    def sync_directory(self, path: Path) -> None:
        super().sync_directory(path)
        self.unsynced = False


async def opened(path: Path, disk: LazyDisk) -> LogStore:
    return await LogStore.open(path, VirtualClock(), disk=disk, settings=SMALL)


async def fill(store: LogStore, value: bytes) -> None:
    for number in range(30):
        await store.transact(Txn((), (Put(f"/{number}", value * 100),)))


def anywhere(directory: Path, value: bytes) -> bool:
    return any(value * 10 in path.read_bytes() for path in directory.iterdir())


def names(directory: Path, *suffixes: str) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.suffix in suffixes)


@pytest.mark.parametrize("suffix", [".segment", ".snapshot"])
async def test_renewal_fails_while_an_old_file_is_there(tmp_path: Path, suffix: str) -> None:
    disk = StickyDisk()
    store = await opened(tmp_path, disk)
    await fill(store, b"old")
    await store.snapshot()
    await fill(store, b"new")
    disk.sticky = (suffix,)
    with pytest.raises(StoreError, match=f"{suffix}.* could not be removed"):
        await store.renew()
    assert anywhere(tmp_path, b"old")
    disk.sticky = ()
    await store.renew()
    assert not anywhere(tmp_path, b"old") and not disk.unsynced
    await store.close()


async def test_file_that_a_start_could_not_remove_is_not_forgotten(tmp_path: Path) -> None:
    disk = StickyDisk()
    store = await opened(tmp_path, disk)
    await fill(store, b"old")
    disk.sticky = (".segment",)
    with pytest.raises(StoreError, match="could not be removed"):
        await store.renew()
    await store.close()
    store = await opened(tmp_path, disk)
    with pytest.raises(StoreError, match="could not be removed"):
        await store.renew()
    disk.sticky = ()
    await store.renew()
    assert len(names(tmp_path, ".snapshot")) == 1
    assert "0000000000000001.segment" not in names(tmp_path, ".segment")
    await store.close()


async def test_renewal_fails_when_the_removal_is_not_on_disk(tmp_path: Path, faulty_disk: FaultyDisk) -> None:
    store = await opened(tmp_path, faulty_disk)
    await fill(store, b"old")
    await store.renew()
    store._snapshotter._doomed.append(tmp_path / "0000000000000001.segment")
    faulty_disk.faults["sync_directory"] = [BROKEN]
    await store._snapshotter.tidy()
    with pytest.raises(StoreError, match="could not be synced"):
        store._snapshotter.check_removed()
    await store.renew()
    await store.close()


async def test_snapshots_whose_name_could_not_be_synced_do_not_pile_up(
    tmp_path: Path, faulty_disk: FaultyDisk
) -> None:
    store = await opened(tmp_path, faulty_disk)
    for number in range(4):
        await store.transact(Txn((), (Put("/a", b"%d" % number),)))
        for _ in range(2):
            faulty_disk.faults["sync_directory"] = [BROKEN]
            with pytest.raises(OSError):
                await store._snapshotter.run()
    await store._snapshotter.run()
    assert names(tmp_path, ".snapshot", ".tmp") == [f"{store.revision:016x}.snapshot"]
    expected = [entry.value for entry in (await store.range("/")).entries]
    await store.close()
    store = await opened(tmp_path, faulty_disk)
    assert [entry.value for entry in (await store.range("/")).entries] == expected
    await store.close()


async def test_snapshot_in_use_stays_when_its_successor_of_the_same_revision_fails(
    tmp_path: Path, faulty_disk: FaultyDisk
) -> None:
    store = await opened(tmp_path, faulty_disk)
    await fill(store, b"old")
    await store.snapshot()
    faulty_disk.faults["sync_directory"] = [BROKEN]
    with pytest.raises(OSError):
        await store._snapshotter.run()
    await store._snapshotter.tidy()
    await store.close()
    store = await opened(tmp_path, faulty_disk)
    assert len((await store.range("/")).entries) == 30
    await store.close()


async def test_store_that_went_back_to_an_older_snapshot_says_so(tmp_path: Path) -> None:
    disk = StickyDisk()
    store = await opened(tmp_path, disk)
    await fill(store, b"old")
    await store.snapshot()
    await fill(store, b"new")
    await store.snapshot()
    await store.close()
    newest = tmp_path / names(tmp_path, ".snapshot")[-1]
    data = bytearray(newest.read_bytes())
    data[5000] ^= 1
    newest.write_bytes(data)
    store = await opened(tmp_path, disk)
    assert store.damaged_snapshots == (newest,) and store.stats()["damaged_snapshots"] == 1
    assert newest.name in await check_store(store)
    await store.transact(Txn((), (Put("/a", b"v"),)))
    await store.renew()
    assert newest.name not in names(tmp_path, ".snapshot")
    await store.close()


async def test_error_of_a_thread_is_not_left_lying_about_by_who_is_cancelled() -> None:
    """Cancelled just when the error has arrived, and more than once."""
    loop = asyncio.get_running_loop()
    said: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: said.append(context))
    for cancels in range(1, 6):
        future: asyncio.Future[None] = loop.create_future()
        task = asyncio.ensure_future(finish(future))
        await asyncio.sleep(0)
        future.set_exception(OSError(errno.ENOSPC, "full"))
        for _ in range(cancels):
            loop.call_soon(task.cancel)
            await asyncio.sleep(0)
        await asyncio.gather(task, return_exceptions=True)
        del future, task
        gc.collect()
    loop.set_exception_handler(None)
    assert not said
