"""Volume binder: gives each claim a volume, and notices when a claim has lost its own.

A claim that was not bound yet (`pv.kubernetes.io/bind-completed` is missing):

1. It names a volume that does not exist, that does not suit or that another claim has: it waits, and an event says
   why. Else it is bound to that volume.
2. It names none: it is bound to the volume that is reserved for it, or to the free one of fewest access modes and
   smallest size that suits. A class that waits for the first consumer only takes what is reserved for the claim,
   until a node is selected.
3. None suits. A claim that leaves its class open gets the default class, also one that came later. A class that
   waits for the first consumer waits for one. Otherwise the claim is handed to the class's provisioner; without a
   class it waits for somebody to make a volume.

A claim that was bound before:

4. It is Lost when it names no volume, when the volume is gone, or when the volume belongs to another claim. A volume
   that lost its reference gets it back.

Binding writes volume, volume's phase, claim, claim's status, in this order, each only if it differs and only if
nobody changed it meanwhile; so a crash in between is finished later, and no volume is given away twice.
"""

import asyncio
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from orchestrator.api.errors import BadRequest
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, STORAGECLASSES
from orchestrator.api.volumes import (
    BIND_COMPLETED,
    BOUND_BY_CONTROLLER,
    NO_PROVISIONER,
    SELECTED_NODE,
    STORAGE_PROVISIONERS,
    annotations,
    claim_index,
    claim_ref_index,
    class_of,
    is_bound_to,
    names_no_class,
    phase_of,
)
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.freshness import LAG_S, Freshness
from orchestrator.controllers.objects import with_value
from orchestrator.controllers.views import pod_view
from orchestrator.controllers.volumes import Teller, annotated, claimed, default_class, free_index
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue
from orchestrator.scheduler.rules.volumes import find_match, mismatch

_UNBOUND = "unbound"
SLICE = 500


