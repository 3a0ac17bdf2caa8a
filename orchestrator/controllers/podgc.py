"""Pod garbage collection: pods that nobody else will remove.

1. Orphaned: bound to a node that does not exist, in the cache and live, for 40 s in a row. Such a pod is marked
   Failed (unless finished) with the condition DisruptionTarget, then removed without grace, since no agent
   would confirm.
2. Terminated: beyond 12,500 finished pods the oldest are removed, evicted ones first.
3. Unscheduled and terminating: marked Failed, because whoever counts it by a finalizer waits for its end, and removed
   without grace.
4. Terminating on a node that is not ready and that an operator declared out of service by a taint: marked Failed, and
   removed without grace.

Keys: `node/<name>`, `terminated`, `unscheduled`.
"""

from orchestrator.api.errors import NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import NODES, PODS
from orchestrator.api.times import timestamp
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.objects import find_condition
from orchestrator.controllers.views import node_index, pod_view
from orchestrator.informer.cache import Informers
from orchestrator.informer.queue import WorkQueue

QUARANTINE_S = 40.0
TERMINATED_MAX = 12_500
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
_NODE = "node/"


class PodGarbageCollector:
    name = "podgc"
    watches = (PODS, NODES)
    writes = (PODS,)

    def __init__(
        self, client: Client, clock: Clock, recorder: EventRecorder, terminated_max: int = TERMINATED_MAX
    ) -> None:
        self._client = client
        self._clock = clock
        self._terminated_max = terminated_max
        self._absent_since: dict[str, float] = {}

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._pods = informers.of(PODS)
        self._nodes = informers.of(NODES)
        self._pods.add_index("node", node_index)
        self._pods.add_index("podgc", podgc_index)
        self._pods.on_change(self._pod_changed)
        self._nodes.on_change(self._node_changed)

    async def reconcile(self, key: str) -> float | None:
        if key.startswith(_NODE):
            return await self._orphaned(key.removeprefix(_NODE))
        pods = self._pods.by_index("podgc", key)
        for pod in surplus(pods, self._terminated_max) if key == "terminated" else pods:
            await self._abandon(pod)
        return None

    def _pod_changed(self, old: Item | None, new: Item | None) -> None:
        if new is None:
            return
        node = pod_view(new).spec.node_name
        item = self._nodes.get(node) if node else None
        if node and (item is None or (new.meta.deletion_timestamp and is_out_of_service(item.object))):
            self._queue.add(_NODE + node)
        for key in podgc_index(new):
            if old is None or old is new or key not in podgc_index(old):
                self._queue.add(key)

    def _node_changed(self, old: Item | None, new: Item | None) -> None:
        if new is None and old is not None:
            self._queue.add(_NODE + old.meta.name)
        elif new is not None and is_out_of_service(new.object):
            self._queue.add(_NODE + new.meta.name)

    async def _orphaned(self, node: str) -> float | None:
        pods, item = self._pods.by_index("node", node), self._nodes.get(node)
        if not pods or item is not None:
            self._absent_since.pop(node, None)
            if item is not None and is_out_of_service(item.object):
                for pod in pods:
                    if pod.meta.deletion_timestamp:
                        await self._abandon(pod)
            return None
        now_s = self._clock.monotonic_s()
        left_s = self._absent_since.setdefault(node, now_s) + QUARANTINE_S - now_s
        if left_s > 0:
            return left_s
        if await self._exists(node):
            return None
        for pod in pods:
            await self._abandon(pod, orphaned=True)
        return None

    async def _abandon(self, pod: Item, *, orphaned: bool = False) -> None:
        """Remove a pod of which no agent will ever say that it ended."""
        await self._fail(pod, orphaned)
        await self._remove(pod)

    async def _exists(self, node: str) -> bool:
        try:
            await self._client.get(NODES, node)
        except NotFound:
            return False
        return True

    async def _fail(self, pod: Item, orphaned: bool) -> None:
        if pod_view(pod).finished:
            return
        patch = failed(timestamp(self._clock.now_s()), orphaned)
        try:
            await self._client.patch(
                PODS, pod.meta.name, pod.meta.namespace, patch, type="strategic", subresource="status"
            )
        except NotFound:
            return

    async def _remove(self, pod: Item) -> None:
        options = DeleteOptions(grace_period_s=0, uid=pod.meta.uid)
        try:
            await self._client.delete(PODS, pod.meta.name, pod.meta.namespace, options)
        except NotFound:
            return


def podgc_index(item: Item) -> tuple[str, ...]:
    """Index function `podgc`: the keys under which a pod may be removed, orphaned ones apart."""
    view = pod_view(item)
    if item.meta.deletion_timestamp and not view.spec.node_name:
        return ("unscheduled",)
    return ("terminated",) if view.finished and not item.meta.deletion_timestamp else ()


def surplus(pods: list[Item], limit: int) -> list[Item]:
    """Rule 2: the oldest finished pods beyond `limit`; 0 or less keeps all."""
    if limit <= 0 or len(pods) <= limit:
        return []
    return sorted(pods, key=_value)[: len(pods) - limit]


def _value(pod: Item) -> tuple[bool, str, str]:
    """What goes first is worth least."""
    evicted = b'"Evicted"' in pod.raw and (pod.object.get("status") or {}).get("reason") == "Evicted"
    return not evicted, pod_view(pod).metadata.creation_timestamp, pod.meta.name


def is_out_of_service(node: Object) -> bool:
    """Rule 4."""
    taints = (node.get("spec") or {}).get("taints") or ()
    if not any(taint["key"] == OUT_OF_SERVICE for taint in taints):
        return False
    ready = find_condition((node.get("status") or {}).get("conditions") or [], "Ready")
    return ready is None or ready["status"] != "True"


def failed(now: str, orphaned: bool) -> Object:
    """The status of a pod that is given up; `orphaned` when its node is gone."""
    if not orphaned:
        return {"status": {"phase": "Failed"}}
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "DeletionByPodGC",
        "message": "PodGC: node no longer exists",
        "lastTransitionTime": now,
    }
    return {"status": {"phase": "Failed", "conditions": [condition]}}
