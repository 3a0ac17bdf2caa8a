"""The node's own object: registration, status when it changes, a lease every ten seconds.

A healthy node writes its lease only; the status is written when something in it changed, or every five
minutes. The engine's health, the pod network and whoever has a say in `problems` decide Ready. Owner of the Node
object's status: this node.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from orchestrator import KUBERNETES_VERSION
from orchestrator.agent.context import NodeFacts, Recorder
from orchestrator.agent.node import addresses, conditions
from orchestrator.agent.node.hostfacts import HostFacts
from orchestrator.agent.node.imagelist import image_list
from orchestrator.agent.podspec import micro_timestamp, timestamp
from orchestrator.api.errors import AlreadyExists, ApiError, Conflict, NotFound
from orchestrator.api.item import Object
from orchestrator.api.resources import LEASES, NODES
from orchestrator.api.volumes import LOCAL_PATH
from orchestrator.base.clock import Clock
from orchestrator.client.interface import Client
from orchestrator.runtime.interface import Runtime, RuntimeFailure

log = structlog.get_logger(__name__)

LEASE_NAMESPACE = "kube-node-lease"
LEASE_S = 40
RENEW_S = 10.0
CHECK_S = 10.0
REPORT_S = 300.0
IMAGES_S = 30.0
"""How often the engine is asked for its images."""
ATTACH_DETACH = "volumes.kubernetes.io/controller-managed-attach-detach"
Extended = tuple[Mapping[str, str], Mapping[str, str]]
"""Capacity and allocatable of extended resources, as device plugins offer them."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """How the node presents itself."""

    agent_port: int
    labels: dict[str, str]
    directory: Path
    """On the disk whose free space counts."""
    volumes: Path | None = None
    """Where volumes of the local-path provisioner lie; None offers none."""
    taints: tuple[Object, ...] = ()
    """Of a node that is new."""
    address: addresses.FollowedAddress | None = None
    """None keeps to the facts'."""
    handlers: tuple[Object, ...] = ({"name": "", "features": {}},)
    """Runtime handlers with what they can do."""
    features: Mapping[str, bool] = field(default_factory=dict)
    simulated: bool = False
    """Lists no images and tells no events: a thousand of these run in one process."""


