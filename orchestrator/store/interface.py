"""The store's contract. Whatever engine is used behaves like this; tests/contract/ says so in code.

- There is one revision, growing by one per transaction that changes something; revision order is durable
  order is publish order. Nothing is visible in a read or a watch, or acknowledged, before it is on disk.
- A range reads one consistent revision: the newest, or any not older than the compaction floor.
- A watch from revision R yields every event with revision > R under its prefix, in order, without gaps or
  duplicates, or ends with `CompactedError` (R is below the floor) or `SlowWatcherError` (it fell behind).
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from orchestrator.api.item import Item
from orchestrator.base.errors import OrchestratorError


class StoreError(OrchestratorError):
    """Root of what a store raises."""


class CompactedError(StoreError):
    """The asked revision is older than the compaction floor."""

    def __init__(self, floor: int) -> None:
        super().__init__(f"revision has been compacted; the oldest kept is {floor}")
        self.floor = floor


class FutureRevisionError(StoreError):
    """The asked revision does not exist yet."""


class SlowWatcherError(StoreError):
    """The watcher did not take its events in time and its bounded buffer is full: list again."""


class NoSpaceError(StoreError):
    """No segment could be allocated. The write was not made; trying again later is right."""


class StoppedError(StoreError):
    """A write or sync failed on an allocated segment, or the store is closed: no writes until a restart."""


class LeaseNotFoundError(StoreError):
    """A put names a lease that does not exist, or no longer. The transaction was not made."""


class TooLargeError(StoreError):
    """A value or transaction exceeds what the engine takes. It was not made; trying again is useless."""


class UnavailableError(StoreError):
    """The engine's servers do not answer. Nothing was written; trying again later is right."""


class UnknownOutcomeError(StoreError):
    """The connection broke while a write was under way: it may have been made, or may still be. Read, then decide."""


class Entry(Struct, frozen=True, gc=False, eq=False):
    """One key at one revision. Immutable; `item` is shared with everybody who reads this entry.

    A struct without garbage collection: an entry is in no cycle, and there is one per stored object.
    """

    key: str
    item: Item
    create_revision: int
    version: int
    """How often the key was written since it was created; 1 at first."""
    lease: int = 0

    @property
    def value(self) -> bytes:
        return self.item.raw

    @property
    def revision(self) -> int:
        """Revision of the last write."""
        return self.item.revision


class Event(Struct, frozen=True, gc=False):
    """A change. `entry` is None for a deletion, `previous` is None for a creation."""

    revision: int
    key: str
    entry: Entry | None
    previous: Entry | None


PREVIOUS = -1
"""As the revision of a comparison, in `transact_many`: see `Compare`."""


class Compare(Struct, frozen=True, gc=False):
    """Holds when the key's last write has this revision; 0 means that the key is absent.

    `PREVIOUS` holds when the last write is that of the transaction before it in the same call that writes the key.
    So several can build upon each other without waiting for each other's revision.
    """

    key: str
    revision: int


class Put(Struct, frozen=True, gc=False):
    """Write `value`; attach to `lease` unless 0."""

    key: str
    value: bytes
    lease: int = 0


class Delete(Struct, frozen=True, gc=False):
    """Remove the key; an absent one is no event."""

    key: str


class Txn(Struct, frozen=True, gc=False):
    """All operations, in one revision, if every comparison holds; else nothing. A key is changed at most once."""

    compares: tuple[Compare, ...]
    operations: tuple[Put | Delete, ...]


def following(txn: Txn, made: Mapping[str, int]) -> Txn:
    """`txn` with the revisions that it follows; `made` are those of the call's writes so far, 0 or less for none."""
    if all(compare.revision != PREVIOUS for compare in txn.compares):
        return txn
    compares = (
        Compare(compare.key, made.get(compare.key) or PREVIOUS) if compare.revision == PREVIOUS else compare
        for compare in txn.compares
    )
    return Txn(tuple(compares), txn.operations)


class TxnResult(Struct, frozen=True, gc=False):
    """`revision` is the transaction's own when it succeeded and changed something, else the store's current one.

    `entries` holds the written entry per `Put`, in order; empty when a comparison failed. `failed` names the
    keys whose comparison did not hold.
    """

    succeeded: bool
    revision: int
    entries: tuple[Entry, ...] = ()
    failed: tuple[str, ...] = ()


class RangeResult(Struct, frozen=True, gc=False):
    """`revision` is what was read at; `remaining` counts the entries after the last one returned."""

    entries: list[Entry]
    revision: int
    remaining: int = 0


class Watch(Protocol):
    """A stream of batches of events. Use as `async for events in watch`, and `close` it."""

    @property
    def progress(self) -> int:
        """Every event up to this revision has been yielded (for bookmarks)."""

    def __aiter__(self) -> "Watch": ...

    async def __anext__(self) -> list[Event]:
        """The next events in order, at least one. Raises `CompactedError`, `SlowWatcherError`, `StoppedError`."""

    def close(self) -> None:
        """Stop; a pending `__anext__` ends with StopAsyncIteration. May be called twice."""


class Store(Protocol):
    """What every engine offers."""

    @property
    def revision(self) -> int:
        """The newest visible revision."""

    async def get(self, key: str) -> Entry | None:
        """The newest entry of `key`."""

    async def range(
        self, prefix: str, *, start_after: str = "", limit: int = 0, revision: int = 0
    ) -> RangeResult:
        """Entries under `prefix` in key order, after `start_after`, at `revision` (0: the newest).

        Raises `CompactedError`, `FutureRevisionError`.
        """

    async def transact(self, txn: Txn) -> TxnResult:
        """Run one transaction; returns after it is durable. Raises `NoSpaceError`, `StoppedError`."""

    async def transact_many(self, txns: Sequence[Txn]) -> list[TxnResult]:
        """Run several with one sync, or one for every few hundred; each succeeds or fails by itself, in order.

        When a later part can't be written, those before it stay made: the error says how many.
        """

    def watch(self, prefix: str, after_revision: int) -> Watch:
        """Events under `prefix` with a revision greater than `after_revision`; `CompactedError` comes on iteration."""

    async def compact(self, revision: int) -> None:
        """Forget history before `revision`; the newest entries stay."""

    async def lease_grant(self, ttl_s: int) -> int:
        """A lease whose keys are deleted when it is not renewed within `ttl_s`. Returns its id, never 0."""

    async def lease_keep_alive(self, lease: int) -> int:
        """Renew; returns the time to live in seconds, or 0 when the lease is gone."""

    async def lease_revoke(self, lease: int) -> None:
        """End the lease now and delete its keys; an unknown lease is fine."""

    async def close(self) -> None:
        """Flush what is acknowledged and release files. May be called twice."""
