"""Builds the state from a directory: the newest good snapshot, then the segments after it, in order.

What a crash can leave behind is taken as it is: a torn last batch or seal, an allocated segment that was not yet
begun, a header that was not finished, temporary files, files that were superseded but not yet removed. Everything
else is damage and refused by name. Blocking; runs in a thread before anybody reads.
"""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from orchestrator.base.clock import Clock
from orchestrator.store.disk import Disk
from orchestrator.store.frames import Take
from orchestrator.store.header import (
    HEADER_BYTES,
    NO_CHAIN,
    SEGMENT_MAGIC,
    DamagedLogError,
    Dropped,
    Header,
)
from orchestrator.store.log import Log
from orchestrator.store.record import BatchHead, Record, Sealer, decode_payload, walk_payload
from orchestrator.store.segment import Segment, next_header, segment_path
from orchestrator.store.settings import LogSettings
from orchestrator.store.snapshot import SnapshotFile
from orchestrator.store.state import State

log = structlog.get_logger(__name__)

PAGE_OF_ZEROS = bytes(HEADER_BYTES)


@dataclass(slots=True)
class Recovered:
    """What recovery found. The files in it are open."""

    state: State
    segments: list[Segment] = field(default_factory=list)
    snapshots: list[SnapshotFile] = field(default_factory=list)
    spare: Segment | None = None
    dropped: Dropped | None = None
    damaged: list[Path] = field(default_factory=list)
    """Snapshots that can't be read, newer than the one that was taken."""
    doomed: list[Path] = field(default_factory=list)
    """Superseded files that could not be removed."""

    def close(self) -> None:
        spare = [self.spare] if self.spare else []
        for file in (*self.segments, *self.snapshots, *spare):
            file.close()


def numbered(directory: Path, names: list[str], suffix: str) -> dict[int, Path]:
    """Files named by 16 hexadecimal digits and `suffix`, by their number, in order."""
    found = {}
    for name in names:
        stem, dot, rest = name.partition(".")
        if dot + rest == suffix and len(stem) == 16:
            try:
                found[int(stem, 16)] = directory / name
            except ValueError:
                continue
    return dict(sorted(found.items()))


