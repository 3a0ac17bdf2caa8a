"""Attach and detach: CSI volumes are attached to the nodes whose pods use them, and to no others.

A `VolumeAttachment` asks the driver's attacher to do it, and its status says that it is done. Per node:

1. A volume is wanted when a pod that has the node and has not finished claims it, it is a CSI volume, and its driver
   attaches at all (no CSIDriver object means that it does).
2. What is wanted and has no attachment gets one; but a volume that is for one node only and is attached to another
   waits, and an event at the pod says so.
3. What is not wanted is first taken out of `volumesAttached`. While the node still has it mounted (`volumesInUse`) it
   stays attached; at a node that is not ready for 6 min, or at once where the taint `out-of-service` says that the node
   is off, it is detached all the same. Then the attachment is deleted; the attacher's finalizer keeps it until done.
4. `volumesAttached` of the node names what is wanted and attached.

Attachments that this controller did not name (`csi-<hash>`) are other people's. Keys are names of nodes.
"""

import hashlib
from dataclasses import dataclass, field

from orchestrator.api.errors import AlreadyExists, NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import (
    CSIDRIVERS,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    VOLUMEATTACHMENTS,
)
from orchestrator.api.volumes import claim_index, claim_ref_index, is_bound_to
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.freshness import LAG_S, Freshness
from orchestrator.controllers.objects import find_condition
from orchestrator.controllers.views import pod_view
from orchestrator.controllers.volumes import Teller
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
UNMOUNT_WAIT_S = 360.0
LOOK_AGAIN_S = 10.0
_ONE_NODE = ({"ReadWriteOnce"}, {"ReadWriteOncePod"})


