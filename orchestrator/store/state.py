"""What the log says, in memory: the newest entries, and the events since the compaction floor.

One `apply` takes a durable record, live and in recovery alike. The newest entry of each key is in a
dictionary, its key in a sorted list; a revision in the past is read backwards: the entry of a key at R is
the `previous` of its first event after R, or the newest entry if there is none. Of that, old values may be
on disk only: then `Cold` stands for the entry, for the caller to load. Owner: the committer (and recovery
before it); everybody else reads.
"""

import heapq
import sys
from collections.abc import Generator, Iterator
from itertools import chain, islice
from typing import TypeVar, cast

from orchestrator.api.item import Item
from orchestrator.base.clock import Clock
from orchestrator.store.history import COLD_EVENT_BYTES, ENTRY_OVERHEAD_BYTES, Cold, History, size_of
from orchestrator.store.interface import CompactedError, Entry, Event, FutureRevisionError, RangeResult
from orchestrator.store.leases import Leases
from orchestrator.store.record import (
    COMPACT,
    DELETE,
    END,
    GRANT,
    KEPT,
    PAIR,
    PUT,
    SNAPSHOT,
    Operation,
    Record,
    number_of,
)
from orchestrator.store.sorted_keys import SortedKeys, Unsorted

COLD_EVENTS_MAX = 512
"""So many events whose values are on disk only are read at a time."""
INDEX_BYTES_MIN = 1024 * 1024
"""Events whose values are on disk only may take this much however little history may take in memory."""

SLICE_KEYS = 512
"""So many keys, or older events of them, are looked at in the past before others get their turn."""
SLICE_NEWEST_KEYS = 4096
"""Likewise where nothing is to be looked up."""
SLICE_EVENTS = 4096
"""Likewise where changes are counted."""

Result = TypeVar("Result")
Steps = Generator[None, None, Result]


def _at_once(steps: Steps[Result]) -> Result:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: Result = done.value
            return result


