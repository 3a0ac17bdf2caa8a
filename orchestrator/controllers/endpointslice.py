"""EndpointSlices: the backends of every Service with a selector, at most 100 per slice.

1. A slice holds one address family and one set of resolved ports; pods that resolve a named port
   differently stand in different slices.
2. An endpoint is `serving` when its pod is ready, `terminating` when the pod is being deleted, and `ready`
   when serving and not terminating, or always with publishNotReadyAddresses.
3. Slices change as little as possible: an endpoint stays in its slice; new ones go to slices that change
   anyway, then into the fullest slice that takes all of them, then into new slices; empty slices go.
4. A Service without backends keeps one slice without endpoints.
5. Slices carry the Service's labels, its name, and who manages them; those of a deleted Service go.
6. A slice that is written says when its newest cause happened.
7. With trafficDistribution a ready endpoint is meant for its own zone, and its own node; with the annotation for
   topology hints for the zone that `topology` says, and an event tells whether that works.
8. Nothing is decided from a cache that lacks this controller's own writes.
"""

from collections.abc import Callable

from orchestrator.api.errors import Forbidden, NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import ENDPOINTSLICES, NODES, PODS, SERVICES
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers import topology
from orchestrator.controllers.backends import (
    HEADLESS_LABEL,
    Backend,
    Selection,
    backends,
    families,
    family,
    is_headless,
    is_managed,
    triggered_at,
)
from orchestrator.controllers.freshness import LAG_S, Freshness
from orchestrator.controllers.objects import controller_reference, split_key, without
from orchestrator.controllers.slices import (
    MANAGED_BY,
    SERVICE_LABEL,
    Frame,
    Plan,
    PortKey,
    plan_family,
)
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

ENDPOINTS_MAX = 100
MANAGER = "endpointslice-controller.k8s.io"
_RESERVED = (SERVICE_LABEL, MANAGED_BY, HEADLESS_LABEL)

ZoneOf = Callable[[str], str]
"""The zone of a node by name; empty when it has none."""


class EndpointSliceController:
    name = "endpointslice"
    watches = (SERVICES, PODS, ENDPOINTSLICES, NODES)
    writes = (ENDPOINTSLICES,)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client
        self._recorder = recorder
        self._freshness = Freshness()
        self._told: dict[str, dict[str, str]] = {}
        """What the owner of each Service was last told of topology hints."""

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._services = informers.of(SERVICES)
        self._slices = informers.of(ENDPOINTSLICES)
        self._nodes = informers.of(NODES)
        pods = informers.of(PODS)
        self._selection = Selection(self._services, pods)
        self._slices.add_index("service", _service_index)
        pods.on_change(lambda old, new: self._selection.wake(queue, old, new))
        self._services.on_change(lambda old, new: queue.add(key_of(new or old)))  # type: ignore[arg-type]
        self._slices.on_change(self._slice_changed)
        self._nodes.on_change(self._node_changed)

    async def reconcile(self, key: str) -> float | None:
        if not self._freshness.fresh(key):
            return LAG_S
        item = self._services.get(key)
        slices = self._slices.by_index("service", key)
        if item is None or item.meta.deletion_timestamp:
            self._freshness.forget(key)
            self._told.pop(key, None)
            for existing in slices:
                await self._delete(existing.meta.name, existing.meta.namespace)
            return None
        service = item.object
        if not is_managed(service) and not slices:
            return None
        found = backends(service, self._selection.pods_of(service)) if is_managed(service) else []
        shares = topology.shares_of(self._nodes.list()) if topology.is_asked(service) else None
        steps = plan(service, found, [existing.object for existing in slices], self._zone, shares)
        await self._act(key, service, steps)
        if (steps.create or steps.update) and steps.unspread != self._told.get(key, {}):
            self._tell(key, service, steps.unspread)
        return None

    async def _act(self, key: str, service: Object, steps: "Plan") -> None:
        namespace = split_key(key)[0]
        for changed in steps.update:
            self._freshness.wrote(key, self._slices, await self._client.update(ENDPOINTSLICES, changed))
        for wanted in steps.create:
            try:
                made = await self._client.create(ENDPOINTSLICES, wanted, namespace)
            except Forbidden as error:
                if any(cause.reason == "NamespaceTerminating" for cause in error.causes):
                    return
                text = f"Failed to create EndpointSlice for Service {key}: {error.message}"
                self._recorder.event(service, "Warning", "FailedToCreateEndpointSlice", text)
                raise
            self._freshness.wrote(key, self._slices, made)
        for surplus in steps.delete:
            await self._delete(surplus["metadata"]["name"], namespace, surplus["metadata"]["resourceVersion"])

    def _tell(self, key: str, service: Object, unspread: dict[str, str]) -> None:
        self._told[key] = unspread
        for kind, why in unspread.items():
            type_, reason = ("Warning", "Disabled") if why else ("Normal", "Enabled")
            text = f"{why or topology.ENABLED}, addressType: {kind}"
            self._recorder.event(service, type_, f"TopologyAwareHints{reason}", text)

    async def _delete(self, name: str, namespace: str, revision: str = "") -> None:
        try:
            await self._client.delete(
                ENDPOINTSLICES, name, namespace, DeleteOptions(resource_version=revision)
            )
        except NotFound:
            return

    def _zone(self, node: str) -> str:
        item = self._nodes.get(node)
        return item.labels.get(topology.ZONE_LABEL, "") if item is not None else ""

    def _slice_changed(self, old: Item | None, new: Item | None) -> None:
        for item in (old, new):
            for key in _service_index(item) if item is not None else ():
                self._queue.add(key)

    def _node_changed(self, old: Item | None, new: Item | None) -> None:
        """A zone that became known or changed concerns every Service; nodes seldom move."""
        label = topology.ZONE_LABEL
        zones = [item.labels.get(label, "") if item is not None else "" for item in (old, new)]
        moved = zones[0] != zones[1]
        if not moved and topology.facts(old) == topology.facts(new):
            return
        for service in self._services.list():
            if moved or topology.is_asked(service.object):
                self._queue.add(key_of(service))


