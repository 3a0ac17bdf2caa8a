"""What is used on a node, as plain figures: of the node, of each pod, of each container.

The words in which everybody who needs them talks: the agent's API, eviction, the metrics pipeline. Times are
seconds since the epoch, sizes bytes, CPU nanoseconds of one core. `None` means that it was not measured (yet).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.api.item import Object
from orchestrator.runtime.interface import Container
from orchestrator.runtime.usage import Interface, Usage


@dataclass(frozen=True, slots=True)
class FileSystem:
    """A file system as a whole. `device` tells file systems apart."""

    time_s: float
    capacity_bytes: int
    available_bytes: int
    used_bytes: int
    inodes: int
    inodes_free: int
    device: int = 0

    @property
    def inodes_used(self) -> int:
        return self.inodes - self.inodes_free


@dataclass(frozen=True, slots=True)
class DiskUse:
    """What one directory tree holds, and the file system on which it lies."""

    time_s: float
    used_bytes: int
    inodes_used: int
    file_system: FileSystem


@dataclass(frozen=True, slots=True)
class ContainerUsage:
    """A container that runs. `rate_nanocores` is its use of CPU between the last two measurements."""

    container: Container
    time_s: float
    usage: Usage
    rate_nanocores: int
    cgroup: str = ""
    rootfs: DiskUse | None = None
    logs: DiskUse | None = None


@dataclass(frozen=True, slots=True)
class VolumeUse:
    """A volume of a pod. `claim` names the claim behind it, empty for none; `local` counts as ephemeral storage."""

    name: str
    disk: DiskUse
    claim: str = ""
    local: bool = False


@dataclass(frozen=True, slots=True)
class PodUsage:
    """A pod with at least one container that runs."""

    pod: Object
    time_s: float
    usage: Usage
    rate_nanocores: int
    containers: tuple[ContainerUsage, ...]
    interfaces: tuple[Interface, ...] = ()
    """Empty on the host's network."""
    volumes: tuple[VolumeUse, ...] = ()
    ephemeral: DiskUse | None = None
    """Writable layers, logs and local volumes together; `None` where disks were not asked for."""

    @property
    def uid(self) -> str:
        return str(self.pod["metadata"]["uid"])


@dataclass(frozen=True, slots=True)
class NodeUsage:
    """The host. `memory_available_bytes` is what a kubelet calls `memory.available`: capacity − working set."""

    time_s: float
    boot_s: float
    cpu_ns: int
    rate_nanocores: int
    memory_capacity_bytes: int
    memory_usage_bytes: int
    working_set_bytes: int
    rss_bytes: int
    page_faults: int
    major_page_faults: int
    processes: int
    processes_max: int
    swap_total_bytes: int = 0
    swap_free_bytes: int = 0
    interfaces: tuple[Interface, ...] = ()

    @property
    def memory_available_bytes(self) -> int:
        return max(0, self.memory_capacity_bytes - self.working_set_bytes)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything, from one moment. File systems are `None` where disks were not asked for."""

    node: NodeUsage
    pods: tuple[PodUsage, ...]
    node_fs: FileSystem | None = None
    image_fs: FileSystem | None = None
    images_bytes: int = 0
    extra: Mapping[str, Usage] = field(default_factory=dict)
    """System containers by name (`pods`, `runtime`, `kubelet`), as far as they have a cgroup."""
