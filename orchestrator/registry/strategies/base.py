"""The strategy that kinds without rules of their own use, and from which the others take the common part.

It validates metadata, keeps `status` and the rest apart where the resource has a status subresource, and
counts `metadata.generation` for the kinds that have one. Other strategies override single steps.
"""

from typing import Any

from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.api.resources import Resource
from orchestrator.registry.strategies.meta import validate_meta
from orchestrator.registry.strategy import IsTaken

_NO_CLAIMS: frozenset[str] = frozenset()


class BaseStrategy:
    """`registry.strategy.Strategy` with the rules that all kinds share. Keeps no state."""

    counts_generation = False
    """Whether `metadata.generation` starts at 1 and grows with every change of the desired state."""
    status_keeps_labels = False
    """Whether a write to the status subresource leaves `metadata.labels` alone."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self.has_status = resource.subresource("status") is not None

    def default(self, obj: Object) -> Object:
        """`obj` with the kind's defaults; `obj` itself if there are none. Never mutates."""
        return obj

    def initial_status(self, obj: Object) -> Object | None:
        """`status` of a new object; None leaves the field out."""
        return None

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        """The kind's own rules for the main resource, metadata apart."""
        return []

    def validate_status(self, new: Object, old: Object) -> list[Cause]:
        """The kind's own rules for a write to the status subresource."""
        return []

    def prepare_create(self, obj: Object) -> Object:
        obj = self.default(obj)
        if self.has_status:
            status = self.initial_status(obj)
            obj = {key: value for key, value in obj.items() if key != "status"}
            if status is not None:
                obj["status"] = status
        return with_generation(obj, 1) if self.counts_generation else obj

    def prepare_update(self, new: Object, old: Object, subresource: str) -> Object:
        if subresource == "status":
            return self.status_update(new, old)
        new = self.default(new)
        if self.has_status:
            new = with_field(new, "status", old.get("status"))
        new = self.settle_update(new, old)
        if self.counts_generation:
            generation: int = old["metadata"].get("generation", 0)
            new = with_generation(new, generation + 1 if self.desired_changed(new, old) else generation)
        return new

    def settle_update(self, new: Object, old: Object) -> Object:
        """Carry over from `old` what a client may leave out of an update."""
        return new

    def desired_changed(self, new: Object, old: Object) -> bool:
        return bool(new.get("spec") != old.get("spec"))

    def status_update(self, new: Object, old: Object) -> Object:
        """`old` with the status and the free part of the metadata of `new`."""
        metadata = with_field(new["metadata"], "generation", old["metadata"].get("generation"))
        metadata = with_field(metadata, "ownerReferences", old["metadata"].get("ownerReferences"))
        if self.status_keeps_labels:
            metadata = with_field(metadata, "labels", old["metadata"].get("labels"))
        return with_field({**old, "metadata": metadata}, "status", new.get("status"))

    def validate(self, new: Object, old: Object | None, subresource: str) -> list[Cause]:
        found = validate_meta(new, self.resource)
        if subresource == "status" and old is not None:
            return found + self.validate_status(new, old)
        return found + self.validate_object(new, old)

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        return []

    async def allocate(self, new: Object, old: Object | None, is_taken: IsTaken) -> Object:
        return new

    def claims(self, obj: Object) -> frozenset[str]:
        return _NO_CLAIMS

    def ending(self, obj: Object, now: str) -> Object:
        return obj

    def grace_period_s(self, obj: Object, requested_s: int | None) -> int:
        return 0


def with_field(obj: Object, name: str, value: Any) -> Object:
    """`obj` with one field set, or left out when `value` is None. The same object when nothing changes."""
    if value is None:
        return {key: held for key, held in obj.items() if key != name} if name in obj else obj
    return obj if obj.get(name) is value else {**obj, name: value}


def with_generation(obj: Object, generation: int) -> Object:
    metadata = obj["metadata"]
    if metadata.get("generation") == generation:
        return obj
    return {**obj, "metadata": {**metadata, "generation": generation}}


def with_defaults(obj: Object, defaults: Object) -> Object:
    """`obj` with those of `defaults` that it lacks or holds as an empty text, as Go's zero value; a new
    object only when there are any."""
    for name in defaults:
        if obj.get(name, "") == "":
            return filled(obj, defaults)
    return obj


def filled(obj: Object, defaults: Object) -> Object:
    """As `with_defaults`, but always a new object."""
    result = {**defaults, **obj}
    for name, value in defaults.items():
        if result[name] == "":
            result[name] = value
    return result
