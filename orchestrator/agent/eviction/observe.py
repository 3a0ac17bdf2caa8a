"""What is left of memory, disks, inodes and process ids of this host. Called by the manager every few seconds."""

import asyncio
from pathlib import Path

from orchestrator.agent.eviction.thresholds import (
    IMAGEFS,
    IMAGEFS_INODES,
    MEMORY,
    NODEFS,
    NODEFS_INODES,
    PIDS,
    Observation,
)
from orchestrator.agent.stats import host
from orchestrator.agent.stats.usage import FileSystem
from orchestrator.base.clock import Clock
from orchestrator.runtime.interface import Runtime, RuntimeFailure

DEADLINE_S = 10.0
Observations = dict[str, Observation]


class HostObserver:
    """Looks at the host. `directory` lies on the node's disk; the engine says where the images' one is."""

    def __init__(self, directory: Path, runtime: Runtime, clock: Clock) -> None:
        self._directory = directory
        self._runtime = runtime
        self._clock = clock
        self._store: Path | None = None
        self.own_image_disk = False
        """Whether images lie on another disk than pods' volumes and logs; known after the first look."""

    async def look(self) -> Observations:
        """What could be measured: a disk that does not answer is left out."""
        if self._store is None:
            try:
                self._store = await self._runtime.image_store()
            except RuntimeFailure:
                self._store = None
        async with asyncio.timeout(DEADLINE_S):
            return await asyncio.to_thread(self._look)

    def _look(self) -> Observations:
        now_s = self._clock.now_s()
        node = host.read(now_s)
        found = {
            MEMORY: Observation(node.memory_available_bytes, node.memory_capacity_bytes, now_s),
            PIDS: Observation(max(0, node.processes_max - node.processes), node.processes_max, now_s),
        }
        disk = host.file_system(self._directory, now_s)
        images = host.file_system(self._store or self._directory, now_s)
        self.own_image_disk = disk.device != images.device
        found.update(_of(disk, NODEFS, NODEFS_INODES))
        found.update(_of(images, IMAGEFS, IMAGEFS_INODES))
        return found


def _of(disk: FileSystem, space: str, inodes: str) -> Observations:
    """File systems that make inodes as needed tell of none: then only space counts."""
    found = {space: Observation(disk.available_bytes, disk.capacity_bytes, disk.time_s)}
    if disk.inodes:
        found[inodes] = Observation(disk.inodes_free, disk.inodes, disk.time_s)
    return found
