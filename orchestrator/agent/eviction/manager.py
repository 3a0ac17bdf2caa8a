"""Looks at what is left of the node every ten seconds, or when the kernel warns; reclaims, then evicts one pod.

Rules:
1. Pods beyond their own limits of local storage go first, whatever the node has left.
2. Of the thresholds that act, the first in order is worked on: dead containers and unused images go before any pod,
   where the resource is a disk's. If that is enough, no pod goes.
3. At most one pod goes per look, critical ones never. Under a hard threshold its containers get no time, under a soft
   one what the settings allow. The next look is after it has ended, or after 30 s.
4. While a pressure shows, new pods are refused: under memory pressure alone only BestEffort ones that don't tolerate
   it, else all but critical ones.
Watches: the host, `stats`. Writes: nothing but endings of pods and events. Owner of the node's pressures.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

import structlog

from orchestrator.agent import podspec
from orchestrator.agent.eviction import plan, ranking
from orchestrator.agent.eviction.observe import Observations
from orchestrator.agent.eviction.plan import State
from orchestrator.agent.eviction.thresholds import RESOURCES, Observation, Threshold
from orchestrator.agent.pods.admitting import Rejection
from orchestrator.agent.pods.ending import Ending
from orchestrator.agent.settings import EvictionSettings
from orchestrator.agent.stats.usage import PodUsage, Snapshot
from orchestrator.api.item import Object
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime.interface import RuntimeFailure
from orchestrator.scheduler.rules.tolerations import untolerated

log = structlog.get_logger(__name__)

LOOK_S = 10.0
ALARM_S = 1.0
"""Shortest time between two looks that the kernel asked for."""
CLEANUP_S = 30.0
CLEANUP_LOOK_S = 1.0
EVICTED = "Evicted"
_MEMORY_TAINT = {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}


class Observer(Protocol):
    """What is left of the node."""

    own_image_disk: bool

    async def look(self) -> Observations: ...


class Worked(Protocol):
    """A pod of the node: its worker."""

    pod: Object

    @property
    def ending(self) -> bool: ...

    def end(self, ending: Ending) -> None: ...


class Node(Protocol):
    """What the manager needs of the rest of the agent."""

    def workers(self) -> Sequence[Worked]: ...

    async def usage(self) -> Snapshot:
        """What pods use, disks included. Raises `RuntimeFailure`."""

    async def reclaim(self) -> None:
        """Remove dead containers and unused images. Raises `RuntimeFailure`."""

    def event(self, about: Object | None, reason: str, message: str) -> None:
        """A warning about a pod, or about the node."""


class EvictionManager:
    """Keeps one node alive. `pressures` is what its status shows; `changed` is called when that changes."""

    def __init__(
        self,
        settings: EvictionSettings,
        observer: Observer,
        node: Node,
        changed: Callable[[], Awaitable[None]],
        clock: Clock,
        supervisor: Supervisor,
    ) -> None:
        self._settings = settings
        self._observer = observer
        self._node = node
        self._changed = changed
        self._clock = clock
        self._supervisor = supervisor
        self._state = State()
        self._alarm = asyncio.Event()

    def pressures(self) -> frozenset[str]:
        """The node's conditions that hold."""
        return self._state.pressures

    def ring(self) -> None:
        """The kernel warns: look now."""
        self._alarm.set()

    def refuse(self, pod: Object) -> Rejection | None:
        """Why a new pod is not taken while the node is under pressure."""
        shown = self._state.pressures
        if not shown or ranking.is_critical(pod):
            return None
        if shown == {"MemoryPressure"}:
            if podspec.qos_class(pod) != "BestEffort":
                return None
            if untolerated([_MEMORY_TAINT], pod["spec"].get("tolerations") or (), ("NoSchedule",)) is None:
                return None
        return Rejection(EVICTED, f"The node had condition: [{' '.join(sorted(shown))}]. ")

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                evicted = await self.look()
            except (RuntimeFailure, OSError, TimeoutError) as error:
                log.warning("the node's resources were not looked at", error=str(error))
                evicted = []
            if evicted:
                await self._cleaned_up(evicted)
            else:
                await self._rest()

    async def _rest(self) -> None:
        alarm = self._supervisor.spawn("eviction timer", self._clock.sleep(LOOK_S))
        alarm.add_done_callback(lambda _: self._alarm.set())
        await self._clock.sleep(ALARM_S)
        try:
            await self._alarm.wait()
        finally:
            alarm.cancel()
            self._alarm.clear()

    async def _cleaned_up(self, evicted: list[Worked]) -> None:
        """Until what was evicted has ended, or for as long as that may take."""
        until_s = self._clock.monotonic_s() + CLEANUP_S
        while self._clock.monotonic_s() < until_s:
            await self._clock.sleep(CLEANUP_LOOK_S)
            there = {id(worker) for worker in self._node.workers()}
            if not any(id(each) in there and not podspec.is_finished(each.pod) for each in evicted):
                return

    async def look(self) -> list[Worked]:
        """One look with what follows from it; returns the pods that were told to end."""
        seen, before = await self._observer.look(), self._state.pressures
        self._state = plan.advance(
            self._state,
            self._settings.thresholds,
            seen,
            self._clock.monotonic_s(),
            self._settings.transition_s,
        )
        if self._state.pressures != before:
            log.warning("the node's pressures changed", pressures=sorted(self._state.pressures))
            await self._changed()
        if beyond := await self._evict_beyond_limits():
            return beyond
        return await self._reclaim(self._state.acting[0], seen) if self._state.acting else []

    # Local storage

    async def _evict_beyond_limits(self) -> list[Worked]:
        """Measures only where a pod has a limit."""
        if not any(ranking.has_storage_limits(worker.pod) for worker in self._active()):
            return []
        evicted = []
        for worker, usage in self._paired((await self._node.usage()).pods):
            text = ranking.over_its_limits(usage, own_image_disk=self._observer.own_image_disk)
            if text and self._evict(worker, Ending(EVICTED, text, 1)):
                evicted.append(worker)
        return evicted

    # The node's own resources

    async def _reclaim(self, threshold: Threshold, seen: Observations) -> list[Worked]:
        resource = RESOURCES[threshold.signal]
        self._node.event(None, "EvictionThresholdMet", f"Attempting to reclaim {resource}")
        if self._is_disk(threshold) and await self._free_disk(threshold):
            return []
        ranked = ranking.rank(threshold.signal, (await self._node.usage()).pods)
        for worker, usage in self._paired(ranked):
            text = ranking.message(threshold, seen, usage)
            grace_s = 1 if threshold.hard else self._settings.grace_max_s
            if self._evict(worker, Ending(EVICTED, text, grace_s, text)):
                return [worker]
        log.error("nothing can be evicted", resource=resource)
        return []

    def _is_disk(self, threshold: Threshold) -> bool:
        """Whether removing images and dead containers can help: they lie on the images' disk."""
        if threshold.signal.startswith("imagefs"):
            return True
        return threshold.signal.startswith("nodefs") and not self._observer.own_image_disk

    async def _free_disk(self, threshold: Threshold) -> bool:
        """Whether reclaiming on the node alone was enough."""
        try:
            await self._node.reclaim()
        except RuntimeFailure as error:
            log.warning("images and dead containers were not removed", error=str(error))
        seen: dict[str, Observation] = await self._observer.look()
        mine = [each for each in self._settings.thresholds if each.signal == threshold.signal]
        return not plan.still_low(mine, seen)

    # Pods

    def _active(self) -> list[Worked]:
        return [
            worker
            for worker in self._node.workers()
            if not worker.ending
            and not podspec.is_finished(worker.pod)
            and not podspec.is_deleting(worker.pod)
        ]

    def _paired(self, usages: Iterable[PodUsage]) -> Iterable[tuple[Worked, PodUsage]]:
        """Usages of pods that are there to be evicted, in the order given."""
        active = {worker.pod["metadata"]["uid"]: worker for worker in self._active()}
        return [(active[usage.uid], usage) for usage in usages if usage.uid in active]

    def _evict(self, worker: Worked, ending: Ending) -> bool:
        if ranking.is_critical(worker.pod):
            return False
        metadata = worker.pod["metadata"]
        log.warning("evicting", pod=metadata["name"], namespace=metadata["namespace"], why=ending.message)
        self._node.event(worker.pod, EVICTED, ending.message)
        worker.end(ending)
        return True