class AttachDetachController:
    name = "attachdetach"
    watches = (PODS, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, VOLUMEATTACHMENTS, NODES, CSIDRIVERS)
    writes = (VOLUMEATTACHMENTS, NODES)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client
        self._clock = clock
        self._recorder = recorder
        self._teller = Teller(recorder, clock)
        self._freshness = Freshness()
        self._unwanted_since: dict[str, float] = {}
        """When each attachment that its node still uses was first found unwanted, by uid."""
        self._csi: set[str] = set()
        """Names of CSI volumes: without any, pods need not be looked at."""

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._pods = informers.of(PODS)
        self._claims = informers.of(PERSISTENTVOLUMECLAIMS)
        self._volumes = informers.of(PERSISTENTVOLUMES)
        self._attachments = informers.of(VOLUMEATTACHMENTS)
        self._nodes = informers.of(NODES)
        self._drivers = informers.of(CSIDRIVERS)
        self._pods.add_index("claim", claim_index)
        self._pods.add_index("claimant", claimant_index)
        self._volumes.add_index("claim", claim_ref_index)
        self._attachments.add_index("node", _node_of_attachment)
        self._attachments.add_index("volume", _volume_of_attachment)
        self._pods.on_change(self._pod_changed)
        self._volumes.on_change(self._volume_changed)
        self._claims.on_change(self._claim_changed)
        self._attachments.on_change(self._attachment_changed)
        self._nodes.on_change(self._node_changed)

    async def reconcile(self, key: str) -> float | None:
        if not self._freshness.fresh(key):
            return LAG_S
        node = self._nodes.get(key)
        wanted = self._wanted(key) if node is not None and self._csi else {}
        present = {item.meta.name: item.object for item in self._attachments.by_index("node", key)}
        about = node.object if node is not None else None
        if not wanted and not present and not _attached_to(about):
            return None
        mounted = self._mounted(wanted, present, node)
        steps = plan(wanted, present, self._elsewhere(key, wanted), about, mounted)
        for name in steps.refused:
            self._refuse(wanted[name])
        if steps.report is not None and about is not None:
            await self._report(key, about, steps.report, wanted)
        for name in steps.attach:
            await self._attach(key, wanted[name])
        for name in steps.detach:
            await self._detach(present[name])
        return LOOK_AGAIN_S if steps.waiting or steps.refused else None

    def _wanted(self, node: str) -> dict[str, "Use"]:
        """Rule 1, by the name of the attachment."""
        found: dict[str, Use] = {}
        for pod in self._pods.by_index("claimant", node):
            if pod_view(pod).finished:
                continue
            for key in claim_index(pod):
                claim = self._claims.get(key)
                for volume in self._volumes.by_index("claim", key) if claim is not None else ():
                    if claim is None or not is_bound_to(volume.object, claim.object):
                        continue
                    if self._attaches(volume.object):
                        use = Use(node, volume.object)
                        found.setdefault(use.name, use).pods.append(pod)
        return found

    def _attaches(self, volume: Object) -> bool:
        source = volume["spec"].get("csi")
        if source is None:
            return False
        driver = self._drivers.get(source["driver"])
        return driver is None or driver.object["spec"].get("attachRequired") is not False

    def _elsewhere(self, node: str, wanted: dict[str, "Use"]) -> set[str]:
        """Names of the volumes that are attached, or about to be, to another node."""
        names = {use.volume["metadata"]["name"] for use in wanted.values()}
        return {
            name
            for name in names
            for item in self._attachments.by_index("volume", name)
            if item.object["spec"]["nodeName"] != node
        }

    def _mounted(
        self, wanted: dict[str, "Use"], present: dict[str, Object], node: Item | None
    ) -> dict[str, float]:
        """For how long (s) each attachment that nobody wants, but that the node still has mounted, is not wanted."""
        now_s, found = self._clock.monotonic_s(), {}
        in_use = set(
            ((node.object.get("status") or {}).get("volumesInUse") or ()) if node is not None else ()
        )
        for name, attachment in present.items():
            uid = attachment["metadata"]["uid"]
            volume = self._volumes.get(attachment["spec"]["source"].get("persistentVolumeName") or "")
            known = volume is not None and "csi" in volume.object["spec"]
            if name in wanted or not known or volume is None or not in_use:
                self._unwanted_since.pop(uid, None)
            elif Use(node.meta.name if node else "", volume.object).unique_name in in_use:
                found[name] = now_s - self._unwanted_since.setdefault(uid, now_s)
        return found

    async def _attach(self, key: str, use: "Use") -> None:
        try:
            made = await self._client.create(VOLUMEATTACHMENTS, use.attachment())
        except AlreadyExists:
            return
        self._freshness.wrote(key, self._attachments, made)

    async def _detach(self, attachment: Object) -> None:
        metadata = attachment["metadata"]
        self._unwanted_since.pop(metadata["uid"], None)
        try:
            options = DeleteOptions(uid=metadata["uid"])
            await self._client.delete(VOLUMEATTACHMENTS, metadata["name"], "", options)
        except NotFound:
            return

    async def _report(self, key: str, node: Object, report: list[Object], wanted: dict[str, "Use"]) -> None:
        """Rule 4; pods hear that their volume has come."""
        before = {entry["name"] for entry in _attached_to(node)}
        patch = {"metadata": {"uid": node["metadata"]["uid"]}, "status": {"volumesAttached": report or None}}
        try:
            written = await self._client.patch(NODES, key, "", patch, subresource="status")
        except NotFound:
            return
        self._freshness.wrote(key, self._nodes, written)
        fresh = {entry["name"] for entry in report} - before
        for use in wanted.values():
            if use.unique_name in fresh:
                text = f'AttachVolume.Attach succeeded for volume "{use.volume["metadata"]["name"]}" '
                for pod in use.pods:
                    self._recorder.event(pod.object, "Normal", "SuccessfulAttachVolume", text)

    def _refuse(self, use: "Use") -> None:
        text = (
            f'Multi-Attach error for volume "{use.volume["metadata"]["name"]}" Volume is already exclusively attached '
            "to one node and can't be attached to another"
        )
        for pod in use.pods:
            self._teller.tell(pod.object, "Warning", "FailedAttachVolume", text)

    def _pod_changed(self, old: Item | None, new: Item | None) -> None:
        for pod in (old, new):
            for node in claimant_index(pod) if pod is not None else ():
                self._queue.add(node)

    def _volume_changed(self, old: Item | None, new: Item | None) -> None:
        if new is not None and "csi" in new.object["spec"]:
            self._csi.add(new.meta.name)
            for key in claim_ref_index(new):
                for pod in self._pods.by_index("claim", key):
                    self._pod_changed(None, pod)
        elif new is None and old is not None:
            self._csi.discard(old.meta.name)

    def _claim_changed(self, old: Item | None, new: Item | None) -> None:
        item = new or old
        assert item is not None
        for pod in self._pods.by_index("claim", key_of(item)):
            self._pod_changed(None, pod)

    def _attachment_changed(self, old: Item | None, new: Item | None) -> None:
        item = new or old
        assert item is not None
        spec, name = item.object["spec"], (_volume_of_attachment(item) or ("",))[0]
        self._queue.add(spec["nodeName"])
        if new is None:  # Another node may wait for the volume.
            self._unwanted_since.pop(item.meta.uid, None)
            volume = self._volumes.get(name)
            for key in claim_ref_index(volume) if volume is not None else ():
                for pod in self._pods.by_index("claim", key):
                    self._pod_changed(None, pod)
        elif _error(new) and _error(new) != (_error(old) if old is not None else ""):
            self._tell_failure(name, spec["nodeName"], _error(new))

    def _tell_failure(self, name: str, node: str, error: str) -> None:
        volume = self._volumes.get(name)
        for key in claim_ref_index(volume) if volume is not None else ():
            for pod in self._pods.by_index("claim", key):
                if pod_view(pod).spec.node_name == node:
                    text = f'AttachVolume.Attach failed for volume "{name}" : {error}'
                    self._recorder.event(pod.object, "Warning", "FailedAttachVolume", text)

    def _node_changed(self, old: Item | None, new: Item | None) -> None:
        item = new or old
        assert item is not None
        if new is None or old is None or self._attachments.by_index("node", new.meta.name):
            self._queue.add(item.meta.name)


