"""The log's switch-over to a smaller file: under writes, and broken off at each of its steps."""

import asyncio
import errno
from pathlib import Path

import pytest

from orchestrator.base.clock import VirtualClock
from orchestrator.store import rewrite
from orchestrator.store.disk import Disk
from orchestrator.store.engine import LogStore
from orchestrator.store.interface import Delete, Put, StoppedError, Txn

Image = list[tuple[str, bytes, int, int, int, int]]


async def image(store: LogStore) -> Image:
    return [
        (entry.key, entry.value, entry.revision, entry.create_revision, entry.version, entry.lease)
        for entry in (await store.range("/")).entries
    ]


async def filled(path: Path, disk: Disk) -> LogStore:
    store = await LogStore.open(path, VirtualClock(), disk=disk)
    lease = await store.lease_grant(30)
    for n in range(6):
        await store.transact_many([Txn((), (Put(f"/{key}", b"%d" % n, lease),)) for key in range(600)])
    await store.transact_many([Txn((), (Delete(f"/{key}"),)) for key in range(100)])
    return store


async def test_writes_during_a_rewrite_are_in_the_new_file(
    tmp_path: Path, lazy_disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewrite, "TAIL_BYTES", 100)
    store = await filled(tmp_path, lazy_disk)
    before = store.stats()["log_bytes"]
    done = asyncio.Event()

    async def write(writer: int) -> None:
        count = 0
        while not done.is_set():
            await store.transact(Txn((), (Put(f"/w/{writer}", b"%d" % count),)))
            count += 1

    writers = [asyncio.ensure_future(write(n)) for n in range(8)]
    await store._rewriter.run()
    done.set()
    await asyncio.gather(*writers)
    assert store.stats()["log_bytes"] < before
    assert [name for name in lazy_disk.names(tmp_path) if name != "LOCK"] == ["0000000000000002.log"]
    expected, revision = await image(store), store.revision
    await store.close()
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk)
    assert (await image(store), store.revision, store.dropped) == (expected, revision, None)
    assert await store.lease_keep_alive(1) == 30 and await store.lease_grant(5) == 2
    await store.close()


@pytest.mark.parametrize("method", ["write_some", "allocate", "sync", "rename"])
async def test_failed_rewrite_leaves_the_old_file_in_use(
    tmp_path: Path, faulty_disk: Disk, method: str
) -> None:
    store = await filled(tmp_path, faulty_disk)
    faulty_disk.faults[method] = [0, errno.EIO] if method == "sync" else [errno.EIO]
    with pytest.raises(OSError, match="Input/output"):
        await store._rewriter.run()
    await store.transact(Txn((), (Put("/after", b"v"),)))
    expected = await image(store)
    await store.close()
    store = await LogStore.open(tmp_path, VirtualClock(), disk=faulty_disk)
    assert await image(store) == expected
    await store._rewriter.run()
    assert await image(store) == expected
    await store.close()


async def test_unknown_outcome_of_the_switch_stops_writes(tmp_path: Path, faulty_disk: Disk) -> None:
    store = await filled(tmp_path, faulty_disk)
    expected = await image(store)
    faulty_disk.faults["sync_directory"] = [errno.EIO]
    await store._rewriter.run()
    with pytest.raises(StoppedError):
        await store.transact(Txn((), (Put("/after", b"v"),)))
    assert not store.healthy and await image(store) == expected
    await store.close()


async def test_leftovers_of_a_crash_are_removed(tmp_path: Path, lazy_disk: Disk) -> None:
    store = await filled(tmp_path, lazy_disk)
    old = (tmp_path / "0000000000000001.log").read_bytes()
    await store._rewriter.run()
    expected = await image(store)
    await store.close()
    (tmp_path / "0000000000000001.log").write_bytes(old)
    (tmp_path / "0000000000000003.tmp").write_bytes(b"half a file")
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk)
    assert await image(store) == expected
    assert [name for name in lazy_disk.names(tmp_path) if name != "LOCK"] == ["0000000000000002.log"]
    await store.close()


async def test_large_log_is_rewritten_by_itself(
    tmp_path: Path, lazy_disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewrite, "REWRITE_BYTES_MIN", 1000)
    monkeypatch.setattr(rewrite, "REWRITE_FACTOR", 0)
    clock = VirtualClock()
    store = await LogStore.open(tmp_path, clock, disk=lazy_disk)
    await store.transact_many([Txn((), (Put("/a", b"x" * 100),)) for _ in range(100)])
    await clock.advance(11)
    async with asyncio.timeout(5):
        while not store.stats()["rewrites_total"]:
            await store.transact(Txn((), (Put("/b", b"v"),)))
    await store.close()
