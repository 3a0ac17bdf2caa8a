"""What keeps one node tidy, put together: garbage collection of images and dead containers, eviction, the kernel's
warning. Built by `Agent` for nodes that have a host; `start` once, `close` at the end.
"""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog

from orchestrator.agent import podspec
from orchestrator.agent.context import Context
from orchestrator.agent.eviction.manager import EvictionManager
from orchestrator.agent.eviction.notify import MemoryAlarm
from orchestrator.agent.eviction.observe import HostObserver
from orchestrator.agent.images.garbage import Disk, ImageGarbage
from orchestrator.agent.node.reporter import NodeReporter
from orchestrator.agent.pods.observed import Observed
from orchestrator.agent.pods.worker import PodWorker
from orchestrator.agent.settings import KubeletSettings
from orchestrator.agent.stats import host
from orchestrator.agent.stats.collector import Collector
from orchestrator.agent.stats.usage import Snapshot
from orchestrator.api.item import Object
from orchestrator.runtime.interface import RuntimeFailure

log = structlog.get_logger(__name__)


class Seen(Protocol):
    """A pod and what the engine has of it: its worker."""

    pod: Object
    seen: Observed


class Housekeeping:
    """Of one node; implements `manager.Node`."""

    def __init__(
        self,
        settings: KubeletSettings,
        directory: Path,
        context: Context,
        stats: Collector,
        reporter: NodeReporter,
        workers: Callable[[], Sequence[PodWorker]],
        preloaded: Callable[[], Sequence[str]] = list,
    ) -> None:
        """`preloaded` names images that nobody could pull again."""
        self._preloaded = preloaded
        self._context = context
        self._directory = directory
        self._stats = stats
        self.workers = workers
        self._store: Path | None = None
        self.garbage = ImageGarbage(
            context.runtime,
            context.clock,
            settings.images,
            context.images.records,
            context.images.used_s,
            self._disk,
            partial(self.event, None),
            self._kept,
        )
        self.eviction = EvictionManager(
            settings.eviction,
            HostObserver(directory, context.runtime, context.clock),
            self,
            reporter.report_now,
            context.clock,
            context.supervisor,
        )
        self._alarm = MemoryAlarm(self.eviction.ring)
        reporter.pressures = self.eviction.pressures
        context.admission.insert(0, self.eviction.refuse)

    async def start(self) -> None:
        """Begin to look, collect and listen."""
        with contextlib.suppress(RuntimeFailure):
            self._store = await self._context.runtime.image_store()
        self._context.supervisor.serve("image garbage", self.garbage.run)
        self._context.supervisor.serve("eviction", self.eviction.run)
        if not self._alarm.start():
            log.info("the kernel gives no early warning of memory pressure")

    def close(self) -> None:
        self._alarm.close()

    # What eviction asks for

    async def usage(self) -> Snapshot:
        return await self._stats.snapshot(detail=True, disks=True)

    async def reclaim(self) -> None:
        """Dead containers first: they may be what keeps an image."""
        for container_id in dead_containers(self.workers()):
            await self._context.runtime.remove_container(container_id)
        freed = await self.garbage.free()
        log.info("reclaimed images for want of space", bytes=freed)

    def event(self, about: Object | None, reason: str, message: str) -> None:
        name = self._context.facts.name
        node: Object = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name}}
        self._context.recorder.event(about or node, "Warning", reason, message)

    # What garbage collection asks for

    def _disk(self) -> Disk:
        found = host.file_system(self._store or self._directory, 0.0)
        return Disk(found.capacity_bytes, found.available_bytes)

    def _kept(self) -> list[str]:
        """References of images that pods have as volumes, and of those that were preloaded."""
        volumes = (volume for worker in self.workers() for volume in worker.pod["spec"].get("volumes") or ())
        mounted = [volume["image"].get("reference", "") for volume in volumes if "image" in volume]
        return [*mounted, *self._preloaded()]


def dead_containers(workers: Sequence[Seen]) -> list[str]:
    """Ids of containers that nobody needs but for their logs: all of pods that are over, of others the incarnations
    before the last. Pure."""
    found = []
    for worker in workers:
        over = podspec.is_finished(worker.pod)
        for incarnations in worker.seen.containers.values():
            ended = incarnations if over else incarnations[1:]
            found += [container.id for container in ended if container.state == "exited"]
    return found
