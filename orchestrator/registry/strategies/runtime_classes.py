"""RuntimeClasses: a handler that never changes, and what pods of the class cost and where they fit."""

from orchestrator.api import names, quantity
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy
from orchestrator.registry.strategies.meta import validate_labels
from orchestrator.registry.strategies.placement import validate_tolerations
from orchestrator.registry.strategies.pod_defaults import canonical_amount


class RuntimeClassStrategy(BaseStrategy):
    def default(self, obj: Object) -> Object:
        fixed = (obj.get("overhead") or {}).get("podFixed")
        if not fixed:
            return obj
        amounts = {name: canonical_amount(amount) for name, amount in fixed.items()}
        return {**obj, "overhead": {**obj["overhead"], "podFixed": amounts}}

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        handler = new.get("handler") or ""
        found = causes.problems("handler", handler, names.is_dns1123_label(handler))
        if old is not None:
            found += causes.immutable("handler", handler, old.get("handler"))
        for name, amount in ((new.get("overhead") or {}).get("podFixed") or {}).items():
            path = f"overhead.podFixed[{name}]"
            found += causes.problems(path, name, names.is_qualified_name(name))
            if not quantity.is_quantity(amount) or quantity.parse(amount) < 0:
                found.append(causes.invalid_value(path, amount, "must be greater than or equal to 0"))
        scheduling = new.get("scheduling") or {}
        found += validate_labels(scheduling.get("nodeSelector") or {}, "scheduling.nodeSelector")
        return found + _validate_tolerations(scheduling.get("tolerations") or [])


def _validate_tolerations(tolerations: list[Object]) -> list[Cause]:
    found = validate_tolerations(tolerations, "scheduling.tolerations")
    return found + [
        causes.duplicate(f"scheduling.tolerations[{at}]", toleration)
        for at, toleration in enumerate(tolerations)
        if toleration in tolerations[:at]
    ]
