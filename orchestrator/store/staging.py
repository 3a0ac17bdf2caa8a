"""Decides transactions against the durable state plus what is staged on top of it. Pure bookkeeping.

Of a staged key only the revision and the lease matter to a later decision; `apply` builds the entry once
the record is durable. Owner: the committer.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from msgspec import Struct

from orchestrator.store.interface import Compare, Delete, LeaseNotFoundError, Put, StoreError, Txn
from orchestrator.store.record import (
    COMPACT,
    DELETE,
    END,
    GRANT,
    KEY_BYTES_MAX,
    PUT,
    VALUE_BYTES_MAX,
    Operation,
    Record,
    number_value,
)
from orchestrator.store.state import State


@dataclass(frozen=True, slots=True)
class Grant:
    """Begin a lease."""

    lease: int
    ttl_s: int


@dataclass(frozen=True, slots=True)
class End:
    """End a lease and delete its keys, in one revision."""

    lease: int


@dataclass(frozen=True, slots=True)
class Compact:
    """Raise the compaction floor."""

    floor: int


Bookkeeping = Grant | End | Compact


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A transaction that writes nothing: a comparison failed, or there was nothing to change."""

    failed: tuple[str, ...] = ()


class _Staged(Struct, frozen=True, gc=False):
    """A key after a staged record; `revision` is 0 when that deletes it."""

    record: int
    revision: int
    lease: int


class Staging:
    """What is decided, but not yet on disk."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._keys: dict[str, _Staged] = {}
        self._ending: set[int] = set()
        self._revision = state.revision

    def reset(self) -> None:
        """Forget everything staged: it did not get to disk."""
        self._keys.clear()
        self._ending.clear()
        self._revision = self._state.revision

    def landed(self, record: Record) -> None:
        """`record` is durable and applied."""
        keys, revision = self._keys, record.revision
        for step in record.operations:
            key = step.key
            if key:
                if (staged := keys.get(key)) is not None and staged.record == revision:
                    del keys[key]
            elif step.kind == END:
                self._ending.discard(step.lease)

    def is_ending(self, lease: int) -> bool:
        return lease in self._ending

    def check(self, work: Txn | Bookkeeping) -> None:
        """Raises `StoreError` for a transaction that could never be made."""
        if not isinstance(work, Txn):
            return
        operations = work.operations
        if len(operations) > 1 and len({operation.key for operation in operations}) < len(operations):
            raise StoreError("a transaction changes the same key twice")
        for operation in operations:
            key = operation.key
            size = len(key) if key.isascii() else len(key.encode())
            if not 0 < size <= KEY_BYTES_MAX:
                raise StoreError(f"a key has 1 to {KEY_BYTES_MAX} bytes: {key[:80]!r}")
            if isinstance(operation, Put) and (operation.lease or len(operation.value) > VALUE_BYTES_MAX):
                self._check_put(operation)

    def _check_put(self, put: Put) -> None:
        if len(put.value) > VALUE_BYTES_MAX:
            raise StoreError(f"{put.key}: a value has at most {VALUE_BYTES_MAX} bytes, not {len(put.value)}")
        if put.lease and (put.lease in self._ending or self._state.leases.get(put.lease) is None):
            raise LeaseNotFoundError(f"{put.key}: lease {put.lease} does not exist")

    def touches(self, work: Txn | Bookkeeping) -> bool:
        """Whether the decision on `work` rests on something that is not durable yet."""
        if not isinstance(work, Txn) or not self._keys:
            return bool(self._ending)
        steps: Iterable[Compare | Put | Delete] = (*work.compares, *work.operations)
        return any(step.key in self._keys for step in steps)

    def _revision_of(self, key: str) -> int:
        if staged := self._keys.get(key):
            return staged.revision
        entry = self._state.get(key)
        return entry.item.revision if entry else 0

    def stage(self, work: Txn | Bookkeeping) -> Record | Unchanged:
        """Decide `work`; a record is from now on what later decisions build on."""
        if isinstance(work, Txn):
            return self._stage_txn(work)
        if isinstance(work, Grant):
            return Record(self._revision, [Operation(GRANT, work.lease, "", number_value(work.ttl_s))])
        if isinstance(work, Compact):
            return Record(self._revision, [Operation(COMPACT, 0, "", number_value(work.floor))])
        return self._stage_end(work.lease)

    def _stage_txn(self, txn: Txn) -> Record | Unchanged:
        if txn.compares and (failed := self._failed(txn.compares)):
            return Unchanged(failed)
        steps: list[Operation] = []
        for operation in txn.operations:
            if isinstance(operation, Put):
                steps.append(Operation(PUT, operation.lease, operation.key, operation.value))
            elif self._revision_of(operation.key):
                steps.append(Operation(DELETE, 0, operation.key, b""))
        return self._record(steps) if steps else Unchanged()

    def _failed(self, compares: Iterable[Compare]) -> tuple[str, ...]:
        """The keys whose comparison does not hold."""
        return tuple([one.key for one in compares if self._revision_of(one.key) != one.revision])

    def _stage_end(self, lease: int) -> Record | Unchanged:
        known = self._state.leases.get(lease)
        if known is None or lease in self._ending:
            return Unchanged()
        self._ending.add(lease)
        staged = {key for key, change in self._keys.items() if change.revision and change.lease == lease}
        kept = {key for key in known.keys if key not in self._keys}
        steps = [Operation(DELETE, 0, key, b"") for key in sorted(staged | kept)]
        end = Operation(END, lease, "", b"")
        return self._record([*steps, end]) if steps else Record(self._revision, [end])

    def _record(self, steps: list[Operation]) -> Record:
        revision = self._revision = self._revision + 1
        keys = self._keys
        for step in steps:
            if step.key:
                keys[step.key] = _Staged(revision, revision if step.kind == PUT else 0, step.lease)
        return Record(revision, steps)
