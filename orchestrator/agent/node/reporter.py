"""The node's own object: registration, status when it changes, a lease every ten seconds.

A healthy node writes its lease only; the status is written when something in it changed, or every five
minutes. The engine's health decides Ready. Owner of the Node object's status: this node.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import structlog

from orchestrator import KUBERNETES_VERSION
from orchestrator.agent.context import NodeFacts, Recorder
from orchestrator.agent.node import hostfacts
from orchestrator.agent.node.hostfacts import HostFacts
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
MEMORY_LOW_BYTES = 100 * 1024 * 1024
DISK_LOW_SHARE = 0.10


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """How the node presents itself."""

    agent_port: int
    labels: dict[str, str]
    directory: Path
    """On the disk whose free space counts."""
    volumes: Path | None = None
    """Where volumes of the local-path provisioner lie; None offers none."""


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

    async def register(self) -> Object:
        """Create the Node or take over the one that is there; returns it with its status written."""
        await self._ask_engine()
        name = self._facts.name
        node: Object = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": self._labels(), "annotations": self._annotations()},
            "spec": {},
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
        return await self._write(node)

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
            try:
                await self._write_if_changed()
            except ApiError as error:
                log.warning("node status not written", node=self._facts.name, error=error.message)

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
        volumes = self._settings.volumes
        return {LOCAL_PATH: str(volumes)} if volumes is not None else {}

    async def _ask_engine(self) -> None:
        was_well = not self._engine[1]
        try:
            self._engine = (await self._runtime.version(), "")
        except RuntimeFailure as error:
            self._engine = (self._engine[0], str(error))
            if was_well:
                log.error("container engine is not well", node=self._facts.name, error=str(error))

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
                self._written, self._written_s = node["status"], self._clock.now_s()
                return node
            except Conflict:
                node = await self._client.get(NODES, self._facts.name)
        raise Conflict(f"node {self._facts.name} changes faster than its status can be written")

    def _status(self, old: Object) -> Object:
        port = self._settings.agent_port
        status = {
            **old,
            "capacity": self._facts.capacity,
            "allocatable": self._facts.allocatable,
            "addresses": [
                {"type": "InternalIP", "address": self._facts.ip},
                {"type": "Hostname", "address": self._facts.name},
            ],
            "nodeInfo": self._node_info(),
            "conditions": self._conditions(old),
        }
        if port:
            status["daemonEndpoints"] = {"kubeletEndpoint": {"Port": port}}
        return status

    def _node_info(self) -> Object:
        host, version = self._host, self._engine[0]
        return {
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

    def _conditions(self, old: Object) -> list[Object]:
        memory_low = hostfacts.available_memory_bytes() < MEMORY_LOW_BYTES
        usage = shutil.disk_usage(self._settings.directory)
        disk_low = usage.free < usage.total * DISK_LOW_SHARE
        wanted = {
            "MemoryPressure": _pressure(memory_low, "KubeletHas", "Memory", "memory"),
            "DiskPressure": _disk_pressure(disk_low),
            "PIDPressure": ("False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            "Ready": self._ready(),
        }
        before = {condition["type"]: condition for condition in old.get("conditions") or ()}
        others = [condition for kind, condition in before.items() if kind not in wanted]
        return [*others, *(self._condition(kind, *w, before.get(kind)) for kind, w in wanted.items())]

    def _ready(self) -> tuple[str, str, str]:
        if self._engine[1]:
            return "False", "KubeletNotReady", f"container runtime is down: {self._engine[1]}"
        if self._network_problem:
            return "False", "KubeletNotReady", f"container runtime network not ready: {self._network_problem}"
        return "True", "KubeletReady", "kubelet is posting ready status"

    def _condition(self, kind: str, status: str, reason: str, message: str, old: Object | None) -> Object:
        now = timestamp(self._clock.now_s())
        changed = old is None or old.get("status") != status
        return {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": now,
            "lastTransitionTime": now if changed or old is None else old["lastTransitionTime"],
        }


def _lacking(node: Object, field: str, values: dict[str, str]) -> dict[str, str]:
    """Those of `values` that the node's metadata does not have."""
    there = node["metadata"].get(field) or {}
    return {key: value for key, value in values.items() if there.get(key) != value}


def _pressure(low: bool, prefix: str, name: str, what: str) -> tuple[str, str, str]:
    if low:
        return "True", f"{prefix}Insufficient{name}", f"kubelet has insufficient {what} available"
    return "False", f"{prefix}Sufficient{name}", f"kubelet has sufficient {what} available"


def _disk_pressure(low: bool) -> tuple[str, str, str]:
    if low:
        return "True", "KubeletHasDiskPressure", "kubelet has disk pressure"
    return "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"


def _without_heartbeats(status: Object) -> Object:
    conditions = [
        {key: value for key, value in condition.items() if key != "lastHeartbeatTime"}
        for condition in status.get("conditions") or ()
    ]
    return {**status, "conditions": conditions}
