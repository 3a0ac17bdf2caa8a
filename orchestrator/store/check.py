"""Reads every file of a store and says whether it is as it was written. Changes nothing; blocking.

May look at a directory that a server is writing to: what seems damaged is looked at again, since a batch may
have been half written, and a file may have been removed, while we looked. Called by `orchestrator store check`.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.base.errors import StartupError
from orchestrator.store.disk import Disk
from orchestrator.store.frames import Frames
from orchestrator.store.header import (
    HEADER_BYTES,
    SEGMENT_MAGIC,
    SNAPSHOT_MAGIC,
    DamagedLogError,
    Header,
)
from orchestrator.store.record import SNAPSHOT, BatchHead, BrokenBytes, decode_operations, walk_payload
from orchestrator.store.recovery import check_link, numbered
from orchestrator.store.segment import Segment, segment_path

LOOKS = 6
PAUSE_S = 0.2
DAMAGE = "damage"
UNFINISHED = "unfinished"
"""What a start would drop, or remove: nobody was told that it is stored."""


class ReadingDisk(Disk):
    """Opens files for reading only."""

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


@dataclass(frozen=True, slots=True)
class Finding:
    """`kind` is "damage" or "unfinished"; `offset` is in bytes."""

    kind: str
    file: str
    offset: int
    what: str


@dataclass(slots=True)
class CheckReport:
    """What was found, and figures: counts, revisions, sizes in bytes."""

    findings: list[Finding] = field(default_factory=list)
    figures: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether a start would find everything that was acknowledged."""
        return not any(finding.kind == DAMAGE for finding in self.findings)


def check(path: Path, disk: Disk | None = None, sleep: Callable[[float], None] = time.sleep) -> CheckReport:
    """Verify the store in the directory `path`. Raises `StartupError` where there is none, `OSError`."""
    disk = disk or ReadingDisk()
    for look in range(LOOKS):
        last = look == LOOKS - 1
        try:
            report = _Check(disk, path).run()
        except FileNotFoundError:
            if last or not path.is_dir():
                raise StartupError(f"There is no store in {path}.", "Name the data directory.") from None
        else:
            if last or not report.findings:
                return report
        sleep(PAUSE_S)
    raise AssertionError


