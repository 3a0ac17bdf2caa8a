"""Which FlowSchema a request belongs to. Pure; compiled once per schema, asked once per kind of request.

Source of the rules: Kubernetes' API Priority and Fairness. A schema matches when one of its rules has a subject
that is the user and a resource rule (or non-resource rule) that covers the request.
"""

from collections.abc import Callable
from typing import Any

from orchestrator.api.access import Identity
from orchestrator.api.item import Object
from orchestrator.server.paths import RequestInfo

Test = Callable[[Identity, RequestInfo], bool]
_ACCOUNT = "system:serviceaccount:"


def matcher(spec: Object) -> Test:
    """The test that the FlowSchema with this spec makes."""
    rules = [_rule(rule) for rule in spec.get("rules") or ()]

    def matches(identity: Identity, info: RequestInfo) -> bool:
        return any(test(identity, info) for test in rules)

    return matches


def names_namespaces(spec: Object) -> bool:
    """Whether a rule names namespaces, so that the namespace itself decides and not only that there is one."""
    return any(
        namespace != "*"
        for rule in spec.get("rules") or ()
        for resource_rule in rule.get("resourceRules") or ()
        for namespace in resource_rule.get("namespaces") or ()
    )


def _rule(rule: Object) -> Test:
    subjects = [_subject(subject) for subject in rule.get("subjects") or ()]
    on_resources = [_on_resource(entry) for entry in rule.get("resourceRules") or ()]
    on_paths = [_on_path(entry) for entry in rule.get("nonResourceRules") or ()]

    def matches(identity: Identity, info: RequestInfo) -> bool:
        targets = on_resources if info.resource else on_paths
        return any(test(info) for test in targets) and any(test(identity) for test in subjects)

    return matches


def _subject(subject: Object) -> Callable[[Identity], bool]:
    kind = subject.get("kind")
    if kind == "User":
        name = _field(subject, "user", "name")
        return lambda identity: name in ("*", identity.name)
    if kind == "Group":
        group = _field(subject, "group", "name")
        return lambda identity: group == "*" or group in identity.groups
    namespace = _field(subject, "serviceAccount", "namespace")
    account = _field(subject, "serviceAccount", "name")
    prefix = f"{_ACCOUNT}{namespace}:"
    if account == "*":
        return lambda identity: identity.name.startswith(prefix)
    return lambda identity: identity.name == prefix + account


def _field(subject: Object, part: str, name: str) -> str:
    return str((subject.get(part) or {}).get(name) or "")


def _on_resource(rule: Object) -> Callable[[RequestInfo], bool]:
    verbs, groups = _names(rule, "verbs"), _names(rule, "apiGroups")
    resources, namespaces = _names(rule, "resources"), _names(rule, "namespaces")
    cluster_scope = bool(rule.get("clusterScope"))

    def matches(info: RequestInfo) -> bool:
        wanted = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
        placed = info.namespace in namespaces if info.namespace else cluster_scope
        return placed and info.verb in verbs and info.group in groups and wanted in resources

    return matches


def _on_path(rule: Object) -> Callable[[RequestInfo], bool]:
    verbs = _names(rule, "verbs")
    patterns = [str(pattern) for pattern in rule.get("nonResourceURLs") or ()]
    exact = {pattern for pattern in patterns if not pattern.endswith("*")}
    prefixes = tuple(pattern.rstrip("*") for pattern in patterns if pattern.endswith("*"))
    return lambda info: info.verb in verbs and (info.path in exact or info.path.startswith(prefixes))


class _Everything(frozenset[str]):
    """Contains every name: what `*` stands for."""

    def __contains__(self, name: object) -> bool:
        return True


_EVERYTHING = _Everything()


def _names(rule: Object, field: str) -> frozenset[str]:
    listed: list[Any] = rule.get(field) or []
    return _EVERYTHING if "*" in listed else frozenset(listed)
