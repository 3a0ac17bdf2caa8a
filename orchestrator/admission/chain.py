"""The admission chain: what decides about a write after authorization, on the merged object.

`Registry` calls `admit` inside its read-modify-write, so again on every retry. First every interested plugin
may build a changed object, in Kubernetes' order; then every one validates the outcome. Plugins read other
objects through `Reader` only, never through a cache that may lag.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from orchestrator.api.access import Identity
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import Resource

Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]


class Reader(Protocol):
    """Read-only view of the newest state."""

    async def find(self, resource: Resource, namespace: str, name: str) -> Item | None:
        """The object, or None."""


@dataclass(slots=True)
class AdmissionRequest:
    """One write. `object` is None for DELETE, `old` is None for CREATE; both are frozen."""

    operation: Operation
    resource: Resource
    subresource: str
    namespace: str
    name: str
    object: Object | None
    old: Object | None
    identity: Identity
    dry_run: bool = False
    warnings: list[str] = field(default_factory=list)
    """Plugins append texts for `Warning` headers."""


class Plugin(Protocol):
    """One rule of admission. Raises an `ApiError` to refuse."""

    def handles(self, operation: Operation, resource: Resource, subresource: str) -> bool:
        """Whether it has a say; constant for its arguments, the chain asks once."""

    async def mutate(self, request: AdmissionRequest) -> Object | None:
        """A changed copy of `request.object`, or None to leave it."""

    async def validate(self, request: AdmissionRequest) -> None:
        """Refuse by raising."""


@dataclass(frozen=True, slots=True)
class Charge:
    """A quota as it was, and what it becomes with a write, if nobody changed it meanwhile."""

    before: Item
    object: Object


class Ledger(Protocol):
    """Decides what a write takes from the quotas of its namespace, after everything else was decided."""

    def handles(self, operation: Operation, resource: Resource, subresource: str) -> bool:
        """Whether such a write may use more of a quota."""

    def charge(self, request: AdmissionRequest, held: list[Item]) -> list[Charge]:
        """What becomes of `held`, the namespace's quotas in their newest state. Raises `Forbidden`."""


class AdmissionChain:
    """The plugins in order. Stateless but for the memo of who handles what."""

    def __init__(self, plugins: Sequence[Plugin] = (), ledger: Ledger | None = None) -> None:
        """What `ledger` charges, the registry writes in the transaction that writes the object."""
        self.ledger = ledger
        self._plugins = tuple(plugins)
        self._interested: dict[tuple[Operation, str, str, str], tuple[Plugin, ...]] = {}

    async def admit(self, request: AdmissionRequest) -> Object:
        """The object as admitted (the old one for DELETE). Raises `ApiError`."""
        plugins = self._for(request)
        for plugin in plugins:
            changed = await plugin.mutate(request)
            if changed is not None:
                request.object = changed
        for plugin in plugins:
            await plugin.validate(request)
        return request.object or request.old or {}

    def _for(self, request: AdmissionRequest) -> tuple[Plugin, ...]:
        resource = request.resource
        key = (request.operation, resource.group, resource.plural, request.subresource)
        known = self._interested.get(key)
        if known is None:
            known = self._interested[key] = tuple(
                plugin
                for plugin in self._plugins
                if plugin.handles(request.operation, resource, request.subresource)
            )
        return known
