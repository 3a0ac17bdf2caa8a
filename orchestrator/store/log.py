"""One file of the log: a header, then batches, then preallocated zeros.

Invariants. A batch is written only after the one before it is on disk; hence a broken batch that any later
valid batch follows was once durable and is damage, while a broken last one is a torn tail: nobody was told
that it is stored, and it is dropped and reported. A file under its final name is complete: it was written
and synced under a temporary one first. Batches are numbered without gaps.

The owner is the committer: `encode` on the loop, `write` in its thread, never two at a time.
"""

import errno
import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from google_crc32c import value as crc32c

from orchestrator.base.errors import StartupError
from orchestrator.store.disk import Disk
from orchestrator.store.interface import NoSpaceError, StoreError
from orchestrator.store.record import (
    BATCH,
    MAGIC,
    BatchHead,
    BrokenBytes,
    Record,
    decode_head,
    decode_payload,
    encode_batch,
)

FORMAT = 1
FILE_MAGIC = b"ORCSTORE"
HEADER = struct.Struct("<8sII16sQQ16s32s")
"""Magic, format, header bytes, store id, file number, base revision, salt, digest of the previous file.

A CRC32C follows. The digest is zero as long as the log is a single file.
"""
HEADER_BYTES = 4096
ALLOCATE_BYTES = 16 * 1024 * 1024
READ_BYTES = 1024 * 1024
ZEROS = bytes(64 * 1024)
OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT)


class DamagedLogError(StoreError):
    """The log was changed after it was written. `path`, `offset` (bytes) and `what` say where and how."""

    def __init__(self, path: Path, offset: int, what: str) -> None:
        super().__init__(f"the store's log is damaged: {path} at byte {offset}: {what}")
        self.path = path
        self.offset = offset
        self.what = what


