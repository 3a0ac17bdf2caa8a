"""exec, attach, port-forward and run: from the path to the engine's streams. Called by `routes`."""

import asyncio
from collections.abc import Awaitable, Callable

from orchestrator.agent import podspec
from orchestrator.agent.api.call import Call
from orchestrator.api.errors import BadRequest, InternalError, NotFound
from orchestrator.runtime.interface import Container, Streams
from orchestrator.web.answer import TEXT, Answer, Response
from orchestrator.web.streams.portforward import serve_port_forward
from orchestrator.web.streams.serve import serve_remote_command

FORWARD_TIMEOUT_S = 10.0
RUN_TIMEOUT_S = 120.0
IDLE_TIMEOUT_S = 4 * 3600.0
"""A stream on which nothing moved for so long is cut, as `--streaming-connection-idle-timeout` says."""


class RemoteStreams:
    """Handlers; they keep nothing."""

    async def exec(self, call: Call) -> Response:
        container, runtime = _running(call), call.agent.runtime
        command = call.request.query.getall("command", [])
        if not command:
            raise BadRequest("you must specify at least 1 command for the container")
        stdin, tty = call.flag("input"), call.flag("tty")

        async def start() -> Streams:
            return await runtime.exec(container.id, command, stdin=stdin, tty=tty)

        return await self._remote_command(call, start)

    async def attach(self, call: Call) -> Response:
        container, runtime = _running(call), call.agent.runtime
        stdin, tty = call.flag("input"), call.flag("tty")

        async def start() -> Streams:
            return await runtime.attach(container.id, stdin=stdin, tty=tty)

        return await self._remote_command(call, start)

    async def _remote_command(self, call: Call, start: Callable[[], Awaitable[Streams]]) -> Response:
        return await serve_remote_command(
            call.request,
            start,
            stdin=call.flag("input"),
            stdout=call.flag("output"),
            stderr=call.flag("error"),
            tty=call.flag("tty"),
            idle_timeout_s=IDLE_TIMEOUT_S,
        )

    async def port_forward(self, call: Call) -> Response:
        worker = call.worker()
        address = "127.0.0.1" if podspec.is_host_network(worker.pod) else worker.pod_ip
        if not address:
            raise BadRequest(f"pod {call.parts[2]} has no address yet")

        async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            async with asyncio.timeout(FORWARD_TIMEOUT_S):
                return await asyncio.open_connection(address, port)

        return await serve_port_forward(call.request, connect, idle_timeout_s=IDLE_TIMEOUT_S)

    async def run(self, call: Call) -> Response:
        """Output of a command without streams; its failure is an error of the server, as a kubelet's."""
        container = _running(call)
        command = call.request.query.get("cmd", "").split(" ")
        try:
            code, output = await call.agent.runtime.exec_sync(container.id, command, RUN_TIMEOUT_S)
        except TimeoutError as error:
            raise InternalError(str(error)) from error
        if code:
            text = output.decode(errors="replace")
            raise InternalError(f"command '{' '.join(command)}' exited with {code}: {text}")
        return Answer(200, output, TEXT)

    async def checkpoint(self, call: Call) -> Response:
        """Neither engine is asked to: a kubelet says the same of a runtime that can't."""
        worker, (_, namespace, pod, name) = call.worker(), call.parts
        if worker.seen.newest(name) is None:
            raise NotFound(f"container {name} does not exist")
        where = f"{namespace}/{pod}/{name}"
        raise InternalError(f"checkpointing of {where} failed (the runtime does not support checkpointing)")


def _running(call: Call) -> Container:
    worker, name = call.worker(), call.parts[-1]
    if len(call.parts) == 5 and call.parts[3] != worker.uid:
        raise NotFound(f'pod "{call.parts[2]}" does not exist')
    if podspec.find_container(worker.pod, name) is None:
        raise NotFound(f'container not found ("{name}")')
    container = worker.seen.newest(name)
    if container is None or container.state != "running":
        raise BadRequest(f"container {name} of pod {call.parts[2]} is not running")
    return container
