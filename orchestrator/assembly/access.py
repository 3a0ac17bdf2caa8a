"""Authentication and authorization put together, reading roles and pods from informers."""

import builtins

from orchestrator.api.access import Attributes, Identity
from orchestrator.api.errors import Forbidden
from orchestrator.api.item import Item
from orchestrator.api.resources import (
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    PERSISTENTVOLUMES,
    PODS,
    ROLEBINDINGS,
    ROLES,
)
from orchestrator.api.volumes import claim_ref_index, volume_node_index
from orchestrator.auth.authenticator import Authenticator
from orchestrator.auth.authorizer import AuthorizerChain
from orchestrator.auth.node import NodeAuthorizer
from orchestrator.auth.rbac import Rbac, Source
from orchestrator.auth.rules import Rule
from orchestrator.auth.tokens import ServiceAccountTokens
from orchestrator.base.clock import Clock
from orchestrator.informer.cache import Informer, Informers
from orchestrator.registry.registry import Registry

_SOURCES = (ROLES, CLUSTERROLES, ROLEBINDINGS, CLUSTERROLEBINDINGS)


class _Late:
    """A source that is empty until its informer exists: the API serves before it knows any role."""

    def __init__(self) -> None:
        self.informer: Informer | None = None

    def list(self) -> builtins.list[Item]:
        return self.informer.list() if self.informer is not None else []

    def by_index(self, name: str, value: str) -> builtins.list[Item]:
        return self.informer.by_index(name, value) if self.informer is not None else []


class LateAuthorizer:
    """The authorizer for those that are built before it: the registry and its admission plugins."""

    def __init__(self) -> None:
        self._chain: AuthorizerChain | None = None

    def connect(self, chain: AuthorizerChain) -> None:
        """Decide as `chain` does from now on; until then nothing is allowed."""
        self._chain = chain

    async def authorize(self, identity: Identity, attributes: Attributes) -> None:
        """Raises `Forbidden`."""
        if self._chain is None:
            raise Forbidden("not ready to authorize requests")
        await self._chain.authorize(identity, attributes)

    def allows(self, identity: Identity, attributes: Attributes) -> bool:
        return self._chain is not None and self._chain.allows(identity, attributes)

    def rules(self, identity: Identity, namespace: str) -> builtins.list[Rule]:
        return self._chain.rules(identity, namespace) if self._chain is not None else []


class Access:
    """Who asks and whether they may. Until `connect`, only `system:masters` may do anything."""

    def __init__(self, signing_key: bytes, registry: Registry, clock: Clock) -> None:
        self._late = {resource: _Late() for resource in (*_SOURCES, PODS, PERSISTENTVOLUMES)}
        sources: list[Source] = [self._late[resource] for resource in _SOURCES]
        self._rbac = Rbac(*sources)
        self.tokens = ServiceAccountTokens(signing_key, registry, clock)
        self.authenticator = Authenticator(self.tokens)
        self.authorizer = AuthorizerChain(
            NodeAuthorizer(self._late[PODS], self._late[PERSISTENTVOLUMES]), self._rbac
        )

    def connect(self, informers: Informers) -> None:
        """Decide from these informers; the pods' one has the index of nodes."""
        for resource, late in self._late.items():
            late.informer = informers.of(resource)
        volumes = informers.of(PERSISTENTVOLUMES)
        volumes.add_index("claim", claim_ref_index)
        volumes.add_index("node", volume_node_index)
        for resource in _SOURCES:
            informers.of(resource).on_change(self._rbac.invalidate)
