"""Admission policies and their bindings: structure only; expressions are compiled by whoever evaluates them."""

import re

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy, filled
from orchestrator.registry.strategies.label_selectors import validate_label_selector
from orchestrator.registry.strategies.webhooks import (
    FAILURE_POLICIES,
    MATCH_POLICIES,
    REINVOCATION_POLICIES,
    default_rules,
    validate_match_conditions,
    validate_rule,
)

AUDIT_ANNOTATIONS_MAX = 20
AUDIT_EXPRESSION_BYTES_MAX = 5 * 1024
_ACTIONS = ("Audit", "Deny", "Warn")
_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
_PATCH_TYPES = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}
_match_identifier = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*").fullmatch
_RESERVED = frozenset({
    "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
    "let", "loop", "package", "namespace", "return", "var", "void", "while",
})  # fmt: skip


class _PolicyStrategy(BaseStrategy):
    """What both kinds of policies share."""

    counts_generation = True

    def default(self, obj: Object) -> Object:
        spec = filled(obj.get("spec") or {}, {"failurePolicy": "Fail"})
        if spec.get("matchConstraints") is not None:
            spec["matchConstraints"] = _default_match(spec["matchConstraints"])
        return {**obj, "spec": spec}

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        spec = new["spec"]
        found = causes.one_of("spec.failurePolicy", spec.get("failurePolicy"), FAILURE_POLICIES)
        if spec.get("paramKind") is not None:
            found += _validate_param_kind(spec["paramKind"], "spec.paramKind")
        constraints = spec.get("matchConstraints")
        if constraints is None:
            found.append(causes.required("spec.matchConstraints"))
        else:
            found += validate_match_resources(constraints, "spec.matchConstraints")
            if not constraints.get("resourceRules"):
                found.append(causes.required("spec.matchConstraints.resourceRules"))
        found += validate_match_conditions(spec.get("matchConditions") or [], "spec.matchConditions")
        for at, variable in enumerate(spec.get("variables") or ()):
            found += _validate_variable(variable, f"spec.variables[{at}]")
        return found


class ValidatingPolicyStrategy(_PolicyStrategy):
    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        found = super().validate_object(new, old)
        spec = new["spec"]
        validations, annotations = spec.get("validations") or [], spec.get("auditAnnotations") or []
        if not validations and not annotations:
            text = "validations or auditAnnotations must contain at least one item"
            return found + [
                causes.required(f"spec.{name}", text) for name in ("validations", "auditAnnotations")
            ]
        for at, validation in enumerate(validations):
            found += _validate_validation(validation, f"spec.validations[{at}]")
        return found + _validate_annotations(annotations, new["metadata"].get("name") or "")

    def validate_status(self, new: Object, old: Object) -> list[Cause]:
        warnings = ((new.get("status") or {}).get("typeChecking") or {}).get("expressionWarnings") or ()
        return [
            causes.required(f"status.typeChecking.expressionWarnings[{at}].{name}")
            for at, warning in enumerate(warnings)
            for name in ("warning", "fieldRef")
            if not (warning.get(name) or "").strip()
        ]


class MutatingPolicyStrategy(_PolicyStrategy):
    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        found = super().validate_object(new, old)
        spec = new["spec"]
        policy, path = spec.get("reinvocationPolicy"), "spec.reinvocationPolicy"
        found += causes.one_of(path, policy, REINVOCATION_POLICIES) if policy else [causes.required(path)]
        mutations = spec.get("mutations") or []
        if not mutations:
            found.append(causes.required("spec.mutations", "mutations must contain at least one item"))
        for at, mutation in enumerate(mutations):
            found += _validate_mutation(mutation, f"spec.mutations[{at}]")
        return found


