"""What a controller is, and the runner that drives one with bounded workers.

A controller's `setup` wires informer handlers that add keys; `reconcile` reads state and decides. A failing
key is retried with back-off (5 ms doubling to 1000 s, as client-go), logged, and counted in metrics;
`Conflict` means the cache lags behind and is retried quietly. One failing key never stops another.
"""

import asyncio
from typing import Protocol

import structlog

from orchestrator.api.errors import ApiError, Conflict
from orchestrator.api.resources import Resource
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.informer import metrics
from orchestrator.informer.cache import Informers
from orchestrator.informer.queue import WorkQueue

log = structlog.get_logger(__name__)


class Controller(Protocol):
    """One control loop. `watches` and `writes` declare the graph of controllers."""

    @property
    def name(self) -> str:
        """Such as `deployment`: names its queue, tasks and metrics."""

    @property
    def watches(self) -> tuple[Resource, ...]: ...

    @property
    def writes(self) -> tuple[Resource, ...]: ...

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        """Take the informers it reads and wire handlers that add keys. Called once, before the start."""

    async def reconcile(self, key: str) -> float | None:
        """Bring `key` nearer to what is desired. Returns seconds until it wants to look again, or None."""


class Runner:
    """Drives one controller. Owner of its queue; its tasks belong to the supervisor that is handed in."""

    def __init__(
        self,
        controller: Controller,
        informers: Informers,
        supervisor: Supervisor,
        clock: Clock,
        *,
        workers: int = 4,
    ) -> None:
        self.controller = controller
        self.queue = WorkQueue(controller.name, supervisor, clock)
        self._informers = informers
        self._supervisor = supervisor
        self._workers = workers
        self._errors = metrics.RECONCILE_ERRORS.labels(controller.name)
        self._clock = clock
        controller.setup(informers, self.queue)

    def start(self) -> None:
        """Start the workers; they wait until every informer has its first list."""
        for number in range(self._workers):
            self._supervisor.serve(f"{self.controller.name}-{number}", self._work)

    async def _work(self) -> None:
        await self._informers.synced()
        while True:
            key = await self.queue.take()
            try:
                with structlog.contextvars.bound_contextvars(controller=self.controller.name, key=key):
                    await self._reconcile(key)
            finally:
                self.queue.done(key)
            # Neither taking a waiting key nor a local read suspends: without this a long queue holds the loop.
            await asyncio.sleep(0)

    async def _reconcile(self, key: str) -> None:
        try:
            again_s = await self.controller.reconcile(key)
        except Conflict as error:
            log.debug("conflict, retrying", error=error.message)
            self._failed(key, error.reason)
        except ApiError as error:
            log.warning("reconcile failed", reason=error.reason, error=error.message)
            self._failed(key, error.reason)
        except Exception as error:
            log.exception("reconcile failed")
            self._failed(key, type(error).__name__)
        else:
            self.queue.forget(key)
            if again_s is not None:
                self.queue.add_after(key, again_s)

    def _failed(self, key: str, reason: str) -> None:
        metrics.note_error(self.controller.name, reason, self._clock.now_s())
        self._errors.inc()
        self.queue.retry(key)
