"""Validation of where a pod may run: tolerations, affinity, spreading, and a node's taints. Pure."""

from collections.abc import Sequence
from typing import Any

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.label_selectors import validate_label_selector

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_OPERATORS = ("Equal", "Exists", "Lt", "Gt")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_ACTIONS = ("DoNotSchedule", "ScheduleAnyway")
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
                    f"{path}.operator", toleration["value"], "value must be empty when `operator` is 'Exists'"
                )
            )
        elif operator == "Equal" and toleration.get("value"):
            texts = names.is_label_value(toleration["value"])
            if texts:
                found.append(causes.invalid_value(f"{path}.operator", toleration["value"], ";".join(texts)))
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
            texts = names.is_label_value(taint["value"])
            if texts:
                found.append(causes.invalid_value(f"{path}.value", taint["value"], ";".join(texts)))
        if not effect:
            found.append(causes.required(f"{path}.effect"))
        else:
            found += causes.one_of(f"{path}.effect", effect, _EFFECTS)
        if (key, effect) in seen:
            text = f"Duplicate value: {causes.quoted(taint)}: taints must be unique by key and effect pair"
            found.append(Cause("FieldValueDuplicate", text, path))
        seen.add((key, effect))
    return found


def validate_affinity(affinity: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    node = affinity.get("nodeAffinity") or {}
    path = f"{field}.nodeAffinity"
    required = node.get(_REQUIRED)
    if required is not None:
        found += validate_node_selector(required, f"{path}.{_REQUIRED}")
    for at, term in enumerate(node.get(_PREFERRED) or ()):
        inner = f"{path}.{_PREFERRED}[{at}]"
        found += _validate_weight(term, inner)
        preference = term.get("preference") or {}
        found += _validate_node_term(preference, f"{inner}.preference", of_values=False)
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
        found += _validate_node_term(term, f"{field}.nodeSelectorTerms[{at}]", of_values=True)
    return found


def _validate_node_term(term: Object, field: str, *, of_values: bool) -> list[Cause]:
    """`of_values`: whether a value has to be one that labels can have; preferences are only warned of it."""
    found: list[Cause] = []
    for at, expression in enumerate(term.get("matchExpressions") or ()):
        path = f"{field}.matchExpressions[{at}]"
        found += _validate_node_requirement(expression, path)
        for nth, value in enumerate(expression.get("values") or ()) if of_values else ():
            found += causes.problems(f"{path}.values[{nth}]", value, names.is_label_value(value))
    for at, expression in enumerate(term.get("matchFields") or ()):
        found += _validate_node_field(expression, f"{field}.matchFields[{at}]")
    return found


def _validate_node_requirement(expression: Object, field: str) -> list[Cause]:
    operator, values = expression.get("operator") or "", expression.get("values") or ()
    found: list[Cause] = []
    if operator not in _NODE_OPERATORS:
        found.append(causes.invalid_value(f"{field}.operator", operator, "not a valid selector operator"))
    elif operator in ("In", "NotIn") and not values:
        text = "must be specified when `operator` is 'In' or 'NotIn'"
        found.append(causes.required(f"{field}.values", text))
    elif operator in ("Exists", "DoesNotExist") and values:
        text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
        found.append(causes.forbidden(f"{field}.values", text))
    elif operator in ("Gt", "Lt") and len(values) != 1:
        text = "must be specified single value when `operator` is 'Lt' or 'Gt'"
        found.append(causes.required(f"{field}.values", text))
    key = expression.get("key", "")
    return found + causes.problems(f"{field}.key", key, names.is_qualified_name(key))


def _validate_node_field(expression: Object, field: str) -> list[Cause]:
    """Only the node's name can be asked for, one at a time."""
    operator, key = expression.get("operator") or "", expression.get("key") or ""
    values: list[str] = expression.get("values") or []
    found: list[Cause] = []
    if operator not in ("In", "NotIn"):
        found.append(causes.invalid_value(f"{field}.operator", operator, "not a valid selector operator"))
    elif len(values) != 1:
        text = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        found.append(causes.required(f"{field}.values", text))
    if key != "metadata.name":
        return [*found, causes.invalid_value(f"{field}.key", key, "not a valid field selector key")]
    for at, value in enumerate(values):
        found += causes.problems(f"{field}.values[{at}]", value, names.is_dns1123_subdomain(value))
    return found


def _validate_weight(term: Object, field: str) -> list[Cause]:
    weight = term.get("weight", 0)
    if 1 <= weight <= 100:
        return []
    return [causes.invalid_value(f"{field}.weight", weight, "must be in the range 1-100")]


# ── Other pods ───────────────────────────────────────────────────────────────────────────────────────────


def _validate_pod_affinity(affinity: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    for at, term in enumerate(affinity.get(_REQUIRED) or ()):
        found += _validate_pod_term(term, f"{field}.{_REQUIRED}[{at}]")
    for at, weighted in enumerate(affinity.get(_PREFERRED) or ()):
        path = f"{field}.{_PREFERRED}[{at}]"
        found += _validate_weight(weighted, path)
        found += _validate_pod_term(weighted.get("podAffinityTerm") or {}, f"{path}.podAffinityTerm")
    return found


def _validate_pod_term(term: Object, field: str) -> list[Cause]:
    selector = term.get("labelSelector")
    found = validate_label_selector(selector, f"{field}.labelSelector")
    found += validate_label_selector(term.get("namespaceSelector"), f"{field}.namespaceSelector")
    for namespace in term.get("namespaces") or ():
        found += causes.problems(f"{field}.namespace", namespace, names.is_dns1123_label(namespace))
    same, different = term.get("matchLabelKeys") or (), term.get("mismatchLabelKeys") or ()
    found += _validate_keys(same, selector, f"{field}.matchLabelKeys")
    found += _validate_keys(different, selector, f"{field}.mismatchLabelKeys")
    if same and selector is not None:
        found += _validate_merged(same, selector, field)
    text = "exists in both matchLabelKeys and mismatchLabelKeys"
    found += [
        causes.invalid_value(f"{field}.matchLabelKeys[{at}]", key, text)
        for at, key in enumerate(same)
        if key in different
    ]
    key = term.get("topologyKey") or ""
    if not key:
        found.append(causes.required(f"{field}.topologyKey", "can not be empty"))
    return found + causes.problems(f"{field}.topologyKey", key, names.is_qualified_name(key))


def _validate_keys(keys: Sequence[str], selector: Object | None, field: str) -> list[Cause]:
    if keys and selector is None:
        return [causes.forbidden(field, "must not be specified when labelSelector is not set")]
    return [
        cause
        for at, key in enumerate(keys)
        for cause in causes.problems(f"{field}[{at}]", key, names.is_qualified_name(key))
    ]


def _validate_merged(keys: Sequence[str], selector: Object, field: str) -> list[Cause]:
    """Creation added a requirement for each key (see `pod_creation`): the selector had one of its own if it now
    has two."""
    places = {key: at for at, key in enumerate(keys)}
    seen = set(selector.get("matchLabels") or ())
    found: list[Cause] = []
    for expression in selector.get("matchExpressions") or ():
        key = expression.get("key", "")
        if key in places and key in seen:
            text = "exists in both matchLabelKeys and labelSelector"
            found.append(causes.invalid_value(f"{field}[{places[key]}]", key, text))
        seen.add(key)
    return found


# ── Spreading ────────────────────────────────────────────────────────────────────────────────────────────


def validate_spread(constraints: list[Object], field: str) -> list[Cause]:
    """Topology spread constraints."""
    found: list[Cause] = []
    kinds = [(held.get("topologyKey"), held.get("whenUnsatisfiable")) for held in constraints]
    for at, constraint in enumerate(constraints):
        path, (key, action) = f"{field}[{at}]", kinds[at]
        found += _validate_positive(constraint.get("maxSkew", 0), f"{path}.maxSkew")
        if not key:
            found.append(causes.required(f"{path}.topologyKey", "can not be empty"))
        if action not in _ACTIONS:
            found.append(causes.not_supported(f"{path}.whenUnsatisfiable", action or "", _ACTIONS))
        if kinds[at] in kinds[at + 1 :]:
            where = f"{path}.{{topologyKey, whenUnsatisfiable}}"
            found.append(causes.duplicate(where, f"{{{key}, {action}}}"))
        found += _validate_domains(constraint.get("minDomains"), action, f"{path}.minDomains")
        for name in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            found += causes.one_of(f"{path}.{name}", constraint.get(name), ("Honor", "Ignore"))
        selector, keys = constraint.get("labelSelector"), constraint.get("matchLabelKeys") or ()
        found += _validate_keys(keys, selector, f"{path}.matchLabelKeys")
        if keys and selector is not None:
            found += _validate_merged(keys, selector, f"{path}.matchLabelKeys")
        found += validate_label_selector(selector, f"{path}.labelSelector")
    return found


def _validate_positive(value: int, field: str) -> list[Cause]:
    return [] if value > 0 else [causes.invalid_value(field, value, "must be greater than zero")]


def _validate_domains(domains: int | None, action: str | None, field: str) -> list[Cause]:
    if domains is None:
        return []
    found = _validate_positive(domains, field)
    if action != "DoNotSchedule":
        text = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
        found.append(causes.invalid_value(field, domains, text))
    return found
