"""An obviously correct model of the store: a list of all changes, searched from its start each time.

Nothing here is fast or clever, and nothing is shared with the product but the names of its requests.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from orchestrator.store.interface import Entry, Event, Put, RangeResult, Txn, TxnResult


class Row(NamedTuple):
    """An entry, as plain values that can be compared."""

    key: str
    value: bytes
    revision: int
    create_revision: int
    version: int
    lease: int


class Change(NamedTuple):
    """One key written (`value`) or deleted (None) in a revision."""

    revision: int
    key: str
    value: bytes | None
    lease: int


class Seen(NamedTuple):
    """An event, as plain values."""

    revision: int
    key: str
    now: Row | None
    before: Row | None


@dataclass
class Lease:
    """`deadline_s` is on the test's clock."""

    ttl_s: int
    deadline_s: float


def row_of(entry: Entry) -> Row:
    return Row(entry.key, entry.value, entry.revision, entry.create_revision, entry.version, entry.lease)


def seen_of(event: Event) -> Seen:
    now = row_of(event.entry) if event.entry else None
    return Seen(event.revision, event.key, now, row_of(event.previous) if event.previous else None)


class Model:
    """What a store that began empty at `revision` must hold."""

    def __init__(self, revision: int = 0) -> None:
        self.first = revision
        self.revision = revision
        self.floor = revision
        self.changes: list[Change] = []
        self.seen: list[Seen] = []
        """The changes as events."""
        self.leases: dict[int, Lease] = {}

    def row(self, key: str, at: int | None = None) -> Row | None:
        """The entry of `key` at a revision, the newest by default."""
        row: Row | None = None
        for change in self.changes:
            if change.key != key or (at is not None and change.revision > at):
                continue
            if change.value is None:
                row = None
            elif row is None:
                row = Row(key, change.value, change.revision, change.revision, 1, change.lease)
            else:
                created, version = row.create_revision, row.version + 1
                row = Row(key, change.value, change.revision, created, version, change.lease)
        return row

    def rows(self, prefix: str = "", at: int | None = None) -> list[Row]:
        """Every entry under `prefix` at a revision, in the order of the keys' bytes."""
        keys = sorted({change.key for change in self.changes}, key=str.encode)
        rows = [self.row(key, at) for key in keys if key.startswith(prefix)]
        return [row for row in rows if row is not None]

    def events(self, prefix: str, after: int, until: int | None = None) -> list[Seen]:
        """Every event under `prefix` later than `after`, sorted by revision and key."""
        last = self.revision if until is None else until
        found = [seen for seen in self.seen if seen.key.startswith(prefix) and after < seen.revision <= last]
        return sorted(found, key=_order)

    def transact(self, txn: Txn) -> tuple[bool, int, list[Row], list[str]]:
        """Whether it succeeded, its revision, what it wrote, and the keys whose comparison failed."""
        failed = []
        for compare in txn.compares:
            row = self.row(compare.key)
            if (row.revision if row else 0) != compare.revision:
                failed.append(compare.key)
        if failed:
            return False, self.revision, [], failed
        revision = self.revision + 1
        changes = []
        for step in txn.operations:
            if isinstance(step, Put):
                changes.append(Change(revision, step.key, step.value, step.lease))
            elif self.row(step.key):
                changes.append(Change(revision, step.key, None, 0))
        self._append(changes)
        written = [self.row(step.key) for step in txn.operations if isinstance(step, Put)]
        return True, self.revision, [row for row in written if row is not None], []

    def _append(self, changes: Iterable[Change]) -> None:
        for change in changes:
            before = self.row(change.key)
            self.changes.append(change)
            self.seen.append(Seen(change.revision, change.key, self.row(change.key), before))
            self.revision = change.revision

    def keys_of(self, lease: int) -> list[str]:
        return [row.key for row in self.rows() if row.lease == lease]

    def end_lease(self, lease: int) -> None:
        """Its keys go, all in one revision; a lease without keys takes none."""
        if self.leases.pop(lease, None) is not None:
            revision = self.revision + 1
            self._append([Change(revision, key, None, 0) for key in self.keys_of(lease)])

    def compact(self, revision: int) -> None:
        self.floor = max(self.floor, revision)

    def check_result(self, txn: Txn, result: TxnResult) -> None:
        """Make `txn` here too and compare."""
        succeeded, revision, rows, failed = self.transact(txn)
        found = (result.succeeded, result.revision, [row_of(e) for e in result.entries], list(result.failed))
        assert found == (succeeded, revision, rows, failed)

    def check_range(
        self, prefix: str, start_after: str, limit: int, revision: int, result: RangeResult
    ) -> None:
        """A range that was answered."""
        at = revision or self.revision
        wanted = [row for row in self.rows(prefix, at) if row.key.encode() > start_after.encode()]
        shown = wanted[:limit] if limit else wanted
        assert [row_of(entry) for entry in result.entries] == shown
        assert (result.revision, result.remaining) == (at, len(wanted) - len(shown))


def in_order(events: Sequence[Event]) -> list[Seen]:
    """Events as plain values, sorted by key within a revision; fails unless revisions only grow."""
    revisions = [event.revision for event in events]
    assert revisions == sorted(revisions), f"events out of order: {revisions}"
    return sorted(map(seen_of, events), key=_order)


def _order(seen: Seen) -> tuple[int, str]:
    return seen.revision, seen.key
