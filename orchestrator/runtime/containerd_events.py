"""containerd's events as ours: one subscription, handed on to whoever listens. Owner: `ContainerdRuntime`.

An exit is told to `on_exit` as well, which keeps how the container ended. A listener that does not keep up, or a
broken subscription, ends the listener's stream; it then looks for itself and listens anew.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

import structlog

from orchestrator.base.clock import Clock
from orchestrator.runtime.containerd_api import ContainerdApi
from orchestrator.runtime.interface import RuntimeEvent, RuntimeFailure, RuntimeUnavailable

log = structlog.get_logger(__name__)

QUEUE_MAX = 4096
RETRY_S = (0.2, 5.0)
SOUND_AFTER_S = 10.0
"""A subscription that held for so long starts the pauses anew."""
KNOWN_MAX = 20_000

Kind = Literal["started", "exited", "removed", "oom"]
TOPICS: dict[str, tuple[Kind, str]] = {
    "/tasks/start": ("started", "TaskStart"),
    "/tasks/exit": ("exited", "TaskExit"),
    "/tasks/oom": ("oom", "TaskOOM"),
}


class Events:
    """The subscription and its listeners. `run` is served by the runtime's supervisor."""

    def __init__(self, api: ContainerdApi, clock: Clock, on_exit: Callable[[str], None]) -> None:
        self._api = api
        self._clock = clock
        self._on_exit = on_exit
        self._pods: dict[str, str] = {}
        self._listeners: set[asyncio.Queue[RuntimeEvent | None]] = set()

    def learn(self, container_id: str, pod_uid: str) -> None:
        """Events of this container are this pod's."""
        if len(self._pods) > KNOWN_MAX:
            self._pods.clear()
        self._pods[container_id] = pod_uid

    def forget(self, container_id: str) -> None:
        """It was removed; that is an event, once."""
        if container_id in self._pods:
            self.tell(container_id, "removed")
            self._pods.pop(container_id, None)

    def tell(self, container_id: str, kind: Kind) -> None:
        """Hand an event to all listeners."""
        event = RuntimeEvent(self._pods.get(container_id, ""), container_id, kind)
        for queue in list(self._listeners):
            if queue.full():
                self._listeners.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(event)

    async def listen(self) -> AsyncIterator[RuntimeEvent]:
        """From now on; raises `RuntimeUnavailable` when the subscription breaks."""
        queue: asyncio.Queue[RuntimeEvent | None] = asyncio.Queue(QUEUE_MAX)
        self._listeners.add(queue)
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._listeners.discard(queue)
        raise RuntimeUnavailable("containerd's event stream broke off")

    async def run(self, after_break: Callable[[], Any]) -> None:
        """Subscribe for good; `after_break` is awaited before each subscription but the first."""
        pause_s, broken = RETRY_S[0], False
        while True:
            since_s = self._clock.monotonic_s()
            try:
                await self._follow()
            except RuntimeFailure as error:
                if not broken:
                    log.warning("containerd's events broke off", error=str(error))
            broken = True
            if self._clock.monotonic_s() - since_s > SOUND_AFTER_S:
                pause_s, broken = RETRY_S[0], False
            for queue in list(self._listeners):
                self._listeners.discard(queue)
                if queue.full():
                    queue.get_nowait()
                queue.put_nowait(None)
            await self._clock.sleep(pause_s)
            pause_s = min(RETRY_S[1], pause_s * 2)
            try:
                await after_break()
            except RuntimeFailure:
                continue

    async def _follow(self) -> None:
        filters = [f'namespace=={self._api.namespace},topic=="{topic}"' for topic in TOPICS]
        request = {"filters": filters}
        async for envelope in self._api.answers(
            "events.v1.Events/Subscribe", "SubscribeRequest", request, "Envelope"
        ):
            self._take(envelope)

    def _take(self, envelope: dict[str, Any]) -> None:
        kind, message = TOPICS[envelope["topic"]]
        event = self._api.decode(message, envelope.get("event", {}).get("value", b""))
        container_id = event.get("container_id", "")
        if kind == "exited":
            if event.get("id") != container_id:
                return  # The end of an exec.
            self._on_exit(container_id)
        self.tell(container_id, kind)
