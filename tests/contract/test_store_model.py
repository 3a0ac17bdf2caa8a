"""Random programs against every engine and an obviously correct model: whatever the engine answers, the model knew.

Each step is one call of the store's interface (or several at once), a read of a watch, time passing, or a
restart. `STORE_TEST_PROGRAMS` says how many programs are drawn; `HYPOTHESIS_PROFILE=random` draws new ones.
"""

import asyncio
import os
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orchestrator.base.clock import SystemClock, VirtualClock
from orchestrator.store import watch as watches
from orchestrator.store.engine import LogStore
from orchestrator.store.etcd.api import EtcdApi
from orchestrator.store.etcd.engine import EtcdStore
from orchestrator.store.etcd.keys import Keys
from orchestrator.store.interface import (
    CompactedError,
    Compare,
    Delete,
    FutureRevisionError,
    LeaseNotFoundError,
    Put,
    SlowWatcherError,
    StoppedError,
    Store,
    StoreError,
    Txn,
    Watch,
)
from orchestrator.store.keyring import EMPTY
from orchestrator.store.sealing import Sealer
from orchestrator.store.settings import LogSettings
from orchestrator.wire.grpc import GrpcClient
from tests.contract.etcd_support import Etcd
from tests.store.memory_disk import MemoryDisk
from tests.store.model import Lease, Model, Row, in_order, row_of

PROGRAMS = int(os.environ.get("STORE_TEST_PROGRAMS", "9"))
SHRINK = "STORE_TEST_SHRINK" in os.environ
"""Whether a failing program is made small, which takes minutes."""
STEPS = 50
BUFFER_EVENTS = 12
OVERDUE_S = 10
"""A lease's keys are gone this long after its end at the latest."""
NAMES = ("a", "a/b", "a/b/c", "a/é", "a0", "b", "b/\U0010ffff", "b/\uffff", "c")
PREFIXES = ("", "a", "a/", "a/b", "b/", "c", "nothing")
Result = TypeVar("Result")


class Harness(Protocol):
    """An engine under test. `root` begins every key; its leases' time passes only if it `has_time`."""

    root: str
    clock: VirtualClock
    has_time: bool
    compacts_itself: bool
    alone: bool
    """Whether opening takes no revision."""
    keeps_order: bool
    """Whether transactions that are under way together are made in the order of their calls."""
    buffer_events: int

    async def open(self) -> Store: ...

    async def close(self) -> None:
        """What belongs to no store; each store is closed by itself."""


class LogHarness:
    """The log in memory, with the smallest files: it rotates, takes snapshots and compacts all the time."""

    root = "/registry/secrets/"
    has_time = True
    alone = True
    keeps_order = True
    buffer_events = BUFFER_EVENTS

    def __init__(self, history_s: float, history_bytes: int, sealer: Sealer | None = None) -> None:
        self.clock = VirtualClock()
        self.compacts_itself = history_s < 1e5
        self._sealer = sealer
        self._disk = MemoryDisk()
        self._settings = LogSettings(
            segment_bytes=16 * 1024,
            history_s=history_s,
            history_bytes=history_bytes,
            history_memory_bytes=1500,
            snapshot_bytes=4 * 1024,
        )

    async def open(self) -> Store:
        path = Path("/memory/store")
        return await LogStore.open(
            path, self.clock, disk=self._disk, settings=self._settings, sealer=self._sealer
        )

    async def close(self) -> None:
        assert not self._disk.open_files


class EtcdHarness:
    """A real etcd, in which each program has a prefix of its own; its revisions are everybody's."""

    has_time = False
    compacts_itself = False
    alone = False
    keeps_order = False
    buffer_events = BUFFER_EVENTS

    def __init__(self, endpoint: str) -> None:
        self.clock = VirtualClock()
        self.root = "/"
        self._endpoint = endpoint
        self._keys = Keys(f"/{uuid.uuid4()}", root="")
        self._client: GrpcClient | None = None

    async def open(self) -> Store:
        await self.close()
        self._client = GrpcClient([self._endpoint])
        return await EtcdStore.open(EtcdApi(self._client, SystemClock()), SystemClock(), keys=self._keys)

    async def close(self) -> None:
        if self._client:
            await self._client.close()
            self._client = None


class Reader:
    """A watch, and what its consumer has had so far."""

    def __init__(self, watch: Watch, prefix: str, after: int) -> None:
        self.watch = watch
        self.prefix = prefix
        self.position = after


changes = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from("pppd"), st.integers(0, 3), st.booleans()),
    max_size=5,
    unique_by=lambda change: change[0],
)
comparisons = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(["now", "now", "now", "0", "old"])), max_size=3
)
programs = st.tuples(comparisons, changes)
questions = st.tuples(
    st.sampled_from(PREFIXES),
    st.sampled_from(("", "", *NAMES, "b/x")),
    st.integers(0, 4),
    st.none() | st.floats(0, 1),
)


