"""Docker Engine (API 1.41 and newer) as a `Runtime`.

A sandbox is a pause container without network of the engine's (or on the host's); the containers of the pod
join its namespaces. The engine keeps all output (json-file, rotated), so nothing flows through us and nothing
stops when we do. Labels are the only memory: after a restart everything is found by them, and two instances on
one engine don't see each other. Owner: the agent.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import structlog

from orchestrator.base import mounting
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime import (
    cgroups,
    containerd_users,
    docker_certs,
    docker_logs,
    docker_specs,
    imagemounts,
    oom,
    pause,
)
from orchestrator.runtime.abandoned import outlive
from orchestrator.runtime.docker_engine import WORK_DEADLINE_S, Engine, EngineError
from orchestrator.runtime.docker_images import DockerImages
from orchestrator.runtime.docker_streams import (
    POLL_S,
    DockerStreams,
    Frames,
    exec_result,
    exec_state,
    resize_terminal,
)
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
from orchestrator.runtime.loglinks import LogLinks
from orchestrator.runtime.members import members
from orchestrator.runtime.podcgroups import PodCgroups
from orchestrator.runtime.registries import RegistryFile
from orchestrator.runtime.usage import Reading, UsageReader

log = structlog.get_logger(__name__)

STARTS_AT_ONCE = 8
"""More starts at a time make none of them faster; waiting here keeps each one's deadline honest."""

VERSION_DEADLINE_S = 10.0
EXEC_SYNC_BYTES_MAX = 16_384
EVENT_BYTES_MAX = 1_048_576
KILL_GRACE_S = 30.0
"""How long after the grace period the engine may take to kill."""

DETACH_KEYS = "ctrl-@,ctrl-^,ctrl-@,ctrl-^"
"""Docker would otherwise take ctrl-p ctrl-q out of what people type."""

EVENTS = {"start": "started", "die": "exited", "destroy": "removed", "oom": "oom"}


