"""Reads a file's batches one after the other, through one large buffer, and tells an end from a tear.

Used by recovery, snapshots, `check` and `repair`; never writes.
"""

from collections.abc import Callable
from pathlib import Path

from google_crc32c import extend

from orchestrator.store.disk import Disk
from orchestrator.store.header import DamagedLogError
from orchestrator.store.record import (
    BATCH,
    MAGIC,
    SEAL,
    SEAL_MAGIC,
    BatchHead,
    BrokenBytes,
    SealFrame,
    decode_head,
    decode_seal,
)

READ_BYTES = 1024 * 1024
ZEROS = bytes(64 * 1024)

Take = Callable[[BatchHead, bytes], object]
"""Gets a batch's head and payload. Raises `BrokenBytes` where the payload is not what was written."""


class Frames:
    """A position in a file: `offset` is behind the frame that was read last, `batch` is its number."""

    def __init__(self, disk: Disk, fd: int, path: Path, seed: int, offset: int, batch: int) -> None:
        self.offset = offset
        self.batch = batch
        self.last = offset
        """Where the frame that was read last begins."""
        self.crc = 0
        """Running checksum of all batches read."""
        self._disk = disk
        self._fd = fd
        self._path = path
        self._seed = seed
        self._start = 0
        self._data = b""

    def read(self, take: Take) -> BatchHead | SealFrame | None:
        """The next frame; a batch is handed to `take`. None where only zeros follow.

        Raises `BrokenBytes`, relative to `offset`, and `DamagedLogError`; the position then stays.
        """
        head_bytes = self._read(self.offset, BATCH.size)
        if head_bytes.startswith(SEAL_MAGIC):
            return self._seal()
        if not any(head_bytes) and self.last_byte(self.offset) == self.offset:
            return None
        head = decode_head(head_bytes, self._seed)
        if head.number != self.batch + 1:
            what = f"batch {head.number} stands where batch {self.batch + 1} belongs"
            raise DamagedLogError(self._path, self.offset, what)
        payload = self._read(self.offset + BATCH.size, head.payload_bytes)
        if len(payload) < head.payload_bytes:
            raise BrokenBytes(0, "the file ends inside a batch")
        try:
            take(head, payload)
        except BrokenBytes as broken:
            raise BrokenBytes(broken.offset + BATCH.size, broken.what) from None
        self.crc = extend(extend(self.crc, head_bytes), payload)
        self._advance(BATCH.size + head.payload_bytes)
        self.batch = head.number
        return head

    def _seal(self) -> SealFrame:
        seal = decode_seal(self._read(self.offset, SEAL.size), self._seed)
        if (seal.last, seal.end) != (self.batch, self.offset):
            what = f"the seal ends a segment with batch {seal.last} at byte {seal.end}, not with {self.batch} here"
            raise DamagedLogError(self._path, self.offset, what)
        self._advance(SEAL.size)
        return seal

    def _advance(self, size: int) -> None:
        self.last = self.offset
        self.offset += size

    def forget(self) -> None:
        """Read from disk next, not from the buffer."""
        self._data = b""

    def _read(self, offset: int, size: int) -> bytes:
        """Like `Disk.read`, through the buffer."""
        at = offset - self._start
        if at < 0 or at + size > len(self._data):
            self._start, at = offset, 0
            self._data = self._disk.read(self._fd, max(size, READ_BYTES), offset)
        return self._data[at : at + size]

    def last_byte(self, offset: int) -> int:
        """The offset behind the last byte from `offset` on that is not zero; `offset` if all are."""
        end = offset
        while data := self._disk.read(self._fd, len(ZEROS), offset):
            # Most of it is zeros: comparing them at once is far faster than stripping them.
            if data != ZEROS[: len(data)]:
                end = offset + len(data.rstrip(b"\0"))
            offset += len(data)
        return end

    def is_followed(self) -> bool:
        """Whether a later batch or a seal stands behind the frame at `offset`, which then was durable once."""
        offset = self.offset + 1
        while data := self._disk.read(self._fd, READ_BYTES, offset):
            if any(self._is_later(offset + at) for at in _places(data)):
                return True
            if len(data) < READ_BYTES:
                break
            offset += len(data) - len(MAGIC) + 1
        return False

    def _is_later(self, offset: int) -> bool:
        data = self._disk.read(self._fd, SEAL.size, offset)
        try:
            if data.startswith(SEAL_MAGIC):
                return decode_seal(data, self._seed).end == offset
            return decode_head(data, self._seed).number > self.batch + 1
        except BrokenBytes:
            return False


def _places(data: bytes) -> list[int]:
    """Where a frame may begin in `data`."""
    found = []
    for magic in (MAGIC, SEAL_MAGIC):
        at = data.find(magic)
        while at >= 0:
            found.append(at)
            at = data.find(magic, at + 1)
    return found
