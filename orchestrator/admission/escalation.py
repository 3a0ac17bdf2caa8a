"""Nobody grants what he does not hold: the guard over roles and bindings. Source: Kubernetes' RBAC escalation rules.

1. Members of `system:masters` pass.
2. Writing a role needs every rule in it (that changed), or the verb `escalate` on the role. A role that gathers the
   rules of others can come to hold anything: its aggregation rule needs every right there is.
3. Writing a binding needs every rule of the role that it names, or the verb `bind` on that role.

A rule is held when the author's own rules, in the same namespace, cover each of its combinations.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any, Protocol

from orchestrator.admission.chain import AdmissionRequest, Operation, Reader
from orchestrator.admission.refusal import forbidden
from orchestrator.api.access import Attributes, Identity
from orchestrator.api.item import Object
from orchestrator.api.resources import CLUSTERROLES, ROLES, Resource

GROUP = "rbac.authorization.k8s.io"
MASTERS = "system:masters"
COMBINATIONS_MAX = 20_000
EVERYTHING: tuple[Object, ...] = (
    {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
    {"nonResourceURLs": ["*"], "verbs": ["*"]},
)
_ROLES = ("roles", "clusterroles")
_BINDINGS = ("rolebindings", "clusterrolebindings")

Combination = tuple[str, str, str, str, str]
"""verb, group, resource, name, path; unused parts are empty."""


class HeldRule(Protocol):
    """One rule that somebody holds."""

    def to_json(self) -> dict[str, Any]: ...


class Holdings(Protocol):
    """What an identity may do. The authorizer is one."""

    def allows(self, identity: Identity, attributes: Attributes) -> bool: ...

    def rules(self, identity: Identity, namespace: str) -> Sequence[HeldRule]: ...


class RbacEscalation:
    """See the module."""

    def __init__(self, reader: Reader, holdings: Holdings) -> None:
        self._reader = reader
        self._holdings = holdings

    def handles(self, operation: Operation, resource: Resource, subresource: str) -> bool:
        return operation in ("CREATE", "UPDATE") and resource.group == GROUP

    async def mutate(self, request: AdmissionRequest) -> Object | None:
        return None

    async def validate(self, request: AdmissionRequest) -> None:
        if MASTERS in request.identity.groups:
            return
        new, old = request.object or {}, request.old or {}
        if request.resource.plural in _ROLES:
            wanted = _wanted(new, old)
            if wanted and not self._may(request, "escalate", request.resource):
                self._check(request, wanted)
        elif request.resource.plural in _BINDINGS:
            changed = any(new.get(field) != old.get(field) for field in ("roleRef", "subjects"))
            if changed:
                await self._check_binding(request, new.get("roleRef") or {})

    async def _check_binding(self, request: AdmissionRequest, reference: Object) -> None:
        resource = CLUSTERROLES if reference.get("kind") == "ClusterRole" else ROLES
        name = str(reference.get("name", ""))
        if self._may(request, "bind", resource, name):
            return
        role = await self._reader.find(resource, request.namespace if resource.namespaced else "", name)
        if role is None:
            raise forbidden(
                request, f'{resource.qualified} "{name}" not found, and binding it is not allowed'
            )
        self._check(request, role.object.get("rules") or ())

    def _may(self, request: AdmissionRequest, verb: str, resource: Resource, name: str = "") -> bool:
        attributes = Attributes(
            verb,
            resource.group,
            resource.plural,
            namespace=request.namespace,
            name=name or request.name,
        )
        return self._holdings.allows(request.identity, attributes)

    def _check(self, request: AdmissionRequest, wanted: Iterable[Object]) -> None:
        held = [rule.to_json() for rule in self._holdings.rules(request.identity, request.namespace)]
        missing = [rule for rule in wanted if not _held(rule, held)]
        if missing:
            groups = ", ".join(f'"{group}"' for group in request.identity.groups)
            raise forbidden(
                request,
                f'user "{request.identity.name}" (groups=[{groups}]) is attempting to grant RBAC permissions '
                f"not currently held:\n" + "\n".join(_words(rule) for rule in missing[:10]),
            )


def _wanted(new: Object, old: Object) -> list[Object]:
    """The rules that a role's author must hold."""
    wanted: list[Object] = []
    if new.get("rules") != old.get("rules"):
        wanted += new.get("rules") or ()
    if new.get("aggregationRule") != old.get("aggregationRule"):
        wanted += EVERYTHING
    return wanted


def _held(rule: Object, held: Sequence[Object]) -> bool:
    if rule in held:
        return True
    if _size(rule) > COMBINATIONS_MAX:
        return False
    return all(any(_covers(own, part) for own in held) for part in combinations(rule))


def combinations(rule: Object) -> Iterator[Combination]:
    """Every single permission in a rule."""
    verbs = rule.get("verbs") or ()
    for verb, path in product(verbs, rule.get("nonResourceURLs") or ()):
        yield verb, "", "", "", path
    names = rule.get("resourceNames") or ("",)
    for verb, group, resource, name in product(
        verbs, rule.get("apiGroups") or (), rule.get("resources") or (), names
    ):
        yield verb, group, resource, name, ""


def _size(rule: Object) -> int:
    size = len(rule.get("verbs") or ()) * max(1, len(rule.get("resourceNames") or ()))
    return size * (
        len(rule.get("apiGroups") or ()) * len(rule.get("resources") or ())
        + len(rule.get("nonResourceURLs") or ())
    )


def _covers(own: Object, wanted: Combination) -> bool:
    verb, group, resource, name, path = wanted
    verbs = own.get("verbs") or ()
    if verb not in verbs and "*" not in verbs:
        return False
    if path:
        return any(_path_covers(pattern, path) for pattern in own.get("nonResourceURLs") or ())
    groups, names = own.get("apiGroups") or (), own.get("resourceNames") or ()
    return (
        (group in groups or "*" in groups)
        and _resource_covers(own.get("resources") or (), resource)
        and (not names or name in names)
    )


def _resource_covers(own: Sequence[str], resource: str) -> bool:
    _, slash, subresource = resource.partition("/")
    return resource in own or "*" in own or bool(slash and f"*/{subresource}" in own)


def _path_covers(pattern: str, path: str) -> bool:
    return pattern == path or (pattern.endswith("*") and path.startswith(pattern[:-1]))


def _words(rule: Object) -> str:
    """As kube-apiserver prints a rule."""
    fields = (
        ("APIGroups", "apiGroups"), ("Resources", "resources"), ("ResourceNames", "resourceNames"),
        ("NonResourceURLs", "nonResourceURLs"), ("Verbs", "verbs"),
    )  # fmt: skip
    parts = [f"{word}:[{_quoted(rule[field])}]" for word, field in fields if rule.get(field)]
    return "{" + ", ".join(parts) + "}"


def _quoted(values: Iterable[str]) -> str:
    return " ".join(f'"{value}"' for value in values)
