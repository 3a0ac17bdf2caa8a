"""Makes a damaged store usable again by giving up what comes after the damage. Only when an operator asks for it.

What is kept is the longest prefix of the log that can be verified, from whichever snapshot, or the log's first
segment, reaches furthest; nothing is skipped, so nothing is kept that rests on what was lost. The store is
written anew from it. Its revision is far above the highest one that can still be recognised in what is given up,
since there may have been more, so that no revision is given out twice; nothing older can be read, and clients that
watch have to list again. Every old file goes to `damaged-<time>/` first, as it is.

Blocking. Called by `orchestrator store repair`.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.base.clock import Clock, SystemClock
from orchestrator.base.errors import OrchestratorError, StartupError
from orchestrator.store.disk import Disk
from orchestrator.store.header import (
    HEADER_BYTES,
    SEGMENT_MAGIC,
    DamagedLogError,
    Header,
)
from orchestrator.store.rebuild import write_store
from orchestrator.store.record import (
    BATCH,
    MAGIC,
    BatchHead,
    BrokenBytes,
    decode_head,
    decode_payload,
    walk_payload,
)
from orchestrator.store.recovery import Recovery, check_link, numbered
from orchestrator.store.segment import Segment, segment_path
from orchestrator.store.settings import LogSettings
from orchestrator.store.snapshot import SnapshotFile, snapshot_path
from orchestrator.store.state import State

REVISION_GAP = 1_000_000_000
"""More than what may have been lost without a trace: months of writing at full speed."""


@dataclass(frozen=True, slots=True)
class LostRange:
    """Bytes of a file that were given up."""

    file: str
    start: int
    end: int
    what: str


@dataclass(slots=True)
class RepairReport:
    """What was done. Nothing, if `damage` is empty."""

    damage: str = ""
    """What a start refused, with file and offset."""
    kept_revision: int = 0
    """Everything up to this revision is there."""
    revision: int = 0
    """The store's revision now, and the oldest that can be read: `REVISION_GAP` above all that can be recognised."""
    keys: int = 0
    lost: list[LostRange] = field(default_factory=list)
    lost_records: int = 0
    """Transactions that can still be recognised in what was given up."""
    lost_revisions: tuple[int, int] | None = None
    """The first and the last one of those."""
    set_aside: str = ""
    """The directory that has all old files."""


@dataclass(slots=True)
class _Prefix:
    """How far one beginning leads: `stop` is where in which segment it ends, and why."""

    state: State
    header: Header
    number: int = 0
    offset: int = 0
    stop: str = ""


def repair(path: Path, disk: Disk | None = None, clock: Clock | None = None) -> RepairReport:
    """Repair the store in the directory `path`, if it is damaged.

    Raises `StartupError` when another process has it open or nothing can be kept, `OSError`; nothing is lost then.
    """
    disk, clock = disk or Disk(), clock or SystemClock()
    try:
        lock = disk.lock(path / "LOCK")
    except BlockingIOError:
        raise StartupError(f"{path} is in use.", "Stop the server first.") from None
    try:
        found, log = Recovery(disk, path, clock, LogSettings()).run()
    except DamagedLogError as error:
        return _Repair(disk, path, clock).run(error)
    else:
        log.close()
        found.close()
        return RepairReport(
            kept_revision=found.state.revision, revision=found.state.revision, keys=len(found.state)
        )
    finally:
        disk.close(lock)