class StoreMachine(RuleBasedStateMachine):
    """Runs one program on one engine."""

    store: Store

    def __init__(self, harness: Harness) -> None:
        super().__init__()
        self.harness = harness
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(watches, "BUFFER_EVENTS_MAX", BUFFER_EVENTS)
        self.runner = asyncio.Runner()
        self.readers: list[Reader] = []
        self.leases: list[int] = []
        self.values = 0

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        async def bounded() -> Result:
            async with asyncio.timeout(30):
                return await work

        return self.runner.run(bounded())

    @initialize()
    def begin(self) -> None:
        self.root = self.harness.root
        self.store = self.run(self.harness.open())
        self.model = Model(self.store.revision)

    def teardown(self) -> None:
        try:
            if hasattr(self, "store"):
                self.run(self._finish())
        finally:
            self.runner.close()
            self._patch.undo()

    async def _finish(self) -> None:
        """One more change under every prefix, and every watch must have yielded exactly what there was."""
        try:
            sentinel = Txn(
                (), tuple(Put(self.root + prefix, b"end") for prefix in PREFIXES if prefix[-1:] != "/")
            )
            self.model.check_result(sentinel, await self.store.transact(sentinel))
            for reader in list(self.readers):
                while reader in self.readers and self._pending(reader):
                    await self._read(reader)
            await self._check_all()
        finally:
            for reader in self.readers:
                reader.watch.close()
            await self.store.close()
            await self.harness.close()

    # Drawing

    def _txn(self, program: tuple[Any, Any]) -> Txn:
        compares = tuple(self._compare(name, mode) for name, mode in program[0])
        return Txn(compares, tuple(self._operation(*change) for change in program[1]))

    def _compare(self, name: str, mode: str) -> Compare:
        row = self.model.row(self.root + name)
        revision = {"now": row.revision if row else 0, "0": 0, "old": max(1, self.model.revision - 3)}[mode]
        return Compare(self.root + name, revision)

    def _operation(self, name: str, kind: str, lease: int, large: bool) -> Put | Delete:
        key = self.root + name
        if kind == "d":
            return Delete(key)
        self.values += 1
        value = b"%d." % self.values * (500 if large else 1)
        attached = self.leases[lease % len(self.leases)] if lease and self.leases else 0
        return Put(key, value, attached)

    def _revision(self, position: float) -> int:
        """From one below the floor to one in the future."""
        first, last = self.model.floor - 1, self.model.revision + 1
        return max(self.model.first, first + round(position * (last - first)))

    # Writing

    @rule(drawn=st.lists(programs, min_size=1, max_size=5))
    def transact(self, drawn: list[tuple[Any, Any]]) -> None:
        for program in drawn:
            self._transact(self._txn(program))

    def _transact(self, txn: Txn) -> None:
        gone = {step.lease for step in txn.operations if isinstance(step, Put)} - {0, *self.model.leases}
        try:
            result = self.run(self.store.transact(txn))
        except LeaseNotFoundError:
            assert gone
            return
        assert not gone or not result.succeeded  # An engine may look at the comparisons first.
        self.model.check_result(txn, result)
        assert self.store.revision == self.model.revision

    @rule(drawn=st.lists(programs, min_size=2, max_size=6))
    def transact_many(self, drawn: list[tuple[Any, Any]]) -> None:
        txns = [self._txn((compares, [(*c[:2], 0, c[3]) for c in steps])) for compares, steps in drawn]
        if not self.harness.keeps_order:
            txns = _independent(txns)
        results = self.run(self.store.transact_many(txns))
        pairs = list(zip(txns, results, strict=True))
        if not self.harness.keeps_order:
            pairs.sort(key=lambda pair: pair[1].revision)
        for txn, result in pairs:
            succeeded, revision, rows, failed = self.model.transact(txn)
            assert (result.succeeded, list(result.failed)) == (succeeded, failed)
            assert [row_of(entry) for entry in result.entries] == rows
            assert result.revision == revision if rows else result.revision >= revision
        assert self.store.revision == self.model.revision

    @rule(names=st.lists(st.sampled_from(NAMES), min_size=2, max_size=9, unique=True), large=st.booleans())
    def transact_at_once(self, names: list[str], large: bool) -> None:
        """Independent writers; whichever order the revisions say is the order."""
        txns = [Txn((), (self._operation(name, "p", 0, large),)) for name in names]

        async def together() -> list[Any]:
            return await asyncio.gather(*map(self.store.transact, txns))

        results = zip(self.run(together()), txns, strict=True)
        for result, txn in sorted(results, key=lambda pair: pair[0].revision):
            self.model.check_result(txn, result)

    @precondition(lambda self: self.values % 10 == 9)
    @rule(name=st.sampled_from(NAMES))
    def key_twice(self, name: str) -> None:
        twice = Txn((), (Put(self.root + name, b"1"), Delete(self.root + name)))
        with pytest.raises(StoreError, match="twice"):
            self.run(self.store.transact(twice))

    # Reading

    @rule(drawn=st.lists(questions, min_size=1, max_size=6))
    def range(self, drawn: list[tuple[str, str, int, float | None]]) -> None:
        for prefix, after, limit, position in drawn:
            revision = 0 if position is None else self._revision(position)
            self.run(self._range(prefix, self.root + after if after else "", limit, revision))

    async def _range(self, prefix: str, after: str, limit: int, revision: int) -> None:
        found = self.store.range(self.root + prefix, start_after=after, limit=limit, revision=revision)
        if revision > self.model.revision:
            with pytest.raises(FutureRevisionError):
                await found
            return
        try:
            result = await found
        except CompactedError as error:
            assert revision
            self._saw_floor(error, revision)
            return
        assert not revision or revision >= self.model.floor
        self.model.check_range(self.root + prefix, after, limit, revision, result)

    def _saw_floor(self, error: CompactedError, wanted: int) -> None:
        if self.harness.compacts_itself:
            assert self.model.floor <= error.floor <= self.model.revision
            self.model.compact(error.floor)
        assert wanted < error.floor == self.model.floor

    @rule(name=st.sampled_from(NAMES))
    def get(self, name: str) -> None:
        entry = self.run(self.store.get(self.root + name))
        assert (row_of(entry) if entry else None) == self.model.row(self.root + name)

    @rule(position=st.floats(0, 1))
    def compact(self, position: float) -> None:
        revision = self._revision(position)
        if revision > self.model.revision:
            with pytest.raises(FutureRevisionError):
                self.run(self.store.compact(revision))
            return
        self.run(self.store.compact(revision))
        self.model.compact(revision)

    # Watching

    @precondition(lambda self: len(self.readers) < 6)
    @rule(prefix=st.sampled_from(PREFIXES), position=st.just(1.0) | st.floats(0, 1))
    def watch(self, prefix: str, position: float) -> None:
        after = self._revision(position)
        watch = self.store.watch(self.root + prefix, after)
        reader = Reader(watch, self.root + prefix, after)
        self.readers.append(reader)
        if after < self.model.floor:
            with pytest.raises(CompactedError):
                self.run(anext(watch))
            self._leave(reader)

    def _pending(self, reader: Reader) -> list[Any]:
        return self.model.events(reader.prefix, reader.position)

    def _leave(self, reader: Reader) -> None:
        reader.watch.close()
        reader.watch.close()
        self.readers.remove(reader)

    @precondition(lambda self: any(map(self._pending, self.readers)))
    @rule(numbers=st.lists(st.integers(0, 5), min_size=1, max_size=4))
    def read(self, numbers: list[int]) -> None:
        for number in numbers:
            if waiting := [reader for reader in self.readers if self._pending(reader)]:
                self.run(self._read(waiting[number % len(waiting)]))

    async def _read(self, reader: Reader) -> None:
        pending = self._pending(reader)
        try:
            batch = await anext(reader.watch)
        except CompactedError as error:
            self._saw_floor(error, reader.position)
            self._leave(reader)
        except SlowWatcherError:
            assert len(pending) > self.harness.buffer_events
            self._leave(reader)
        else:
            assert batch and in_order(batch) == pending[: len(batch)]
            reader.position = batch[-1].revision
            rest = pending[len(batch) :]
            assert not rest or rest[0].revision > reader.position, "a revision was cut in two"

    @precondition(lambda self: len(self.readers) > 3)
    @rule(number=st.integers(0, 5))
    def close_watch(self, number: int) -> None:
        self._leave(self.readers[number % len(self.readers)])

    @invariant()
    def progress_is_never_ahead_of_what_was_yielded(self) -> None:
        for reader in self.readers:
            pending = self._pending(reader)
            assert not pending or reader.watch.progress < pending[0].revision

    # Leases and time

    @precondition(lambda self: len(self.leases) < 8)
    @rule(ttl_s=st.integers(2, 60))
    def grant(self, ttl_s: int) -> None:
        ttl_s += 0 if self.harness.has_time else 600
        lease = self.run(self.store.lease_grant(ttl_s))
        assert lease and lease not in self.leases
        self.leases.append(lease)
        self.model.leases[lease] = Lease(ttl_s, self.harness.clock.monotonic_s() + ttl_s)

    @precondition(lambda self: self.leases)
    @rule(number=st.integers(0, 7))
    def keep_alive(self, number: int) -> None:
        id = self.leases[number % len(self.leases)]
        lease = self.model.leases.get(id)
        assert self.run(self.store.lease_keep_alive(id)) == (lease.ttl_s if lease else 0)
        if lease:
            lease.deadline_s = self.harness.clock.monotonic_s() + lease.ttl_s

    @precondition(lambda self: self.leases)
    @rule(number=st.integers(0, 7))
    def revoke(self, number: int) -> None:
        id = self.leases[number % len(self.leases)]
        self.run(self.store.lease_revoke(id))
        self.model.end_lease(id)
        assert self.store.revision == self.model.revision

    @precondition(lambda self: self.harness.has_time)
    @rule(duration_s=st.integers(1, 30))
    def advance(self, duration_s: int) -> None:
        self.run(self._advance(duration_s))

    async def _advance(self, duration_s: int) -> None:
        witness = self.store.watch(self.root, self.model.revision)
        await self.harness.clock.advance(duration_s)
        for _ in range(OVERDUE_S):
            if not await self._overdue():
                break
            await asyncio.sleep(0.002)
            await self.harness.clock.advance(1)
        assert not await self._overdue(), "a lease outlived its time"
        while self.model.revision < self.store.revision:
            for events in self._by_revision(await anext(witness)):
                self._expire(events)
        witness.close()
        for id in self._due():
            assert not self.model.keys_of(id)
            del self.model.leases[id]

    def _due(self) -> list[int]:
        now_s = self.harness.clock.monotonic_s()
        return [id for id, lease in self.model.leases.items() if lease.deadline_s <= now_s]

    async def _overdue(self) -> list[str]:
        """Keys that should be gone by now."""
        keys = [key for id in self._due() for key in self.model.keys_of(id)]
        return [key for key in keys if await self.store.get(key)]

    @staticmethod
    def _by_revision(batch: list[Any]) -> list[list[Any]]:
        revisions = sorted({event.revision for event in batch})
        return [[event for event in batch if event.revision == revision] for revision in revisions]

    def _expire(self, events: list[Any]) -> None:
        """What the store did by itself must be the end of one lease that was due."""
        keys = sorted(event.key for event in events)
        ended = [id for id in self._due() if sorted(self.model.keys_of(id)) == keys]
        assert ended, f"nobody deleted {keys}"
        self.model.end_lease(ended[0])
        assert in_order(events) == self.model.events(self.root, self.model.revision - 1)

    # Restarting

    @rule(once_in=st.integers(1, 4))
    def reopen(self, once_in: int) -> None:
        if once_in == 1:
            self.run(self._reopen())

    async def _reopen(self) -> None:
        await self.store.close()
        for reader in list(self.readers):
            await self._read_to_the_end(reader)
        self.store = await self.harness.open()
        if not self.harness.alone:
            assert self.store.revision >= self.model.revision
            self.model.revision = self.store.revision
        # What was before the snapshot that a restart begins with may be gone.
        self.model.compact(self.store.compact_revision)
        now_s = self.harness.clock.monotonic_s()
        for lease in self.model.leases.values():
            lease.deadline_s = now_s + lease.ttl_s
        await self._check_all()

    async def _read_to_the_end(self, reader: Reader) -> None:
        while reader in self.readers:
            try:
                await self._read(reader)
            except StoppedError:
                self._leave(reader)

    async def _check_all(self) -> None:
        assert self.store.revision == self.model.revision
        found: list[Row] = [row_of(entry) for entry in (await self.store.range(self.root)).entries]
        assert found == self.model.rows(self.root)


