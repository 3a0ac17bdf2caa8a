"""What selects a pod's companions, for default spreading: its Services together and its controller.

Source: `DefaultSelector` of Kubernetes' scheduler helpers. Read from informers that others keep anyway; what was
found is remembered per kind of pod until a Service changes. Owner: the scheduler.
"""

from collections import OrderedDict
from typing import Any

from orchestrator.api.errors import BadRequest
from orchestrator.api.item import Item
from orchestrator.api.resources import REPLICASETS, REPLICATIONCONTROLLERS, SERVICES, STATEFULSETS
from orchestrator.api.selectors import Requirement, Selector, from_label_selector, from_set
from orchestrator.informer.cache import Informers
from orchestrator.scheduler.rules.infos import PodInfo

REMEMBERED_MAX = 4096
_CONTROLLERS = {
    "ReplicaSet": REPLICASETS, "StatefulSet": STATEFULSETS, "ReplicationController": REPLICATIONCONTROLLERS,
}  # fmt: skip


class Companions:
    """`of(pod)` is asked at each decision."""

    def __init__(self, informers: Informers) -> None:
        self._controllers = {kind: informers.of(resource) for kind, resource in _CONTROLLERS.items()}
        self._services: dict[str, dict[str, dict[str, str]]] = {}
        self._remembered: OrderedDict[Any, Selector | None] = OrderedDict()
        informers.of(SERVICES).on_change(self._service_changed)

    def of(self, pod: PodInfo) -> Selector | None:
        """None where nothing selects the pod."""
        services = self._services.get(pod.namespace)
        if services is None and pod.owner is None:
            return None
        labels = frozenset(pod.labels.items()) if services else None
        controller = self._controller(pod)
        key = (pod.namespace, labels, pod.owner, controller.meta.uid if controller is not None else "")
        if key not in self._remembered:
            self._remembered[key] = self._found(pod, services or {}, controller)
            if len(self._remembered) > REMEMBERED_MAX:
                self._remembered.popitem(last=False)
        return self._remembered[key]

    def _controller(self, pod: PodInfo) -> Item | None:
        informer = self._controllers.get(pod.owner[0]) if pod.owner is not None else None
        return informer.get(f"{pod.namespace}/{pod.owner[1]}") if informer is not None and pod.owner else None

    def _found(
        self, pod: PodInfo, services: dict[str, dict[str, str]], controller: Item | None
    ) -> Selector | None:
        merged: dict[str, str] = {}
        for selector in services.values():
            if selector.items() <= pod.labels.items():
                merged |= selector
        requirements: tuple[Requirement, ...] = from_set(merged).requirements
        if controller is not None:
            wanted = (controller.object.get("spec") or {}).get("selector") or {}
            try:
                plain = pod.owner is not None and pod.owner[0] == "ReplicationController"
                requirements += (from_set(wanted) if plain else from_label_selector(wanted)).requirements
            except BadRequest:
                return None
        return Selector(requirements) if requirements else None

    def _service_changed(self, old: Item | None, new: Item | None) -> None:
        item = new or old
        if item is None:
            return
        known = self._services.get(item.meta.namespace, {})
        selector = ((new.object.get("spec") or {}).get("selector") or {}) if new is not None else {}
        if known.get(item.meta.name, {}) == selector:
            return
        known = {name: each for name, each in known.items() if name != item.meta.name}
        if selector:
            known[item.meta.name] = selector
        if known:
            self._services[item.meta.namespace] = known
        else:
            self._services.pop(item.meta.namespace, None)
        self._remembered.clear()
