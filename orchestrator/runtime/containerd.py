"""containerd (1.6 and newer) as a `Runtime`, over its own services: containers, tasks, snapshots, content, images.

Not over the CRI: that makes every sandbox with a pause container and a CNI network of its own, while here a pod's
namespaces are files (3 ms instead of a container's start) and the network is ours. Everything lies in a containerd
namespace of the instance's, so that two instances don't see each other and `ctr -n orc<instance>` shows one's own;
blobs are shared between namespaces by containerd itself. Output goes through FIFOs to the log keeper, a process
that outlives the daemon. Labels are the only memory. Owner: the agent.
"""

import asyncio
import hashlib
import itertools
import os
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import structlog

from orchestrator.base import mounting
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime import cgroups, containerd_logs, containerd_users, imagemounts, oom
from orchestrator.runtime import containerd_specs as specs
from orchestrator.runtime.containerd_api import RESOURCES_TYPE, SPEC_TYPE, ContainerdApi, seconds
from orchestrator.runtime.containerd_defaults import CAPABILITY_NUMBERS
from orchestrator.runtime.containerd_devices import asked, host_devices
from orchestrator.runtime.containerd_events import Events
from orchestrator.runtime.containerd_handlers import available, handler
from orchestrator.runtime.containerd_images import ContainerdImages, Unpacked
from orchestrator.runtime.containerd_output import Keeper, Output
from orchestrator.runtime.containerd_sandboxes import Sandboxes
from orchestrator.runtime.containerd_streams import AttachStreams
from orchestrator.runtime.containerd_tasks import Tasks
from orchestrator.runtime.imagetar import host_architecture
from orchestrator.runtime.interface import (
    Container,
    ContainerSpec,
    Image,
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

VERSION_DEADLINE_S = 10.0
SNAPSHOTTERS = ("overlayfs", "native")
LOST_CODE = 255
ACCOUNTS_MAX = 64


class ContainerdRuntime:
    """`interface.Runtime` on the containerd whose socket is `endpoint` (`unix:///path` or a path).

    `run_dir` holds what lives until the host restarts (namespaces, pipes), `log_dir` the logs of pods.
    """

    name = "containerd"

    def __init__(
        self,
        endpoint: str,
        instance: str,
        run_dir: Path,
        log_dir: Path,
        clock: Clock,
        supervisor: Supervisor,
        registries: RegistryFile | None = None,
    ) -> None:
        self._registries = registries
        self._api = ContainerdApi(endpoint.removeprefix("unix://"), f"orc{instance}")
        self._instance = instance
        self._directory = (run_dir / "containerd").absolute()
        self._log_dir = log_dir.absolute()
        self._links = LogLinks(self._log_dir, supervisor)
        self._clock = clock
        self._supervisor = supervisor
        self._keeper = Keeper(self._directory / "keeper.sock", clock, supervisor, self._hand_over)
        self._tasks = Tasks(self._api, self._keeper, self._directory / "io", clock, supervisor)
        self._sandboxes = Sandboxes(self._api, self._tasks, self._directory, instance, clock)
        self._events = Events(self._api, clock, self._tasks.harvest_soon)
        self._snapshotter = SNAPSHOTTERS[0]
        self._images = ContainerdImages(self._api, self._snapshotter, registries)
        self._cgroups = PodCgroups(instance)
        self._oom = oom.OomScores()
        self._store: Path | None = None
        self._usage = UsageReader()
        self._facts: specs.HostFacts | None = None
        self._accounts: dict[str, containerd_users.Accounts] = {}
        self._prepared: dict[str, tuple[Mapping[str, str], list[Any]]] = {}
        self._numbers = itertools.count(1)
        self._served: list[asyncio.Task[Any]] = []

    async def connect(self) -> None:
        """Reach the engine, adopt what runs and keep how the others ended."""
        await self.version()
        await asyncio.to_thread(self._directory.mkdir, parents=True, exist_ok=True, mode=0o711)
        await self._api.once("create_namespace", {"namespace": {"name": self._api.namespace}})
        self._snapshotter = await self._choose_snapshotter()
        self._images = ContainerdImages(self._api, self._snapshotter, self._registries)
        self._facts = await asyncio.to_thread(self._host_facts)
        await self._hand_over()
        await self._links.sweep()
        run = self._supervisor.serve("events", lambda: self._events.run(self._hand_over))
        self._served.append(run)

    async def close(self) -> None:
        for task in self._served:
            task.cancel()
        await self._keeper.close()
        await self._api.close()

    async def version(self) -> str:
        facts = await self._api.call("version", deadline_s=VERSION_DEADLINE_S)
        return str(facts.get("version", "")).removeprefix("v")

    async def _choose_snapshotter(self) -> str:
        """The first of ours that came up in this engine."""
        answer = await self._api.call("plugins", {"filters": ["type==io.containerd.snapshotter.v1"]})
        plugins = answer.get("plugins", ())
        sound = {plugin["id"]: plugin for plugin in plugins if "init_err" not in plugin}
        for name in SNAPSHOTTERS:
            if name in sound:
                root = sound[name].get("exports", {}).get("root", "")
                self._store = Path(root).parent if root else None
                return name
        raise RuntimeUnavailable(f"containerd has none of the snapshotters {', '.join(SNAPSHOTTERS)}")

    def _host_facts(self) -> specs.HostFacts:
        pid = self._api.peer_pid()
        self._oom.floor = oom.floor(pid)
        return specs.HostFacts(
            instance=self._instance,
            architecture=host_architecture(),
            capabilities=bounding(pid),
            swap_counted=cgroups.counts_swap(),
            cgroup_v2=cgroups.is_v2(),
            oom=self._oom,
            apparmor=default_apparmor(),
        )

    async def _hand_over(self) -> None:
        """Give the keeper what runs, and keep the ends of what does not any more."""
        records, tasks = await asyncio.gather(self._records(), self._task_list())
        for record in records:
            labels, task = record.get("labels", {}), tasks.get(record["id"])
            self._events.learn(record["id"], labels.get(specs.POD_UID, ""))
            if labels.get(specs.KIND) != specs.CONTAINER_KIND or task is None:
                continue
            if task.get("status", 0) == specs.STOPPED:
                self._tasks.harvest_soon(record["id"])
            else:
                fifos = self._tasks.fifos(record["id"], labels)
                await self._keeper.keep(Output(record["id"], fifos.stdout, fifos.stderr, labels[specs.LOG]))

    async def _records(self, *filters: str) -> list[dict[str, Any]]:
        answer = await self._api.call("list_containers", {"filters": list(filters)})
        return list(answer.get("containers", ()))

    async def _task_list(self) -> dict[str, dict[str, Any]]:
        answer = await self._api.call("list_tasks", {})
        return {task["id"]: task for task in answer.get("tasks", ())}

    # Sandboxes

    async def create_sandbox(self, spec: SandboxSpec) -> Sandbox:
        sandbox = await self._sandboxes.create(spec, self._host())
        self._events.learn(sandbox.id, spec.pod_uid)
        self._events.tell(sandbox.id, "started")
        return sandbox

    def _host(self) -> specs.HostFacts:
        if self._facts is None:
            raise RuntimeUnavailable("containerd was not connected to")
        return self._facts

    async def stop_sandbox(self, sandbox_id: str) -> None:
        """Kills whatever still runs in it, and lets its namespaces go."""
        members = await self._members(sandbox_id)
        await asyncio.gather(*(self.stop_container(member["id"], 0) for member in members))
        await self._sandboxes.stop(sandbox_id)

    async def remove_sandbox(self, sandbox_id: str) -> None:
        members = await self._members(sandbox_id)
        cgroups_of_pod = {_pod_cgroup(member.get("labels", {})) for member in members}
        await asyncio.gather(*(self.remove_container(member["id"]) for member in members))
        await self._sandboxes.remove(sandbox_id)
        for path in cgroups_of_pod - {""}:
            await self._cgroups.remove(path)
        self._events.forget(sandbox_id)

    async def _members(self, sandbox_id: str) -> list[dict[str, Any]]:
        return await self._records(f'labels."{specs.SANDBOX_ID}"=={sandbox_id}')

    async def list_sandboxes(self) -> list[Sandbox]:
        records, tasks = await asyncio.gather(self._records(), self._task_list())
        return await self._sandboxes.listed(records, tasks)

    async def inspect_sandbox(self, sandbox_id: str) -> Sandbox | None:
        return await self._sandboxes.inspect(sandbox_id)

    # Containers

    async def create_container(self, spec: ContainerSpec) -> str:
        labels = await self._sandboxes.labels(spec.sandbox_id)
        image = await self._images.unpacked(spec.image)
        await self._make_way(spec)
        container_id = hashlib.sha256(
            f"{spec.sandbox_id} {spec.name} {spec.attempt} {self._clock.now_s()} {next(self._numbers)}".encode()
        ).hexdigest()
        if spec.cgroup is not None:
            await self._cgroups.ensure(spec.cgroup)
        pod_cgroup = self._cgroups.path(spec.cgroup.path) if spec.cgroup else labels[specs.CGROUP]
        cgroup = f"{pod_cgroup}/{container_id}"
        chosen = handler(labels.get(specs.HANDLER, ""))
        plan = await self._plan(spec, labels, image, cgroup)
        own = specs.container_labels(
            spec, image.id, cgroup, str(self._log_path(spec)), spec.stop_signal or image.config.stop_signal
        )
        own[specs.HANDLER] = labels.get(specs.HANDLER, "")
        record = {
            "id": container_id,
            "labels": own,
            "image": spec.image,
            "runtime": {"name": chosen.shim},
            "spec": self._api.any(SPEC_TYPE, plan),
            "snapshotter": self._snapshotter,
            "snapshot_key": container_id,
        }
        # The record first: a snapshot that no record names is garbage.
        await self._api.call("create_container", {"container": record})
        place = {"snapshotter": self._snapshotter, "key": container_id, "parent": image.chain}
        try:
            prepared = await self._api.call("prepare_snapshot", place)
        except BaseException:
            await asyncio.shield(self.remove_container(container_id))
            raise
        self._events.learn(container_id, spec.pod_uid)
        self._prepared[container_id] = own, prepared.get("mounts", [])
        return container_id

    async def _plan(
        self, spec: ContainerSpec, sandbox: Mapping[str, str], image: Unpacked, cgroup: str
    ) -> dict[str, Any]:
        devices = await asyncio.to_thread(_devices, spec) if _sees_devices(spec) else []
        pause_pid = await self._joined_pid(spec, sandbox)
        accounts = await self._image_accounts(image)
        directory = self._sandboxes.directory(spec.sandbox_id)
        try:
            return specs.container_spec(
                self._host(), spec, image.config, accounts, sandbox, directory, pause_pid, devices, cgroup
            )
        except (ValueError, msgspec.DecodeError) as error:
            raise RuntimeFailure(str(error), "CreateContainerError") from error

    async def _joined_pid(self, spec: ContainerSpec, sandbox: Mapping[str, str]) -> int:
        """The process whose process namespace a container joins; 0 for one of its own."""
        if spec.target_id and sandbox.get(specs.PID) == "container":
            task = await self._tasks.get(spec.target_id)
            if task is None or task.get("status", 0) != specs.RUNNING:
                text = f"target container {spec.target_id} is not running"
                raise RuntimeFailure(text, "CreateContainerError")
            return int(task["pid"])
        return await self._sandboxes.pause_pid(spec.sandbox_id, sandbox)

    async def update_pod(self, cgroup: PodCgroup) -> None:
        await self._cgroups.ensure(cgroup)

    async def handlers(self) -> list[str]:
        return await asyncio.to_thread(available)

    async def _make_way(self, spec: ContainerSpec) -> None:
        """What an attempt of the same number left, which was cut off, goes first."""
        for record in await self._members(spec.sandbox_id):
            labels = record.get("labels", {})
            same = (labels.get(specs.CONTAINER_NAME), labels.get(specs.ATTEMPT))
            if same == (spec.name, str(spec.attempt)):
                await self.remove_container(record["id"])

    async def _image_accounts(self, image: Unpacked) -> containerd_users.Accounts:
        """The image's users and groups, read where its layers lie."""
        known = self._accounts.get(image.chain)
        if known is None:
            key = f"accounts-{next(self._numbers)}-{image.chain}"
            view = {"snapshotter": self._snapshotter, "key": key, "parent": image.chain}
            mounts = (await self._api.call("view_snapshot", view)).get("mounts", [])
            try:
                known = await asyncio.to_thread(containerd_users.read, mounts)
            finally:
                await self._api.maybe("remove_snapshot", {"snapshotter": self._snapshotter, "key": key})
            if len(self._accounts) >= ACCOUNTS_MAX:
                self._accounts.clear()
            self._accounts[image.chain] = known
        return known

    def _log_path(self, spec: ContainerSpec) -> Path:
        """In the layout that log collectors know."""
        pod = f"{spec.pod_namespace}_{spec.pod_name}_{spec.pod_uid}"
        return self._log_dir / pod / spec.name / f"{spec.attempt}.log"

    async def start_container(self, container_id: str) -> None:
        """Starting what runs succeeds; what has ended stays so."""
        prepared = self._prepared.pop(container_id, None)
        if prepared is None:
            facts = await self.inspect_container(container_id)
            if facts is None:
                raise RuntimeFailure(f"container {container_id} does not exist", "RunContainerError")
            if facts.state != "created":
                return
            place = {"snapshotter": self._snapshotter, "key": container_id}
            mounts = (await self._api.call("snapshot_mounts", place)).get("mounts", [])
            prepared = await self._labels(container_id) or {}, mounts
        await self._tasks.start(container_id, *prepared)

    async def stop_container(self, container_id: str, grace_s: float) -> None:
        labels = await self._labels(container_id)
        if labels is not None:
            await self._tasks.stop(container_id, labels, grace_s)

    async def update_resources(self, container_id: str, resources: Resources) -> None:
        changed = specs.changeable_resources(self._host(), resources)
        request = {"container_id": container_id, "resources": self._api.any(RESOURCES_TYPE, changed)}
        await self._api.maybe("update_task", request)

    async def remove_container(self, container_id: str) -> None:
        labels = await self._labels(container_id)
        if labels is None:
            return
        self._prepared.pop(container_id, None)
        await self._tasks.discard(container_id)
        await self._api.maybe("remove_snapshot", {"snapshotter": self._snapshotter, "key": container_id})
        await self._links.removed(container_id)
        await asyncio.to_thread(_remove_files, labels)
        await self._api.maybe("delete_container", {"id": container_id})
        self._events.forget(container_id)

    async def _labels(self, container_id: str) -> Mapping[str, str] | None:
        """Of a container of ours that exists."""
        answer = await self._api.maybe("container_facts", {"id": container_id})
        labels: Mapping[str, str] = answer["container"].get("labels", {}) if answer else {}
        return labels if labels.get(specs.KIND) == specs.CONTAINER_KIND else None

    async def list_containers(self) -> list[Container]:
        records, tasks = await asyncio.gather(self._records(), self._task_list())
        mine = [each for each in records if each.get("labels", {}).get(specs.KIND) == specs.CONTAINER_KIND]
        return [await self._container(record, tasks.get(record["id"])) for record in mine]

    async def inspect_container(self, container_id: str) -> Container | None:
        """Whoever sees an end first keeps it: so what is told here stays true."""
        for _ in range(2):
            answer = await self._api.maybe("container_facts", {"id": container_id})
            if (
                answer is None
                or answer["container"].get("labels", {}).get(specs.KIND) != specs.CONTAINER_KIND
            ):
                return None
            record = answer["container"]
            if specs.ENDED in record["labels"]:
                return await self._container(record, None)
            task = await self._tasks.get(container_id)
            if task is not None and task.get("status", 0) != specs.STOPPED:
                container = await self._container(record, task)
                self._links.saw(container)
                return container
            await self._tasks.harvest(container_id)
        return await self._container(record, None)

    async def _container(self, record: dict[str, Any], task: Mapping[str, Any] | None) -> Container:
        labels = record["labels"]
        ended = specs.ended_of(labels)
        if ended is None and (task is None or task.get("status", 0) == specs.STOPPED):
            ended = await asyncio.to_thread(self._lost, record["id"], labels, task)
        started_s = self._tasks.started_s(record["id"])
        if not started_s and task is not None and ended is None:
            started_s = await asyncio.to_thread(
                process_started_s, int(task.get("pid", 0)), self._clock.now_s()
            )
        return specs.container_from_record(record, task, ended, started_s)

    def _lost(
        self, container_id: str, labels: Mapping[str, str], task: Mapping[str, Any] | None
    ) -> specs.Ended | None:
        """The end of what neither runs nor is known how it ended: its shim was killed, or the host started again.

        Its log alone proves no start since then: it is made before the task. Blocking.
        """
        now_s = self._clock.now_s()
        if task is not None:
            return specs.Ended(int(task.get("exit_status", 0)), seconds(task.get("exited_at")) or now_s)
        try:
            last_s = os.stat(labels.get(specs.LOG, "")).st_mtime
        except OSError:
            return None
        if not self._tasks.began(container_id) and last_s > now_s - host_up_s():
            return None
        return specs.Ended(LOST_CODE, last_s, reason="ContainerStatusUnknown", message="its end was not seen")

    # Streams

    async def exec(self, container_id: str, command: Sequence[str], *, stdin: bool, tty: bool) -> Streams:
        process = specs.exec_process(await self._spec(container_id), command, tty=tty)
        return (await self._tasks.exec(container_id, process, stdin=stdin, tty=tty))[1]

    async def exec_sync(
        self, container_id: str, command: Sequence[str], timeout_s: float
    ) -> tuple[int, bytes]:
        process = specs.exec_process(await self._spec(container_id), command, tty=False)
        return await self._tasks.exec_sync(container_id, process, timeout_s)

    async def _spec(self, container_id: str) -> dict[str, Any]:
        """The OCI spec of a container that runs. Raises `RuntimeFailure` for any other."""
        answer, task = await asyncio.gather(
            self._api.maybe("get_container", {"id": container_id}), self._tasks.get(container_id)
        )
        if answer is None or task is None or task.get("status", 0) != specs.RUNNING:
            raise RuntimeFailure(f"container {container_id} is not running")
        spec: dict[str, Any] = msgspec.json.decode(answer["container"]["spec"]["value"])
        return spec

    async def attach(self, container_id: str, *, stdin: bool, tty: bool) -> Streams:
        labels = await self._labels(container_id)
        if labels is None:
            raise RuntimeFailure(f"container {container_id} does not exist", "NotFound")
        streams = labels.get(specs.STREAMS, "").split()

        async def close_stdin() -> None:
            if "stdin_once" in streams:
                await self._tasks.close_stdin(container_id)

        async def resize(width: int, height: int) -> None:
            await self._tasks.resize(container_id, width, height)

        async def wait() -> int:
            facts = await self.inspect_container(container_id)
            return facts.exit_code if facts else 0

        connection = await self._keeper.attach(container_id)
        pipe = self._tasks.fifos(container_id, labels).stdin if stdin else ""
        return AttachStreams(connection, pipe, self._clock, close_stdin=close_stdin, resize=resize, wait=wait)

    async def logs(self, container_id: str, options: LogOptions) -> AsyncIterator[LogLine]:
        labels = await self._labels(container_id)
        if labels is None:
            raise RuntimeFailure(f"container {container_id} does not exist", "NotFound")
        path = Path(labels[specs.LOG])

        def going_on() -> bool:
            return self._keeper.keeps(container_id)

        async for line in containerd_logs.lines(path, options, going_on, self._clock.sleep):
            yield line

    # Images

    async def image(self, reference: str) -> Image | None:
        return await self._images.find(reference)

    async def pull(self, reference: str, auth: RegistryAuth | None = None) -> Image:
        return await self._images.pull(reference, auth)

    async def list_images(self) -> list[Image]:
        return await self._images.all()

    async def load_file(self, path: Path) -> None:
        """Held in memory while it is taken in."""
        await self._images.load(await asyncio.to_thread(path.read_bytes))

    async def images_in_use(self) -> frozenset[str]:
        """The namespace is ours alone, and so are its containers."""
        found = (record.get("labels", {}).get(specs.IMAGE_ID, "") for record in await self._records())
        return frozenset(found) - {""}

    async def remove_image(self, image_id: str) -> None:
        await self._images.remove(image_id)

    async def mount_image(self, image_id: str, target: str) -> None:
        """A view of its layers keeps them here."""
        image = await self._images.unpacked(image_id)
        place = {"snapshotter": self._snapshotter, "key": imagemounts.key(target)}
        labels = {"containerd.io/gc.root": "image volume"}
        await self._api.once("view_snapshot", {**place, "parent": image.chain, "labels": labels})
        mounts = (await self._api.call("snapshot_mounts", place)).get("mounts", [])
        await asyncio.to_thread(imagemounts.mount, containerd_users.layers(mounts), Path(target))

    async def unmount_image(self, target: str) -> None:
        await asyncio.to_thread(mounting.unmount, target)
        place = {"snapshotter": self._snapshotter, "key": imagemounts.key(target)}
        await self._api.maybe("remove_snapshot", place)

    async def load_image(self, archive: bytes) -> None:
        """Take in an image archive: in `docker save` format (see `imagetar`), or an OCI layout."""
        await self._images.load(archive)

    # Stats and events

    async def stats(self, container_id: str) -> Stats | None:
        task = await self._tasks.get(container_id)
        if task is None or task.get("status", 0) != specs.RUNNING:
            return None
        return await asyncio.to_thread(cgroups.read, int(task["pid"]))

    async def usage(
        self, containers: Sequence[Container], shared: Collection[str] = (), *, detail: bool = False
    ) -> Reading:
        return await asyncio.to_thread(self._usage.read, members(containers, shared), detail=detail)

    async def places(self, container_id: str) -> Places:
        labels = await self._labels(container_id)
        if labels is None:
            return Places()
        answer = await self._api.maybe(
            "snapshot_mounts", {"snapshotter": self._snapshotter, "key": container_id}
        )
        return Places(specs.upper_directory((answer or {}).get("mounts", ())), Path(labels[specs.LOG]).parent)

    async def image_store(self) -> Path | None:
        return self._store

    def events(self) -> AsyncIterator[RuntimeEvent]:
        return self._events.listen()


def bounding(pid: int, proc: Path = Path("/proc")) -> frozenset[str]:
    """The capabilities that the process `pid`, which starts containers, may hand out; ours where it is hidden."""
    directory = proc / str(pid) if pid > 0 and (proc / str(pid)).exists() else proc / "self"
    for line in (directory / "status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            mask = int(line.split()[1], 16)
            return frozenset(name for bit, name in enumerate(CAPABILITY_NUMBERS) if mask >> bit & 1)
    return frozenset(CAPABILITY_NUMBERS)


def default_apparmor(path: Path = Path("/sys/kernel/security/apparmor/profiles")) -> str:
    """The profile for containers that somebody loaded, containerd's own or Docker's; empty where there is none."""
    try:
        loaded = {line.partition(" (")[0] for line in path.read_text().splitlines()}
    except OSError:
        return ""
    return next((name for name in ("cri-containerd.apparmor.d", "docker-default") if name in loaded), "")


def _sees_devices(spec: ContainerSpec) -> bool:
    return spec.security.privileged or bool(spec.devices)


def _devices(spec: ContainerSpec) -> list[tuple[dict[str, Any], str]]:
    """What a container sees of the host's devices, and what it may do with each. Blocking."""
    of_host = host_devices() if spec.security.privileged else []
    named = [(found, device.permissions) for device in spec.devices for found in asked(device)]
    return [*((device, "rwm") for device in of_host), *named]


def _pod_cgroup(labels: Mapping[str, str]) -> str:
    """Of the pod that a container belongs to, from the container's own."""
    return labels.get(specs.CGROUP, "").rpartition("/")[0]


def host_up_s(proc: Path = Path("/proc")) -> float:
    """Seconds since the host started."""
    return float((proc / "uptime").read_text().split()[0])


def process_started_s(pid: int, now_s: float, proc: Path = Path("/proc")) -> float:
    """When a process started; 0 for one that is gone. Blocking for a look into /proc."""
    try:
        ticks = int((proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])
        uptime_s = host_up_s(proc)
    except (OSError, ValueError, IndexError):
        return 0.0
    return now_s - uptime_s + ticks / os.sysconf("SC_CLK_TCK")


def _remove_files(labels: Mapping[str, str]) -> None:
    """The log with what was rotated away, directories that are empty after, and the cgroup."""
    path = Path(labels.get(specs.LOG, "/nonexistent/0.log"))
    for file in containerd_logs.files(path):
        file.unlink(missing_ok=True)
    for directory in (path.parent, path.parent.parent):
        with suppress(OSError):
            directory.rmdir()
    cgroups.remove(labels.get(specs.CGROUP, ""))
