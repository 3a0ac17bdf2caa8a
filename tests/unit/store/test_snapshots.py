"""Snapshots: under writes, broken off at each step, and what they let go of."""

import asyncio
import errno
from pathlib import Path

import pytest

from orchestrator.base.clock import VirtualClock
from orchestrator.store import snapshotter
from orchestrator.store.disk import Disk
from orchestrator.store.engine import LogStore
from orchestrator.store.header import DamagedLogError
from orchestrator.store.interface import CompactedError, Delete, NoSpaceError, Put, StoppedError, Txn
from orchestrator.store.keyring import Keyring
from orchestrator.store.sealing import Sealer
from orchestrator.store.settings import LogSettings

Image = list[tuple[str, bytes, int, int, int, int]]
SMALL = LogSettings(segment_bytes=64 * 1024)


async def image(store: LogStore, revision: int = 0) -> Image:
    return [
        (entry.key, entry.value, entry.revision, entry.create_revision, entry.version, entry.lease)
        for entry in (await store.range("/", revision=revision)).entries
    ]


async def opened(path: Path, disk: Disk, settings: LogSettings = SMALL) -> LogStore:
    return await LogStore.open(path, VirtualClock(), disk=disk, settings=settings)


async def filled(path: Path, disk: Disk, settings: LogSettings = SMALL) -> LogStore:
    store = await opened(path, disk, settings)
    lease = await store.lease_grant(30)
    for n in range(6):
        await store.transact_many([Txn((), (Put(f"/{key}", b"%d" % n, lease),)) for key in range(600)])
    await store.transact_many([Txn((), (Delete(f"/{key}"),)) for key in range(100)])
    return store


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir()) if file.name != "LOCK"}


def files(path: Path) -> list[str]:
    return [name.lstrip("0") for name in contents(path)]


def snapshots(path: Path) -> list[Path]:
    return sorted(path.glob("*.snapshot"))


async def test_snapshot_shows_one_revision_while_writes_go_on(
    tmp_path: Path, lazy_disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshotter, "SLICE_ENTRIES", 5)
    store = await filled(tmp_path, lazy_disk, LogSettings(segment_bytes=64 * 1024, history_memory_bytes=2000))
    revision = store.revision
    taking = asyncio.ensure_future(store._snapshotter.run())
    rounds = 0
    while not taking.done():
        await store.transact_many([Txn((), (Put(f"/{key}", b"new"),)) for key in range(50, 700)])
        await store.transact_many([Txn((), (Delete(f"/{key}"),)) for key in range(650, 700)])
        await store.compact(store.revision)
        rounds += 1
    await taking
    assert rounds > 1
    expected, newest = await image(store), store.revision
    await store.close()
    store = await opened(tmp_path, lazy_disk)
    assert (await image(store), store.revision, store.dropped) == (expected, newest, None)
    assert len([name for name in files(tmp_path) if name == f"{revision:x}.snapshot"]) == 1
    assert await store.lease_keep_alive(1) == 30 and await store.lease_grant(5) == 2
    await store.close()


async def test_snapshot_gives_space_back_when_nobody_needs_history(tmp_path: Path, lazy_disk: Disk) -> None:
    store = await filled(tmp_path, lazy_disk)
    assert store.stats()["segments"] >= 3
    await store.compact(store.revision)
    await store.snapshot()
    stats = store.stats()
    assert (stats["segments"], stats["snapshots"], stats["history_disk_bytes"]) == (1, 1, 0)
    await store.close()
    on_disk = contents(tmp_path)
    assert sum(map(len, on_disk.values())) == store.stats()["disk_bytes"]
    assert len(on_disk) <= 3  # A snapshot, a segment, and perhaps the next one.


