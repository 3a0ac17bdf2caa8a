"""Endpoints: the older form of a Service's backends, one object called like the Service, for old clients.

1. Backends that resolve the same ports form one subset, ready ones under `addresses`, others under
   `notReadyAddresses`; with publishNotReadyAddresses all are ready.
2. A pod that is being deleted is left out, unless publishNotReadyAddresses asks for it.
3. Only the first address of a pod in the Service's first family is listed; at most 1,000 in all, then the
   object says `truncated`.
4. The object carries the Service's labels; it goes with the Service. Without a selector it is the user's.
5. When it is written, an annotation tells when the newest cause was.
"""

from collections.abc import Iterable

from orchestrator.api.errors import AlreadyExists, Conflict, Forbidden, NotFound
from orchestrator.api.item import Object
from orchestrator.api.resources import ENDPOINTS, PODS, SERVICES
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.backends import (
    HEADLESS_LABEL,
    Backend,
    Port,
    Selection,
    backends,
    families,
    family,
    is_headless,
    is_managed,
    triggered_at,
)
from orchestrator.controllers.freshness import LAG_S, Freshness
from orchestrator.controllers.objects import split_key, with_value, without
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

ADDRESSES_MAX = 1000
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MANAGED_BY = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"


class EndpointsController:
    name = "endpoints"
    watches = (SERVICES, PODS, ENDPOINTS)
    writes = (ENDPOINTS,)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client
        self._freshness = Freshness()

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._services = informers.of(SERVICES)
        self._endpoints = informers.of(ENDPOINTS)
        pods = informers.of(PODS)
        self._selection = Selection(self._services, pods)
        pods.on_change(lambda old, new: self._selection.wake(queue, old, new))
        self._services.on_change(lambda old, new: queue.add(key_of(new or old)))  # type: ignore[arg-type]
        self._endpoints.on_change(lambda old, new: queue.add(key_of(new or old)))  # type: ignore[arg-type]

    async def reconcile(self, key: str) -> float | None:
        if not self._freshness.fresh(key):
            return LAG_S
        item, current = self._services.get(key), self._endpoints.get(key)
        if item is None or item.meta.deletion_timestamp:
            if current is not None and current.labels.get(MANAGED_BY) == MANAGER:
                await self._delete(key)
            return None
        service = item.object
        if not is_managed(service):
            return None
        found = backends(service, self._selection.pods_of(service))
        wanted = plan(service, found, current.object if current is not None else None)
        if wanted is not None:
            await self._write(key, wanted, exists=current is not None)
        return None

    async def _write(self, key: str, wanted: Object, *, exists: bool) -> None:
        try:
            if exists:
                written = await self._client.update(ENDPOINTS, wanted)
            else:
                written = await self._client.create(ENDPOINTS, wanted, split_key(key)[0])
        except AlreadyExists as error:
            raise Conflict(error.message) from error
        except Forbidden as error:
            if any(cause.reason == "NamespaceTerminating" for cause in error.causes):
                return
            raise
        self._freshness.wrote(key, self._endpoints, written)

    async def _delete(self, key: str) -> None:
        namespace, name = split_key(key)
        try:
            await self._client.delete(ENDPOINTS, name, namespace)
        except NotFound:
            return


def plan(service: Object, found: list[Backend], current: Object | None) -> Object | None:
    """The object to write, or None when `current` is as it shall be."""
    published = bool(service["spec"].get("publishNotReadyAddresses"))
    kind = families(service)[0]
    listed = [
        (backend, address)
        for backend in found
        if (published or not backend.terminating) and (backend.ports or not service["spec"].get("ports"))
        for address in [ip for ip in backend.ips if family(ip) == kind][:1]
    ]
    truncated = len(listed) > ADDRESSES_MAX
    if truncated:  # ready ones are kept before others
        listed = sorted(listed, key=lambda pair: not pair[0].serving)[:ADDRESSES_MAX]
    labels = _labels(service)
    content = subsets(listed, published)
    base = current or {"apiVersion": "v1", "kind": "Endpoints", "metadata": _new_metadata(service)}
    annotations = without(base["metadata"].get("annotations") or {}, OVER_CAPACITY)
    annotations |= {OVER_CAPACITY: "truncated"} if truncated else {}
    metadata = {**without(base["metadata"], "annotations"), "labels": labels}
    metadata |= {"annotations": annotations} if annotations else {}
    wanted = {**base, "metadata": metadata, "subsets": content}
    if current is not None and {**current, "subsets": current.get("subsets") or []} == wanted:
        return None
    triggered = triggered_at(service, found)
    if not triggered:
        return wanted
    return with_value(wanted, ("metadata", "annotations", TRIGGER_TIME), triggered)


def subsets(listed: Iterable[tuple[Backend, str]], published: bool) -> list[Object]:
    """Rule 1; addresses in numeric order of their text parts, subsets by ports."""
    by_ports: dict[tuple[Port, ...], tuple[list[Object], list[Object]]] = {}
    for backend, address in listed:
        ready, unready = by_ports.setdefault(backend.ports, ([], []))
        entry: Object = {"ip": address, "targetRef": backend.reference}
        entry |= {"nodeName": backend.node} if backend.node else {}
        entry |= {"hostname": backend.hostname} if backend.hostname else {}
        (ready if published or backend.serving else unready).append(entry)
    result = []
    for ports in sorted(by_ports):
        ready, unready = by_ports[ports]
        subset: Object = {"addresses": _ordered(ready)} if ready else {}
        subset |= {"notReadyAddresses": _ordered(unready)} if unready else {}
        subset |= {"ports": [_port(port) for port in ports]} if ports else {}
        result.append(subset)
    return result


def _port(port: Port) -> Object:
    entry = port.to_json()
    return entry if port.name else without(entry, "name")


def _ordered(addresses: list[Object]) -> list[Object]:
    return sorted(addresses, key=lambda entry: (entry["ip"], entry["targetRef"]["uid"]))


def _new_metadata(service: Object) -> Object:
    return {"name": service["metadata"]["name"], "namespace": service["metadata"]["namespace"]}


def _labels(service: Object) -> dict[str, str]:
    labels: dict[str, str] = without(service["metadata"].get("labels") or {}, HEADLESS_LABEL, MANAGED_BY)
    labels |= {HEADLESS_LABEL: ""} if is_headless(service) else {}
    return labels | {MANAGED_BY: MANAGER}
