"""Streams of execs over FIFOs, and of attaches through the keeper.

An exec's FIFOs are ours: its shim opens the other ends when it starts the process and closes them when that has
ended. A FIFO without a writer reads as ended, so nothing is read before the kernel says that there is something. A
process whose output nobody reads would hang on a full pipe for ever: one whose client has gone is handed on to
`abandon`, which reads on (see `containerd_tasks`).
"""

import asyncio
import errno
import os
import shutil
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

from orchestrator.base.clock import Clock
from orchestrator.runtime.interface import RuntimeUnavailable

READ_BYTES_MAX = 65_536
OPEN_TRIES, OPEN_RETRY_S = 400, 0.005
_HEADER = struct.Struct(">BxxxL")
Stream = Literal["stdout", "stderr"]


STARTED = "started"


class Fifos:
    """The pipes of one process below a directory of their own."""

    def __init__(self, directory: Path, *, stdin: bool, tty: bool) -> None:
        directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        self._directory = directory
        self.stdin = self._make("stdin") if stdin else ""
        self.stdout = self._make("stdout")
        self.stderr = "" if tty else self._make("stderr")

    def _make(self, name: str) -> str:
        path = self._directory / name
        if not path.is_fifo():
            os.mkfifo(path, 0o600)
        return str(path)

    def note_start(self) -> None:
        """Beside the pipes, in memory as they are by default: the process has begun."""
        (self._directory / STARTED).touch()

    @staticmethod
    def noted_start(directory: Path) -> bool:
        return (directory / STARTED).exists()

    def remove(self) -> None:
        """Whoever has them open keeps them."""
        self.discard(self._directory)

    @staticmethod
    def discard(directory: Path) -> None:
        """Remove a directory of pipes; an absent one is fine."""
        shutil.rmtree(directory, ignore_errors=True)


def open_reader(path: str) -> int:
    """Returns at once, whether there is a writer or not."""
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


async def _writable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(descriptor, wake)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


class Input:
    """The write end of a stdin FIFO, opened at the first write: only what somebody reads can be written."""

    def __init__(self, path: str, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._descriptor = -1
        self._closed = False

    async def write(self, data: bytes) -> None:
        """Waits while the pipe is full. After `close`, or the end of the process, nothing happens."""
        view = memoryview(data)
        while len(view) and not self._closed:
            if self._descriptor < 0 and not await self._open():
                return
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                await _writable(self._descriptor)
            except BrokenPipeError:
                return

    async def _open(self) -> bool:
        """The shim opens its end some moment after the start; one that never does has ended."""
        for _ in range(OPEN_TRIES):
            if self._closed:
                return False
            try:
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                return False
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                await self._clock.sleep(OPEN_RETRY_S)
            else:
                return True
        return False

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        self._closed = True
        if descriptor >= 0:
            os.close(descriptor)


class FifoStreams:
    """`interface.Streams` of an exec. Owner: whoever asked for it."""

    def __init__(
        self,
        fifos: Fifos,
        clock: Clock,
        *,
        close_stdin: Callable[[], Awaitable[None]],
        resize: Callable[[int, int], Awaitable[None]],
        wait: Callable[[], Awaitable[int]],
        abandon: Callable[["FifoStreams"], bool],
    ) -> None:
        """`abandon` takes over what is closed before its end; False tells that it has ended."""
        self._abandon = abandon
        self._closed = False
        self._fifos = fifos
        self._close_stdin = close_stdin
        self._resize = resize
        self._wait = wait
        self._readers: dict[int, Stream] = {open_reader(fifos.stdout): "stdout"}
        if fifos.stderr:
            self._readers[open_reader(fifos.stderr)] = "stderr"
        self._input = Input(fifos.stdin, clock) if fifos.stdin else None
        self._wake = asyncio.Event()
        self._watched: set[int] = set()
        self._hot: set[int] = set()

    async def read(self) -> tuple[Stream, bytes] | None:
        loop = asyncio.get_running_loop()
        while self._readers:
            if not self._hot:
                for descriptor in self._readers.keys() - self._watched:
                    self._watched.add(descriptor)
                    loop.add_reader(descriptor, self._ready, descriptor)
                self._wake.clear()
                await self._wake.wait()
                continue
            descriptor = self._hot.pop()
            stream = self._readers[descriptor]
            try:
                data = os.read(descriptor, READ_BYTES_MAX)
            except BlockingIOError:
                continue
            if data:
                return stream, data
            self._drop(descriptor)
        return None

    def _ready(self, descriptor: int) -> None:
        """Watched no more until it was read: the loop would call again and again."""
        asyncio.get_running_loop().remove_reader(descriptor)
        self._watched.discard(descriptor)
        self._hot.add(descriptor)
        self._wake.set()

    def _drop(self, descriptor: int) -> None:
        if descriptor in self._watched:
            asyncio.get_running_loop().remove_reader(descriptor)
            self._watched.discard(descriptor)
        self._hot.discard(descriptor)
        del self._readers[descriptor]
        os.close(descriptor)

    async def write(self, data: bytes) -> None:
        if self._input is not None:
            await self._input.write(data)

    async def close_stdin(self) -> None:
        if self._input is not None:
            self._input.close()
            await self._close_stdin()

    async def resize(self, width: int, height: int) -> None:
        await self._resize(width, height)

    async def wait(self) -> int:
        return await self._wait()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._input is not None:
            self._input.close()
        if not self._readers or not self._abandon(self):
            self.release()

    def release(self) -> None:
        """Let go of the pipes."""
        for descriptor in list(self._readers):
            self._drop(descriptor)
        self._wake.set()
        self._fifos.remove()


class AttachStreams:
    """`interface.Streams` of an attach: output from the keeper, input into the container's FIFO."""

    def __init__(
        self,
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        stdin: str,
        clock: Clock,
        *,
        close_stdin: Callable[[], Awaitable[None]],
        resize: Callable[[int, int], Awaitable[None]],
        wait: Callable[[], Awaitable[int]],
    ) -> None:
        self._reader, self._writer = connection
        self._input = Input(stdin, clock) if stdin else None
        self._close_stdin = close_stdin
        self._resize = resize
        self._wait = wait

    async def read(self) -> tuple[Stream, bytes] | None:
        try:
            kind, size = _HEADER.unpack(await self._reader.readexactly(_HEADER.size))
            data = await self._reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise RuntimeUnavailable("the log keeper broke off inside a frame") from error
            return None
        except ConnectionError as error:
            raise RuntimeUnavailable(f"the log keeper broke off: {error}") from error
        return ("stderr" if kind == 2 else "stdout"), data

    async def write(self, data: bytes) -> None:
        if self._input is not None:
            await self._input.write(data)

    async def close_stdin(self) -> None:
        if self._input is not None:
            self._input.close()
            await self._close_stdin()

    async def resize(self, width: int, height: int) -> None:
        await self._resize(width, height)

    async def wait(self) -> int:
        return await self._wait()

    async def close(self) -> None:
        if self._input is not None:
            self._input.close()
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return