def claimant_index(pod: Item) -> tuple[str, ...]:
    """Index function: the node of a pod that claims volumes."""
    node = pod_view(pod).spec.node_name if claim_index(pod) else ""
    return (node,) if node else ()


def _node_of_attachment(attachment: Item) -> tuple[str, ...]:
    return (attachment.object["spec"]["nodeName"],) if attachment.meta.name.startswith("csi-") else ()


def _volume_of_attachment(attachment: Item) -> tuple[str, ...]:
    name = attachment.object["spec"]["source"].get("persistentVolumeName")
    return (name,) if name else ()


def _error(attachment: Item) -> str:
    error = (attachment.object.get("status") or {}).get("attachError") or {}
    return error.get("message") or ""


def _attached_to(node: Object | None) -> list[Object]:
    return ((node or {}).get("status") or {}).get("volumesAttached") or []


@dataclass(frozen=True, slots=True)
class Use:
    """A volume that pods of one node want."""

    node: str
    volume: Object
    pods: list[Item] = field(default_factory=list)

    @property
    def unique_name(self) -> str:
        """As it stands in the node's status."""
        source = self.volume["spec"]["csi"]
        return f"kubernetes.io/csi/{source['driver']}^{source['volumeHandle']}"

    @property
    def name(self) -> str:
        """Of the attachment; the hash is the one that Kubernetes uses, so that both would find the same object."""
        source = self.volume["spec"]["csi"]
        text = f"{source['volumeHandle']}{source['driver']}{self.node}"
        return f"csi-{hashlib.sha256(text.encode()).hexdigest()}"

    @property
    def for_one_node(self) -> bool:
        return set(self.volume["spec"].get("accessModes") or ()) in _ONE_NODE

    def attachment(self) -> Object:
        return {
            "apiVersion": VOLUMEATTACHMENTS.api_version,
            "kind": VOLUMEATTACHMENTS.kind,
            "metadata": {"name": self.name},
            "spec": {
                "attacher": self.volume["spec"]["csi"]["driver"],
                "nodeName": self.node,
                "source": {"persistentVolumeName": self.volume["metadata"]["name"]},
            },
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """Names of attachments to make, to delete, that must wait for another node or for their own; the node's list."""

    attach: list[str]
    detach: list[str]
    refused: list[str]
    waiting: list[str]
    report: list[Object] | None
    """None when the node's status says it already."""


def plan(
    wanted: dict[str, Use],
    present: dict[str, Object],
    elsewhere: set[str],
    node: Object | None,
    mounted: dict[str, float],
) -> Plan:
    """Rules 2 to 4 for one node, None for one that is gone. `elsewhere` are volumes that other nodes have; `mounted`
    are the attachments that the node still uses although nobody wants them, and for how long (s)."""
    missing = [name for name in wanted if name not in present]
    refused = [
        name
        for name in missing
        if wanted[name].for_one_node and wanted[name].volume["metadata"]["name"] in elsewhere
    ]
    idle = [n for n in present if n not in wanted and "deletionTimestamp" not in present[n]["metadata"]]
    waiting = [name for name in idle if name in mounted and _must_wait(node, mounted[name])]
    report = [
        {"name": wanted[name].unique_name, "devicePath": ""}
        for name in sorted(wanted)
        if (present.get(name, {}).get("status") or {}).get("attached")
    ]
    return Plan(
        [name for name in missing if name not in refused],
        [name for name in idle if name not in waiting],
        refused,
        waiting,
        report if report != _attached_to(node) else None,
    )


def _must_wait(node: Object | None, waited_s: float) -> bool:
    """Rule 3 for a volume that its node has mounted."""
    if node is None:
        return False
    taints = (node.get("spec") or {}).get("taints") or ()
    if any(taint["key"] == OUT_OF_SERVICE for taint in taints):
        return False
    ready = find_condition((node.get("status") or {}).get("conditions") or [], "Ready")
    return waited_s < UNMOUNT_WAIT_S or (ready is not None and ready["status"] == "True")
