"""IPAddresses: every cluster IP has one that names its Service, and none names what does not hold it.

Both are written in one transaction (`registry.claims`), so this only repairs what was done by hand, or before there
were IPAddresses.

1. A cluster IP without an IPAddress gets one; one that names something else is replaced, with an event.
2. An IPAddress of the allocator whose Service is gone, or does not hold it, goes after a minute, with an event.
   Those that somebody else made are theirs.

Keys: `service|namespace/name`, `address|name`.
"""

from orchestrator.api.errors import AlreadyExists, NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import IPADDRESSES, SERVICES
from orchestrator.api.times import seconds
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.objects import join_key
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

FAMILY_LABEL = "ipaddress.kubernetes.io/ip-family"
MANAGED_BY = "ipaddress.kubernetes.io/managed-by"
ALLOCATOR = "ipallocator.k8s.io"
GRACE_S = 60.0
_SERVICE, _ADDRESS = "service|", "address|"


class ServiceAddressController:
    name = "serviceaddresses"
    watches = (SERVICES, IPADDRESSES)
    writes = (IPADDRESSES,)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client
        self._clock = clock
        self._recorder = recorder

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._services = informers.of(SERVICES)
        self._addresses = informers.of(IPADDRESSES)
        self._services.on_change(self._service_changed)
        self._addresses.on_change(self._address_changed)

    async def reconcile(self, key: str) -> float | None:
        kind, _, name = key.partition("|")
        if kind == "service":
            await self._complete(self._services.get(name))
            return None
        return await self._check(self._addresses.get(name))

    async def _complete(self, item: Item | None) -> None:
        """Rule 1. The cache may lag behind the transaction that wrote both: a live read decides."""
        if item is None or item.meta.deletion_timestamp:
            return
        for address in cluster_ips(item.object):
            if self._addresses.get(address) is not None:
                continue
            try:
                await self._client.get(IPADDRESSES, address)
            except NotFound:
                await self._create(item, address)

    async def _create(self, item: Item, address: str) -> None:
        try:
            live = await self._client.get(SERVICES, item.meta.name, item.meta.namespace)
            if address in cluster_ips(live):
                await self._client.create(IPADDRESSES, wanted(live, address))
        except (NotFound, AlreadyExists):
            return

    async def _check(self, item: Item | None) -> float | None:
        """Rule 2, and the second half of rule 1."""
        if item is None or item.labels.get(MANAGED_BY) != ALLOCATOR or item.meta.deletion_timestamp:
            return None
        address = item.object
        parent = (address.get("spec") or {}).get("parentRef") or {}
        service = self._services.get(join_key(parent.get("namespace") or "", parent.get("name") or ""))
        if service is not None and item.meta.name in cluster_ips(service.object):
            return None
        age_s = self._clock.now_s() - seconds(address["metadata"]["creationTimestamp"])
        if age_s < GRACE_S:
            return GRACE_S - age_s
        text = f"IPAddress: {item.meta.name} for Service {parent.get('namespace')}/{parent.get('name')} has no owner"
        self._recorder.event(address, "Warning", "IPAddressNotAllocated", f"{text}; cleaning up")
        try:
            options = DeleteOptions(uid=item.meta.uid, resource_version=str(item.revision))
            await self._client.delete(IPADDRESSES, item.meta.name, "", options)
        except NotFound:
            return None
        return None

    def _service_changed(self, old: Item | None, new: Item | None) -> None:
        item = new or old
        if item is not None and new is not None:
            self._queue.add(_SERVICE + key_of(item))
        if old is not None and (new is None or cluster_ips(old.object) != cluster_ips(new.object)):
            for address in cluster_ips(old.object):
                self._queue.add_after(_ADDRESS + address, GRACE_S)

    def _address_changed(self, old: Item | None, new: Item | None) -> None:
        if new is not None:
            self._queue.add(_ADDRESS + new.meta.name)
            return
        parent = ((old.object if old is not None else {}).get("spec") or {}).get("parentRef") or {}
        key = join_key(parent.get("namespace") or "", parent.get("name") or "")
        if self._services.get(key) is not None:
            self._queue.add(_SERVICE + key)


def cluster_ips(service: Object) -> list[str]:
    """The addresses that a Service holds."""
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return []
    return [ip for ip in spec.get("clusterIPs") or [spec.get("clusterIP")] if ip and ip != "None"]


def wanted(service: Object, address: str) -> Object:
    """The IPAddress of one of the Service's addresses."""
    metadata = service["metadata"]
    parent = {"resource": SERVICES.plural, "namespace": metadata["namespace"], "name": metadata["name"]}
    family = "IPv6" if ":" in address else "IPv4"
    return {
        "apiVersion": IPADDRESSES.api_version,
        "kind": IPADDRESSES.kind,
        "metadata": {"name": address, "labels": {FAMILY_LABEL: family, MANAGED_BY: ALLOCATOR}},
        "spec": {"parentRef": parent},
    }
