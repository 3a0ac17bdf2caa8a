"""Port-forward from the request to the last byte. The agent's API calls `serve_port_forward`.

Over SPDY (or SPDY in a WebSocket) each forwarded connection is a pair of streams with the same `requestid`
header: `error`, on which we may say what went wrong, and `data`. Over a plain WebSocket the ports stand in the
request and each has two channels. When the pod's side ends, both streams end: old clients wait for that before
they close theirs.
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
from aiohttp import web

from orchestrator.base.errors import OrchestratorError
from orchestrator.base.tasks import Supervisor
from orchestrator.web.streams.channels import Duplex, Inbox
from orchestrator.web.streams.command_websocket import Channels
from orchestrator.web.streams.handshake import Upgraded, refusal, upgrade
from orchestrator.web.streams.serve import LINGER_S, cut_when_idle, tolerant
from orchestrator.web.streams.spdy import SpdySession, SpdyStream
from orchestrator.web.streams.websocket import WebSocket
from orchestrator.web.upgrade import TakenOver

log = structlog.get_logger(__name__)

SPDY_PROTOCOL = "portforward.k8s.io"
TUNNEL_PROTOCOL = "SPDY/3.1+portforward.k8s.io"
WEBSOCKET_PROTOCOLS = (TUNNEL_PROTOCOL, "v4.channel.k8s.io", "v4.base64.channel.k8s.io")
PAIR_TIMEOUT_S = 30.0
PORTS_MAX = 64
READ_BYTES = 32_768

Connect = Callable[[int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Side(Protocol):
    """The client's side of one forwarded connection."""

    async def read(self) -> bytes: ...

    async def write(self, data: bytes) -> None: ...

    async def fail(self, message: str) -> None: ...

    async def end(self) -> None: ...


async def serve_port_forward(
    request: web.BaseRequest, connect: Connect, *, idle_timeout_s: float = 0.0
) -> web.StreamResponse:
    """Upgrade and forward until the client goes. `connect(port)` opens a connection into the pod.

    What `connect` raises (`OSError`, `OrchestratorError`, `TimeoutError`) is told to the client for that one
    connection. One on which nothing moves for `idle_timeout_s` is cut; 0 waits for ever. Returns what the handler
    must return.
    """
    ports = requested_ports(request)
    if isinstance(ports, str):
        return refusal(400, "BadRequest", ports)
    upgraded = await upgrade(request, (SPDY_PROTOCOL,), WEBSOCKET_PROTOCOLS)
    if not isinstance(upgraded, Upgraded):
        return upgraded
    tasks = Supervisor("port-forward")
    if idle_timeout_s:
        tasks.spawn("idle", cut_when_idle(upgraded.stream, idle_timeout_s))
    try:
        if upgraded.transport == "spdy":
            await _serve_spdy(upgraded.stream, connect, tasks)
        elif upgraded.protocol == TUNNEL_PROTOCOL:
            await _serve_spdy(Tunnel(WebSocket(upgraded.stream)), connect, tasks)
        else:
            channels = Channels(WebSocket(upgraded.stream), upgraded.protocol)
            await tolerant(_serve_channels(channels, ports, connect, tasks))
    finally:
        await tasks.stop()
        upgraded.stream.close()
    return TakenOver()


def requested_ports(request: web.BaseRequest) -> list[int] | str:
    """The ports in the query (`ports=80&ports=443` or `80,443`), or what is wrong with them."""
    values = [*request.query.getall("ports", []), *request.query.getall("port", [])]
    ports = []
    for text in (part.strip() for value in values for part in value.split(",")):
        if not text.isdecimal() or not 0 < int(text) < 65_536:
            return f"invalid port {text!r}: must be 1 to 65535"
        ports.append(int(text))
    if len(ports) > PORTS_MAX:
        return f"{len(ports)} ports; at most {PORTS_MAX}"
    return ports


class Tunnel:
    """A WebSocket's binary messages as the byte stream that SPDY wants."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._pending: list[bytes] = []

    async def read(self, n: int = 65536) -> bytes:
        """The next message that isn't empty, whole; `b""` at the end."""
        while (message := await self._socket.receive()) is not None:
            if message[1]:
                return message[1]
        return b""

    def write(self, data: bytes) -> None:
        self._pending.append(data)

    async def drain(self) -> None:
        data, self._pending = b"".join(self._pending), []
        await self._socket.send(data)

    def write_eof(self) -> None:
        """A WebSocket has no half-close."""

    def close(self) -> None:
        """Its owner closes the connection below."""


@dataclass(slots=True)
class _Pair:
    """The two streams of a forwarded connection, as far as they have come."""

    data: SpdyStream | None = None
    error: SpdyStream | None = None
    alarm: asyncio.Task[None] | None = None


class SpdySide:
    """`Side` on a pair of SPDY streams."""

    def __init__(self, data: SpdyStream, error: SpdyStream) -> None:
        self._data = data
        self._error = error

    async def read(self) -> bytes:
        return await self._data.read()

    async def write(self, data: bytes) -> None:
        await self._data.write(data)

    async def fail(self, message: str) -> None:
        await self._error.write(message.encode())

    async def end(self) -> None:
        await self._data.end()
        await self._error.end()