class PolicyBindingStrategy(BaseStrategy):
    """Bindings of either kind; those of validating policies also say what a failure leads to."""

    counts_generation = True

    def default(self, obj: Object) -> Object:
        spec = obj.get("spec") or {}
        if spec.get("matchResources") is not None:
            spec = {**spec, "matchResources": _default_match(spec["matchResources"])}
        return {**obj, "spec": spec}

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        spec = new["spec"]
        name, path = spec.get("policyName") or "", "spec.policyName"
        found = (
            causes.problems(path, name, names.is_dns1123_subdomain(name)) if name else [causes.required(path)]
        )
        if spec.get("paramRef") is not None:
            found += _validate_param_ref(spec["paramRef"], "spec.paramRef")
        if spec.get("matchResources") is not None:
            # The path is spelled as Kubernetes spells it.
            found += validate_match_resources(spec["matchResources"], "spec.matchResouces")
        if self.resource.plural.startswith("validating"):
            found += _validate_actions(spec.get("validationActions") or [], "spec.validationActions")
        return found


def validate_match_resources(match: Object, field: str) -> list[Cause]:
    """`MatchResources`, with its defaults in place."""
    found = causes.one_of(f"{field}.matchPolicy", match.get("matchPolicy"), MATCH_POLICIES)
    for selector in ("namespaceSelector", "objectSelector"):
        found += validate_label_selector(match.get(selector), f"{field}.{selector}")
    for name in ("resourceRules", "excludeResourceRules"):
        for at, rule in enumerate(match.get(name) or ()):
            found += _validate_named_rule(rule, f"{field}.{name}[{at}]")
    return found


def _default_match(match: Object) -> Object:
    result = filled(match, {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}})
    for name in ("resourceRules", "excludeResourceRules"):
        if result.get(name):
            result[name] = default_rules(result[name])
    return result


