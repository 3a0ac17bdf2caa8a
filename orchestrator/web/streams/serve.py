"""Exec and attach from the request to the last byte. The agent's API calls `serve_remote_command`.

Once the connection is upgraded every problem is told as a `Status` on the error channel. A client that goes
away ends the pumps; the process is let go of, not killed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiohttp import web

from orchestrator.base.errors import OrchestratorError
from orchestrator.base.tasks import Supervisor
from orchestrator.web.streams import command_spdy, command_websocket
from orchestrator.web.streams.channels import Process, RemoteCommand, exit_status, internal_error
from orchestrator.web.streams.command_spdy import SpdyCommand
from orchestrator.web.streams.command_websocket import WebSocketCommand
from orchestrator.web.streams.handshake import Upgraded, refusal, upgrade
from orchestrator.web.streams.spdy import SpdySession
from orchestrator.web.streams.spdy_frames import SpdyError
from orchestrator.web.streams.websocket import WebSocket, WebSocketError
from orchestrator.web.upgrade import RawStream, TakenOver

log = structlog.get_logger(__name__)

LINGER_S = 5.0
"""How long a client may take to close after our end; closing first could cut off what is still on its way."""

OpenProcess = Callable[[], Awaitable[Process]]


async def serve_remote_command(
    request: web.BaseRequest,
    open_process: OpenProcess,
    *,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
    idle_timeout_s: float = 0.0,
) -> web.StreamResponse:
    """Upgrade, open the process and join the two until it ends or the client goes.

    `open_process` is called after the upgrade; what it raises becomes the final status. With a terminal there
    is no stderr. A connection on which nothing moves for `idle_timeout_s` is cut; 0 waits for ever. Returns what the
    handler must return.
    """
    if not (stdin or stdout or stderr):
        return refusal(400, "BadRequest", "you must specify at least 1 of stdin, stdout, stderr")
    upgraded = await upgrade(request, command_spdy.PROTOCOLS, command_websocket.PROTOCOLS)
    if not isinstance(upgraded, Upgraded):
        return upgraded
    tasks = Supervisor("remote-command")
    if idle_timeout_s:
        tasks.spawn("idle", cut_when_idle(upgraded.stream, idle_timeout_s))
    try:
        flags = {"stdin": stdin, "stdout": stdout, "stderr": stderr and not tty, "tty": tty}
        command, reader = await _command(upgraded, tasks, flags)
        status = await _attend(command, open_process, tasks, stdin=stdin)
        if status is not None:
            await command.finish(status)
            await asyncio.wait({reader}, timeout=LINGER_S)
    except ConnectionError as error:
        log.debug("remote command broke off", error=str(error))
    finally:
        await tasks.stop()
        upgraded.stream.close()
    return TakenOver()


async def _command(
    upgraded: Upgraded, tasks: Supervisor, flags: dict[str, bool]
) -> tuple[RemoteCommand, asyncio.Task[None]]:
    """The client's side, and the task that reads its connection."""
    if upgraded.transport == "spdy":
        session = SpdySession(upgraded.stream)
        reader = tasks.spawn("spdy", tolerant(session.run()))
        expected = command_spdy.expected_streams(upgraded.protocol, **flags)
        streams = await command_spdy.collect(session, expected)
        return SpdyCommand(session, streams, upgraded.protocol), reader
    command = WebSocketCommand(WebSocket(upgraded.stream), upgraded.protocol, **flags)
    reader = tasks.spawn("websocket", tolerant(command.run()))
    await command.greet()
    return command, reader


async def cut_when_idle(stream: RawStream, timeout_s: float) -> None:
    """Cut a connection on which nothing has moved for so long."""
    loop = asyncio.get_running_loop()
    while True:
        left_s = stream.active_s + timeout_s - loop.time()
        if left_s <= 0:
            break
        await asyncio.sleep(left_s)
    log.info("stream was idle for too long", timeout_s=timeout_s)
    stream.abort()


async def tolerant(run: Awaitable[None]) -> None:
    """A client that breaks its protocol is its own fault, not a failure of ours."""
    try:
        await run
    except (SpdyError, WebSocketError, ConnectionError) as error:
        log.info("client broke the stream protocol", error=str(error))


async def _attend(
    command: RemoteCommand, open_process: OpenProcess, tasks: Supervisor, *, stdin: bool
) -> dict[str, Any] | None:
    """The final status, or None when the client has gone first."""
    gone = tasks.spawn("gone", command.gone())
    work = tasks.spawn("process", _run(command, open_process, tasks, stdin=stdin))
    await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
    return work.result() if work.done() else None


async def _run(
    command: RemoteCommand, open_process: OpenProcess, tasks: Supervisor, *, stdin: bool
) -> dict[str, Any] | None:
    try:
        process = await open_process()
    except (OrchestratorError, TimeoutError, OSError) as error:
        return internal_error(str(error))
    try:
        if stdin:
            tasks.spawn("stdin", _pump_stdin(command, process))
        tasks.spawn("resize", _pump_resizes(command, process))
        return await _pump_output(command, process)
    except ConnectionError:
        return None
    finally:
        await process.close()


async def _pump_output(command: RemoteCommand, process: Process) -> dict[str, Any]:
    try:
        while (piece := await process.read()) is not None:
            if piece[0] == "stderr":
                await command.write_stderr(piece[1])
            else:
                await command.write_stdout(piece[1])
        return exit_status(await process.wait())
    except (OrchestratorError, TimeoutError) as error:
        return internal_error(str(error))


async def _pump_stdin(command: RemoteCommand, process: Process) -> None:
    while data := await command.stdin():
        await process.write(data)
    await process.close_stdin()


async def _pump_resizes(command: RemoteCommand, process: Process) -> None:
    async for width, height in command.resizes():
        try:
            await process.resize(width, height)
        except OrchestratorError as error:
            log.debug("terminal was not resized", error=str(error))
