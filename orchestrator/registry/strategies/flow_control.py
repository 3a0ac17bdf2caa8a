"""FlowSchemas and PriorityLevelConfigurations: which requests belong together and how many run at once.

Structure only: the objects that always exist, and enforcing, are `server.fairness`.
"""

from math import ceil, log2

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy, filled

PRECEDENCE_DEFAULT, PRECEDENCE_MAX = 1000, 10_000
_QUEUES_MAX = 10_000_000
_ENTROPY_BITS_MAX = 60
_EXEMPT = "exempt"
_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")
_SUBJECTS = {"Group": "group", "ServiceAccount": "serviceAccount", "User": "user"}
_NAMESPACES = "each member of this list must be '*' or a DNS-1123 label; "
_QUEUING: Object = {"queues": 64, "handSize": 8, "queueLengthLimit": 50}


class FlowSchemaStrategy(BaseStrategy):
    counts_generation = True

    def default(self, obj: Object) -> Object:
        spec = obj.get("spec") or {}
        if not spec.get("matchingPrecedence"):
            spec = {**spec, "matchingPrecedence": PRECEDENCE_DEFAULT}
        return {**obj, "spec": spec}

    def initial_status(self, obj: Object) -> Object:
        return {}

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        spec = new["spec"]
        found = _validate_precedence(spec["matchingPrecedence"], new["metadata"].get("name") or "")
        method = spec.get("distinguisherMethod")
        if method is not None and method.get("type") not in ("ByNamespace", "ByUser"):
            field = "spec.distinguisherMethod.type"
            found.append(causes.not_supported(field, method, ("ByNamespace", "ByUser")))
        name, path = (spec.get("priorityLevelConfiguration") or {}).get("name") or "", _LEVEL_NAME
        missing = [causes.required(path, "must reference a priority level")]
        found += causes.problems(path, name, names.is_dns1123_subdomain(name)) if name else missing
        for at, rule in enumerate(spec.get("rules") or ()):
            found += _validate_rule(rule, f"spec.rules[{at}]")
        return found

    def validate_status(self, new: Object, old: Object) -> list[Cause]:
        return _validate_conditions(new)


class PriorityLevelStrategy(BaseStrategy):
    counts_generation = True

    def default(self, obj: Object) -> Object:
        spec = dict(obj.get("spec") or {})
        if spec.get("limited") is not None:
            limited = filled(spec["limited"], {"nominalConcurrencyShares": 30, "lendablePercent": 0})
            response = limited.get("limitResponse") or {}
            if response.get("queuing") is not None:
                response = {**response, "queuing": filled(response["queuing"], _QUEUING)}
                limited["limitResponse"] = response
            spec["limited"] = limited
        if spec.get("exempt") is not None or spec.get("type") == "Exempt":
            spec["exempt"] = filled(
                spec.get("exempt") or {}, {"nominalConcurrencyShares": 0, "lendablePercent": 0}
            )
        return {**obj, "spec": spec}

    def initial_status(self, obj: Object) -> Object:
        return {}

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        spec, name = new["spec"], new["metadata"].get("name") or ""
        kind, limited, exempt = spec.get("type"), spec.get("limited"), spec.get("exempt")
        found: list[Cause] = []
        if (name == _EXEMPT) != (kind == "Exempt"):
            text = "type must be 'Exempt' if and only if name is 'exempt'"
            found.append(causes.invalid_value("spec.type", kind, text))
        if kind == "Exempt":
            if limited is not None:
                text = "must be nil if the type is not Limited"
                found.append(causes.forbidden("spec.limited", text))
            return found + _validate_exempt(exempt or {})
        if kind != "Limited":
            return [*found, causes.not_supported("spec.type", kind, ("Exempt", "Limited"))]
        if exempt is not None:
            found.append(causes.forbidden("spec.exempt", "must be nil if the type is Limited"))
        if limited is None:
            text = "must not be empty when type is Limited"
            return [*found, causes.required("spec.limited", text)]
        return found + _validate_limited(limited)

    def validate_status(self, new: Object, old: Object) -> list[Cause]:
        return _validate_conditions(new)


_LEVEL_NAME = "spec.priorityLevelConfiguration.name"


