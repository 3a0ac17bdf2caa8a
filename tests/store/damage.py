"""Damaged logs: bits that flipped, files that were cut, lost, doubled, swapped or old copies.

Whatever was done, a store opens with exactly what its history was at some revision and says what it dropped, or
it refuses and names the file. What may be dropped without damage is a last batch that is not whole.
"""

import random
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from orchestrator.base.errors import StartupError
from orchestrator.store.engine import LogStore
from orchestrator.store.frames import Frames
from orchestrator.store.header import HEADER_BYTES, SEGMENT_MAGIC, SNAPSHOT_MAGIC, DamagedLogError, Header
from orchestrator.store.record import BatchHead, BrokenBytes, SealFrame, decode_payload
from orchestrator.store.settings import KIB, MIB, LogSettings
from tests.store.ledger import STORE, History, Workload, check_states, reopen
from tests.store.memory_disk import File, Image, MemoryDisk


class Frame(NamedTuple):
    """A batch or a seal: its bytes in a file, and the newest revision up to its end."""

    start: int
    end: int
    number: int
    revision: int
    seal: bool


@dataclass(frozen=True)
class Sample:
    """A store that was closed in order: its files and its history."""

    image: Image
    history: History
    settings: LogSettings

    def paths(self, suffix: str) -> list[str]:
        return sorted(path for path in self.image if path.endswith(suffix))

    @property
    def used(self) -> list[str]:
        """Segments that were begun."""
        return [
            path for path in self.paths(".segment") if self.image[path].read(HEADER_BYTES, 0).strip(b"\0")
        ]

    def with_file(self, path: str, file: File | None) -> dict[str, File]:
        image = dict(self.image)
        if file is None:
            del image[path]
        else:
            image[path] = file
        return image

    def flipped(self, path: str, offset: int, bit: int) -> dict[str, File]:
        file = self.image[path].copy()
        file.write(bytes([file.read(1, offset)[0] ^ 1 << bit]), offset)
        return self.with_file(path, file)

    def cut(self, path: str, size: int) -> dict[str, File]:
        file = self.image[path].copy()
        file.resize(size)
        return self.with_file(path, file)


async def sample(seed: int, size_bytes: int, segment_bytes: int, snapshot_bytes: int = 1 << 30) -> Sample:
    """A store whose begun segments take at least `size_bytes`."""
    settings = LogSettings(
        segment_bytes=segment_bytes,
        history_s=1e5,
        history_bytes=64 * MIB,
        snapshot_bytes=snapshot_bytes,
    )
    disk = MemoryDisk()
    work = Workload(disk, seed, rounds=10, renews=False)
    store = await LogStore.open(STORE, work.clock, disk=disk, settings=settings)
    written = 0
    while written < size_bytes:
        await work.run(store)
        written = sum(len(file.data) for path, file in disk.image().items() if path.endswith(".segment"))
    await work.close(store)
    return Sample(disk.image(), work.history, settings)


class Layout:
    """Where the frames of one file are, as the product's own reader finds them; and that reader on changed bytes."""

    def __init__(self, path: str, file: File) -> None:
        self.path = Path(path)
        self.file = file.copy()
        self._disk = MemoryDisk({path: file})
        self._fd = self._disk.open(self.path)
        magic = SEGMENT_MAGIC if path.endswith(".segment") else SNAPSHOT_MAGIC
        self.magic = magic
        self.header = Header.decode(self.path, file.read(HEADER_BYTES, 0), magic)
        self.frames = list(self._read_all())
        self._starts = [frame.start for frame in self.frames]
        self.tail = self.frames[-1].end if self.frames else HEADER_BYTES

    def _reader(self, offset: int, batch: int) -> Frames:
        return Frames(self._disk, self._fd, self.path, self.header.seed, offset, batch)

    def _take(self, head: BatchHead, payload: bytes) -> None:
        records = decode_payload(payload, head.records, self.header.seed)
        self._revision = max([self._revision, *(record.revision for record in records)])

    def _read_all(self) -> Iterator[Frame]:
        self._revision = self.header.base_revision
        first = self.header.batch if self.magic == SEGMENT_MAGIC else 0
        frames = self._reader(HEADER_BYTES, first)
        while (read := frames.read(self._take)) is not None:
            seal = isinstance(read, SealFrame)
            yield Frame(frames.last, frames.offset, frames.batch, self._revision, seal)
            if seal:
                return

    def frame_at(self, offset: int) -> Frame | None:
        at = bisect_right(self._starts, offset) - 1
        return self.frames[at] if at >= 0 and offset < self.frames[at].end else None

    def notices(self, offset: int, bit: int) -> bool:
        """Whether the product's reader, standing where it would come to this byte, notices the flipped bit."""
        byte = self.file.read(1, offset)[0]
        self._disk.write(self._fd, bytes([byte ^ 1 << bit]), offset)
        try:
            return self._is_noticed(offset)
        finally:
            self._disk.write(self._fd, bytes([byte]), offset)
            self._disk.journal.clear()

    def _is_noticed(self, offset: int) -> bool:
        try:
            if offset < HEADER_BYTES:
                Header.decode(self.path, self._disk.read(self._fd, HEADER_BYTES, 0), self.magic)
                return False
            frame = self.frame_at(offset)
            if frame is None:
                return self._reader(self.tail, 0).last_byte(self.tail) > self.tail
            number = frame.number if frame.seal else frame.number - 1
            self._reader(frame.start, number).read(self._take)
        except (BrokenBytes, DamagedLogError, StartupError):
            return True
        return False


