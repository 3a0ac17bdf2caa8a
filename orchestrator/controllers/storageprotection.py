"""Storage protection: volumes, claims and attribute classes go only when nobody uses them any more.

Admission gives each of them a finalizer when it is made. One that is being deleted loses it

1. as a claim: when no pod that has a node and has not finished names it, directly or by an ephemeral volume;
2. as a volume: when it is not bound;
3. as a class of attributes: when no volume and no claim names it.

Keys: `<plural>/<key of the object>`.
"""

from collections.abc import Callable

from orchestrator.api.errors import NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import (
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    VOLUMEATTRIBUTESCLASSES,
    Resource,
)
from orchestrator.api.volumes import claim_index
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

FINALIZERS = {
    PERSISTENTVOLUMECLAIMS: "kubernetes.io/pvc-protection",
    PERSISTENTVOLUMES: "kubernetes.io/pv-protection",
    VOLUMEATTRIBUTESCLASSES: "kubernetes.io/vac-protection",
}
_FINISHED = ("Failed", "Succeeded")


class StorageProtectionController:
    name = "storageprotection"
    watches = (PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, VOLUMEATTRIBUTESCLASSES, PODS)
    writes = (PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, VOLUMEATTRIBUTESCLASSES)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._pods = informers.of(PODS)
        self._claims = informers.of(PERSISTENTVOLUMECLAIMS)
        self._volumes = informers.of(PERSISTENTVOLUMES)
        self._classes = informers.of(VOLUMEATTRIBUTESCLASSES)
        self._caches = {
            PERSISTENTVOLUMECLAIMS.plural: (PERSISTENTVOLUMECLAIMS, self._claims),
            PERSISTENTVOLUMES.plural: (PERSISTENTVOLUMES, self._volumes),
            VOLUMEATTRIBUTESCLASSES.plural: (VOLUMEATTRIBUTESCLASSES, self._classes),
        }
        self._pods.add_index("claim", claim_index)
        self._pods.on_change(self._pod_changed)
        for resource, cache in self._caches.values():
            cache.on_change(self._handler(resource))

    async def reconcile(self, key: str) -> float | None:
        plural, _, rest = key.partition("/")
        resource, cache = self._caches[plural]
        item = cache.get(rest)
        if item is None or not item.meta.deletion_timestamp or self._in_use(resource, item):
            return None
        metadata = item.object["metadata"]
        finalizers = [name for name in metadata.get("finalizers") or () if name != FINALIZERS[resource]]
        if len(finalizers) == len(metadata.get("finalizers") or ()):
            return None
        patch = {
            "metadata": {
                "uid": item.meta.uid,
                "resourceVersion": str(item.revision),
                "finalizers": finalizers,
            }
        }
        try:
            await self._client.patch(resource, item.meta.name, item.meta.namespace, patch)
        except NotFound:
            return None
        return None

    def _in_use(self, resource: Resource, item: Item) -> bool:
        if resource is PERSISTENTVOLUMECLAIMS:
            return any(uses_claims(pod.object) for pod in self._pods.by_index("claim", key_of(item)))
        if resource is PERSISTENTVOLUMES:
            return bool((item.object.get("status") or {}).get("phase") == "Bound")
        users = [*self._volumes.list(), *self._claims.list()]
        return any(names_class(user.object, item.meta.name) for user in users)

    def _handler(self, resource: Resource) -> Callable[[Item | None, Item | None], None]:
        def changed(old: Item | None, new: Item | None) -> None:
            if new is not None and new.meta.deletion_timestamp:
                self._queue.add(f"{resource.plural}/{key_of(new)}")
            if resource is not VOLUMEATTRIBUTESCLASSES and old is not None:
                self._look_at_classes(old)

        return changed

    def _look_at_classes(self, user: Item) -> None:
        """A volume or claim changed or went: a class that waited for it may go."""
        for item in self._classes.list():
            if item.meta.deletion_timestamp and names_class(user.object, item.meta.name):
                self._queue.add(f"{VOLUMEATTRIBUTESCLASSES.plural}/{item.meta.name}")

    def _pod_changed(self, old: Item | None, new: Item | None) -> None:
        pod = new or old
        if pod is None:
            return
        for key in claim_index(pod):
            self._queue.add(f"{PERSISTENTVOLUMECLAIMS.plural}/{key}")


def uses_claims(pod: Object) -> bool:
    """Whether a pod may have its volumes mounted now."""
    return (
        bool((pod.get("spec") or {}).get("nodeName"))
        and (pod.get("status") or {}).get("phase") not in _FINISHED
    )


def names_class(user: Object, name: str) -> bool:
    """Whether a volume or claim names the class of attributes, or still has it."""
    status = user.get("status") or {}
    wanted = (user.get("spec") or {}).get("volumeAttributesClassName")
    target = (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName")
    return name in (wanted, status.get("currentVolumeAttributesClassName"), target)
