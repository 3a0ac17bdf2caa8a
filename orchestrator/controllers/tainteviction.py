"""Taint eviction: pods leave nodes whose NoExecute taints they do not tolerate.

1. A pod that does not tolerate every NoExecute taint of its node goes at once.
2. One that tolerates them for `tolerationSeconds` goes that long after the newest of the taints was added, or after
   it was bound to the node where that was later; the shortest tolerance counts. Without seconds it stays. A taint
   that does not say when it was added, such as one of `kubectl taint`, counts from when it was first seen here.
3. Before deletion the pod gets the condition DisruptionTarget, reason DeletionByTaintManager.
4. Pods that finished or are being deleted are left alone; when the taint goes, or a pod comes to tolerate it,
   waiting deletions are off, and the pods are told.

Keys are nodes. Which node is silent is decided by `nodelifecycle`; here only taints count.
"""

from dataclasses import dataclass

from orchestrator.api.errors import NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import NODES, PODS
from orchestrator.api.times import micro_timestamp, seconds, timestamp
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.views import PodView, node_index, pod_view
from orchestrator.informer.cache import Informers
from orchestrator.informer.queue import WorkQueue
from orchestrator.scheduler.rules.tolerations import stay_s


class TaintEvictionController:
    name = "tainteviction"
    watches = (NODES, PODS)
    writes = (PODS,)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client
        self._clock = clock
        self._recorder = recorder
        self._seen: dict[str, dict[Place, str]] = {}
        """When taints without a time were first seen, by node."""
        self._waiting: dict[str, set[str]] = {}
        """Uids of pods whose deletion is due later, by node."""

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._nodes = informers.of(NODES)
        self._pods = informers.of(PODS)
        self._pods.add_index("node", node_index)
        self._nodes.on_change(self._node_changed)
        self._pods.on_change(self._pod_changed)

    async def reconcile(self, key: str) -> float | None:
        item = self._nodes.get(key)
        taints = self._timed(key, no_execute(item.object) if item is not None else [])
        if not taints and key not in self._waiting:
            return None
        pods = self._pods.by_index("node", key)
        steps = plan(taints, pods, self._clock.now_s()) if taints else Plan([], None, set())
        self._tell_cancelled(key, pods, steps)
        for pod in steps.evict:
            await self._evict(pod)
        return steps.look_again_s

    def _tell_cancelled(self, node: str, pods: list[Item], steps: "Plan") -> None:
        """Rule 4: whose deletion is off, of those that stay."""
        off = self._waiting.pop(node, set()) - steps.waiting - {pod.meta.uid for pod in steps.evict}
        if steps.waiting:
            self._waiting[node] = steps.waiting
        for pod in pods if off else ():
            if pod.meta.uid in off and not pod.meta.deletion_timestamp:
                text = f"Cancelling deletion of Pod {pod.meta.namespace}/{pod.meta.name}"
                self._recorder.event(pod.object, "Normal", "TaintManagerEviction", text)

    def _timed(self, node: str, taints: list[Object]) -> list[Object]:
        """Each taint with the time from which it counts."""
        before, now = self._seen.pop(node, {}), micro_timestamp(self._clock.now_s())
        times = {_place(t): before.get(_place(t), now) for t in taints if not t.get("timeAdded")}
        if times:
            self._seen[node] = times
        return [taint if taint.get("timeAdded") else {**taint, "timeAdded": times[_place(taint)]}
                for taint in taints]  # fmt: skip

    def _node_changed(self, old: Item | None, new: Item | None) -> None:
        """A taint that went is looked at too: what was seen of it is forgotten."""
        name = (new or old).meta.name  # type: ignore[union-attr]
        if new is None or no_execute(new.object) or name in self._seen or name in self._waiting:
            self._queue.add(name)

    def _pod_changed(self, old: Item | None, new: Item | None) -> None:
        """A pod that lands on a tainted node, or whose tolerations changed."""
        name = pod_view(new).spec.node_name if new is not None else ""
        node = self._nodes.get(name) if name else None
        if node is not None and no_execute(node.object):
            self._queue.add(name)

    async def _evict(self, pod: Item) -> None:
        meta, now = pod.meta, timestamp(self._clock.now_s())
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": now,
        }
        patch = {"metadata": {"uid": meta.uid}, "status": {"conditions": [condition]}}
        try:
            marked = await self._client.patch(
                PODS, meta.name, meta.namespace, patch, type="strategic", subresource="status"
            )
            await self._client.delete(PODS, meta.name, meta.namespace, DeleteOptions(uid=meta.uid))
        except NotFound:
            return
        text = f"Marking for deletion Pod {meta.namespace}/{meta.name}"
        self._recorder.event(marked, "Normal", "TaintManagerEviction", text)


Place = tuple[str, str]
"""Key and value of a NoExecute taint."""


def _place(taint: Object) -> Place:
    return taint["key"], taint.get("value") or ""


def no_execute(node: Object) -> list[Object]:
    """The node's taints that evict."""
    return [t for t in (node.get("spec") or {}).get("taints") or () if t["effect"] == "NoExecute"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Pods to evict now, and when the next one is due."""

    evict: list[Item]
    look_again_s: float | None
    waiting: set[str]
    """Uids of those that are due later."""


def plan(taints: list[Object], pods: list[Item], now_s: float) -> Plan:
    """Rules 1, 2 and 4 for the pods of one node with these NoExecute taints; each says when it was added."""
    added_s = max(seconds(taint["timeAdded"]) for taint in taints)
    evict, waits, waiting = [], [], set()
    for pod in pods:
        view = pod_view(pod)
        if pod.meta.deletion_timestamp or view.finished:
            continue
        limit_s = stay_s(taints, view.spec.tolerations or ())
        if limit_s is None:
            continue
        left_s = max(added_s, _bound_s(view)) + limit_s - now_s if limit_s else 0.0
        if left_s <= 0:
            evict.append(pod)
        else:
            waits.append(left_s)
            waiting.add(pod.meta.uid)
    return Plan(evict, min(waits) if waits else None, waiting)


def _bound_s(view: PodView) -> float:
    """When the pod came to its node; one that was made for its node says when it was made."""
    scheduled = view.condition("PodScheduled")
    since = scheduled.last_transition_time if scheduled is not None else ""
    since = since or view.metadata.creation_timestamp
    return seconds(since) if since else 0.0