async def test_history_needs_the_snapshot_before_it_and_all_segments_since(
    tmp_path: Path, lazy_disk: Disk
) -> None:
    """Values on disk, written before a snapshot, between two, and after."""
    store = await opened(tmp_path, lazy_disk, LogSettings(segment_bytes=16 * 1024, history_memory_bytes=0))
    wanted: dict[int, Image] = {}

    async def change(tag: bytes) -> None:
        for n in range(30):
            await store.transact(Txn((), (Put(f"/{n:02}", tag * 500), Put(f"/{tag.decode()}/{n}", tag))))
        wanted[store.revision] = await image(store)

    await change(b"a")
    await store.snapshot()
    await change(b"b")
    await store.compact(min(wanted))
    await store.snapshot()
    await change(b"c")
    await store.snapshot()
    await change(b"d")
    assert store.stats()["snapshots"] == 3
    for revision, expected in wanted.items():
        assert await image(store, revision) == expected
    watch = store.watch("/", min(wanted))
    seen = [event.revision async for event in _events(watch, store.revision)]
    assert sorted(set(seen)) == list(range(min(wanted) + 1, store.revision + 1))
    await store.compact(sorted(wanted)[2])
    await store.snapshot()
    assert await image(store, sorted(wanted)[2]) == wanted[sorted(wanted)[2]]
    with pytest.raises(CompactedError):
        await store.range("/", revision=sorted(wanted)[1])
    await store.close()


async def _events(watch, until: int):
    async for events in watch:
        for event in events:
            before = event.previous
            assert event.entry is not None and event.entry.value
            assert before is None or before.version + 1 == event.entry.version
            yield event
        if watch.progress >= until:
            watch.close()


async def at_rest(store: LogStore) -> None:
    """Wait until no snapshot is due or being made."""
    for _ in range(20_000):
        if not (store._snapshotter.is_due or store._snapshotter._running.locked()):
            return
        await asyncio.sleep(0.001)
    raise AssertionError("a snapshot that is due is not made")


async def test_history_on_disk_is_bounded(tmp_path: Path, lazy_disk: Disk) -> None:
    settings = LogSettings(
        segment_bytes=16 * 1024, snapshot_bytes=20_000, history_bytes=80_000, history_memory_bytes=0
    )
    store = await opened(tmp_path, lazy_disk, settings)
    most = 0.0
    for n in range(400):
        await store.transact(Txn((), (Put(f"/{n % 10}", b"x" * 1000),)))
        await at_rest(store)  # What is logged during a snapshot is not bounded.
        stats = store.stats()
        assert (
            stats["history_disk_bytes"] <= 80_000 + 60_000
        )  # Between two snapshots it grows by one interval.
        live = stats["live_bytes"]
        most = max(most, stats["disk_bytes"] - 3 * live)
    assert most <= 20_000 + 80_000 + 4 * 16 * 1024 + 60_000
    floor = store.compact_revision
    assert 200 < floor < 390
    assert len(await image(store, floor)) == 10
    await store.close()


@pytest.mark.parametrize("method", ["write_some", "sync", "rename", "sync_directory"])
async def test_failed_snapshot_leaves_everything_as_before(
    tmp_path: Path, faulty_disk: Disk, method: str
) -> None:
    store = await filled(tmp_path, faulty_disk, LogSettings())  # No segment is being prepared meanwhile.
    before = [name for name in files(tmp_path) if name.endswith(".segment")]
    faulty_disk.faults[method] = [errno.ENOSPC]
    with pytest.raises(OSError, match="No space"):
        await store._snapshotter.run()
    assert [name for name in files(tmp_path) if not name.endswith(".snapshot")] == before
    await store.transact(Txn((), (Put("/after", b"v"),)))
    expected = await image(store)
    await store.close()
    store = await opened(tmp_path, faulty_disk)
    assert await image(store) == expected
    await store.snapshot()
    assert await image(store) == expected
    await store.close()


