"""The cluster as the columns see it: informers' changes of everything but pods, turned into columns and events.

Owner: the scheduler, which is told by `happened` what may help pods that wait.
"""

from collections.abc import Callable

from orchestrator.api.errors import BadRequest
from orchestrator.api.item import Item
from orchestrator.api.resources import (
    CSIDRIVERS,
    CSINODES,
    CSISTORAGECAPACITIES,
    NAMESPACES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODDISRUPTIONBUDGETS,
    STORAGECLASSES,
    Resource,
)
from orchestrator.api.selectors import NOTHING, from_label_selector
from orchestrator.informer.cache import Informer, Informers, key_of
from orchestrator.scheduler.preemption import Budget
from orchestrator.scheduler.rules.columns import Columns
from orchestrator.scheduler.rules.infos import NodeInfo
from orchestrator.scheduler.rules.interface import ClusterEvent

Happened = Callable[[ClusterEvent], None]
_VOLUMES: tuple[tuple[Resource, str, ClusterEvent], ...] = (
    (PERSISTENTVOLUMECLAIMS, "claims", ClusterEvent.CLAIM),
    (PERSISTENTVOLUMES, "volumes", ClusterEvent.VOLUME),
    (STORAGECLASSES, "classes", ClusterEvent.VOLUME),
    (CSIDRIVERS, "drivers", ClusterEvent.VOLUME),
    (CSISTORAGECAPACITIES, "capacities", ClusterEvent.VOLUME),
)


class Mirror:
    """Keeps `columns` up to date with nodes, namespaces and volumes, and knows the disruption budgets."""

    def __init__(self, informers: Informers, columns: Columns, happened: Happened) -> None:
        self._columns = columns
        self._happened = happened
        self._read = [informers.of(resource) for resource, _, _ in _VOLUMES]
        self._budgets = informers.of(PODDISRUPTIONBUDGETS)
        self._found: list[Budget] | None = None
        nodes, namespaces, limits = (informers.of(resource) for resource in (NODES, NAMESPACES, CSINODES))
        self._read += [self._budgets, nodes, namespaces, limits]
        nodes.on_change(self._node_changed)
        namespaces.on_change(self._namespace_changed)
        limits.on_change(self._limits_changed)
        self._budgets.on_change(self._budget_changed)
        for resource, kind, event in _VOLUMES:
            self._follow(informers.of(resource), kind, event)

    async def synced(self) -> None:
        """Wait until everything was read once."""
        for informer in self._read:
            await informer.synced()

    @property
    def budgets(self) -> list[Budget]:
        """The disruption budgets; the same list until one changes."""
        if self._found is None:
            self._found = [budget for item in self._budgets.list() if (budget := _budget(item)) is not None]
        return self._found

    def _node_changed(self, old: Item | None, new: Item | None) -> None:
        if new is None:
            if old is not None:
                self._columns.remove_node(key_of(old))
            return
        node = NodeInfo(new.object)
        before = self._columns.set_node(node)
        for event in node_events(before, node):
            self._happened(event)

    def _namespace_changed(self, old: Item | None, new: Item | None) -> None:
        item = new or old
        labels = new.labels if new is not None else None
        if item is not None and self._columns.counts.set_namespace(item.meta.name, labels):
            self._happened(ClusterEvent.NAMESPACE_LABELS)

    def _limits_changed(self, old: Item | None, new: Item | None) -> None:
        item = new or old
        obj = new.object if new is not None else None
        if item is not None and self._columns.volumes.set_limits(item.meta.name, obj):
            self._happened(ClusterEvent.VOLUME)

    def _budget_changed(self, old: Item | None, new: Item | None) -> None:
        if old is not new:
            self._found = None

    def _follow(self, informer: Informer, kind: str, event: ClusterEvent) -> None:
        def changed(old: Item | None, new: Item | None) -> None:
            item = new or old
            if item is not None and old is not new:
                self._columns.volumes.set(kind, key_of(item), new)
                self._happened(event)

        informer.on_change(changed)


def node_events(before: NodeInfo | None, node: NodeInfo) -> list[ClusterEvent]:
    """What a change of a node may help with; empty when no decision can differ."""
    if before is None:
        return [ClusterEvent.NODE_ADDED]
    changes = (
        (before.allocatable != node.allocatable, ClusterEvent.NODE_ALLOCATABLE),
        (before.labels != node.labels, ClusterEvent.NODE_LABELS),
        (before.taints != node.taints, ClusterEvent.NODE_TAINTS),
        (before.unschedulable and not node.unschedulable, ClusterEvent.NODE_SCHEDULABLE),
    )
    return [event for changed, event in changes if changed]


def _budget(item: Item) -> Budget | None:
    obj = item.object
    status = obj.get("status") or {}
    try:
        selector = from_label_selector((obj.get("spec") or {}).get("selector"))
    except BadRequest:
        selector = NOTHING
    if not selector.requirements:
        return None
    disrupted = frozenset(status.get("disruptedPods") or ())
    return Budget(item.meta.namespace, selector, int(status.get("disruptionsAllowed") or 0), disrupted)
