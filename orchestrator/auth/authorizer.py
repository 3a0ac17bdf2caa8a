"""The chain of authorizers: Node, then RBAC. Decides every request, HTTP or local."""

from orchestrator.api.access import Attributes, Identity
from orchestrator.auth.node import NodeAuthorizer
from orchestrator.auth.rbac import MASTERS, Rbac, forbidden
from orchestrator.auth.rules import Rule


class AuthorizerChain:
    """Allowed by one is allowed; there is no veto."""

    def __init__(self, nodes: NodeAuthorizer, rbac: Rbac) -> None:
        self._nodes = nodes
        self._rbac = rbac

    async def authorize(self, identity: Identity, attributes: Attributes) -> None:
        """Raises `Forbidden`."""
        if not self.allows(identity, attributes):
            raise forbidden(identity, attributes)

    def allows(self, identity: Identity, attributes: Attributes) -> bool:
        """The decision alone, for access reviews."""
        return (
            MASTERS in identity.groups
            or self._nodes.allows(identity, attributes)
            or self._rbac.allows(identity, attributes)
        )

    def rules(self, identity: Identity, namespace: str) -> list[Rule]:
        """What `identity` may do in `namespace`, as far as RBAC tells."""
        return list(self._rbac.rules(identity, namespace))
