"""Capacity and what of it is allocatable. Pure. Called by the agent and the reporter."""

from collections.abc import Iterable, Mapping

from orchestrator.agent.eviction.thresholds import MEMORY, NODEFS, hard_amounts
from orchestrator.agent.node.hostfacts import HostFacts
from orchestrator.agent.settings import KubeletSettings
from orchestrator.api import quantity
from orchestrator.api.item import Object


def capacity(host: HostFacts, settings: KubeletSettings) -> Object:
    """As a node's status gives it."""
    found: Object = {
        "cpu": str(host.cpus),
        "memory": f"{host.memory_bytes // 1024}Ki",
        "ephemeral-storage": f"{host.disk_bytes // 1024}Ki",
        "pods": str(settings.max_pods),
    }
    for size_bytes, pages in sorted(host.huge_pages.items()):
        found[_huge(size_bytes)] = _bytes(size_bytes * pages)
    return found


def allocatable(host: HostFacts, settings: KubeletSettings) -> Object:
    """Capacity less what is reserved, the hard eviction thresholds and, of memory, the huge pages."""
    memory_bytes = host.memory_bytes // 1024 * 1024
    kept = hard_amounts(settings.eviction.thresholds, {MEMORY: memory_bytes, NODEFS: host.disk_bytes})
    huge_bytes = sum(size_bytes * pages for size_bytes, pages in host.huge_pages.items())
    milli = host.cpus * 1000 - _reserved(settings.reserved, "cpu", 1000)
    memory = memory_bytes - huge_bytes - kept.get(MEMORY, 0) - _reserved(settings.reserved, "memory")
    disk = host.disk_bytes - kept.get(NODEFS, 0) - _reserved(settings.reserved, "ephemeral-storage")
    return {
        **capacity(host, settings),
        "cpu": quantity.canonical(f"{max(0, milli)}m"),
        "memory": _bytes(max(0, memory)),
        "ephemeral-storage": str(max(0, disk)),
    }


def _reserved(reserved: Iterable[Mapping[str, str]], name: str, scale: int = 1) -> int:
    """The sum, in units or thousandths."""
    return sum(quantity.as_int(quantity.parse(part.get(name, "0")) * scale) for part in reserved)


def _bytes(size: int) -> str:
    return f"{size // 1024}Ki" if size and size % 1024 == 0 else str(size)


def _huge(size_bytes: int) -> str:
    return f"hugepages-{quantity.render(quantity.parse(size_bytes), 'binary')}"