class State:
    """Multi-version state of all keys. `floor` is the oldest revision that can be read."""

    def __init__(self, clock: Clock, history_memory_bytes: int | None = None) -> None:
        """With a bound, old values beyond it leave memory, and `Cold` stands for them; else all stay."""
        self.revision = 0
        self.floor = 0
        self.leases = Leases(clock)
        self.live_bytes = 0
        self.history = History(history_memory_bytes)
        self._history_memory_bytes = history_memory_bytes
        self._history_from = 0
        """While loading: events up to this revision would not be kept anyhow."""
        self._held: list[int] = []
        self._live: dict[str, Entry] = {}
        self._keys: SortedKeys | Unsorted = SortedKeys()
        self._gone: SortedKeys | Unsorted = SortedKeys()
        """Keys that are deleted, but were there at some revision since the floor."""

    def __len__(self) -> int:
        return len(self._live)

    def get(self, key: str) -> Entry | None:
        return self._live.get(key)

    def readable(self, revision: int) -> int:
        """The revision itself, or the newest for 0. Raises `FutureRevisionError`, `CompactedError`."""
        if revision > self.revision:
            raise FutureRevisionError(f"revision {revision} is in the future; the newest is {self.revision}")
        at = revision or self.revision
        if at < self.floor:
            raise CompactedError(self.floor)
        return at

    def page(self, prefix: str, start_after: str, limit: int, at: int) -> tuple[list[Entry], bool]:
        """Up to `limit` entries (0: all) at a revision that is not trimmed, and whether the limit was reached."""
        return _at_once(self.paging(prefix, start_after, limit, at))

    def reading(self, prefix: str, start_after: str, limit: int, at: int) -> Steps[RangeResult]:
        """`Store.range` at `at`, in slices between which the state may change while `at` is held.

        Of a revision in the past, `Cold` stands for entries whose values are on disk only.
        """
        entries, cut = yield from self.paging(prefix, start_after, limit, at)
        remaining = (yield from self._counting(prefix, entries[-1].key, at)) if cut and entries else 0
        return RangeResult(entries, at, remaining)

    def paging(self, prefix: str, start_after: str, limit: int, at: int) -> Steps[tuple[list[Entry], bool]]:
        """`page` in slices, likewise."""
        entries: list[Entry] = []
        after, left = start_after, limit or sys.maxsize
        while True:
            if at == self.revision:
                part, more = self._newest(prefix, after, min(left, SLICE_NEWEST_KEYS))
                after = part[-1].key if part else after
            else:
                keys = list(islice(self._once_there(prefix, after), SLICE_KEYS))
                part, more = (yield from self._past(keys, left, at)), len(keys) == SLICE_KEYS
                after = keys[-1] if keys else after
            entries += part
            left -= len(part)
            if not left or not more:
                return entries, not left
            yield

    def _newest(self, prefix: str, start_after: str, limit: int) -> tuple[list[Entry], bool]:
        live = self._live
        entries: list[Entry] = []
        for keys in self._keys.parts(prefix, start_after):
            if limit and len(entries) + len(keys) >= limit:
                entries += [live[key] for key in keys[: limit - len(entries)]]
                return entries, True
            entries += [live[key] for key in keys]
        return entries, False

    def _past(self, keys: list[str], limit: int, at: int) -> Steps[list[Entry]]:
        """What up to `limit` of `keys` were at a revision."""
        entries: list[Entry] = []
        history, steps = self.history, SLICE_KEYS
        for key in keys:
            entry: Entry | Cold | None
            if (seq := history.changed_after(key, at)) < 0:
                entry = self._live.get(key)
            else:
                seq, steps = history.first_after(seq, at, steps)
                while not steps:
                    yield
                    seq, steps = history.first_after(seq, at, SLICE_KEYS)
                entry = history.previous(seq)
            if entry is not None:
                entries.append(cast(Entry, entry))
                if len(entries) == limit:
                    break
        return entries

    def _once_there(self, prefix: str, start_after: str) -> Iterator[str]:
        """Keys that are there or were since the floor, in order."""
        now = chain.from_iterable(self._keys.parts(prefix, start_after))
        gone = chain.from_iterable(self._gone.parts(prefix, start_after))
        return heapq.merge(now, gone)

    def _counting(self, prefix: str, after: str, at: int) -> Steps[int]:
        """Entries under `prefix` behind the key `after` at a revision: today's without what came since."""
        count, history = self._keys.count(prefix, after), self.history
        end = history.end
        start = end if at == self.revision else history.after(at)
        while start < end:
            until = min(start + SLICE_EVENTS, end)
            count -= history.added(start, until, prefix, after)
            start = until
            if start < end:
                yield
        return count

    def entries(self) -> list[Entry]:
        """The newest entry of every key, in key order."""
        return self._newest("", "", 0)[0]

    def events_after(self, revision: int, limit: int) -> list[Event]:
        """The next events of all keys, at least `limit` if there are as many; a revision is not cut in two.

        Raises `CompactedError`.
        """
        return self.changes_after(revision, limit, "")[0]

    def changes_after(self, revision: int, limit: int, prefix: str) -> tuple[list[Event], int]:
        """The events under `prefix` among the next `limit` or few more, and the revision that they reach up to.

        Raises `CompactedError`. `Cold` stands for entries whose values are on disk only.
        """
        if revision < self.floor:
            raise CompactedError(self.floor)
        history = self.history
        start = history.after(revision)
        if history.is_cold(start):
            limit = min(limit, COLD_EVENTS_MAX)
        found, end = history.events(start, limit, prefix)
        return found, self.revision if end == history.end else history.revision_before(end)

    def apply(self, record: Record) -> list[Event]:
        """Take over one record; returns its events, in the order of its operations."""
        revision, operations = record.revision, record.operations
        if len(operations) == 1 and operations[0].kind == PUT:
            # Nearly all records are like this.
            if revision > self.revision:
                self.revision = revision
            return [self._put(operations[0], revision)]
        events: list[Event] = []
        for operation in operations:
            if operation.kind == PUT:
                events.append(self._put(operation, revision))
            elif operation.kind == DELETE:
                events.append(self._delete(operation.key, revision))
            else:
                self._account(operation, revision)
        if revision > self.revision:
            self.revision = revision
        return events

    def _put(self, operation: Operation, revision: int) -> Event:
        key, value, lease = operation.key, operation.value, operation.lease
        previous = self._live.get(key)
        if previous is None:
            entry = Entry(key, Item(value, revision), revision, 1, lease)
            self._keys.add(key)
            if key in self.history.last:
                self._gone.remove(key)
        else:
            key = previous.key
            entry = Entry(key, Item(value, revision), previous.create_revision, previous.version + 1, lease)
        self._live[key] = entry
        self.live_bytes += len(key) + len(value) + ENTRY_OVERHEAD_BYTES
        if lease:
            self.leases.attach(lease, key)
        return self._remember(Event(revision, key, entry, previous), lease)

    def _delete(self, key: str, revision: int) -> Event:
        previous = self._live.pop(key)
        self._keys.remove(key)
        self._gone.add(key)
        return self._remember(Event(revision, previous.key, None, previous), 0)

    def _remember(self, event: Event, lease: int) -> Event:
        previous, size = event.previous, ENTRY_OVERHEAD_BYTES
        if previous is not None:
            size += len(previous.key) + len(previous.item.raw)
            self.live_bytes -= size
            if previous.lease and previous.lease != lease:
                self.leases.detach(previous.lease, event.key)
        if event.revision > self._history_from:
            self.history.append(event, size)
        return event

    def _account(self, operation: Operation, revision: int) -> None:
        kind, value = operation.kind, operation.value
        if kind == KEPT:
            self._restore(operation, revision)
        elif kind == GRANT:
            self.leases.grant(operation.lease, number_of(value))
        elif kind == END:
            self.leases.end(operation.lease)
        elif kind == COMPACT:
            self.floor = max(self.floor, number_of(value))
        elif kind == SNAPSHOT:
            self.floor = revision
            self.leases.last = max(self.leases.last, number_of(value))
        else:
            raise ValueError(f"operation of kind {kind} is not known")

    def _restore(self, operation: Operation, revision: int) -> None:
        key, value, lease = operation.key, operation.value, operation.lease
        created, version = PAIR.unpack_from(value)
        created = revision if created == revision else created  # One number in memory, not two.
        entry = Entry(key, Item(value[PAIR.size :], revision), created, version, lease)
        self._live[key] = entry
        self._keys.add(key)
        self.live_bytes += size_of(entry)
        if lease:
            self.leases.attach(lease, key)

    def begin_loading(self) -> None:
        """Until `end_loading`, only `apply` is called; keys are put in order at the end, all at once."""
        self._keys, self._gone = Unsorted(), Unsorted()

    def expect(self, revision: int) -> None:
        """While loading: what follows leads up to `revision` at least, so history need not begin at once."""
        if self._history_memory_bytes is not None:
            self._history_from = max(0, revision - self._index_bytes_max // COLD_EVENT_BYTES)

    def end_loading(self) -> None:
        """From now on everything can be read."""
        live = self._live
        self.floor = max(self.floor, min(self._history_from, self.revision))
        self._history_from = 0
        self._keys = SortedKeys(sorted(live))
        self._gone = SortedKeys(sorted(key for key in self.history.last if key not in live))

    def hold(self, revision: int) -> None:
        """Keep what is needed to read at `revision` until `release`, whatever the floor is."""
        self._held.append(revision)

    def release(self, revision: int) -> None:
        self._held.remove(revision)

    @property
    def kept_floor(self) -> int:
        """Events after it are needed: the floor, or less while a revision is held."""
        return min(self.floor, *self._held) if self._held else self.floor

    @property
    def untrimmed(self) -> bool:
        """Whether events that nobody needs are still in memory."""
        history = self.history
        return history.first < history.after(self.kept_floor)

    def trim(self, count: int) -> None:
        """Forget up to `count` events that nobody needs."""
        history = self.history
        for key in history.trim(min(history.first + count, history.after(self.kept_floor))):
            if key not in self._live:
                self._gone.remove(key)

    def shorten_history(self) -> None:
        """Keep to the bound of memory at once, in memory alone: recovery's, before anybody reads."""
        floor = self.floor_wanted
        if floor > self.floor:
            self.floor = floor
            self.trim(len(self.history))

    @property
    def floor_wanted(self) -> int:
        """The floor that keeps what history takes in memory within its bound; 0 while it is."""
        if self._history_memory_bytes is None:
            return 0
        most = self._index_bytes_max
        return self.history.floor_keeping(most * 3 // 4) if self.history.cold_bytes > most else 0

    @property
    def _index_bytes_max(self) -> int:
        """What events may take whose values are on disk only."""
        return max(self._history_memory_bytes or 0, INDEX_BYTES_MIN)

    @property
    def history_bytes(self) -> int:
        """What history takes in memory."""
        return self.history.hot_bytes + self.history.cold_bytes

    @property
    def history_events(self) -> int:
        """How many events are kept."""
        return len(self.history)

    def revision_keeping(self, size_bytes: int) -> int:
        """The floor to compact to so that values of about `size_bytes` stay in memory."""
        return self.history.revision_keeping(size_bytes)
