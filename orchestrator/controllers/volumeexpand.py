"""Volume expansion: a bound claim that asks for more than it has gets more, where its volume can grow.

1. A volume of the local-path provisioner grows at once: a directory has no size of its own. First the volume says the
   new size, then the claim; conditions of a resize are taken away.
2. Any other volume is grown by its driver's resizer: an event says that it is waited for.

Whether a claim may ask for more at all is decided when it is written (admission `ClaimResize`).
"""

from orchestrator.api.item import Item, Object
from orchestrator.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from orchestrator.api.volumes import (
    LOCAL_PATH,
    PROVISIONED_BY,
    annotations,
    capacity,
    granted,
    is_bound_to,
    phase_of,
    requested,
)
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.freshness import LAG_S, Freshness
from orchestrator.controllers.objects import with_value, without
from orchestrator.controllers.volumes import Teller
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

_CONDITIONS = (
    "Resizing",
    "FileSystemResizePending",
    "ControllerResizeError",
    "NodeResizeError",
)


class VolumeExpander:
    name = "volumeexpand"
    watches = (PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES)
    writes = (PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client
        self._recorder = recorder
        self._teller = Teller(recorder, clock)
        self._freshness = Freshness()

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._claims = informers.of(PERSISTENTVOLUMECLAIMS)
        self._volumes = informers.of(PERSISTENTVOLUMES)
        self._claims.on_change(self._claim_changed)

    async def reconcile(self, key: str) -> float | None:
        item = self._claims.get(key)
        if item is None or not wants_more(item.object):
            self._freshness.forget(key)
            return None
        if not self._freshness.fresh(key):
            return LAG_S
        claim = item.object
        found = self._volumes.get(claim["spec"].get("volumeName") or "")
        if found is None or not is_bound_to(found.object, claim):
            return None
        if annotations(found.object).get(PROVISIONED_BY) == LOCAL_PATH:
            await self._grow(key, claim, found.object)
            return None
        type_ = "Normal" if "csi" in found.object["spec"] else "Warning"
        text = "waiting for an external controller to expand this PVC"
        self._teller.tell(claim, type_, "ExternalExpanding", text)
        return None

    async def _grow(self, key: str, claim: Object, volume: Object) -> None:
        size = claim["spec"]["resources"]["requests"]["storage"]
        if capacity(volume) < requested(claim):
            grown = with_value(volume, ("spec", "capacity", "storage"), size)
            volume = await self._client.update(PERSISTENTVOLUMES, grown)
            self._freshness.wrote(key, self._volumes, volume)
        status = grown_status(claim, volume["spec"]["capacity"]["storage"])
        claim = await self._client.update(
            PERSISTENTVOLUMECLAIMS, {**claim, "status": status}, subresource="status"
        )
        self._freshness.wrote(key, self._claims, claim)
        self._recorder.event(claim, "Normal", "VolumeResizeSuccessful", "Resize volume succeeded")

    def _claim_changed(self, old: Item | None, new: Item | None) -> None:
        if new is not None and wants_more(new.object):
            self._queue.add(key_of(new))


def wants_more(claim: Object) -> bool:
    """Whether a bound claim asks for more than it has."""
    return phase_of(claim) == "Bound" and requested(claim) > granted(claim)


def grown_status(claim: Object, size: str) -> Object:
    """The status of a claim whose volume has `size` now."""
    status = without(claim["status"], "allocatedResourceStatuses", "conditions")
    conditions = [c for c in claim["status"].get("conditions") or () if c["type"] not in _CONDITIONS]
    sizes = {"capacity": {"storage": size}, "allocatedResources": {"storage": size}}
    return {**status, **sizes, **({"conditions": conditions} if conditions else {})}
