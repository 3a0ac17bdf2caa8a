"""Finds values on disk that left memory, and decides which files are still needed for that. Lives on the loop.

A value that is needed at a revision since the floor was written either after the newest snapshot that is not
younger than the floor, and then is in a segment, or is in that snapshot. So history needs that snapshot and all
segments after it; recovery needs the newest snapshot and all segments after that one.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from orchestrator.api.item import Item
from orchestrator.store.files import PinnedFile, finish
from orchestrator.store.header import DamagedLogError
from orchestrator.store.history import Cold
from orchestrator.store.interface import Entry, Event, StoppedError
from orchestrator.store.log import Log
from orchestrator.store.record import (
    BATCH,
    KEPT,
    PAIR,
    PUT,
    BrokenBytes,
    Operation,
    Sealer,
    decode_head,
    decode_operations,
    walk_payload,
)
from orchestrator.store.segment import Segment
from orchestrator.store.snapshot import SnapshotFile

Place = tuple[int, str]
"""Revision and key of an entry."""


@dataclass(frozen=True, slots=True)
class _View:
    """The files as they were when a read began."""

    segments: tuple[Segment, ...]
    snapshot: SnapshotFile | None
    sealer: Sealer | None

    @property
    def files(self) -> list[PinnedFile]:
        return [*self.segments, self.snapshot] if self.snapshot else list(self.segments)


class Archive:
    """Owner of the retained snapshots, and of the decision which segments stay."""

    def __init__(
        self, log: Log, snapshots: list[SnapshotFile], executor: Executor, sealer: Sealer | None
    ) -> None:
        self.snapshots = snapshots
        """By revision. The first serves history, the last recovery."""
        self._log = log
        self._executor = executor
        self._sealer = sealer

    async def entries(self, entries: Sequence[Entry | Cold]) -> list[Entry]:
        """The same, with those that left memory read from disk. Raises `DamagedLogError`."""
        cold = [entry for entry in entries if isinstance(entry, Cold)]
        if not cold:
            return list(entries)  # type: ignore[arg-type]
        read = await self._read(cold)
        return [read[entry.revision, entry.key] if isinstance(entry, Cold) else entry for entry in entries]

    async def events(self, events: list[Event]) -> list[Event]:
        """The same for the entries of events."""
        sides: list[Entry | Cold | None] = [
            side for event in events for side in (event.entry, event.previous)
        ]
        cold = [side for side in sides if isinstance(side, Cold)]
        if not cold:
            return events
        read = await self._read(cold)

        def warm(side: Entry | Cold | None) -> Entry | None:
            return read[side.revision, side.key] if isinstance(side, Cold) else side

        return [Event(event.revision, event.key, warm(event.entry), warm(event.previous)) for event in events]

    async def _read(self, cold: Iterable[Cold]) -> dict[Place, Entry]:
        snapshot = self.snapshots[0] if self.snapshots else None
        view = _View(tuple(self._log.segments), snapshot, self._sealer)
        wanted = {(entry.revision, entry.key): entry for entry in cold}
        for file in view.files:
            file.pin()
        try:
            job = self._submit(view, wanted)
            await finish(job)
            return job.result()
        finally:
            for file in view.files:
                file.unpin()

    def _submit(self, view: _View, wanted: dict[Place, Cold]) -> "asyncio.Future[dict[Place, Entry]]":
        try:
            return asyncio.get_running_loop().run_in_executor(self._executor, _read_all, view, wanted)
        except RuntimeError as error:  # The executor was shut down.
            raise StoppedError("the store is closed") from error

    def floor_for(self, kept_floor: int, bytes_max: int) -> int:
        """The least floor with which files that only history needs take no more than `bytes_max`; 0 for any."""
        floor = 0
        while self.snapshots and self._history_bytes(max(kept_floor, floor)) > bytes_max:
            later = [file.revision for file in self.snapshots if file.revision > max(kept_floor, floor)]
            if not later:
                break
            floor = later[0]
        return floor

    def history_bytes(self, kept_floor: int) -> int:
        """What the files take on disk that recovery would not need."""
        return self._history_bytes(kept_floor) if self.snapshots else 0

    def _history_bytes(self, kept_floor: int) -> int:
        newest = self.snapshots[-1]
        first = self._first_needed(kept_floor)
        start = first.header.number if first else 0
        segments = [file for file in self._log.segments if start <= file.number < newest.header.number]
        snapshots = [file for file in self._needed(kept_floor) if file is not newest]
        return sum(file.size_bytes for file in segments) + sum(file.size_bytes for file in snapshots)

    def _first_needed(self, kept_floor: int) -> SnapshotFile | None:
        """The newest snapshot that is not younger than the floor; None where history begins before all."""
        at = bisect_right(self.snapshots, kept_floor, key=lambda file: file.revision)
        return self.snapshots[at - 1] if at else None

    def _needed(self, kept_floor: int) -> list[SnapshotFile]:
        """For history one, for recovery one, and the next that history can begin with when the floor has risen."""
        first = self._first_needed(kept_floor)
        later = [file for file in self.snapshots if file.revision > kept_floor]
        between = later[:1] if len(later) > 1 else []
        return [*([first] if first else []), *between, *later[-1:]]

    def drop_superseded(self, kept_floor: int) -> list[PinnedFile]:
        """Take files out of use that nobody needs; the caller removes them from disk, in this order."""
        if not self.snapshots:
            return []
        needed = self._needed(kept_floor)
        snapshots = [file for file in self.snapshots if file not in needed]
        start = needed[0].header.number if self._first_needed(kept_floor) else 0
        segments = [file for file in self._log.segments if file.number < start]
        self.snapshots[:] = needed
        del self._log.segments[: len(segments)]
        dropped: list[PinnedFile] = [*snapshots, *segments]
        for file in dropped:
            file.close()
        return dropped

    @property
    def size_bytes(self) -> int:
        """What the snapshots take on disk."""
        return sum(file.size_bytes for file in self.snapshots)

    def close(self) -> None:
        for file in self.snapshots:
            file.close()


def _read_all(view: _View, wanted: dict[Place, Cold]) -> dict[Place, Entry]:
    """Blocking: every wanted entry. Raises `DamagedLogError` if one is not where it was written."""
    places = sorted(wanted)
    found: dict[Place, tuple[int, bytes]] = {}
    bases = [file.header.base_revision for file in view.segments if file.header]
    start = bisect_right(places, (bases[0], "\U0010ffff"))
    if places[:start] and view.snapshot is not None:
        _read_snapshot(view.snapshot, places[:start], view.sealer, found)
    for file, until in zip(view.segments, [*bases[1:], None], strict=True):
        end = len(places) if until is None else bisect_right(places, (until, "\U0010ffff"))
        if end > start:
            _read_segment(file, places[start:end], view.sealer, found)
            start = end
    missing = [place for place in places if place not in found]
    if missing:
        path = view.segments[0].path
        raise DamagedLogError(path, 0, f"revision {missing[0][0]} of {missing[0][1]} is not in the log")
    return {place: _entry(wanted[place], *found[place]) for place in places}


def _entry(cold: Cold, lease: int, value: bytes) -> Entry:
    return Entry(cold.key, Item(value, cold.revision), cold.create_revision, cold.version, lease)


def _read_segment(
    file: Segment, places: list[Place], sealer: Sealer | None, found: dict[Place, tuple[int, bytes]]
) -> None:
    """`places` are in order: batches that have some are read one after the other."""
    wanted = set(places)
    revisions = {revision for revision, _ in places}
    at = offset = 0
    while at < len(places) and offset < file.tail:
        offset = max(offset, file.place(places[at][0]))
        offset, records = _batch(file, file.seed, offset)
        newest = 0
        for revision, steps, body, payload in records:
            newest = revision
            if revision in revisions:
                for operation in decode_operations(payload, body, steps, sealer):
                    if operation.kind == PUT and (revision, operation.key) in wanted:
                        found[revision, operation.key] = (operation.lease, operation.value)
        while at < len(places) and places[at][0] <= newest:
            at += 1


def _read_snapshot(
    file: SnapshotFile, places: list[Place], sealer: Sealer | None, found: dict[Place, tuple[int, bytes]]
) -> None:
    wanted = set(places)
    revisions = {revision for revision, _ in places}
    offsets = {file.place(key) for _, key in places} - {0}
    for start in sorted(offsets):
        _, records = _batch(file, file.header.seed, start)
        for revision, steps, body, payload in records:
            if revision in revisions:
                for operation in decode_operations(payload, body, steps, sealer):
                    if operation.kind == KEPT and (revision, operation.key) in wanted:
                        found[revision, operation.key] = _of_kept(operation)


def _of_kept(operation: Operation) -> tuple[int, bytes]:
    return operation.lease, operation.value[PAIR.size :]


def _batch(file: PinnedFile, seed: int, offset: int) -> tuple[int, list[tuple[int, int, int, bytes]]]:
    """Where the next batch begins, and of each record revision, operation count, offset, payload."""
    try:
        head = decode_head(file.disk.read(file.fd, BATCH.size, offset), seed)
        payload = file.disk.read(file.fd, head.payload_bytes, offset + BATCH.size)
        walked = walk_payload(payload, head.records, seed)
        records = [(revision, steps, body, payload) for revision, steps, body, _ in walked]
    except BrokenBytes as broken:
        raise DamagedLogError(file.path, offset + broken.offset, broken.what) from None
    return offset + BATCH.size + head.payload_bytes, records
