"""What exec and attach look like whatever carries them, and the statuses with which they end.

A `RemoteCommand` is the client's side of one exec or attach; a `Process` is the container's. `serve` joins
the two. Buffers are bounded: a side that doesn't read makes the other wait.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Literal, Protocol

BUFFER_BYTES_MAX = 256 * 1024
"""Received and unread bytes of one channel before the connection is no longer read."""

RESIZE_BYTES_MAX = 1024
TERMINAL_SIZE_MAX = 65_535


class Duplex(Protocol):
    """A byte stream in both directions, as `orchestrator.web.upgrade.RawStream` is."""

    async def read(self, n: int = 65536) -> bytes: ...

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...

    def write_eof(self) -> None: ...

    def close(self) -> None: ...


class Process(Protocol):
    """The open ends of a process, as the runtime's `Streams` are."""

    async def read(self) -> tuple[Literal["stdout", "stderr"], bytes] | None: ...

    async def write(self, data: bytes) -> None: ...

    async def close_stdin(self) -> None: ...

    async def resize(self, width: int, height: int) -> None: ...

    async def wait(self) -> int: ...

    async def close(self) -> None: ...


class RemoteCommand(Protocol):
    """The client's side. Writing raises `ConnectionError` once the client has gone."""

    async def stdin(self) -> bytes:
        """The next input, `b""` at its end."""

    async def write_stdout(self, data: bytes) -> None: ...

    async def write_stderr(self, data: bytes) -> None: ...

    def resizes(self) -> AsyncIterator[tuple[int, int]]:
        """Width and height, whenever the client's terminal changes; ends with the client."""

    async def gone(self) -> None:
        """Return when the client has gone or asked to end."""

    async def finish(self, status: dict[str, Any]) -> None:
        """Send the final `Status`, end every channel and the connection."""


class Inbox:
    """Bytes on their way from the connection to one reader. Feeding waits while too much is unread."""

    def __init__(self, limit_bytes: int = BUFFER_BYTES_MAX) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._limit = limit_bytes
        self._ended = False
        self._changed = asyncio.Event()

    async def feed(self, data: bytes) -> None:
        """Add bytes; after the end they are dropped."""
        while self._size >= self._limit and not self._ended:
            await self._wait()
        if data and not self._ended:
            self._chunks.append(data)
            self._size += len(data)
            self._changed.set()

    def end(self) -> None:
        """No more will come; what is here can still be read."""
        self._ended = True
        self._changed.set()

    def discard(self) -> None:
        """Nobody will read this: drop what is here and what comes."""
        self._chunks.clear()
        self._size = 0
        self.end()

    async def read(self) -> bytes:
        """The next bytes, `b""` at the end."""
        while not self._chunks:
            if self._ended:
                return b""
            await self._wait()
        data = self._chunks.popleft()
        self._size -= len(data)
        self._changed.set()
        return data

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class Resizes:
    """Terminal sizes out of a byte stream of JSON objects such as `{"Width":80,"Height":24}`."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, data: bytes) -> list[tuple[int, int]]:
        """Sizes that are complete now; what is no such object is dropped."""
        self._rest += data.decode(errors="replace")
        sizes = []
        decoder = json.JSONDecoder()
        while self._rest.strip():
            self._rest = self._rest.lstrip()
            try:
                value, end = decoder.raw_decode(self._rest)
            except ValueError:
                if len(self._rest) > RESIZE_BYTES_MAX:
                    self._rest = ""
                break
            self._rest = self._rest[end:]
            size = _size(value)
            if size:
                sizes.append(size)
        return sizes


def _size(value: Any) -> tuple[int, int] | None:
    if not isinstance(value, dict):
        return None
    width, height = value.get("Width"), value.get("Height")
    for number in (width, height):
        if not isinstance(number, int) or not 0 < number <= TERMINAL_SIZE_MAX:
            return None
    assert isinstance(width, int) and isinstance(height, int)
    return width, height


def success() -> dict[str, Any]:
    """The `Status` of a command that ended with 0."""
    return {"metadata": {}, "status": "Success"}


def exit_status(code: int) -> dict[str, Any]:
    """The `Status` for an exit code; kubectl takes its own exit code from the cause."""
    if code == 0:
        return success()
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit code {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def internal_error(message: str) -> dict[str, Any]:
    """The `Status` for a command that could not be run or watched."""
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {message}",
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    }


def status_bytes(status: dict[str, Any], as_json: bool) -> bytes:
    """What the error channel carries: JSON from version 4 on, before that the bare message of a failure."""
    if as_json:
        return json.dumps(status, separators=(",", ":")).encode()
    return b"" if status["status"] == "Success" else str(status["message"]).encode()
