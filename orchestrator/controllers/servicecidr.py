"""ServiceCIDRs: a range is ready while it exists, and stays as long as addresses of it are in use.

1. A range gets a finalizer and the condition Ready.
2. One that is being deleted loses the finalizer once every IPAddress in it is in another range that stays too; until
   then it is not ready, reason Terminating.
3. Addresses that go are looked for again after ten seconds, so that one that was just handed out is seen.
"""

import ipaddress

from orchestrator.api.errors import NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import IPADDRESSES, SERVICECIDRS
from orchestrator.api.times import seconds, timestamp
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.objects import find_condition, with_condition
from orchestrator.informer.cache import Informers
from orchestrator.informer.queue import WorkQueue

FINALIZER = "networking.k8s.io/service-cidr-finalizer"
GRACE_S = 10.0
_IN_USE = (
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ServiceCIDRController:
    name = "servicecidr"
    watches = (SERVICECIDRS, IPADDRESSES)
    writes = (SERVICECIDRS,)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client
        self._clock = clock
        self._recorder = recorder

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._ranges = informers.of(SERVICECIDRS)
        self._addresses = informers.of(IPADDRESSES)
        self._ranges.on_change(self._range_changed)
        self._addresses.on_change(self._address_changed)

    async def reconcile(self, key: str) -> float | None:
        item = self._ranges.get(key)
        if item is None:
            return None
        obj, now_s = item.object, self._clock.now_s()
        if not item.meta.deletion_timestamp:
            await self._keep(obj, timestamp(now_s))
            return None
        if FINALIZER not in item.meta.finalizers:
            return None
        if self._in_use(obj):
            changed = with_ready(obj, "False", "Terminating", _IN_USE, timestamp(now_s))
            if changed is not obj:
                self._recorder.event(obj, "Warning", "KubernetesServiceCIDRError", _IN_USE)
            await self._write_status(obj, changed)
            return None
        left_s = seconds(item.meta.deletion_timestamp) + GRACE_S - now_s
        if left_s > 0:
            return left_s
        finalizers = [name for name in item.meta.finalizers if name != FINALIZER]
        metadata = {**obj["metadata"], "finalizers": finalizers}
        try:
            await self._client.update(SERVICECIDRS, {**obj, "metadata": metadata})
        except NotFound:
            return None
        return None

    async def _keep(self, obj: Object, now: str) -> None:
        """Rule 1."""
        finalizers = obj["metadata"].get("finalizers") or []
        try:
            if FINALIZER not in finalizers:
                metadata = {**obj["metadata"], "finalizers": [*finalizers, FINALIZER]}
                obj = await self._client.update(SERVICECIDRS, {**obj, "metadata": metadata})
        except NotFound:
            return
        changed = with_ready(obj, "True", "", "Kubernetes Service CIDR is ready", now)
        await self._write_status(obj, changed)

    async def _write_status(self, obj: Object, changed: Object) -> None:
        if changed is obj:
            return
        try:
            await self._client.update(SERVICECIDRS, changed, subresource="status")
        except NotFound:
            return

    def _in_use(self, obj: Object) -> bool:
        """Rule 2."""
        own = networks(obj)
        others = [
            network
            for item in self._ranges.list()
            if item.meta.uid != obj["metadata"]["uid"] and not item.meta.deletion_timestamp
            for network in networks(item.object)
        ]
        return any(
            _within(item.meta.name, own) and not _within(item.meta.name, others)
            for item in self._addresses.list()
        )

    def _range_changed(self, old: Item | None, new: Item | None) -> None:
        """Another range may cover what one that goes has in use."""
        for item in self._ranges.list():
            if item is new or item.meta.deletion_timestamp:
                self._queue.add(item.meta.name)

    def _address_changed(self, old: Item | None, new: Item | None) -> None:
        if old is None or new is None:
            for item in self._ranges.list():
                if item.meta.deletion_timestamp:
                    self._queue.add(item.meta.name)


def networks(obj: Object) -> list[Network]:
    """The ranges of a ServiceCIDR."""
    return [ipaddress.ip_network(cidr, strict=False) for cidr in (obj.get("spec") or {}).get("cidrs") or ()]


def _within(address: str, ranges: list[Network]) -> bool:
    return any(ipaddress.ip_address(address) in network for network in ranges)


def with_ready(obj: Object, status: str, reason: str, message: str, now: str) -> Object:
    """`obj` with that Ready condition; `obj` itself when it says so already."""
    held = (obj.get("status") or {}).get("conditions") or []
    ready = find_condition(held, "Ready")
    if ready is not None and ready.get("status") == status and (ready.get("reason") or "") == reason:
        return obj
    condition = {"type": "Ready", "status": status, "reason": reason, "message": message}
    return {
        **obj,
        "status": {**(obj.get("status") or {}), "conditions": with_condition(held, condition, now)},
    }
