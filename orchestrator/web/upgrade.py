"""Raw connections: taken over from aiohttp after an upgrade, or opened to another server, and joined.

A `RawStream` is a byte stream in both directions with bounded buffers. The API server joins two of them
(client and node) for exec, attach and port-forward; the agent's API puts the SPDY and WebSocket ends on one.
TLS has no half-close: there `write_eof` closes the connection once everything is written.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

from aiohttp import web

from orchestrator.base.tasks import Supervisor

READ_HIGH_BYTES = 256 * 1024
"""Reading pauses when this much waits to be read, and goes on at a quarter of it."""

CLOSE_TIMEOUT_S = 10.0
"""How long a close may take to write what is pending before the connection is cut."""


class RawStream(asyncio.Protocol):
    """A byte stream over one transport. One task reads; one task at a time writes and drains."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._chunks = bytearray()
        self._eof = False
        self._paused_reading = False
        self._paused_writing = False
        self._error: Exception | None = None
        self._readable: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self.active_s = self._loop.time()
        """When bytes last moved in either direction, on the loop's clock."""

    def attach(self, transport: asyncio.Transport, first: bytes = b"") -> None:
        """Take `transport` over; `first` are bytes that its former owner had read already."""
        self._transport = transport
        self._chunks += first
        transport.set_protocol(self)
        transport.resume_reading()

    # what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # uvloop's are no subclass

    def data_received(self, data: bytes) -> None:
        self._chunks += data
        self.active_s = self._loop.time()
        if len(self._chunks) > READ_HIGH_BYTES and not self._paused_reading and self._transport:
            self._paused_reading = True
            self._transport.pause_reading()
        self._wake_reader()

    def eof_received(self) -> bool:
        """Keep the writing side open: the peer may have half-closed. TLS transports close regardless."""
        self._eof = True
        self._wake_reader()
        return self.can_write_eof

    def connection_lost(self, exc: Exception | None) -> None:
        self._eof = True
        self._error = exc
        self._transport = None
        self._wake_reader()
        self._wake_writer()
        if not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        self._paused_writing = True

    def resume_writing(self) -> None:
        self._paused_writing = False
        self._wake_writer()

    # what the owner calls

    @property
    def can_write_eof(self) -> bool:
        """Whether the writing side can be closed by itself; never over TLS."""
        return self._transport is not None and self._transport.can_write_eof()

    @property
    def closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._transport is None or self._transport.is_closing()

    async def read(self, n: int = 65536) -> bytes:
        """Up to `n` bytes, at least one; `b""` at the end. Raises `ConnectionError` after a reset."""
        while not self._chunks:
            if self._eof:
                if isinstance(self._error, ConnectionError):
                    raise self._error
                return b""
            self._readable = self._loop.create_future()
            try:
                await self._readable
            finally:
                self._readable = None
        data = bytes(self._chunks[:n])
        del self._chunks[:n]
        if self._paused_reading and len(self._chunks) <= READ_HIGH_BYTES // 4 and self._transport:
            self._paused_reading = False
            self._transport.resume_reading()
        return data

    async def read_until(self, mark: bytes, limit_bytes: int) -> bytes:
        """Bytes up to and including `mark`; what follows stays readable.

        Raises `ConnectionError` when the peer ends first or `limit_bytes` pass without the mark.
        """
        seen = bytearray()
        while (end := seen.find(mark)) < 0:
            if len(seen) > limit_bytes:
                raise ConnectionError(f"no end of head within {limit_bytes} bytes")
            data = await self.read()
            if not data:
                raise ConnectionError("connection closed before the head was complete")
            seen += data
        end += len(mark)
        self._chunks[:0] = seen[end:]
        return bytes(seen[:end])

    def write(self, data: bytes) -> None:
        """Queue `data`; follow with `drain`. Raises `ConnectionError` when the connection is gone."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("write to a closed connection")
        self.active_s = self._loop.time()
        self._transport.write(data)

    async def drain(self) -> None:
        """Return when the peer has taken enough that more may be written. Raises `ConnectionError`."""
        while self._paused_writing:
            if self._transport is None:
                raise ConnectionResetError("connection lost while writing")
            self._writable = self._loop.create_future()
            try:
                await self._writable
            finally:
                self._writable = None

    def write_eof(self) -> None:
        """End the writing side; where the transport can't do that (TLS), close after what is pending."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self.close()

    def close(self) -> None:
        """Write what is pending, then close; cut after `CLOSE_TIMEOUT_S`. May be called twice."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()
            self._loop.call_later(CLOSE_TIMEOUT_S, self.abort)

    def abort(self) -> None:
        """Cut the connection now; what is pending is lost."""
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Return when the connection is gone."""
        await asyncio.shield(self._closed)

    def on_closed(self, callback: Callable[[], object]) -> None:
        """Call `callback` once the connection is gone."""
        self._closed.add_done_callback(lambda _: callback())

    def get_extra_info(self, name: str) -> Any:
        """The transport's, such as `peername`; None once the connection is gone."""
        return self._transport.get_extra_info(name) if self._transport else None

    def _wake_reader(self) -> None:
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)

    def _wake_writer(self) -> None:
        self._paused_writing = self._paused_writing and self._transport is not None
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)


