"""EndpointSlice mirroring: Endpoints that a user writes become slices, which is what proxies read.

1. Endpoints are mirrored while a Service of their name exists that has no selector. Those labelled as not to be
   mirrored, or that leader election uses, are not.
2. A slice holds one address family and the ports of one subset; a subset gives at most 1,000 addresses.
3. Slices carry the labels and annotations of the Endpoints, the Service's name, and who manages them; the Endpoints
   own them.
4. An address that is none is left out, with an event; so are those beyond 1,000.
"""

import ipaddress

from orchestrator.api.errors import Forbidden, NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import ENDPOINTS, ENDPOINTSLICES, SERVICES
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.backends import Port
from orchestrator.controllers.freshness import LAG_S, Freshness
from orchestrator.controllers.objects import controller_reference, split_key, without
from orchestrator.controllers.slices import (
    MANAGED_BY,
    SERVICE_LABEL,
    TRIGGER_TIME,
    Frame,
    Plan,
    PortKey,
    plan_family,
)
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP_LABEL = "endpointslice.kubernetes.io/skip-mirror"
LEADER = "control-plane.alpha.kubernetes.io/leader"
ADDRESSES_MAX = 1000
_FAMILIES = ("IPv4", "IPv6")
_NOT_COPIED = (TRIGGER_TIME, "kubectl.kubernetes.io/last-applied-configuration")


class EndpointSliceMirroringController:
    name = "endpointslicemirroring"
    watches = (ENDPOINTS, SERVICES, ENDPOINTSLICES)
    writes = (ENDPOINTSLICES,)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client
        self._recorder = recorder
        self._freshness = Freshness()

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._endpoints = informers.of(ENDPOINTS)
        self._services = informers.of(SERVICES)
        self._slices = informers.of(ENDPOINTSLICES)
        self._slices.add_index("mirrored", _mirrored_index)
        self._endpoints.on_change(lambda old, new: queue.add(key_of(new or old)))  # type: ignore[arg-type]
        self._services.on_change(self._service_changed)
        self._slices.on_change(self._slice_changed)

    async def reconcile(self, key: str) -> float | None:
        if not self._freshness.fresh(key):
            return LAG_S
        item, service = self._endpoints.get(key), self._services.get(key)
        slices = [existing.object for existing in self._slices.by_index("mirrored", key)]
        if item is None or service is None or not is_mirrored(item, service.object):
            self._freshness.forget(key)
            await self._act(key, None, Plan(delete=slices))
            return None
        endpoints = item.object
        steps, skipped = plan(endpoints, slices)
        await self._act(key, endpoints, steps)
        for reason, message in skipped:
            self._recorder.event(endpoints, "Warning", reason, message)
        return None

    async def _act(self, key: str, endpoints: Object | None, steps: Plan) -> None:
        namespace = split_key(key)[0]
        for changed in steps.update:
            self._freshness.wrote(key, self._slices, await self._client.update(ENDPOINTSLICES, changed))
        for wanted in steps.create:
            try:
                made = await self._client.create(ENDPOINTSLICES, wanted, namespace)
            except Forbidden as error:
                if any(cause.reason == "NamespaceTerminating" for cause in error.causes):
                    return
                raise
            self._freshness.wrote(key, self._slices, made)
        for surplus in steps.delete:
            options = DeleteOptions(uid=surplus["metadata"]["uid"])
            try:
                await self._client.delete(ENDPOINTSLICES, surplus["metadata"]["name"], namespace, options)
            except NotFound:
                continue

    def _service_changed(self, old: Item | None, new: Item | None) -> None:
        """Only where it appears, goes, or gets or loses a selector."""
        if old is None or new is None or old is new or _has_selector(old.object) != _has_selector(new.object):
            key = key_of(new or old)  # type: ignore[arg-type]
            if self._endpoints.get(key) is not None:
                self._queue.add(key)

    def _slice_changed(self, old: Item | None, new: Item | None) -> None:
        for item in (old, new):
            for key in _mirrored_index(item) if item is not None else ():
                self._queue.add(key)


