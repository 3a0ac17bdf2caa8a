"""Transactions as etcd takes them, and what became of one whose answer was lost. Pure but for the cache it reads.

A transaction that compares a key which it also changes can't take effect twice: after it, that comparison fails.
So when its answer is lost it may be sent again, and what happened to the key since tells whether it was the first
that was made. Any other transaction must not be repeated, its writer has to be told.
"""

from collections.abc import Iterable

from orchestrator.store.etcd.api import Message
from orchestrator.store.etcd.keys import Keys
from orchestrator.store.interface import (
    Delete,
    Event,
    Put,
    StoreError,
    TooLargeError,
    Txn,
    TxnResult,
)
from orchestrator.store.record import KEY_BYTES_MAX, VALUE_BYTES_MAX
from orchestrator.store.sealing import Sealer
from orchestrator.store.state import State

_MOD_REVISION = 2
"""`Compare.target`; a result of 0 means equal."""


def check(txn: Txn) -> None:
    """Raises `StoreError` for a transaction that no engine takes."""
    operations = txn.operations
    if len({operation.key for operation in operations}) < len(operations):
        raise StoreError("a transaction changes the same key twice")
    for operation in operations:
        if not 0 < len(operation.key.encode()) <= KEY_BYTES_MAX:
            raise StoreError(f"a key has 1 to {KEY_BYTES_MAX} bytes: {operation.key[:80]!r}")
        if isinstance(operation, Put) and len(operation.value) > VALUE_BYTES_MAX:
            raise TooLargeError(
                f"{operation.key}: a value has at most {VALUE_BYTES_MAX} bytes, not {len(operation.value)}"
            )


def request_of(txn: Txn, keys: Keys, sealer: Sealer | None) -> Message:
    """`TxnRequest`; where a comparison fails the answer has the revisions of the compared keys."""
    compared = [(keys.to_etcd(compare.key), compare.revision) for compare in txn.compares]
    return {
        "compare": [
            {"target": _MOD_REVISION, "key": key, "mod_revision": revision} for key, revision in compared
        ],
        "success": [_operation(operation, keys, sealer) for operation in txn.operations],
        "failure": [{"range": {"key": key, "keys_only": True}} for key, _ in compared],
    }


def _operation(operation: Put | Delete, keys: Keys, sealer: Sealer | None) -> Message:
    key = keys.to_etcd(operation.key)
    if isinstance(operation, Delete):
        return {"delete": {"key": key}}
    value = sealer.seal(operation.key, operation.value) if sealer is not None else operation.value
    return {"put": {"key": key, "value": value, "lease": operation.lease}}


def failed_keys(txn: Txn, answer: Message) -> tuple[str, ...]:
    """The keys whose comparison did not hold, from the answer of a transaction that did not succeed."""
    failed = []
    for compare, response in zip(txn.compares, answer.get("responses", ()), strict=True):
        found = response["range"].get("kvs", ())
        if compare.revision != (found[0]["mod_revision"] if found else 0):
            failed.append(compare.key)
    return tuple(failed)


def repeatable(txn: Txn) -> bool:
    """Whether it can take effect only once, however often it is sent."""
    compared = {compare.key: compare.revision for compare in txn.compares}
    return any(
        operation.key in compared and (isinstance(operation, Put) or compared[operation.key])
        for operation in txn.operations
    )


def trace(txn: Txn, state: State, since: int) -> TxnResult | None:
    """What became of a `repeatable` transaction that was sent when the cache was at `since`, from its history.

    None while it may still be made: its comparisons hold. Raises `CompactedError` when the history is gone.
    """
    after = since
    while events := state.events_after(after, 1):
        after = events[-1].revision
        if _is_ours(txn, events):
            entries = {event.key: event.entry for event in events if event.entry is not None}
            puts = (operation.key for operation in txn.operations if isinstance(operation, Put))
            return TxnResult(True, after, tuple(entries[key] for key in puts))
    failed = tuple(c.key for c in txn.compares if c.revision != _revision(state, c.key))
    return TxnResult(False, state.revision, (), failed) if failed else None


def _revision(state: State, key: str) -> int:
    entry = state.get(key)
    return entry.revision if entry is not None else 0


def _is_ours(txn: Txn, events: Iterable[Event]) -> bool:
    """Whether the events of one revision are those that the transaction makes: its values, on what it compared."""
    before = {event.key: event.previous.revision if event.previous else 0 for event in events}
    if any(compare.revision != before.get(compare.key, compare.revision) for compare in txn.compares):
        return False
    written = {event.key: event.entry.value if event.entry else None for event in events}
    wanted = {op.key: op.value if isinstance(op, Put) else None for op in txn.operations}
    return (
        all(written[key] == value if key in written else value is None for key, value in wanted.items())
        and written.keys() <= wanted.keys()
    )
