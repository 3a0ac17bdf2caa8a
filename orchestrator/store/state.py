"""What the log says, in memory: the newest entries, and the events since the compaction floor.

One `apply` takes a durable record, live and in recovery alike. The newest entry of each key is in a
dictionary, its key in a sorted list; a revision in the past is read backwards: the entry of a key at R is
the `previous` of its first event after R, or the newest entry if there is none. So history costs nothing
for keys that do not change. Owner: the committer (and recovery before it); everybody else reads.
"""

from bisect import bisect_right
from operator import attrgetter

from orchestrator.api.item import Item
from orchestrator.base.clock import Clock
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
from orchestrator.store.sorted_keys import SortedKeys

_revision_of = attrgetter("revision")

ENTRY_OVERHEAD_BYTES = 400
"""About what an entry takes beside its key and value; see the store's benchmark."""


def size_of(entry: Entry | None) -> int:
    """About the bytes that `entry` takes in memory and, in a snapshot, on disk at most."""
    return len(entry.key) + len(entry.item.raw) + ENTRY_OVERHEAD_BYTES if entry else ENTRY_OVERHEAD_BYTES


class State:
    """Multi-version state of all keys. `floor` is the oldest revision that can be read."""

    def __init__(self, clock: Clock) -> None:
        self.revision = 0
        self.floor = 0
        self.leases = Leases(clock)
        self.live_bytes = 0
        self.history_bytes = 0
        self._live: dict[str, Entry] = {}
        self._keys = SortedKeys()
        self._gone = SortedKeys()
        """Keys that are deleted, but were there at some revision since the floor."""
        self._history: dict[str, list[Event]] = {}
        self._events: list[Event] = []
        self._first = 0
        """Index into `_events`: those before it are trimmed."""

    def __len__(self) -> int:
        return len(self._live)

    def get(self, key: str) -> Entry | None:
        return self._live.get(key)

    def entries(self) -> list[Entry]:
        """The newest entry of every key, unsorted."""
        return list(self._live.values())

    def range(self, prefix: str, start_after: str, limit: int, revision: int) -> RangeResult:
        """See `Store.range`."""
        at = revision or self.revision
        if at > self.revision:
            raise FutureRevisionError(f"revision {at} is in the future; the newest is {self.revision}")
        if at < self.floor:
            raise CompactedError(self.floor)
        entries, cut = (
            self._newest(prefix, start_after, limit)
            if at == self.revision
            else self._past(prefix, start_after, limit, at)
        )
        remaining = self._count_at(prefix, entries[-1].key, at) if cut and entries else 0
        return RangeResult(entries, at, remaining)

    def _newest(self, prefix: str, start_after: str, limit: int) -> tuple[list[Entry], bool]:
        live = self._live
        entries: list[Entry] = []
        for keys in self._keys.parts(prefix, start_after):
            entries += [live[key] for key in keys]
            if limit and len(entries) >= limit:
                return entries[:limit], True
        return entries, False

    def _past(self, prefix: str, start_after: str, limit: int, at: int) -> tuple[list[Entry], bool]:
        gone = [key for keys in self._gone.parts(prefix, start_after) for key in keys]
        entries: list[Entry] = []
        for keys in self._keys.parts(prefix, start_after):
            cut = bisect_right(gone, keys[-1])
            self._collect(sorted(keys + gone[:cut]) if cut else keys, at, entries)
            del gone[:cut]
            if limit and len(entries) >= limit:
                return entries[:limit], True
        self._collect(gone, at, entries)
        return (entries[:limit], True) if limit and len(entries) >= limit else (entries, False)

    def _collect(self, keys: list[str], at: int, entries: list[Entry]) -> None:
        found = (self._entry_at(key, at) for key in keys)
        entries += [entry for entry in found if entry is not None]

    def _entry_at(self, key: str, at: int) -> Entry | None:
        if events := self._history.get(key):
            index = bisect_right(events, at, key=_revision_of)
            if index < len(events):
                return events[index].previous
        return self._live.get(key)

    def _count_at(self, prefix: str, after: str, at: int) -> int:
        """Entries under `prefix` behind the key `after` at a revision: today's, corrected by later changes."""
        count = self._keys.count(prefix, after)
        if at == self.revision:
            return count
        first: dict[str, Event] = {}
        for event in self._events[self._index_after(at) :]:
            if event.key > after and event.key.startswith(prefix):
                first.setdefault(event.key, event)
        for key, event in first.items():
            count += (event.previous is not None) - (key in self._live)
        return count

    def _index_after(self, revision: int) -> int:
        return bisect_right(self._events, revision, lo=self._first, key=_revision_of)

    def events_after(self, revision: int, limit: int) -> list[Event]:
        """The next events of all keys, at least `limit` if there are as many; a revision is not cut in two.

        Raises `CompactedError`.
        """
        if revision < self.floor:
            raise CompactedError(self.floor)
        start = self._index_after(revision)
        end = min(start + limit, len(self._events))
        if end > start:
            end = bisect_right(self._events, self._events[end - 1].revision, lo=end - 1, key=_revision_of)
        return self._events[start:end]

    def apply(self, record: Record) -> list[Event]:
        """Take over one record; returns its events, in the order of its operations."""
        revision = record.revision
        events: list[Event] = []
        for operation in record.operations:
            if operation.kind == PUT:
                events.append(self._put(operation, revision))
            elif operation.kind == DELETE:
                events.append(self._delete(operation.key, revision))
            else:
                self._account(operation, revision)
        self.revision = max(self.revision, revision)
        return events

    def _put(self, operation: Operation, revision: int) -> Event:
        key = operation.key
        previous = self._live.get(key)
        item = Item(operation.value, revision)
        if previous is None:
            entry = Entry(key, item, revision, 1, operation.lease)
            self._keys.add(key)
            if key in self._history:
                self._gone.remove(key)
        else:
            key = previous.key
            entry = Entry(key, item, previous.create_revision, previous.version + 1, operation.lease)
        self._live[key] = entry
        self.live_bytes += size_of(entry)
        if entry.lease:
            self.leases.attach(entry.lease, key)
        return self._remember(Event(revision, key, entry, previous), entry.lease)

    def _delete(self, key: str, revision: int) -> Event:
        previous = self._live.pop(key)
        self._keys.remove(key)
        self._gone.add(key)
        return self._remember(Event(revision, previous.key, None, previous), 0)

    def _remember(self, event: Event, lease: int) -> Event:
        previous = event.previous
        self.history_bytes += size_of(previous)
        if previous is not None:
            self.live_bytes -= size_of(previous)
            if previous.lease and previous.lease != lease:
                self.leases.detach(previous.lease, event.key)
        self._events.append(event)
        if events := self._history.get(event.key):
            events.append(event)
        else:
            self._history[event.key] = [event]
        return event

    def _account(self, operation: Operation, revision: int) -> None:
        kind, lease, key, value = operation
        if kind == KEPT:
            self._restore(lease, key, value, revision)
        elif kind == GRANT:
            self.leases.grant(lease, number_of(value))
        elif kind == END:
            self.leases.end(lease)
        elif kind == COMPACT:
            self.floor = max(self.floor, number_of(value))
        elif kind == SNAPSHOT:
            self.floor = revision
            self.leases.last = max(self.leases.last, number_of(value))
        else:
            raise ValueError(f"operation of kind {kind} is not known")

    def _restore(self, lease: int, key: str, value: bytes, revision: int) -> None:
        created, version = PAIR.unpack_from(value)
        entry = Entry(key, Item(value[PAIR.size :], revision), created, version, lease)
        self._live[key] = entry
        self._keys.add(key)
        self.live_bytes += size_of(entry)
        if lease:
            self.leases.attach(lease, key)

    @property
    def untrimmed(self) -> bool:
        """Whether events below the floor are still in memory."""
        return self._first < len(self._events) and self._events[self._first].revision <= self.floor

    def trim(self, count: int) -> None:
        """Forget up to `count` events below the floor."""
        end = min(self._first + count, self._index_after(self.floor))
        for event in self._events[self._first : end]:
            self.history_bytes -= size_of(event.previous)
            events = self._history[event.key]
            if len(events) > 1:
                del events[0]
                continue
            del self._history[event.key]
            if event.key not in self._live:
                self._gone.remove(event.key)
        self._events[self._first : end] = [_TRIMMED] * (end - self._first)
        self._first = end
        if self._first * 2 > len(self._events):
            del self._events[: self._first]
            self._first = 0

    def shorten_history(self, size_bytes: int) -> None:
        """Raise the floor in memory alone and forget at once what is below it: recovery's, before anybody reads."""
        self.floor = max(self.floor, self.revision_keeping(size_bytes))
        self.trim(len(self._events))

    @property
    def history_events(self) -> int:
        """How many events are kept."""
        return len(self._events) - self._first

    def revision_keeping(self, size_bytes: int) -> int:
        """The floor to compact to so that about `size_bytes` of history stay."""
        excess = self.history_bytes - size_bytes
        for event in self._events[self._first :]:
            if excess <= 0:
                return event.revision - 1
            excess -= size_of(event.previous)
        return self.revision


_TRIMMED = Event(0, "", None, None)
