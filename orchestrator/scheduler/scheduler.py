"""The scheduling loop: pending pods in, bindings out.

Informer events keep columns and queue up to date; `run` takes pod by pod, decides, counts the pod on its node at once
(assumes it) and hands it to the binder, so that the next decision need not wait for the disk. A binding that fails
takes the assumption back. A pod that fits nowhere may take the place of less urgent ones (preemption): these are
deleted, and the pod holds its nominated node's room until it fits. The one mutating owner of columns and queue is this
class, on one event loop: between a decision and its assumption there is no await.
"""

import asyncio
import random
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any

import structlog

from orchestrator.api.errors import ApiError, BadRequest, Conflict, NotFound, not_found
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import NODES, PODS
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.informer.cache import Informers
from orchestrator.scheduler.binder import Assumed, Binder
from orchestrator.scheduler.companions import Companions
from orchestrator.scheduler.decide import Decider, Decision
from orchestrator.scheduler.groups import NAME as GANG
from orchestrator.scheduler.groups import Group, Groups, group_of
from orchestrator.scheduler.mirror import Mirror
from orchestrator.scheduler.preemption import Outcome, Preemption
from orchestrator.scheduler.profiles import PREEMPTION, Profile, plugins_of
from orchestrator.scheduler.queue import SchedulingQueue, Waiting
from orchestrator.scheduler.reports import Reports
from orchestrator.scheduler.rules.columns import Columns
from orchestrator.scheduler.rules.infos import PodInfo, pod_place
from orchestrator.scheduler.rules.interface import ClusterEvent
from orchestrator.scheduler.volumebinding import Promised, VolumeBinder

log = structlog.get_logger(__name__)

SLICE = 16
"""Decisions before other tasks get their turn."""
WRITES_MAX = 512
"""Failure reports and preemptions on their way at once."""


