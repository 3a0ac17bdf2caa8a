"""Processes of containers: start, stop, exec, and keeping how they ended. Owner: `ContainerdRuntime`.

A task is what runs (or has just ended) of a container; its shim stays until the task is deleted. So an end is
written to the container's record and the task deleted at once, whoever sees the end first: `harvest`.
"""

import asyncio
import contextlib
import itertools
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime import cgroups
from orchestrator.runtime import containerd_specs as specs
from orchestrator.runtime.abandoned import outlive
from orchestrator.runtime.containerd_api import (
    OPTIONS_TYPE,
    PROCESS_TYPE,
    WORK_DEADLINE_S,
    ContainerdApi,
    ContainerdError,
    seconds,
)
from orchestrator.runtime.containerd_handlers import RUNC_SHIM, Handler, handler
from orchestrator.runtime.containerd_output import Keeper, Output
from orchestrator.runtime.containerd_streams import Fifos, FifoStreams
from orchestrator.runtime.interface import RuntimeFailure, RuntimeUnavailable

log = structlog.get_logger(__name__)

WAIT_DEADLINE_S = 30 * 86_400.0
"""For a call that answers when a process ends."""
KILL_GRACE_S = 30.0
"""How long after a kill the engine may take to tell the end."""
OUTPUT_END_S = 2.0
DELETE_TRIES, DELETE_RETRY_S = 4, 0.1
START_ERROR_CODE = 128
STARTS_AT_ONCE = 16
"""More starts at a time make none of them faster; waiting here keeps each one's deadline honest."""
EXEC_SYNC_BYTES_MAX = 16_384

Labels = Mapping[str, str]


