"""RBAC: decides from Roles and bindings as they are now. Everything not granted is refused.

Reads the four resources through `Source`s (informers); `invalidate` is called on every change and makes the
next decision start from the new state. Decisions are remembered until then, in a bounded cache. Members of
`system:masters` may do everything, as in Kubernetes.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol

from orchestrator.api.access import Attributes, Identity
from orchestrator.api.errors import Forbidden
from orchestrator.api.item import Item, Object
from orchestrator.auth.rules import Rule, binds, parse

MASTERS = "system:masters"
DECISIONS_MAX = 20_000


class Source(Protocol):
    """All objects of one resource, from memory."""

    def list(self) -> list[Item]: ...


class Rbac:
    """Role-based access control over four sources. Owner of the decision cache."""

    def __init__(
        self, roles: Source, cluster_roles: Source, role_bindings: Source, cluster_role_bindings: Source
    ) -> None:
        self._sources = (roles, cluster_roles, role_bindings, cluster_role_bindings)
        self._stale = True
        self._roles: dict[tuple[str, str], tuple[Rule, ...]] = {}
        self._bindings: dict[str, list[Object]] = {}
        self._decisions: dict[tuple[str, tuple[str, ...], Attributes], bool] = {}

    def invalidate(self, *_: object) -> None:
        """Something changed in one of the sources (shaped as an informer's handler)."""
        self._stale = True

    async def authorize(self, identity: Identity, attributes: Attributes) -> None:
        """Raises `Forbidden` unless some rule allows it."""
        if not self.allows(identity, attributes):
            raise forbidden(identity, attributes)

    def allows(self, identity: Identity, attributes: Attributes) -> bool:
        """The decision alone."""
        if MASTERS in identity.groups:
            return True
        self._refresh()
        key = (identity.name, identity.groups, attributes)
        decision = self._decisions.get(key)
        if decision is None:
            granted = self.rules(identity, attributes.namespace)
            decision = any(rule.covers(attributes) for rule in granted)
            if len(self._decisions) >= DECISIONS_MAX:
                self._decisions.clear()
            self._decisions[key] = decision
        return decision

    def rules(self, identity: Identity, namespace: str) -> Iterator[Rule]:
        """Every rule that holds for `identity` in `namespace` (empty: cluster-wide only)."""
        self._refresh()
        if MASTERS in identity.groups:
            yield Rule({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})
            yield Rule({"verbs": ["*"], "nonResourceURLs": ["*"]})
        for binding_namespace in ("", namespace) if namespace else ("",):
            for binding in self._bindings.get(binding_namespace, ()):
                if binds(binding.get("subjects") or (), identity, binding_namespace):
                    yield from self._role_of(binding, binding_namespace)

    def _role_of(self, binding: Object, namespace: str) -> tuple[Rule, ...]:
        reference = binding["roleRef"]
        where = "" if reference["kind"] == "ClusterRole" else namespace
        return self._roles.get((where, reference["name"]), ())

    def _refresh(self) -> None:
        if not self._stale:
            return
        roles, cluster_roles, role_bindings, cluster_role_bindings = (s.list() for s in self._sources)
        self._roles = {
            (item.meta.namespace, item.meta.name): parse(item.object) for item in (*roles, *cluster_roles)
        }
        self._bindings = _by_namespace((*role_bindings, *cluster_role_bindings))
        self._decisions.clear()
        self._stale = False


def forbidden(identity: Identity, attributes: Attributes) -> Forbidden:
    """The refusal in Kubernetes' words."""
    if attributes.path:
        text = f'User "{identity.name}" cannot {attributes.verb} path "{attributes.path}"'
        return Forbidden(f"forbidden: {text}")
    resource = attributes.resource
    if attributes.subresource:
        resource += f"/{attributes.subresource}"
    where = f'in the namespace "{attributes.namespace}"' if attributes.namespace else "at the cluster scope"
    qualified = f"{attributes.resource}.{attributes.group}" if attributes.group else attributes.resource
    subject = f'{qualified} "{attributes.name}"' if attributes.name else qualified
    return Forbidden(
        f'{subject} is forbidden: User "{identity.name}" cannot {attributes.verb} resource "{resource}" '
        f'in API group "{attributes.group}" {where}',
        group=attributes.group,
        kind=attributes.resource,
        name=attributes.name,
    )


def _by_namespace(bindings: Iterable[Item]) -> dict[str, list[Object]]:
    grouped: dict[str, list[Object]] = {}
    for item in bindings:
        grouped.setdefault(item.meta.namespace, []).append(item.object)
    return grouped
