"""What the host itself uses, from `/proc`: CPU, memory, processes, network, and its file systems.

A look costs about 0.2 ms and never waits for a disk, except `file_system`. `proc` is a parameter for recorded files.
Called by the collector, and by eviction between the collector's looks.
"""

import os
from dataclasses import replace
from pathlib import Path

from orchestrator.agent.stats.usage import FileSystem, NodeUsage
from orchestrator.runtime.usage import Interface, interfaces

PROC = Path("/proc")
VIRTUAL_NAMES = ("veth", "orc", "docker", "br-", "dummy", "kube", "cni", "flannel", "cilium", "cali", "vnet")
"""Interfaces that carry what others carry again."""


def read(now_s: float, proc: Path = PROC) -> NodeUsage:
    """The host now, without a rate: that needs two looks."""
    memory = _memory(proc)
    events = _table(proc / "vmstat", ("pgfault", "pgmajfault"))
    total, free = memory["MemTotal"], memory["MemFree"]
    usage = total - free
    running = (proc / "loadavg").read_text().split()[3]
    return NodeUsage(
        time_s=now_s,
        boot_s=now_s - float((proc / "uptime").read_text().split()[0]),
        cpu_ns=_cpu_ns(proc),
        rate_nanocores=0,
        memory_capacity_bytes=total,
        memory_usage_bytes=usage,
        working_set_bytes=max(0, usage - memory.get("Inactive(file)", 0)),
        rss_bytes=memory.get("AnonPages", 0),
        page_faults=events.get("pgfault", 0),
        major_page_faults=events.get("pgmajfault", 0),
        processes=int(running.partition("/")[2]),
        processes_max=_processes_max(proc),
        swap_total_bytes=memory.get("SwapTotal", 0),
        swap_free_bytes=memory.get("SwapFree", 0),
        interfaces=physical(interfaces((proc / "net" / "dev").read_text())),
    )


def with_rate(usage: NodeUsage, rate_nanocores: int) -> NodeUsage:
    return replace(usage, rate_nanocores=rate_nanocores)


def physical(found: tuple[Interface, ...]) -> tuple[Interface, ...]:
    """Without those that lead to pods only."""
    return tuple(each for each in found if not each.name.startswith(VIRTUAL_NAMES))


def file_system(path: Path, now_s: float) -> FileSystem:
    """The file system on which `path` lies. Blocking, for as long as that one does not answer."""
    facts = os.statvfs(path)
    block = facts.f_frsize
    return FileSystem(
        time_s=now_s,
        capacity_bytes=facts.f_blocks * block,
        available_bytes=facts.f_bavail * block,
        used_bytes=(facts.f_blocks - facts.f_bfree) * block,
        inodes=facts.f_files,
        inodes_free=facts.f_ffree,
        device=os.stat(path).st_dev,
    )


def _cpu_ns(proc: Path) -> int:
    """Time that CPUs worked: all but idle and waiting for disks; guests are counted in user already."""
    first = (proc / "stat").read_text().partition("\n")[0]
    ticks = [int(part) for part in first.split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))


def _memory(proc: Path) -> dict[str, int]:
    table = {}
    for line in (proc / "meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        table[name] = int(rest.split()[0]) * 1024
    return table


def _table(path: Path, names: tuple[str, ...]) -> dict[str, int]:
    table = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition(" ")
        if name in names:
            table[name] = int(value)
    return table


def _processes_max(proc: Path) -> int:
    """The lower of the kernel's two bounds on processes and threads."""
    kernel = proc / "sys" / "kernel"
    return min(int((kernel / name).read_text()) for name in ("pid_max", "threads-max"))