def _validate_precedence(value: int, name: str) -> list[Cause]:
    field = "spec.matchingPrecedence"
    if value <= 0:
        return [causes.invalid_value(field, value, "must be a positive value")]
    if value > PRECEDENCE_MAX:
        return [causes.invalid_value(field, value, f"must not be greater than {PRECEDENCE_MAX}")]
    if value == 1 and name != _EXEMPT:
        text = "only the schema named 'exempt' may have matchingPrecedence 1"
        return [causes.invalid_value(field, value, text)]
    return []


def _validate_rule(rule: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    if not rule.get("subjects"):
        found.append(causes.required(f"{field}.subjects", "subjects must contain at least one value"))
    for at, subject in enumerate(rule.get("subjects") or ()):
        found += _validate_subject(subject, f"{field}.subjects[{at}]")
    resource_rules, others = rule.get("resourceRules") or [], rule.get("nonResourceRules") or []
    if not resource_rules and not others:
        text = "at least one of resourceRules and nonResourceRules has to be non-empty"
        found.append(causes.required(field, text))
    for at, entry in enumerate(resource_rules):
        found += _validate_resource_rule(entry, f"{field}.resourceRules[{at}]")
    for at, entry in enumerate(others):
        found += _validate_url_rule(entry, f"{field}.nonResourceRules[{at}]")
    return found


def _validate_subject(subject: Object, field: str) -> list[Cause]:
    kind = subject.get("kind") or ""
    if kind not in _SUBJECTS:
        return [causes.not_supported(f"{field}.kind", kind, _SUBJECTS)]
    found: list[Cause] = []
    for other, part in _SUBJECTS.items():
        given, path = subject.get(part), f"{field}.{part}"
        if other != kind and given is not None:
            text = f"{part} is forbidden when subject kind is not '{other}'"
            found.append(causes.forbidden(path, text))
        elif other == kind and given is None:
            found.append(causes.required(path, f"{part} is required when subject kind is '{kind}'"))
        elif other == kind:
            found += _validate_subject_names(given or {}, path, account=kind == "ServiceAccount")
    return found


def _validate_subject_names(subject: Object, field: str, *, account: bool) -> list[Cause]:
    name = subject.get("name") or ""
    found = [] if name else [causes.required(f"{field}.name")]
    if not account:
        return found
    if name and name != "*":
        found += causes.problems(f"{field}.name", name, names.is_dns1123_subdomain(name))
    namespace, path = subject.get("namespace") or "", f"{field}.namespace"
    if not namespace:
        return [*found, causes.required(path, "must specify namespace for service account")]
    return found + causes.problems(path, namespace, names.is_dns1123_label(namespace))


def _validate_verbs(verbs: list[str], field: str) -> list[Cause]:
    if not verbs:
        return [causes.required(field, "verbs must contain at least one value")]
    if "*" in verbs:
        return _only_star(verbs, field, "verbs")
    if not set(verbs) <= set(_VERBS):
        return [causes.not_supported(field, verbs, _VERBS)]
    return []


def _only_star(values: list[str], field: str, what: str) -> list[Cause]:
    if len(values) < 2 or "*" not in values:
        return []
    return [causes.invalid_value(field, values, f"if '*' is present, must not specify other {what}")]


def _validate_resource_rule(rule: Object, field: str) -> list[Cause]:
    found = _validate_verbs(rule.get("verbs") or [], f"{field}.verbs")
    for name, one, many in (("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")):
        values, path = rule.get(name) or [], f"{field}.{name}"
        if not values:
            found.append(causes.required(path, f"resource rules must supply at least one {one}"))
        found += _only_star(values, path, many)
    namespaces, path = rule.get("namespaces") or [], f"{field}.namespaces"
    if not namespaces and not rule.get("clusterScope"):
        text = "resource rules that are not cluster scoped must supply at least one namespace"
        found.append(causes.required(path, text))
    if "*" in namespaces:
        return found + _only_star(namespaces, path, "namespaces")
    for at, namespace in enumerate(namespaces):
        texts = [_NAMESPACES + text for text in names.is_dns1123_label(namespace)]
        found += causes.problems(f"{path}[{at}]", namespace, texts)
    return found


def _validate_url_rule(rule: Object, field: str) -> list[Cause]:
    found = _validate_verbs(rule.get("verbs") or [], f"{field}.verbs")
    urls, path = rule.get("nonResourceURLs") or [], f"{field}.nonResourceURLs"
    if not urls:
        return [*found, causes.required(path, "nonResourceURLs must contain at least one value")]
    if "*" in urls:
        return found + _only_star(urls, path, "non-resource URLs")
    for at, url in enumerate(urls):
        text = _url_problem(url)
        found += [causes.invalid_value(f"{path}[{at}]", url, text)] if text else []
    return found


def _url_problem(url: str) -> str:
    if not url:
        return "must not be empty"
    if url == "/":
        return ""
    if not url.startswith("/"):
        return "must start with slash"
    if " " in url:
        return "must not contain white-space"
    if "//" in url:
        return "must not contain double slash"
    if url.count("*") > 1 or ("*" in url and not url.endswith("/*")):
        return "wildcard can only do suffix matching"
    return ""


def _validate_exempt(exempt: Object) -> list[Cause]:
    found = causes.non_negative(
        "spec.exempt.nominalConcurrencyShares", exempt.get("nominalConcurrencyShares")
    )
    return found + _validate_percent(exempt.get("lendablePercent"), "spec.exempt.lendablePercent", low=0)


def _validate_percent(value: int | None, field: str, *, low: int) -> list[Cause]:
    if value is None or low <= value <= 100:
        return []
    return [causes.invalid_value(field, value, f"must be between {low} and 100, inclusive")]


def _validate_limited(limited: Object) -> list[Cause]:
    field = "spec.limited"
    found: list[Cause] = []
    shares = limited.get("nominalConcurrencyShares")
    if shares is not None and shares < 0:
        text = "must be a non-negative integer"
        found.append(causes.invalid_value(f"{field}.nominalConcurrencyShares", shares, text))
    found += _validate_percent(limited.get("lendablePercent"), f"{field}.lendablePercent", low=0)
    borrowing = limited.get("borrowingLimitPercent")
    if borrowing is not None and borrowing < 0:
        text = "if specified, must be a non-negative integer"
        found.append(causes.invalid_value(f"{field}.borrowingLimitPercent", borrowing, text))
    response = limited.get("limitResponse") or {}
    kind, queuing, path = response.get("type"), response.get("queuing"), f"{field}.limitResponse"
    if kind == "Reject":
        if queuing is not None:
            text = "must be nil if limited.limitResponse.type is not Limited"
            found.append(causes.forbidden(f"{path}.queuing", text))
    elif kind != "Queue":
        found.append(causes.not_supported(f"{path}.type", kind, ("Queue", "Reject")))
    elif queuing is None:
        text = "must not be empty if limited.limitResponse.type is Limited"
        found.append(causes.required(f"{path}.queuing", text))
    else:
        found += _validate_queuing(queuing, f"{path}.queuing")
    return found


def _validate_queuing(queuing: Object, field: str) -> list[Cause]:
    queues, hand = queuing["queues"], queuing["handSize"]
    found: list[Cause] = []
    if queuing["queueLengthLimit"] <= 0:
        found.append(
            causes.invalid_value(f"{field}.queueLengthLimit", queuing["queueLengthLimit"], "must be positive")
        )
    if queues <= 0:
        found.append(causes.invalid_value(f"{field}.queues", queues, "must be positive"))
    elif queues > _QUEUES_MAX:
        text = f"must not be greater than {_QUEUES_MAX}"
        found.append(causes.invalid_value(f"{field}.queues", queues, text))
    path = f"{field}.handSize"
    if hand <= 0:
        found.append(causes.invalid_value(path, hand, "must be positive"))
    elif hand > queues:
        found.append(causes.invalid_value(path, hand, f"should not be greater than queues ({queues})"))
    elif _entropy_bits(queues, hand) > _ENTROPY_BITS_MAX:
        text = (
            f"required entropy bits of deckSize {queues} and handSize {hand} should not be greater than"
            f" {_ENTROPY_BITS_MAX}"
        )
        found.append(causes.invalid_value(path, hand, text))
    return found


def _entropy_bits(queues: int, hand: int) -> int:
    """Bits of a hash that deals `hand` out of `queues`."""
    return ceil(log2(queues) * hand)


def _validate_conditions(obj: Object) -> list[Cause]:
    found: list[Cause] = []
    seen: set[str] = set()
    for at, condition in enumerate((obj.get("status") or {}).get("conditions") or ()):
        path, kind = f"status.conditions[{at}].type", condition.get("type") or ""
        if kind in seen:
            found.append(causes.duplicate(path, kind))
        seen.add(kind)
        if not kind:
            found.append(causes.required(path, "must not be empty"))
    return found
