"""Validation of where a pod may run: tolerations, affinity, spreading, and a node's taints. Pure."""

from typing import Any

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.label_selectors import validate_label_selector

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_OPERATORS = ("Equal", "Exists", "Lt", "Gt")
_NODE_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")


def validate_tolerations(tolerations: list[Object], field: str) -> list[Cause]:
    found: list[Cause] = []
    for at, toleration in enumerate(tolerations):
        path = f"{field}[{at}]"
        key, operator = toleration.get("key"), toleration.get("operator") or "Equal"
        effect, seconds = toleration.get("effect"), toleration.get("tolerationSeconds")
        if key:
            found += causes.problems(f"{path}.key", key, names.is_qualified_name(key))
        elif operator != "Exists":
            found.append(
                causes.invalid_value(
                    f"{path}.operator",
                    operator,
                    'operator must be Exists when `key` is empty, which means "match all values and all keys"',
                )
            )
        if seconds is not None and effect != "NoExecute":
            found.append(
                causes.invalid_value(
                    f"{path}.effect",
                    effect or "",
                    "effect must be 'NoExecute' when `tolerationSeconds` is set",
                )
            )
        if operator not in _OPERATORS:
            found.append(causes.not_supported(f"{path}.operator", operator, ("Equal", "Exists")))
        elif operator == "Exists" and toleration.get("value"):
            found.append(
                causes.invalid_value(
                    f"{path}.operator", toleration, "value must be empty when `operator` is 'Exists'"
                )
            )
        elif operator == "Equal" and toleration.get("value"):
            found += causes.problems(
                f"{path}.operator", toleration["value"], names.is_label_value(toleration["value"])
            )
        if effect:
            found += causes.one_of(f"{path}.effect", effect, _EFFECTS)
    return found


def validate_taints(taints: list[Object], field: str) -> list[Cause]:
    """A node's taints: unique by key and effect."""
    found: list[Cause] = []
    seen: set[tuple[Any, Any]] = set()
    for at, taint in enumerate(taints):
        path = f"{field}[{at}]"
        key, effect = taint.get("key", ""), taint.get("effect")
        found += causes.problems(f"{path}.key", key, names.is_qualified_name(key))
        if taint.get("value"):
            found += causes.problems(f"{path}.value", taint["value"], names.is_label_value(taint["value"]))
        if not effect:
            found.append(causes.required(f"{path}.effect"))
        else:
            found += causes.one_of(f"{path}.effect", effect, _EFFECTS)
        if (key, effect) in seen:
            found.append(causes.duplicate(path, taint))
        seen.add((key, effect))
    return found