async def test_failed_snapshot_is_tried_again_by_itself(tmp_path: Path, faulty_disk: Disk) -> None:
    clock = VirtualClock()
    settings = LogSettings(snapshot_bytes=4096)
    store = await LogStore.open(tmp_path, clock, disk=faulty_disk, settings=settings)
    faulty_disk.faults["sync"] = [errno.ENOSPC]
    async with asyncio.timeout(10):
        while faulty_disk.faults["sync"]:
            await store.transact(Txn((), (Put("/a", b"x" * 1000),)))
        while not store.stats()["snapshots_total"]:
            await clock.advance(1)
            await store.transact(Txn((), (Put("/a", b"v"),)))
    await store.close()


async def test_leftovers_of_a_crash_are_removed(tmp_path: Path, lazy_disk: Disk) -> None:
    store = await filled(tmp_path, lazy_disk)
    old = {name: data for name, data in contents(tmp_path).items() if name.endswith(".segment")}
    await store.compact(store.revision)
    await store.snapshot()
    await store.transact(Txn((), (Put("/a", b"v"),)))
    expected, kept = await image(store), files(tmp_path)
    await store.close()
    for name, data in old.items():
        if name.lstrip("0") not in kept:
            (tmp_path / name).write_bytes(data)
    (tmp_path / "00000000000000ff.snapshot.tmp").write_bytes(b"half a file")
    store = await opened(tmp_path, lazy_disk)
    assert await image(store) == expected and files(tmp_path) == kept
    await store.close()


async def two_snapshots(path: Path, disk: Disk) -> tuple[Image, Path]:
    """A directory where history still needs the older one; what it holds, and the newer one."""
    store = await filled(path, disk)
    await store.compact(store.revision)
    await store.snapshot()
    await store.transact(Txn((), (Put("/a", b"1"),)))
    await store.snapshot()
    await store.transact(Txn((), (Put("/a", b"2"),)))
    found = await image(store)
    await store.close()
    older, newer = snapshots(path)
    assert older != newer
    return found, newer


async def test_damaged_snapshot_is_done_without_if_nothing_is_lost(tmp_path: Path, lazy_disk: Disk) -> None:
    expected, newer = await two_snapshots(tmp_path, lazy_disk)
    data = bytearray(newer.read_bytes())
    data[6000] ^= 1
    newer.write_bytes(bytes(data))
    store = await opened(tmp_path, lazy_disk)
    assert await image(store) == expected
    await store.close()


async def test_damaged_snapshot_is_named_when_it_is_needed(tmp_path: Path, lazy_disk: Disk) -> None:
    _, newer = await two_snapshots(tmp_path, lazy_disk)
    await (await opened(tmp_path, lazy_disk)).close()
    assert snapshots(tmp_path) == [newer]
    whole = newer.read_bytes()
    for offset in (0, 100, 4095, 4100, 6000, len(whole) - 1):
        data = bytearray(whole)
        data[offset] ^= 1
        newer.write_bytes(bytes(data))
        with pytest.raises(DamagedLogError) as raised:
            await opened(tmp_path, lazy_disk)
        assert raised.value.path == newer
    newer.write_bytes(whole[:-20])
    with pytest.raises(DamagedLogError, match=r"no end|ends inside"):
        await opened(tmp_path, lazy_disk)


async def test_what_was_logged_before_a_restart_counts_towards_the_next_snapshot(
    tmp_path: Path, lazy_disk: Disk
) -> None:
    settings = LogSettings(segment_bytes=16 * 1024, snapshot_bytes=30_000)
    for n in range(6):
        store = await opened(tmp_path, lazy_disk, settings)
        for _ in range(10):
            await store.transact(Txn((), (Put("/a", b"x" * 1000),)))
        due = store._snapshotter.is_due or store.stats()["snapshots_total"]
        assert bool(due) == (n >= 2) or snapshots(tmp_path)
        await store.close()
    assert snapshots(tmp_path)