def _validate_named_rule(rule: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    resource_names: list[str] = rule.get("resourceNames") or []
    for at, name in enumerate(resource_names):
        path = f"{field}.resourceNames[{at}]"
        found += causes.problems(path, name, names.is_path_segment(name))
        if name in resource_names[:at]:
            found.append(causes.duplicate(path, name))
    return found + validate_rule(rule, field)


def _validate_param_kind(kind: Object, field: str) -> list[Cause]:
    api_version, path = kind.get("apiVersion") or "", f"{field}.apiVersion"
    found: list[Cause] = []
    group, _, version = api_version.rpartition("/")
    if not api_version:
        found.append(causes.required(path))
    elif "/" in group:
        text = f"unexpected GroupVersion string: {api_version}"
        found.append(causes.invalid_value(path, api_version, text))
    else:
        problems = names.is_dns1123_subdomain(group) if group else []
        found += [causes.invalid_value(path, group, ",".join(problems))] if problems else []
        problems = names.is_dns1035_label(version) if version else ["version must be specified"]
        found += [causes.invalid_value(path, version or api_version, ",".join(problems))] if problems else []
    name = kind.get("kind") or ""
    problems = names.is_dns1035_label(name.lower()) if name else []
    if not name:
        found.append(causes.required(f"{field}.kind"))
    elif problems:
        text = "may have mixed case, but should otherwise match: " + ",".join(problems)
        found.append(causes.invalid_value(f"{field}.kind", name, text))
    return found


def _validate_variable(variable: Object, field: str) -> list[Cause]:
    name = variable.get("name") or ""
    found: list[Cause] = []
    if not name.strip():
        found.append(causes.required(f"{field}.name", "name is not specified"))
    elif not _match_identifier(name) or name in _RESERVED:
        text = "name is not a valid CEL identifier"
        found.append(causes.invalid_value(f"{field}.name", name, text))
    if not (variable.get("expression") or "").strip():
        found.append(causes.required(f"{field}.expression", "expression is not specified"))
    return found


def _validate_validation(validation: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    if not (validation.get("expression") or "").strip():
        found.append(causes.required(f"{field}.expression", "expression is not specified"))
    expression, message = validation.get("messageExpression") or "", validation.get("message") or ""
    if expression and not expression.strip():
        text = "must be non-empty if specified"
        found.append(causes.invalid_value(f"{field}.messageExpression", expression, text))
    if message and not message.strip():
        text = "message must be non-empty if specified"
        found.append(causes.invalid_value(f"{field}.message", message, text))
    elif "\n" in message.strip() or "\r" in message.strip():
        text = "message must not contain line breaks"
        found.append(causes.invalid_value(f"{field}.message", message, text))
    return found + causes.one_of(f"{field}.reason", validation.get("reason"), _REASONS)


def _validate_annotations(annotations: list[Object], policy: str) -> list[Cause]:
    found: list[Cause] = []
    field = "spec.auditAnnotations"
    if len(annotations) > AUDIT_ANNOTATIONS_MAX:
        text = f"must not have more than {AUDIT_ANNOTATIONS_MAX} auditAnnotations"
        found.append(causes.invalid_value(field, annotations, text))
    seen: set[str] = set()
    for at, annotation in enumerate(annotations):
        path, key = f"{field}[{at}]", annotation.get("key") or ""
        whole = f"{policy}/{key}"
        found += causes.problems(f"{path}.key", whole, names.is_qualified_name(whole))
        expression = (annotation.get("valueExpression") or "").strip()
        if not expression:
            found.append(causes.required(f"{path}.valueExpression", "valueExpression is not specified"))
        elif len(expression) > AUDIT_EXPRESSION_BYTES_MAX:
            text = f"must not exceed {AUDIT_EXPRESSION_BYTES_MAX} bytes in length"
            found.append(causes.required(f"{path}.valueExpression", text))
        if key in seen:
            found.append(causes.duplicate(f"{path}.key", key))
        seen.add(key)
    return found


def _validate_mutation(mutation: Object, field: str) -> list[Cause]:
    kind = mutation.get("patchType") or ""
    if not kind:
        return [causes.required(f"{field}.patchType")]
    if kind not in _PATCH_TYPES:
        return [causes.not_supported(f"{field}.patchType", kind, _PATCH_TYPES)]
    found: list[Cause] = []
    for other, name in _PATCH_TYPES.items():
        part, path = mutation.get(name), f"{field}.{name}"
        if other != kind and part is not None:
            found.append(causes.forbidden(path, f"must not be specified when patchType is {kind}"))
        elif other == kind and part is None:
            found.append(causes.required(path, f"must be specified when patchType is {kind}"))
        elif other == kind and not ((part or {}).get("expression") or "").strip():
            found.append(causes.required(f"{path}.expression", "expression is not specified"))
    return found


def _validate_param_ref(reference: Object, field: str) -> list[Cause]:
    name, selector = reference.get("name") or "", reference.get("selector")
    found: list[Cause] = []
    if name:
        found += causes.problems(f"{field}.name", name, names.is_path_segment(name))
    found += validate_label_selector(selector, f"{field}.selector")
    if name and selector is not None:
        text = "name and selector are mutually exclusive"
        found += [causes.forbidden(f"{field}.{part}", text) for part in ("name", "selector")]
    if not name and selector is None:
        found.append(causes.required(field, "one of name or selector must be specified"))
    action, path = reference.get("parameterNotFoundAction"), f"{field}.parameterNotFoundAction"
    return found + (causes.one_of(path, action, ("Allow", "Deny")) if action else [causes.required(path)])


def _validate_actions(actions: list[str], field: str) -> list[Cause]:
    found: list[Cause] = []
    for at, action in enumerate(actions):
        found += causes.one_of(f"{field}[{at}]", action, _ACTIONS)
        if action in actions[:at]:
            found.append(causes.duplicate(f"{field}[{at}]", action))
    if {"Deny", "Warn"} <= set(actions):
        text = (
            "must not contain both Deny and Warn (repeating the same validation failure information in the API"
            " response and headers serves no purpose)"
        )
        found.append(causes.invalid_value(field, actions, text))
    if not actions:
        found.append(causes.required(field, "at least one validation action is required"))
    return found