class DockerRuntime:
    """`interface.Runtime` on the engine whose socket is `endpoint` (`unix:///path` or a path)."""

    name = "docker"

    def __init__(
        self,
        endpoint: str,
        instance: str,
        clock: Clock,
        supervisor: Supervisor,
        log_dir: Path | None = None,
        registries: RegistryFile | None = None,
    ) -> None:
        """`log_dir` is where collectors look for pods' logs; None makes no links there."""
        self._links = LogLinks(log_dir, supervisor)
        self._engine = Engine(endpoint)
        self._instance = instance
        self._clock = clock
        self._supervisor = supervisor
        self._images = DockerImages(self._engine, instance, registries or RegistryFile(), docker_certs.ROOT)
        self._cgroups = PodCgroups(instance)
        self._oom = oom.OomScores()
        self._cgroup_driver = "cgroupfs"
        self._handlers: list[str] = []
        self._pod_cgroups: dict[str, str] = {}
        """Path of the pod's cgroup by container that was created and not yet started."""
        self._root: Path | None = None
        self._usage = UsageReader()
        self._start_slots = asyncio.Semaphore(STARTS_AT_ONCE)
        self._sandbox_labels: dict[str, dict[str, str]] = {}
        self._netns_paths: dict[str, str] = {}
        self._seen_ns = 0

    async def connect(self) -> None:
        """Reach the engine and load the pause image if it is absent."""
        await self._engine.connect()
        facts = await self._engine.call("GET", "info")
        self._cgroup_driver = facts.get("CgroupDriver", "cgroupfs")
        self._cgroups.systemd = self._cgroup_driver == "systemd"
        self._handlers = sorted(facts.get("Runtimes") or ())
        self._root = Path(facts["DockerRootDir"]) if facts.get("DockerRootDir") else None
        self._oom.floor = oom.floor(self._engine.peer_pid())
        if await self._images.find(pause.TAG) is None:
            await self._images.load(pause.image())
        await self._links.sweep()

    async def close(self) -> None:
        await self._engine.close()

    async def version(self) -> str:
        facts = await self._engine.call("GET", "version", deadline_s=VERSION_DEADLINE_S)
        return str(facts["Version"])

    # Sandboxes

    async def create_sandbox(self, spec: SandboxSpec) -> Sandbox:
        name = docker_specs.sandbox_name(self._instance, spec)
        body = docker_specs.sandbox_body(self._instance, spec, self._oom, self._cgroup_driver)
        try:
            sandbox_id = await self._create(name, body)
        except ImageNotFound:
            # Somebody cleaned up images while we ran; ours is made in no time.
            await self._images.load(pause.image())
            sandbox_id = await self._create(name, body)
        try:
            await self.start_container(sandbox_id)
            facts = await self._inspect(sandbox_id)
        except BaseException:
            self._supervisor.spawn(f"discard/{sandbox_id[:12]}", self.remove_container(sandbox_id))
            raise
        if facts is None or not facts["State"]["Running"]:
            await self.remove_container(sandbox_id)
            raise RuntimeFailure("the sandbox ended right after its start", "CreatePodSandboxError")
        self._sandbox_labels[sandbox_id] = body["Labels"]
        return self._sandbox(facts)

    async def stop_sandbox(self, sandbox_id: str) -> None:
        """Kills whatever still runs in it, then the pause process, which has nothing to save."""
        members = [container.id for container in await self._members(sandbox_id)]
        await asyncio.gather(*(self._kill(member) for member in members))
        await self._kill(sandbox_id)

    async def remove_sandbox(self, sandbox_id: str) -> None:
        members = [container.id for container in await self._members(sandbox_id)]
        labels = self._sandbox_labels.get(sandbox_id)
        if labels is None and (facts := await self._inspect(sandbox_id)) is not None:
            labels = facts["Config"]["Labels"]
        await asyncio.gather(*(self.remove_container(member) for member in members))
        await self.remove_container(sandbox_id)
        await self._remove_cgroup(labels or {})
        self._sandbox_labels.pop(sandbox_id, None)
        self._netns_paths.pop(sandbox_id, None)

    async def list_sandboxes(self) -> list[Sandbox]:
        rows = await self._rows(docker_specs.SANDBOX_KIND)
        known = {row["Id"] for row in rows}
        for cache in (self._sandbox_labels, self._netns_paths):
            for gone in cache.keys() - known:
                del cache[gone]
        return [docker_specs.sandbox_from_row(row, await self._netns_path(row)) for row in rows]

    async def inspect_sandbox(self, sandbox_id: str) -> Sandbox | None:
        facts = await self._inspect(sandbox_id)
        return self._sandbox(facts) if facts is not None else None

    async def _netns_path(self, row: dict[str, Any]) -> str:
        """From memory while that process lives; a daemon that just started has to ask."""
        sandbox_id: str = row["Id"]
        if row["State"] != "running" or row["Labels"].get(docker_specs.NETWORK) == "host":
            return ""
        path = self._netns_paths.get(sandbox_id, "")
        if not _exists(path):
            facts = await self._inspect(sandbox_id)
            path = self._sandbox(facts).netns_path if facts else ""
        return path

    def _sandbox(self, facts: dict[str, Any]) -> Sandbox:
        labels, state = facts["Config"]["Labels"], facts["State"]
        path = ""
        if state["Running"] and labels.get(docker_specs.NETWORK) != "host":
            path = self._netns_paths[facts["Id"]] = f"/proc/{state['Pid']}/ns/net"
        created_s = docker_specs.seconds(facts["Created"])
        row = {"Id": facts["Id"], "Labels": labels, "State": state["Status"], "Created": created_s}
        return docker_specs.sandbox_from_row(row, path)

    # Containers

    async def create_container(self, spec: ContainerSpec) -> str:
        sandbox = self._sandbox_labels.get(spec.sandbox_id)
        if sandbox is None:
            facts = await self._inspect(spec.sandbox_id)
            if facts is None:
                raise RuntimeFailure(f"sandbox {spec.sandbox_id} does not exist", "CreateContainerError")
            sandbox = self._sandbox_labels[spec.sandbox_id] = facts["Config"]["Labels"]
        if spec.cgroup is not None:
            await self._cgroups.ensure(spec.cgroup)
        spec = await self._with_groups(spec)
        body = docker_specs.container_body(self._instance, spec, sandbox, self._oom, self._cgroup_driver)
        container_id = await self._create(docker_specs.container_name(self._instance, spec), body)
        if spec.cgroup is not None and self._cgroups.systemd:
            self._pod_cgroups[container_id] = spec.cgroup.path
        return container_id

    async def _with_groups(self, spec: ContainerSpec) -> ContainerSpec:
        """The engine merges the image's groups only for a user without a group: where Kubernetes wants it
        otherwise we look them up, in the image's layers."""
        security = spec.security
        image = await self._images.find(spec.image)
        user = security.user or (image.user if image else "")
        if image is None or not (security.strict_groups or ":" in user):
            return spec
        try:
            layers = [str(layer) for layer in await self._images.layers(image.id)]
        except RuntimeFailure:
            return spec
        overlay = {"type": "overlay", "options": [f"lowerdir={':'.join(layers)}"]}
        accounts = await asyncio.to_thread(containerd_users.read, [overlay])
        groups, strict = security.supplemental_groups, security.strict_groups
        who = containerd_users.resolve(user, groups, accounts, strict=strict)
        found = replace(security, user=f"{who.uid}:{who.gid}", supplemental_groups=who.groups)
        return replace(spec, security=found)

    async def update_pod(self, cgroup: PodCgroup) -> None:
        await self._cgroups.ensure(cgroup)

    async def handlers(self) -> list[str]:
        return ["", *self._handlers]

    async def _remove_cgroup(self, labels: Mapping[str, str]) -> None:
        """The engine leaves the parent that it was given."""
        if path := labels.get(docker_specs.CGROUP_PARENT, ""):
            await self._cgroups.remove(path)

    async def _create(self, name: str, body: dict[str, Any]) -> str:
        """Create; one of that name left by an attempt that was cut off makes way."""
        for last in (False, True):
            try:
                answer = await self._engine.call(
                    "POST", "containers/create", params={"name": name}, body=body, deadline_s=WORK_DEADLINE_S
                )
                return str(answer["Id"])
            except EngineError as error:
                if error.status == 404:
                    raise ImageNotFound(str(error), "ErrImageNeverPull") from error
                if error.status != 409 or last:
                    raise RuntimeFailure(str(error), "CreateContainerError") from error
                await self.remove_container(name)
        raise AssertionError("unreachable")

    async def start_container(self, container_id: str) -> None:
        async with self._start_slots:
            try:
                await self._engine.call(
                    "POST", f"containers/{container_id}/start", deadline_s=WORK_DEADLINE_S
                )
            except EngineError as error:
                raise RuntimeFailure(str(error), "RunContainerError") from error
        if path := self._pod_cgroups.pop(container_id, ""):
            await self._cgroups.settle(path)

    async def stop_container(self, container_id: str, grace_s: float) -> None:
        timeout_s = docker_specs.stop_timeout_s(grace_s)
        if timeout_s == 0:
            await self._kill(container_id)
            return
        await self._forgiving(
            "POST",
            f"containers/{container_id}/stop",
            {"t": timeout_s},
            deadline_s=timeout_s + KILL_GRACE_S,
        )

    async def update_resources(self, container_id: str, resources: Resources) -> None:
        body = docker_specs.changeable_resources(resources)
        try:
            await self._engine.call("POST", f"containers/{container_id}/update", body=body)
        except EngineError as error:
            container = await self.inspect_container(container_id)
            if container is not None and container.state == "running":
                raise RuntimeFailure(str(error), "ResizeError") from error

    async def _kill(self, container_id: str) -> None:
        await self._forgiving("POST", f"containers/{container_id}/kill", {"signal": "SIGKILL"})
        await self._forgiving("POST", f"containers/{container_id}/wait", {"condition": "not-running"})

    async def remove_container(self, container_id: str) -> None:
        """The engine refuses (409) while another removal of the same runs; then that one's end counts."""
        path, params = f"containers/{container_id}", {"force": 1, "v": 1}
        try:
            await self._engine.call("DELETE", path, params=params, deadline_s=WORK_DEADLINE_S)
        except EngineError as error:
            if error.status == 409:
                await self._forgiving("POST", f"{path}/wait", {"condition": "removed"})
            elif error.status != 404:
                raise
        await self._links.removed(container_id)

    async def _forgiving(
        self, method: str, path: str, params: dict[str, Any], deadline_s: float = WORK_DEADLINE_S
    ) -> None:
        """A call that succeeds when its purpose is already reached."""
        try:
            await self._engine.call(method, path, params=params, deadline_s=deadline_s)
        except EngineError as error:
            if error.status not in (404, 409):
                raise

    async def list_containers(self) -> list[Container]:
        rows = await self._rows(docker_specs.CONTAINER_KIND)
        return [docker_specs.container_from_row(row) for row in rows]

    async def inspect_container(self, container_id: str) -> Container | None:
        facts = await self._inspect(container_id)
        if facts is None:
            return None
        container = docker_specs.container_from_inspect(facts)
        self._links.saw(container, facts.get("LogPath") or "")
        return container

    async def _inspect(self, container_id: str) -> dict[str, Any] | None:
        """Facts of a container of this instance; those of others count as absent."""
        try:
            facts: dict[str, Any] = await self._engine.call("GET", f"containers/{container_id}/json")
        except EngineError as error:
            if error.status == 404:
                return None
            raise
        return facts if facts["Config"]["Labels"].get(docker_specs.INSTANCE) == self._instance else None

    async def _members(self, sandbox_id: str) -> list[Container]:
        rows = await self._rows(docker_specs.CONTAINER_KIND, f"{docker_specs.SANDBOX_ID}={sandbox_id}")
        return [docker_specs.container_from_row(row) for row in rows]

    async def _rows(self, kind: str, *labels: str) -> list[dict[str, Any]]:
        wanted = [f"{docker_specs.INSTANCE}={self._instance}", f"{docker_specs.KIND}={kind}", *labels]
        filters = msgspec.json.encode({"label": wanted}).decode()
        rows = await self._engine.call("GET", "containers/json", params={"all": 1, "filters": filters})
        return list(rows)

    # Streams

    async def exec(self, container_id: str, command: Sequence[str], *, stdin: bool, tty: bool) -> Streams:
        exec_id, connection = await self._start_exec(container_id, command, stdin=stdin, tty=tty)

        async def resize(width: int, height: int) -> None:
            await resize_terminal(self._engine, f"exec/{exec_id}", width, height)

        async def wait() -> int:
            return await exec_result(self._engine, self._clock, exec_id)

        def abandon(streams: DockerStreams) -> None:
            self._supervisor.spawn(f"abandoned/{exec_id[:12]}", self._outlive(exec_id, streams, tty=tty))

        return DockerStreams(connection, tty=tty, resize=resize, wait=wait, abandon=abandon)

    async def _outlive(self, exec_id: str, streams: DockerStreams, *, tty: bool) -> None:
        async def send(number: signal.Signals) -> None:
            await self._signal_exec(exec_id, number)

        try:
            await outlive(streams.read, send, tty=tty)
        finally:
            await streams.close()

    async def _start_exec(
        self, container_id: str, command: Sequence[str], *, stdin: bool, tty: bool
    ) -> tuple[str, tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        body = {
            "AttachStdin": stdin,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": tty,
            "DetachKeys": DETACH_KEYS,
            "Cmd": list(command),
        }
        answer = await self._engine.call("POST", f"containers/{container_id}/exec", body=body)
        start = {"Detach": False, "Tty": tty}
        return answer["Id"], await self._engine.hijack(f"exec/{answer['Id']}/start", start)

    async def exec_sync(
        self, container_id: str, command: Sequence[str], timeout_s: float
    ) -> tuple[int, bytes]:
        """What runs past its time is killed, so that a slow probe doesn't pile up processes."""
        exec_id, (reader, writer) = await self._start_exec(container_id, command, stdin=False, tty=False)
        try:
            async with asyncio.timeout(timeout_s):
                output = await docker_logs.collect(Frames(reader), EXEC_SYNC_BYTES_MAX)
                code = await exec_result(self._engine, self._clock, exec_id)
        except TimeoutError:
            self._supervisor.spawn(f"kill-exec/{exec_id[:12]}", self._signal_exec(exec_id, signal.SIGKILL))
            raise TimeoutError(f"command {command[0]!r} timed out after {timeout_s:g} s") from None
        finally:
            writer.close()
        return code, output

    async def _signal_exec(self, exec_id: str, number: signal.Signals) -> None:
        """The engine has no call for it. A pid can be reused, so it is held while it is looked at again.

        The engine tells the pid only once the process has really started, which may be after its deadline.
        """
        async with asyncio.timeout(KILL_GRACE_S):
            while not (pid := (await exec_state(self._engine, exec_id)).pid):
                await self._clock.sleep(POLL_S[1])
        if pid < 0:
            return
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if (await exec_state(self._engine, exec_id)).pid == pid:
                signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return
        finally:
            os.close(descriptor)

    async def attach(self, container_id: str, *, stdin: bool, tty: bool) -> Streams:
        query = f"stream=1&stdout=1&stderr=1&stdin={int(stdin)}&detachKeys={DETACH_KEYS.replace('@', '%40')}"
        connection = await self._engine.hijack(f"containers/{container_id}/attach?{query}")

        async def resize(width: int, height: int) -> None:
            await resize_terminal(self._engine, f"containers/{container_id}", width, height)

        async def wait() -> int:
            facts = await self.inspect_container(container_id)
            return facts.exit_code if facts else 0

        return DockerStreams(connection, tty=tty, resize=resize, wait=wait)

    async def logs(self, container_id: str, options: LogOptions) -> AsyncIterator[LogLine]:
        facts = await self._inspect(container_id)
        if facts is None:
            raise RuntimeFailure(f"container {container_id} does not exist", "NotFound")
        async for line in docker_logs.lines(self._engine, container_id, facts["Config"]["Tty"], options):
            yield line

    # Images

    async def image(self, reference: str) -> Image | None:
        return await self._images.find(reference)

    async def pull(self, reference: str, auth: RegistryAuth | None = None) -> Image:
        return await self._images.pull(reference, auth)

    async def list_images(self) -> list[Image]:
        return await self._images.list()

    async def load_file(self, path: Path) -> None:
        await self._images.load_file(path)

    async def images_in_use(self) -> frozenset[str]:
        return await self._images.in_use()

    async def remove_image(self, image_id: str) -> None:
        await self._images.remove(image_id)

    async def mount_image(self, image_id: str, target: str) -> None:
        """A container that is never started keeps the image here."""
        layers = await self._images.layers(image_id)
        await self._create(*docker_specs.image_holder(self._instance, image_id, target))
        await asyncio.to_thread(imagemounts.mount, layers, Path(target))

    async def unmount_image(self, target: str) -> None:
        await asyncio.to_thread(mounting.unmount, target)
        await self.remove_container(docker_specs.image_holder(self._instance, "", target)[0])

    async def load_image(self, archive: bytes) -> None:
        """Take in an image archive in `docker save` format (see `imagetar`)."""
        await self._images.load(archive)

    # Stats and events

    async def stats(self, container_id: str) -> Stats | None:
        container = await self.inspect_container(container_id)
        if container is None or container.state != "running":
            return None
        return await asyncio.to_thread(cgroups.read, container.pid)

    async def usage(
        self, containers: Sequence[Container], shared: Collection[str] = (), *, detail: bool = False
    ) -> Reading:
        return await asyncio.to_thread(self._usage.read, members(containers, shared), detail=detail)

    async def places(self, container_id: str) -> Places:
        facts = await self._inspect(container_id)
        return docker_specs.places(facts) if facts is not None else Places()

    async def image_store(self) -> Path | None:
        return self._root

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        """Asked again after a break it also tells what the engine still remembers of the gap."""
        filters = {
            "type": ["container"],
            "event": list(EVENTS),
            "label": [f"{docker_specs.INSTANCE}={self._instance}"],
        }
        params = {"filters": msgspec.json.encode(filters).decode()}
        if self._seen_ns:
            whole_s, rest_ns = divmod(self._seen_ns + 1, 10**9)
            params["since"] = f"{whole_s}.{rest_ns:09d}"
        async with self._engine.stream("GET", "events", params=params) as content:
            rest = b""
            while data := await content.readany():
                *lines, rest = (rest + data).split(b"\n")
                for line in filter(None, lines):
                    yield self._event(msgspec.json.decode(line))
                if len(rest) > EVENT_BYTES_MAX:
                    raise RuntimeUnavailable("the Docker engine sent an event without end")
        raise RuntimeUnavailable("the Docker engine ended its event stream")

    def _event(self, event: dict[str, Any]) -> RuntimeEvent:
        self._seen_ns = max(self._seen_ns, int(event.get("timeNano", 0)))
        labels = event["Actor"]["Attributes"]
        kind: Any = EVENTS[event["Action"].split(":")[0]]
        return RuntimeEvent(labels.get(docker_specs.POD_UID, ""), event["Actor"]["ID"], kind)


def _exists(path: str) -> bool:
    """A look into /proc, which never waits for a disk."""
    return bool(path) and os.path.exists(path)
