"""Device plugins of the node: registration, capacity, allocation, health. The kubelet's side of v1beta1.

Rules, in order:
1. A plugin registers at `kubelet.sock` below the plugins' directory and is then called at its own socket there. Its
   resource counts as capacity with all its devices, as allocatable with the healthy ones.
2. A pod that asks for devices gets them when it is admitted, before anything else of it is made; one that can't is
   refused with UnexpectedAdmissionError. What pods have is in a file and survives the agent.
3. Before a container's first start the plugin is asked which devices it prefers and what they need; before every
   start it is told, if it wants to be.
4. A plugin that goes away leaves its capacity, with nothing allocatable; when it is back, it registers anew.
5. A device whose health changes is shown in the statuses of the containers that have it.

Stateful; owner: `Agent`. Reads nothing of the API.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from orchestrator.agent import podspec
from orchestrator.agent.devices.ledger import Entry, Ledger, choose, merged, preferred, wanted
from orchestrator.agent.devices.plugin import HEALTHY, Plugin, Wire
from orchestrator.api.item import Object
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime.interface import Device, Mount, RuntimeFailure
from orchestrator.wire.grpc import GrpcError
from orchestrator.wire.grpcserver import GrpcServer

log = structlog.get_logger(__name__)

VERSION = "v1beta1"
SOCKET = "kubelet.sock"
LEDGER = "orchestrator_devices.json"
KNOCK_DEADLINE_S = 2.0
REASON = "UnexpectedAdmissionError"


@dataclass(frozen=True, slots=True)
class Edits:
    """What a container's devices add to it."""

    env: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()


