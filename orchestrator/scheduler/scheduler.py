"""The scheduling loop: pending pods in, bindings out.

Informer events keep columns and queue up to date; `run` takes pod by pod, decides, counts the pod on its node
at once (assumes it) and lets a supervised task bind it, so that the next decision need not wait for the disk.
A binding that fails takes the assumption back. The one mutating owner of columns and queue is this class, on one
event loop: between a decision and its assumption there is no await.
"""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import structlog

from orchestrator.api.errors import ApiError, BadRequest, NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import NODES, PODS
from orchestrator.api.times import timestamp
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.informer.cache import Informers, key_of
from orchestrator.scheduler.decide import HELPED_BY, Decider, Decision
from orchestrator.scheduler.queue import SchedulingQueue, Waiting
from orchestrator.scheduler.rules.columns import Columns
from orchestrator.scheduler.rules.infos import DEFAULT_SCHEDULER, NodeInfo, PodInfo, pod_place
from orchestrator.scheduler.rules.interface import ClusterEvent

log = structlog.get_logger(__name__)

SLICE = 32
"""Decisions before other tasks get their turn."""
WRITES_MAX = 512
"""Bindings and failure reports on their way at once."""
WRITE_TIMEOUT_S = 30.0


class Scheduler:
    """One scheduler, for the pods that name it."""

    def __init__(
        self,
        client: Client,
        informers: Informers,
        clock: Clock,
        recorder: EventRecorder,
        rng: random.Random,
        name: str = DEFAULT_SCHEDULER,
    ) -> None:
        """Wires itself to the informers of pods and nodes; `run` waits until these are synced."""
        self.name = name
        self.columns = Columns()
        self.queue = SchedulingQueue(HELPED_BY)
        self._client = client
        self._clock = clock
        self._recorder = recorder
        self._decider = Decider(self.columns, rng)
        self._supervisor = Supervisor("scheduler", clock)
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._writing: set[str] = set()
        """Uids of pods that a task is binding."""
        self._tasks = 0
        self._events: set[ClusterEvent] = set()
        self._timer: asyncio.Task[None] | None = None
        self._timer_due_s = 0.0
        self._nodes = informers.of(NODES)
        self._pods = informers.of(PODS)
        self._nodes.on_change(self._node_changed)
        self._pods.on_change(self._pod_changed)

    async def run(self) -> None:
        """Schedule until cancelled."""
        await self._nodes.synced()
        await self._pods.synced()
        try:
            while True:
                self._digest()
                if not await self._slice():
                    self._set_timer()
                    await self._wake.wait()
                    self._wake.clear()
        finally:
            await self._supervisor.stop()

    async def _slice(self) -> bool:
        """Some decisions; False when no pod is active."""
        for _ in range(SLICE):
            while self._tasks >= WRITES_MAX:
                self._room.clear()
                await self._room.wait()
            waiting = self.queue.pop()
            if waiting is None:
                return False
            self._schedule(waiting)
        await asyncio.sleep(0)
        return True

    def _schedule(self, waiting: Waiting) -> None:
        pod = waiting.pod
        try:
            decision = self._decider.decide(pod)
        except BadRequest as error:
            decision = Decision("", self.columns.node_count)
            self._refuse(waiting, decision, error.message)
            return
        if not decision.node:
            self._refuse(waiting, decision, decision.message)
            return
        self.columns.place(pod, decision.node)
        self._writing.add(pod.uid)
        self._start(f"bind-{pod.key}", self._bind(waiting, decision.node))

    def _refuse(self, waiting: Waiting, decision: Decision, message: str) -> None:
        self.queue.refuse(waiting, decision.refused_by, self._clock.monotonic_s())
        self._start(f"report-{waiting.pod.key}", self._report(waiting.pod, message))

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks += 1
        task = self._supervisor.spawn(name, work)
        task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._tasks -= 1
        self._room.set()

    async def _bind(self, waiting: Waiting, node: str) -> None:
        pod = waiting.pod
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self._client.create(PODS, binding, pod.namespace, subresource="binding", name=pod.name)
        except (ApiError, OSError, TimeoutError) as error:
            log.debug("binding failed", pod=pod.key, node=node, error=str(error))
            self._writing.discard(pod.uid)
            self._take_back(waiting, error)
            return
        self._writing.discard(pod.uid)
        self._recorder.event(
            pod.reference, "Normal", "Scheduled", f"Successfully assigned {pod.key} to {node}"
        )

    def _take_back(self, waiting: Waiting, error: Exception) -> None:
        """A binding failed: forget the assumption, then do what the cache says of the pod now."""
        pod = waiting.pod
        item = self._pods.get(pod.key)
        present = item is not None and item.meta.uid == pod.uid
        if present and item is not None and pod_place(item)[0]:
            self._pod_changed(None, item)
            return
        if self.columns.displace(pod.uid):
            self._happened(ClusterEvent.POD_REMOVED)
        if not present or item is None or item.meta.deletion_timestamp or isinstance(error, NotFound):
            return
        waiting.pod = PodInfo(item)
        self.queue.retry(waiting, self._clock.monotonic_s())
        self._wake.set()

    async def _report(self, pod: PodInfo, message: str) -> None:
        """Event and condition that say why; the condition only when it says something new."""
        self._recorder.event(pod.reference, "Warning", "FailedScheduling", message)
        item = self._pods.get(pod.key)
        if item is None or item.meta.uid != pod.uid:
            return
        patch = unschedulable_patch(item.object, message, timestamp(self._clock.now_s()))
        if patch is None:
            return
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self._client.patch(
                    PODS, pod.name, pod.namespace, patch, type="strategic", subresource="status"
                )
        except (ApiError, OSError, TimeoutError) as error:
            log.debug("condition not written", pod=pod.key, error=str(error))

    def _pod_changed(self, old: Item | None, new: Item | None) -> None:
        if old is not None and (new is None or old.meta.uid != new.meta.uid):
            self._forget(old.meta.uid)
        if new is None:
            return
        node, finished = pod_place(new)
        meta = new.meta
        if finished or (not node and meta.deletion_timestamp):
            self._forget(meta.uid)
        elif node:
            self.queue.remove(meta.uid)
            self._bound(new, node)
        elif meta.uid not in self._writing:
            pod = PodInfo(new)
            if pod.scheduler_name == self.name and not pod.gated:
                self.queue.update(pod, self._clock.monotonic_s())
                self._wake.set()

    def _bound(self, item: Item, node: str) -> None:
        """Count a bound pod, unless it is counted like this already (it was assumed)."""
        known = self.columns.placed.get(item.meta.uid)
        if known is not None:
            row, pod = known
            if self.columns.row(node) == row and pod.generation == item.meta.generation:
                return
        self.columns.place(PodInfo(item), node)
        if known is not None:
            self._happened(ClusterEvent.POD_REMOVED)

    def _forget(self, uid: str) -> None:
        self.queue.remove(uid)
        if self.columns.displace(uid):
            self._happened(ClusterEvent.POD_REMOVED)

    def _node_changed(self, old: Item | None, new: Item | None) -> None:
        if new is None:
            if old is not None:
                self.columns.remove_node(key_of(old))
            return
        node = NodeInfo(new.object)
        before = self.columns.set_node(node)
        for event in node_events(before, node):
            self._happened(event)

    def _happened(self, event: ClusterEvent) -> None:
        """Note it; many events of one kind cost one pass over the unschedulable pods."""
        self._events.add(event)
        self._wake.set()

    def _digest(self) -> None:
        now_s = self._clock.monotonic_s()
        for event in self._events:
            self.queue.happened(event, now_s)
        self._events.clear()
        self.queue.flush(now_s)

    def _set_timer(self) -> None:
        """One task wakes the loop when the next back-off ends."""
        due_s = self.queue.due_s
        if due_s is None:
            return
        if self._timer is not None and not self._timer.done():
            if self._timer_due_s <= due_s:
                return
            self._timer.cancel()
        self._timer_due_s = due_s
        self._timer = self._supervisor.spawn("timer", self._ring(due_s))

    async def _ring(self, due_s: float) -> None:
        await self._clock.sleep(due_s - self._clock.monotonic_s())
        self._wake.set()


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


def unschedulable_patch(pod: Object, message: str, now: str) -> Object | None:
    """The status patch that sets PodScheduled to False, or None when it says the same already."""
    wanted = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    conditions = (pod.get("status") or {}).get("conditions") or []
    old: Object = next((c for c in conditions if c["type"] == "PodScheduled"), {})
    if all(old.get(key) == value for key, value in wanted.items()):
        return None
    since = old.get("lastTransitionTime", now) if old.get("status") == "False" else now
    return {"metadata": {"uid": pod["metadata"]["uid"]},
            "status": {"conditions": [{**wanted, "lastTransitionTime": since}]}}  # fmt: skip
