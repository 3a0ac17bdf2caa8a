"""Exec and attach over a hijacked connection, and the frames in which the engine multiplexes output.

A frame is one byte of stream (1 stdout, 2 stderr), three of zero, a big-endian length and the bytes. With a
terminal there are no frames: everything is stdout.
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from orchestrator.base.clock import Clock
from orchestrator.runtime.docker_engine import Engine, EngineError
from orchestrator.runtime.interface import RuntimeUnavailable

READ_BYTES_MAX = 65_536
_HEADER = struct.Struct(">BxxxL")
POLL_S = (0.005, 0.5)
"""First and longest pause between two looks whether an exec has ended; the engine has no call to wait."""


class Reader(Protocol):
    """asyncio's and aiohttp's stream readers."""

    async def readexactly(self, n: int) -> bytes: ...


class Frames:
    """Output frames, cut to at most `READ_BYTES_MAX` so that a large one never sits in memory whole."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._stream: Literal["stdout", "stderr"] = "stdout"
        self._left = 0

    async def next(self) -> tuple[Literal["stdout", "stderr"], bytes] | None:
        """The next piece, or None at the end of the stream."""
        while not self._left:
            try:
                header = await self._reader.readexactly(_HEADER.size)
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    raise RuntimeUnavailable("the Docker engine broke off inside a frame") from error
                return None
            kind, self._left = _HEADER.unpack(header)
            self._stream = "stderr" if kind == 2 else "stdout"
        size = min(self._left, READ_BYTES_MAX)
        try:
            data = await self._reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise RuntimeUnavailable("the Docker engine broke off inside a frame") from error
        self._left -= size
        return self._stream, data

    @property
    def complete(self) -> bool:
        """Whether the piece that was just handed out ended its frame."""
        return self._left == 0


class DockerStreams:
    """`interface.Streams` on a hijacked connection. Owner: whoever asked for the exec or attach."""

    def __init__(
        self,
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        *,
        tty: bool,
        resize: Callable[[int, int], Awaitable[None]],
        wait: Callable[[], Awaitable[int]],
        abandon: Callable[["DockerStreams"], None] | None = None,
    ) -> None:
        """`abandon` takes over what is closed before its output has ended."""
        self._reader, self._writer = connection
        self._abandon = abandon
        self._frames = None if tty else Frames(self._reader)
        self._resize = resize
        self._wait = wait

    async def read(self) -> tuple[Literal["stdout", "stderr"], bytes] | None:
        try:
            piece = await self._next()
        except ConnectionError as error:
            raise RuntimeUnavailable(f"the Docker engine broke off: {error}") from error
        if piece is None:
            self._abandon = None
        return piece

    async def _next(self) -> tuple[Literal["stdout", "stderr"], bytes] | None:
        if self._frames is not None:
            return await self._frames.next()
        data = await self._reader.read(READ_BYTES_MAX)
        return ("stdout", data) if data else None

    async def write(self, data: bytes) -> None:
        if self._writer.is_closing():
            return
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError:
            return

    async def close_stdin(self) -> None:
        if not self._writer.is_closing() and self._writer.can_write_eof():
            try:
                self._writer.write_eof()
            except OSError:
                return

    async def resize(self, width: int, height: int) -> None:
        await self._resize(width, height)

    async def wait(self) -> int:
        return await self._wait()

    async def close(self) -> None:
        abandon, self._abandon = self._abandon, None
        if abandon is not None:
            await self.close_stdin()
            abandon(self)
            return
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return


async def resize_terminal(engine: Engine, what: str, width: int, height: int) -> None:
    """Set the size of a terminal (`containers/ID` or `exec/ID`); one that has ended has none."""
    try:
        await engine.call("POST", f"{what}/resize", params={"w": width, "h": height})
    except EngineError as error:
        if error.status not in (404, 409, 500):
            raise


@dataclass(frozen=True, slots=True)
class ExecState:
    """`pid` is the host's: 0 while the process is not there yet, -1 once it has ended with `code`."""

    pid: int
    code: int = 0


async def exec_state(engine: Engine, exec_id: str) -> ExecState:
    """What the engine knows of an exec now."""
    facts: dict[str, Any] = await engine.call("GET", f"exec/{exec_id}/json")
    if not facts["Running"] and facts.get("ExitCode") is not None:
        return ExecState(-1, int(facts["ExitCode"]))
    return ExecState(int(facts.get("Pid") or 0))


async def exec_result(engine: Engine, clock: Clock, exec_id: str) -> int:
    """The exit code of an exec, once it has ended."""
    pause_s = POLL_S[0]
    while (state := await exec_state(engine, exec_id)).pid >= 0:
        await clock.sleep(pause_s)
        pause_s = min(POLL_S[1], pause_s * 2)
    return state.code
