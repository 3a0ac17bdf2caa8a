"""One file of the log: a header page, batches, preallocated zeros, and a seal once the next segment is begun.

Invariants. A batch is written only after the one before it is on disk; hence a broken batch that any later
frame follows was once durable and is damage, while a broken last one is a torn tail. A segment is sealed,
durably, before the header of the next one is written; the next one's file is durable, all zeros, before
that. Batches are numbered without gaps through all segments. Each header carries the digest of all segments
before it, and the seal that of its own, so that a missing, doubled, swapped or shortened one is noticed.

Owner: the log, in the commit thread; other threads read what is durable.
"""

import hashlib
import struct
from array import array
from bisect import bisect_left
from pathlib import Path

from google_crc32c import extend

from orchestrator.store.disk import Disk
from orchestrator.store.files import PinnedFile
from orchestrator.store.frames import Frames, Take
from orchestrator.store.header import (
    HEADER_BYTES,
    SEGMENT_MAGIC,
    DamagedLogError,
    Header,
)
from orchestrator.store.record import SEAL, BatchHead, BrokenBytes, SealFrame, encode_seal

INDEX_BYTES = 4096
"""There is a place in the index at most every so many bytes."""
PAGE_BYTES = 4096
_LINK = struct.Struct("<QQQQI")


def segment_path(directory: Path, number: int) -> Path:
    return directory / f"{number:016x}.segment"


