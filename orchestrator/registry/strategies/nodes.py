"""Nodes: taints, pod ranges that never change, resources in canonical form.

A node's status may be given on create: agents register with it.
"""

from orchestrator.api import names, quantity
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy, with_field
from orchestrator.registry.strategies.placement import validate_taints
from orchestrator.registry.strategies.pod_defaults import canonical_amount


class NodeStrategy(BaseStrategy):
    def default(self, obj: Object) -> Object:
        spec = obj.get("spec") or {}
        if spec.get("podCIDR") and not spec.get("podCIDRs"):
            spec = {**spec, "podCIDRs": [spec["podCIDR"]]}
        elif spec.get("podCIDRs") and not spec.get("podCIDR"):
            spec = {**spec, "podCIDR": spec["podCIDRs"][0]}
        return {**obj, "spec": spec}

    def initial_status(self, obj: Object) -> Object:
        return _default_status(obj.get("status") or {})

    def status_update(self, new: Object, old: Object) -> Object:
        result = super().status_update(new, old)
        return with_field(result, "status", _default_status(result.get("status") or {}))

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        spec = new.get("spec") or {}
        found = validate_taints(spec["taints"], "spec.taints") if spec.get("taints") else []
        found += _validate_ranges(spec.get("podCIDRs") or [])
        if old is None:
            return found + _validate_amounts(new.get("status") or {})
        before = old.get("spec") or {}
        if before.get("podCIDRs") and spec.get("podCIDRs") != before["podCIDRs"]:
            text = 'node updates may not change podCIDR except from "" to valid'
            found.append(causes.forbidden("spec.podCIDRs", text))
        if before.get("providerID") and spec.get("providerID") != before["providerID"]:
            text = 'node updates may not change providerID except from "" to valid'
            found.append(causes.forbidden("spec.providerID", text))
        return found

    def validate_status(self, new: Object, old: Object) -> list[Cause]:
        status = new.get("status") or {}
        found = _validate_amounts(status)
        seen: set[tuple[str, str]] = set()
        for at, entry in enumerate(status.get("addresses") or ()):
            key = (entry.get("type", ""), entry.get("address", ""))
            if key in seen:
                found.append(causes.duplicate(f"status.addresses[{at}]", entry))
            seen.add(key)
        return found


def _validate_ranges(cidrs: list[str]) -> list[Cause]:
    """At most one range of each family."""
    field = "spec.podCIDRs"
    found: list[Cause] = []
    for at, cidr in enumerate(cidrs):
        found += causes.problems(f"{field}[{at}]", cidr, names.is_cidr(cidr))
    if len(cidrs) > 1 and len({":" in cidr for cidr in cidrs}) < len(cidrs):
        text = "may specify no more than one CIDR for each IP family"
        found.append(causes.invalid_value(field, cidrs, text))
    return found + [
        causes.duplicate(f"{field}[{at}]", cidr) for at, cidr in enumerate(cidrs) if cidr in cidrs[:at]
    ]


def _default_status(status: Object) -> Object:
    """Quantities in canonical form; what is allocatable is by default all there is."""
    result = dict(status)
    if result.get("capacity") and not result.get("allocatable"):
        result["allocatable"] = result["capacity"]
    for field in ("capacity", "allocatable"):
        if result.get(field):
            result[field] = {name: canonical_amount(amount) for name, amount in result[field].items()}
    return result


def _validate_amounts(status: Object) -> list[Cause]:
    found: list[Cause] = []
    for field in ("capacity", "allocatable"):
        for name, amount in (status.get(field) or {}).items():
            path = f"status.{field}[{name}]"
            found += causes.problems(path, name, names.is_qualified_name(name))
            if not quantity.is_quantity(amount) or quantity.parse(amount) < 0:
                found.append(
                    causes.invalid_value(path, amount, "must be a quantity greater than or equal to 0")
                )
    return found
