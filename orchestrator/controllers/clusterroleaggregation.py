"""ClusterRole aggregation: a role with an aggregation rule has the rules of every role that it selects.

1. Roles are taken in the order of their names, each rule once; the role itself is not part of the sum.
2. The rules of such a role are always replaced by the sum, whatever was written into them.
3. A change of labels or rules of any role concerns every aggregating role.
"""

from orchestrator.api.errors import NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import CLUSTERROLES
from orchestrator.api.selectors import from_label_selector
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.informer.cache import Informers
from orchestrator.informer.queue import WorkQueue


class ClusterRoleAggregationController:
    name = "clusterroleaggregation"
    watches = (CLUSTERROLES,)
    writes = (CLUSTERROLES,)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._roles = informers.of(CLUSTERROLES)
        self._roles.add_index("aggregating", _aggregating_index)
        self._roles.on_change(self._changed)

    async def reconcile(self, key: str) -> float | None:
        item = self._roles.get(key)
        wanted = plan(item.object, self._roles.list()) if item is not None else None
        if wanted is None:
            return None
        try:
            await self._client.update(CLUSTERROLES, wanted)
        except NotFound:
            return None
        return None

    def _changed(self, old: Item | None, new: Item | None) -> None:
        for item in self._roles.by_index("aggregating", "yes"):
            self._queue.add(item.meta.name)


def _aggregating_index(item: Item) -> tuple[str, ...]:
    """Index function `aggregating`: `yes` for roles with an aggregation rule."""
    return ("yes",) if b"aggregationRule" in item.raw and item.object.get("aggregationRule") else ()


def plan(role: Object, roles: list[Item]) -> Object | None:
    """`role` with the rules that it gathers, or None when it has them, or gathers none."""
    selectors = (role.get("aggregationRule") or {}).get("clusterRoleSelectors")
    if not selectors or role["metadata"].get("deletionTimestamp"):
        return None
    matching = [from_label_selector(selector) for selector in selectors]
    rules: list[Object] = []
    for item in sorted(roles, key=lambda item: item.meta.name):
        if item.meta.name == role["metadata"]["name"] or not any(s.matches(item.labels) for s in matching):
            continue
        rules += [rule for rule in item.object.get("rules") or () if rule not in rules]
    return {**role, "rules": rules} if rules != (role.get("rules") or []) else None
