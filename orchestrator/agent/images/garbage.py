"""Removing images that no container uses: when their disk fills up, when they are too old, and for eviction.

Rules:
1. Never an image that any container of the engine was made from, nor one of our own (the pause image), nor one that
   is younger here than the minimum age.
2. Fuller than the high threshold: the least recently used go first, until the low one would be reached.
3. With a maximum age, whatever was not used for so long goes, however empty the disk is.
What was here before the agent counts as old. Owner: the agent; eviction calls `free`.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import structlog

from orchestrator.agent.images.access import PullRecords
from orchestrator.agent.settings import ImageSettings
from orchestrator.base.clock import Clock
from orchestrator.runtime import references
from orchestrator.runtime.interface import Image, Runtime, RuntimeFailure

log = structlog.get_logger(__name__)

PERIOD_S = 300.0
OWN = "orchestrator.internal/"
ALL = 1 << 62
Event = Callable[[str, str], None]
"""Reason and message of a warning about the node."""


@dataclass(frozen=True, slots=True)
class Known:
    """An image that is here: since when, and when a container of it was last seen."""

    image: Image
    first_s: float
    used_s: float


@dataclass(frozen=True, slots=True)
class Disk:
    """The images' disk, in bytes."""

    capacity: int
    available: int


def wanted_bytes(disk: Disk, settings: ImageSettings) -> int:
    """How much is to be freed; 0 below the high threshold."""
    if disk.capacity <= 0:
        return 0
    used = 100 - min(disk.available, disk.capacity) * 100 // disk.capacity
    if used < settings.gc_high:
        return 0
    return max(0, disk.capacity * (100 - settings.gc_low) // 100 - disk.available)


def candidates(known: Iterable[Known], used: Collection[str], now_s: float, min_age_s: float) -> list[Known]:
    """What may go, the least recently used first."""
    free = [
        each
        for each in known
        if each.image.id not in used
        and not any(tag.startswith(OWN) for tag in each.image.tags)
        and now_s - each.first_s >= min_age_s
        and now_s - each.used_s >= min_age_s
    ]
    return sorted(free, key=lambda each: (each.used_s, each.first_s, each.image.id))


def expired(found: Iterable[Known], now_s: float, max_age_s: float) -> list[Known]:
    """Those of the candidates that nobody used for too long."""
    return [each for each in found if max_age_s and now_s - max(each.used_s, each.first_s) > max_age_s]


class ImageGarbage:
    """The images of one engine. `handed_out` says when pods last got which image, by id; it is pruned here."""

    def __init__(
        self,
        runtime: Runtime,
        clock: Clock,
        settings: ImageSettings,
        records: PullRecords,
        handed_out: dict[str, float],
        disk: Callable[[], Disk],
        event: Event,
        kept: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """`disk` may block; `kept` gives references of images that stay, such as those that
        pods have as volumes."""
        self._runtime = runtime
        self._clock = clock
        self._settings = settings
        self._records = records
        self._handed_out = handed_out
        self._disk = disk
        self._event = event
        self._kept = kept
        self._known: Mapping[str, Known] = {}
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Collect every five minutes, until cancelled."""
        await self._looked()
        while True:
            await self._clock.sleep(PERIOD_S)
            try:
                await self.collect()
            except (RuntimeFailure, OSError) as error:
                log.warning("images not collected", error=str(error))

    async def collect(self) -> None:
        """One round by age and thresholds. Raises `RuntimeFailure`, `OSError`."""
        async with self._turn:
            found = await self._candidates()
            old = expired(found, self._clock.now_s(), self._settings.max_age_s)
            await self._remove(old, ALL)
        wanted = wanted_bytes(await asyncio.to_thread(self._disk), self._settings)
        if not wanted:
            return
        freed = await self.free(wanted)
        if freed < wanted:
            self._event(
                "FreeDiskSpaceFailed",
                "Failed to garbage collect required amount of images. "
                f"Attempted to free {wanted} bytes, but only found {freed} bytes eligible to free.",
            )

    async def free(self, wanted: int = ALL) -> int:
        """Remove what may go until so many bytes are free; returns how many were. Raises `RuntimeFailure`."""
        async with self._turn:
            return await self._remove(await self._candidates(), wanted)

    async def _candidates(self) -> list[Known]:
        used = await self._looked()
        return candidates(self._known.values(), used, self._clock.now_s(), self._settings.min_age_s)

    async def _looked(self) -> Collection[str]:
        """Take in which images are here and in use; returns the ids of the latter."""
        images = await self._runtime.list_images()
        used = await self._runtime.images_in_use() | _named(images, self._kept())
        now_s, first = self._clock.now_s(), not self._known
        fresh = {}
        for image in images:
            before = self._known.get(image.id)
            first_s = before.first_s if before else 0.0 if first else now_s
            used_s = max(before.used_s if before else 0.0, self._handed_out.get(image.id, 0.0))
            fresh[image.id] = Known(image, first_s, now_s if image.id in used else used_s)
        self._known = fresh
        for gone in self._handed_out.keys() - fresh.keys():
            del self._handed_out[gone]
        await self._records.retain(fresh.keys())
        return used

    async def _remove(self, found: Iterable[Known], wanted: int) -> int:
        freed = 0
        for each in found:
            if freed >= wanted:
                break
            try:
                await self._runtime.remove_image(each.image.id)
            except RuntimeFailure as error:
                log.info("image not removed", image=each.image.id, error=str(error))
                continue
            log.info("image removed", image=each.image.id, tags=each.image.tags, bytes=each.image.size_bytes)
            freed += each.image.size_bytes
        return freed


def _named(images: Iterable[Image], kept: Iterable[str]) -> frozenset[str]:
    """Ids of the images that these references mean."""
    names = set()
    for reference in kept:
        with contextlib.suppress(RuntimeFailure):
            names.add(
                reference if references.is_image_id(reference) else references.parse(reference).familiar
            )
    return frozenset(image.id for image in images if names & {image.id, *image.tags, *image.digests})
