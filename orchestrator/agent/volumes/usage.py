"""What the volumes of a pod take of the node's disk and memory. Blocking: call from a thread.

Called by whoever reports or limits it (`/stats/summary`, eviction).
"""

import os
from dataclasses import dataclass
from pathlib import Path

from orchestrator.api.item import Object
from orchestrator.base import mounting

_WRITTEN = ("configMap", "secret", "downwardAPI", "projected")


@dataclass(frozen=True, slots=True)
class VolumeUsage:
    """What one volume takes. `on_disk` tells that it counts as local ephemeral storage of its pod."""

    name: str
    bytes: int
    inodes: int
    on_disk: bool
    kind: str


def of_pod(directory: Path, pod: Object) -> list[VolumeUsage]:
    """Usage of the volumes that live and die with a pod, whose directory (`<root>/<uid>`) is given."""
    found = []
    mounted = {point.path for point in mounting.below(directory, mounting.table())}
    for volume in pod["spec"].get("volumes") or ():
        kind = next((kind for kind in ("emptyDir", *_WRITTEN) if kind in volume), "")
        if kind:
            path = directory / "volumes" / volume["name"]
            in_memory = str(path) in mounted
            taken, inodes = memory_usage(path) if in_memory else disk_usage(path)
            found.append(VolumeUsage(volume["name"], taken, inodes, not in_memory, kind))
    return found


def memory_usage(path: Path) -> tuple[int, int]:
    """(bytes, inodes) in use on the file system that is mounted at `path`."""
    facts = os.statvfs(path)
    return (facts.f_blocks - facts.f_bfree) * facts.f_frsize, facts.f_files - facts.f_ffree


def disk_usage(path: Path) -> tuple[int, int]:
    """(bytes, inodes) that a tree takes on its own file system; what vanishes meanwhile counts as nothing."""
    try:
        top = path.lstat()
    except OSError:
        return 0, 0
    total, inodes, linked = top.st_blocks * 512, 1, set[int]()
    pending = [str(path)]
    while pending:
        for facts, below in _entries(pending.pop()):
            if facts.st_dev != top.st_dev or facts.st_ino in linked:
                continue
            if facts.st_nlink > 1 and not below:
                linked.add(facts.st_ino)
            total, inodes = total + facts.st_blocks * 512, inodes + 1
            if below:
                pending.append(below)
    return total, inodes


def _entries(directory: str) -> list[tuple[os.stat_result, str]]:
    """Facts of what lies in a directory, with the path of what is one itself."""
    found = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    facts = entry.stat(follow_symlinks=False)
                    found.append((facts, entry.path if entry.is_dir(follow_symlinks=False) else ""))
                except FileNotFoundError:
                    continue
    except OSError:
        return found
    return found
