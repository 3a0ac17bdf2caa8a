"""Local-path provisioner: makes volumes that are directories on nodes, and lets them go with their claims.

It does for the provisioner `orchestrator.internal/local-path` what external provisioners do for others; the node's
agent makes and deletes the directories (`agent.localvolumes`), this decides about the objects.

1. A claim that the binder has handed over gets a volume named `pvc-<uid of the claim>` on the selected node, below the
   directory that the node offers in its annotation `orchestrator.internal/local-path`. Where nobody selects a node (a
   class that binds at once), the only node that offers one is taken.
2. What a directory can't be is refused with an event: access from several nodes, a block device, a copy of other
   data, a volume chosen by labels. A selected node that is gone is taken back, so that another is selected.
3. A released volume to be deleted is deleted. The finalizer keeps the object until the agent has deleted the
   directory; a volume whose node is gone waits for the node, or for somebody who deletes the volume by hand.
4. A volume that is being deleted loses the finalizer here when its directory shall stay (Retain) or can't be reached
   because its node is gone.

Keys: `claim/<key>`, `volume/<name>`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.api.errors import AlreadyExists, NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import NODES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES
from orchestrator.api.volumes import (
    BIND_COMPLETED,
    LOCAL_PATH,
    ON_NODE,
    PROVISIONED_BY,
    PROVISIONER_FINALIZER,
    SELECTED_NODE,
    STORAGE_PROVISIONERS,
    annotations,
    claim_ref_index,
    class_of,
    phase_of,
    volume_node_index,
)
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.volumes import Teller, without_finalizer
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

_ONE_NODE = {"ReadWriteOnce", "ReadWriteOncePod"}
_CLAIM, _VOLUME = "claim/", "volume/"


class LocalPathProvisioner:
    name = "localpath"
    watches = (PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES, NODES)
    writes = (PERSISTENTVOLUMES, PERSISTENTVOLUMECLAIMS)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client
        self._recorder = recorder
        self._teller = Teller(recorder, clock)

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._claims = informers.of(PERSISTENTVOLUMECLAIMS)
        self._volumes = informers.of(PERSISTENTVOLUMES)
        self._classes = informers.of(STORAGECLASSES)
        self._nodes = informers.of(NODES)
        self._volumes.add_index("node", volume_node_index)
        self._claims.add_index("localpath", waiting_index)
        self._claims.on_change(self._claim_changed)
        self._volumes.on_change(self._volume_changed)
        self._nodes.on_change(self._node_changed)

    async def reconcile(self, key: str) -> float | None:
        if key.startswith(_VOLUME):
            item = self._volumes.get(key.removeprefix(_VOLUME))
            if item is not None and annotations(item.object).get(PROVISIONED_BY) == LOCAL_PATH:
                await self._let_go(item.object)
            return None
        item = self._claims.get(key.removeprefix(_CLAIM))
        if item is None or not waiting_index(item):
            return None
        claim = item.object
        storage_class = self._classes.get(class_of(claim))
        if storage_class is None or self._volumes.get(volume_name(claim)) is not None:
            return None
        match plan(claim, storage_class.object, self._offers(claim)):
            case Make(volume):
                await self._make(claim, volume)
            case Refuse(message):
                text = f'failed to provision volume with StorageClass "{class_of(claim)}": {message}'
                self._teller.tell(claim, "Warning", "ProvisioningFailed", text)
            case TakeBack():
                await self._take_back(claim)
        return None

    def _offers(self, claim: Object) -> dict[str, str]:
        """Directory by node: of the selected node, or of every one where none is selected."""
        selected = self._nodes.get(annotations(claim).get(SELECTED_NODE) or "")
        if SELECTED_NODE in annotations(claim):
            nodes = [selected] if selected is not None else []
        else:
            nodes = self._nodes.list()
        return {node.meta.name: _offer(node) or "" for node in nodes}

    async def _make(self, claim: Object, volume: Object) -> None:
        metadata = claim["metadata"]
        text = f'External provisioner is provisioning volume for claim "{metadata["namespace"]}/{metadata["name"]}"'
        self._teller.tell(claim, "Normal", "Provisioning", text)
        try:
            await self._client.create(PERSISTENTVOLUMES, volume)
        except AlreadyExists:
            return
        name = volume["metadata"]["name"]
        self._recorder.event(
            claim, "Normal", "ProvisioningSucceeded", f"Successfully provisioned volume {name}"
        )

    async def _take_back(self, claim: Object) -> None:
        """Rule 2: the node that was selected is gone, also live."""
        metadata = claim["metadata"]
        try:
            await self._client.get(NODES, annotations(claim)[SELECTED_NODE])
        except NotFound:
            patch = {
                "metadata": {
                    "resourceVersion": metadata["resourceVersion"],
                    "annotations": {SELECTED_NODE: None},
                }
            }
            await self._client.patch(PERSISTENTVOLUMECLAIMS, metadata["name"], metadata["namespace"], patch)

    async def _let_go(self, volume: Object) -> None:
        """Rules 3 and 4."""
        metadata = volume["metadata"]
        name, node = metadata["name"], annotations(volume).get(ON_NODE) or ""
        keeps = volume["spec"].get("persistentVolumeReclaimPolicy") != "Delete"
        there = self._nodes.get(node) is not None
        if "deletionTimestamp" in metadata:
            finalizers = without_finalizer(volume, PROVISIONER_FINALIZER)
            free = phase_of(volume) != "Bound" and (keeps or not there)
            if finalizers is not None and free:
                await self._drop_finalizer(volume, finalizers)
        elif phase_of(volume) == "Released" and not keeps:
            if there:
                await self._delete(name, metadata["uid"])
                return
            text = f'node "{node}" is gone, and with it the directory of the volume'
            self._teller.tell(volume, "Warning", "VolumeFailedDelete", text)

    async def _delete(self, name: str, uid: str) -> None:
        try:
            await self._client.delete(PERSISTENTVOLUMES, name, "", DeleteOptions(uid=uid))
        except NotFound:
            return

    async def _drop_finalizer(self, volume: Object, finalizers: list[str]) -> None:
        metadata = volume["metadata"]
        patch = {
            "metadata": {
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
                "finalizers": finalizers,
            }
        }
        try:
            await self._client.patch(PERSISTENTVOLUMES, metadata["name"], "", patch)
        except NotFound:
            return

    def _claim_changed(self, old: Item | None, new: Item | None) -> None:
        if new is not None and waiting_index(new):
            self._queue.add(_CLAIM + key_of(new))

    def _volume_changed(self, old: Item | None, new: Item | None) -> None:
        item = new or old
        assert item is not None
        if new is None:
            for key in claim_ref_index(item):
                self._queue.add(_CLAIM + key)
        elif volume_node_index(new):
            self._queue.add(_VOLUME + new.meta.name)

    def _node_changed(self, old: Item | None, new: Item | None) -> None:
        """A node that comes, goes or begins to offer a directory; its status changes every few minutes."""
        item = new or old
        assert item is not None
        if old is not None and new is not None and _offer(old) == _offer(new):
            return
        for volume in self._volumes.by_index("node", item.meta.name):
            self._queue.add(_VOLUME + volume.meta.name)
        for claim in self._claims.by_index("localpath", "waiting"):
            self._queue.add(_CLAIM + key_of(claim))


def _offer(node: Item) -> str | None:
    return annotations(node.object).get(LOCAL_PATH)


def waiting_index(claim: Item) -> tuple[str, ...]:
    """Index function: `waiting` for a claim that was handed to this provisioner and has no volume."""
    obj = claim.object
    marks = annotations(obj)
    if LOCAL_PATH not in (marks.get(name) for name in STORAGE_PROVISIONERS) or BIND_COMPLETED in marks:
        return ()
    done = claim.meta.deletion_timestamp or obj["spec"].get("volumeName")
    return () if done else ("waiting",)


@dataclass(frozen=True, slots=True)
class Make:
    volume: Object


@dataclass(frozen=True, slots=True)
class Refuse:
    message: str


@dataclass(frozen=True, slots=True)
class TakeBack:
    """The selected node does not exist: select another."""


def plan(claim: Object, storage_class: Object, offers: Mapping[str, str]) -> Make | Refuse | TakeBack:
    """What to do for a claim without a volume; `offers` has the nodes to choose from, with an empty
    directory where one offers none."""
    why = _refusal(claim["spec"])
    if why:
        return Refuse(why)
    node = annotations(claim).get(SELECTED_NODE)
    if node is None:
        offering = [name for name, directory in offers.items() if directory]
        if len(offering) != 1:
            return Refuse("no node is selected: use a class that waits for the first consumer")
        node = offering[0]
    if node not in offers:
        return TakeBack()
    if not offers[node]:
        return Refuse(f'node "{node}" offers no directory for volumes')
    return Make(new_volume(claim, storage_class, node, f"{offers[node]}/{volume_name(claim)}"))


def _refusal(spec: Object) -> str:
    more = sorted(set(spec.get("accessModes") or ()) - _ONE_NODE)
    checks = (
        (more, f"a directory of one node can't have access mode {', '.join(more)}"),
        (spec.get("volumeMode") == "Block", "a directory can't be a block device"),
        (spec.get("selector"), "claim.Spec.Selector is not supported"),
        (spec.get("dataSource") or spec.get("dataSourceRef"), "a volume can't be made from other data"),
    )
    return next((text for failed, text in checks if failed), "")


def volume_name(claim: Object) -> str:
    return f"pvc-{claim['metadata']['uid']}"


def new_volume(claim: Object, storage_class: Object, node: str, path: str) -> Object:
    """The volume for a claim, reserved for it and reachable from its node alone."""
    spec, metadata = claim["spec"], claim["metadata"]
    at_node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": volume_name(claim),
            "annotations": {PROVISIONED_BY: LOCAL_PATH, ON_NODE: node},
            "finalizers": [PROVISIONER_FINALIZER],
        },
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "volumeMode": "Filesystem",
            "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy") or "Delete",
            "storageClassName": class_of(claim),
            "claimRef": {
                "kind": "PersistentVolumeClaim",
                "apiVersion": "v1",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [at_node]}]}},
        },
    }
