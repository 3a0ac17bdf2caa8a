"""Every task has a name, an owner and a supervisor; nothing else in the project calls `create_task`.

A `Supervisor` owns its tasks: it keeps them referenced, logs what escapes them, restarts the long-running
ones with back-off, and cancels all of them when stopped. A failing task never cancels its siblings.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from orchestrator.base.backoff import Backoff
from orchestrator.base.clock import Clock, SystemClock

log = structlog.get_logger(__name__)

STABLE_AFTER_S = 60.0
"""A service that ran this long before failing starts its back-off anew."""


class Supervisor:
    """Owner of named tasks. One per component; its name prefixes the names of its tasks."""

    def __init__(self, name: str, clock: Clock | None = None) -> None:
        self.name = name
        self._clock = clock or SystemClock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.failures: dict[str, int] = {}
        """Failures per task name since the start, for metrics."""

    def spawn(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` once. What escapes it is logged and counted, and can also be awaited by the caller."""
        task = asyncio.create_task(work, name=f"{self.name}/{name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def serve(self, name: str, run: Callable[[], Awaitable[None]]) -> asyncio.Task[Any]:
        """Run `run()` for as long as the supervisor lives: after an exception again, with back-off.

        Returning normally ends the service for good.
        """
        return self.spawn(name, self._keep_running(name, run))

    async def _keep_running(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        backoff = Backoff(0.1, 30.0, jitter=0.1)
        while True:
            started_s = self._clock.monotonic_s()
            try:
                await run()
                return
            except Exception:
                self.failures[name] = self.failures.get(name, 0) + 1
                if self._clock.monotonic_s() - started_s > STABLE_AFTER_S:
                    backoff.reset()
                delay_s = backoff.next_s()
                log.exception("task failed", task=f"{self.name}/{name}", restart_in_s=round(delay_s, 2))
                await self._clock.sleep(delay_s)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            name = task.get_name()
            self.failures[name] = self.failures.get(name, 0) + 1
            log.error("task failed", task=name, exc_info=error)

    async def stop(self) -> None:
        """Cancel every task and wait until all have ended. May be called twice."""
        own = asyncio.current_task()
        while tasks := [task for task in self._tasks if task is not own]:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def names(self) -> list[str]:
        """Names of the tasks that run now, sorted."""
        return sorted(task.get_name() for task in self._tasks)
