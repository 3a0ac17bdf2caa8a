"""The agent's API over HTTPS, with the kubelet's paths: logs, exec, attach, port-forward, pods, health.

Only the API server may call it: it shows a client certificate of the cluster's CA with the expected name. The
protocols of streams end here; the API server only relays their bytes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec
import structlog

from orchestrator.agent.agent import Agent
from orchestrator.agent.api import logs
from orchestrator.agent.pods.worker import PodWorker
from orchestrator.api.access import Identity
from orchestrator.api.errors import (
    ApiError,
    BadRequest,
    Forbidden,
    InternalError,
    NotFound,
    ServiceUnavailable,
    Unauthorized,
)
from orchestrator.base.clock import Clock
from orchestrator.runtime.interface import Container, Runtime, RuntimeFailure, Streams
from orchestrator.web.answer import JSON, TEXT, Answer, Request, Response
from orchestrator.web.listener import peer_certificate
from orchestrator.web.streaming import stream_to
from orchestrator.web.streams.portforward import serve_port_forward
from orchestrator.web.streams.serve import serve_remote_command

log = structlog.get_logger(__name__)

FORWARD_TIMEOUT_S = 10.0
Identify = Callable[[bytes], Identity]


@dataclass(frozen=True, slots=True)
class _Call:
    """One request: its path in parts and its query."""

    request: Request
    parts: Sequence[str]

    def flag(self, name: str) -> bool:
        return self.request.query.get(name, "") in ("1", "true")


class AgentApi:
    """Handles requests for one agent; until `serve` was called it answers 503."""

    def __init__(self, clock: Clock, identify: Identify, caller: str) -> None:
        """`caller` is the common name of the API server's client certificate."""
        self._clock = clock
        self._identify = identify
        self._caller = caller
        self._agent: Agent | None = None
        self._routes = {
            "containerLogs": (4, self._logs),
            "exec": (4, self._exec),
            "attach": (4, self._attach),
            "portForward": (3, self._port_forward),
            "pods": (1, self._pods),
        }

    def serve(self, agent: Agent) -> None:
        """Answer for `agent` from now on."""
        self._agent = agent

    async def handle(self, request: Request) -> Response:
        """Answer one request; every refusal is a `Status`."""
        try:
            if request.path == "/healthz":
                return Answer(200, b"ok", TEXT)
            self._authorize(request)
            parts = [part for part in request.path.split("/") if part]
            arity, handler = self._routes.get(parts[0] if parts else "", (0, None))
            if handler is None or len(parts) != arity:
                raise NotFound(f"the agent has no path {request.path}")
            return await handler(_Call(request, parts))
        except ApiError as error:
            return _refusal(error)
        except RuntimeFailure as error:
            return _refusal(InternalError(str(error)))

    def _authorize(self, request: Request) -> None:
        certificate = peer_certificate(request)
        if certificate is None:
            raise Unauthorized("Unauthorized")
        identity = self._identify(certificate)
        if identity.name != self._caller:
            raise Forbidden(f'User "{identity.name}" may not call the agent')

    def _running_agent(self) -> Agent:
        if self._agent is None or self._agent.manager is None:
            raise ServiceUnavailable("the agent is starting", retry_after_s=1)
        return self._agent

    def _worker(self, call: _Call) -> PodWorker:
        namespace, name = call.parts[1], call.parts[2]
        manager = self._running_agent().manager
        worker = manager.find(namespace, name) if manager is not None else None
        if worker is None:
            raise NotFound(f'pod "{namespace}/{name}" is not on this node')
        return worker

    def _running(self, call: _Call) -> tuple[Runtime, Container]:
        worker, name = self._worker(call), call.parts[3]
        container = worker.seen.newest(name)
        if container is None or container.state != "running":
            raise BadRequest(f"container {name} of pod {call.parts[2]} is not running")
        return self._running_agent().runtime, container

    async def _pods(self, call: _Call) -> Response:
        manager = self._running_agent().manager
        items = manager.pods() if manager is not None else []
        body = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}
        return Answer(200, msgspec.json.encode(body), JSON)

    async def _logs(self, call: _Call) -> Response:
        worker = self._worker(call)
        wanted = logs.parse(dict(call.request.query), self._clock.now_s())
        container = logs.choose(worker.seen, call.parts[3], call.parts[2], previous=wanted.previous)
        source = _Source(logs.read(self._running_agent().runtime, container, wanted))
        return await stream_to(call.request, 200, "text/plain", source)

    async def _exec(self, call: _Call) -> Response:
        runtime, container = self._running(call)
        command = call.request.query.getall("command", [])
        if not command:
            raise BadRequest("you must specify at least 1 command for the container")
        stdin, tty = call.flag("input"), call.flag("tty")

        async def start() -> Streams:
            return await runtime.exec(container.id, command, stdin=stdin, tty=tty)

        return await self._remote_command(call, start)

    async def _attach(self, call: _Call) -> Response:
        runtime, container = self._running(call)
        stdin, tty = call.flag("input"), call.flag("tty")

        async def start() -> Streams:
            return await runtime.attach(container.id, stdin=stdin, tty=tty)

        return await self._remote_command(call, start)

    async def _remote_command(self, call: _Call, start: Callable[[], Awaitable[Streams]]) -> Response:
        return await serve_remote_command(
            call.request,
            start,
            stdin=call.flag("input"),
            stdout=call.flag("output"),
            stderr=call.flag("error"),
            tty=call.flag("tty"),
        )

    async def _port_forward(self, call: _Call) -> Response:
        worker = self._worker(call)
        address = worker.pod_ip
        if not address:
            raise BadRequest(f"pod {call.parts[2]} has no address yet")

        async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            async with asyncio.timeout(FORWARD_TIMEOUT_S):
                return await asyncio.open_connection(address, port)

        return await serve_port_forward(call.request, connect)


class _Source:
    """An iterator of bytes in the shape that `stream_to` takes."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    def iter_any(self) -> AsyncIterator[bytes]:
        return self._chunks


def _refusal(error: ApiError) -> Answer:
    return Answer(error.code, msgspec.json.encode(error.status()), JSON)
