"""The log: a chain of segments, of which the last one is written.

The owner is the committer: `encode` on the loop, `write` in its thread, never two at a time. `prepare` runs in
another thread beside it and only touches the spare segment, under the lock. Space: a segment is allocated
before it is written, and a write that needs a new one where no space is left is refused as if it had never
been tried; an error on allocated space is for the caller to take as final. What frees space may use a reserve that
other writes leave in the current segment as long as the next one is not at hand.
"""

import errno
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from orchestrator.store.disk import Disk
from orchestrator.store.header import HEADER_BYTES
from orchestrator.store.interface import NoSpaceError
from orchestrator.store.record import SEAL, Record, Sealer, encode_batch
from orchestrator.store.segment import PAGE_BYTES, Segment, next_header, segment_path

OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT)
OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)
"""Of a new segment, as when there is no space for it: nothing was written, and clients give descriptors back."""
RESERVE_BYTES_MAX = 1024 * 1024
"""Room for some ten thousand deletions."""
FILL_BYTES = 512 * 1024
"""So much of a spare segment is written with zeros at a time, and synced."""
FILL_BATCH_BYTES = 16 * 1024
"""Where batches are larger than this, zeros cost more than they save."""


class Position(NamedTuple):
    """A place between two batches: in which segment, with which chain before it, behind which batch and offset.

    `written` counts the log's bytes up to here since the process started.
    """

    number: int
    chain: bytes
    batch: int
    offset: int
    written: int