class _Check:
    """One look at everything."""

    def __init__(self, disk: Disk, directory: Path) -> None:
        self._disk = disk
        self._directory = directory
        self._report = CheckReport()
        self._figures = self._report.figures
        self._pages: dict[int, bytes] = {}
        """What segments have in front, by number."""
        for name in ("batches", "records", "operations", "revision", "segments", "snapshots", "disk_bytes"):
            self._figures[name] = 0

    def run(self) -> CheckReport:
        names = self._disk.names(self._directory)
        snapshots = numbered(self._directory, names, ".snapshot")
        segments = numbered(self._directory, names, ".segment")
        if not snapshots and not segments:
            if any(name.endswith(".log") for name in names):
                raise StartupError(
                    f"{self._directory} has store format 1.", "Start the server once: it migrates the store."
                )
            raise FileNotFoundError(self._directory)
        for name in names:
            if name.endswith(".tmp"):
                self._find(UNFINISHED, self._directory / name, 0, "a file that was not finished")
        newest = None
        for path in snapshots.values():
            newest = self._snapshot(path) or newest
        self._segments(segments, newest)
        return self._report

    def _find(self, kind: str, path: Path, offset: int, what: str) -> None:
        self._report.findings.append(Finding(kind, path.name, offset, what))

    def _damaged(self, error: DamagedLogError) -> None:
        self._find(DAMAGE, error.path, error.offset, error.what)

    def _count(self, head: BatchHead, payload: bytes, seed: int) -> tuple[int, int]:
        """Verify a batch; returns the kind of its last operation, and its last revision."""
        figures, kind, revision, operations = self._figures, 0, 0, 0
        for revision, steps, body, _ in walk_payload(payload, head.records, seed):
            operations += steps
            figures["revision"] = max(figures["revision"], revision)
            kind = decode_operations(payload, body, steps)[-1].kind
        figures["operations"] += operations
        figures["batches"] += 1
        figures["records"] += head.records
        return kind, revision

    def _snapshot(self, path: Path) -> Header | None:
        """The header of a good snapshot."""
        fd = self._disk.open(path)
        try:
            self._figures["snapshots"] += 1
            self._figures["disk_bytes"] += self._disk.size(fd)
            header = Header.decode(path, self._disk.read(fd, HEADER_BYTES, 0), SNAPSHOT_MAGIC)
            frames = Frames(self._disk, fd, path, header.seed, HEADER_BYTES, 0)
            kind = 0

            def take(head: BatchHead, payload: bytes) -> None:
                nonlocal kind
                kind, _ = self._count(head, payload, header.seed)

            while frames.read(take) is not None:
                pass
            if kind != SNAPSHOT:
                raise DamagedLogError(path, frames.offset, "the snapshot has no end")
        except BrokenBytes as broken:
            self._find(DAMAGE, path, frames.offset + broken.offset, broken.what)
        except DamagedLogError as error:
            self._damaged(error)
        else:
            self._figures["snapshot_revision"] = header.base_revision
            return header
        finally:
            self._disk.close(fd)
        return None

    def _segments(self, paths: dict[int, Path], newest: Header | None) -> None:
        if newest is not None and newest.number not in paths:
            missing = segment_path(self._directory, newest.number)
            self._find(DAMAGE, missing, 0, "the segment that the newest snapshot goes on in is missing")
        elif newest is None and 1 not in paths:
            missing = segment_path(self._directory, 1)
            self._find(
                DAMAGE, missing, 0, "there is no good snapshot, and the log's first segment is missing"
            )
        # Which ones were begun, before any is read: then what comes before those has its end already.
        self._pages = {number: self._page(path) for number, path in paths.items()}
        before: Segment | None = None
        numbers = range(min(paths, default=1), max(paths, default=0) + 1)
        for number in numbers:
            path = segment_path(self._directory, number)
            if number not in paths:
                self._find(DAMAGE, path, 0, "the segment is missing")
                before = None
                continue
            segment = Segment.open(self._disk, path, number)
            try:
                before = self._segment(segment, before, number == numbers[-1])
            finally:
                segment.close()
            if newest is not None and number == newest.number and before is not None:
                self._reach(before, newest)
        if before is not None and before.sealed:
            missing = segment_path(self._directory, numbers[-1] + 1)
            if missing.name not in self._disk.names(self._directory):
                self._find(DAMAGE, missing, 0, "the segment is missing: the one before it is sealed")

    def _reach(self, segment: Segment, newest: Header) -> None:
        header = segment.header
        if header is not None and (header.store_id, header.chain) != (newest.store_id, newest.chain):
            self._find(DAMAGE, segment.path, 0, "the segment is not the one that the newest snapshot means")
        elif segment.batch < newest.batch or segment.tail < newest.offset:
            what = f"batch {newest.batch}, which the newest snapshot has, is missing"
            self._find(DAMAGE, segment.path, segment.tail, what)

    def _segment(self, segment: Segment, before: Segment | None, last: bool) -> Segment | None:
        """The segment, for the next one to follow; None where there is no saying."""
        self._figures["disk_bytes"] += segment.size_bytes
        page = self._pages[segment.number]
        if not page.strip(b"\0") and last:
            if segment.is_used and not segment.read_header().strip(b"\0"):
                self._find(DAMAGE, segment.path, 0, "the file header is empty, but what follows is not")
            return None
        self._figures["segments"] += 1
        try:
            header = Header.decode(segment.path, page, SEGMENT_MAGIC)
            if before is not None:
                check_link(segment, header, before, None)
            segment.adopt(header)
            self._scan(segment, last)
        except DamagedLogError as error:
            torn = error.path == segment.path and last and not segment.is_used and before and before.sealed
            self._find(UNFINISHED if torn else DAMAGE, error.path, error.offset, error.what)
            return None
        return segment

    def _scan(self, segment: Segment, last: bool) -> None:
        def take(head: BatchHead, payload: bytes) -> None:
            _, revision = self._count(head, payload, segment.seed)
            segment.revision = max(segment.revision, revision)

        broken = segment.scan(take)
        if broken is not None:
            # Whether it is the last one that was begun, the next one's header tells.
            kind = UNFINISHED if last or self._is_spare(segment.number + 1) else DAMAGE
            self._find(kind, segment.path, segment.tail + broken.offset, broken.what)

    def _is_spare(self, number: int) -> bool:
        return number in self._pages and not self._pages[number].strip(b"\0")

    def _page(self, path: Path) -> bytes:
        fd = self._disk.open(path)
        try:
            return self._disk.read(fd, HEADER_BYTES, 0)
        finally:
            self._disk.close(fd)
