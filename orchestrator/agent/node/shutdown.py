"""Graceful shutdown of the node: when the host is about to go down, pods are stopped first, the critical ones last.

1. systemd-logind is asked to delay a shutdown by the whole grace period. Without it, or without a period, nothing is
   done.
2. Once a shutdown is announced the node says that it is not ready, and takes no new pods.
3. Pods stop stage by stage, from low to high priorities: each gets its own grace period, at most that of its stage, and
   fails with the reason Terminated. A stage ends when its pods have, or with its time.
4. Then the shutdown may go on. One that is called off makes the node ready again.

Source of reasons and texts: a kubelet's node shutdown manager in Kubernetes v1.36. Owner: `Agent`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Protocol

import structlog

from orchestrator.agent import podspec
from orchestrator.agent.context import Recorder
from orchestrator.agent.node.logind import LogindFailure
from orchestrator.agent.node.reporter import NodeReporter
from orchestrator.agent.node.stages import Stage
from orchestrator.agent.pods.admitting import Rejection
from orchestrator.agent.pods.ending import Ending
from orchestrator.api.item import Object
from orchestrator.base.clock import Clock

log = structlog.get_logger(__name__)

REASON = "Terminated"
MESSAGE = "Pod was terminated in response to imminent node shutdown."
REFUSED = Rejection("NodeShutdown", "Pod was rejected as the node is shutting down.")
NOT_READY = "node is shutting down"
TELL_S = 2.0
LOOK_S = 0.1
RETRY_S = 30.0


class Holder(Protocol):
    """Who can delay a shutdown, such as `Logind`."""

    async def allow(self, duration_s: int) -> float: ...

    async def hold(self) -> None: ...

    async def release(self) -> None: ...

    def announcements(self) -> AsyncIterator[bool]: ...


class Worker(Protocol):
    """What is needed of a `PodWorker`."""

    pod: Object
    gone: bool

    def end(self, ending: Ending) -> None: ...


class Shutdown:
    """Whether the node is going down, and what is done about it."""

    def __init__(
        self,
        node: str,
        planned: Sequence[Stage],
        holder: Holder,
        reporter: NodeReporter,
        workers: Callable[[], Iterable[Worker]],
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        self._node = node
        self._stages = sorted(planned, key=lambda stage: stage.priority)
        self._holder = holder
        self._reporter = reporter
        self._workers = workers
        self._recorder = recorder
        self._clock = clock
        self._going = False

    def refuse(self, pod: Object) -> Rejection | None:
        """The node's admission (rule 2)."""
        return REFUSED if self._going else None

    async def run(self) -> None:
        """For ever: hold the lock, and act upon announcements."""
        while True:
            try:
                await self._follow()
            except LogindFailure as error:
                log.warning("a shutdown of the host would not wait for pods", error=str(error))
                await self._clock.sleep(RETRY_S)

    async def _follow(self) -> None:
        total_s = sum(stage.grace_s for stage in self._stages)
        allowed_s = await self._holder.allow(total_s)
        if allowed_s < total_s:
            log.warning("a shutdown waits less long for pods than it should", s=allowed_s, wanted_s=total_s)
        if not self._going:
            await self._holder.hold()
        stream = self._holder.announcements()
        try:
            async for going in stream:
                await (self._down() if going else self._back())
        finally:
            with contextlib.suppress(Exception):
                await stream.aclose()  # type: ignore[attr-defined]

    async def _down(self) -> None:
        if self._going:
            return
        self._going = True
        log.warning("the host is going down: pods are stopped", node=self._node)
        reference: Object = {"kind": "Node", "apiVersion": "v1", "metadata": {"name": self._node}}
        self._recorder.event(reference, "Normal", "Shutdown", "Shutdown manager detected shutdown event")
        try:
            await self._tell(NOT_READY)
            for stage, workers in grouped(self._workers(), self._stages):
                await self._stop(stage, workers)
        finally:
            await self._holder.release()

    async def _back(self) -> None:
        if self._going:
            log.warning("the host stays up: the node takes pods again", node=self._node)
            self._going = False
            await self._tell("")
            await self._holder.hold()

    async def _tell(self, problem: str) -> None:
        """Have the node say so now; a slow API is not waited for."""
        if problem:
            self._reporter.problems["shutdown"] = problem
        else:
            self._reporter.problems.pop("shutdown", None)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._reporter.report_now(), TELL_S)

    async def _stop(self, stage: Stage, workers: list[Worker]) -> None:
        """Rule 3 for one stage."""
        for worker in workers:
            grace_s = min(worker.pod["spec"].get("terminationGracePeriodSeconds", 30), stage.grace_s)
            worker.end(Ending(REASON, MESSAGE, grace_s, disruption=MESSAGE))
        end_s = self._clock.monotonic_s() + stage.grace_s
        while left := [worker for worker in workers if not _has_ended(worker)]:
            if self._clock.monotonic_s() >= end_s:
                log.warning("pods did not stop in time", pods=[w.pod["metadata"]["name"] for w in left][:20])
                return
            await self._clock.sleep(LOOK_S)


def _has_ended(worker: Worker) -> bool:
    return worker.gone or podspec.is_finished(worker.pod)


def grouped(workers: Iterable[Worker], planned: Sequence[Stage]) -> list[tuple[Stage, list[Worker]]]:
    """Pods by stage; below the lowest they go with it. `planned` is sorted; stages without pods are left out."""
    found: dict[Stage, list[Worker]] = {stage: [] for stage in planned}
    for worker in workers:
        priority = worker.pod["spec"].get("priority") or 0
        fitting = [stage for stage in planned if stage.priority <= priority] or planned[:1]
        found[fitting[-1]].append(worker)
    return [(stage, group) for stage, group in found.items() if group]
