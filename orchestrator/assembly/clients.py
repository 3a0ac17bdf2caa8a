"""Clients of components in this process, one identity each, and their event recorders."""

from collections.abc import Callable

from orchestrator.api.access import Authorizer, Identity
from orchestrator.api.item import Object
from orchestrator.api.resources import SUBJECTACCESSREVIEWS, TOKENREVIEWS
from orchestrator.assembly.access import Access
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.events import EventRecorder
from orchestrator.client.local import LocalClient
from orchestrator.registry.explaining import Explain
from orchestrator.registry.registry import Registry
from orchestrator.server.reviews import Reviews


class Clients:
    """Makes local clients; what no registry serves is connected here."""

    def __init__(self, registry: Registry, access: Access, reviews: Reviews) -> None:
        self._registry = registry
        self._access = access
        self._reviews = reviews

    def as_identity(
        self, identity: Identity, guard: Callable[[Authorizer], Authorizer] = lambda authorizer: authorizer
    ) -> LocalClient:
        """A client that may do what `identity` may; `guard` may refuse more."""
        providers = {
            ("", "serviceaccounts", "token"): self._token,
            (SUBJECTACCESSREVIEWS.group, SUBJECTACCESSREVIEWS.plural, ""): self._access_review,
            (TOKENREVIEWS.group, TOKENREVIEWS.plural, ""): self._token_review,
        }
        return LocalClient(self._registry, guard(self._access.authorizer), identity, providers)

    def explained_by(self, explain: Explain) -> None:
        """Who says why pods are where they are."""
        self._registry.explanations.connect(explain)

    def lasting_token(self, namespace: str, name: str, uid: str, secret: str) -> str:
        """A token of the account `namespace/name`, to be kept in a Secret."""
        return self._access.tokens.issue_lasting(namespace, name, uid, secret)

    async def _access_review(self, namespace: str, name: str, obj: Object, identity: Identity) -> Object:
        return await self._reviews.answer(SUBJECTACCESSREVIEWS, obj, namespace, identity)

    async def _token_review(self, namespace: str, name: str, obj: Object, identity: Identity) -> Object:
        return await self._reviews.answer(TOKENREVIEWS, obj, namespace, identity)

    async def _token(self, namespace: str, name: str, obj: Object, identity: Identity) -> Object:
        return await self._reviews.token(namespace, name, obj, identity)


def recorder_of(
    client: LocalClient, name: str, host: str, supervisor: Supervisor, clock: Clock
) -> EventRecorder:
    """A recorder that writes until `supervisor` stops."""
    recorder = EventRecorder(client, name, host, clock)
    supervisor.serve("events", recorder.run)
    return recorder
