"""A `Runtime` in memory, for tens of thousands of containers: no processes, no files, the clock that is given.

It keeps the contract of the real ones, judged by the same suite. A container acts out its command (see
`simulated_program`); one that merely serves costs no task. Every image is here unless named in `missing`.
Owner: the agent of a simulated node, or a test.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime import simulated_usage
from orchestrator.runtime.interface import (
    Container,
    ContainerSpec,
    Image,
    ImageNotFound,
    LogLine,
    LogOptions,
    Places,
    PodCgroup,
    RegistryAuth,
    Resources,
    RuntimeEvent,
    RuntimeFailure,
    RuntimeUnavailable,
    Sandbox,
    SandboxSpec,
    Stats,
    Streams,
)
from orchestrator.runtime.references import is_image_id, parse
from orchestrator.runtime.simulated_program import Step, program
from orchestrator.runtime.simulated_streams import Output, SimulatedStreams
from orchestrator.runtime.usage import Reading

EVENTS_WAITING_MAX = 65_536
LOG_LINES_MAX = 10_000
OUTPUT_BYTES_MAX = 16_384
KILLED, TERMINATED = 137, 143


_Write = Callable[[Literal["stdout", "stderr"], bytes], None]


@dataclass(slots=True)
class _Running:
    """A container with what only this runtime needs. `acting` is its task while it acts out a command."""

    facts: Container
    spec: ContainerSpec
    log: deque[LogLine] = field(default_factory=lambda: deque(maxlen=LOG_LINES_MAX))
    logged: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    acting: asyncio.Task[None] | None = None
    output: Output | None = None


class SimulatedRuntime:
    """`interface.Runtime` without an engine. `start_s` is how long a start takes, on `clock`."""

    name = "simulated"

    def __init__(
        self,
        clock: Clock,
        supervisor: Supervisor | None = None,
        *,
        missing: Iterable[str] = (),
        start_s: float = 0.0,
    ) -> None:
        self._clock = clock
        self._supervisor = supervisor or Supervisor("simulated-runtime", clock)
        self._missing = {parse(reference).familiar for reference in missing}
        self._start_s = start_s
        self._numbers = itertools.count(1)
        self._sandboxes: dict[str, Sandbox] = {}
        self._containers: dict[str, _Running] = {}
        self._by_sandbox: dict[str, dict[str, _Running]] = {}
        self._images: dict[str, Image] = {}
        self._listeners: set[asyncio.Queue[RuntimeEvent | None]] = set()

    async def connect(self) -> None: ...

    async def close(self) -> None:
        """Ends event streams and everything that acts."""
        for listener in self._listeners:
            self._offer(listener, None)
        for running in self._containers.values():
            if running.acting is not None:
                running.acting.cancel()

    async def version(self) -> str:
        return "1.0"

    # Sandboxes

    async def create_sandbox(self, spec: SandboxSpec) -> Sandbox:
        await self._start_delay()
        sandbox_id = self._new_id()
        sandbox = Sandbox(
            id=sandbox_id,
            pod_uid=spec.pod_uid,
            pod_name=spec.pod_name,
            pod_namespace=spec.pod_namespace,
            attempt=spec.attempt,
            running=True,
            created_s=self._clock.now_s(),
            netns_path=f"simulated:{sandbox_id}" if spec.network == "pod" else "",
            annotations=dict(spec.annotations),
        )
        self._sandboxes[sandbox_id] = sandbox
        self._by_sandbox[sandbox_id] = {}
        self._tell(sandbox.pod_uid, sandbox_id, "started")
        return sandbox

    async def stop_sandbox(self, sandbox_id: str) -> None:
        for member in self._members(sandbox_id):
            self._end(member, KILLED)
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is not None and sandbox.running:
            self._sandboxes[sandbox_id] = replace(sandbox, running=False, netns_path="")
            self._tell(sandbox.pod_uid, sandbox_id, "exited")

    async def remove_sandbox(self, sandbox_id: str) -> None:
        await self.stop_sandbox(sandbox_id)
        for member in self._members(sandbox_id):
            await self.remove_container(member.facts.id)
        sandbox = self._sandboxes.pop(sandbox_id, None)
        self._by_sandbox.pop(sandbox_id, None)
        if sandbox is not None:
            self._tell(sandbox.pod_uid, sandbox_id, "removed")

    async def list_sandboxes(self) -> list[Sandbox]:
        return list(self._sandboxes.values())

    async def inspect_sandbox(self, sandbox_id: str) -> Sandbox | None:
        return self._sandboxes.get(sandbox_id)

    # Containers

    async def create_container(self, spec: ContainerSpec) -> str:
        if spec.sandbox_id not in self._sandboxes:
            raise RuntimeFailure(f"sandbox {spec.sandbox_id} does not exist", "CreateContainerError")
        image = await self.image(spec.image)
        if image is None:
            raise ImageNotFound(f"No such image: {spec.image}", "ErrImageNeverPull")
        facts = Container(
            id=self._new_id(),
            sandbox_id=spec.sandbox_id,
            pod_uid=spec.pod_uid,
            pod_name=spec.pod_name,
            pod_namespace=spec.pod_namespace,
            name=spec.name,
            attempt=spec.attempt,
            image=spec.image,
            image_id=image.id,
            state="created",
            created_s=self._clock.now_s(),
            annotations=dict(spec.annotations),
        )
        running = self._containers[facts.id] = _Running(facts, spec)
        self._by_sandbox[spec.sandbox_id][facts.id] = running
        return facts.id

    async def start_container(self, container_id: str) -> None:
        running = self._get(container_id, "RunContainerError")
        if running.facts.state == "running":
            return
        await self._start_delay()
        running.facts = replace(running.facts, state="running", started_s=self._clock.now_s())
        self._tell(running.facts.pod_uid, container_id, "started")
        steps = program([*running.spec.command, *running.spec.args])
        if steps[0].kind != "forever":
            name = f"container/{container_id[:12]}"
            running.output = Output()
            if not running.spec.stdin:
                running.output.close_input()
            running.acting = self._supervisor.spawn(name, self._act_out(running, running.output, steps))

    async def _act_out(self, running: _Running, output: Output, steps: list[Step]) -> None:

        def write(stream: Literal["stdout", "stderr"], data: bytes) -> None:
            for line in data.splitlines(keepends=True):
                self._log(running, stream, line)
            output.write("stdout" if running.spec.tty else stream, data)

        self._end(running, await self._perform(steps, output, write))

    async def _perform(self, steps: list[Step], output: Output, write: _Write) -> int:
        status = 0
        for step in steps:
            if step.and_then and status != 0:
                continue
            match step.kind:
                case "print":
                    write(step.stream, step.text.encode())
                    status = 0
                case "status":
                    status = int(step.value)
                case "exit":
                    return int(step.value)
                case "sleep":
                    await self._clock.sleep(step.value)
                case "cat":
                    while data := await output.read_input():
                        write("stdout", data)
                case "forever":
                    await asyncio.Event().wait()
        return status

    async def stop_container(self, container_id: str, grace_s: float) -> None:
        """Everything simulated ends at once on SIGTERM."""
        running = self._containers.get(container_id)
        if running is not None:
            self._end(running, TERMINATED if grace_s > 0 else KILLED)

    async def update_pod(self, cgroup: PodCgroup) -> None:
        return None

    async def handlers(self) -> list[str]:
        return [""]

    async def update_resources(self, container_id: str, resources: Resources) -> None:
        running = self._containers.get(container_id)
        if running is not None and running.facts.state == "running":
            running.spec = replace(running.spec, resources=resources)

    async def remove_container(self, container_id: str) -> None:
        running = self._containers.pop(container_id, None)
        if running is not None:
            self._by_sandbox[running.facts.sandbox_id].pop(container_id, None)
            self._end(running, KILLED)
            self._tell(running.facts.pod_uid, container_id, "removed")

    async def list_containers(self) -> list[Container]:
        return [running.facts for running in self._containers.values()]

    async def inspect_container(self, container_id: str) -> Container | None:
        running = self._containers.get(container_id)
        return running.facts if running else None

    # Streams

    async def exec(self, container_id: str, command: Sequence[str], *, stdin: bool, tty: bool) -> Streams:
        running = self._get_running(container_id)
        output = Output()
        if not stdin:
            output.close_input()

        def write(stream: Literal["stdout", "stderr"], data: bytes) -> None:
            output.write("stdout" if tty else stream, data)

        async def perform() -> None:
            output.finish(await self._perform(program(command), output, write))

        name = f"exec/{running.facts.id[:12]}/{next(self._numbers)}"
        return SimulatedStreams(output, self._supervisor.spawn(name, perform()))

    async def exec_sync(
        self, container_id: str, command: Sequence[str], timeout_s: float
    ) -> tuple[int, bytes]:
        streams = await self.exec(container_id, command, stdin=False, tty=False)
        output = bytearray()

        async def collect() -> int:
            while (piece := await streams.read()) is not None:
                output.extend(piece[1][: OUTPUT_BYTES_MAX - len(output)])
            return await streams.wait()

        work = self._supervisor.spawn(f"exec-sync/{next(self._numbers)}", collect())
        alarm = self._supervisor.spawn(f"exec-alarm/{next(self._numbers)}", self._clock.sleep(timeout_s))
        try:
            await asyncio.wait({work, alarm}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise TimeoutError(f"command {command[0]!r} timed out after {timeout_s:g} s")
            return work.result(), bytes(output)
        finally:
            for task in (work, alarm):
                task.cancel()
            await streams.close()

    async def attach(self, container_id: str, *, stdin: bool, tty: bool) -> Streams:
        running = self._get_running(container_id)
        running.output = running.output or Output()
        return SimulatedStreams(running.output, None)

    async def logs(self, container_id: str, options: LogOptions) -> AsyncIterator[LogLine]:
        running = self._get(container_id, "NotFound")
        lines = [line for line in running.log if _seconds(line.time) >= options.since_s]
        next_line = running.logged
        for line in lines if options.tail_lines is None else lines[max(0, len(lines) - options.tail_lines) :]:
            yield line
        while options.follow and running.facts.state == "running":
            if running.logged == next_line:
                running.changed.clear()
                await running.changed.wait()
            fresh = min(running.logged - next_line, len(running.log))
            next_line = running.logged
            for line in list(running.log)[len(running.log) - fresh :]:
                yield line

    # Images

    async def image(self, reference: str) -> Image | None:
        if is_image_id(reference):
            return next((image for image in self._images.values() if image.id == reference), None)
        familiar = parse(reference).familiar
        if familiar in self._missing:
            return None
        if familiar not in self._images:
            identity = f"sha256:{len(self._images) + 1:064x}"
            self._images[familiar] = Image(identity, (familiar,), size_bytes=1_000_000)
        return self._images[familiar]

    async def pull(self, reference: str, auth: RegistryAuth | None = None) -> Image:
        image = await self.image(reference)
        if image is None:
            raise ImageNotFound(f'failed to pull image "{reference}": not found')
        return image

    async def list_images(self) -> list[Image]:
        return list(self._images.values())

    async def mount_image(self, image_id: str, target: str) -> None:
        """There is nothing in an image."""

    async def unmount_image(self, target: str) -> None:
        return None

    async def load_file(self, path: Path) -> None:
        from orchestrator.runtime.imagearchive import archive_names

        for name in await asyncio.to_thread(archive_names, path):
            await self.image(name)

    async def images_in_use(self) -> frozenset[str]:
        return frozenset(running.facts.image_id for running in self._containers.values())

    async def remove_image(self, image_id: str) -> None:
        self._images = {name: image for name, image in self._images.items() if image.id != image_id}

    # Stats and events

    async def stats(self, container_id: str) -> Stats | None:
        running = self._containers.get(container_id)
        if running is None or running.facts.state != "running":
            return None
        used = simulated_usage.usage(running.spec, self._clock.now_s() - running.facts.started_s)
        return Stats(used.cpu_ns, used.memory_bytes, used.working_set_bytes)

    async def usage(
        self, containers: Sequence[Container], shared: Collection[str] = (), *, detail: bool = False
    ) -> Reading:
        now_s, reading = self._clock.now_s(), Reading()
        for container in containers:
            running = self._containers.get(container.id)
            if running is not None and running.facts.state == "running":
                ran_s = max(0.0, now_s - running.facts.started_s)
                reading.containers[container.id] = simulated_usage.usage(running.spec, ran_s)
                if container.pod_uid not in shared:
                    reading.networks[container.pod_uid] = simulated_usage.network(ran_s)
        return reading

    async def places(self, container_id: str) -> Places:
        return Places()

    async def image_store(self) -> Path | None:
        return None

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        listener: asyncio.Queue[RuntimeEvent | None] = asyncio.Queue(EVENTS_WAITING_MAX)
        self._listeners.add(listener)
        try:
            while (event := await listener.get()) is not None:
                yield event
        finally:
            self._listeners.discard(listener)
        raise RuntimeUnavailable("the simulated engine was closed, or the listener fell behind")

    # Below: state

    def _end(self, running: _Running, code: int) -> None:
        if running.facts.state != "running":
            return
        running.facts = replace(running.facts, state="exited", exit_code=code, finished_s=self._clock.now_s())
        if running.acting is not None:
            if running.acting is not asyncio.current_task():
                running.acting.cancel()
            running.acting = None
        if running.output is not None:
            running.output.finish(code)
        running.changed.set()
        self._tell(running.facts.pod_uid, running.facts.id, "exited")

    def _log(self, running: _Running, stream: Literal["stdout", "stderr"], line: bytes) -> None:
        now_s = self._clock.now_s()
        partial = not line.endswith(b"\n")
        running.log.append(LogLine(stream, _time(now_s), line if partial else line[:-1], partial))
        running.logged += 1
        running.changed.set()

    def _tell(
        self, pod_uid: str, container_id: str, kind: Literal["started", "exited", "removed", "oom"]
    ) -> None:
        for listener in self._listeners:
            self._offer(listener, RuntimeEvent(pod_uid, container_id, kind))

    def _offer(self, listener: asyncio.Queue[RuntimeEvent | None], event: RuntimeEvent | None) -> None:
        """A listener that fell behind is told so by the end of its stream; it lists and starts anew."""
        if listener.full():
            while not listener.empty():
                listener.get_nowait()
            event = None
        listener.put_nowait(event)

    def _get(self, container_id: str, reason: str) -> _Running:
        running = self._containers.get(container_id)
        if running is None:
            raise RuntimeFailure(f"container {container_id} does not exist", reason)
        return running

    def _get_running(self, container_id: str) -> _Running:
        running = self._get(container_id, "NotFound")
        if running.facts.state != "running":
            raise RuntimeFailure(f"container {container_id} is not running")
        return running

    def _members(self, sandbox_id: str) -> list[_Running]:
        return list(self._by_sandbox.get(sandbox_id, {}).values())

    def _new_id(self) -> str:
        return f"{next(self._numbers):064x}"

    async def _start_delay(self) -> None:
        if self._start_s:
            await self._clock.sleep(self._start_s)


def _time(now_s: float) -> str:
    """RFC 3339 with nanoseconds."""
    whole, fraction = divmod(round(now_s * 1e6), 1_000_000)
    return datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{fraction:06d}000Z"


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time[:26] + "+00:00").timestamp()
