"""What the host has: CPUs, memory, disk, kernel, names. Read from /proc and the system, cheaply."""

import contextlib
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

HUGE_PAGES = Path("/sys/kernel/mm/hugepages")


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

    swap_bytes: int = 0
    huge_pages: Mapping[int, int] = field(default_factory=dict)
    """How many the kernel keeps, by their size in bytes."""


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
        swap_bytes=_meminfo("SwapTotal"),
        huge_pages=huge_pages(),
    )


def huge_pages(root: Path = HUGE_PAGES) -> dict[int, int]:
    """`hugepages-2048kB/nr_hugepages` and its like; nothing where the kernel has none."""
    found = {}
    for directory in root.glob("hugepages-*kB"):
        with contextlib.suppress(OSError, ValueError):
            size = int(directory.name.removeprefix("hugepages-").removesuffix("kB")) * 1024
            found[size] = int((directory / "nr_hugepages").read_text())
    return found


def _meminfo(name: str) -> int:
    """A line of `/proc/meminfo` in bytes; 0 when there is none."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(f"{name}:"):
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
