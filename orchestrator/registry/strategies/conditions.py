"""Validation of `status.conditions` of the kinds that use the common `Condition`. Pure."""

import re
from collections.abc import Iterable

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes

_REASON_BYTES_MAX = 1024
_MESSAGE_BYTES_MAX = 32 * 1024
_STATUSES = ("False", "True", "Unknown")
_REASON = r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"
_match_reason = re.compile(_REASON).fullmatch
_REASON_RULE = (
    "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric"
    " characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME', "
    " or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is"
    f" '{_REASON}')"
)


def validate_conditions(conditions: Iterable[Object], field: str) -> list[Cause]:
    """Every condition at `field` says all it must, once per type."""
    found: list[Cause] = []
    seen: set[str] = set()
    for at, condition in enumerate(conditions):
        kind = condition.get("type", "")
        if kind in seen:
            found.append(causes.duplicate(f"{field}[{at}].type", kind))
        seen.add(kind)
        found += _validate_condition(condition, kind, f"{field}[{at}]")
    return found


def _validate_condition(condition: Object, kind: str, field: str) -> list[Cause]:
    found = causes.problems(f"{field}.type", kind, names.is_qualified_name(kind))
    status = condition.get("status", "")
    if status not in _STATUSES:
        found.append(causes.not_supported(f"{field}.status", status, _STATUSES))
    generation = condition.get("observedGeneration") or 0
    if generation < 0:
        text = "must be greater than or equal to zero"
        found.append(causes.invalid_value(f"{field}.observedGeneration", generation, text))
    if not condition.get("lastTransitionTime"):
        found.append(causes.required(f"{field}.lastTransitionTime", "must be set"))
    return found + _validate_words(condition, field)


def _validate_words(condition: Object, field: str) -> list[Cause]:
    reason, message = condition.get("reason") or "", condition.get("message") or ""
    found: list[Cause] = []
    if not reason:
        found.append(causes.required(f"{field}.reason", "must be set"))
    elif not _match_reason(reason):
        found.append(causes.invalid_value(f"{field}.reason", reason, _REASON_RULE))
    if len(reason.encode()) > _REASON_BYTES_MAX:
        found.append(causes.too_long(f"{field}.reason", _REASON_BYTES_MAX))
    if len(message.encode()) > _MESSAGE_BYTES_MAX:
        found.append(causes.too_long(f"{field}.message", _MESSAGE_BYTES_MAX))
    return found
