"""The events since the compaction floor. Owner: the state.

Every event has a sequence number. The newest are whole, with the values before and after them; older ones,
beyond a bound in bytes, keep only what finds their values in the log again: key, revision, and of the entry
before it revision, creation and version. So a revision in the past costs some fifty bytes per change, and
nothing for keys that do not change. Each event links to the one before it of the same key.
"""

import sys
from array import array
from bisect import bisect_right
from operator import attrgetter
from typing import cast

from msgspec import Struct

from orchestrator.store.interface import Entry, Event

ENTRY_OVERHEAD_BYTES = 400
"""About what an entry takes beside its key and value; see the store's benchmark."""
COLD_EVENT_BYTES = 64
"""About what an event takes whose values left memory."""
GONE_KEY_BYTES = 200
"""About what a deleted key takes in the indexes beside its text, which no live entry shares any more."""

_revision_of = attrgetter("revision")


class Cold(Struct, frozen=True, gc=False):
    """An entry whose value is only on disk. Stands in for an `Entry` until `Archive` has read it."""

    key: str
    revision: int
    create_revision: int
    version: int


def cold_size(key: str, deleted: int) -> int:
    """About the bytes that an event takes whose values left memory. A deletion answers for its key."""
    return COLD_EVENT_BYTES + len(key) + GONE_KEY_BYTES if deleted else COLD_EVENT_BYTES


def size_of(entry: Entry | None) -> int:
    """About the bytes that `entry` takes in memory and, in a snapshot, on disk at most."""
    return len(entry.key) + len(entry.item.raw) + ENTRY_OVERHEAD_BYTES if entry else ENTRY_OVERHEAD_BYTES