class DeviceManager:
    """The plugins below `directory`. `active` names the pods that still need what they have."""

    def __init__(
        self,
        directory: Path,
        supervisor: Supervisor,
        active: Callable[[], Collection[str]],
        changed: Callable[[Collection[str]], None],
    ) -> None:
        """`changed` is called with the uids of pods whose devices' health changed, none where only capacity did."""
        self._directory = directory
        self._supervisor = supervisor
        self._active = active
        self._changed = changed
        self._wire = Wire()
        self._ledger = Ledger(directory / LEDGER)
        self._saving = asyncio.Lock()
        self._plugins: dict[str, Plugin] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}
        register = {"/v1beta1.Registration/Register": self._register}
        self._server = GrpcServer(directory / SOCKET, supervisor, register)

    async def start(self) -> None:
        """Read what is given out and take registrations. Raises `OSError`, also where somebody else takes them."""
        if await _answers(self._directory / SOCKET):
            raise OSError(f"another kubelet listens at {self._directory / SOCKET}")
        await asyncio.to_thread(self._directory.mkdir, parents=True, exist_ok=True, mode=0o750)
        await asyncio.to_thread(self._ledger.load)
        await asyncio.to_thread(_remove_sockets, self._directory)
        await self._server.start()

    async def close(self) -> None:
        """Containers keep their devices."""
        await self._server.close()
        for plugin in self._plugins.values():
            await plugin.close()

    # Plugins

    async def _register(self, data: bytes) -> bytes:
        request = self._wire.decode("RegisterRequest", data)
        resource, endpoint = request.get("resourceName", ""), request.get("endpoint", "")
        if request.get("version") != VERSION:
            raise ValueError(
                f'requested API version "{request.get("version", "")}" is not supported by kubelet. '
                f"Supported version is {VERSION!r}".replace("'", '"')
            )
        if "/" not in resource or resource.partition("/")[0].endswith("kubernetes.io"):
            raise ValueError(f"the ResourceName {resource!r} is invalid".replace("'", '"'))
        if not endpoint or "/" in endpoint:
            raise ValueError(f"the endpoint {endpoint!r} is no name below the plugins' directory")
        if resource not in self._ledger.plugged:
            self._ledger.plugged.add(resource)
            await self._save()
        plugin = Plugin(resource, self._directory / endpoint, request.get("options") or {}, self._wire)
        await self._take(plugin)
        return b""

    async def _save(self) -> None:
        async with self._saving:
            await asyncio.to_thread(self._ledger.save, self._ledger.encoded())

    async def _take(self, plugin: Plugin) -> None:
        """A plugin that registers again replaces the one before."""
        resource = plugin.resource
        before, task = self._plugins.get(resource), self._watches.pop(resource, None)
        self._plugins[resource] = plugin
        if before is not None and task is not None:
            task.cancel()
            await before.close()
        log.info("device plugin registered", resource=resource, socket=str(plugin.socket))
        self._watches[resource] = self._supervisor.spawn(f"device plugin {resource}", self._follow(plugin))

    async def _follow(self, plugin: Plugin) -> None:
        try:
            await plugin.watch(self._plugin_changed)
            log.info("device plugin ended", resource=plugin.resource)
        except GrpcError as error:
            log.warning("device plugin went away", resource=plugin.resource, error=str(error))

    def _plugin_changed(self, plugin: Plugin) -> None:
        if self._plugins.get(plugin.resource) is plugin:
            entries = self._ledger.entries.values()
            self._changed({entry.pod for entry in entries if entry.resource == plugin.resource})

    def totals(self) -> tuple[dict[str, str], dict[str, str]]:
        """Capacity and allocatable of the node, by resource."""
        capacity = {name: str(len(plugin.health)) for name, plugin in self._plugins.items()}
        free = {name: str(len(plugin.healthy())) for name, plugin in self._plugins.items()}
        absent = dict.fromkeys(self._ledger.resources() - capacity.keys(), "0")
        return {**capacity, **absent}, {**free, **absent}

    # Pods

    def refusal(self, pod: Object) -> tuple[str, str] | None:
        """Give the pod its devices, or say (reason, message) why it can't have them. What it has it keeps."""
        known = self._plugins.keys() | self._ledger.resources()
        everyone = [*podspec.init_containers(pod), *podspec.containers(pod)]
        asking = [
            (container, name, count)
            for container in everyone
            for name, count in wanted(container, known).items()
        ]
        if not asking:
            return None
        uid = pod["metadata"]["uid"]
        self._ledger.retain({*self._active(), uid})
        before = dict(self._ledger.entries)
        for container, name, count in asking:
            if (uid, container["name"], name) in self._ledger.entries:
                continue
            reusable = self._ledger.reusable(pod, container, name)
            free = self._free(name)
            ids = choose(count, reusable, free)
            if ids is None:
                self._ledger.entries = before
                text = (
                    f"requested number of devices unavailable for {name}. "
                    f"Requested: {count - len(reusable)}, Available: {len(free)}"
                )
                return REASON, f"Allocate failed due to {text}, which is unexpected"
            self._ledger.put(Entry(uid, container["name"], name, ids))
        return None

    def _free(self, resource: str) -> list[str]:
        plugin, used = self._plugins.get(resource), self._ledger.used(resource)
        return [each for each in plugin.healthy() if each not in used] if plugin is not None else []

    async def edits(self, pod: Object, container: Object) -> Edits:
        """What the container gets for its devices, right before a start. Raises `RuntimeFailure`."""
        entries = self._ledger.of(pod["metadata"]["uid"], container["name"])
        if not entries:
            return Edits()
        try:
            for entry in entries:
                await self._prepare(pod, container, entry)
        except GrpcError as error:
            raise RuntimeFailure(f"device plugin: {error}", "CreateContainerError") from error
        answer = merged(entry.answer for entry in entries)
        if answer["cdiDevices"]:
            # To start without what was promised would be worse.
            names = ", ".join(each.get("name", "") for each in answer["cdiDevices"])
            text = f"CDI device injection failed: unresolvable CDI devices {names}"
            raise RuntimeFailure(text, "CreateContainerError")
        return Edits(
            answer["envs"],
            answer["annotations"],
            tuple(_mount(each) for each in answer["mounts"]),
            tuple(_device(each) for each in answer["devices"]),
        )

    async def _prepare(self, pod: Object, container: Object, entry: Entry) -> None:
        """Ask once what the devices need; a plugin that is away answers from the ledger."""
        plugin = self._plugins.get(entry.resource)
        if not entry.answer:
            if plugin is None or not plugin.connected:
                text = f"no device plugin for {entry.resource} is registered"
                raise RuntimeFailure(text, "CreateContainerError")
            await self._prefer(plugin, pod, container, entry)
            entry.answer = {"envs": {}, **await plugin.allocate(entry.ids)}
            # Before anything is made with them; what was only promised need not outlive us.
            await self._save()
        if plugin is not None and plugin.connected:
            await plugin.before_start(entry.ids)

    async def _prefer(self, plugin: Plugin, pod: Object, container: Object, entry: Entry) -> None:
        if not plugin.options.get("getPreferredAllocationAvailable"):
            return
        must = [each for each in self._ledger.reusable(pod, container, entry.resource) if each in entry.ids]
        available = sorted({*self._free(entry.resource), *entry.ids})
        offered = await plugin.preferred(available, must, len(entry.ids))
        # Others may have been given some meanwhile.
        still = {*self._free(entry.resource), *entry.ids}
        entry.ids = preferred(len(entry.ids), offered, still, must)

    def add_health(self, pod_uid: str, status: Object) -> None:
        """Put what containers have into a pod's fresh status."""
        for field_name in podspec.STATUS_FIELDS:
            for container in status.get(field_name) or ():
                if found := self.statuses(pod_uid, container["name"]):
                    container["allocatedResourcesStatus"] = found

    def statuses(self, pod_uid: str, container: str) -> list[Object]:
        """`allocatedResourcesStatus` of a container; empty without devices."""
        return [
            {
                "name": entry.resource,
                "resources": [
                    {"resourceID": each, "health": self._health(entry.resource, each)} for each in entry.ids
                ],
            }
            for entry in self._ledger.of(pod_uid, container)
        ]

    def _health(self, resource: str, device: str) -> str:
        plugin = self._plugins.get(resource)
        if plugin is None or not plugin.connected or device not in plugin.health:
            return "Unknown"
        return HEALTHY if plugin.health[device] == HEALTHY else "Unhealthy"


async def _answers(socket: Path) -> bool:
    try:
        async with asyncio.timeout(KNOCK_DEADLINE_S):
            _, writer = await asyncio.open_unix_connection(str(socket))
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def _remove_sockets(directory: Path) -> None:
    """Plugins watch for our socket and register anew; sockets of their own from before are stale."""
    for entry in directory.iterdir():
        if entry.is_socket():
            entry.unlink(missing_ok=True)


def _mount(answer: Object) -> Mount:
    return Mount(answer.get("hostPath", ""), answer.get("containerPath", ""), bool(answer.get("readOnly")))


def _device(answer: Object) -> Device:
    host = answer.get("hostPath", "")
    return Device(host, answer.get("containerPath") or host, answer.get("permissions") or "rwm")
