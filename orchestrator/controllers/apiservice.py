"""API services: one object per group and version that this server answers itself, as `kubectl get apiservices` shows.

1. Every served group and version has an APIService without a service, marked as managed automatically; built-in ones
   are kept, those of custom kinds follow the table of resources.
2. An object of that name that somebody else made, with a service, stays as it is.
3. What is marked and no longer served is deleted.
4. A local one says that it is Available.

Keys: names of APIServices, `<version>.<group>`.
"""

import weakref
from collections.abc import Iterable

from orchestrator.api.errors import AlreadyExists, Conflict, NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import APISERVICES, BUILT_IN, Resource, ResourceTable
from orchestrator.api.times import timestamp
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.objects import find_condition
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

LABEL = "kube-aggregator.kubernetes.io/automanaged"
_CUSTOM = (1000, 100)
_PRIORITIES: dict[tuple[str, str], tuple[int, int]] = {
    ("", "v1"): (18000, 1),
    ("apps", "v1"): (17800, 15),
    ("events.k8s.io", "v1"): (17750, 15),
    ("authentication.k8s.io", "v1"): (17700, 15),
    ("authorization.k8s.io", "v1"): (17600, 15),
    ("autoscaling", "v1"): (17500, 15),
    ("autoscaling", "v2"): (17500, 30),
    ("batch", "v1"): (17400, 15),
    ("certificates.k8s.io", "v1"): (17300, 15),
    ("networking.k8s.io", "v1"): (17200, 15),
    ("policy", "v1"): (17100, 15),
    ("rbac.authorization.k8s.io", "v1"): (17000, 15),
    ("storage.k8s.io", "v1"): (16800, 15),
    ("admissionregistration.k8s.io", "v1"): (16700, 15),
    ("apiextensions.k8s.io", "v1"): (16700, 15),
    ("scheduling.k8s.io", "v1"): (16600, 15),
    ("coordination.k8s.io", "v1"): (16500, 15),
    ("node.k8s.io", "v1"): (16300, 15),
    ("discovery.k8s.io", "v1"): (16200, 15),
    ("flowcontrol.apiserver.k8s.io", "v1"): (16100, 21),
    ("resource.k8s.io", "v1"): (15900, 20),
}
"""Least priority of the group and priority of the version: the order in which clients see them."""


class ApiServiceController:
    name = "apiservice"
    watches = (APISERVICES,)
    writes = (APISERVICES,)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder, table: ResourceTable) -> None:
        self._client = client
        self._clock = clock
        self._table = table

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._services = informers.of(APISERVICES)
        self._services.on_change(lambda old, new: queue.add(key_of(new or old)))  # type: ignore[arg-type]
        self._follow_table()
        self._rows_changed([], list(self._table))

    def _follow_table(self) -> None:
        """For as long as somebody has this controller: one of a later term takes over from it."""
        held = weakref.ref(self)

        def changed(gone: list[Resource], rows: list[Resource]) -> None:
            controller = held()
            if controller is None:
                forget()
            else:
                controller._rows_changed(gone, rows)

        forget = self._table.on_change(changed)

    async def reconcile(self, key: str) -> float | None:
        item = self._services.get(key)
        wanted = wanted_services(self._table).get(key)
        if wanted is None:
            if item is not None and _is_managed(item) and not item.meta.deletion_timestamp:
                await self._delete(key)
            return None
        if item is None:
            await self._create(wanted)
            return None
        status = plan(item.object, timestamp(self._clock.now_s()))
        if status is not None:
            changed = {**item.object, "status": status}
            await self._client.update(APISERVICES, changed, subresource="status")
        return None

    async def _create(self, wanted: Object) -> None:
        try:
            await self._client.create(APISERVICES, wanted)
        except AlreadyExists as error:
            raise Conflict(error.message) from error

    async def _delete(self, name: str) -> None:
        try:
            await self._client.delete(APISERVICES, name)
        except NotFound:
            return

    def _rows_changed(self, gone: list[Resource], rows: list[Resource]) -> None:
        for row in (*gone, *rows):
            self._queue.add(name_of(row))


def name_of(row: Resource) -> str:
    """`v1.apps`; the core group's is `v1.`."""
    return f"{row.version}.{row.group}"


def wanted_services(rows: Iterable[Resource]) -> dict[str, Object]:
    """The objects that shall exist, by name. The group of APIServices itself has none, as in Kubernetes."""
    built_in = {(row.group, row.version) for row in BUILT_IN}
    found: dict[str, Object] = {}
    for row in rows:
        name = name_of(row)
        if name in found or row.group == APISERVICES.group:
            continue
        at_start = (row.group, row.version) in built_in
        group, version = _PRIORITIES.get((row.group, row.version), _CUSTOM)
        found[name] = {
            "apiVersion": APISERVICES.api_version,
            "kind": APISERVICES.kind,
            "metadata": {"name": name, "labels": {LABEL: "onstart" if at_start else "true"}},
            "spec": {
                **({"group": row.group} if row.group else {}),
                "version": row.version,
                "groupPriorityMinimum": group,
                "versionPriority": version,
            },
        }
    return found


def plan(service: Object, now: str) -> Object | None:
    """The status that a local one shall have, where it differs."""
    status: Object = service.get("status") or {}
    if (service.get("spec") or {}).get("service") is not None:
        return None
    conditions: list[Object] = status.get("conditions") or []
    condition = find_condition(conditions, "Available")
    if condition is not None and (condition.get("status"), condition.get("reason")) == ("True", "Local"):
        return None
    available = {
        "type": "Available",
        "status": "True",
        "lastTransitionTime": now,
        "reason": "Local",
        "message": "Local APIServices are always available",
    }
    return {**status, "conditions": [c for c in conditions if c is not condition] + [available]}


def _is_managed(item: Item) -> bool:
    return LABEL in (item.meta.labels or {})