async def test_sealed_values_are_plain_in_memory_only(tmp_path: Path, lazy_disk: Disk) -> None:
    """In segments and in snapshots they are not; reads of the past, of a restart and of watches open them."""
    sealer = Sealer(Keyring().with_new("2026-01-01T00:00:00Z"), ("/secret/",))
    settings = LogSettings(history_memory_bytes=0)

    async def start() -> LogStore:
        return await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk, settings=settings, sealer=sealer)

    store = await start()
    for n in range(3):
        puts = (Put("/secret/a", b"hidden %d" % n), Put("/plain/a", b"shown %d" % n))
        await store.transact(Txn((), puts))
        await store.snapshot()
    await store.compact(1)
    assert [entry.value for entry in (await store.range("/", revision=1)).entries] == [
        b"shown 0",
        b"hidden 0",
    ]
    on_disk = b"".join(contents(tmp_path).values())
    assert b"shown" in on_disk and b"hidden" not in on_disk
    await store.close()
    store = await start()
    assert [entry.value for entry in (await store.range("/")).entries] == [b"shown 2", b"hidden 2"]
    await store.transact(Txn((), (Put("/secret/a", b"hidden 3"),)))
    watch = store.watch("/secret/", 3)
    (event,) = await anext(watch)
    assert event.entry is not None and event.entry.value == b"hidden 3"
    assert event.previous is not None and event.previous.value == b"hidden 2"
    watch.close()
    await store.close()


async def test_after_a_wanted_snapshot_nothing_that_was_superseded_is_on_disk(
    tmp_path: Path, lazy_disk: Disk
) -> None:
    store = await opened(tmp_path, lazy_disk, LogSettings())
    await store.transact(Txn((), (Put("/a", b"was plain"), Put("/b", b"kept"))))

    async def write(writer: int) -> None:
        for n in range(20):
            await store.transact(Txn((), (Put("/a", b"changed %d %d" % (writer, n)),)))

    writers = [asyncio.ensure_future(write(n)) for n in range(4)]
    await asyncio.sleep(0)
    await store.snapshot()
    await asyncio.gather(*writers)
    await store.compact(store.revision)
    await store.snapshot()
    on_disk = b"".join(contents(tmp_path).values())
    assert b"was plain" not in on_disk and b"kept" in on_disk and on_disk.count(b"changed") == 1
    expected = await image(store)
    await store.close()
    store = await opened(tmp_path, lazy_disk)
    assert await image(store) == expected
    await store.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
async def test_wanted_snapshot_without_a_segment_to_go_on_in(
    tmp_path: Path, faulty_disk: Disk, code: int
) -> None:
    store = await opened(tmp_path, faulty_disk, LogSettings())
    await store.transact(Txn((), (Put("/a", b"v"),)))
    faulty_disk.faults["allocate"] = [code] * 2
    with pytest.raises(NoSpaceError if code == errno.ENOSPC else StoppedError):
        await store.snapshot()
    assert store.healthy == (code == errno.ENOSPC)
    if store.healthy:
        await store.snapshot()
        await store.transact(Txn((), (Put("/a", b"w"),)))
    await store.close()
    await (await opened(tmp_path, faulty_disk)).close()


async def test_full_disk_keeps_no_file_for_history(tmp_path: Path, faulty_disk: Disk) -> None:
    clock = VirtualClock()
    store = await LogStore.open(
        tmp_path, clock, disk=faulty_disk, settings=LogSettings(segment_bytes=16 * 1024)
    )
    for n in range(2):
        for _ in range(30):
            await store.transact(Txn((), (Put("/a", b"%d" % n * 1000),)))
        await store.snapshot()
    assert store.stats()["history_disk_bytes"] > 0
    faulty_disk.faults["allocate"] = [errno.ENOSPC] * 1000
    with pytest.raises(NoSpaceError):
        for _ in range(40):
            await store.transact(Txn((), (Put("/a", b"x" * 1000),)))
    async with asyncio.timeout(10):
        while store.stats()["history_disk_bytes"]:
            await clock.advance(5)
    faulty_disk.faults.clear()
    assert (await store.transact(Txn((), (Put("/a", b"y"),)))).succeeded and not store.no_space
    await store.close()
