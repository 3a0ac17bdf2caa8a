"""A random workload on a store, the ledger of what it was told, and the check of a store that came back.

The ledger's history is what the store published, so the check is exact: whatever revision a store comes back
with, every key, value, version and event up to it must be the history's, and it must not be older than the
last acknowledgement.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator.base.clock import Clock, VirtualClock
from orchestrator.store.disk import Disk
from orchestrator.store.engine import LogStore
from orchestrator.store.interface import (
    CompactedError,
    Delete,
    Event,
    LeaseNotFoundError,
    NoSpaceError,
    Put,
    StoppedError,
    StoreError,
    Txn,
    Watch,
)
from orchestrator.store.settings import KIB, LogSettings
from tests.store.memory_disk import Mark, MemoryDisk
from tests.store.model import Row, Seen, in_order, row_of

STORE = Path("/memory/store")
RENEWAL_UNFINISHED = ("still in use", "could not be removed", "could not be synced")
"""How a store says that old files are, or may be, still there."""
SMALL = LogSettings(
    segment_bytes=16 * KIB,
    history_s=40,
    history_bytes=32 * KIB,
    history_memory_bytes=2 * KIB,
    snapshot_bytes=4 * KIB,
)
"""Rotation, snapshot and compaction every few dozen writes; values of the past are read from disk."""
LONG_S = 100_000
"""A lease that does not end by itself."""


@dataclass(frozen=True)
class Told:
    """What clients had been told by some moment."""

    revision: int = 0
    floor: int = 0
    leases: frozenset[int] = frozenset()
    """Granted, and nobody asked for their end."""
    ended: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Heard:
    """An acknowledgement; a mark in the disk's journal."""

    revision: int = 0
    floor: int = 0
    granted: int = 0
    ending: int = 0
    ended: int = 0

    def add_to(self, told: Told) -> Told:
        leases = (told.leases | {self.granted}) - {0, self.ending}
        return Told(
            max(told.revision, self.revision),
            max(told.floor, self.floor),
            leases,
            (told.ended | {self.ended}) - {0},
        )


@dataclass
class History:
    """Every event there was, and from them every state."""

    events: list[Seen] = field(default_factory=list)
    _states: dict[int, dict[str, Row]] = field(default_factory=dict)
    _built: int = -1

    @property
    def revision(self) -> int:
        return self.events[-1].revision if self.events else 0

    def add(self, events: Sequence[Event]) -> None:
        for seen in in_order(events):
            assert self.revision <= seen.revision <= self.revision + 1, "a revision is missing"
            self.events.append(seen)

    async def extend(self, store: LogStore, uncertain: Sequence[Txn]) -> "History":
        """With what nobody was told of, but is there: each revision one whole transaction that was tried."""
        longer = History(list(self.events))
        if store.revision > self.revision:
            watch = store.watch("/", self.revision)
            while longer.revision < store.revision:
                longer.add(await anext(watch))
            watch.close()
        for revision in range(self.revision + 1, longer.revision + 1):
            there = {seen.key: seen.now and seen.now.value for seen in longer.between(revision - 1, revision)}
            assert _is_end_of_lease(there) or any(_is_whole(txn, there) for txn in uncertain), there
        return longer

    def state(self, revision: int) -> list[Row]:
        """Every entry at a revision, in key order."""
        if self._built != len(self.events):
            self._build()
        return list(self._states[revision].values())

    def _build(self) -> None:
        state: dict[str, Row] = {}
        self._built = len(self.events)
        self._states = {0: {}}
        for seen in self.events:
            if seen.now:
                state[seen.key] = seen.now
            else:
                del state[seen.key]
            self._states[seen.revision] = dict(sorted(state.items()))

    def until(self, revision: int) -> "History":
        """As it was then; it may go on differently."""
        return History([seen for seen in self.events if seen.revision <= revision])

    def between(self, after: int, until: int) -> list[Seen]:
        return [seen for seen in self.events if after < seen.revision <= until]


