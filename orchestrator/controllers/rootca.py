"""Root CA publisher: every active namespace has the cluster's CA in the ConfigMap `kube-root-ca.crt`.

1. It is made when the namespace appears, and again when somebody deletes it.
2. Its data is put right when somebody, or a rotation of the CA, changed it; labels and annotations stay.
3. A namespace that is being deleted gets none.
"""

from orchestrator.api.errors import AlreadyExists, Conflict, Forbidden, NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import CONFIGMAPS, NAMESPACES
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

NAME = "kube-root-ca.crt"
DESCRIPTION = "kubernetes.io/description"
_TEXT = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as "
    "the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of "
    "Kubernetes clusters."
)


class RootCaPublisher:
    name = "root-ca-publisher"
    watches = (NAMESPACES, CONFIGMAPS)
    writes = (CONFIGMAPS,)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder, ca_pem: str) -> None:
        """`ca_pem` is the certificate (or bundle) that signs the API server's."""
        self._client = client
        self._ca_pem = ca_pem

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._namespaces = informers.of(NAMESPACES)
        self._maps = informers.of(CONFIGMAPS)
        self._namespaces.on_change(lambda old, new: queue.add(key_of(new or old)))  # type: ignore[arg-type]
        self._maps.on_change(self._map_changed)

    async def reconcile(self, key: str) -> float | None:
        current = self._maps.get(f"{key}/{NAME}")
        wanted = plan(self._namespaces.get(key), current.object if current else None, self._ca_pem)
        if wanted is None:
            return None
        try:
            if current is None:
                await self._client.create(CONFIGMAPS, wanted, key)
            else:
                await self._client.update(CONFIGMAPS, wanted)
        except AlreadyExists as error:
            raise Conflict(error.message) from error
        except NotFound:
            return None
        except Forbidden as error:
            if not any(cause.reason == "NamespaceTerminating" for cause in error.causes):
                raise
        return None

    def _map_changed(self, old: Item | None, new: Item | None) -> None:
        item = new or old
        if item is not None and item.meta.name == NAME and old is not None:
            self._queue.add(item.meta.namespace)


def plan(namespace: Item | None, current: Object | None, ca_pem: str) -> Object | None:
    """The map to create or update, or None."""
    if namespace is None or namespace.meta.deletion_timestamp:
        return None
    data = {"ca.crt": ca_pem}
    if current is None:
        metadata = {
            "name": NAME, "namespace": namespace.meta.name, "annotations": {DESCRIPTION: _TEXT},
        }  # fmt: skip
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    if current.get("data") == data and not current.get("binaryData"):
        return None
    return {key: value for key, value in current.items() if key != "binaryData"} | {"data": data}