@contextmanager
def no_collection() -> Iterator[None]:
    """Loading makes objects by the million, and no garbage."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Recovery:
    """One reading of a directory."""

    def __init__(
        self, disk: Disk, directory: Path, clock: Clock, settings: LogSettings, sealer: Sealer | None = None
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._clock = clock
        self._settings = settings
        self._sealer = sealer

    def run(self) -> tuple[Recovered, Log]:
        """Raises `DamagedLogError`, `StartupError`, `OSError`; the directory is then as it was."""
        names = self._disk.names(self._directory)
        with no_collection():
            found = self._read(names)
        try:
            log_ = self._finish(found)
        except BaseException:
            found.close()
            raise
        self._remove_superseded(names, found)
        return found, log_

    def _read(self, names: list[str]) -> Recovered:
        snapshots = numbered(self._directory, names, ".snapshot")
        segments = numbered(self._directory, names, ".segment")
        first_error: DamagedLogError | None = None
        damaged: list[Path] = []
        for path in [*reversed(snapshots.values()), None]:
            if path is None and first_error and 1 not in segments:
                break
            try:
                found = self._load(path, segments)
            except DamagedLogError as error:
                if path is None or error.path != path:
                    raise first_error or error from None
                first_error = first_error or error
                damaged.append(error.path)
                continue
            found.damaged = damaged
            if first_error:
                log.error("store went back to an older snapshot", cause=str(first_error))
            return found
        assert first_error is not None
        raise first_error

    def _load(self, path: Path | None, segments: dict[int, Path]) -> Recovered:
        found = Recovered(State(self._clock, self._settings.history_memory_bytes))
        found.state.begin_loading()
        try:
            if path is not None:
                self._load_snapshot(found, path)
            self._load_segments(found, segments)
        except BaseException:
            found.close()
            raise
        found.state.end_loading()
        found.state.shorten_history()
        return found

    def _load_snapshot(self, found: Recovered, path: Path) -> None:
        snapshot = SnapshotFile.open(self._disk, path)
        found.snapshots.append(snapshot)
        apply = found.state.apply

        def take(records: list[Record]) -> None:
            for record in records:
                apply(record)

        snapshot.load(take, self._sealer)

    def _load_segments(self, found: Recovered, segments: dict[int, Path]) -> None:
        start = found.snapshots[0].header.number if found.snapshots else 1
        wanted = [number for number in segments if number >= start]
        if not wanted and not found.snapshots:
            return
        found.state.expect(self._last_base([segments[number] for number in wanted]))
        for number in range(start, (wanted[-1] if wanted else start) + 1):
            if number not in segments:
                raise DamagedLogError(segment_path(self._directory, number), 0, "the segment is missing")
            self._load_segment(found, Segment.open(self._disk, segments[number], number))
        last = found.segments[-1] if found.segments else None
        if last and last.sealed and not found.spare:
            missing = segment_path(self._directory, last.number + 1)
            raise DamagedLogError(missing, 0, "the segment is missing: the one before it is sealed")
        self._check_reach(found)

    def _last_base(self, paths: list[Path]) -> int:
        """The last revision before the last segment that was begun, to plan with; 0 if that can't be told."""
        for path in reversed(paths):
            fd = self._disk.open(path)
            try:
                page = self._disk.read(fd, HEADER_BYTES, 0)
            finally:
                self._disk.close(fd)
            if page.strip(b"\0"):
                try:
                    return Header.decode(path, page, SEGMENT_MAGIC).base_revision
                except DamagedLogError:
                    return 0
        return 0

    def _load_segment(self, found: Recovered, segment: Segment) -> None:
        try:
            self._classify(found, segment)
        except BaseException:
            segment.close()
            raise

    def _classify(self, found: Recovered, segment: Segment) -> None:
        """Whether a file is part of the log, spare, or neither."""
        if found.spare is not None:
            raise DamagedLogError(found.spare.path, 0, "the segment is empty though a later one exists")
        page = segment.read_header()
        if not page.strip(b"\0"):
            if segment.is_used:
                what = "the file header is empty, but what follows is not"
                raise DamagedLogError(segment.path, 0, what)
            found.spare = segment
            return
        try:
            header = Header.decode(segment.path, page, SEGMENT_MAGIC)
        except DamagedLogError:
            if segment.is_used or not _may_be_torn(found, segment):
                raise
            found.spare = segment
            found.dropped = Dropped(segment.path, 0, HEADER_BYTES, "the header was not finished")
        else:
            found.segments.append(segment)
            self._scan(found, segment, header)

    def _scan(self, found: Recovered, segment: Segment, header: Header) -> None:
        before = found.segments[-2] if len(found.segments) > 1 else None
        check_link(segment, header, before, found.snapshots[0] if found.snapshots else None)
        segment.adopt(header)
        broken = segment.scan(self._taker(found, segment))
        if broken is not None:
            end = segment.end_of_bytes(segment.tail)
            found.dropped = Dropped(segment.path, segment.tail, end, broken.what)

    def _taker(self, found: Recovered, segment: Segment) -> Take:
        """Applies the batches that the snapshot does not have, and verifies all."""
        state, seed, sealer = found.state, segment.seed, self._sealer
        apply = state.apply
        covered = found.snapshots[0].header.batch if found.snapshots else 0

        def take(head: BatchHead, payload: bytes) -> None:
            if head.number <= covered:
                for revision, _, _, _ in walk_payload(payload, head.records, seed):
                    segment.revision = max(segment.revision, revision)
                return
            records = decode_payload(payload, head.records, seed, sealer)
            for record in records:
                apply(record)
            if records:
                segment.revision = max(segment.revision, records[-1].revision)
            state.shorten_history()

        return take

    def _check_reach(self, found: Recovered) -> None:
        """The snapshot was taken of batches that were durable: they must be there."""
        if not found.snapshots:
            return
        header, first = found.snapshots[0].header, found.segments[0] if found.segments else None
        if first is None or first.batch < header.batch or first.tail < header.offset:
            path = segment_path(self._directory, header.number)
            offset = first.tail if first else 0
            raise DamagedLogError(path, offset, f"batch {header.batch}, which a snapshot has, is missing")

    def _finish(self, found: Recovered) -> Log:
        """Repair what a crash left behind and make a log of it."""
        if found.dropped and found.segments and found.dropped.path == found.segments[-1].path:
            found.segments[-1].clear(found.dropped.start, found.dropped.end)
        elif found.dropped and found.spare:
            found.spare.clear(0, HEADER_BYTES)
        if not found.segments:
            self._begin(found)
        else:
            found.segments[-1].settle()
        return Log(self._disk, self._directory, found.segments, found.spare, self._settings.segment_bytes)

    def _begin(self, found: Recovered) -> None:
        """The first segment of a new store."""
        first = found.spare or Segment.create(self._disk, segment_path(self._directory, 1), 1)
        found.spare = None
        found.segments.append(first)
        self._disk.sync_directory(self._directory)
        first.begin(Header(SEGMENT_MAGIC, os.urandom(16), 1, 0, os.urandom(16)))

    def _remove_superseded(self, names: list[str], found: Recovered) -> None:
        needed = found.segments[0].number
        revision = found.snapshots[-1].revision if found.snapshots else 0
        snapshots = numbered(self._directory, names, ".snapshot")
        segments = numbered(self._directory, names, ".segment")
        temporary = [self._directory / name for name in names if name.endswith(".tmp")]
        old = [path for number, path in snapshots.items() if number < revision]
        for path in (*temporary, *old, *(path for number, path in segments.items() if number < needed)):
            try:
                self._disk.unlink(path)
            except OSError as error:
                found.doomed.append(path)
                log.warning("store file not removed", file=str(path), cause=str(error))


def _may_be_torn(found: Recovered, segment: Segment) -> bool:
    """Whether a crash may have come while this segment's header was written: as the first, or after a seal."""
    if found.segments:
        return found.segments[-1].sealed
    return segment.number == 1 and not found.snapshots


def check_link(
    segment: Segment, header: Header, before: Segment | None, snapshot: SnapshotFile | None
) -> None:
    """Raises `DamagedLogError` unless `segment` is what follows."""
    if header.number != segment.number:
        raise DamagedLogError(segment.path, 0, f"this is segment {header.number:x}")
    if before is not None:
        if not before.sealed:
            what = "the segment has no seal, though the next one was begun"
            raise DamagedLogError(before.path, before.tail, what)
        expected = next_header(before)
        if header != expected:
            raise DamagedLogError(segment.path, 0, "the segment does not follow the one before it")
    elif snapshot is not None:
        mine = (header.store_id, header.chain)
        if mine != (snapshot.header.store_id, snapshot.header.chain):
            raise DamagedLogError(
                segment.path, 0, f"the segment is not the one that {snapshot.path.name} means"
            )
    elif (header.chain, header.batch) != (NO_CHAIN, 0):
        raise DamagedLogError(segment.path, 0, "the segment is not a log's first one")
