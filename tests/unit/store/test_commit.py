"""Faults of the disk, as writers and readers see them."""

import asyncio
import errno
from pathlib import Path

import pytest

from orchestrator.base.clock import VirtualClock
from orchestrator.store import commit
from orchestrator.store.disk import Disk
from orchestrator.store.engine import LogStore
from orchestrator.store.interface import Compare, Delete, NoSpaceError, Put, StoppedError, Txn, TxnResult
from orchestrator.store.log import Log
from orchestrator.store.settings import LogSettings


def put(key: str, value: bytes = b"v") -> Txn:
    return Txn((), (Put(key, value),))


def delete(key: str) -> Txn:
    return Txn((), (Delete(key),))


async def keys(store: LogStore) -> list[str]:
    return [entry.key for entry in (await store.range("/")).entries]


async def test_full_disk_refuses_writes_and_takes_them_again(tmp_path: Path, faulty_disk: Disk) -> None:
    store = await LogStore.open(tmp_path, VirtualClock(), disk=faulty_disk)
    faulty_disk.faults["allocate"] = [errno.ENOSPC] * 2
    results = await asyncio.gather(
        store.transact(put("/a")), store.transact(put("/b")), return_exceptions=True
    )
    assert [type(result) for result in results] == [NoSpaceError] * 2
    assert store.healthy and store.no_space and await keys(store) == []
    assert (await store.transact(put("/c"))).revision == 1
    assert not store.no_space
    await store.close()
    again = await LogStore.open(tmp_path, VirtualClock(), disk=faulty_disk)
    assert await keys(again) == ["/c"] and again.dropped is None
    await again.close()


async def test_nearly_full_disk_is_used_up(tmp_path: Path, faulty_disk: Disk) -> None:
    store = await LogStore.open(tmp_path, VirtualClock(), disk=faulty_disk)
    faulty_disk.faults["allocate"] = [errno.ENOSPC]
    assert (await store.transact(put("/a"))).succeeded
    await store.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EMFILE])
async def test_a_segment_that_cannot_be_made_refuses_a_write_and_no_more(
    tmp_path: Path, faulty_disk: Disk, code: int
) -> None:
    """Running out of descriptors, as a flood of clients may bring about, does not stop the store for good."""
    settings = LogSettings(segment_bytes=64 * 1024)
    store = await LogStore.open(tmp_path, VirtualClock(), disk=faulty_disk, settings=settings)
    faulty_disk.faults["create"] = [code] * 100
    with pytest.raises(NoSpaceError, match="no space left for"):
        for number in range(7):
            await store.transact(put(f"/{number}", b"x" * 10_000))
    assert store.healthy and store.no_space
    faulty_disk.faults["create"] = []
    assert (await store.transact(put("/last", b"x" * 10_000))).succeeded and not store.no_space
    await store.close()


@pytest.mark.parametrize("method", ["write_durably", "write_some", "allocate"])
async def test_failed_write_stops_the_store_for_good(tmp_path: Path, faulty_disk: Disk, method: str) -> None:
    store = await LogStore.open(tmp_path, VirtualClock(), disk=faulty_disk)
    if method != "allocate":
        await store.transact(put("/a"))
    acknowledged = await keys(store)
    watch = store.watch("/", store.revision)
    faulty_disk.faults[method] = [errno.EIO]
    first = asyncio.ensure_future(store.transact(put("/b")))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(store.transact(Txn((Compare("/b", 1),), ())))
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(result) for result in results] == [StoppedError] * 2
    with pytest.raises(StoppedError):
        await store.transact(put("/c"))
    assert not store.healthy and "Input/output error" in store.fault
    assert await keys(store) == acknowledged and watch.progress == store.revision
    await store.close()


async def test_short_writes_are_completed(tmp_path: Path, faulty_disk: Disk) -> None:
    faulty_disk.short_writes = True
    store = await LogStore.open(tmp_path, VirtualClock(), disk=faulty_disk)
    await store.transact(put("/a", b"x" * 1000))
    await store.close()
    again = await LogStore.open(tmp_path, VirtualClock(), disk=faulty_disk)
    entry = await again.get("/a")
    assert entry is not None and entry.value == b"x" * 1000
    await again.close()


async def test_writers_at_the_same_moment_share_a_sync(tmp_path: Path, lazy_disk: Disk) -> None:
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk)
    await asyncio.gather(*(store.transact(put(f"/{n}")) for n in range(300)))
    assert store.stats()["batches_total"] == 1
    await store.close()


async def test_large_backlog_makes_writers_wait_but_loses_none(
    tmp_path: Path, lazy_disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "BACKLOG_BYTES_MAX", 10_000)
    monkeypatch.setattr(commit, "BATCH_RECORDS_MAX", 4)
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk)
    results = await asyncio.gather(*(store.transact(put(f"/{n:03}", b"x" * 500)) for n in range(200)))
    assert sorted(result.revision for result in results) == list(range(1, 201))
    many = await store.transact_many([put(f"/many/{n}") for n in range(10)])
    assert [result.revision for result in many] == list(range(201, 211))
    await store.close()