def validate_affinity(affinity: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    node = affinity.get("nodeAffinity") or {}
    path = f"{field}.nodeAffinity"
    required = node.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is not None:
        found += validate_node_selector(required, f"{path}.requiredDuringSchedulingIgnoredDuringExecution")
    for at, term in enumerate(node.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
        inner = f"{path}.preferredDuringSchedulingIgnoredDuringExecution[{at}]"
        found += _validate_weight(term, inner)
        found += _validate_node_term(term.get("preference") or {}, f"{inner}.preference")
    for kind in ("podAffinity", "podAntiAffinity"):
        if affinity.get(kind):
            found += _validate_pod_affinity(affinity[kind], f"{field}.{kind}")
    return found


def validate_node_selector(selector: Object, field: str) -> list[Cause]:
    """A `NodeSelector`: at least one term."""
    terms = selector.get("nodeSelectorTerms")
    if not terms:
        return [causes.required(f"{field}.nodeSelectorTerms", "must have at least one node selector term")]
    found: list[Cause] = []
    for at, term in enumerate(terms):
        found += _validate_node_term(term, f"{field}.nodeSelectorTerms[{at}]")
    return found


def _validate_node_term(term: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    for at, expression in enumerate(term.get("matchExpressions") or ()):
        path = f"{field}.matchExpressions[{at}]"
        operator, values = expression.get("operator"), expression.get("values") or ()
        if operator not in _NODE_OPERATORS:
            found.append(
                causes.invalid_value(f"{path}.operator", operator or "", "not a valid selector operator")
            )
        elif operator in ("In", "NotIn") and not values:
            found.append(
                causes.required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
            )
        elif operator in ("Exists", "DoesNotExist") and values:
            found.append(
                causes.forbidden(
                    f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                )
            )
        elif operator in ("Gt", "Lt") and len(values) != 1:
            found.append(
                causes.required(
                    f"{path}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'"
                )
            )
        key = expression.get("key", "")
        found += causes.problems(f"{path}.key", key, names.is_qualified_name(key))
    for at, expression in enumerate(term.get("matchFields") or ()):
        if expression.get("key") != "metadata.name":
            found.append(
                causes.invalid_value(
                    f"{field}.matchFields[{at}].key",
                    expression.get("key", ""),
                    "not a valid field selector key",
                )
            )
    return found


def _validate_weight(term: Object, field: str) -> list[Cause]:
    weight = term.get("weight", 0)
    if 1 <= weight <= 100:
        return []
    return [causes.invalid_value(f"{field}.weight", weight, "must be in the range 1-100")]


def _validate_pod_affinity(affinity: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    for at, term in enumerate(affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ()):
        found += _validate_pod_term(term, f"{field}.requiredDuringSchedulingIgnoredDuringExecution[{at}]")
    for at, weighted in enumerate(affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
        path = f"{field}.preferredDuringSchedulingIgnoredDuringExecution[{at}]"
        found += _validate_weight(weighted, path)
        found += _validate_pod_term(weighted.get("podAffinityTerm") or {}, f"{path}.podAffinityTerm")
    return found


def _validate_pod_term(term: Object, field: str) -> list[Cause]:
    found = validate_label_selector(term.get("labelSelector"), f"{field}.labelSelector")
    found += validate_label_selector(term.get("namespaceSelector"), f"{field}.namespaceSelector")
    key = term.get("topologyKey")
    if not key:
        found.append(causes.required(f"{field}.topologyKey", "can not be empty"))
    else:
        found += causes.problems(f"{field}.topologyKey", key, names.is_qualified_name(key))
    for at, namespace in enumerate(term.get("namespaces") or ()):
        found += causes.problems(f"{field}.namespaces[{at}]", namespace, names.is_dns1123_label(namespace))
    return found


def validate_spread(constraints: list[Object], field: str) -> list[Cause]:
    """Topology spread constraints."""
    found: list[Cause] = []
    seen: set[tuple[Any, Any]] = set()
    for at, constraint in enumerate(constraints):
        path = f"{field}[{at}]"
        if constraint.get("maxSkew", 0) <= 0:
            found.append(
                causes.invalid_value(
                    f"{path}.maxSkew", constraint.get("maxSkew", 0), "must be greater than zero"
                )
            )
        key, action = constraint.get("topologyKey"), constraint.get("whenUnsatisfiable")
        if not key:
            found.append(causes.required(f"{path}.topologyKey", "can not be empty"))
        else:
            found += causes.problems(f"{path}.topologyKey", key, names.is_qualified_name(key))
        if action not in ("DoNotSchedule", "ScheduleAnyway"):
            found.append(
                causes.not_supported(
                    f"{path}.whenUnsatisfiable", action or "", ("DoNotSchedule", "ScheduleAnyway")
                )
            )
        if (key, action) in seen:
            found.append(causes.duplicate(path, f"{{{key}, {action}}}"))
        seen.add((key, action))
        found += validate_label_selector(constraint.get("labelSelector"), f"{path}.labelSelector")
        domains = constraint.get("minDomains")
        if domains is not None and domains <= 0:
            found.append(causes.invalid_value(f"{path}.minDomains", domains, "must be greater than zero"))
        if domains is not None and action != "DoNotSchedule":
            found.append(
                causes.invalid_value(
                    f"{path}.minDomains",
                    domains,
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not " + str(action),
                )
            )
    return found
