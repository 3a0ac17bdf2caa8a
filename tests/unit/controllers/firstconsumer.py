"""A stand-in for the scheduler's volume binding, for tests of what comes after it: the binder and the provisioners.

A claim of a class that waits for its first consumer, without a volume and without a node, follows the first pod that
uses it and has a node: a free volume that the node reaches is reserved, else the node is written to the claim.
"""

from orchestrator.api.item import Item
from orchestrator.api.resources import NODES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, STORAGECLASSES
from orchestrator.api.volumes import (
    BIND_COMPLETED,
    NO_PROVISIONER,
    SELECTED_NODE,
    annotations,
    claim_index,
    claim_ref_index,
    class_of,
)
from orchestrator.controllers.views import pod_view
from orchestrator.controllers.volumes import claimed
from orchestrator.informer.cache import key_of
from orchestrator.scheduler.rules.volumes import Place, find_match


class FirstConsumer:
    name = "firstconsumer"
    watches = (PODS, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES, NODES)
    writes = (PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES)

    def __init__(self, client, clock, recorder) -> None:
        self._client = client

    def setup(self, informers, queue) -> None:
        self._pods, self._claims, self._volumes, self._classes, self._nodes = map(informers.of, self.watches)
        for informer in (self._pods, self._claims, self._volumes, self._classes):
            informer.on_change(lambda old, new: self._wake(queue))

    def _wake(self, queue) -> None:
        for claim in self._claims.list():
            queue.add(key_of(claim))

    async def reconcile(self, key: str) -> float | None:
        item = self._claims.get(key)
        found = self._classes.get(class_of(item.object)) if item is not None and waits(item) else None
        place = self._place(key)
        taken = any(key in claim_ref_index(volume) for volume in self._volumes.list())
        if found is None or place is None or taken:
            return None
        claim, storage_class = item.object, found.object
        if storage_class.get("volumeBindingMode") != "WaitForFirstConsumer":
            return None
        volumes = [volume.object for volume in self._volumes.list()]
        free = [v for v in volumes if class_of(v) == class_of(claim) and not v["spec"].get("claimRef")]
        volume = find_match(claim, free, place, delayed=True)
        if volume is not None:
            await self._client.update(PERSISTENTVOLUMES, claimed(volume, claim))
        elif storage_class["provisioner"] != NO_PROVISIONER:
            version = claim["metadata"]["resourceVersion"]
            change = {"resourceVersion": version, "annotations": {SELECTED_NODE: place.name}}
            namespace, name = key.split("/")
            await self._client.patch(PERSISTENTVOLUMECLAIMS, name, namespace, {"metadata": change})
        return None

    def _place(self, key: str) -> Place | None:
        users = [
            (view.metadata.creation_timestamp, pod.meta.name, view.spec.node_name)
            for pod in self._pods.list()
            if key in claim_index(pod) and not pod.meta.deletion_timestamp
            if (view := pod_view(pod)).spec.node_name and not view.finished
        ]
        node = self._nodes.get(min(users)[2]) if users else None
        return Place(node.meta.name, node.labels) if node is not None else None


def waits(claim: Item) -> bool:
    """Whether a claim has neither a volume nor a node."""
    marks = annotations(claim.object)
    done = BIND_COMPLETED in marks or SELECTED_NODE in marks or claim.object["spec"].get("volumeName")
    return not done and not claim.meta.deletion_timestamp
