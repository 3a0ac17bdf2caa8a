"""First consumers: a claim that waits for one gets the node of the pod that uses it.

Kubernetes' scheduler does this when it places a pod (its plugin VolumeBinding). Ours will, too; until then it places
pods without looking at volumes, and this controller does the plugin's last step after the fact:

1. A claim of a class that waits for the first consumer, not bound and without a selected node, follows the oldest pod
   that uses it, has a node and has not finished.
2. A free volume that suits and can be reached from that node is reserved for the claim; the binder binds it.
3. Without one, the node is written to the claim (`volume.kubernetes.io/selected-node`), and the binder hands it to
   the class's provisioner.

When the scheduler binds volumes this file goes: what it decides with (`scheduler.rules.volumes`) stays, and binder and
provisioner see the same reservation and annotation from there.
"""

from dataclasses import dataclass

from orchestrator.api.item import Item, Object
from orchestrator.api.resources import (
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    STORAGECLASSES,
)
from orchestrator.api.volumes import (
    BIND_COMPLETED,
    NO_PROVISIONER,
    SELECTED_NODE,
    annotations,
    claim_index,
    claim_ref_index,
    class_of,
)
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.views import pod_view
from orchestrator.controllers.volumes import claimed, free_index
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue
from orchestrator.scheduler.rules.volumes import Place, find_match

_WAITING = "consumer"


class VolumeConsumer:
    name = "volumeconsumer"
    watches = (PODS, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES, NODES)
    writes = (PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._pods = informers.of(PODS)
        self._claims = informers.of(PERSISTENTVOLUMECLAIMS)
        self._volumes = informers.of(PERSISTENTVOLUMES)
        self._classes = informers.of(STORAGECLASSES)
        self._nodes = informers.of(NODES)
        self._pods.add_index("claim", claim_index)
        self._volumes.add_index("claim", claim_ref_index)
        self._volumes.add_index("free", free_index)
        self._claims.add_index(_WAITING, waiting_index)
        self._pods.on_change(self._pod_changed)
        self._claims.on_change(self._claim_changed)
        self._volumes.on_change(self._volume_changed)
        self._classes.on_change(self._class_changed)

    async def reconcile(self, key: str) -> float | None:
        item = self._claims.get(key)
        if item is None or not waiting_index(item) or self._volumes.by_index("claim", key):
            return None
        claim = item.object
        found, place = self._classes.get(class_of(claim)), self._place(key)
        if found is None or place is None:
            return None
        candidates = self._volumes.by_index("free", class_of(claim))
        match plan(claim, found.object, place, [volume.object for volume in candidates]):
            case Reserve(volume):
                await self._client.update(PERSISTENTVOLUMES, claimed(volume, claim))
            case Select(node):
                metadata = claim["metadata"]
                change = {
                    "resourceVersion": metadata["resourceVersion"],
                    "annotations": {SELECTED_NODE: node},
                }
                await self._client.patch(
                    PERSISTENTVOLUMECLAIMS, metadata["name"], metadata["namespace"], {"metadata": change}
                )
        return None

    def _place(self, key: str) -> Place | None:
        """Rule 1: where the oldest pod is that uses the claim."""
        pods = [
            (view.metadata.creation_timestamp, pod.meta.name, view.spec.node_name)
            for pod in self._pods.by_index("claim", key)
            if (view := pod_view(pod)).spec.node_name
            and not view.finished
            and not pod.meta.deletion_timestamp
        ]
        node = self._nodes.get(min(pods)[2]) if pods else None
        return Place(node.meta.name, node.labels) if node is not None else None

    def _pod_changed(self, old: Item | None, new: Item | None) -> None:
        keys = claim_index(new) if new is not None else ()
        if new is None or not keys or (old is not None and pod_view(old).spec == pod_view(new).spec):
            return
        for key in keys:
            self._queue.add(key)

    def _claim_changed(self, old: Item | None, new: Item | None) -> None:
        if new is not None and waiting_index(new):
            self._queue.add(key_of(new))

    def _volume_changed(self, old: Item | None, new: Item | None) -> None:
        """One that is free now may suit whoever waits; a claim that a volume was reserved for looks again."""
        for item in (old, new):
            for key in claim_ref_index(item) if item is not None else ():
                self._queue.add(key)
        if new is None or new is old or not free_index(new):
            return
        for claim in self._claims.by_index(_WAITING, class_of(new.object)):
            self._queue.add(key_of(claim))

    def _class_changed(self, old: Item | None, new: Item | None) -> None:
        for claim in self._claims.by_index(_WAITING, new.meta.name) if new is not None else ():
            self._queue.add(key_of(claim))


def waiting_index(claim: Item) -> tuple[str, ...]:
    """Index function: the class of a claim that has neither a volume nor a node."""
    obj = claim.object
    marks = annotations(obj)
    done = BIND_COMPLETED in marks or SELECTED_NODE in marks or obj["spec"].get("volumeName")
    name = class_of(obj)
    return (name,) if name and not done and not claim.meta.deletion_timestamp else ()


def _waits(storage_class: Object) -> bool:
    return bool(storage_class.get("volumeBindingMode") == "WaitForFirstConsumer")


@dataclass(frozen=True, slots=True)
class Reserve:
    volume: Object


@dataclass(frozen=True, slots=True)
class Select:
    node: str


def plan(
    claim: Object, storage_class: Object, place: Place, volumes: list[Object]
) -> Reserve | Select | None:
    """Rules 2 and 3 for a claim whose consumer is at `place`."""
    if not _waits(storage_class):
        return None
    volume = find_match(claim, volumes, place, delayed=True)
    if volume is not None:
        return Reserve(volume)
    return Select(place.name) if storage_class["provisioner"] != NO_PROVISIONER else None
