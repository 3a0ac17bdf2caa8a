"""Bindings in batches: what was decided since the last write goes out in one.

One task binds, so the log is synced once per batch; while it waits for the disk the next batch gathers. Each binding
succeeds or fails by itself. Owner: the scheduler; at most `PENDING_MAX` decisions are assumed and not yet bound.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from orchestrator.api.errors import ApiError, Timeout
from orchestrator.api.item import Object
from orchestrator.api.resources import PODS
from orchestrator.client.interface import Client
from orchestrator.scheduler.queue import Waiting

log = structlog.get_logger(__name__)

BATCH_MAX = 128
PENDING_MAX = 512
TIMEOUT_S = 30.0


class BindsMany(Protocol):
    """What a client in the server's own process can do besides."""

    async def bind_many(self, bindings: list[Object]) -> list[ApiError | None]:
        """Create each binding; what went wrong with it, or None. Raises what concerns all."""


@dataclass(frozen=True, slots=True)
class Assumed:
    """A pod that was counted on a node and is to be bound there."""

    waiting: Waiting
    node: str

    @property
    def binding(self) -> Object:
        pod = self.waiting.pod
        return {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": self.node},
        }


Done = Callable[[Assumed, Exception | None], None]


class Binder:
    """Binds what `add` was given; tells `done` of each, with the error or None."""

    def __init__(self, client: Client, done: Done) -> None:
        self._client = client
        self._done = done
        self._pending: list[Assumed] = []
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._under_way = 0

    def __len__(self) -> int:
        """Decisions that are not yet bound."""
        return len(self._pending) + self._under_way

    def add(self, assumed: Assumed) -> None:
        self._pending.append(assumed)
        self._wake.set()

    async def room(self) -> None:
        """Wait until another decision may be assumed."""
        while len(self) >= PENDING_MAX:
            self._room.clear()
            await self._room.wait()

    async def run(self) -> None:
        """Bind until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                batch, self._pending = self._pending[:BATCH_MAX], self._pending[BATCH_MAX:]
                self._under_way = len(batch)
                try:
                    errors = await self._bind(batch)
                finally:
                    self._under_way = 0
                for assumed, error in zip(batch, errors, strict=True):
                    self._done(assumed, error)
                self._room.set()

    async def _bind(self, batch: list[Assumed]) -> list[Exception | None]:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                many = getattr(self._client, "bind_many", None)
                if many is not None:
                    return list(await many([assumed.binding for assumed in batch]))
                return await asyncio.gather(*(self._bind_one(assumed) for assumed in batch))
        except (ApiError, OSError, TimeoutError) as error:
            log.debug("bindings failed", count=len(batch), error=str(error))
            wrapped = Timeout("binding timed out") if isinstance(error, TimeoutError) else error
            return [wrapped] * len(batch)

    async def _bind_one(self, assumed: Assumed) -> Exception | None:
        """Through a client that has no batches."""
        pod = assumed.waiting.pod
        try:
            await self._client.create(
                PODS, assumed.binding, pod.namespace, subresource="binding", name=pod.name
            )
        except (ApiError, OSError) as error:
            return error
        return None