class Verdict(NamedTuple):
    """What came of opening: what was refused, or the revision and what was dropped."""

    refused: DamagedLogError | StartupError | None
    revision: int = 0
    dropped: tuple[str, int, int] | None = None


async def verdict(image: Image, sample: Sample) -> Verdict:
    """Open, and check that what can be read is the history's. Raises `AssertionError` for wrong data."""
    disk = MemoryDisk(image)
    try:
        store = await reopen(disk, sample.settings)
    except (DamagedLogError, StartupError) as error:
        assert not disk.open_files, disk.open_files
        return Verdict(error)
    try:
        at, floor = store.revision, store.compact_revision
        assert at <= sample.history.revision
        await check_states(store, sample.history, sorted({floor, (floor + at) // 2, at}))
        dropped = store.dropped
        return Verdict(None, at, (str(dropped.path), dropped.start, dropped.end) if dropped else None)
    finally:
        await store.close()


async def check_flip(sample: Sample, path: str, offset: int, bit: int, last: Layout) -> str:
    """One bit of one file, through the store's front door. Returns "refused", "dropped" or "older snapshot"."""
    where = f"bit {bit} of byte {offset} of {Path(path).name}"
    try:
        found = await verdict(sample.flipped(path, offset, bit), sample)
    except Exception as error:
        raise AssertionError(f"{where}: {error!r}") from error
    if found.refused:
        assert not isinstance(found.refused, DamagedLogError) or str(found.refused.path) == path, (
            where,
            found,
        )
        return "refused"
    if found.dropped:
        end = last.frames[-1]
        assert found.dropped[0] == path and found.dropped[1] <= offset < found.dropped[2], (where, found)
        assert path != str(last.path) or found.dropped[1] >= end.start, (
            f"{where}: more than a batch was dropped"
        )
        return "dropped"
    assert path.endswith(".snapshot") and found.revision == sample.history.revision, f"{where}: not noticed"
    return "older snapshot"


async def check_cut(sample: Sample, layout: Layout, size: int) -> None:
    """The last begun segment ends at `size`: every whole batch is there, and a part of one is reported."""
    whole = [frame for frame in layout.frames if frame.end <= size]
    start = whole[-1].end if whole else HEADER_BYTES
    part = layout.file.read(size, 0)[start:].strip(b"\0")
    found = await verdict(sample.cut(str(layout.path), size), sample)
    if found.refused:
        assert size < HEADER_BYTES, f"cut at {size}: {found.refused}"
        return
    revision = whole[-1].revision if whole else layout.header.base_revision
    assert found.revision == revision, f"cut at {size}: came back at {found.revision} instead of {revision}"
    assert bool(found.dropped) == bool(part), f"cut at {size}: reported {found.dropped}"


def places(layouts: list[Layout], rng: random.Random, count: int) -> Iterator[tuple[Layout, int, int]]:
    """Random bits, evenly over all bytes of all files up to some zeros behind their tails."""
    sizes = [min(layout.tail + 4 * KIB, layout.file.size) for layout in layouts]
    for _ in range(count):
        layout, size = rng.choices(list(zip(layouts, sizes, strict=True)), weights=sizes)[0]
        yield layout, rng.randrange(size), rng.randrange(8)
