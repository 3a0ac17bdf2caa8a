"""Validation of a `LabelSelector` inside an object. Pure; called by workloads and placement rules."""

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.meta import validate_labels


def validate_label_selector(selector: Object | None, field: str) -> list[Cause]:
    """What is wrong with `selector`; an absent or empty one is fine here."""
    if not selector:
        return []
    found = validate_labels(selector.get("matchLabels") or {}, f"{field}.matchLabels")
    for at, expression in enumerate(selector.get("matchExpressions") or ()):
        found += _validate_expression(expression, f"{field}.matchExpressions[{at}]")
    return found


def _validate_expression(expression: Object, field: str) -> list[Cause]:
    operator, values = expression.get("operator"), expression.get("values") or ()
    found: list[Cause] = []
    if operator in ("In", "NotIn"):
        if not values:
            found.append(
                causes.required(f"{field}.values", "must be specified when `operator` is 'In' or 'NotIn'")
            )
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            found.append(
                causes.forbidden(
                    f"{field}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                )
            )
    else:
        found.append(
            causes.invalid_value(f"{field}.operator", operator or "", "not a valid selector operator")
        )
    key = expression.get("key", "")
    found += causes.problems(f"{field}.key", key, names.is_qualified_name(key))
    for at, value in enumerate(values):
        found += causes.problems(f"{field}.values[{at}]", value, names.is_label_value(value))
    return found
