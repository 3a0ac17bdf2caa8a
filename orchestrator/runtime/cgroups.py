"""CPU and memory of a process's cgroup, read from the kernel's files (v1 and v2).

Not asked of the engine: Docker gives no figures for containers that join a namespace which it did not wire, and
its answer costs more than the files. `root` and `proc` are parameters for hosts' recorded file trees.
"""

import contextlib
import os
from pathlib import Path

from orchestrator.runtime.interface import Stats

ROOT = Path("/sys/fs/cgroup")
PROC = Path("/proc")


def read(pid: int, root: Path = ROOT, proc: Path = PROC) -> Stats | None:
    """Usage of the cgroup that `pid` is in; None when the process or its cgroup is gone."""
    try:
        paths = _paths((proc / str(pid) / "cgroup").read_text())
        if "memory" in paths:
            return _v1(root / "memory" / paths["memory"], root / "cpuacct" / paths.get("cpuacct", ""))
        return _v2(root / paths[""])
    except (OSError, KeyError, ValueError):
        return None


def _paths(text: str) -> dict[str, str]:
    """Controller → path below its mount; the unified hierarchy has no controller's name."""
    paths = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path.lstrip("/")
    return paths


def _v1(memory: Path, cpu: Path) -> Stats:
    usage = int((memory / "memory.usage_in_bytes").read_text())
    idle = _field(memory / "memory.stat", "total_inactive_file")
    return Stats(int((cpu / "cpuacct.usage").read_text()), usage, max(0, usage - idle))


def _v2(group: Path) -> Stats:
    usage = int((group / "memory.current").read_text())
    idle = _field(group / "memory.stat", "inactive_file")
    return Stats(_field(group / "cpu.stat", "usage_usec") * 1000, usage, max(0, usage - idle))


def _field(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    raise KeyError(name)


def oom_kills(path: str, root: Path = ROOT) -> int:
    """How often the kernel killed for lack of memory in the cgroup `path` (below the mount); 0 when it is gone."""
    inner = path.lstrip("/")
    for file in (root / inner / "memory.events", root / "memory" / inner / "memory.oom_control"):
        try:
            return _field(file, "oom_kill")
        except (OSError, KeyError, ValueError):
            continue
    return 0


def remove(path: str, root: Path = ROOT) -> None:
    """Remove the empty cgroup `path` and what is empty inside it, in every hierarchy; in use or absent is fine."""
    inner = path.strip("/")
    if not inner:
        return
    for hierarchy in [root] if is_v2(root) else _hierarchies(root):
        group = hierarchy / inner
        for directory, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)


def is_v2(root: Path = ROOT) -> bool:
    """Whether the host has the unified hierarchy only."""
    return (root / "cgroup.controllers").exists()


def counts_swap(root: Path = ROOT) -> bool:
    """Whether the kernel limits memory and swap together; naming a limit where it does not fails a start."""
    if is_v2(root):
        return any(root.glob("*/memory.swap.max"))
    return (root / "memory" / "memory.memsw.limit_in_bytes").exists()


def _hierarchies(root: Path) -> list[Path]:
    try:
        return [entry for entry in root.iterdir() if entry.is_dir() and not entry.is_symlink()]
    except OSError:
        return []