class Segment(PinnedFile):
    """An open segment. Without a header it is spare: allocated ahead, not yet part of the log."""

    def __init__(self, disk: Disk, path: Path, fd: int, number: int) -> None:
        super().__init__(disk, path, fd)
        self.number = number
        self.header: Header | None = None
        self.size_bytes = disk.size(fd)
        """What is allocated."""
        self.tail = HEADER_BYTES
        """Offset behind the last durable batch."""
        self.batch = 0
        self.revision = 0
        """Newest revision in this segment or before it."""
        self.sealed = False
        self._crc = 0
        self.seed = 0
        self._last = 0
        self._index_revisions = array("Q")
        self._index_offsets = array("Q")

    @classmethod
    def create(cls, disk: Disk, path: Path, number: int) -> "Segment":
        """A new, empty file: spare, and durable only after an allocation and a sync of its directory."""
        fd = disk.create(path)
        try:
            return cls(disk, path, fd, number)
        except BaseException:
            disk.close(fd)
            raise

    @classmethod
    def open(cls, disk: Disk, path: Path, number: int) -> "Segment":
        """An existing file; nothing of it is read yet."""
        fd = disk.open(path)
        try:
            return cls(disk, path, fd, number)
        except BaseException:
            disk.close(fd)
            raise

    def allocate(self, size_bytes: int) -> None:
        """Make the file as large as `size_bytes`, durably. Raises `OSError`; the file is then as it was."""
        try:
            self.disk.allocate(self.fd, self.size_bytes, size_bytes - self.size_bytes)
        except OSError:
            # A failed allocation may have taken some blocks; others on this disk need them.
            self.disk.truncate(self.fd, self.size_bytes)
            raise
        self.size_bytes = size_bytes

    def adopt(self, header: Header) -> None:
        """Take over a header that is on disk."""
        self.header = header
        self.seed = header.seed
        self.batch, self.revision = header.batch, header.base_revision

    def begin(self, header: Header) -> None:
        """Make the spare segment part of the log, durably."""
        self.disk.write_durably(self.fd, header.encode(), 0)
        self.size_bytes = max(self.size_bytes, HEADER_BYTES)
        self.adopt(header)

    def append(self, data: bytes, revision: int) -> None:
        """Add one encoded batch, durably; room was made before. An `OSError` leaves the tail in an unknown state."""
        self.disk.write_durably(self.fd, data, self.tail)
        self.note(self.revision, self.tail)
        self._crc = extend(self._crc, data)
        self._last = self.tail
        self.tail += len(data)
        self.batch += 1
        self.revision = max(self.revision, revision)

    def seal(self) -> None:
        """End the segment, durably; there is always room for that."""
        data = encode_seal(SealFrame(self.batch, self.tail, self.digest()), self.seed)
        self.disk.write_durably(self.fd, data, self.tail)
        self._last = self.tail
        self.sealed = True

    def digest(self) -> bytes:
        """The chain up to the end of this segment."""
        header = self.header
        assert header is not None
        numbers = _LINK.pack(self.number, header.batch, self.batch, self.tail, self._crc)
        return hashlib.sha256(header.chain + header.salt + numbers).digest()

    def needed_bytes(self, size: int) -> int:
        """How large the file must be for `size` bytes more and a seal."""
        return self.tail + size + SEAL.size

    def note(self, revision: int, offset: int) -> None:
        """A batch at `offset` follows `revision`: have that in the index if the last place is far behind."""
        offsets = self._index_offsets
        if not offsets or offset - offsets[-1] >= INDEX_BYTES:
            self._index_revisions.append(revision)
            offsets.append(offset)

    def place(self, revision: int) -> int:
        """An offset of a batch at or not far before the one that contains `revision`."""
        at = bisect_left(self._index_revisions, revision) - 1
        return self._index_offsets[max(at, 0)]

    def read_header(self) -> bytes:
        return self.disk.read(self.fd, HEADER_BYTES, 0)

    def frames(self) -> Frames:
        """A reader of the batches from the first on."""
        header = self.header
        assert header is not None
        return Frames(self.disk, self.fd, self.path, self.seed, HEADER_BYTES, header.batch)

    def scan(self, take: Take) -> BrokenBytes | None:
        """Read everything; afterwards the segment can be appended to. Returns what ended it, if not its end.

        Raises `DamagedLogError` for what no crash leaves behind.
        """
        frames = self.frames()
        broken = None
        while True:
            start = frames.offset
            self.note(self.revision, start)
            try:
                frame = self._next(frames, take)
            except BrokenBytes as found:
                broken = found
                break
            if not isinstance(frame, tuple) or isinstance(frame, SealFrame):
                break
        self.tail, self.batch, self._crc = start, frames.batch, frames.crc
        self._last = frames.last
        if broken is None and isinstance(frame, SealFrame):
            self._verify_seal(frame, frames)
        return broken

    def _next(self, frames: Frames, take: Take) -> BatchHead | SealFrame | None:
        """The next frame. Raises `BrokenBytes` for a torn one, `DamagedLogError` for one that was whole once.

        A server may be writing here: what we have read of its last batch may be too old, or half. Where a later
        batch stands behind it, it is whole by now, unless it is damaged.
        """
        for again in (False, True):
            try:
                return frames.read(take)
            except BrokenBytes:
                if again and not frames.is_followed():
                    raise
                frames.forget()
        try:
            return frames.read(take)
        except BrokenBytes as broken:
            # No crash leaves that behind.
            self.tail, self.batch = frames.offset, frames.batch
            raise DamagedLogError(self.path, frames.offset + broken.offset, broken.what) from None

    def _verify_seal(self, seal: SealFrame, frames: Frames) -> None:
        if seal.digest != self.digest():
            raise DamagedLogError(self.path, self.tail, "the seal does not fit the segment")
        if frames.last_byte(frames.offset) != frames.offset:
            raise DamagedLogError(self.path, frames.offset, "bytes behind the seal are not zero")
        self.sealed = True

    def end_of_bytes(self, offset: int) -> int:
        """The offset behind the last byte from `offset` on that is not zero."""
        return Frames(self.disk, self.fd, self.path, self.seed, offset, 0).last_byte(offset)

    @property
    def is_used(self) -> bool:
        """Whether anything stands behind the header page."""
        return self.end_of_bytes(HEADER_BYTES) > HEADER_BYTES

    def clear(self, start: int, end: int) -> None:
        """Put zeros over a torn tail, durably."""
        for at in range(start, end, PAGE_BYTES):
            self.disk.write(self.fd, bytes(min(PAGE_BYTES, end - at)), at)
        self.disk.sync(self.fd)

    def settle(self) -> None:
        """Write what came last again, durably.

        After a crash, or a sync that failed before a restart, it may be in the page cache only.
        """
        header = self.header
        assert header is not None
        end = self.tail + SEAL.size if self.sealed else self.tail
        if end == HEADER_BYTES:
            self.disk.write_durably(self.fd, header.encode(), 0)
        else:
            self.disk.write_durably(
                self.fd, self.disk.read(self.fd, end - self._last, self._last), self._last
            )


def next_header(segment: Segment) -> Header:
    """What the segment after a sealed one says of itself."""
    header = segment.header
    assert header is not None
    return Header(
        SEGMENT_MAGIC,
        header.store_id,
        segment.number + 1,
        segment.revision,
        header.salt,
        segment.digest(),
        segment.batch,
    )