class NodeReporter:
    """Registers a node and keeps its status and lease."""

    def __init__(
        self,
        facts: NodeFacts,
        host: HostFacts,
        settings: NodeSettings,
        client: Client,
        runtime: Runtime,
        clock: Clock,
        recorder: Recorder,
    ) -> None:
        self._facts = facts
        self._host = host
        self._settings = settings
        self._client = client
        self._runtime = runtime
        self._clock = clock
        self._recorder = recorder
        self._written: Object = {}
        self._written_s = 0.0
        self._engine = ("", "")
        """Version of the engine, and what is wrong with it."""
        self._network_problem = "pod network is not set up yet"
        self._images: list[Object] = []
        self._images_s = float("-inf")
        self.pressures: Callable[[], Collection[str]] = tuple
        """Which of the node's pressures hold: conditions by type."""
        self.extended: Callable[[], Extended] = lambda: ({}, {})
        self.on_address: Callable[[str], None] = lambda _: None
        """Called with the node's new address when the host's has changed."""
        self.problems: dict[str, str] = {}
        """Why the node is not Ready, by who says so; `report_now` after a change."""

    async def register(self) -> Object:
        """Create the Node or take over the one that is there; returns it with its status written."""
        await self._ask_engine()
        name = self._facts.name
        node: Object = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": self._labels(), "annotations": self._annotations()},
            "spec": {"taints": list(self._settings.taints)} if self._settings.taints else {},
        }
        try:
            node = await self._client.create(NODES, node)
        except AlreadyExists:
            node = await self._client.get(NODES, name)
            self._adopt(node)
            wanted = {"labels": self._labels(), "annotations": self._annotations()}
            missing = {field: _lacking(node, field, values) for field, values in wanted.items()}
            if any(missing.values()):
                node = await self._client.patch(NODES, name, "", {"metadata": missing})
        if not self._settings.simulated:
            self._event("Normal", "Starting", "Starting kubelet.")
            self._note_reboot(node)
        return await self._write(node)

    def _note_reboot(self, node: Object) -> None:
        known = ((node.get("status") or {}).get("nodeInfo") or {}).get("bootID")
        if known and known != self._host.boot_id:
            text = f"Node {self._facts.name} has been rebooted, boot id: {self._host.boot_id}"
            self._event("Warning", "Rebooted", text)

    def _event(self, kind: str, reason: str, message: str) -> None:
        """About this node; a kubelet gives the name for its uid."""
        name = self._facts.name
        about = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name}}
        self._recorder.event(about, kind, reason, message)

    def _adopt(self, node: Object) -> None:
        """A node that was Ready a moment ago stays so: its pods are not to leave their Services meanwhile."""
        conditions = (node.get("status") or {}).get("conditions") or ()
        if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
            self._network_problem = ""

    async def network_ready(self) -> None:
        """The pod network is set up: from now on the node can be Ready. Writes the status."""
        self._network_problem = ""
        await self._write(await self._client.get(NODES, self._facts.name))

    async def report(self) -> None:
        """Look at the engine and the host again and again; write what changed."""
        while True:
            await self._clock.sleep(CHECK_S)
            await self._ask_engine()
            await self.report_now()

    async def report_now(self) -> None:
        """Write what changed since the last time, without waiting for the next look."""
        self._follow_address()
        try:
            await self._write_if_changed()
        except ApiError as error:
            log.warning("node status not written", node=self._facts.name, error=error.message)

    def _follow_address(self) -> None:
        if self._settings.address is None:
            return
        address = self._settings.address.now()
        if address != self._facts.ip:
            log.warning("the node's address changed", node=self._facts.name, old=self._facts.ip, new=address)
            self._facts = replace(self._facts, ip=address)
            self.on_address(address)

    async def renew(self) -> None:
        """Hold the lease; a failed renewal is tried again sooner."""
        lease: Object | None = None
        while True:
            try:
                lease = await self._renew_once(lease)
                await self._clock.sleep(RENEW_S)
            except ApiError as error:
                log.warning("node lease not renewed", node=self._facts.name, error=error.message)
                lease = None
                await self._clock.sleep(2.0)

    async def _renew_once(self, lease: Object | None) -> Object:
        name = self._facts.name
        if lease is None:
            try:
                lease = await self._client.get(LEASES, name, LEASE_NAMESPACE)
            except NotFound:
                return await self._client.create(LEASES, await self._lease(), LEASE_NAMESPACE)
        spec = {**lease.get("spec", {}), "holderIdentity": name, "leaseDurationSeconds": LEASE_S}
        spec["renewTime"] = micro_timestamp(self._clock.now_s())
        return await self._client.update(LEASES, {**lease, "spec": spec})

    async def _lease(self) -> Object:
        """A new lease; it goes with its node."""
        name = self._facts.name
        uid = (await self._client.get(NODES, name))["metadata"]["uid"]
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": name,
                "namespace": LEASE_NAMESPACE,
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}],
            },
            "spec": {
                "holderIdentity": self._facts.name,
                "leaseDurationSeconds": LEASE_S,
                "renewTime": micro_timestamp(self._clock.now_s()),
            },
        }

    def _labels(self) -> dict[str, str]:
        architecture = self._host.architecture
        return {
            "kubernetes.io/hostname": self._facts.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": architecture,
            "beta.kubernetes.io/os": "linux",
            "beta.kubernetes.io/arch": architecture,
            **self._settings.labels,
        }

    def _annotations(self) -> dict[str, str]:
        volumes, found = self._settings.volumes, {ATTACH_DETACH: "true"}
        return {**found, LOCAL_PATH: str(volumes)} if volumes is not None else found

    async def _ask_engine(self) -> None:
        was_well = not self._engine[1]
        try:
            self._engine = (await self._runtime.version(), "")
            await self._ask_images()
        except RuntimeFailure as error:
            self._engine = (self._engine[0], str(error))
            if was_well:
                log.error("container engine is not well", node=self._facts.name, error=str(error))

    async def _ask_images(self) -> None:
        now_s = self._clock.monotonic_s()
        if not self._settings.simulated and now_s - self._images_s >= IMAGES_S:
            self._images_s = now_s
            self._images = image_list(await self._runtime.list_images())

    async def _write_if_changed(self) -> None:
        fresh = self._status(self._written)
        due = self._clock.now_s() - self._written_s >= REPORT_S
        if due or _without_heartbeats(fresh) != _without_heartbeats(self._written):
            await self._write(await self._client.get(NODES, self._facts.name))

    async def _write(self, node: Object) -> Object:
        for _ in range(5):
            status = self._status(node.get("status") or {})
            try:
                node = await self._client.update(NODES, {**node, "status": status}, subresource="status")
                self._tell_changes(node["status"])
                self._written, self._written_s = node["status"], self._clock.now_s()
                return node
            except Conflict:
                node = await self._client.get(NODES, self._facts.name)
        raise Conflict(f"node {self._facts.name} changes faster than its status can be written")

    def _tell_changes(self, status: Object) -> None:
        if self._settings.simulated:
            return
        name = self._facts.name
        for reason in conditions.changes(self._written.get("conditions") or (), status["conditions"]):
            self._event("Normal", reason, f"Node {name} status is now: {reason}")

    def _status(self, old: Object) -> Object:
        port, facts, settings = self._settings.agent_port, self._facts, self._settings
        capacity, allocatable = self.extended()
        foreign = _foreign(old, capacity)
        status = {
            **old,
            "capacity": {**foreign, **facts.capacity, **capacity},
            "allocatable": {**foreign, **facts.allocatable, **allocatable},
            "addresses": addresses.status(facts.name, facts.ip),
            "nodeInfo": self._node_info(),
            "conditions": self._conditions(old),
            "runtimeHandlers": list(settings.handlers),
            "features": dict(settings.features),
        }
        if self._images:
            status["images"] = self._images
        if port:
            status["daemonEndpoints"] = {"kubeletEndpoint": {"Port": port}}
        return status

    def _conditions(self, old: Object) -> list[Object]:
        engine = f"container runtime is down: {self._engine[1]}" if self._engine[1] else ""
        network = self._network_problem and f"container runtime network not ready: {self._network_problem}"
        problems = (engine, "" if engine else network, *self.problems.values())
        now = timestamp(self._clock.now_s())
        return conditions.conditions(old.get("conditions") or (), self.pressures(), problems, now)

    def _node_info(self) -> Object:
        host, version = self._host, self._engine[0]
        info: Object = {
            "machineID": host.machine_id,
            "systemUUID": host.system_uuid,
            "bootID": host.boot_id,
            "kernelVersion": host.kernel,
            "osImage": host.os_image,
            "containerRuntimeVersion": f"{self._runtime.name}://{version}",
            "kubeletVersion": KUBERNETES_VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": host.architecture,
        }
        return {**info, "swap": {"capacity": host.swap_bytes}} if host.swap_bytes else info


def _foreign(old: Object, own: Mapping[str, str]) -> dict[str, str]:
    """Extended resources that somebody else put into the node's capacity: they stay, and are allocatable."""
    known = (old.get("capacity") or {}).items()
    return {name: value for name, value in known if "/" in name and name not in own}


def _lacking(node: Object, field: str, values: dict[str, str]) -> dict[str, str]:
    """Those of `values` that the node's metadata does not have."""
    there = node["metadata"].get(field) or {}
    return {key: value for key, value in values.items() if there.get(key) != value}


def _without_heartbeats(status: Object) -> Object:
    conditions = [
        {key: value for key, value in condition.items() if key != "lastHeartbeatTime"}
        for condition in status.get("conditions") or ()
    ]
    return {**status, "conditions": conditions}
