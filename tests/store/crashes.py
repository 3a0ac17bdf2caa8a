"""Every crash point of a recorded run: the power goes during each of the disk's operations, and again in recovery."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import takewhile
from math import inf

from orchestrator.store.engine import LogStore
from tests.store.ledger import (
    SMALL,
    STORE,
    Heard,
    History,
    Told,
    Workload,
    check,
    check_writing,
    reopen,
    told_by,
)
from tests.store.medium import Medium
from tests.store.memory_disk import Image, Mark, MemoryDisk, Op


class CrashError(AssertionError):
    """A store did not come back as it should. `image` is what it was opened from."""

    def __init__(self, where: str, image: Image) -> None:
        super().__init__(where)
        self.image = image


@dataclass(frozen=True)
class Recording:
    """A run that was not disturbed: what it asked of the disk, and what it published."""

    first: Image
    journal: list[Op]
    history: History
    told: Told


@dataclass(frozen=True)
class Point:
    """A moment at which the power goes."""

    number: int
    op: str
    how: str
    image: Image
    told: Told


async def record(seed: int, rounds: int, disk: MemoryDisk) -> Recording:
    """Open a store, work on it, close it; twice, so that the second recovery is recorded as well."""
    work = Workload(disk, seed, rounds=rounds)
    for _ in range(2):
        store = await LogStore.open(STORE, work.clock, disk=disk, settings=SMALL)
        try:
            await work.run(store)
        finally:
            await store.close()
    assert not disk.open_files, disk.open_files
    return Recording(disk.first_image(), list(disk.journal), work.history, work.told)


def points(first: Image, journal: list[Op], told: Told, rng: random.Random, tears: int) -> Iterator[Point]:
    """Every operation of a journal as the last, unfinished one; then what is left when all have returned."""
    medium = Medium(first)
    for number, op in enumerate(journal):
        if isinstance(op, Mark):
            if isinstance(op.note, Heard):
                told = op.note.add_to(told)
            continue
        for how, image in medium.images(op, rng, tears):
            yield Point(number, type(op).__name__, how, image, told)
        medium.apply(op)
    for how, image in medium.images(None, rng, tears):
        yield Point(len(journal), "end", how, image, told)


class Replay:
    """Opens a store from crash points and checks it; equal images are opened once.

    `share` is the part of the points that is tried, `nested` the part of those whose recovery is itself cut
    off at every one of its operations.
    """

    def __init__(self, recording: Recording, seed: int, share: float, nested: float, tears: int) -> None:
        self.opened = 0
        self.wrong: list[CrashError] = []
        self.kinds: Counter[str] = Counter()
        self._recording = recording
        self._rng = random.Random(seed)
        self._share = share
        self._nested = nested
        self._tears = tears
        self._known: set[int] = set()

    async def run(self, wrong_max: int = 1, end_s: float = inf) -> None:
        """Until so many points have gone wrong, which are kept in `wrong`, or `end_s` on the monotonic clock."""
        recording = self._recording
        for point in points(recording.first, recording.journal, Told(), self._rng, self._tears):
            if time.monotonic() > end_s:
                return
            if self._rng.random() >= self._share or not self._is_new(point):
                continue
            try:
                await self._try(point, nested=self._rng.random() < self._nested)
            except CrashError as error:
                self.wrong.append(error)
                if len(self.wrong) >= wrong_max:
                    return

    def _is_new(self, point: Point) -> bool:
        files = sorted((path, file.size, bytes(file.data)) for path, file in point.image.items())
        known = hash((tuple(files), point.told))
        new = known not in self._known
        self._known.add(known)
        return new

    async def _try(self, point: Point, nested: bool) -> None:
        self.opened += 1
        self.kinds[f"{point.op}, {point.how}"] += 1
        disk = MemoryDisk(point.image)
        try:
            told = await self._come_back(disk, point.told)
        except Exception as error:
            where = f"power lost in operation {point.number} ({point.op}), {point.how}: {error!r}"
            raise CrashError(where, point.image) from error
        if nested:
            opening = list(takewhile(lambda op: not isinstance(op, Mark), disk.journal))
            for again in points(disk.first_image(), opening, point.told, self._rng, 1):
                if again.op != "end" and self._is_new(again):
                    await self._try(replace(again, how=f"{point.how}, then {again.how}"), nested=False)
        await self._lose_power_again(point, disk, told)

    async def _come_back(self, disk: MemoryDisk, told: Told) -> Told:
        """Open, check, and go on writing; what clients then know."""
        store = await reopen(disk)
        try:
            disk.mark(Heard(revision=store.revision, floor=store.compact_revision))
            await check(store, self._recording.history, told, self._rng)
            told = await check_writing(store, told_by(disk.journal, told))
        finally:
            await store.close()
        assert not disk.open_files, disk.open_files
        return told

    async def _lose_power_again(self, point: Point, disk: MemoryDisk, told: Told) -> None:
        """What a recovered store showed and acknowledged is on disk, too."""
        medium = Medium(disk.first_image())
        for op in disk.journal:
            medium.apply(op)
        image = medium.nothing_kept()
        store = None
        try:
            store = await reopen(MemoryDisk(image))
            assert store.revision >= told.revision, f"{store.revision} after {told.revision} was shown"
            entry = await store.get("/after")
            assert entry and entry.revision == told.revision
        except Exception as error:
            raise CrashError(
                f"after {point.how} at {point.number}, power lost again: {error!r}", image
            ) from error
        finally:
            if store:
                await store.close()
