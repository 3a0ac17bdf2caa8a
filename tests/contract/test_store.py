"""What every engine of the store must do. `engine` opens, closes and reopens one on the same data.

Where several transactions are under way at once the embedded engine takes them in the order of their calls; etcd
takes those that do not touch the same key in any order. No reader can rely on more than the latter.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.base.clock import SystemClock, VirtualClock
from orchestrator.store.engine import LogStore
from orchestrator.store.etcd.api import EtcdApi
from orchestrator.store.etcd.engine import EtcdStore
from orchestrator.store.etcd.keys import Keys
from orchestrator.store.interface import (
    PREVIOUS,
    CompactedError,
    Compare,
    Delete,
    Event,
    FutureRevisionError,
    LeaseNotFoundError,
    Put,
    StoppedError,
    Store,
    StoreError,
    Txn,
    Watch,
)
from orchestrator.wire.grpc import GrpcClient
from tests.contract.etcd_support import Etcd


class LogEngine:
    """The embedded engine on a virtual clock."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._clock = VirtualClock()
        self.store: Store

    async def start(self) -> None:
        self.store = await LogStore.open(self._directory / "store", self._clock)

    async def restart(self) -> None:
        await self.store.close()
        await self.start()

    async def stop(self) -> None:
        await self.store.close()

    async def pass_time(self, duration_s: float) -> None:
        """For leases."""
        await self._clock.advance(duration_s)


class EtcdEngine:
    """The distributed engine on a real etcd, whose leases run by real time."""

    def __init__(self, endpoint: str, prefix: str) -> None:
        self._endpoint = endpoint
        self._keys = Keys(prefix, root="")
        self.store: Store

    async def start(self) -> None:
        self._client = GrpcClient([self._endpoint])
        api = EtcdApi(self._client, SystemClock())
        self.store = await EtcdStore.open(api, SystemClock(), keys=self._keys)

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def stop(self) -> None:
        await self.store.close()
        await self._client.close()

    async def pass_time(self, duration_s: float) -> None:
        await asyncio.sleep(duration_s)


Engine = LogEngine | EtcdEngine


