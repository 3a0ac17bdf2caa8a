"""gRPC on byte messages: one client over several endpoints of the same service, unary calls and streams.

Knows no message and no service: etcd's API, containerd's socket and device plugins are spoken through it. An
endpoint is `https://host:port`, `http://host:port` or `unix:///path`. The library is loaded when the first client
connects, so that a process that needs no gRPC does not pay for it.

A call goes to the current endpoint. Where that one can't be reached the next one is tried, as long as it is certain
that nothing was sent; whether a failed call may have been carried out stands in `GrpcError.sent`.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.base.errors import OrchestratorError

if TYPE_CHECKING:
    import grpc.aio

Metadata = Sequence[tuple[str, str]]

KEEPALIVE_MS = 10_000
KEEPALIVE_TIMEOUT_MS = 5_000
RECONNECT_MS = (100, 1_000)
CONNECT_TIMEOUT_S = 3.0
"""For one endpoint; a call's own deadline bounds all of them together."""


@dataclass(frozen=True, slots=True)
class TLS:
    """PEM texts. `ca` of None trusts the library's own roots; `certificate` and `key` are the client's."""

    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None


class GrpcError(OrchestratorError):
    """A call failed. `code` is gRPC's name for it, such as `UNAVAILABLE`; `details` the peer's or library's text."""

    def __init__(self, code: str, details: str, *, sent: bool, endpoint: str = "") -> None:
        super().__init__(f"{endpoint}: {details or code}" if endpoint else details or code)
        self.code = code
        self.details = details
        self.sent = sent
        """Whether the request may have reached the peer and been carried out."""
        self.endpoint = endpoint


def preload() -> None:
    """Load the library now: it takes long, so have a thread do it. Loading twice is fine."""
    _settle()
    import grpc.aio  # noqa: F401


def _settle() -> None:
    """The library reads these when it is loaded."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # Failures are reported by us, once and in words.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # Our children exec at once.


class GrpcStream:
    """One bidirectional stream. One task reads, one writes; `cancel` ends it."""

    def __init__(self, call: Any, endpoint: str) -> None:
        self._call = call
        self.endpoint = endpoint

    async def send(self, message: bytes, timeout_s: float) -> None:
        """Raises `GrpcError` when the stream has ended or the peer takes nothing for `timeout_s`."""
        import grpc

        try:
            async with asyncio.timeout(timeout_s):
                await self._call.write(message)
        except TimeoutError:
            raise GrpcError("DEADLINE_EXCEEDED", "the peer takes no messages", sent=True) from None
        except grpc.aio.AioRpcError as error:
            raise _failure(error, self.endpoint, sent=True) from None
        except asyncio.InvalidStateError:
            raise GrpcError("CANCELLED", "the stream has ended", sent=True) from None

    async def receive(self) -> bytes | None:
        """The next message; None when the peer ended the stream properly. Cancelling this ends the stream."""
        import grpc

        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise _failure(error, self.endpoint, sent=True) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise GrpcError("CANCELLED", "the stream has been cancelled", sent=True) from None
        return message if isinstance(message, bytes) else None

    async def finish(self) -> None:
        """Nothing more will be sent: what a peer waits for that streams its answers to one request."""
        import grpc

        try:
            await self._call.done_writing()
        except grpc.aio.AioRpcError as error:
            raise _failure(error, self.endpoint, sent=True) from None
        except asyncio.InvalidStateError:
            raise GrpcError("CANCELLED", "the stream has ended", sent=True) from None

    def cancel(self) -> None:
        """End the stream now; ending twice is fine."""
        self._call.cancel()


class GrpcClient:
    """Calls to the first endpoint that answers. Close it: it holds connections and, the last one, a thread."""

    def __init__(self, endpoints: Sequence[str], tls: TLS | None = None, *, user_agent: str = "") -> None:
        """Connects to nothing yet. `user_agent` goes before the library's own."""
        if not endpoints:
            raise ValueError("a gRPC client needs an endpoint")
        _settle()
        self._endpoints = tuple(endpoints)
        self._tls = tls or TLS()
        self._user_agent = user_agent
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._current = 0
        self._closed = False

    @property
    def endpoint(self) -> str:
        """The one that calls go to now."""
        return self._endpoints[self._current]

    def move_on(self, endpoint: str) -> None:
        """`endpoint` does no good: use the next one, unless somebody has changed already."""
        if endpoint == self.endpoint:
            self._current = (self._current + 1) % len(self._endpoints)

    async def unary(
        self,
        method: str,
        request: bytes,
        *,
        timeout_s: float,
        metadata: Metadata = (),
        before: Callable[[], None] | None = None,
    ) -> bytes:
        """One call, such as `/etcdserverpb.KV/Range`. Raises `GrpcError`.

        `before` is called when there is a connection, just before the request is sent; it may raise.
        """
        import grpc

        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        channel, endpoint = await self._connect(timeout_s)
        call = channel.unary_unary(method)
        if before is not None:
            before()
        try:
            answer = await call(request, timeout=max(0.01, until_s - loop.time()), metadata=tuple(metadata))
        except grpc.aio.AioRpcError as error:
            failure = _failure(error, endpoint, sent=True)
            if failure.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                self.move_on(endpoint)
            raise failure from None
        return bytes(answer)

    async def stream(self, method: str, *, timeout_s: float, metadata: Metadata = ()) -> GrpcStream:
        """Open a bidirectional stream; `timeout_s` is for the connection only. Raises `GrpcError`."""
        channel, endpoint = await self._connect(timeout_s)
        return GrpcStream(channel.stream_stream(method)(metadata=tuple(metadata)), endpoint)

    async def close(self) -> None:
        """End every call and connection. May be called twice."""
        self._closed = True
        channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            await channel.close()

    async def _connect(self, timeout_s: float) -> "tuple[grpc.aio.Channel, str]":
        """A connected channel of the current endpoint, or of the next one that can be reached."""
        until_s = asyncio.get_running_loop().time() + timeout_s
        failures = []
        for _ in self._endpoints:
            endpoint = self.endpoint
            left_s = until_s - asyncio.get_running_loop().time()
            channel = self._channel(endpoint)
            if await _ready(channel, min(CONNECT_TIMEOUT_S, left_s)):
                return channel, endpoint
            failures.append(await _reason(channel, endpoint))
            self.move_on(endpoint)
        raise GrpcError("UNAVAILABLE", "; ".join(failures), sent=False)

    def _channel(self, endpoint: str) -> "grpc.aio.Channel":
        if self._closed:
            raise GrpcError("CANCELLED", "the client is closed", sent=False)
        channel = self._channels.get(endpoint)
        if channel is None:
            channel = self._channels[endpoint] = _open(endpoint, self._tls, self._user_agent)
        return channel


