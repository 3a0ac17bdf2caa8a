"""The Docker Engine API as calls with deadlines: one place that knows HTTP, timeouts and error words.

Requests go through aiodocker; what it has no method for (or parses slower than we need) uses its `_query`.
A call that gets no answer raises `RuntimeUnavailable`, one that is refused `EngineError` with the status. Two
clients are held, so that log followers and event streams, which keep their connection, never starve the short
calls. Owner: `DockerRuntime`.
"""

import asyncio
import io
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import IO, Any

import aiodocker
import aiohttp
import msgspec

from orchestrator.runtime.interface import RuntimeFailure, RuntimeUnavailable

API_VERSION = (1, 41)
"""What we speak; newer engines that have dropped it are spoken to in their oldest version."""

CALL_DEADLINE_S = 30.0
WORK_DEADLINE_S = 120.0
"""For calls in which the engine starts, stops or removes something."""

CONNECTIONS_MAX = 64


class EngineError(RuntimeFailure):
    """The engine answered with an error. `status` is HTTP's."""

    def __init__(self, status: int, message: str, reason: str = "RuntimeError") -> None:
        super().__init__(message, reason)
        self.status = status


def socket_path(endpoint: str) -> str:
    """The path in `unix:///var/run/docker.sock`, or the path itself."""
    return endpoint.removeprefix("unix://")


class Engine:
    """Requests to one engine's socket."""

    def __init__(self, endpoint: str) -> None:
        self.path = socket_path(endpoint)
        self.version = f"v{API_VERSION[0]}.{API_VERSION[1]}"
        self._calls: aiodocker.Docker | None = None
        self._follows: aiodocker.Docker | None = None
        self._closed = False

    async def connect(self) -> dict[str, Any]:
        """Agree on an API version; returns `/version`."""
        facts: dict[str, Any] = await self.call("GET", "version", versioned=False, deadline_s=10.0)
        self.version = choose_version(facts.get("MinAPIVersion", ""), facts.get("ApiVersion", ""))
        for client in (self._calls, self._follows):
            if client is not None:
                client.api_version = self.version
        return facts

    async def close(self) -> None:
        """Close every connection; may be called twice. Calls after it raise `RuntimeUnavailable`."""
        self._closed = True
        clients = [client for client in (self._calls, self._follows) if client is not None]
        self._calls = self._follows = None
        for client in clients:
            await client.close()
            await client.connector.close()

    def _client(self, follow: bool) -> aiodocker.Docker:
        if self._closed:
            raise RuntimeUnavailable("the connection to the Docker engine was closed")
        if follow:
            self._follows = self._follows or self._open(0)
            return self._follows
        self._calls = self._calls or self._open(CONNECTIONS_MAX)
        return self._calls

    def _open(self, limit: int) -> aiodocker.Docker:
        connector = aiohttp.UnixConnector(self.path, limit=limit)
        return aiodocker.Docker(url="unix://localhost", connector=connector, api_version=self.version)

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        deadline_s: float = CALL_DEADLINE_S,
        versioned: bool = True,
    ) -> Any:
        """The decoded JSON answer, or None when there is no body. `body` is JSON unless it is bytes or a file."""
        # As a stream: aiohttp sends large bytes in one piece, which would hold the loop.
        data: IO[bytes] | None = body if isinstance(body, io.IOBase) else None  # type: ignore[assignment]
        if body is not None and data is None:
            data = io.BytesIO(body if isinstance(body, bytes) else msgspec.json.encode(body))
        with _words(path, deadline_s):
            async with (
                asyncio.timeout(deadline_s),
                self._client(False)._query(
                    path,
                    method,
                    params=dict(params or {}),
                    data=data,
                    headers=headers,
                    timeout=None,
                    versioned_api=versioned,
                ) as response,
            ):
                answer = await response.read()
        return msgspec.json.decode(answer) if answer.startswith((b"{", b"[", b"n")) else None

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        deadline_s: float = CALL_DEADLINE_S,
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """An answer that comes piece by piece; the deadline holds for its start only."""
        with _words(path, deadline_s):
            async with asyncio.timeout(deadline_s):
                response = await self._client(True)._do_query(
                    path, method, params=dict(params or {}), headers=headers, timeout=None
                )
            try:
                yield response.content
            finally:
                response.close()

    async def hijack(self, path: str, body: Any = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Turn a POST into a raw duplex stream, as exec and attach do.

        Spoken on a socket of its own: unlike aiodocker's stream it can end stdin and still read.
        """
        with _words(path, CALL_DEADLINE_S):
            async with asyncio.timeout(CALL_DEADLINE_S):
                reader, writer = await asyncio.open_unix_connection(self.path)
                try:
                    await self._upgrade(reader, writer, path, body)
                except BaseException:
                    writer.close()
                    raise
        return reader, writer

    async def _upgrade(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: Any
    ) -> None:
        payload = b"" if body is None else msgspec.json.encode(body)
        head = (
            f"POST /{self.version}/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
            f"Upgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
        )
        writer.write(head.encode() + payload)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(answer[0].split()[1])
        if status in (101, 200):
            return
        headers = dict(line.lower().split(": ", 1) for line in answer[1:] if ": " in line)
        text = await reader.readexactly(int(headers.get("content-length", "0")))
        raise EngineError(status, _message(text))

    def peer_pid(self) -> int:
        """The process that owns the socket, 0 if the kernel doesn't say."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.settimeout(1.0)
                probe.connect(self.path)
            except OSError:
                return 0
            credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid: int = struct.unpack("3i", credentials)[0]
        return pid


def choose_version(oldest: str, newest: str) -> str:
    """The API version to speak with an engine that knows `oldest` to `newest` (`1.12`, `1.41`)."""
    low, high = _parse_version(oldest), _parse_version(newest)
    chosen = max(low, min(API_VERSION, high or API_VERSION))
    return f"v{chosen[0]}.{chosen[1]}"


def _parse_version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _message(text: bytes) -> str:
    try:
        return str(msgspec.json.decode(text)["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return text.decode(errors="replace").strip()


class _words:
    """Turns what a request may raise into our errors."""

    def __init__(self, path: str, deadline_s: float) -> None:
        self._path = path
        self._deadline_s = deadline_s

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, TimeoutError):
            raise RuntimeUnavailable(
                f"the Docker engine did not answer {self._path} within {self._deadline_s:.0f} s"
            ) from error
        if isinstance(error, aiodocker.DockerError):
            if error.status == 900:
                raise RuntimeUnavailable(error.message) from error
            raise EngineError(error.status, error.message) from error
        if isinstance(error, aiohttp.ClientError | OSError | asyncio.IncompleteReadError):
            raise RuntimeUnavailable(
                f"the Docker engine broke off {self._path}: {error or type(error).__name__}"
            ) from error
