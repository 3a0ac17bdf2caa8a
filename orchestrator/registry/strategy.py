"""What differs between kinds when an object is written. One strategy per kind, found in `strategies`.

Called by `registry.Registry` in this order: `prepare_create` or `prepare_update`, admission, `validate`,
`allocate`, then the store transaction that also takes the `claims`.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from orchestrator.api.errors import Cause
from orchestrator.api.item import Object

IsTaken = Callable[[str], Awaitable[bool]]
"""Asks the store whether a claim key is held by anybody."""


class Strategy(Protocol):
    """Pure rules of one kind, except for `allocate`. None of these mutates its arguments."""

    def prepare_create(self, obj: Object) -> Object:
        """Set defaults, drop what a client may not set (status of kinds with that subresource)."""

    def prepare_update(self, new: Object, old: Object, subresource: str) -> Object:
        """Keep what this (sub)resource may not change, set defaults, raise `metadata.generation` when the
        desired state changed. `subresource` is empty for the main resource."""

    def validate(self, new: Object, old: Object | None, subresource: str) -> list[Cause]:
        """What is wrong with `new`; `old` is None on create. Empty when all is well."""

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        """Texts for `Warning` headers: accepted, but the author should know."""

    async def allocate(self, new: Object, old: Object | None, is_taken: IsTaken) -> Object:
        """Fill in what the cluster hands out (cluster IPs, node ports). May raise `Invalid` when exhausted.

        Runs again when somebody else took the same claim in the meantime.
        """

    def claims(self, obj: Object) -> frozenset[str]:
        """Keys below `/registry/ranges/` that only one object may hold, such as `serviceips/10.43.0.1`.

        The registry takes new and releases old claims in the transaction that writes the object.
        """

    def ending(self, obj: Object, now: str) -> Object:
        """`obj` as a delete request finds it: with the finalizers and conditions that deletion itself brings.

        `now` is the time as objects have it.
        """

    def grace_period_s(self, obj: Object, requested_s: int | None) -> int:
        """Seconds between a delete request and removal; 0 removes at once. Only pods have more than 0."""
