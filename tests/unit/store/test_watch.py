from pathlib import Path

import pytest

from orchestrator.base.clock import VirtualClock
from orchestrator.store import watch as watch_module
from orchestrator.store.disk import Disk
from orchestrator.store.engine import LogStore
from orchestrator.store.interface import Put, SlowWatcherError, Txn


async def fill(store: LogStore, prefix: str, count: int) -> None:
    await store.transact_many([Txn((), (Put(f"{prefix}{n}", b"v"),)) for n in range(count)])


async def test_slow_watcher_is_told_and_others_are_not_held_up(
    tmp_path: Path, lazy_disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "BUFFER_EVENTS_MAX", 10)
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk)
    slow, other = store.watch("/a", 0), store.watch("/b", 0)
    await fill(store, "/a", 11)
    await fill(store, "/b", 3)
    with pytest.raises(SlowWatcherError):
        await anext(slow)
    assert len(await anext(other)) == 3
    assert store.stats()["slow_watches_total"] == 1 and store.stats()["watches"] == 1
    await store.close()


async def test_history_is_replayed_in_slices_while_writes_go_on(
    tmp_path: Path, lazy_disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "CATCH_UP_EVENTS", 7)
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk)
    await fill(store, "/a", 100)
    watch = store.watch("/a", 20)
    expected = list(range(21, 101))
    seen: list[int] = []
    while store.revision < 160:
        results = await store.transact_many([Txn((), (Put(key, b"v"),)) for key in ("/a", "/b")])
        expected.append(results[0].revision)
        seen += [event.revision for event in await anext(watch)]
    while seen[-1] < expected[-1]:
        seen += [event.revision for event in await anext(watch)]
    assert seen == expected and watch.progress == store.revision
    await store.close()


async def test_watch_from_a_future_revision_skips_what_comes_before(tmp_path: Path, lazy_disk: Disk) -> None:
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk)
    watch = store.watch("/", 2)
    await fill(store, "/a", 2)
    await fill(store, "/b", 1)
    assert [event.revision for event in await anext(watch)] == [3]
    await store.close()


async def test_closed_watches_leave_nothing_behind(tmp_path: Path, lazy_disk: Disk) -> None:
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk)
    await fill(store, "/a", 1)
    watches = [store.watch(prefix, revision) for prefix in ("/", "/a", "/b") for revision in (0, 1)]
    for watch in watches:
        watch.close()
    assert store.stats()["watches"] == 0
    await store.close()


async def test_many_watches_get_every_event_in_order_in_slices(
    tmp_path: Path, lazy_disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "SLICE_WATCHES", 3)
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk)
    watches = [store.watch("/a" if n % 2 else "/", 0) for n in range(40)]
    await fill(store, "/a", 1)
    behind = [watch for watch in watches if watch.progress < store.revision and not watch._buffer]
    assert behind, "nobody may be told that he is up to date before he has had his events"
    late = store.watch("/", store.revision)
    watches[-1].close()
    await fill(store, "/b", 1)
    await fill(store, "/a", 1)
    for n, watch in enumerate(watches[:-1]):
        seen = []
        while len(seen) < (2 if n % 2 else 3):
            seen += [event.revision for event in await anext(watch)]
        assert seen == ([1, 3] if n % 2 else [1, 2, 3]) and watch.progress == store.revision
    assert [event.revision for event in await anext(late)] in ([2], [2, 3])
    await store.close()
