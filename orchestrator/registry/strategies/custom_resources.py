"""Custom objects: one strategy per custom kind, with the rules of the version that an object is written in.

1. Body and patch were pruned and given their defaults by `api.schema`; admission may still have changed them.
2. `status` is apart where the version has that subresource; a write to it changes nothing else.
3. `metadata.generation` starts at 1 and grows with every change but those of metadata and of a status that is
   apart.
4. The version's schema validates the whole object; a part that an update leaves as it was is accepted (ratcheting).
5. Nothing is created once the definition is being deleted.

Source: Kubernetes' `customresource` registry. Made by `registry.custom_kinds`, one per generation of a definition.
"""

from orchestrator.api.custom.kinds import CustomKind, CustomVersion
from orchestrator.api.custom.validation import ABSENT
from orchestrator.api.errors import Cause, MethodNotAllowed
from orchestrator.api.item import Object
from orchestrator.registry.strategies.base import BaseStrategy, with_field, with_generation
from orchestrator.registry.strategies.meta import validate_meta

_UNQUALIFIED = (
    'metadata.finalizers: "%s": prefer a domain-qualified finalizer name including a path (/) to avoid accidental'
    " conflicts with other finalizer writers"
)
ENDING = "create not allowed while custom resource definition is terminating"


class CustomStrategy(BaseStrategy):
    """`registry.strategy.Strategy` of a custom kind."""

    def __init__(self, kind: CustomKind) -> None:
        super().__init__(kind.rows[0])
        self._kind = kind

    def prepare_create(self, obj: Object) -> Object:
        if self._kind.ending:
            raise MethodNotAllowed(ENDING)
        if self._version(obj).has_status:
            obj = with_field(obj, "status", None)
        return with_generation(obj, 1)

    def prepare_update(self, new: Object, old: Object, subresource: str) -> Object:
        if subresource == "status":
            return self.status_update(new, old)
        apart = self._version(new).has_status
        if apart:
            new = with_field(new, "status", old.get("status"))
        generation = old["metadata"].get("generation", 0)
        changed = _desired(new, apart) != _desired(old, apart)
        return with_generation(new, generation + 1 if changed else generation)

    def status_update(self, new: Object, old: Object) -> Object:
        metadata = old["metadata"]
        given = new["metadata"]
        for name in ("resourceVersion", "managedFields"):
            metadata = with_field(metadata, name, given.get(name))
        return with_field({**old, "metadata": metadata}, "status", new.get("status"))

    def validate(self, new: Object, old: Object | None, subresource: str) -> list[Cause]:
        found = validate_meta(new, self.resource)
        return found + self._version(new).validator.check(new, ABSENT if old is None else old)

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        deprecation = self._version(new).deprecation
        found = [deprecation] if deprecation else []
        finalizers = new["metadata"].get("finalizers")
        if finalizers:
            before = (old["metadata"].get("finalizers") or ()) if old is not None else ()
            found += [_UNQUALIFIED % name for name in finalizers if name not in before and "/" not in name]
        return found

    def _version(self, obj: Object) -> CustomVersion:
        return self._kind.version_of(obj)


def _desired(obj: Object, apart: bool) -> Object:
    """All that counts as desired state."""
    return {
        name: part for name, part in obj.items() if name != "metadata" and not (apart and name == "status")
    }
