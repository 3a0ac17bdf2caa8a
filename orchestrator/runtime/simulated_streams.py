"""The pipes between a simulated process and whoever exec'd it or attached to it."""

import asyncio
from collections import deque
from typing import Literal

PIECES_MAX = 4_096
"""Unread output beyond this drops the oldest: a simulated container that nobody attends mustn't grow."""

INPUT_PIECES_MAX = 256


class Output:
    """stdin, stdout, stderr and the exit code of one simulated process. Owner: the runtime."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[Literal["stdout", "stderr"], bytes]] = deque(maxlen=PIECES_MAX)
        self._input: asyncio.Queue[bytes] = asyncio.Queue(INPUT_PIECES_MAX)
        self._input_ended = False
        self._arrived = asyncio.Event()
        self._finished = asyncio.Event()
        self._code = 0

    def write(self, stream: Literal["stdout", "stderr"], data: bytes) -> None:
        self._pieces.append((stream, data))
        self._arrived.set()

    def finish(self, code: int) -> None:
        self._code = code
        self._finished.set()
        self._arrived.set()

    async def read(self) -> tuple[Literal["stdout", "stderr"], bytes] | None:
        while not self._pieces:
            if self._finished.is_set():
                return None
            self._arrived.clear()
            await self._arrived.wait()
        return self._pieces.popleft()

    async def wait(self) -> int:
        await self._finished.wait()
        return self._code

    @property
    def code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._code if self._finished.is_set() else None

    async def feed(self, data: bytes) -> None:
        """Input from the client; after its end or the process' it is ignored."""
        if data and not self._input_ended and not self._finished.is_set():
            await self._input.put(data)

    def close_input(self) -> None:
        if not self._input_ended:
            self._input_ended = True
            if not self._input.full():
                self._input.put_nowait(b"")

    async def read_input(self) -> bytes:
        """The next input, empty at its end."""
        if self._input_ended and self._input.empty():
            return b""
        return await self._input.get()


class SimulatedStreams:
    """`interface.Streams` onto an `Output`. `task` acts the process out; None for an attach."""

    def __init__(self, output: Output, task: asyncio.Task[None] | None) -> None:
        self._output = output
        self._task = task
        self.size: tuple[int, int] | None = None
        """Width and height of the terminal, as last set."""

    async def read(self) -> tuple[Literal["stdout", "stderr"], bytes] | None:
        return await self._output.read()

    async def write(self, data: bytes) -> None:
        await self._output.feed(data)

    async def close_stdin(self) -> None:
        self._output.close_input()

    async def resize(self, width: int, height: int) -> None:
        self.size = (width, height)

    async def wait(self) -> int:
        if self._task is None:
            return self._output.code or 0
        return await self._output.wait()

    async def close(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
