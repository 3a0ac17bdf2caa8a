"""PersistentVolumes: each volume's phase follows its claim; one whose claim is gone is reclaimed.

1. Without a claim, or reserved by name for one: Available.
2. The claim named by uid is gone, in the cache and live, or was made anew: Released, and reclaimed by its policy.
3. The claim names this volume: Bound. The claim names no volume yet: the binder finishes what it began.
4. The claim names another volume: a provisioned volume to be deleted is reclaimed like one without a claim; others
   lose the reference, or only its uid where somebody reserved them by name, and are Available again.

Reclaiming: Retain leaves the volume as it is. Delete is the provisioner's work, where the volume names one
(`pv.kubernetes.io/provisioned-by`); a volume that nobody provisioned can't be deleted and fails. Recycle is not
supported (it is deprecated, and would run a scrubbing pod): the volume fails, with the event that Kubernetes has for a
kind of volume that can't be recycled.
"""

from dataclasses import dataclass, field

from orchestrator.api.errors import NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from orchestrator.api.volumes import (
    BOUND_BY_CONTROLLER,
    PROVISIONED_BY,
    annotations,
    claim_ref_index,
    key_of_reference,
    phase_of,
)
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.freshness import LAG_S, Freshness
from orchestrator.controllers.objects import split_key, with_value, without
from orchestrator.controllers.volumes import annotated
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue


class PersistentVolumeController:
    name = "persistentvolume"
    watches = (PERSISTENTVOLUMES, PERSISTENTVOLUMECLAIMS)
    writes = (PERSISTENTVOLUMES,)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client
        self._recorder = recorder
        self._freshness = Freshness()

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._volumes = informers.of(PERSISTENTVOLUMES)
        self._claims = informers.of(PERSISTENTVOLUMECLAIMS)
        self._volumes.add_index("claim", claim_ref_index)
        self._volumes.on_change(lambda old, new: queue.add(key_of(new or old)))  # type: ignore[arg-type]
        self._claims.on_change(self._claim_changed)

    async def reconcile(self, key: str) -> float | None:
        item = self._volumes.get(key)
        if item is None:
            self._freshness.forget(key)
            return None
        if not self._freshness.fresh(key):
            return LAG_S
        volume = item.object
        steps = plan(volume, await self._claim_of(volume))
        if steps.volume is not None:
            volume = await self._client.update(PERSISTENTVOLUMES, steps.volume)
            self._freshness.wrote(key, self._volumes, volume)
        if steps.status != (volume.get("status") or {}) and steps.status is not None:
            volume = await self._client.update(
                PERSISTENTVOLUMES, {**volume, "status": steps.status}, subresource="status"
            )
            self._freshness.wrote(key, self._volumes, volume)
            for reason, message in steps.events:
                self._recorder.event(volume, "Warning", reason, message)
        return None

    async def _claim_of(self, volume: Object) -> Object | None:
        """The very claim that the volume refers to. That one is gone is believed only when the API says so."""
        reference = volume["spec"].get("claimRef")
        if not reference or not reference.get("uid"):
            return None
        key = key_of_reference(reference)
        item = self._claims.get(key)
        if item is not None and item.meta.uid == reference["uid"]:
            return item.object
        if phase_of(volume) in ("Released", "Failed"):
            return None
        namespace, name = split_key(key)
        try:
            claim = await self._client.get(PERSISTENTVOLUMECLAIMS, name, namespace)
        except NotFound:
            return None
        return claim if claim["metadata"]["uid"] == reference["uid"] else None

    def _claim_changed(self, old: Item | None, new: Item | None) -> None:
        item = new or old
        assert item is not None
        for volume in self._volumes.by_index("claim", key_of(item)):
            self._queue.add(volume.meta.name)


@dataclass(frozen=True, slots=True)
class Plan:
    """The volume to write, or None; the status that it shall have, or None for the one it has; what to tell when
    the status is written."""

    volume: Object | None = None
    status: Object | None = None
    events: list[tuple[str, str]] = field(default_factory=list)


def plan(volume: Object, claim: Object | None) -> Plan:
    """What follows from the claim that a volume refers to, None for none (rules 1 to 4)."""
    reference = volume["spec"].get("claimRef")
    if not reference or not reference.get("uid"):
        return Plan(status=_status(volume, "Available"))
    if claim is None:
        return _released(volume)
    name = claim["spec"].get("volumeName")
    if not name:
        return Plan()
    if name == volume["metadata"]["name"]:
        return Plan(status=_status(volume, "Bound"))
    if PROVISIONED_BY in annotations(volume) and _policy(volume) == "Delete":
        return _released(volume)
    return Plan(unbound(volume), _status(volume, "Available"))


def _released(volume: Object) -> Plan:
    """Rule 2: first Released, with the next look reclaimed."""
    if phase_of(volume) not in ("Released", "Failed"):
        return Plan(status=_status(volume, "Released"))
    if (
        phase_of(volume) == "Failed"
        or _policy(volume) == "Retain"
        or "deletionTimestamp" in volume["metadata"]
    ):
        return Plan()
    if _policy(volume) == "Recycle":
        return _failed(volume, "VolumeFailedRecycle", "No recycler plugin found for the volume!")
    if PROVISIONED_BY in annotations(volume):
        return Plan()
    name = volume["metadata"]["name"]
    text = f'error getting deleter volume plugin for volume "{name}": no deletable volume plugin matched'
    return _failed(volume, "VolumeFailedDelete", text)


def _failed(volume: Object, reason: str, message: str) -> Plan:
    return Plan(status={**_status(volume, "Failed"), "message": message}, events=[(reason, message)])


def _policy(volume: Object) -> str:
    return volume["spec"].get("persistentVolumeReclaimPolicy") or "Retain"


def _status(volume: Object, phase: str) -> Object:
    """The status as it is when it has this phase, else a new one: reason and message belonged to the old phase."""
    old = volume.get("status") or {}
    return old if old.get("phase") == phase else {"phase": phase}


def unbound(volume: Object) -> Object:
    """The volume without what binding added to it."""
    if BOUND_BY_CONTROLLER in annotations(volume):
        volume = annotated(volume, **{BOUND_BY_CONTROLLER: None})
        return {**volume, "spec": without(volume["spec"], "claimRef")}
    reference = without(volume["spec"]["claimRef"], "uid", "resourceVersion")
    return with_value(volume, ("spec", "claimRef"), reference)
