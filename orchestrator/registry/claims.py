"""Claims: keys that only one object may hold (cluster IPs, node ports), decided by the store's transaction.

A strategy says which claims an object makes; the transaction that writes the object takes the new ones
(comparing that nobody has them) and releases those it no longer makes. So there is nothing to repair.
"""

import msgspec

from orchestrator.store.interface import Compare, Delete, Put

PREFIX = "/registry/ranges/"


def changes(
    owner: str, before: frozenset[str], after: frozenset[str]
) -> tuple[tuple[Compare, ...], tuple[Put | Delete, ...]]:
    """Comparisons and operations that move `owner` (a store key) from one set of claims to another."""
    if before == after:
        return (), ()
    taken = sorted(PREFIX + claim for claim in after - before)
    released = sorted(PREFIX + claim for claim in before - after)
    value = msgspec.json.encode({"metadata": {"name": owner}})
    return (
        tuple(Compare(key, 0) for key in taken),
        (*(Put(key, value) for key in taken), *(Delete(key) for key in released)),
    )