class TakenOver(web.StreamResponse):
    """What a handler returns after `take_over`: aiohttp has nothing left to write."""

    def __init__(self) -> None:
        super().__init__(status=101)

    @property
    def keep_alive(self) -> bool:
        return False

    @property
    def prepared(self) -> bool:
        return True

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


async def take_over(request: web.BaseRequest, response_head: bytes) -> RawStream:
    """Take the connection from aiohttp and write `response_head` (status line, headers, empty line).

    The handler must then return `TakenOver()` when it is done with the stream (or has handed it on).
    Raises `ConnectionError` when the client has gone.
    """
    protocol = request.protocol
    transport = protocol.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("client has gone")
    stream = RawStream()
    # aiohttp keeps what came behind an upgrade request here; it has no public name.
    stream.attach(transport, bytes(protocol._message_tail))
    manager = protocol._manager
    # From here on aiohttp takes its side for lost: it neither reads, nor times out, nor closes.
    protocol.transport = None
    protocol.connection_lost(None)
    adopt = getattr(manager, "adopt", None)
    if adopt is not None:
        adopt(stream, protocol)
    stream.write(response_head)
    await stream.drain()
    return stream


async def connect(
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    timeout_s: float = 10.0,
) -> RawStream:
    """Open a connection. Raises `OSError` (`ssl.SSLError` included) or `TimeoutError`."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        _, stream = await loop.create_connection(
            RawStream, host, port, ssl=tls, server_hostname=server_hostname if tls else None
        )
    return stream


async def relay(a: RawStream, b: RawStream, *, idle_timeout_s: float = 4 * 3600.0) -> None:
    """Copy bytes both ways until both sides have ended, one broke, or nothing moved for `idle_timeout_s`.

    Closes both streams. An end of one side is passed on as an end of writing to the other.
    """
    supervisor = Supervisor("relay")
    try:
        pumps = [supervisor.spawn("a-to-b", _pump(a, b)), supervisor.spawn("b-to-a", _pump(b, a))]
        supervisor.spawn("idle", _cut_when_idle(a, b, idle_timeout_s))
        await asyncio.gather(*pumps)
    finally:
        await supervisor.stop()
        a.close()
        b.close()


async def _pump(source: RawStream, target: RawStream) -> None:
    """Copy until `source` ends; a broken side ends both, for nobody is left to hear of it."""
    try:
        while data := await source.read():
            target.write(data)
            await target.drain()
    except ConnectionError:
        source.abort()
        target.abort()
        return
    if source.can_write_eof:
        target.write_eof()
    else:
        target.close()


async def _cut_when_idle(a: RawStream, b: RawStream, idle_timeout_s: float) -> None:
    loop = asyncio.get_running_loop()
    while True:
        left_s = max(a.active_s, b.active_s) + idle_timeout_s - loop.time()
        if left_s <= 0:
            break
        await asyncio.sleep(left_s)
    a.abort()
    b.abort()
