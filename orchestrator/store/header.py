"""The first page of every file of the store, and how damage is named. Pure.

A page of 4096 bytes: fields, zeros, and in its last four bytes a CRC32C of all before them, at a place that does not
move with the format. Format 1 (a log of one file) had its checksum right behind the fields.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

from google_crc32c import value as crc32c

from orchestrator.base.errors import StartupError
from orchestrator.store.interface import StoreError

FORMAT = 2
SEGMENT_MAGIC = b"ORCSTORE"
SNAPSHOT_MAGIC = b"ORCSNAPS"
HEADER_BYTES = 4096
FIELDS = struct.Struct("<8sII16sQQ16s32sQQ")
"""Magic, format, header bytes, store id, number, base revision, salt, chain, batch, offset."""
FIELDS_1 = struct.Struct("<8sII16sQQ16s32s")
CRC_AT = HEADER_BYTES - 4
NO_CHAIN = bytes(32)


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
    """What a file says of itself.

    Of a segment: its number, the last revision and the last batch before it, and the chain: a digest of all
    segments before it. Of a snapshot: the segment that replay goes on in and that segment's chain, the
    snapshot's revision, and the last batch that it contains with the offset behind it.
    """

    magic: bytes
    store_id: bytes
    number: int
    base_revision: int
    salt: bytes
    chain: bytes = NO_CHAIN
    batch: int = 0
    offset: int = 0

    @property
    def seed(self) -> int:
        """What the checksums in this file start from."""
        return int(crc32c(self.salt))

    def encode(self) -> bytes:
        fields = FIELDS.pack(
            self.magic,
            FORMAT,
            HEADER_BYTES,
            self.store_id,
            self.number,
            self.base_revision,
            self.salt,
            self.chain,
            self.batch,
            self.offset,
        )
        page = fields.ljust(CRC_AT, b"\0")
        return page + int(crc32c(page)).to_bytes(4, "little")

    @classmethod
    def decode(cls, path: Path, data: bytes, magic: bytes) -> "Header":
        """Raises `DamagedLogError`, or `StartupError` for a format of a newer version."""
        if len(data) < HEADER_BYTES or not data.startswith(magic):
            raise DamagedLogError(path, 0, "this is no file of the store")
        if int.from_bytes(data[CRC_AT:], "little") != crc32c(data[:CRC_AT]):
            raise DamagedLogError(path, 0, "checksum of the file header does not match")
        version = int.from_bytes(data[8:12], "little")
        if version != FORMAT:
            raise StartupError(
                f"{path} has store format {version}; this version reads format {FORMAT}.",
                "Install the version of orchestrator that wrote it, or a newer one.",
            )
        _, _, _, store_id, number, revision, salt, chain, batch, offset = FIELDS.unpack_from(data)
        return cls(magic, store_id, number, revision, salt, chain, batch, offset)

    @classmethod
    def decode_format_1(cls, path: Path, data: bytes) -> "Header":
        """The header of a log of one file. Raises `DamagedLogError`, `StartupError`."""
        end = FIELDS_1.size
        if len(data) < HEADER_BYTES or not data.startswith(SEGMENT_MAGIC):
            raise DamagedLogError(path, 0, "this is no log file of the store")
        if int.from_bytes(data[end : end + 4], "little") != crc32c(data[:end]):
            raise DamagedLogError(path, 0, "checksum of the file header does not match")
        _, version, _, store_id, number, revision, salt, _ = FIELDS_1.unpack_from(data)
        if version != 1:
            raise StartupError(
                f"{path} has store format {version}, which has no files of this name.",
                "Install the version of orchestrator that wrote it, or a newer one.",
            )
        return cls(SEGMENT_MAGIC, store_id, number, revision, salt)
