"""The TLS listener: sockets, limits and the life of connections, over aiohttp's low-level server.

The API server and the agent's API each own one `Listener` and give it a handler. It keeps aiohttp's
application router out of the way (half the speed); dispatch belongs to the handler.

Bounds: connections, TLS handshake, first request, idle connection, header sizes; bodies are bounded where
they are read (`web.body`). Connections taken over by `web.upgrade` count until they close.
"""

import asyncio
import errno
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

from orchestrator.base.errors import StartupError
from orchestrator.web.answer import TEXT, Answer
from orchestrator.web.upgrade import RawStream

log = structlog.get_logger(__name__)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one listener; sizes in bytes, times in seconds."""

    connections_max: int = 4096
    line_bytes_max: int = 64 * 1024
    """Request line; a field selector or an exec command may be long."""
    header_bytes_max: int = 32 * 1024
    handshake_timeout_s: float = 10.0
    first_request_timeout_s: float = 30.0
    idle_timeout_s: float = 120.0
    backlog: int = 1024


GRACE_S = 2.0
"""For requests in progress when we stop. The API's listener and the agent's close one after the other, and the
whole process has 10 s; a followed log never ends by itself."""


class _Connection(RequestHandler):
    """aiohttp's connection, plus the peer's certificate and a bound on waiting for the first request."""

    __slots__ = ("first_request", "on_lost", "peer_der")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        self.peer_der: bytes | None = tls.getpeercert(binary_form=True) if tls is not None else None
        self.on_lost: Callable[[], None] | None = None
        timeout_s = self._manager.limits.first_request_timeout_s  # type: ignore[union-attr]
        self.first_request = self._loop.call_later(timeout_s, self._cut_unless_used)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.first_request.cancel()
        lost, self.on_lost = self.on_lost, None
        if lost is not None:
            lost()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP with 400 and without a traceback in the log: anybody can cause it."""
        if isinstance(exc, ConnectionError):
            # The client went, or a stream was cut on purpose: nobody is left to be answered.
            log.debug("connection broke off", peer=request.remote, path=request.path, error=str(exc))
            return Answer(500, b"", TEXT, close=True)
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        log.debug("malformed request", peer=request.remote, error=str(exc.message))
        return Answer(400, b"400 Bad Request: malformed HTTP request\n", TEXT, close=True)

    def _cut_unless_used(self) -> None:
        if self._request_count == 0:
            self.force_close()


class _Refused(asyncio.Protocol):
    """Closes at once: there are too many connections."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class _Server(web.Server):
    """Makes connections, counts them, and keeps those that were taken over for closing."""

    def __init__(self, handler: Handler, limits: Limits) -> None:
        super().__init__(handler)
        self.limits = limits
        self.streams: dict[RawStream, RequestHandler] = {}

    @property
    def open(self) -> int:
        """Open connections; a taken-over one counts once, whether its handler still runs or not."""
        handed_on = sum(connection not in self._connections for connection in self.streams.values())
        return len(self._connections) + handed_on

    def adopt(self, stream: RawStream, connection: RequestHandler) -> None:
        """`take_over` tells of a stream that was a connection of this server."""
        self.streams[stream] = connection
        stream.on_closed(lambda: self.streams.pop(stream, None))

    def connection(self) -> asyncio.Protocol:
        if self.open >= self.limits.connections_max:
            log.warning("connection refused: too many", limit=self.limits.connections_max)
            return _Refused()
        return _Connection(
            self,
            loop=self._loop,
            keepalive_timeout=self.limits.idle_timeout_s,
            access_log=None,  # type: ignore[arg-type]  # None switches it off, as aiohttp's own runner does
            max_line_size=self.limits.line_bytes_max,
            max_field_size=self.limits.header_bytes_max,
            lingering_time=2.0,
        )


class Listener:
    """One listening socket. Owner: the daemon; `start` once, `close` at the end.

    `tls` stays the caller's: loading a new certificate into it serves connections made from then on.
    """

    def __init__(
        self, handler: Handler, host: str, port: int, tls: ssl.SSLContext | None, limits: Limits | None = None
    ) -> None:
        self._handler = handler
        self._host = host
        self._port = port
        self._tls = tls
        self._limits = limits or Limits()
        self._server: _Server | None = None
        self._socket: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen; returns the port, which matters when 0 was asked for. Raises `StartupError`."""
        loop = asyncio.get_running_loop()
        server = _Server(self._handler, self._limits)
        try:
            self._socket = await loop.create_server(
                server.connection,
                self._host,
                self._port,
                ssl=self._tls,
                backlog=self._limits.backlog,
                reuse_address=True,
                ssl_handshake_timeout=self._limits.handshake_timeout_s if self._tls else None,
            )
        except OSError as error:
            raise _cannot_listen(self._host, self._port, error) from error
        self._server = server
        self._port = int(self._socket.sockets[0].getsockname()[1])
        return self._port

    @property
    def connections(self) -> int:
        """Open connections, taken-over ones included."""
        return self._server.open if self._server else 0

    async def close(self, grace_s: float = GRACE_S) -> None:
        """Stop accepting, let requests in progress end for `grace_s`, then cut. May be called twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        server, self._server = self._server, None
        if server is None:
            return
        server.pre_shutdown()
        streams = list(server.streams)
        for stream in streams:
            stream.close()
        await server.shutdown(grace_s)
        for stream in streams:
            stream.abort()
            await stream.wait_closed()


def _cannot_listen(host: str, port: int, error: OSError) -> StartupError:
    if error.errno == errno.EADDRINUSE or "address already in use" in str(error):
        return StartupError(
            f"Port {port} on {host} is in use by another process.",
            f"Stop that process (`ss -ltnp 'sport = :{port}'` names it) or choose another port.",
        )
    if error.errno == errno.EACCES:
        return StartupError(
            f"Port {port} on {host} needs more privileges.", "Run as root or choose a port above 1023."
        )
    return StartupError(
        f"Can't listen on {host} port {port}: {error}.", "Choose an address that this host has."
    )


def peer_certificate(request: web.BaseRequest) -> bytes | None:
    """The client's certificate (DER), verified against the client CA; None when it showed none.

    Read once per connection, so that the same object is handed out for each of its requests.
    """
    return getattr(request.protocol, "peer_der", None)


def when_lost(request: web.BaseRequest, callback: Callable[[], None] | None) -> None:
    """Call `callback` when the client's connection ends before its answer does; None takes that back.

    For answers that wait long between writes. One callback per connection.
    """
    connection = request.protocol
    if isinstance(connection, _Connection):
        connection.on_lost = callback
