"""What the host has: CPUs, memory, disk, kernel, names. Read from /proc and the system, cheaply."""

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from orchestrator.api.item import Object

PODS_MAX = 110


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Facts of one host. Sizes in bytes."""

    cpus: int
    memory_bytes: int
    disk_bytes: int
    machine_id: str
    system_uuid: str
    boot_id: str
    kernel: str
    os_image: str
    architecture: str

    def capacity(self) -> Object:
        """As a node's status gives it."""
        return {
            "cpu": str(self.cpus),
            "memory": f"{self.memory_bytes // 1024}Ki",
            "ephemeral-storage": f"{self.disk_bytes // 1024}Ki",
            "pods": str(PODS_MAX),
        }


_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


def read(directory: Path) -> HostFacts:
    """The facts of this host; `directory` is on the disk that pods use."""
    release = _os_release()
    return HostFacts(
        cpus=os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        disk_bytes=shutil.disk_usage(directory).total,
        machine_id=_text("/etc/machine-id"),
        system_uuid=_text("/sys/class/dmi/id/product_uuid") or _text("/etc/machine-id"),
        boot_id=_text("/proc/sys/kernel/random/boot_id"),
        kernel=platform.release(),
        os_image=release,
        architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
    )


def available_memory_bytes() -> int:
    """`MemAvailable` of the host."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _os_release() -> str:
    for line in _text("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.split("=", 1)[1].strip('"')
    return "Linux"


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