async def _serve_spdy(connection: Duplex, connect: Connect, tasks: Supervisor) -> None:
    session = SpdySession(connection)
    reader = tasks.spawn("spdy", tolerant(session.run()))
    waiting: dict[str, _Pair] = {}
    while (stream := await session.accept()) is not None:
        problem = await _pair(stream, waiting, connect, tasks)
        if problem:
            log.info("port-forward stream refused", problem=problem)
            await tolerant(stream.reset())
    await asyncio.wait({reader}, timeout=LINGER_S)


async def _pair(stream: SpdyStream, waiting: dict[str, _Pair], connect: Connect, tasks: Supervisor) -> str:
    """Keep the stream until its partner is here too, then forward. Returns what is wrong with it."""
    kind, port_text = stream.headers.get("streamtype", ""), stream.headers.get("port", "")
    if kind not in ("data", "error"):
        return f"streamtype {kind!r} is neither data nor error"
    if not port_text.isdecimal() or not 0 < int(port_text) < 65_536:
        return f"port {port_text!r} is no port"
    key = request_id(stream, kind)
    pair = waiting.setdefault(key, _Pair())
    if getattr(pair, kind) is not None:
        return f"request {key} has a {kind} stream already"
    setattr(pair, kind, stream)
    if pair.data is None or pair.error is None:
        pair.alarm = tasks.spawn(f"pair/{key}", _give_up(key, waiting, pair))
        return ""
    del waiting[key]
    if pair.alarm is not None:
        pair.alarm.cancel()
    tasks.spawn(f"forward/{key}", forward(SpdySide(pair.data, pair.error), int(port_text), connect))
    return ""


def request_id(stream: SpdyStream, kind: str) -> str:
    """Clients before 1.2 send none: they open the error stream and right after it the data stream."""
    fallback = stream.id if kind == "error" else stream.id - 2
    return stream.headers.get("requestid") or f"stream-{fallback}"


async def _give_up(key: str, waiting: dict[str, _Pair], pair: _Pair) -> None:
    await asyncio.sleep(PAIR_TIMEOUT_S)
    if waiting.get(key) is pair:
        del waiting[key]
        for stream in (pair.data, pair.error):
            if stream is not None:
                await tolerant(stream.reset())


async def forward(side: Side, port: int, connect: Connect) -> None:
    """One connection: both directions until the pod's side ends or the client breaks off."""
    try:
        try:
            reader, writer = await connect(port)
        except (OrchestratorError, OSError, TimeoutError) as error:
            await side.fail(f"error forwarding port {port}: {error or type(error).__name__}")
            await side.end()
            return
        tasks = Supervisor(f"forward-{port}")
        try:
            tasks.spawn("to-pod", _to_pod(side, writer))
            await _to_client(reader, side)
            await side.end()
        finally:
            await tasks.stop()
            writer.close()
    except ConnectionError as error:
        log.debug("forwarded connection broke off", port=port, error=str(error))


async def _to_client(reader: asyncio.StreamReader, side: Side) -> None:
    try:
        while data := await reader.read(READ_BYTES):
            await side.write(data)
    except ConnectionResetError as error:
        # Either side may have done it; the client, if it is still there, learns of the pod's.
        await side.fail(f"connection reset: {error}")


async def _to_pod(side: Side, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await side.read():
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError as error:
        log.debug("the pod's side broke off", error=str(error))


class ChannelSide:
    """`Side` on two channels of a WebSocket: `2n` carries data, `2n + 1` errors."""

    def __init__(self, channels: Channels, index: int) -> None:
        self.inbox = Inbox()
        self._channels = channels
        self._data = 2 * index

    async def announce(self, port: int) -> None:
        """Each channel begins with its port, as two bytes with the low one first."""
        for channel in (self._data, self._data + 1):
            await self._channels.send(channel, struct.pack("<H", port))

    async def read(self) -> bytes:
        return await self.inbox.read()

    async def write(self, data: bytes) -> None:
        await self._channels.send(self._data, data)

    async def fail(self, message: str) -> None:
        await self._channels.send(self._data + 1, message.encode())

    async def end(self) -> None:
        """These protocols can't end one channel; the connection ends when all have."""


async def _serve_channels(channels: Channels, ports: list[int], connect: Connect, tasks: Supervisor) -> None:
    sides = [ChannelSide(channels, index) for index in range(len(ports))]
    work = []
    for side, port in zip(sides, ports, strict=True):
        await side.announce(port)
        work.append(tasks.spawn(f"forward/{port}", forward(side, port, connect)))
    receiving = tasks.spawn("receive", tolerant(_receive(channels, sides)))
    all_done = tasks.spawn("all", _all(work))
    await asyncio.wait({receiving, all_done}, return_when=asyncio.FIRST_COMPLETED)
    await channels.close()


async def _all(work: list[asyncio.Task[None]]) -> None:
    if work:
        await asyncio.wait(work)


async def _receive(channels: Channels, sides: list[ChannelSide]) -> None:
    try:
        while (message := await channels.receive()) is not None:
            channel, data = message
            if channel % 2 == 0 and 0 <= channel < 2 * len(sides):
                await sides[channel // 2].inbox.feed(data)
    finally:
        for side in sides:
            side.inbox.end()