class Log:
    """Segments in order, the last one current. See the module."""

    def __init__(
        self, disk: Disk, directory: Path, segments: list[Segment], spare: Segment | None, segment_bytes: int
    ) -> None:
        self.segments = segments
        """Those on disk that recovery or history may need. The loop takes away in front, `write` adds behind."""
        self.spare = spare
        self.written_bytes = 0
        """Added by this process, seals and headers included."""
        self.sealer: Sealer | None = None
        self._disk = disk
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._reserve_bytes = min(RESERVE_BYTES_MAX, segment_bytes // 8)
        self._current = segments[-1]
        header = self._current.header
        assert header is not None
        self._seed = header.seed
        self.header = header
        self._broken: OSError | None = None
        """Why nothing may be written any more."""
        self._lock = threading.Lock()
        """Around the spare segment."""

    @property
    def current(self) -> Segment:
        return self._current

    @property
    def broken(self) -> OSError | None:
        """Why nothing may be written any more, if so."""
        return self._broken

    @property
    def position(self) -> Position:
        """Behind the last durable batch. Not to be asked while a write is under way."""
        segment = self._current
        header = segment.header
        assert header is not None
        return Position(segment.number, header.chain, segment.batch, segment.tail, self.written_bytes)

    @property
    def allocated_bytes(self) -> int:
        """What all segments take on disk."""
        spare = self.spare
        return sum(segment.size_bytes for segment in self.segments) + (spare.size_bytes if spare else 0)

    def encode(self, records: Iterable[Record]) -> bytes:
        """The next batch, for exactly one call of `write`."""
        return encode_batch(records, self._current.batch + 1, self._seed, self.sealer)

    def write(self, data: bytes, revision: int, frees: bool = False) -> None:
        """Append one encoded batch, whose newest revision is `revision`; on disk when it returns.

        One that `frees` space may use up the reserve. Raises `NoSpaceError` before anything was written; an
        `OSError` leaves the log in an unknown state.
        """
        if self._broken is not None:
            raise self._broken
        segment = self._current
        reserve = 0 if frees else self._reserve_bytes
        needed = segment.needed_bytes(len(data)) + (0 if self._next_is_ready else reserve)
        fits = needed <= max(self._segment_bytes, segment.size_bytes)
        if fits and not segment.sealed:
            self._make_room(segment, needed)
        else:
            segment = self._rotate(HEADER_BYTES + len(data) + SEAL.size + reserve)
        segment.append(data, revision)
        self.written_bytes += len(data)

    @property
    def _next_is_ready(self) -> bool:
        """Whether a spare segment has room for a reserve of its own."""
        spare = self.spare
        return spare is not None and spare.size_bytes >= HEADER_BYTES + SEAL.size + self._reserve_bytes

    def rotate(self) -> Position:
        """Go on in a new segment, unless this one is empty. Like `write`; returns the place behind it."""
        segment = self._current
        if segment.sealed or segment.tail > HEADER_BYTES:
            self._rotate(HEADER_BYTES + SEAL.size)
        return self.position

    def _rotate(self, needed: int) -> Segment:
        with self._lock:
            if self.spare is None:
                self.spare = self._new_spare(needed)
            self._make_room(self.spare, needed)
            try:
                self._begin(self.spare)
            except OSError as error:
                self._broken = error
                raise
            spare, self.spare = self.spare, None
        self.written_bytes += SEAL.size + HEADER_BYTES
        return spare

    def _begin(self, spare: Segment) -> None:
        segment = self._current
        if not segment.sealed:
            segment.seal()
        spare.begin(next_header(segment))
        self.segments.append(spare)
        self._current = spare

    def _make_room(self, segment: Segment, needed: int) -> None:
        if needed <= segment.size_bytes:
            return
        least = -(-needed // PAGE_BYTES) * PAGE_BYTES
        for size in (max(least, self._segment_bytes), least):
            try:
                segment.allocate(size)
            except OSError as error:
                if error.errno not in OUT_OF_SPACE:
                    raise
            else:
                return
        raise NoSpaceError(f"no space left for {least} bytes of {segment.path}")

    def _new_spare(self, needed: int) -> Segment:
        number = self._current.number + 1
        path = segment_path(self._directory, number)
        try:
            return self._create(path, number, needed)
        except OSError as error:
            if error.errno not in OUT_OF_SPACE + OUT_OF_FILES:
                raise
            raise NoSpaceError(f"no space left for {path}: {error}") from error

    def _create(self, path: Path, number: int, needed: int) -> Segment:
        spare = Segment.create(self._disk, path, number)
        try:
            self._make_room(spare, needed)
            self._disk.sync_directory(self._directory)
        except BaseException:
            spare.close()
            self._disk.unlink(path)
            raise
        return spare

    @property
    def wants_spare(self) -> bool:
        """Whether it is time for `prepare`: the current segment is half full."""
        segment = self._current
        return self.spare is None and (segment.sealed or segment.tail * 2 > self._segment_bytes)

    def prepare(self) -> None:
        """Have the next segment ready before it is needed. Blocking; not in the commit thread.

        Where writes are small it is filled with zeros, not only allocated: a durable write of one page into
        written space takes two thirds of the time and half of the disk's bytes, since no block has to be marked
        as written. Raises `NoSpaceError`, `OSError`; the next write that needs the segment tries for itself.
        """
        with self._lock:
            if self.spare is not None:
                return
            spare = self.spare = self._new_spare(HEADER_BYTES + SEAL.size)
        segment = self._current
        header = segment.header
        assert header is not None
        if segment.tail > FILL_BATCH_BYTES * (segment.batch - header.batch):
            return
        try:
            self._fill(spare)
        except OSError as error:
            self._discard(spare, error)
            raise

    def _fill(self, spare: Segment) -> None:
        """Through a descriptor of its own: Linux tells of a failed write-back once per open file.

        The commit thread may take the segment at any time, and must be told of its own writes itself.
        """
        zeros = bytes(FILL_BYTES)
        with self._lock:
            if self.spare is not spare:
                return
            fd = self._disk.open(spare.path)
        try:
            for offset in range(0, spare.size_bytes, FILL_BYTES):
                with self._lock:
                    if self.spare is not spare:
                        return
                    self._disk.write(fd, zeros[: spare.size_bytes - offset], offset)
                self._disk.sync(fd)
        finally:
            self._disk.close(fd)

    def _discard(self, spare: Segment, error: OSError) -> None:
        """A segment that could not be filled is not to be used; where it already is, that is final."""
        with self._lock:
            if self.spare is not spare:
                self._broken = self._broken or error
                return
            self.spare = None
            spare.close()
            self._disk.unlink(spare.path)

    def close(self) -> None:
        """Give the descriptors back; may be called twice."""
        for segment in self.segments:
            segment.close()
        if self.spare is not None:
            self.spare.close()
