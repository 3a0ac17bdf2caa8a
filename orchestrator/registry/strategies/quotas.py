"""ResourceQuotas.

Rules:
1. Every amount has a name that quotas know, is no debt, and is whole where it counts objects.
2. Scopes are known, fit the resources that are limited and do not contradict each other; the list never changes.
3. A scope selector asks only what its scope can answer.
"""

from collections.abc import Collection

from orchestrator.api import quantity
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy
from orchestrator.registry.strategies.resource_names import (
    is_quota_name,
    validate_amount,
    validate_quota_name,
)

_PODS = frozenset(("pods",))
_POD_RESOURCES = _PODS | {
    "cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory",
}  # fmt: skip
_CLAIM_RESOURCES = frozenset(("persistentvolumeclaims", "requests.storage"))
_SCOPES: dict[str, frozenset[str]] = {
    "Terminating": _POD_RESOURCES,
    "NotTerminating": _POD_RESOURCES,
    "BestEffort": _PODS,
    "NotBestEffort": _POD_RESOURCES,
    "PriorityClass": _POD_RESOURCES,
    "CrossNamespacePodAffinity": _POD_RESOURCES,
    "VolumeAttributesClass": _CLAIM_RESOURCES,
}
"""Scope → the standard resources that it can narrow."""
_CONFLICTS = ({"BestEffort", "NotBestEffort"}, {"Terminating", "NotTerminating"})
_WITHOUT_VALUES = frozenset(_SCOPES) - {"PriorityClass", "VolumeAttributesClass"}
_ONLY_EXISTS = (
    "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating,"
    " ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or"
    " ResourceQuotaScopeCrossNamespacePodAffinity"
)


class ResourceQuotaStrategy(BaseStrategy):
    def initial_status(self, obj: Object) -> Object:
        return {}

    def default(self, obj: Object) -> Object:
        spec = obj.get("spec") or {}
        if spec.get("hard"):
            spec = {**spec, "hard": canonical_amounts(spec["hard"])}
        return {**obj, "spec": spec}

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        spec = new["spec"]
        found = _validate_amounts(spec.get("hard"), "spec.hard")
        found += _validate_scopes(spec, "spec.scopes")
        found += _validate_selector(spec, "spec.scopeSelector.matchExpressions")
        before = spec if old is None else old.get("spec") or {}
        if set(spec.get("scopes") or ()) != set(before.get("scopes") or ()):
            found.append(causes.invalid_value("spec.scopes", spec.get("scopes"), "field is immutable"))
        return found

    def validate_status(self, new: Object, old: Object) -> list[Cause]:
        status = new.get("status") or {}
        found = _validate_amounts(status.get("hard"), "status.hard")
        return found + _validate_amounts(status.get("used"), "status.used")


def canonical_amounts(amounts: Object) -> Object:
    """Amounts in the form that the API answers, no finer than thousandths."""
    return {
        name: quantity.canonical_milli(amount) if quantity.is_quantity(amount) else amount
        for name, amount in amounts.items()
    }


def _validate_amounts(amounts: Object | None, field: str) -> list[Cause]:
    found: list[Cause] = []
    for name, amount in (amounts or {}).items():
        found += validate_quota_name(name, f"{field}[{name}]")
        found += validate_amount(name, amount, f"{field}[{name}]")
    return found


def _validate_scopes(spec: Object, field: str) -> list[Cause]:
    scopes = spec.get("scopes") or []
    found: list[Cause] = []
    for scope in scopes:
        if scope not in _SCOPES:
            found.append(causes.invalid_value(field, scopes, "unsupported scope"))
        for _ in _unfit(scope, spec):
            found.append(causes.invalid_value(field, scopes, "unsupported scope applied to resource"))
    return found + _validate_conflicts(scopes, spec, field)


def _validate_selector(spec: Object, field: str) -> list[Cause]:
    selector = spec.get("scopeSelector")
    found: list[Cause] = []
    expressions = (selector or {}).get("matchExpressions") or ()
    for expression in expressions:
        scope = expression.get("scopeName", "")
        if scope not in _SCOPES:
            found.append(causes.invalid_value(f"{field}.scopeName", scope, "unsupported scope"))
        for _ in _unfit(scope, spec):
            found.append(causes.invalid_value(field, selector, "unsupported scope applied to resource"))
        found += _validate_operator(expression, scope, field)
    return found + _validate_conflicts([e.get("scopeName", "") for e in expressions], spec, field)


def _validate_operator(expression: Object, scope: str, field: str) -> list[Cause]:
    operator, values = expression.get("operator", ""), expression.get("values") or []
    found: list[Cause] = []
    if scope in _WITHOUT_VALUES and operator != "Exists":
        found.append(causes.invalid_value(f"{field}.operator", operator, _ONLY_EXISTS))
    if operator in ("In", "NotIn"):
        if not values:
            text = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
            found.append(causes.required(f"{field}.values", text))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            text = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
            found.append(causes.invalid_value(f"{field}.values", values, text))
    else:
        found.append(causes.invalid_value(f"{field}.operator", operator, "not a valid selector operator"))
    return found


def _unfit(scope: str, spec: Object) -> list[str]:
    """The limited resources that `scope` can't narrow."""
    fitting = _SCOPES.get(scope)
    if fitting is None:
        return []
    return [name for name in spec.get("hard") or () if is_quota_name(name) and name not in fitting]


def _validate_conflicts(scopes: Collection[str], spec: Object, field: str) -> list[Cause]:
    return [
        causes.invalid_value(field, spec.get("scopes"), "conflicting scopes")
        for pair in _CONFLICTS
        if pair <= set(scopes)
    ]