class VolumeBinder:
    name = "volumebinder"
    watches = (PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES, PODS)
    writes = (PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client
        self._recorder = recorder
        self._teller = Teller(recorder, clock)
        self._freshness = Freshness()
        self._taken: dict[str, float] = {}
        """Volumes given away, until the cache shows it: the revision that does; infinity while it is written."""

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._claims = informers.of(PERSISTENTVOLUMECLAIMS)
        self._volumes = informers.of(PERSISTENTVOLUMES)
        self._classes = informers.of(STORAGECLASSES)
        self._pods = informers.of(PODS)
        self._pods.add_index("claim", claim_index)
        self._claims.add_index(_UNBOUND, unbound_index)
        self._volumes.add_index("claim", claim_ref_index)
        self._volumes.add_index("free", free_index)
        self._claims.on_change(lambda old, new: queue.add(key_of(new or old)))  # type: ignore[arg-type]
        self._volumes.on_change(self._volume_changed)
        self._classes.on_change(self._class_changed)
        self._pods.on_change(self._pod_changed)

    async def reconcile(self, key: str) -> float | None:
        item = self._claims.get(key)
        if item is None:
            self._freshness.forget(key)
            return None
        if not self._freshness.fresh(key):
            return LAG_S
        claim = item.object
        match plan(claim, await self._look(key, claim)):
            case Bind(volume):
                await self._bind(key, claim, volume)
            case Lost(reason, message):
                await self._lose(key, claim, reason, message)
            case Provision(provisioner):
                await self._hand_over(key, claim, provisioner)
            case UseClass(name):
                changed = with_value(claim, ("spec", "storageClassName"), name)
                self._wrote_claim(key, await self._client.update(PERSISTENTVOLUMECLAIMS, changed))
            case Wait(type_, reason, message) if reason:
                self._teller.tell(claim, type_, reason, message)
        return None

    async def _look(self, key: str, claim: Object) -> "Seen":
        named = claim["spec"].get("volumeName")
        if named or BIND_COMPLETED in annotations(claim):
            volume = self._volumes.get(named) if named else None
            return Seen(volume=volume.object if volume is not None else None)
        name = class_of(claim)
        found = self._classes.get(name) if name else None
        return Seen(
            volumes=await self._candidates(key, claim),
            storage_class=found.object if found is not None else None,
            default_class=default_class(self._classes.list()) if names_no_class(claim) else "",
            unscheduled=sorted(
                pod.meta.name
                for pod in self._pods.by_index("claim", key)
                if not pod_view(pod).spec.node_name and not pod_view(pod).finished
            ),
        )

    async def _candidates(self, key: str, claim: Object) -> list[Object]:
        """Volumes reserved for the claim and free ones of its class; of many the best alone, found slice by slice, so
        that thousands do not hold the loop. One that is taken meanwhile is refused when it is written."""
        found = [item.object for item in self._volumes.by_index("claim", key)]
        free = list(self._free(class_of(claim)))
        for start in range(0, len(free), SLICE):
            if start:
                best = find_match(claim, found)
                found = [best] if best is not None else []
                await asyncio.sleep(0)
            found += [item.object for item in free[start : start + SLICE]]
        return found

    def _free(self, name: str) -> Iterator[Item]:
        """Volumes of a class that nobody has, nor just took."""
        for item in self._volumes.by_index("free", name):
            if self._taken.get(item.meta.name, 0) <= item.revision:
                yield item

    async def _take(self, volume: Object) -> Object:
        """Write a volume that a claim was given, which no other claim gets meanwhile."""
        name = volume["metadata"]["name"]
        self._taken[name] = math.inf
        try:
            volume = await self._client.update(PERSISTENTVOLUMES, volume)
        except BaseException:
            del self._taken[name]
            raise
        self._taken[name] = int(volume["metadata"]["resourceVersion"])
        return volume

    async def _bind(self, key: str, claim: Object, volume: Object) -> None:
        wanted = claimed(volume, claim)
        if wanted is not volume:
            volume = await self._take(wanted)
            self._freshness.wrote(key, self._volumes, volume)
        if phase_of(volume) != "Bound":
            status = {"phase": "Bound"}
            volume = await self._client.update(
                PERSISTENTVOLUMES, {**volume, "status": status}, subresource="status"
            )
            self._freshness.wrote(key, self._volumes, volume)
        wanted = bound_claim(claim, volume)
        if wanted is not claim:
            claim = await self._client.update(PERSISTENTVOLUMECLAIMS, wanted)
            self._wrote_claim(key, claim)
        status = bound_status(claim, volume)
        if status != claim.get("status"):
            claim = await self._client.update(
                PERSISTENTVOLUMECLAIMS, {**claim, "status": status}, subresource="status"
            )
            self._wrote_claim(key, claim)

    async def _lose(self, key: str, claim: Object, reason: str, message: str) -> None:
        if phase_of(claim) == "Lost":
            return
        changed = {**claim, "status": {**claim.get("status", {}), "phase": "Lost"}}
        for name in ("accessModes", "capacity"):
            changed["status"].pop(name, None)
        self._wrote_claim(
            key, await self._client.update(PERSISTENTVOLUMECLAIMS, changed, subresource="status")
        )
        self._recorder.event(claim, "Warning", reason, message)

    async def _hand_over(self, key: str, claim: Object, provisioner: str) -> None:
        changed = annotated(claim, **dict.fromkeys(STORAGE_PROVISIONERS, provisioner))
        if changed is not claim:
            claim = await self._client.update(PERSISTENTVOLUMECLAIMS, changed)
            self._wrote_claim(key, claim)
        message = (
            f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by "
            "the system administrator. If volume creation is delayed, please verify that the provisioner is running "
            "and correctly registered."
        )
        self._teller.tell(claim, "Normal", "ExternalProvisioning", message)

    def _wrote_claim(self, key: str, claim: Object) -> None:
        self._freshness.wrote(key, self._claims, claim)

    def _volume_changed(self, old: Item | None, new: Item | None) -> None:
        """Its claim, the claim that it was of, and when it is free now whoever waits for one of its class."""
        item = new or old
        if item is not None and (new is None or self._taken.get(item.meta.name, math.inf) <= item.revision):
            self._taken.pop(item.meta.name, None)
        for item in (old, new):
            for key in claim_ref_index(item) if item is not None else ():
                self._queue.add(key)
        if new is not None and new is not old and free_index(new):
            for claim in self._claims.by_index(_UNBOUND, class_of(new.object)):
                self._queue.add(key_of(claim))
        name = new.meta.name if new is not None else ""
        for claim in self._claims.by_index(_UNBOUND, f"volume/{name}") if name else ():
            self._queue.add(key_of(claim))

    def _class_changed(self, old: Item | None, new: Item | None) -> None:
        """Those that wait for the class, and when it may be the default those that wait for any."""
        if new is None or new is old:
            return
        for value in (new.meta.name, ""):
            for claim in self._claims.by_index(_UNBOUND, value):
                self._queue.add(key_of(claim))

    def _pod_changed(self, old: Item | None, new: Item | None) -> None:
        """A pod that appeared or got its node changes what a claim waits for."""
        keys = claim_index(new) if new is not None else ()
        if new is None or not keys or (old is not None and pod_view(old).spec == pod_view(new).spec):
            return
        for key in keys:
            self._queue.add(key)


def unbound_index(claim: Item) -> tuple[str, ...]:
    """Index function: the class of a claim that waits for any volume, `volume/<name>` of one that waits for that."""
    obj = claim.object
    if BIND_COMPLETED in annotations(obj):
        return ()
    named = obj["spec"].get("volumeName")
    return (f"volume/{named}",) if named else (class_of(obj),)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a decision needs: the `volume` that the claim names, or else what it may get."""

    volume: Object | None = None
    volumes: Iterable[Object] = ()
    storage_class: Object | None = None
    default_class: str = ""
    """Name; only for a claim that leaves its class open."""
    unscheduled: Iterable[str] = ()
    """Names of pods that use the claim and have no node yet."""


@dataclass(frozen=True, slots=True)
class Bind:
    volume: Object


@dataclass(frozen=True, slots=True)
class Lost:
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Provision:
    provisioner: str


@dataclass(frozen=True, slots=True)
class UseClass:
    name: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do now; `reason` is empty when there is nothing to tell either."""

    type: str = "Normal"
    reason: str = ""
    message: str = ""


Step = Bind | Lost | Provision | UseClass | Wait


def plan(claim: Object, seen: Seen) -> Step:
    """The next step of one claim, by the rules above."""
    if BIND_COMPLETED in annotations(claim):
        return _bound_before(claim, seen.volume)
    if "deletionTimestamp" in claim["metadata"]:
        return Wait()
    if claim["spec"].get("volumeName"):
        return _named(claim, seen.volume)
    return _any(claim, seen)


def _named(claim: Object, volume: Object | None) -> Step:
    if volume is None:
        return Wait()
    name = volume["metadata"]["name"]
    if volume["spec"].get("claimRef"):
        if is_bound_to(volume, claim):
            return Bind(volume)
        return Wait("Warning", "FailedBinding", f'volume "{name}" already bound to a different claim.')
    deleted = volume["metadata"].get("deletionTimestamp")
    why = f'the volume is marked for deletion "{name}"' if deleted else mismatch(volume, claim)
    if why:
        return Wait("Warning", "VolumeMismatch", f'Cannot bind to requested volume "{name}": {why}')
    return Bind(volume)


def _any(claim: Object, seen: Seen) -> Step:
    mode = (seen.storage_class or {}).get("volumeBindingMode")
    delayed = mode == "WaitForFirstConsumer"
    try:
        volume = find_match(claim, seen.volumes, delayed=delayed)
    except BadRequest as error:  # A selector that was stored before it was checked.
        return Wait("Warning", "FailedBinding", error.message)
    if volume is not None:
        return Bind(volume)
    if seen.default_class:
        return UseClass(seen.default_class)
    if delayed and SELECTED_NODE not in annotations(claim):
        return _waiting_for_consumer(list(seen.unscheduled))
    if class_of(claim):
        return _provisioning(class_of(claim), seen.storage_class)
    text = "no persistent volumes available for this claim and no storage class is set"
    return Wait("Normal", "FailedBinding", text)


def _waiting_for_consumer(pods: list[str]) -> Wait:
    if not pods:
        text = "waiting for first consumer to be created before binding"
        return Wait("Normal", "WaitForFirstConsumer", text)
    what = f"pod {pods[0]}" if len(pods) == 1 else f"pods {','.join(pods)}"
    return Wait("Normal", "WaitForPodScheduled", f"waiting for {what} to be scheduled")


def _provisioning(name: str, storage_class: Object | None) -> Step:
    if storage_class is None:
        text = f'storageclass.storage.k8s.io "{name}" not found'
        return Wait("Warning", "ProvisioningFailed", text)
    if storage_class["provisioner"] == NO_PROVISIONER:
        text = f"no volume plugin matched name: {NO_PROVISIONER}"
        return Wait("Warning", "ProvisioningFailed", text)
    return Provision(storage_class["provisioner"])


def _bound_before(claim: Object, volume: Object | None) -> Step:
    if not claim["spec"].get("volumeName"):
        text = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
        return Lost("ClaimLost", text)
    if volume is None:
        return Lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
    reference = volume["spec"].get("claimRef")
    if not reference or reference.get("uid") == claim["metadata"]["uid"] or is_bound_to(volume, claim):
        return Bind(volume)
    text = "Two claims are bound to the same volume, this one is bound incorrectly"
    return Lost("ClaimMisbound", text)


def bound_claim(claim: Object, volume: Object) -> Object:
    """The claim with the volume's name and the marks of a completed binding; the same object if it has them."""
    marks: dict[str, str | None] = {}
    name = volume["metadata"]["name"]
    if claim["spec"].get("volumeName") != name:
        claim = with_value(claim, ("spec", "volumeName"), name)
        marks[BOUND_BY_CONTROLLER] = "yes"
    if BIND_COMPLETED not in annotations(claim):
        marks[BIND_COMPLETED] = "yes"
    return annotated(claim, **marks) if marks else claim


def bound_status(claim: Object, volume: Object) -> Object:
    """The status of a bound claim. Its capacity is set once: later it grows with the file system."""
    old: Mapping[str, object] = claim.get("status") or {}
    status = {**old, "phase": "Bound", "accessModes": volume["spec"].get("accessModes") or []}
    if old.get("phase") != "Bound":
        status["capacity"] = {"storage": volume["spec"]["capacity"]["storage"]}
    attributes = volume["spec"].get("volumeAttributesClassName")
    if attributes and old.get("phase") != "Bound":
        status["currentVolumeAttributesClassName"] = attributes
    return status
