"""LimitRanges.

Rules:
1. For containers a missing default limit is the maximum, a missing default request the default limit or the
   minimum.
2. One item per type; min <= default request <= default limit <= max, as far as they are given.
3. Pods have no defaults, claims need a bound, and a ratio is at least 1 and possible within the bounds.
"""

from decimal import Decimal

from orchestrator.api import names, quantity
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy
from orchestrator.registry.strategies.quotas import canonical_amounts
from orchestrator.registry.strategies.resource_names import (
    overcommits,
    validate_container_name,
    validate_name,
)

_TYPES = ("Pod", "Container", "PersistentVolumeClaim")
_LISTS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
_ORDER = (
    ("min", "max", "min", "min", "min value {} is greater than max value {}"),
    ("min", "defaultRequest", "defaultRequest", "defaultRequest",
     "min value {} is greater than default request value {}"),
    ("defaultRequest", "max", "defaultRequest", "defaultRequest",
     "default request value {} is greater than max value {}"),
    ("defaultRequest", "default", "defaultRequest", "defaultRequest",
     "default request value {} is greater than default limit value {}"),
    ("min", "default", "default", "min", "min value {} is greater than default value {}"),
    ("default", "max", "default", "max", "default value {} is greater than max value {}"),
)  # fmt: skip
"""The smaller, the larger, the field to blame, whose value to show, and the text."""


class LimitRangeStrategy(BaseStrategy):
    def default(self, obj: Object) -> Object:
        spec = obj.get("spec") or {}
        if not spec.get("limits"):
            return obj
        return {**obj, "spec": {**spec, "limits": [_default_item(item) for item in spec["limits"]]}}

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        found: list[Cause] = []
        seen: set[str] = set()
        for at, item in enumerate((new.get("spec") or {}).get("limits") or ()):
            field, kind = f"spec.limits[{at}]", item.get("type") or ""
            found += _validate_type(kind, f"{field}.type")
            if kind in seen:
                found.append(causes.duplicate(f"{field}.type", kind))
            seen.add(kind)
            found += _validate_item(item, kind, field)
        return found


def _default_item(item: Object) -> Object:
    lists = {name: canonical_amounts(item[name]) for name in _LISTS if item.get(name)}
    result = {**item, **lists}
    if item.get("type") != "Container":
        return result
    result["default"] = {**lists.get("max", {}), **lists.get("default", {})}
    requests = {**lists.get("min", {}), **result["default"], **lists.get("defaultRequest", {})}
    result["defaultRequest"] = requests
    return {name: value for name, value in result.items() if value or name not in _LISTS}


def _validate_type(kind: str, field: str) -> list[Cause]:
    found = causes.problems(field, kind, names.is_qualified_name(kind))
    if not found and "/" not in kind and kind not in _TYPES:
        found.append(causes.invalid_value(field, kind, "must be a standard limit type or fully qualified"))
    return found


def _validate_item(item: Object, kind: str, field: str) -> list[Cause]:
    lists: dict[str, Object] = {name: item.get(name) or {} for name in _LISTS}
    found: list[Cause] = []
    if kind == "Pod":
        for name in ("default", "defaultRequest"):
            if lists[name]:
                found.append(causes.forbidden(f"{field}.{name}", "may not be specified when `type` is 'Pod'"))
                lists[name] = {}
    rule = validate_container_name if kind in ("Pod", "Container") else validate_name
    for name, amounts in lists.items():
        for resource in amounts:
            found += rule(resource, f"{field}.{name}[{resource}]")
    if kind == "PersistentVolumeClaim" and not {"storage"} & (lists["min"].keys() | lists["max"].keys()):
        text = "either minimum or maximum storage value is required, but neither was provided"
        found.append(causes.required(f"{field}.limits", text))
    for resource in sorted({name for amounts in lists.values() for name in amounts}):
        given = {name: amounts[resource] for name, amounts in lists.items() if resource in amounts}
        found += _validate_order(given, resource, field)
        found += _validate_ratio(given, resource, field)
    return found


def _validate_order(given: dict[str, str], resource: str, field: str) -> list[Cause]:
    """`given` are the amounts of one resource by list."""
    found: list[Cause] = []
    for smaller, larger, blamed, shown, text in _ORDER:
        if smaller not in given or larger not in given:
            continue
        if quantity.parse(given[smaller]) > quantity.parse(given[larger]):
            text = text.format(given[smaller], given[larger])
            found.append(causes.invalid_value(f"{field}.{blamed}[{resource}]", given[shown], text))
    limit, request = given.get("default"), given.get("defaultRequest")
    if limit is None or request is None or overcommits(resource):
        return found
    if quantity.parse(limit) != quantity.parse(request):
        text = f"default value {limit} must equal to defaultRequest value {request} in {resource}"
        found.append(causes.invalid_value(f"{field}.defaultRequest[{resource}]", request, text))
    return found


def _validate_ratio(given: dict[str, str], resource: str, field: str) -> list[Cause]:
    ratio = given.get("maxLimitRequestRatio")
    if ratio is None:
        return []
    path, value = f"{field}.maxLimitRequestRatio[{resource}]", quantity.parse(ratio)
    found: list[Cause] = []
    if value < 1:
        found.append(causes.invalid_value(path, ratio, f"ratio {ratio} is less than 1"))
    if "min" in given and "max" in given and quantity.parse(given["min"]):
        possible: Decimal = quantity.parse(given["max"]) / quantity.parse(given["min"])
        if value > possible:
            text = f"ratio {ratio} is greater than max/min = {float(possible):.6f}"
            found.append(causes.invalid_value(path, ratio, text))
    return found
