"""Every crash point of a recorded run: the power goes during each of the disk's operations, and again in recovery."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, takewhile
from math import inf

from orchestrator.base.clock import VirtualClock
from orchestrator.store.engine import LogStore
from tests.store.ledger import (
    SMALL,
    STORE,
    Heard,
    History,
    Told,
    Workload,
    check,
    reopen,
)
from tests.store.medium import Medium, torn
from tests.store.memory_disk import Image, Mark, MemoryDisk, Op, Sync, SyncNames, Write


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
    """A moment at which the power goes, or (`written`) only the process, which had asked for so much of the disk."""

    number: int
    op: str
    how: str
    image: Image
    told: Told
    written: list[Op] | None = None

    def disk(self, first: Image) -> MemoryDisk:
        return MemoryDisk(self.image) if self.written is None else MemoryDisk.resumed(first, self.written)

    def __str__(self) -> str:
        return f"operation {self.number} ({self.op}), {self.how}"


async def record(seed: int, rounds: int, disk: MemoryDisk) -> Recording:
    """Open a store, work on it, close it; twice, so that the second recovery is recorded as well."""
    work = Workload(disk, seed, rounds=rounds)
    for _ in range(2):
        store = await LogStore.open(STORE, work.clock, disk=disk, settings=SMALL)
        try:
            await work.run(store)
        finally:
            await work.close(store)
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


def kills(recording: Recording, rng: random.Random, share: float) -> Iterator[Point]:
    """The process dies during an operation, and the system does not: what was written is in its cache."""
    told = Told()
    journal = recording.journal
    for number, op in enumerate(journal):
        if isinstance(op, Mark):
            if isinstance(op.note, Heard):
                told = op.note.add_to(told)
        elif rng.random() < share:
            written = [*journal[:number], *_begun(op, rng)]
            image = MemoryDisk.resumed(recording.first, written).image()
            yield Point(number, type(op).__name__, "killed", image, told, written)


def _begun(op: Op, rng: random.Random) -> list[Op]:
    """What an operation that was cut off has done, in the cache alone."""
    if isinstance(op, Write):
        parts = torn(op, rng) if rng.random() < 0.5 else [op]
        return [part._replace(durable=False) if isinstance(part, Write) else part for part in parts]
    return [] if isinstance(op, Sync | SyncNames) or rng.random() < 0.5 else [op]


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
        recording, rng = self._recording, self._rng
        lost = points(recording.first, recording.journal, Told(), rng, self._tears)
        chosen = (point for point in lost if rng.random() < self._share and self._is_new(point))
        for point in chain(kills(recording, rng, self._share), chosen):
            try:
                await self._try(point, nested=point.written is None and rng.random() < self._nested)
            except CrashError as error:
                self.wrong.append(error)
            if len(self.wrong) >= wrong_max or time.monotonic() > end_s:
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
        disk = point.disk(self._recording.first)
        try:
            work = await self._come_back(disk, point.told)
        except Exception as error:
            raise CrashError(f"{point}: {error!r}", point.image) from error
        if nested:
            await self._crash_while_opening(point, disk)
        await self._lose_power_again(point, disk, work)

    async def _crash_while_opening(self, point: Point, disk: MemoryDisk) -> None:
        opening = list(takewhile(lambda op: not isinstance(op, Mark), disk.journal))
        for again in points(disk.first_image(), opening, point.told, self._rng, 1):
            if again.op != "end" and self._is_new(again):
                how = f"{point}, then while opening {again.how}"
                await self._try(replace(again, how=how), nested=False)

    async def _come_back(self, disk: MemoryDisk, told: Told) -> Workload:
        """Open, check, and go on: with one write or with many."""
        clock = VirtualClock()
        store = await reopen(disk, clock=clock)
        work = Workload(
            disk,
            self._rng.randrange(1 << 30),
            writers=3,
            rounds=self._rng.choice((0, 0, 0, 0, 8)),
            history=self._recording.history.until(store.revision),
            told=Heard(revision=store.revision).add_to(told),
            clock=clock,
        )
        try:
            disk.mark("open")
            await check(store, self._recording.history, told, self._rng)
            await work.run(store)
            await work.put_one(store)
        finally:
            await work.close(store)
        return work

    async def _lose_power_again(self, point: Point, disk: MemoryDisk, work: Workload) -> None:
        """What a store that came back showed and acknowledged is on disk, too."""
        medium = Medium(disk.first_image())
        for op in disk.journal:
            medium.apply(op)
        first, *others = medium.images(None, self._rng, 1)
        for how, image in (first, *self._rng.sample(others, min(1, len(others)))):
            store = None
            try:
                store = await reopen(MemoryDisk(image))
                await check(store, work.history, work.told, self._rng)
            except Exception as error:
                raise CrashError(f"{point}; later power lost, {how}: {error!r}", image) from error
            finally:
                if store:
                    await store.close()
