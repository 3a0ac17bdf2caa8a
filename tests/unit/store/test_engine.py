"""The engine as a process sees it: its lock, and its own housekeeping. `test_kills` kills it."""

from pathlib import Path

import pytest

from orchestrator.base.clock import VirtualClock
from orchestrator.base.errors import StartupError
from orchestrator.store import state
from orchestrator.store.disk import Disk
from orchestrator.store.engine import LogStore
from orchestrator.store.interface import CompactedError, Put, Txn
from orchestrator.store.settings import LogSettings


async def test_directory_is_for_one_process(tmp_path: Path, lazy_disk: Disk) -> None:
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk)
    with pytest.raises(StartupError, match="in use"):
        await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk)
    await store.close()
    await (await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk)).close()


async def write(store: LogStore, count: int, value: bytes = b"v") -> None:
    await store.transact_many([Txn((), (Put("/a", value),)) for _ in range(count)])


async def test_history_is_kept_for_five_minutes(tmp_path: Path, lazy_disk: Disk) -> None:
    clock = VirtualClock()
    store = await LogStore.open(tmp_path, clock, disk=lazy_disk)
    await write(store, 10)
    old = store.revision
    await clock.advance(100)
    await write(store, 10)
    await clock.advance(190)
    assert len((await store.range("/", revision=old)).entries) == 1
    await clock.advance(200)
    await write(store, 1)  # The compaction is before this in the commit queue.
    for _ in range(100):  # Files are removed in a thread, which may be late.
        await clock.advance(10)
        if store.stats()["history_events"] == 1:
            break
    with pytest.raises(CompactedError):
        await store.range("/", revision=old - 1)
    assert store.stats()["history_events"] == 1
    await store.close()


async def test_history_is_bounded_in_memory_but_reaches_back_on_disk(tmp_path: Path, lazy_disk: Disk) -> None:
    clock = VirtualClock()
    settings = LogSettings(history_memory_bytes=50_000)
    store = await LogStore.open(tmp_path, clock, disk=lazy_disk, settings=settings)
    await write(store, 100, b"x" * 1000)
    await clock.advance(10)
    assert store.stats()["history_bytes"] < 60_000 and store.compact_revision == 0
    for revision in (1, 50, 99):
        (entry,) = (await store.range("/", revision=revision)).entries
        assert (entry.revision, entry.version, len(entry.value)) == (revision, revision, 1000)
    await store.close()


async def test_index_of_old_values_is_bounded_too(
    tmp_path: Path, lazy_disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "INDEX_BYTES_MIN", 6400)
    clock = VirtualClock()
    settings = LogSettings(history_memory_bytes=0)
    store = await LogStore.open(tmp_path, clock, disk=lazy_disk, settings=settings)
    await write(store, 150)
    await clock.advance(10)
    await write(store, 1)
    await clock.advance(10)
    assert 50 < store.stats()["history_events"] < 100
    assert 50 < store.compact_revision < 100
    await store.close()


async def test_restart_builds_no_history_that_would_not_be_kept(
    tmp_path: Path, lazy_disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = LogSettings(segment_bytes=16 * 1024, history_memory_bytes=0)
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk, settings=settings)
    await write(store, 500, b"x" * 200)
    await store.close()
    monkeypatch.setattr(state, "INDEX_BYTES_MIN", 6400)
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk, settings=settings)
    floor = store.compact_revision
    assert 380 <= floor < 500 and store.stats()["history_events"] == 500 - floor
    for revision in range(floor, 501):
        (entry,) = (await store.range("/", revision=revision)).entries
        assert (entry.revision, entry.version, len(entry.value)) == (revision, revision, 200)
    with pytest.raises(CompactedError):
        await store.range("/", revision=floor - 1)
    await store.close()
