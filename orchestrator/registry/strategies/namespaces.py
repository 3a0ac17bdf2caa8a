"""Namespaces: the `kubernetes` finalizer, the name label, and the finalize subresource.

Deletion (phase Terminating, emptying) is done by the registry and the namespace controller.
"""

from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy, with_field
from orchestrator.registry.strategies.meta import validate_finalizer
from orchestrator.registry.strategy import IsTaken

NAME_LABEL = "kubernetes.io/metadata.name"
FINALIZER = "kubernetes"


class NamespaceStrategy(BaseStrategy):
    def default(self, obj: Object) -> Object:
        return _labelled(obj)

    def initial_status(self, obj: Object) -> Object:
        return {"phase": "Active"}

    def prepare_create(self, obj: Object) -> Object:
        obj = super().prepare_create(obj)
        finalizers = (obj.get("spec") or {}).get("finalizers") or []
        if FINALIZER not in finalizers:
            finalizers = [*finalizers, FINALIZER]
        return {**obj, "spec": {"finalizers": finalizers}}

    def status_update(self, new: Object, old: Object) -> Object:
        result = super().status_update(new, old)
        status = result.get("status") or {}
        return result if status.get("phase") else {**result, "status": {**status, "phase": "Active"}}

    def prepare_update(self, new: Object, old: Object, subresource: str) -> Object:
        if subresource == "finalize":
            metadata = new["metadata"]
            return with_field({**old, "metadata": metadata}, "spec", new.get("spec") or {})
        return super().prepare_update(new, old, subresource)

    def settle_update(self, new: Object, old: Object) -> Object:
        return with_field(new, "spec", old.get("spec"))

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        found: list[Cause] = []
        for at, name in enumerate((new.get("spec") or {}).get("finalizers") or ()):
            found += validate_finalizer(name, f"spec.finalizers[{at}]")
        return found

    def validate_status(self, new: Object, old: Object) -> list[Cause]:
        phase = (new.get("status") or {}).get("phase") or ""
        ending = bool(new["metadata"].get("deletionTimestamp"))
        if phase == ("Terminating" if ending else "Active"):
            return []
        text = (
            "may only be 'Terminating' if `deletionTimestamp` is not empty"
            if ending
            else "may only be 'Active' if `deletionTimestamp` is empty"
        )
        return [causes.invalid_value("status.Phase", phase, text)]

    async def allocate(self, new: Object, old: Object | None, is_taken: IsTaken) -> Object:
        """The label once more: a generated name is known only now."""
        return _labelled(new)


def _labelled(obj: Object) -> Object:
    metadata = obj["metadata"]
    name, labels = metadata.get("name"), metadata.get("labels") or {}
    if not name or labels.get(NAME_LABEL) == name:
        return obj
    return {**obj, "metadata": {**metadata, "labels": {**labels, NAME_LABEL: name}}}
