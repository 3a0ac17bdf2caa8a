"""The agent's API over HTTPS, with the kubelet's paths: logs, streams, pods, health, figures.

A caller shows a certificate of the cluster's CA or a bearer token and needs permission on `nodes/<what>` (see
`access`). Refusals are plain text, as a kubelet's: the API server makes a `Status` of them. The protocols of streams
end here; the API server only relays their bytes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from orchestrator.agent.agent import Agent
from orchestrator.agent.api import facts, figures, logs, nodelogs
from orchestrator.agent.api.access import Gate
from orchestrator.agent.api.call import Call
from orchestrator.agent.api.streams import RemoteStreams
from orchestrator.api.access import Credentials
from orchestrator.api.errors import ApiError, MethodNotAllowed, NotFound, ServiceUnavailable
from orchestrator.base.clock import Clock
from orchestrator.runtime.interface import RuntimeFailure
from orchestrator.web.answer import TEXT, Answer, Request, Response
from orchestrator.web.listener import peer_certificate
from orchestrator.web.streaming import stream_to

Handler = Callable[[Call], Awaitable[Response]]
_READ = ("GET", "HEAD")
_STREAM = ("GET", "POST")


class AgentApi:
    """Handles requests for one agent; until `serve` was called it answers 503."""

    def __init__(self, clock: Clock, gate: Gate, node_logs: Path | None = None) -> None:
        """`node_logs` is the directory that `/logs/` shows; None switches that off."""
        self._clock = clock
        self._gate = gate
        self._node_logs = node_logs
        self._agent: Agent | None = None
        streams = RemoteStreams()
        self._routes: dict[str, tuple[tuple[int, ...], tuple[str, ...], Handler]] = {
            "containerLogs": ((4,), _READ, self._logs),
            "exec": ((4, 5), _STREAM, streams.exec),
            "attach": ((4, 5), _STREAM, streams.attach),
            "portForward": ((3, 4), _STREAM, streams.port_forward),
            "run": ((4, 5), ("POST",), streams.run),
            "checkpoint": ((4,), ("POST",), streams.checkpoint),
            "pods": ((1,), _READ, facts.pods),
            "runningpods": ((1,), _READ, facts.running_pods),
            "healthz": ((1, 2), _READ, facts.health),
            "configz": ((1,), _READ, facts.config),
            "stats": ((2,), _READ, figures.summary),
            "metrics": ((1, 2), _READ, figures.metrics),
            "logs": (tuple(range(1, 64)), _READ, self._file),
        }

    def serve(self, agent: Agent) -> None:
        """Answer for `agent` from now on."""
        self._agent = agent

    async def handle(self, request: Request) -> Response:
        """Answer one request."""
        try:
            await self._gate.admit(_credentials(request), request.method, request.path)
            parts = tuple(part for part in request.path.split("/") if part)
            arity, methods, handler = self._routes.get(parts[0] if parts else "", ((), (), None))
            if handler is None or len(parts) not in arity:
                raise NotFound("404 page not found")
            if request.method not in methods:
                raise MethodNotAllowed("405: Method Not Allowed")
            return await handler(Call(request, parts, self._running_agent()))
        except ApiError as error:
            return Answer(error.code, error.message.encode(), TEXT)
        except RuntimeFailure as error:
            return Answer(500, str(error).encode(), TEXT)

    def _running_agent(self) -> Agent:
        if self._agent is None or self._agent.manager is None:
            raise ServiceUnavailable("the agent is starting", retry_after_s=1)
        return self._agent

    async def _logs(self, call: Call) -> Response:
        wanted = logs.parse(dict(call.request.query), self._clock.now_s())
        worker = call.worker()
        container = logs.choose(worker, call.parts[3], previous=wanted.previous)
        source = _Source(logs.read(call.agent.runtime, container, wanted))
        return await stream_to(call.request, 200, "text/plain", source)

    async def _file(self, call: Call) -> Response:
        if self._node_logs is None:
            raise MethodNotAllowed("logs endpoint is disabled.")
        found = await asyncio.to_thread(nodelogs.look, self._node_logs, call.parts[1:])
        if isinstance(found, bytes):
            return Answer(200, found, nodelogs.HTML)
        return await stream_to(call.request, 200, "text/plain; charset=utf-8", _Source(nodelogs.read(found)))


class _Source:
    """An iterator of bytes in the shape that `stream_to` takes."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    def iter_any(self) -> AsyncIterator[bytes]:
        return self._chunks


def _credentials(request: Request) -> Credentials:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    return Credentials(peer_certificate(request), bearer)