class Workload:
    """Several writers beside a watch of everything; `told` grows as the disk's journal is marked."""

    def __init__(
        self,
        disk: Disk,
        seed: int,
        writers: int = 6,
        rounds: int = 25,
        history: History | None = None,
        told: Told | None = None,
        clock: VirtualClock | None = None,
        renews: bool = True,
    ) -> None:
        """`history` and `told` are what was before, on a store that has something.

        `renews`: now and then every file is begun anew.
        """
        self.history = history or History()
        self.told = told or Told()
        self.past: list[tuple[int, list[Row]]] = []
        """What was read of past revisions."""
        self.refused = 0
        """Writes answered with `NoSpaceError`."""
        self.uncertain: list[Txn] = []
        """Answered with `StoppedError`: they may have happened."""
        self.stopped = 0
        """How often that was the answer."""
        self.clock = clock or VirtualClock()
        self._disk = disk
        self._rng = random.Random(seed)
        self._renews = renews
        self._writers = writers
        self._rounds = rounds
        self._values = 0
        self._leases: list[int] = []
        self._watch: Watch | None = None
        """Of everything, while the store is open."""

    async def run(self, store: LogStore) -> None:
        """Write, then read what was published. Errors other than the two of a failing disk go through."""
        self._watch = self._watch or store.watch("/", self.history.revision)
        await asyncio.gather(*(self._write(store, number) for number in range(self._writers)))
        await self.catch_up(store)

    async def put_one(self, store: LogStore) -> None:
        """One more write, which must succeed."""
        self.told = await check_writing(store, self.told)
        await self.catch_up(store)

    async def catch_up(self, store: LogStore) -> None:
        """Take over into the history what the store has published."""
        assert self._watch
        while self.history.revision < store.revision:
            self.history.add(await anext(self._watch))
        for revision, rows in self.past:
            assert not revision or rows == self.history.state(revision)
        self.past.clear()

    async def close(self, store: LogStore) -> None:
        """Close the store, and take what it did up to then: a lease may have ended."""
        await store.close()
        watch, self._watch = self._watch, None
        try:
            while watch:
                self.history.add(await anext(watch))
        except StoppedError:
            pass

    def _hear(self, heard: Heard) -> None:
        self.told = heard.add_to(self.told)
        if isinstance(self._disk, MemoryDisk):
            self._disk.mark(heard)

    async def _write(self, store: LogStore, writer: int) -> None:
        for _ in range(self._rounds):
            try:
                await self._step(store, writer)
            except NoSpaceError:
                self.refused += 1
            except StoppedError:
                self.stopped += 1
            except LeaseNotFoundError:
                self._leases.clear()  # One of them has ended.
            if writer == 0:
                await self.clock.advance(self._rng.choice((1, 5, 10)))
                await asyncio.sleep(0.0005)  # Work in other threads gets on.

    async def _step(self, store: LogStore, writer: int) -> None:
        kind = self._rng.randrange(13)
        if kind == 12:
            await self._read_past(store)
        elif kind == 3 and self._renews and self._rng.random() < 0.2:
            await self._renew(store)
        elif kind == 0:
            ttl_s = self._rng.choice((20, LONG_S))
            lease = await store.lease_grant(ttl_s)
            self._leases.append(lease)
            if ttl_s == LONG_S:
                self._hear(Heard(granted=lease))
        elif kind == 1 and self._leases:
            await self._revoke(store, self._leases.pop(0))
        elif kind == 2:
            floor = max(0, store.revision - self._rng.randrange(20))
            await store.compact(floor)
            self._hear(Heard(floor=floor))
        else:
            count = 1 if kind > 4 else self._rng.randint(2, 5)
            await self._transact(store, [self._txn(writer) for _ in range(count)])

    async def _transact(self, store: LogStore, txns: list[Txn]) -> None:
        try:
            if len(txns) == 1:
                results = [await store.transact(txns[0])]
            else:
                results = await store.transact_many(txns)
        except StoppedError:
            self.uncertain += txns
            raise
        assert all(result.succeeded for result in results)
        self._hear(Heard(revision=max(result.revision for result in results)))

    async def _renew(self, store: LogStore) -> None:
        try:
            await store.renew()
        except OSError:
            return  # A snapshot failed; nothing has changed.
        except StoreError as error:
            if not any(part in str(error) for part in RENEWAL_UNFINISHED):
                raise

    async def _read_past(self, store: LogStore) -> None:
        """Some past revision, as far as its values come from disk; the disk may fail, and must be named then."""
        revision = self._rng.randint(store.compact_revision, store.revision)
        try:
            found = await store.range("/", revision=revision)
        except (CompactedError, OSError):
            return
        self.past.append((revision, [row_of(entry) for entry in found.entries]))

    async def _revoke(self, store: LogStore, lease: int) -> None:
        self._hear(Heard(ending=lease))
        await store.lease_revoke(lease)
        self._hear(Heard(ended=lease))

    def _txn(self, writer: int) -> Txn:
        rng = self._rng
        steps: list[Put | Delete] = [
            self._put(f"/twin/{part}/{writer}") for part in range(rng.choice((0, 1, 1, 3)))
        ]
        steps.append(self._put(f"/own/{writer}/{rng.randrange(3)}"))
        if rng.random() < 0.3:
            steps.append(Delete(f"/gone/{rng.randrange(4)}"))
        elif rng.random() < 0.3:
            lease = rng.choice(self._leases) if self._leases else 0
            steps.append(self._put(f"/gone/{rng.randrange(4)}", lease))
        return Txn((), tuple(steps))

    def _put(self, key: str, lease: int = 0) -> Put:
        self._values += 1
        value = (b"%d." % self._values) * self._rng.choice((1, 1, 20, 300))
        return Put(key, value, lease)


