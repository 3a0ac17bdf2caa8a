"""ServiceAccounts: every active namespace has one called `default`.

1. It is made when the namespace appears, and again when somebody deletes it.
2. A namespace that is being deleted gets none.
"""

from orchestrator.api.errors import AlreadyExists, Forbidden, NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import NAMESPACES, SERVICEACCOUNTS
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

DEFAULT = "default"


class ServiceAccountController:
    name = "serviceaccount"
    watches = (NAMESPACES, SERVICEACCOUNTS)
    writes = (SERVICEACCOUNTS,)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._namespaces = informers.of(NAMESPACES)
        self._accounts = informers.of(SERVICEACCOUNTS)
        self._namespaces.on_change(lambda old, new: queue.add(key_of(new or old)))  # type: ignore[arg-type]
        self._accounts.on_change(self._account_changed)

    async def reconcile(self, key: str) -> float | None:
        wanted = plan(self._namespaces.get(key), self._accounts.get(f"{key}/{DEFAULT}"))
        if wanted is not None:
            try:
                await self._client.create(SERVICEACCOUNTS, wanted, key)
            except (AlreadyExists, NotFound):
                return None
            except Forbidden as error:
                if not any(cause.reason == "NamespaceTerminating" for cause in error.causes):
                    raise
        return None

    def _account_changed(self, old: Item | None, new: Item | None) -> None:
        if new is None and old is not None and old.meta.name == DEFAULT:
            self._queue.add(old.meta.namespace)


def plan(namespace: Item | None, account: Item | None) -> Object | None:
    """The account to create, or None."""
    if namespace is None or namespace.meta.deletion_timestamp or account is not None:
        return None
    metadata = {"name": DEFAULT, "namespace": namespace.meta.name}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