class _Repair:
    """One repair, under the directory's lock."""

    def __init__(self, disk: Disk, directory: Path, clock: Clock) -> None:
        self._disk = disk
        self._directory = directory
        self._clock = clock
        names = disk.names(directory)
        self._names = [name for name in names if name.endswith((".segment", ".snapshot"))]
        self._snapshots = numbered(directory, names, ".snapshot")
        self._segments = numbered(directory, names, ".segment")

    def run(self, error: DamagedLogError) -> RepairReport:
        best = self._longest()
        report = RepairReport(str(error), best.state.revision, keys=len(best.state))
        self._survey(best, report)
        newest = [best.state.revision, *self._snapshots, *self._bases()]
        if report.lost_revisions:
            newest.append(report.lost_revisions[1])
        best.state.revision = report.revision = max(newest) + REVISION_GAP
        report.set_aside = self._set_aside()
        number = max(self._segments, default=0) + 1
        write_store(self._disk, self._directory, best.state, best.header, number, None)
        kept = (segment_path(Path(), number).name, snapshot_path(Path(), report.revision).name)
        for name in self._names:
            if name not in kept:
                self._disk.unlink(self._directory / name)
        return report

    def _longest(self) -> _Prefix:
        starts = [*reversed(self._snapshots.values()), *([None] if 1 in self._segments else [])]
        found = [prefix for start in starts if (prefix := self._prefix(start)) is not None]
        if not found:
            raise StartupError(
                f"Nothing in {self._directory} can be kept: no snapshot is whole, and the log's beginning is gone.",
                "Restore a backup with `orchestrator restore`.",
            )
        return max(found, key=lambda prefix: prefix.state.revision)

    def _prefix(self, path: Path | None) -> _Prefix | None:
        """What can be verified from this snapshot, or the first segment, on; None where it can't begin."""
        state = State(self._clock, 0)
        state.begin_loading()
        snapshot = None
        try:
            if path is not None:
                snapshot = SnapshotFile.open(self._disk, path)
                snapshot.load(lambda records: [state.apply(record) for record in records], None)
            prefix = self._replay(state, snapshot)
        except (DamagedLogError, BrokenBytes):
            return None
        finally:
            if snapshot is not None:
                snapshot.close()
        state.end_loading()
        return prefix

    def _replay(self, state: State, snapshot: SnapshotFile | None) -> _Prefix | None:
        prefix = _Prefix(state, snapshot.header) if snapshot else None
        before: Segment | None = None
        number = snapshot.header.number if snapshot else 1
        while number in self._segments:
            segment = Segment.open(self._disk, self._segments[number], number)
            try:
                page = segment.read_header()
                if not page.strip(b"\0") and not segment.is_used:
                    break
                header = Header.decode(segment.path, page, SEGMENT_MAGIC)
                check_link(segment, header, before, snapshot)
                prefix = prefix or _Prefix(state, header)
                prefix.header = header
                segment.adopt(header)
                self._scan(segment, state, snapshot)
            except DamagedLogError as error:
                if prefix is not None:
                    at = segment.tail if segment.header else 0
                    prefix.number, prefix.offset, prefix.stop = number, at, str(error)
                break
            finally:
                segment.close()
            before = segment
            number += 1
        else:
            if prefix is not None and (before is None or before.sealed):
                prefix.number, prefix.stop = number, "the segment before it is missing"
        return prefix

    def _scan(self, segment: Segment, state: State, snapshot: SnapshotFile | None) -> None:
        covered = snapshot.header.batch if snapshot else 0

        def take(head: BatchHead, payload: bytes) -> None:
            records = decode_payload(payload, head.records, segment.seed)
            if head.number > covered:
                for record in records:
                    state.apply(record)
                state.shorten_history()
            if records:
                segment.revision = max(segment.revision, records[-1].revision)
            segment.tail += BATCH.size + head.payload_bytes

        broken = segment.scan(take)
        if broken is not None:
            raise DamagedLogError(segment.path, segment.tail + broken.offset, broken.what)

    def _survey(self, best: _Prefix, report: RepairReport) -> None:
        """What is in the bytes that are given up."""
        revisions: list[int] = []
        seed = self._seed()
        for number, path in self._segments.items():
            if number < best.number or not best.stop:
                continue
            start = best.offset if number == best.number else 0
            fd = self._disk.open(path)
            try:
                data = self._disk.read(fd, self._disk.size(fd), 0)
            finally:
                self._disk.close(fd)
            end = len(data.rstrip(b"\0"))
            if end <= start:
                continue
            report.lost.append(
                LostRange(path.name, start, end, best.stop if number == best.number else "after it")
            )
            revisions += _revisions(data, max(start, HEADER_BYTES), seed)
        lost = [revision for revision in revisions if revision > report.kept_revision]
        report.lost_records = len(lost)
        if lost:
            report.lost_revisions = min(lost), max(lost)

    def _seed(self) -> int:
        """What the checksums in all segments start from; one good header tells."""
        return next((header.seed for header in self._headers()), 0)

    def _bases(self) -> list[int]:
        """Revisions that segments were begun after."""
        return [header.base_revision for header in self._headers()]

    def _headers(self) -> Iterator[Header]:
        """Those of segments that can be read."""
        for path in self._segments.values():
            fd = self._disk.open(path)
            try:
                yield Header.decode(path, self._disk.read(fd, HEADER_BYTES, 0), SEGMENT_MAGIC)
            except DamagedLogError:
                continue
            finally:
                self._disk.close(fd)

    def _set_aside(self) -> str:
        """Second names for all files, so that a repair that breaks off has taken nothing away."""
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(self._clock.now_s()))
        target = self._directory / f"damaged-{stamp}"
        self._disk.make_directory(target)
        for name in self._names:
            try:
                self._disk.link(self._directory / name, target / name)
            except FileExistsError:
                raise StartupError(f"{target} exists.", "Try again in a second.") from None
        self._disk.sync_directory(target)
        self._disk.sync_directory(self._directory)
        return str(target)


def _revisions(data: bytes, start: int, seed: int) -> list[int]:
    """Revisions of the records in every whole batch from `start` on."""
    found: list[int] = []
    at = data.find(MAGIC, start)
    while at >= 0:
        try:
            head = decode_head(data[at : at + BATCH.size], seed)
            payload = data[at + BATCH.size : at + BATCH.size + head.payload_bytes]
            for revision, _, _, _ in walk_payload(payload, head.records, seed):
                found.append(revision)
        except (BrokenBytes, OrchestratorError):
            at = data.find(MAGIC, at + 1)
        else:
            at = data.find(MAGIC, at + BATCH.size + head.payload_bytes)
    return found