async def test_cancelled_writer_does_not_disturb_the_others(tmp_path: Path, lazy_disk: Disk) -> None:
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk)
    first = asyncio.ensure_future(store.transact(put("/a")))
    second = asyncio.ensure_future(store.transact(put("/b")))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).revision == 2
    assert await keys(store) == ["/a", "/b"]
    await store.close()


async def test_a_long_list_that_is_refused_half_way_says_what_was_made(
    tmp_path: Path, faulty_disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "BATCH_RECORDS_MAX", 4)
    settings = LogSettings(segment_bytes=64 * 1024)
    store = await LogStore.open(tmp_path, VirtualClock(), disk=faulty_disk, settings=settings)
    value = b"x" * 10_000
    await store.transact(put("/first"))
    faulty_disk.faults["allocate"] = [errno.ENOSPC] * 20
    with pytest.raises(NoSpaceError, match="the first 4 of 12 transactions are made"):
        await store.transact_many([put(f"/{n:02}", value) for n in range(12)])
    assert await keys(store) == ["/00", "/01", "/02", "/03", "/first"]
    await store.close()


async def test_what_changes_nothing_is_answered_after_what_it_depends_on(
    tmp_path: Path, lazy_disk: Disk
) -> None:
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk)
    first = asyncio.ensure_future(store.transact(put("/a")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second = await store.transact(Txn((Compare("/a", 0),), (Put("/a", b"w"),)))
    assert first.done() and not second.succeeded and second.revision == store.revision == 1
    await store.close()


async def test_nothing_is_written_behind_a_job_that_failed() -> None:
    """A rotation that failed may have left half a seal; the batch queued behind it must not follow it to disk."""
    loop = asyncio.get_running_loop()
    thread = commit.CommitThread(loop)
    ran: list[str] = []
    errors: list[BaseException | None] = []
    last = loop.create_future()

    def fail(error: BaseException) -> None:
        raise error

    thread.submit(lambda: fail(NoSpaceError("no space")), errors.append)
    thread.submit(lambda: ran.append("after no space"), errors.append)
    thread.submit(lambda: fail(OSError(errno.EIO, "bad disk")), errors.append)
    thread.submit(lambda: ran.append("after a failure"), errors.append)
    thread.submit(lambda: None, last.set_result)
    assert isinstance(await last, OSError)
    assert ran == ["after no space"]
    assert [type(error) for error in errors] == [NoSpaceError, type(None), OSError, OSError]
    thread.stop()


async def test_deletions_beside_refused_puts_are_decided_again(tmp_path: Path, faulty_disk: Disk) -> None:
    """What rested on a put that was refused is decided without it; a compaction and a lease's end get through too."""
    settings = LogSettings(segment_bytes=64 * 1024)
    store = await LogStore.open(tmp_path, VirtualClock(), disk=faulty_disk, settings=settings)
    lease = await store.lease_grant(60)
    await store.transact(Txn((), (Put("/leased", b"v", lease),)))
    faulty_disk.faults["allocate"] = [errno.ENOSPC] * 100
    for number in range(5):
        await store.transact(put(f"/{number}", b"x" * 10_000))
    big, before = put("/new", b"x" * 10_000), store.revision
    works = [big, delete("/0"), delete("/new"), Txn((Compare("/new", 0),), (Delete("/1"),))]
    refused, *deleted = await asyncio.gather(*map(store.transact, works), return_exceptions=True)
    assert isinstance(refused, NoSpaceError) and store.no_space
    assert deleted == [TxnResult(True, before + revision) for revision in (1, 1, 2)]
    entry = await store.get("/2")
    assert entry is not None
    as_seen = (Compare("/2", entry.item.revision),)
    works = [put("/2", b"y" * 10_000), Txn(as_seen, ()), Txn(as_seen, (Delete("/2"),))]
    refused, *rest = await asyncio.gather(*map(store.transact, works), return_exceptions=True)
    assert isinstance(refused, NoSpaceError)
    assert rest == [TxnResult(True, before + revision) for revision in (2, 3)]
    await store.lease_revoke(lease)
    await store.compact(store.revision)
    assert store.no_space and await keys(store) == ["/3", "/4"]
    faulty_disk.faults["allocate"] = []
    assert (await store.transact(big)).succeeded and not store.no_space
    await store.close()


async def test_a_batch_that_cannot_be_encoded_stops_the_store_and_leaves_nobody_waiting(
    tmp_path: Path, lazy_disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(*_: object) -> bytes:
        raise MemoryError("no memory")

    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk)
    await store.transact(put("/a"))
    monkeypatch.setattr(Log, "encode", encode)
    results = await asyncio.gather(
        store.transact(put("/b")), store.transact_many([put("/c")]), return_exceptions=True
    )
    assert [type(result) for result in results] == [StoppedError] * 2
    assert "no memory" in store.fault and await keys(store) == ["/a"]
    await store.close()
