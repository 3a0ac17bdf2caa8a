"""The daemon's side of the log keeper: starting it, handing it containers, attaching to their output.

The keeper (see `containerd_keeper`) outlives us; we find it by its socket, or start it where it is needed and not
there. One connection stays open: over it we hear whose output has ended. Owner: `ContainerdRuntime`.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import structlog

from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime.interface import RuntimeFailure

log = structlog.get_logger(__name__)

PROGRAM = Path(__file__).with_name("containerd_keeper.py")
ANSWER_DEADLINE_S = 10.0
START_TRIES = 5
RETRY_S = 0.05
LINE_BYTES_MAX = 16 << 20

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Output:
    """Where a container's output comes from and goes to; `stderr` is empty for a terminal."""

    container_id: str
    stdout: str
    stderr: str
    log: str


class Keeper:
    """Requests to the keeper at `path`. `on_loss` is awaited with a new one, to hand it what runs."""

    def __init__(
        self, path: Path, clock: Clock, supervisor: Supervisor, on_loss: Callable[[], Awaitable[None]]
    ) -> None:
        self._path = path
        self._clock = clock
        self._supervisor = supervisor
        self._on_loss = on_loss
        self._connection: Connection | None = None
        self._listening: asyncio.Task[Any] | None = None
        self._answer: asyncio.Future[dict[str, Any]] | None = None
        self._turn = asyncio.Lock()
        self._ended: dict[str, asyncio.Event] = {}
        self._closed = False

    async def keep(self, output: Output) -> None:
        """Start to write this output; may be repeated. Returns when the FIFOs are open."""
        request = {"op": "keep", "id": output.container_id, "log": output.log}
        try:
            await self._ask(
                {**request, "stdout": output.stdout, "stderr": output.stderr}, output.container_id
            )
        except BaseException:
            self._end(output.container_id)
            raise

    async def forget(self, container_id: str) -> None:
        """Stop to keep this output; what is not kept is fine."""
        if container_id in self._ended:
            await self._ask({"op": "forget", "id": container_id})
            self._end(container_id)

    def keeps(self, container_id: str) -> bool:
        """Whether output of this container may still come."""
        return container_id in self._ended

    async def attach(self, container_id: str) -> Connection:
        """A connection that carries frames from now on. Raises `RuntimeFailure` for output that is not kept."""
        if not self.keeps(container_id):
            raise RuntimeFailure(f"container {container_id} is not running")
        reader, writer = await self._dial()
        try:
            writer.write(msgspec.json.encode({"op": "attach", "id": container_id}) + b"\n")
            async with asyncio.timeout(ANSWER_DEADLINE_S):
                answer = msgspec.json.decode(await reader.readline())
        except BaseException:
            writer.close()
            raise
        if "error" in answer:
            writer.close()
            raise RuntimeFailure(f"container {container_id} is not running")
        return reader, writer

    async def close(self) -> None:
        """Let go; the keeper goes on."""
        self._closed = True
        if self._listening is not None:
            self._listening.cancel()
        if self._connection is not None:
            self._connection[1].close()
            self._connection = None

    async def _ask(self, request: dict[str, Any], about: str = "") -> dict[str, Any]:
        """`about` is the container whose end may be told from now on."""
        async with self._turn:
            connection = await self._connected()
            if about:
                self._ended.setdefault(about, asyncio.Event())
            return await self._exchange(connection, request)

    async def _exchange(self, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        """One request and its answer. A connection on which one is missing is not used again."""
        waiting = self._answer = asyncio.get_running_loop().create_future()
        try:
            connection[1].write(msgspec.json.encode(request) + b"\n")
            async with asyncio.timeout(ANSWER_DEADLINE_S):
                answer: dict[str, Any] = await waiting
        except (OSError, TimeoutError) as error:
            connection[1].close()
            raise RuntimeFailure(f"the log keeper does not answer: {error}") from error
        except asyncio.CancelledError:
            connection[1].close()
            raise
        finally:
            self._answer = None
        if "error" in answer:
            raise RuntimeFailure(f"the log keeper failed: {answer['error']}")
        return answer

    async def _connected(self) -> Connection:
        """The connection, with a keeper behind it that knows everything that runs."""
        if self._connection is not None:
            return self._connection
        if self._closed:
            raise RuntimeFailure("the log keeper's connection was closed")
        connection = self._connection = await self._dial()
        self._listening = self._supervisor.spawn("keeper", self._listen(connection))
        answer = await self._exchange(connection, {"op": "list"})
        for container_id in answer["kept"]:
            self._ended.setdefault(container_id, asyncio.Event())
        for container_id in self._ended.keys() - set(answer["kept"]):
            self._end(container_id)
        return connection

    async def _listen(self, connection: Connection) -> None:
        """Sort what comes: answers to the one who asks, ends to whom they concern."""
        try:
            while line := await connection[0].readline():
                message = msgspec.json.decode(line)
                if "ended" in message:
                    self._end(message["ended"])
                elif self._answer is not None and not self._answer.done():
                    self._answer.set_result(message)
        except OSError:
            pass
        finally:
            connection[1].close()
        if self._connection is not connection:
            return
        self._connection = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_result({"error": "it has ended"})
        if not self._closed:
            log.warning("the log keeper ended; another one is started")
            self._supervisor.spawn("keeper-again", self._again())

    async def _again(self) -> None:
        await self._clock.sleep(RETRY_S)
        await self._on_loss()

    def _end(self, container_id: str) -> None:
        event = self._ended.pop(container_id, None)
        if event is not None:
            event.set()

    async def ended(self, container_id: str, timeout_s: float) -> None:
        """Wait until this output has ended, at most `timeout_s`."""
        event = self._ended.get(container_id)
        if event is not None:
            try:
                async with asyncio.timeout(timeout_s):
                    await event.wait()
            except TimeoutError:
                return

    async def _dial(self) -> Connection:
        for attempt in range(START_TRIES):
            try:
                return await asyncio.open_unix_connection(str(self._path), limit=LINE_BYTES_MAX)
            except (ConnectionRefusedError, FileNotFoundError):
                await self._start()
                await self._clock.sleep(RETRY_S * attempt)
        raise RuntimeFailure(f"the log keeper at {self._path} can't be started")

    async def _start(self) -> None:
        """It leaves our session and our hands: what we wait for is only its first process."""
        command = (sys.executable, "-I", "-S", str(PROGRAM), str(self._path))
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env={"PATH": os.defpath},
        )
        async with asyncio.timeout(ANSWER_DEADLINE_S):
            await process.wait()