def _independent(txns: list[Txn]) -> list[Txn]:
    """Those that share no key with one before them."""
    taken: set[str] = set()
    kept = []
    for txn in txns:
        keys = {step.key for step in (*txn.compares, *txn.operations)}
        if not keys & taken:
            taken |= keys
            kept.append(txn)
    return kept


def run_programs(machine: Callable[[], StoreMachine], programs: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=programs,
            stateful_step_count=STEPS,
            suppress_health_check=list(HealthCheck),
            phases=tuple(Phase) if SHRINK else (Phase.explicit, Phase.reuse, Phase.generate),
        ),
    )


def test_log_does_what_the_model_does() -> None:
    run_programs(lambda: StoreMachine(LogHarness(history_s=1e5, history_bytes=1 << 30)), PROGRAMS)


def test_log_that_keeps_little_history_does_what_the_model_does() -> None:
    run_programs(lambda: StoreMachine(LogHarness(history_s=20, history_bytes=8 * 1024)), PROGRAMS)


def test_encrypted_log_does_what_the_model_does() -> None:
    sealer = Sealer(EMPTY.with_new("2026-01-01"), ["/registry/secrets/a"])
    run_programs(lambda: StoreMachine(LogHarness(1e5, 1 << 30, sealer)), PROGRAMS // 3)


def test_etcd_does_what_the_model_does(etcd: Etcd) -> None:
    run_programs(lambda: StoreMachine(EtcdHarness(etcd.endpoint)), PROGRAMS // 3)
