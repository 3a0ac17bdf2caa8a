"""What every pod worker of one node shares: its collaborators and the node's own facts.

Built by `Agent`; nothing here is a singleton, a process may run many nodes.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from orchestrator.agent.containers.env import Fetch, PodFacts
from orchestrator.agent.containers.settings import ContainerSettings
from orchestrator.agent.devices.manager import DeviceManager
from orchestrator.agent.images.pulling import Images
from orchestrator.agent.pods.admitting import Rejection
from orchestrator.agent.pods.probes import Prober
from orchestrator.agent.stats.meters import Meters
from orchestrator.api.item import Item, Object
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.interface import Client
from orchestrator.network.dataplane.interface import PodNetwork
from orchestrator.runtime.interface import Container, Device, Mount, Runtime

BeforeStop = Callable[[str], Awaitable[None]]
"""Given a pod's address, returns when no Service rule leads there any more (bounded)."""

Refusal = Callable[[Object], Rejection | None]
"""Given a new pod, why the node does not take it."""


class Recorder(Protocol):
    """Where events go; never raises, never waits."""

    def event(self, regarding: Object, type_: str, reason: str, message: str) -> None: ...


class ServiceSource(Protocol):
    """The Services of the cluster, from memory."""

    def list(self, namespace: str | None = None) -> list[Item]: ...


class PodVolumes(Protocol):
    """What containers mount. Owner of everything below the agent's directory of pods."""

    async def mounts(
        self, pod: Object, container: Object, facts: PodFacts, env: Mapping[str, str], attempt: int
    ) -> list[Mount]:
        """Mounts of one incarnation, prepared. Raises `ConfigError`, `OSError`."""

    async def devices(self, pod: Object, container: Object, facts: PodFacts) -> list[Device]:
        """Volumes that the container is given as block devices. Raises as `mounts` does."""

    async def text(self, pod_uid: str, volume: str, path: str) -> str:
        """A file that a container wrote into a volume of the pod's own. Raises `OSError`."""

    async def refresh(self, pod: Object, facts: PodFacts) -> None:
        """Bring config maps, secrets and tokens up to date."""

    def ages(self, pod: Object) -> bool:
        """Whether `refresh` has anything to do for this pod."""

    async def release(self, pod_uid: str) -> None:
        """Let go of the volumes of a pod that has ended; what its containers said last stays."""

    async def remove(self, pod_uid: str) -> None:
        """Delete everything of a pod."""

    async def retain(self, pod_uids: Collection[str]) -> None:
        """Delete everything of pods that are none of these: what a crash left behind."""

    async def last_words(self, container: Container) -> str:
        """Termination message of an ended container."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What the node is. `capacity` and `allocatable` are quantities as in its status."""

    name: str
    ip: str
    capacity: Object
    allocatable: Object
    memory_bytes: int


@dataclass(slots=True)
class Context:
    """Collaborators of the pod workers of one node. `network` is set before the first worker starts."""

    facts: NodeFacts
    client: Client
    runtime: Runtime
    network: PodNetwork
    images: Images
    prober: Prober
    volumes: PodVolumes
    fetch: Fetch
    services: ServiceSource
    recorder: Recorder
    clock: Clock
    supervisor: Supervisor
    before_stop: BeforeStop
    meters: Meters
    admission: list[Refusal] = field(default_factory=list)
    """Who else has a say in whether the node takes a new pod, such as eviction under pressure."""
    containers: ContainerSettings = field(default_factory=ContainerSettings)
    devices: DeviceManager | None = None
    """None on a node without device plugins."""

    def pod_facts(self, pod_ip: str) -> PodFacts:
        return PodFacts(pod_ip, self.facts.ip, self.facts.name, self.facts.allocatable)