class Tasks:
    """The tasks of one containerd namespace. `directory` holds the FIFOs."""

    def __init__(
        self, api: ContainerdApi, keeper: Keeper, directory: Path, clock: Clock, supervisor: Supervisor
    ) -> None:
        self._api = api
        self._keeper = keeper
        self._directory = directory
        self._clock = clock
        self._supervisor = supervisor
        self._numbers = itertools.count(1)
        self._harvests: dict[str, asyncio.Task[None]] = {}
        self._discarded: set[str] = set()
        self._started: dict[str, float] = {}
        self._slots = asyncio.Semaphore(STARTS_AT_ONCE)

    def fifos(self, container_id: str, labels: Labels) -> Fifos:
        """The main process's pipes."""
        streams = labels.get(specs.STREAMS, "").split()
        return Fifos(self._directory / container_id, stdin="stdin" in streams, tty="tty" in streams)

    async def get(self, container_id: str) -> dict[str, Any] | None:
        """containerd's view of the task, None when there is none."""
        answer = await self._api.maybe("get_task", {"container_id": container_id})
        return answer.get("process", {}) if answer is not None else None

    def started_s(self, container_id: str) -> float:
        """When we saw it start; 0 when that was before our time."""
        return self._started.get(container_id, 0.0)

    def began(self, container_id: str) -> bool:
        """Whether its start is known to have succeeded, by us or by a daemon before us since the host started."""
        return Fifos.noted_start(self._directory / container_id)

    # Starting

    async def start(self, container_id: str, labels: Labels, mounts: Sequence[Mapping[str, Any]]) -> None:
        """Start the main process. A failed start is kept as the container's end, and raised."""
        async with self._slots:
            fifos = self.fifos(container_id, labels)
            path = Path(labels[specs.LOG])
            await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True, mode=0o755)
            await self._keeper.keep(Output(container_id, fifos.stdout, fifos.stderr, str(path)))
            request = {
                "container_id": container_id,
                "rootfs": list(mounts),
                "stdin": fifos.stdin,
                "stdout": fifos.stdout,
                "stderr": fifos.stderr,
                "terminal": not fifos.stderr,
            }
            try:
                await self.run(request, handler(labels.get(specs.HANDLER, "")))
            except ContainerdError as error:
                if error.code == "ALREADY_EXISTS":
                    return
                await self._keep_failed_start(container_id, str(error))
                raise RuntimeFailure(str(error), "RunContainerError") from error
            fifos.note_start()

    async def run(self, request: dict[str, Any], chosen: Handler) -> int:
        """Create and start a task; returns its process. What can't be started leaves no task."""
        container_id = request["container_id"]
        if chosen.shim == RUNC_SHIM:
            options = {"binary_name": chosen.program} if chosen.program else {}
            request = {**request, "options": self._api.any(OPTIONS_TYPE, options)}
        task = {"container_id": container_id}
        try:
            created = await self._created(request)
            await self._api.call("start_task", task, deadline_s=WORK_DEADLINE_S)
        except ContainerdError as error:
            if error.code != "ALREADY_EXISTS":
                # What began only after our patience ended shall not run on: it counts as never started.
                with contextlib.suppress(ContainerdError):
                    await self.kill(container_id, signal.SIGKILL)
                    await self._api.maybe("delete_task", task, deadline_s=WORK_DEADLINE_S)
            raise
        self._started[container_id] = self._clock.now_s()
        return int(created.get("pid", 0))

    async def _created(self, request: dict[str, Any]) -> Mapping[str, Any]:
        """A task that waits for its start, perhaps since somebody died between the two steps."""
        try:
            return await self._api.call("create_task", request, deadline_s=WORK_DEADLINE_S)
        except ContainerdError as error:
            task = await self.get(request["container_id"]) if error.code == "ALREADY_EXISTS" else None
            if task is None or task.get("status", 0) != specs.CREATED:
                raise
            return task

    async def _keep_failed_start(self, container_id: str, message: str) -> None:
        now_s = self._clock.now_s()
        text = message[: specs.MESSAGE_CHARS_MAX]
        ended = specs.Ended(START_ERROR_CODE, now_s, reason="StartError", message=text)
        await self._keep_end(container_id, ended)
        await self._keeper.forget(container_id)

    # Ending

    async def stop(self, container_id: str, labels: Labels, grace_s: float) -> None:
        """The container's signal, SIGKILL after `grace_s`; returns when the end is kept."""
        if await self.get(container_id) is None:
            return
        if grace_s > 0:
            await self.kill(container_id, signal_number(labels.get(specs.STOP_SIGNAL, "")))
            if await self._ends_within(container_id, grace_s):
                await self.harvest(container_id)
                return
        await self.kill(container_id, signal.SIGKILL)
        if not await self._ends_within(container_id, KILL_GRACE_S):
            raise RuntimeFailure(f"container {container_id} does not end after SIGKILL", "KillContainerError")
        await self.harvest(container_id)

    async def kill(self, container_id: str, number: int, exec_id: str = "") -> None:
        """Send a signal; to what has ended is fine. SIGKILL goes to all processes of the container."""
        request = {"container_id": container_id, "exec_id": exec_id, "signal": int(number)}
        if number == signal.SIGKILL and not exec_id:
            request["all"] = True
        try:
            await self._api.maybe("kill", request)
        except ContainerdError as error:
            if error.code != "FAILED_PRECONDITION" and "already finished" not in str(error):
                raise

    async def _ends_within(self, container_id: str, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await self._api.maybe("wait", {"container_id": container_id}, deadline_s=WAIT_DEADLINE_S)
        except TimeoutError:
            return False
        return True

    async def harvest(self, container_id: str) -> None:
        """Keep how it ended and delete the task. Two that ask at a time share the work; no task is fine."""
        running = self._harvests.get(container_id)
        if running is None:
            running = self._supervisor.spawn(f"end/{container_id[:12]}", self._harvest(container_id))
            self._harvests[container_id] = running
            running.add_done_callback(lambda _: self._harvests.pop(container_id, None))
        await asyncio.shield(running)

    def harvest_soon(self, container_id: str) -> None:
        """As `harvest`, for an event's callback. What is being discarded has nothing to keep."""
        if container_id in self._discarded:
            return
        self._supervisor.spawn(f"exited/{container_id[:12]}", self._harvest_quietly(container_id))

    async def _harvest_quietly(self, container_id: str) -> None:
        try:
            await self.harvest(container_id)
        except RuntimeFailure as error:
            log.warning("how a container ended is not kept yet", container=container_id, error=str(error))

    async def _harvest(self, container_id: str) -> None:
        task = await self.get(container_id)
        if task is None or task.get("status", 0) != specs.STOPPED:
            return
        record = await self._api.maybe("container_facts", {"id": container_id})
        labels = record["container"].get("labels", {}) if record else {}
        if labels.get(specs.KIND) == specs.CONTAINER_KIND and specs.ENDED not in labels:
            kills = await asyncio.to_thread(cgroups.oom_kills, labels.get(specs.CGROUP, ""))
            ended = specs.Ended(
                int(task.get("exit_status", 0)),
                seconds(task.get("exited_at")) or self._clock.now_s(),
                self.started_s(container_id),
                "OOMKilled" if kills else "",
            )
            await self._keep_end(container_id, ended)
        await self._keeper.ended(container_id, OUTPUT_END_S)
        await self._delete(container_id)
        self._started.pop(container_id, None)

    async def _keep_end(self, container_id: str, ended: specs.Ended) -> None:
        labels = {specs.ENDED: msgspec.json.encode(ended).decode()}
        request = {
            "container": {"id": container_id, "labels": labels},
            "update_mask": {"paths": [f"labels.{specs.ENDED}"]},
        }
        await self._api.maybe("update_container", request)

    async def discard(self, container_id: str) -> None:
        """Kill, delete the task and let go of the pipes; nothing is kept."""
        self._discarded.add(container_id)
        try:
            await self._discard(container_id)
        finally:
            self._discarded.discard(container_id)

    async def _discard(self, container_id: str) -> None:
        if (harvest := self._harvests.get(container_id)) is not None:
            await asyncio.wait([harvest])
        task = await self.get(container_id)
        if task is not None:
            await self.kill(container_id, signal.SIGKILL)
            if task.get("status", 0) != specs.CREATED:
                await self._ends_within(container_id, KILL_GRACE_S)
            await self._delete(container_id)
        await self._keeper.forget(container_id)
        self._started.pop(container_id, None)
        await asyncio.to_thread(Fifos.discard, self._directory / container_id)

    async def _delete(self, container_id: str) -> None:
        """Delete what has ended. A shim breaks off when another deletion of the same was quicker: that is fine."""
        for last in (*(False,) * (DELETE_TRIES - 1), True):
            try:
                await self._api.maybe(
                    "delete_task", {"container_id": container_id}, deadline_s=WORK_DEADLINE_S
                )
                return
            except ContainerdError:
                if await self.get(container_id) is None:
                    return
                if last:
                    raise
            await self._clock.sleep(DELETE_RETRY_S)

    # Exec

    async def exec(
        self, container_id: str, process: Mapping[str, Any], *, stdin: bool, tty: bool
    ) -> tuple[str, FifoStreams]:
        """Start one more process; its id and streams. Its end is waited for, whoever asks."""
        exec_id = f"exec-{int(self._clock.now_s() * 1000)}-{next(self._numbers)}"
        where = {"container_id": container_id, "exec_id": exec_id}
        fifos = Fifos(self._directory / container_id / exec_id, stdin=stdin, tty=tty)
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def close_stdin() -> None:
            await self._forgiving("close_io", {**where, "stdin": True})

        async def resize(width: int, height: int) -> None:
            await self._forgiving("resize", {**where, "width": width, "height": height})

        async def wait() -> int:
            return await asyncio.shield(ended)

        def abandon(streams: FifoStreams) -> bool:
            if not begun or ended.done():
                return False
            self._supervisor.spawn(f"abandoned/{exec_id}", self._outlive(where, streams, tty=tty))
            return True

        begun: list[bool] = []
        streams = FifoStreams(
            fifos, self._clock, close_stdin=close_stdin, resize=resize, wait=wait, abandon=abandon
        )
        pipes = {"stdin": fifos.stdin, "stdout": fifos.stdout, "stderr": fifos.stderr}
        request = {**where, **pipes, "terminal": tty, "spec": self._api.any(PROCESS_TYPE, process)}
        try:
            await self._api.call("exec", request)
            await self._api.call("start_task", where, deadline_s=WORK_DEADLINE_S)
        except BaseException as error:
            self._supervisor.spawn(f"discard/{exec_id}", self._forgiving("delete_process", where))
            await streams.close()
            if isinstance(error, ContainerdError) and error.code in ("NOT_FOUND", "FAILED_PRECONDITION"):
                raise RuntimeFailure(f"container {container_id} is not running") from error
            raise
        self._supervisor.spawn(f"exec/{exec_id}", self._reap(where, ended))
        begun.append(True)
        return exec_id, streams

    async def _outlive(self, where: Mapping[str, str], streams: FifoStreams, *, tty: bool) -> None:
        async def send(number: signal.Signals) -> None:
            await self.kill(where["container_id"], number, where["exec_id"])

        try:
            await self._forgiving("close_io", {**where, "stdin": True})
            await outlive(streams.read, send, tty=tty)
        finally:
            streams.release()

    async def _reap(self, where: Mapping[str, Any], ended: asyncio.Future[int]) -> None:
        try:
            answer = await self._api.call("wait", dict(where), deadline_s=WAIT_DEADLINE_S)
            code = int(answer.get("exit_status", 0))
        except RuntimeFailure as error:
            if not ended.done():
                ended.set_exception(RuntimeUnavailable(f"the end of an exec is unknown: {error}"))
                ended.exception()
            return
        if not ended.done():
            ended.set_result(code)
        await self._forgiving("delete_process", dict(where))

    async def exec_sync(
        self, container_id: str, process: Mapping[str, Any], timeout_s: float
    ) -> tuple[int, bytes]:
        """Run to the end. What runs past its time is killed, so that a slow probe doesn't pile up processes."""
        exec_id, streams = await self.exec(container_id, process, stdin=False, tty=False)
        output = bytearray()
        try:
            async with asyncio.timeout(timeout_s):
                while (piece := await streams.read()) is not None:
                    output += piece[1][: EXEC_SYNC_BYTES_MAX - len(output)]
                code = await streams.wait()
        except TimeoutError:
            kill = self.kill(container_id, signal.SIGKILL, exec_id)
            self._supervisor.spawn(f"kill-exec/{exec_id}", kill)
            raise TimeoutError(f"command {process['args'][0]!r} timed out after {timeout_s:g} s") from None
        finally:
            await streams.close()
        return code, bytes(output)

    async def close_stdin(self, container_id: str) -> None:
        """End of input for a main process that takes it once."""
        await self._forgiving("close_io", {"container_id": container_id, "stdin": True})

    async def resize(self, container_id: str, width: int, height: int) -> None:
        request = {"container_id": container_id, "width": width, "height": height}
        await self._forgiving("resize", request)

    async def _forgiving(self, name: str, request: dict[str, Any]) -> None:
        """A call about a process that may have ended meanwhile."""
        try:
            await self._api.call(name, request)
        except ContainerdError as error:
            log.debug("too late for a process", call=name, error=str(error))


def signal_number(name: str) -> int:
    """`SIGTERM`, `TERM` or a number; SIGTERM where it is empty or unknown."""
    text = name.upper()
    if text.isdecimal():
        return int(text)
    full = text if text.startswith("SIG") else f"SIG{text}"
    known = getattr(signal, full.replace("SIGRTMIN+", "SIGRTMIN"), None)
    if full.startswith("SIGRTMIN+") and full[9:].isdecimal():
        return int(signal.SIGRTMIN) + int(full[9:])
    return int(known) if isinstance(known, signal.Signals) else int(signal.SIGTERM)