def _service_index(item: Item) -> tuple[str, ...]:
    """Index function `service`: the Service of a slice that this controller manages."""
    if item.labels.get(MANAGED_BY) != MANAGER or SERVICE_LABEL not in item.labels:
        return ()
    return (f"{item.meta.namespace}/{item.labels[SERVICE_LABEL]}",)


def plan(
    service: Object,
    found: list[Backend],
    slices: list[Object],
    zone_of: ZoneOf,
    shares: topology.Shares | None = None,
) -> Plan:
    """Rules 1 to 7 for one Service and the slices it has; `shares` of the zones where it asks for topology hints."""
    steps, frame = Plan(), _frame(service, triggered_at(service, found))
    alive = [existing for existing in slices if "deletionTimestamp" not in existing["metadata"]]
    wanted_families = families(service) if is_managed(service) else []
    for kind in wanted_families:
        existing = [s for s in alive if s["addressType"] == kind]
        desired = _desired(service, kind, found, zone_of)
        if shares is not None:
            steps.unspread[kind] = _spread(desired, shares)
        plan_family(steps, frame, kind, desired, existing)
    steps.delete.extend(s for s in alive if s["addressType"] not in wanted_families)
    return steps


def _desired(
    service: Object, kind: str, found: list[Backend], zone_of: ZoneOf
) -> dict[PortKey, dict[str, Object]]:
    """Endpoints of one family by ports, then by pod."""
    desired: dict[PortKey, dict[str, Object]] = {}
    for backend in found:
        addresses = [ip for ip in backend.ips if family(ip) == kind]
        if addresses and (backend.ports or not service["spec"].get("ports")):
            entry = endpoint(service, backend, addresses[:1], zone_of(backend.node))
            desired.setdefault(backend.ports, {})[backend.pod.meta.uid] = entry
    return desired


def _spread(desired: dict[PortKey, dict[str, Object]], shares: topology.Shares) -> str:
    """Give the endpoints just made the hints of the topology; answers why they get none."""
    made = [entry for entries in desired.values() for entry in entries.values()]
    ready = [entry for entry in made if entry["conditions"]["ready"]]
    for entry in made:
        entry.pop("hints", None)
    zones = [entry.get("zone", "") for entry in ready]
    why = topology.problem(zones, shares)
    if not why:
        for entry, zone in zip(ready, topology.meant_for(zones, shares), strict=True):
            entry["hints"] = {"forZones": [{"name": zone}]}
    return why


def endpoint(service: Object, backend: Backend, addresses: list[str], zone: str) -> Object:
    """One entry of a slice (rule 2)."""
    published = bool(service["spec"].get("publishNotReadyAddresses"))
    entry: Object = {
        "addresses": addresses,
        "conditions": {
            "ready": published or (backend.serving and not backend.terminating),
            "serving": backend.serving,
            "terminating": backend.terminating,
        },
        "targetRef": backend.reference,
    }
    optional = {
        "nodeName": backend.node, "zone": zone, "hostname": backend.hostname,
        "hints": hints(service, backend.node, zone) if entry["conditions"]["ready"] else None,
    }  # fmt: skip
    return entry | {key: value for key, value in optional.items() if value}


def hints(service: Object, node: str, zone: str) -> Object:
    """Rule 7: for whom a ready endpoint is near."""
    wanted = service["spec"].get("trafficDistribution")
    found: Object = {}
    if wanted in ("PreferClose", "PreferSameZone", "PreferSameNode") and zone:
        found["forZones"] = [{"name": zone}]
    if wanted == "PreferSameNode" and node:
        found["forNodes"] = [{"name": node}]
    return found


def _frame(service: Object, triggered: str) -> Frame:
    """What every slice of the Service has."""
    reference = controller_reference(SERVICES, service)
    return Frame(service["metadata"], reference, _labels(service), None, triggered, _uid, ENDPOINTS_MAX)


def _labels(service: Object) -> dict[str, str]:
    """The Service's own, and rule 5's."""
    labels: dict[str, str] = without(service["metadata"].get("labels") or {}, *_RESERVED)
    if is_headless(service):
        labels[HEADLESS_LABEL] = ""
    return labels | {SERVICE_LABEL: service["metadata"]["name"], MANAGED_BY: MANAGER}


def _uid(endpoint: Object) -> str:
    return str((endpoint.get("targetRef") or {}).get("uid", ""))