class History:
    """Events in order. Cold ones first, from `_base` up to `_split`; then those that are whole."""

    def __init__(self, memory_bytes: int | None) -> None:
        """Values beyond `memory_bytes` are let go of; with None none is."""
        self.hot_bytes = 0
        """What the whole events hold beside live entries."""
        self.cold_bytes = 0
        """What the events take whose values left memory."""
        self._hot_bytes_max = sys.maxsize if memory_bytes is None else memory_bytes
        self._base = 0
        self._split = 0
        self._hot: list[Event] = []
        self._links = array("q")
        """For every event the sequence number of the one before it of its key, or -1."""
        self.last: dict[str, int] = {}
        """Sequence number of every key's newest event."""
        self._keys: list[str] = []
        self._revisions = array("Q")
        self._before = array("Q")
        """Revision of the entry before; 0 where there was none."""
        self._created = array("Q")
        self._versions = array("Q")
        self._deleted = bytearray()

    def __len__(self) -> int:
        return len(self._links)

    def append(self, event: Event, size_bytes: int) -> None:
        """Remember a new event, whose previous entry has this size, and let go of values beyond the bound."""
        key, last, hot = event.key, self.last, self._hot
        self._links.append(last.get(key, -1))
        last[key] = self._split + len(hot)
        hot.append(event)
        self.hot_bytes += size_bytes
        if self.hot_bytes > self._hot_bytes_max:
            self._demote(self._hot_bytes_max * 7 // 8)

    def _demote(self, bytes_max: int) -> None:
        """Let go of the oldest values until `bytes_max` are left, column by column."""
        excess, count = self.hot_bytes - bytes_max, 0
        for event in self._hot:
            if excess <= 0:
                break
            excess -= size_of(event.previous)
            count += 1
        gone = self._hot[:count]
        del self._hot[:count]
        self._split += count
        self.hot_bytes = excess + bytes_max
        keys = [event.key for event in gone]
        deleted = bytes([event.entry is None for event in gone])
        self._keys += keys
        self._deleted += deleted
        self._revisions.extend([event.revision for event in gone])
        before = [event.previous for event in gone]
        self._before.extend([entry.item.revision if entry else 0 for entry in before])
        self._created.extend([entry.create_revision if entry else 0 for entry in before])
        self._versions.extend([entry.version if entry else 0 for entry in before])
        self.cold_bytes += sum(map(cold_size, keys, deleted))

    def trim(self, end: int) -> list[str]:
        """Forget the events before the sequence number `end`; returns the keys that have none left."""
        ended = []
        for seq in range(self._base, end):
            key = self._key(seq)
            if self.last[key] == seq:
                del self.last[key]
                ended.append(key)
        cold = min(end, self._split) - self._base
        self.cold_bytes -= sum(map(cold_size, self._keys[:cold], self._deleted[:cold]))
        for column in (
            self._keys,
            self._revisions,
            self._before,
            self._created,
            self._versions,
            self._deleted,
        ):
            del column[:cold]
        if end > self._split:
            hot = end - self._split
            self.hot_bytes -= sum(size_of(event.previous) for event in self._hot[:hot])
            del self._hot[:hot]
            self._split = end
        del self._links[: end - self._base]
        self._base = end
        return ended

    def _key(self, seq: int) -> str:
        return self._keys[seq - self._base] if seq < self._split else self._hot[seq - self._split].key

    def _revision(self, seq: int) -> int:
        if seq < self._split:
            return self._revisions[seq - self._base]
        return self._hot[seq - self._split].revision

    def after(self, revision: int) -> int:
        """Sequence number of the first event with a greater revision; the end if there is none."""
        cold = bisect_right(self._revisions, revision)
        if cold < len(self._revisions):
            return self._base + cold
        return self._split + bisect_right(self._hot, revision, key=_revision_of)

    @property
    def first(self) -> int:
        """Sequence number of the oldest event."""
        return self._base

    @property
    def end(self) -> int:
        """Sequence number of the next event."""
        return self._base + len(self._links)

    def changed_after(self, key: str, revision: int) -> int:
        """Sequence number of the newest event of `key`, if that is after `revision`; else -1."""
        seq = self.last.get(key, -1)
        return seq if seq >= self._base and self._revision(seq) > revision else -1

    def first_after(self, seq: int, revision: int, steps: int) -> tuple[int, int]:
        """From an event after `revision` back towards the first such one of its key, in so many steps at most.

        Returns what was reached, and how many steps are left; if none are, there may be more to go.
        """
        links, base = self._links, self._base
        while steps > 0:
            before = links[seq - base]
            if before < base or self._revision(before) <= revision:
                break
            seq = before
            steps -= 1
        return seq, steps

    def added(self, start: int, end: int, prefix: str, after: str) -> int:
        """How many keys under `prefix` and greater than `after` the events from `start` to `end` add, on balance."""
        added = 0
        for at in range(start - self._base, min(end, self._split) - self._base):
            came, went = not self._before[at], self._deleted[at]
            if (came or went) and (key := self._keys[at]) > after and key.startswith(prefix):
                added += came - went
        for event in self._hot[max(0, start - self._split) : max(0, end - self._split)]:
            came, went = event.previous is None, event.entry is None
            if (came or went) and event.key > after and event.key.startswith(prefix):
                added += came - went
        return added

    def previous(self, seq: int) -> Entry | Cold | None:
        """The entry of an event's key before it."""
        if seq >= self._split:
            return self._hot[seq - self._split].previous
        at = seq - self._base
        before = self._before[at]
        return Cold(self._keys[at], before, self._created[at], self._versions[at]) if before else None

    def event(self, seq: int) -> Event:
        """The event; `Cold` stands for the entries of one whose values left memory."""
        if seq >= self._split:
            return self._hot[seq - self._split]
        at = seq - self._base
        key, revision, before = self._keys[at], self._revisions[at], self._before[at]
        previous = self.previous(seq)
        entry = None
        if not self._deleted[at]:
            created, version = (self._created[at], self._versions[at] + 1) if before else (revision, 1)
            entry = Cold(key, revision, created, version)
        return Event(revision, key, cast(Entry | None, entry), cast(Entry | None, previous))

    def events(self, start: int, limit: int, prefix: str) -> tuple[list[Event], int]:
        """Events under `prefix` from `start` on, and where to go on: after `limit` events of all keys or a few more.

        A revision is not cut in two.
        """
        end = min(start + limit, self.end)
        if end > start:
            end = self.after(self._revision(end - 1))
        cold_end = min(end, self._split)
        found = []
        if start < cold_end:
            keys = self._keys[start - self._base : cold_end - self._base]
            found = [self.event(start + at) for at, key in enumerate(keys) if key.startswith(prefix)]
        hot = self._hot[max(0, start - self._split) : max(0, end - self._split)]
        found += [event for event in hot if event.key.startswith(prefix)]
        return found, end

    def revision_before(self, seq: int) -> int:
        """The floor with which the events from `seq` on stay, and perhaps some before it."""
        return self._revision(seq) - 1

    def floor_keeping(self, cold_bytes: int) -> int:
        """The floor to raise to so that cold events take no more than this; 0 if they do not."""
        excess, floor = self.cold_bytes - cold_bytes, 0
        for key, revision, deleted in zip(self._keys, self._revisions, self._deleted, strict=True):
            if excess <= 0:
                break
            excess -= cold_size(key, deleted)
            floor = revision
        return floor

    def revision_keeping(self, hot_bytes: int) -> int:
        """The floor to raise to so that about this much of whole events stays."""
        excess, floor = self.hot_bytes - hot_bytes, 0
        for event in self._hot:
            if excess <= 0:
                break
            excess -= size_of(event.previous)
            floor = event.revision
        return floor

    def is_cold(self, seq: int) -> bool:
        """Whether the event's values left memory."""
        return seq < self._split
