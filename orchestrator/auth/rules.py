"""RBAC rules as sets, and whether one covers a request. Pure. Source: the RBAC API of Kubernetes v1.36."""

from collections.abc import Iterable
from typing import Any

from orchestrator.api.access import Attributes, Identity
from orchestrator.api.item import Object


class Rule:
    """One `PolicyRule`, ready for matching."""

    __slots__ = ("groups", "names", "paths", "resources", "verbs")

    def __init__(self, rule: Object) -> None:
        self.verbs = frozenset(rule.get("verbs") or ())
        self.groups = frozenset(rule.get("apiGroups") or ())
        self.resources = frozenset(rule.get("resources") or ())
        self.names = frozenset(rule.get("resourceNames") or ())
        self.paths = tuple(rule.get("nonResourceURLs") or ())

    def covers(self, request: Attributes) -> bool:
        if "*" not in self.verbs and request.verb not in self.verbs:
            return False
        if request.path:
            return any(_path_matches(pattern, request.path) for pattern in self.paths)
        return (
            ("*" in self.groups or request.group in self.groups)
            and self._resource_matches(request)
            and (not self.names or request.name in self.names)
        )

    def _resource_matches(self, request: Attributes) -> bool:
        if "*" in self.resources:
            return True
        if not request.subresource:
            return request.resource in self.resources
        return (
            f"{request.resource}/{request.subresource}" in self.resources
            or f"*/{request.subresource}" in self.resources
        )

    def to_json(self) -> dict[str, Any]:
        """The rule again, in a stable order."""
        fields = {
            "verbs": self.verbs,
            "apiGroups": self.groups,
            "resources": self.resources,
            "resourceNames": self.names,
            "nonResourceURLs": self.paths,
        }
        return {key: sorted(values) for key, values in fields.items() if values}


def parse(role: Object) -> tuple[Rule, ...]:
    """The rules of a Role or ClusterRole."""
    return tuple(Rule(rule) for rule in role.get("rules") or ())


def binds(subjects: Iterable[Object], identity: Identity, namespace: str) -> bool:
    """Whether one of a binding's subjects is `identity`; `namespace` is the binding's own."""
    for subject in subjects:
        kind, name = subject.get("kind"), subject.get("name", "")
        if kind == "User" and name == identity.name:
            return True
        if kind == "Group" and name in identity.groups:
            return True
        if kind == "ServiceAccount":
            account = f"system:serviceaccount:{subject.get('namespace') or namespace}:{name}"
            if account == identity.name:
                return True
    return False


def _path_matches(pattern: str, path: str) -> bool:
    if pattern.endswith("*"):
        return path.startswith(pattern[:-1])
    return pattern == path