def _mirrored_index(item: Item) -> tuple[str, ...]:
    """Index function `mirrored`: the Endpoints of a slice that this controller manages."""
    if item.labels.get(MANAGED_BY) != MANAGER or SERVICE_LABEL not in item.labels:
        return ()
    return (f"{item.meta.namespace}/{item.labels[SERVICE_LABEL]}",)


def is_mirrored(item: Item, service: Object) -> bool:
    """Rule 1."""
    annotations = item.object["metadata"].get("annotations") or {}
    skipped = item.labels.get(SKIP_LABEL) == "true" or LEADER in annotations
    return not skipped and not item.meta.deletion_timestamp and not _has_selector(service)


def _has_selector(service: Object) -> bool:
    return bool(service["spec"].get("selector"))


def plan(endpoints: Object, slices: list[Object]) -> tuple[Plan, list[tuple[str, str]]]:
    """Rules 2 to 4: what to write, and (reason, message) of events about what is left out."""
    desired, skipped = _desired(endpoints)
    steps, frame = Plan(), _frame(endpoints)
    alive = [existing for existing in slices if "deletionTimestamp" not in existing["metadata"]]
    for kind in _FAMILIES:
        existing = [s for s in alive if s["addressType"] == kind]
        plan_family(steps, frame, kind, desired[kind], existing, keep_one=False)
    return steps, skipped


def _frame(endpoints: Object) -> Frame:
    metadata = endpoints["metadata"]
    labels = {**(metadata.get("labels") or {}), SERVICE_LABEL: metadata["name"], MANAGED_BY: MANAGER}
    annotations = without(metadata.get("annotations") or {}, *_NOT_COPIED)
    triggered = (metadata.get("annotations") or {}).get(TRIGGER_TIME) or ""
    reference = controller_reference(ENDPOINTS, endpoints)
    return Frame(metadata, reference, labels, annotations, triggered, _identity, ADDRESSES_MAX)


Desired = dict[str, dict[PortKey, dict[str, Object]]]


def _desired(endpoints: Object) -> tuple[Desired, list[tuple[str, str]]]:
    """Endpoints by family, ports and identity."""
    desired: Desired = {kind: {} for kind in _FAMILIES}
    invalid = beyond = 0
    for subset in endpoints.get("subsets") or ():
        ports = _ports(subset)
        listed = [(entry, True) for entry in subset.get("addresses") or ()]
        listed += [(entry, False) for entry in subset.get("notReadyAddresses") or ()]
        taken = 0
        for entry, ready in listed:
            kind = _family(entry.get("ip", ""))
            if not kind:
                invalid += 1
            elif taken >= ADDRESSES_MAX:
                beyond += 1
            else:
                taken += 1
                made = _endpoint(entry, ready)
                desired[kind].setdefault(ports, {}).setdefault(_identity(made), made)
    return desired, _complaints(invalid, beyond)


def _complaints(invalid: int, beyond: int) -> list[tuple[str, str]]:
    found = []
    if invalid:
        text = f"Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices"
        found.append(("InvalidIPAddress", text))
    if beyond:
        text = (
            f"A max of {ADDRESSES_MAX} addresses can be mirrored to EndpointSlices per Endpoints subset. "
            f"{beyond} addresses were skipped"
        )
        found.append(("TooManyAddressesToMirror", text))
    return found


def _endpoint(entry: Object, ready: bool) -> Object:
    made: Object = {"addresses": [entry["ip"]], "conditions": {"ready": ready}}
    for field in ("hostname", "nodeName", "targetRef"):
        if entry.get(field):
            made[field] = entry[field]
    return made


def _identity(endpoint: Object) -> str:
    target = endpoint.get("targetRef") or {}
    return f"{(endpoint.get('addresses') or [''])[0]} {target.get('uid', '')} {endpoint.get('hostname', '')}"


def _ports(subset: Object) -> PortKey:
    return tuple(
        Port(port.get("name", ""), port.get("protocol", "TCP"), port["port"], port.get("appProtocol", ""))
        for port in subset.get("ports") or ()
    )


def _family(address: str) -> str:
    try:
        return f"IPv{ipaddress.ip_address(address).version}"
    except ValueError:
        return ""