@pytest.fixture(params=["log", "etcd"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    engine: Engine
    if request.param == "log":
        engine = LogEngine(tmp_path)
    else:
        etcd: Etcd = request.getfixturevalue("etcd")
        engine = EtcdEngine(etcd.endpoint, f"/{tmp_path.name}")
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
def store(engine: Engine) -> Store:
    return engine.store


def put(key: str, value: bytes = b"v", at: int | None = None, lease: int = 0) -> Txn:
    compares = () if at is None else (Compare(key, at),)
    return Txn(compares, (Put(key, value, lease),))


def delete(key: str) -> Txn:
    return Txn((), (Delete(key),))


async def take(watch: Watch, count: int) -> list[Event]:
    events: list[Event] = []
    async with asyncio.timeout(5):
        while len(events) < count:
            events += await anext(watch)
    assert len(events) == count
    return events


async def test_revision_grows_by_one_per_change(store: Store) -> None:
    first = await store.transact(put("/a"))
    second = await store.transact(put("/a", b"w"))
    assert second.revision == first.revision + 1 == store.revision


async def test_entry_counts_versions_and_keeps_its_creation(store: Store) -> None:
    created = await store.transact(put("/a", b"1"))
    updated = await store.transact(put("/a", b"2"))
    entry = await store.get("/a")
    assert entry is not None and entry is updated.entries[0]
    assert (entry.value, entry.version) == (b"2", 2)
    assert (entry.create_revision, entry.revision) == (created.revision, updated.revision)


async def test_recreated_key_starts_anew(store: Store) -> None:
    await store.transact(put("/a"))
    await store.transact(delete("/a"))
    again = (await store.transact(put("/a"))).entries[0]
    assert (again.version, again.create_revision) == (1, store.revision)


async def test_failed_comparison_changes_nothing_and_names_the_key(store: Store) -> None:
    done = await store.transact(put("/a"))
    both = Txn((Compare("/a", done.revision), Compare("/b", 7)), (Put("/a", b"x"), Put("/b", b"x")))
    result = await store.transact(both)
    assert (result.succeeded, result.failed, result.entries) == (False, ("/b",), ())
    assert result.revision == store.revision == done.revision


async def test_comparison_with_zero_means_absent(store: Store) -> None:
    assert (await store.transact(put("/a", at=0))).succeeded
    assert not (await store.transact(put("/a", at=0))).succeeded
    await store.transact(delete("/a"))
    assert (await store.transact(put("/a", at=0))).succeeded


async def test_of_racing_creations_one_wins(store: Store) -> None:
    results = await asyncio.gather(*(store.transact(put("/a", b"%d" % n, at=0)) for n in range(20)))
    winners = [result for result in results if result.succeeded]
    entry = await store.get("/a")
    assert len(winners) == 1 and winners[0].entries == (entry,)


async def test_all_operations_of_a_transaction_share_a_revision(store: Store) -> None:
    await store.transact(put("/c"))
    start = store.revision
    watch = store.watch("/", start)
    await store.transact(Txn((), (Put("/a", b"1"), Delete("/c"), Put("/b", b"2"))))
    events = await take(watch, 3)
    assert [(event.key, event.revision) for event in events] == [
        ("/a", start + 1),
        ("/c", start + 1),
        ("/b", start + 1),
    ]
    watch.close()


async def test_changing_nothing_takes_no_revision(store: Store) -> None:
    await store.transact(put("/a"))
    before = store.revision
    result = await store.transact(delete("/absent"))
    assert result.succeeded and result.revision == store.revision == before


async def test_key_twice_in_a_transaction_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="twice"):
        await store.transact(Txn((), (Put("/a", b"1"), Delete("/a"))))


async def test_many_transactions_succeed_or_fail_by_themselves(store: Store) -> None:
    results = await store.transact_many([put("/a", at=0), put("/a", at=0), put("/b", at=0)])
    assert [result.succeeded for result in results] == [True, False, True]
    assert {results[0].revision, results[2].revision} == {store.revision - 1, store.revision}


async def test_what_builds_on_the_transaction_before_it_shares_its_fate(store: Store) -> None:
    def counted(key: str, at: int, count_at: int, count: bytes) -> Txn:
        return Txn((Compare(key, at), Compare("/count", count_at)), (Put(key, b"v"), Put("/count", count)))

    await store.transact(put("/taken"))
    first = [
        counted("/a", 0, 0, b"1"),
        counted("/b", 0, PREVIOUS, b"2"),
        counted("/taken", 0, PREVIOUS, b"3"),
    ]
    results = await store.transact_many([*first, counted("/c", 0, PREVIOUS, b"4")])
    assert [result.succeeded for result in results] == [True, True, False, False]
    assert [set(result.failed) for result in results[2:]] == [{"/taken"}, {"/count"}]
    assert (await store.get("/count")).value == b"2"  # type: ignore[union-attr]
    # Nobody before it, and somebody who came in between.
    assert not (await store.transact(counted("/d", 0, PREVIOUS, b"5"))).succeeded
    head = (await store.get("/count")).revision  # type: ignore[union-attr]
    between = [counted("/d", 0, head, b"3"), put("/count", b"x", at=head), counted("/e", 0, PREVIOUS, b"4")]
    results = await store.transact_many(between)
    assert [result.succeeded for result in results] == [True, False, False]


async def test_range_is_sorted_and_paged_at_one_revision(store: Store) -> None:
    names = [f"/p/{n:03d}" for n in range(100)]
    await store.transact_many([put(name) for name in reversed(names)])
    await store.transact(put("/q"))
    first = await store.range("/p/", limit=40)
    assert (len(first.entries), first.remaining) == (40, 60)
    await store.transact_many([delete(names[50]), put("/p/0505"), delete(names[99]), put(names[60], b"new")])
    seen = [entry.key for entry in first.entries]
    while len(seen) < 100:
        page = await store.range("/p/", start_after=seen[-1], limit=25, revision=first.revision)
        seen += [entry.key for entry in page.entries]
        assert page.remaining == 100 - len(seen)
        assert all(entry.value == b"v" for entry in page.entries)
    assert seen == names


async def test_range_of_prefix_takes_no_neighbour(store: Store) -> None:
    await store.transact_many([put(key) for key in ("/a", "/a/b", "/a/é", "/a/\U0010ffff", "/a0", "/b")])
    assert [entry.key for entry in (await store.range("/a/")).entries] == ["/a/b", "/a/é", "/a/\U0010ffff"]


async def test_range_in_the_future_is_refused(store: Store) -> None:
    with pytest.raises(FutureRevisionError):
        await store.range("/", revision=store.revision + 1000)


async def test_compaction_ends_reads_and_watches_of_older_revisions(store: Store) -> None:
    for n in range(5):
        await store.transact(put("/a", b"%d" % n))
    floor = store.revision - 1
    await store.compact(floor)
    assert (await store.range("/", revision=floor)).entries[0].value == b"3"
    with pytest.raises(CompactedError) as raised:
        await store.range("/", revision=floor - 1)
    assert raised.value.floor == floor
    watch = store.watch("/", floor - 1)
    with pytest.raises(CompactedError):
        await anext(watch)
    watch.close()
    kept = store.watch("/", floor)
    assert (await take(kept, 1))[0].revision == floor + 1
    kept.close()


async def test_watch_replays_history_then_goes_on_without_gap(store: Store) -> None:
    for n in range(10):
        await store.transact(put(f"/w/{n % 3}", b"%d" % n))
        await store.transact(put("/other"))
    start = store.revision
    watch = store.watch("/w/", start - 10)
    old = await take(watch, 5)
    await asyncio.gather(*(store.transact(put(f"/w/{n}")) for n in range(50)))
    new = await take(watch, 50)
    revisions = [event.revision for event in old + new]
    assert revisions == sorted(set(revisions)) and revisions[-1] == store.revision == watch.progress
    assert all(event.key.startswith("/w/") for event in old + new)
    watch.close()


async def test_watch_events_carry_what_was_before(store: Store) -> None:
    watch = store.watch("/a", store.revision)
    await store.transact(put("/a", b"1"))
    await store.transact(put("/a", b"2"))
    await store.transact(delete("/a"))
    created, changed, deleted = await take(watch, 3)
    assert created.previous is None
    assert changed.previous is not None and changed.previous.value == b"1"
    assert deleted.entry is None and deleted.previous is not None and deleted.previous.value == b"2"
    watch.close()


async def test_progress_moves_with_events_of_others(store: Store) -> None:
    watch = store.watch("/a", store.revision)
    await store.transact(put("/b"))
    assert watch.progress == store.revision
    await store.transact(put("/a"))
    assert watch.progress == store.revision - 1
    watch.close()


async def test_closing_a_watch_ends_its_pending_read(store: Store) -> None:
    watch = store.watch("/a", store.revision)
    pending = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    watch.close()
    watch.close()
    with pytest.raises(StopAsyncIteration):
        await pending


async def test_cancelled_read_of_a_watch_loses_no_event(store: Store) -> None:
    watch = store.watch("/a", store.revision)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(watch), 0.001)
    await store.transact(put("/a"))
    assert len(await take(watch, 1)) == 1
    watch.close()