class Scheduler:
    """One scheduler, for the pods that name one of its profiles."""

    def __init__(
        self,
        client: Client,
        informers: Informers,
        clock: Clock,
        recorder: EventRecorder,
        rng: random.Random,
        profiles: Sequence[Profile] = (Profile(),),
    ) -> None:
        """Wires itself to informers; `run` waits until these are synced. Raises `ProfileError`."""
        self.columns = Columns()
        self._clock = clock
        self._recorder = recorder
        self._supervisor = Supervisor("scheduler", clock)
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._writing: set[str] = set()
        """Uids of pods that are being bound."""
        self._provisioning: dict[str, asyncio.Task[None]] = {}
        """By uid of a pod that waits for its volumes."""
        self._tasks = 0
        self._events: set[ClusterEvent] = set()
        self._timer: asyncio.Task[None] | None = None
        self._timer_due_s = 0.0
        self.nominated: dict[str, PodInfo] = {}
        self._groups = Groups()
        self._awaited: dict[str, set[str]] = {}
        """Victims that are not gone yet, by uid of the pod that waits for them."""
        self._preemptors: dict[str, list[str]] = {}
        """Who waits, by uid of the victim."""
        self._mirror = Mirror(informers, self.columns, self._happened)
        companions = Companions(informers)
        plugins = {profile.name: plugins_of(profile, companions.of) for profile in profiles}
        self._deciders = {
            name: Decider(self.columns, rng, each, self.nominated) for name, each in plugins.items()
        }
        hints: dict[str, frozenset[ClusterEvent]] = {GANG: frozenset((ClusterEvent.GROUP,))}
        for each in plugins.values():
            hints |= {name: hints.get(name, frozenset()) | events for name, events in each.helped_by.items()}
        self.queue = SchedulingQueue(hints)
        self._preempting = {
            profile.name: Preemption(self.columns, rng)
            for profile in profiles
            if PREEMPTION not in profile.disabled
        }
        self._nodes = informers.of(NODES)
        self._pods = informers.of(PODS)
        self._reports = Reports(client, self._pods, recorder, clock)
        self._volumes = VolumeBinder(client, informers, self.columns, clock)
        self._binder = Binder(client, self._bound_or_not)
        self._pods.on_change(self._pod_changed)

    async def run(self) -> None:
        """Schedule until cancelled."""
        await self._nodes.synced()
        await self._mirror.synced()
        await self._pods.synced()
        self._supervisor.serve("binder", self._binder.run)
        try:
            while True:
                self._digest()
                if not await self._slice():
                    self._set_timer()
                    await self._wake.wait()
                    self._wake.clear()
        finally:
            await self._supervisor.stop()

    def why(self, namespace: str, name: str) -> Object:
        """Per node the filter that refuses the pod, or its score there by plugin, as things stand now; for a placed
        pod as if it were not there. Raises `NotFound`."""
        item = self._pods.get(f"{namespace}/{name}")
        if item is None:
            raise not_found("", "pods", name)
        pod = PodInfo(item)
        node, _ = pod_place(item)
        answer: Object = {
            "pod": pod.key, "scheduler": pod.scheduler_name, "node": node, "nominatedNode": pod.nominated,
            "gated": pod.gated, "nodes": {},
        }  # fmt: skip
        decider = self._deciders.get(pod.scheduler_name)
        if decider is None:
            return answer
        placed = self.columns.placed.get(pod.uid)
        there = self.columns.name(placed[0]) if placed is not None else ""
        self.columns.displace(pod.uid)
        try:
            answer["nodes"] = decider.explain(pod)
        finally:
            if placed is not None:
                self.columns.place(placed[1], there)
        return answer

    async def _slice(self) -> bool:
        """Some decisions; False when no pod is active."""
        for _ in range(SLICE):
            await self._binder.room()
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
        if pod.uid in self._awaited:
            self.queue.park(waiting, self._clock.monotonic_s())
            return
        decider = self._deciders[pod.scheduler_name]
        group = group_of(pod.namespace, pod.labels) if pod.labels else None
        if group is not None and self._groups.placed(group) < group.least:
            self._schedule_group(waiting, group)
            return
        try:
            decision = decider.decide(pod)
            if not decision.node:
                self._fitless(waiting, decider, decision)
                return
        except BadRequest as error:
            self._refuse(waiting, Decision("", self.columns.node_count), error.message)
            return
        self._assume(waiting, decision.node)

    def _schedule_group(self, first: Waiting, group: Group) -> None:
        """Enough of the group at once, or none of it."""
        others = [uid for uid in self._groups.pending(group) if uid != first.pod.uid]
        waiting = [first, *self.queue.take(others)]
        wanted = group.least - self._groups.placed(group)
        decisions = [self._tried(each.pod) for each in waiting] if len(waiting) >= wanted else []
        fits = sum(bool(decision.node) for decision in decisions)
        for each in waiting if fits < wanted else ():
            self.columns.displace(each.pod.uid)
        if not decisions:
            why = f"pod group {group.key} has {len(waiting)} of the {wanted} more pods that it needs"
            decisions = [Decision("", self.columns.node_count)] * len(waiting)
        else:
            why = f"of the {wanted} more pods that pod group {group.key} needs {fits} fit at once"
        for each, decision in zip(waiting, decisions, strict=True):
            if fits >= wanted and decision.node:
                self._assume(each, decision.node)
            else:
                refused = replace(decision, refused_by=decision.refused_by | {GANG})
                told = f"{why}. {decision.message}" if decision.reasons else f"{why}."
                self._refuse(each, refused, told)

    def _tried(self, pod: PodInfo) -> Decision:
        """A decision about one of a group, counted at once so that the next sees it."""
        try:
            decision = self._deciders[pod.scheduler_name].decide(pod)
        except BadRequest:
            return Decision("", self.columns.node_count)
        if decision.node:
            self.columns.place(pod, decision.node)
        return decision

    def _assume(self, waiting: Waiting, node: str) -> None:
        """The pod is on the node from now on; what makes it so is under way."""
        pod = waiting.pod
        self.nominated.pop(pod.uid, None)
        promised = self._volumes.promise(pod, node) if pod.template.claims else None
        self.columns.place(pod, node)
        self._groups.note(pod, True)
        self._happened(ClusterEvent.POD_ADDED)
        self._writing.add(pod.uid)
        assumed = Assumed(waiting, node)
        if promised is None:
            self._binder.add(assumed)
        else:
            self._provision(assumed, promised)

    def _fitless(self, waiting: Waiting, decider: Decider, decision: Decision) -> None:
        """No node fits: take somebody's place, or say why not and wait."""
        pod = waiting.pod
        preemption = self._preempting.get(pod.scheduler_name)
        if preemption is None or not decision.node_count:
            self._refuse(waiting, decision, decision.message)
            return
        outcome = preemption.find(decider, pod, self._mirror.budgets)
        if outcome.node:
            self._nominate(pod, outcome)
        elif outcome.node is not None and self.nominated.pop(pod.uid, None) is not None:
            self.columns.displace(pod.uid)  # What it held is anybody's again.
            self._happened(ClusterEvent.POD_REMOVED)
        decision = replace(decision, preempting=outcome.message)
        self._refuse(waiting, decision, decision.message, outcome.node)

    def _nominate(self, pod: PodInfo, outcome: Outcome) -> None:
        """The pod holds its place from now on; its victims are asked to go."""
        node = outcome.node or ""
        self.columns.place(pod, node)
        self.nominated[pod.uid] = pod
        self._awaited[pod.uid] = {victim.uid for victim in outcome.victims}
        for victim in outcome.victims:
            known = self._preemptors.setdefault(victim.uid, [])
            known.append(pod.uid)
            if len(known) == 1:
                self._start(f"preempt-{victim.key}", self._preempt(victim, pod, node))

    async def _preempt(self, victim: PodInfo, pod: PodInfo, node: str) -> None:
        """Ask a pod to go; whoever waits for one that could not be asked looks again."""
        if not await self._reports.preempt(victim, pod, node):
            self._victim_gone(victim.uid)

    def _victim_gone(self, uid: str) -> None:
        """A pod is tried again at once when the last of its victims is gone."""
        for preemptor in self._preemptors.pop(uid, ()):
            awaited = self._awaited.get(preemptor)
            if awaited is None:
                continue
            awaited.discard(uid)
            if not awaited:
                del self._awaited[preemptor]
                self.queue.activate(preemptor)
                self._wake.set()

    def _refuse(
        self, waiting: Waiting, decision: Decision, message: str, nominated: str | None = None
    ) -> None:
        self.queue.refuse(waiting, decision.refused_by, self._clock.monotonic_s())
        self._start(f"report-{waiting.pod.key}", self._reports.unschedulable(waiting.pod, message, nominated))

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks += 1
        task = self._supervisor.spawn(name, work)
        task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._tasks -= 1
        self._room.set()

    def _provision(self, assumed: Assumed, promised: Promised) -> None:
        """Wait for volumes until the pod is gone. Not among the writes that are bounded: a provisioner that hangs
        must not hold up pods that need none."""
        uid = assumed.waiting.pod.uid

        def ended(task: "asyncio.Task[None]") -> None:
            del self._provisioning[uid]
            if task.cancelled():
                self._volumes.take_back(promised)
                self._writing.discard(uid)

        task = self._supervisor.spawn(
            f"volumes-{assumed.waiting.pod.key}", self._bind_volumes(assumed, promised)
        )
        self._provisioning[uid] = task
        task.add_done_callback(ended)

    async def _bind_volumes(self, assumed: Assumed, promised: Promised) -> None:
        """Volumes first, then the pod."""
        try:
            await self._volumes.bind(promised)
        except (ApiError, OSError, TimeoutError) as error:
            self._volumes.take_back(promised)
            # A claim or a volume that is not found says nothing of the pod, which must be tried again.
            self._bound_or_not(assumed, Conflict(str(error)) if isinstance(error, NotFound) else error)
            return
        self._binder.add(assumed)

    def _bound_or_not(self, assumed: Assumed, error: Exception | None) -> None:
        """What became of a binding."""
        pod = assumed.waiting.pod
        self._writing.discard(pod.uid)
        if error is not None:
            log.debug("binding failed", pod=pod.key, node=assumed.node, error=str(error))
            self._take_back(assumed.waiting, error)
            return
        message = f"Successfully assigned {pod.key} to {assumed.node}"
        self._recorder.event(pod.reference, "Normal", "Scheduled", message)

    def _take_back(self, waiting: Waiting, error: Exception) -> None:
        """A binding failed: forget the assumption, then do what the cache says of the pod now."""
        pod = waiting.pod
        item = self._pods.get(pod.key)
        present = item is not None and item.meta.uid == pod.uid
        if present and item is not None and pod_place(item)[0]:
            self._pod_changed(None, item)
            return
        if present:
            self._groups.note(pod, False)
        if self.columns.displace(pod.uid):
            self._happened(ClusterEvent.POD_REMOVED)
        if not present or item is None or item.meta.deletion_timestamp or isinstance(error, NotFound):
            return
        waiting.pod = PodInfo(item)
        self._recorder.event(
            waiting.pod.reference, "Warning", "FailedScheduling", f"binding rejected: {error}"
        )
        self.queue.retry(waiting, self._clock.monotonic_s())
        self._wake.set()

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
            self._pending(PodInfo(new))

    def _pending(self, pod: PodInfo) -> None:
        if pod.scheduler_name not in self._deciders:
            return
        if pod.gated:
            self.queue.remove(pod.uid)
            return
        if pod.nominated and pod.uid not in self.nominated and pod.uid not in self.columns.placed:
            self.columns.place(pod, pod.nominated)  # Nominated before this process began.
            self.nominated[pod.uid] = pod
        if self._groups.note(pod, False):
            self._happened(ClusterEvent.GROUP)
        self.queue.update(pod, self._clock.monotonic_s())
        self._wake.set()

    def _bound(self, item: Item, node: str) -> None:
        """Count a bound pod, unless it is counted like this already (it was assumed)."""
        known = self.columns.placed.get(item.meta.uid)
        self.nominated.pop(item.meta.uid, None)
        if known is None:
            pod = PodInfo(item)
            self._groups.note(pod, True)
            self.columns.place(pod, node)
            self._happened(ClusterEvent.POD_ADDED)
            return
        row, before = known
        ending = item.meta.deletion_timestamp is not None
        same = before.labels == item.labels and before.terminating == ending
        if same and before.generation == item.meta.generation and self.columns.row(node) == row:
            return
        self._recount(before, PodInfo(item), node)

    def _recount(self, before: PodInfo, pod: PodInfo, node: str) -> None:
        """A placed pod changed: what others may gain by that is an event."""
        moved = self.columns.row(node) != self.columns.placed[pod.uid][0]
        self.columns.place(pod, node)
        if moved or before.requests != pod.requests or before.terminating != pod.terminating:
            self._happened(ClusterEvent.POD_REMOVED)
        if before.labels != pod.labels:
            self._happened(ClusterEvent.POD_LABELS)

    def _forget(self, uid: str) -> None:
        self.queue.remove(uid)
        self.nominated.pop(uid, None)
        self._groups.forget(uid)
        self._awaited.pop(uid, None)
        self._victim_gone(uid)
        if uid in self._provisioning:
            self._provisioning[uid].cancel()
        if self.columns.displace(uid):
            self._happened(ClusterEvent.POD_REMOVED)

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