def _is_whole(txn: Txn, there: dict[str, bytes | None]) -> bool:
    puts = {step.key: step.value for step in txn.operations if isinstance(step, Put)}
    deleted = {key for key, value in there.items() if value is None}
    asked = {step.key for step in txn.operations if isinstance(step, Delete)}
    return puts == {key: value for key, value in there.items() if value is not None} and deleted <= asked


def _is_end_of_lease(there: dict[str, bytes | None]) -> bool:
    return all(value is None for value in there.values())


async def reopen(disk: Disk, settings: LogSettings = SMALL, clock: Clock | None = None) -> LogStore:
    return await LogStore.open(STORE, clock or VirtualClock(), disk=disk, settings=settings)


async def check(store: LogStore, history: History, told: Told, rng: random.Random) -> None:
    """`store` has come back: it must be exactly the history up to its revision, and that not too old."""
    at = store.revision
    assert told.revision <= at <= history.revision, f"came back at {at}, acknowledged was {told.revision}"
    floor = store.compact_revision
    assert told.floor <= floor <= at, f"floor {floor}, acknowledged {told.floor}, revision {at}"
    await check_states(store, history, sorted({floor, rng.randint(floor, at), at}))
    await check_events(store, history, floor)
    for lease in told.leases:
        assert await store.lease_keep_alive(lease), f"lease {lease} is lost"
    for lease in told.ended:
        assert not await store.lease_keep_alive(lease), f"lease {lease} is back"


async def check_states(store: LogStore, history: History, revisions: Sequence[int]) -> None:
    for revision in revisions:
        if revision == 0:
            continue
        result = await store.range("/", revision=revision)
        assert [row_of(entry) for entry in result.entries] == history.state(revision), revision
    if store.compact_revision > 1:
        try:
            await store.range("/", revision=store.compact_revision - 1)
        except CompactedError:
            return
        raise AssertionError("a revision below the floor was read")


async def check_events(store: LogStore, history: History, floor: int) -> None:
    wanted = history.between(floor, store.revision)
    watch = store.watch("/", floor)
    found: list[Event] = []
    while len(found) < len(wanted):
        found += await anext(watch)
    watch.close()
    assert in_order(found) == wanted


async def check_writing(store: LogStore, told: Told) -> Told:
    """Writing goes on at the next revision; returns what clients know then."""
    before = store.revision
    result = await store.transact(Txn((), (Put("/after", b"%d" % before),)))
    assert result.succeeded and result.revision == before + 1
    return replace(told, revision=before + 1)


def told_by(journal: Sequence[object], told: Told) -> Told:
    """What clients had been told by the end of a part of a journal."""
    for op in journal:
        if isinstance(op, Mark) and isinstance(op.note, Heard):
            told = op.note.add_to(told)
    return told