def _open(endpoint: str, tls: TLS, user_agent: str) -> "grpc.aio.Channel":
    import grpc
    import grpc.aio

    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS[0]),
        (
            "grpc.min_reconnect_backoff_ms",
            int(CONNECT_TIMEOUT_S * 1000),
        ),  # in truth: a connection's time limit
        ("grpc.max_reconnect_backoff_ms", RECONNECT_MS[1]),
        ("grpc.enable_retries", 0),
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if user_agent:
        options.append(("grpc.primary_user_agent", user_agent))
    scheme, _, address = endpoint.partition("://")
    if scheme == "unix":
        return grpc.aio.insecure_channel(
            f"unix:{address}", options=[*options, ("grpc.default_authority", "localhost")]
        )
    if scheme == "http":
        return grpc.aio.insecure_channel(address, options=options)
    if scheme != "https":
        raise ValueError(f"{endpoint!r} is no endpoint: write https://host:port")
    credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)
    return grpc.aio.secure_channel(address, credentials, options=options)


async def _ready(channel: "grpc.aio.Channel", timeout_s: float) -> bool:
    """Whether the channel is connected, or gets so before its first failure or the time is up."""
    import grpc

    state = channel.get_state(try_to_connect=True)
    try:
        async with asyncio.timeout(max(0.0, timeout_s)):
            while state is not grpc.ChannelConnectivity.READY:
                if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                    return False
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
    except TimeoutError:
        return False
    return True


async def _reason(channel: "grpc.aio.Channel", endpoint: str) -> str:
    """Why a channel does not connect: the library tells it only to a call, so one that does nothing is made."""
    import grpc

    try:
        await channel.unary_unary("/orchestrator.internal/Reachable")(b"", timeout=0.5)
    except grpc.aio.AioRpcError as error:
        return f"{endpoint}: {_plain(error.details() or error.code().name)}"
    return f"{endpoint}: it was reached too late"


def _failure(error: "grpc.aio.AioRpcError", endpoint: str, *, sent: bool) -> GrpcError:
    return GrpcError(error.code().name, _plain(error.details() or ""), sent=sent, endpoint=endpoint)


def _plain(details: str) -> str:
    """The library's texts repeat themselves; the last cause is what one wants to read."""
    cause = details.rpartition("last error: ")[2].removeprefix("UNKNOWN: ").removeprefix("UNAVAILABLE: ")
    return cause.removesuffix(": OK").rstrip(".")