async def test_lease_deletes_its_keys_when_not_renewed(engine: Engine) -> None:
    store = engine.store
    lease = await store.lease_grant(5)
    await store.transact_many([put("/a", lease=lease), put("/b", lease=lease), put("/kept")])
    await store.transact(put("/b"))  # Written without the lease: stays.
    watch = store.watch("/", store.revision)
    await engine.pass_time(3)
    assert await store.lease_keep_alive(lease) == 5
    await engine.pass_time(3)
    assert await store.get("/a") is not None
    await engine.pass_time(4)
    assert [event.key for event in await take(watch, 1)] == ["/a"]
    assert [entry.key for entry in (await store.range("/")).entries] == ["/b", "/kept"]
    assert await store.lease_keep_alive(lease) == 0
    watch.close()


async def test_revoked_lease_takes_keys_written_at_the_same_moment(store: Store) -> None:
    lease = await store.lease_grant(10)
    writing = asyncio.gather(
        store.transact(put("/a", lease=lease)), store.lease_revoke(lease), return_exceptions=True
    )
    refused = [result for result in await writing if isinstance(result, BaseException)]
    assert all(isinstance(error, LeaseNotFoundError) for error in refused)  # etcd may revoke first.
    assert await store.get("/a") is None
    with pytest.raises(LeaseNotFoundError):
        await store.transact(put("/b", lease=lease))
    await store.lease_revoke(lease)


async def test_everything_is_there_after_a_restart(engine: Engine) -> None:
    store = engine.store
    lease = await store.lease_grant(60)
    await store.transact(put("/a", b"1", lease=lease))
    await store.transact(put("/a", b"2", lease=lease))
    await store.transact_many([put("/b"), put("/c"), delete("/b")])
    before = [
        (entry.key, entry.value, entry.revision, entry.create_revision, entry.version, entry.lease)
        for entry in (await store.range("/")).entries
    ]
    revision = store.revision
    await engine.restart()
    store = engine.store
    after = [
        (entry.key, entry.value, entry.revision, entry.create_revision, entry.version, entry.lease)
        for entry in (await store.range("/")).entries
    ]
    assert after == before
    if isinstance(engine, LogEngine):
        assert store.revision == revision
    else:  # etcd's revision grows by what others write, and by marks of ours (see `feed`).
        revision = store.revision
    assert await store.lease_keep_alive(lease) == 60
    assert await store.lease_grant(5) != lease
    assert (await store.transact(put("/d"))).revision == revision + 1


async def test_closed_store_refuses_writes_and_ends_watches(engine: Engine) -> None:
    """Reopened at the end, for the fixture to close."""
    store = engine.store
    watch = store.watch("/", store.revision)
    await store.close()
    await store.close()
    with pytest.raises(StoppedError):
        await store.transact(put("/a"))
    with pytest.raises(StoppedError):
        await anext(watch)
    await engine.restart()