@dataclass(frozen=True, slots=True)
class Dropped:
    """A torn tail: bytes from `start` up to `end` were not a whole batch. Nobody had been told of them."""

    path: Path
    start: int
    end: int
    what: str


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself."""

    store_id: bytes
    number: int
    base_revision: int
    salt: bytes

    def encode(self) -> bytes:
        fields = HEADER.pack(
            FILE_MAGIC,
            FORMAT,
            HEADER_BYTES,
            self.store_id,
            self.number,
            self.base_revision,
            self.salt,
            bytes(32),
        )
        crc: int = crc32c(fields)
        return (fields + crc.to_bytes(4, "little")).ljust(HEADER_BYTES, b"\0")

    @classmethod
    def decode(cls, path: Path, data: bytes) -> "Header":
        """Raises `DamagedLogError`, or `StartupError` for a format of another version."""
        fields, crc = data[: HEADER.size], data[HEADER.size : HEADER.size + 4]
        if len(data) < HEADER_BYTES or not data.startswith(FILE_MAGIC):
            raise DamagedLogError(path, 0, "this is no log file of the store")
        if crc32c(fields) != int.from_bytes(crc, "little"):
            raise DamagedLogError(path, 0, "checksum of the file header does not match")
        if any(data[HEADER.size + 4 :]):
            raise DamagedLogError(path, HEADER.size + 4, "the file header's padding is not zero")
        _, version, _, store_id, number, base_revision, salt, _ = HEADER.unpack(fields)
        if version != FORMAT:
            raise StartupError(
                f"{path} has store format {version}; this version reads format {FORMAT}.",
                "Install the version of orchestrator that wrote it, or a newer one.",
            )
        return cls(store_id, number, base_revision, salt)


class LogFile:
    """An open log file. `tail` is the offset behind the last durable batch."""

    def __init__(self, disk: Disk, path: Path, fd: int, header: Header) -> None:
        self.path = path
        self.header = header
        self.tail = HEADER_BYTES
        self._disk = disk
        self._fd = fd
        self._seed = crc32c(header.salt)
        self._batches = 0
        self._allocated = disk.size(fd)
        self._cache: tuple[int, bytes] = (0, b"")
        """Replay's read buffer: offset and bytes."""

    @classmethod
    def create(cls, disk: Disk, path: Path, number: int, store_id: bytes, base_revision: int) -> "LogFile":
        """A new, empty file; durable only after `sync` and a sync of its directory."""
        fd = disk.create(path)
        try:
            header = Header(store_id, number, base_revision, os.urandom(16))
            disk.write(fd, header.encode(), 0)
            return cls(disk, path, fd, header)
        except BaseException:
            disk.close(fd)
            raise

    @classmethod
    def open(cls, disk: Disk, path: Path) -> "LogFile":
        """Raises `DamagedLogError`, `StartupError`."""
        fd = disk.open(path)
        try:
            return cls(disk, path, fd, Header.decode(path, disk.read(fd, HEADER_BYTES, 0)))
        except BaseException:
            disk.close(fd)
            raise

    def replay(self, apply: Callable[[Record], object]) -> Dropped | None:
        """Hand every record to `apply`, in order, and drop a torn tail. Raises `DamagedLogError`.

        The last batch is written again and synced: after a crash, or a sync that failed before a restart, it
        may be in the page cache only.
        """
        last = HEADER_BYTES
        dropped = None
        while True:
            try:
                batch = self._batch(self.tail)
            except BrokenBytes as broken:
                dropped = self._drop_tail(broken)
                break
            if batch is None:
                break
            for record in batch[1]:
                apply(record)
            last = self.tail
            self.tail += BATCH.size + batch[0].payload_bytes
            self._batches += 1
        self._forget_cache()
        if self.tail > last:
            data = self._disk.read(self._fd, self.tail - last, last)
            self._disk.write_durably(self._fd, data, last)
        return dropped

    def _read(self, offset: int, size: int) -> bytes:
        """Like `Disk.read`, through one large buffer."""
        start, data = self._cache
        if not start <= offset <= offset + size <= start + len(data):
            start, data = offset, self._disk.read(self._fd, max(size, READ_BYTES), offset)
            self._cache = (start, data)
        return data[offset - start : offset - start + size]

    def _forget_cache(self) -> None:
        self._cache = (0, b"")

    def _batch(self, offset: int) -> tuple[BatchHead, list[Record]] | None:
        """The batch at `offset`, or None where only zeros follow. Raises `BrokenBytes`, `DamagedLogError`."""
        data = self._read(offset, BATCH.size)
        if not any(data) and self._last_byte(offset) == offset:
            return None
        head = decode_head(data, self._seed)
        expected = self._batches + 1
        if head.number != expected:
            what = f"batch {head.number} stands where batch {expected} belongs"
            raise DamagedLogError(self.path, offset, what)
        payload = self._read(offset + BATCH.size, head.payload_bytes)
        if len(payload) < head.payload_bytes:
            raise BrokenBytes(0, "the file ends inside a batch")
        try:
            return head, decode_payload(payload, head.records, self._seed)
        except BrokenBytes as broken:
            raise BrokenBytes(broken.offset + BATCH.size, broken.what) from None

    def _drop_tail(self, broken: BrokenBytes) -> Dropped:
        at = self.tail + broken.offset
        if self._later_batch(self.tail + 1):
            raise DamagedLogError(self.path, at, broken.what)
        end = self._last_byte(self.tail)
        self._disk.truncate(self._fd, self.tail)
        self._allocated = self.tail
        return Dropped(self.path, self.tail, end, broken.what)

    def _last_byte(self, offset: int) -> int:
        """The offset behind the last byte from `offset` on that is not zero; `offset` if all are."""
        end = offset
        while data := self._disk.read(self._fd, len(ZEROS), offset):
            # Most of it is zeros: comparing them at once is far faster than stripping them.
            if data != ZEROS[: len(data)]:
                end = offset + len(data.rstrip(b"\0"))
            offset += len(data)
        return end

    def _later_batch(self, offset: int) -> bool:
        """Whether a whole batch header with a higher number than the broken batch's stands behind `offset`."""
        while data := self._disk.read(self._fd, READ_BYTES, offset):
            at = data.find(MAGIC)
            while at >= 0:
                if self._is_later(offset + at):
                    return True
                at = data.find(MAGIC, at + 1)
            if len(data) < READ_BYTES:
                break
            offset += len(data) - len(MAGIC) + 1
        return False

    def _is_later(self, offset: int) -> bool:
        try:
            head = decode_head(self._disk.read(self._fd, BATCH.size, offset), self._seed)
        except BrokenBytes:
            return False
        return head.number > self._batches + 1

    def encode(self, records: Iterable[Record]) -> bytes:
        """The next batch, for exactly one call of `write`."""
        return encode_batch(records, self._batches + 1, self._seed)

    def write(self, data: bytes, durably: bool = True) -> None:
        """Append one encoded batch; on disk when it returns, if `durably`.

        Raises `NoSpaceError` before anything was written; an `OSError` leaves the file in an unknown state.
        """
        self._make_room(self.tail + len(data))
        if durably:
            self._disk.write_durably(self._fd, data, self.tail)
        else:
            self._disk.write(self._fd, data, self.tail)
        self.tail += len(data)
        self._batches += 1

    def _make_room(self, end: int) -> None:
        if end <= self._allocated:
            return
        needed = -(-(end - self._allocated) // 4096) * 4096
        for size in (max(needed, ALLOCATE_BYTES), needed):
            try:
                self._disk.allocate(self._fd, self._allocated, size)
            except OSError as error:
                if error.errno not in OUT_OF_SPACE:
                    raise
                # A failed allocation may have taken some blocks; others on this disk need them.
                self._disk.truncate(self._fd, self._allocated)
            else:
                self._allocated += size
                return
        raise NoSpaceError(f"no space left for {needed} bytes more of {self.path}")

    def copy_into(self, target: "LogFile", start: int, end: int) -> int:
        """Append the durable batches between two of this file's offsets to `target`, unsynced; returns `end`."""
        while start < end:
            head = decode_head(self._disk.read(self._fd, BATCH.size, start), self._seed)
            payload = self._disk.read(self._fd, head.payload_bytes, start + BATCH.size)
            target.write(target.encode(decode_payload(payload, head.records, self._seed)), durably=False)
            start += BATCH.size + head.payload_bytes
        return end

    def sync(self) -> None:
        self._disk.sync(self._fd)

    @property
    def allocated_bytes(self) -> int:
        """What the file takes on disk."""
        return self._allocated

    def close(self) -> None:
        """Give the descriptor back; may be called twice."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._disk.close(fd)
