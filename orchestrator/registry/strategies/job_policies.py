"""Validation of a Job's pod failure policy and success policy. Pure; called by `job_rules`.

Source: batch validation of Kubernetes v1.36.
"""

from orchestrator.api import job_indexes, names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes

_RULES_MAX = 20
_PATTERNS_MAX = 20
_EXIT_CODES_MAX = 255
_INDEXES_BYTES_MAX = 64 * 1024
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_OPERATORS = ("In", "NotIn")
_STATUSES = ("False", "True", "Unknown")


def validate_failure_policy(spec: Object, field: str) -> list[Cause]:
    """`spec` is the Job's, `field` that of its failure policy."""
    rules = spec["podFailurePolicy"].get("rules") or []
    found: list[Cause] = []
    if len(rules) > _RULES_MAX:
        found.append(causes.too_many(f"{field}.rules", len(rules), _RULES_MAX))
    pod = (spec.get("template") or {}).get("spec") or {}
    containers = {
        container.get("name", "")
        for kind in ("containers", "initContainers")
        for container in pod.get(kind) or ()
    }
    for at, rule in enumerate(rules):
        found += _validate_failure_rule(rule, spec, containers, f"{field}.rules[{at}]")
    return found


def _validate_failure_rule(rule: Object, spec: Object, containers: set[str], field: str) -> list[Cause]:
    action, codes, conditions = rule.get("action") or "", rule.get("onExitCodes"), rule.get("onPodConditions")
    found = _validate_choice(action, _ACTIONS, f"{field}.action")
    if action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
        text = "requires the backoffLimitPerIndex to be set"
        found.append(causes.invalid_value(f"{field}.action", action, text))
    if codes is not None:
        found += _validate_exit_codes(codes, containers, f"{field}.onExitCodes")
    if conditions:
        found += _validate_patterns(conditions, f"{field}.onPodConditions")
    if codes is not None and conditions:
        text = "specifying both OnExitCodes and OnPodConditions is not supported"
        found.append(invalid(field, text))
    if codes is None and not conditions:
        found.append(invalid(field, "specifying one of OnExitCodes and OnPodConditions is required"))
    return found


def invalid(field: str, detail: str) -> Cause:
    """An invalid value that the message does not show."""
    return Cause("FieldValueInvalid", f"Invalid value: {detail}", field)


def _validate_choice(value: str, choices: tuple[str, ...], field: str) -> list[Cause]:
    """One of `choices`, and not left out."""
    if not value:
        listed = " ".join(f'"{choice}"' for choice in choices)
        return [causes.required(field, f"valid values: [{listed}]")]
    return causes.one_of(field, value, choices)


def _validate_exit_codes(codes: Object, containers: set[str], field: str) -> list[Cause]:
    operator, values = codes.get("operator") or "", codes.get("values") or []
    found = _validate_choice(operator, _OPERATORS, f"{field}.operator")
    container = codes.get("containerName")
    if container is not None and container not in containers:
        text = "must be one of the container or initContainer names in the pod template"
        found.append(causes.invalid_value(f"{field}.containerName", container, text))
    if not values:
        found.append(causes.invalid_value(f"{field}.values", values, "at least one value is required"))
    elif len(values) > _EXIT_CODES_MAX:
        found.append(causes.too_many(f"{field}.values", len(values), _EXIT_CODES_MAX))
    seen: set[int] = set()
    for at, value in enumerate(values):
        if operator == "In" and value == 0:
            text = "must not be 0 for the In operator"
            found.append(causes.invalid_value(f"{field}.values[{at}]", value, text))
        if value in seen:
            found.append(causes.duplicate(f"{field}.values[{at}]", value))
        seen.add(value)
    if values != sorted(values):
        found.append(causes.invalid_value(f"{field}.values", values, "must be ordered"))
    return found


def _validate_patterns(patterns: list[Object], field: str) -> list[Cause]:
    found: list[Cause] = []
    if len(patterns) > _PATTERNS_MAX:
        found.append(causes.too_many(field, len(patterns), _PATTERNS_MAX))
    for at, pattern in enumerate(patterns):
        kind = pattern.get("type") or ""
        found += causes.problems(f"{field}[{at}].type", kind, names.is_qualified_name(kind))
        found += _validate_choice(pattern.get("status") or "", _STATUSES, f"{field}[{at}].status")
    return found


def validate_success_policy(spec: Object, field: str) -> list[Cause]:
    """`spec` is an indexed Job's, `field` that of its success policy."""
    rules = spec["successPolicy"].get("rules") or []
    found: list[Cause] = []
    if not rules:
        text = "at least one rules must be specified when the successPolicy is specified"
        found.append(causes.required(f"{field}.rules", text))
    if len(rules) > _RULES_MAX:
        found.append(causes.too_many(f"{field}.rules", len(rules), _RULES_MAX))
    for at, rule in enumerate(rules):
        found += _validate_success_rule(rule, spec.get("completions") or 0, f"{field}.rules[{at}]")
    return found


def _validate_success_rule(rule: Object, completions: int, field: str) -> list[Cause]:
    indexes, count = rule.get("succeededIndexes"), rule.get("succeededCount")
    found: list[Cause] = []
    if indexes is None and count is None:
        text = "at least one of succeededCount or succeededIndexes must be specified"
        found.append(causes.required(field, text))
    total = 0
    if indexes is not None:
        if len(indexes) > _INDEXES_BYTES_MAX:
            found.append(causes.too_long(f"{field}.succeededIndexes", _INDEXES_BYTES_MAX))
        try:
            total = job_indexes.count(job_indexes.parse(indexes, completions))
        except job_indexes.IndexesError as error:
            text = f"error parsing succeededIndexes: {error}"
            found.append(causes.invalid_value(f"{field}.succeededIndexes", indexes, text))
    if count is None:
        return found
    path = f"{field}.succeededCount"
    found += causes.non_negative(path, count)
    if count > completions:
        text = f"must be less than or equal to {completions} (the number of specified completions)"
        found.append(causes.invalid_value(path, count, text))
    if indexes is not None and count > total:
        where = "the number of indexes in the specified succeededIndexes field"
        found.append(causes.invalid_value(path, count, f"must be less than or equal to {total} ({where})"))
    return found
