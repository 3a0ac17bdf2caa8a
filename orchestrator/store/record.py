"""How transactions look in the log: operations, records and batches as bytes. Pure; no I/O here.

    batch   = magic "OBAT", crc, payload length, record count, batch number, payload of records
    record  = crc, length, revision, operation count, operations          one transaction: all or nothing
    operation = kind, flags, key length, value length, lease, key, value

Numbers are little-endian. Both checksums are CRC32C over everything that follows them in their header (for
a record also its operations), seeded per file: bytes of another file, or bytes that a client put into a
value, do not pass for a batch. `flags` is zero; it is there for encrypted values.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from google_crc32c import extend

MAGIC = b"OBAT"
BATCH = struct.Struct("<4sIIIQ")
RECORD = struct.Struct("<IIQI")
OPERATION = struct.Struct("<BBHIQ")
NUMBER = struct.Struct("<Q")
PAIR = struct.Struct("<QQ")

PUT = 1
DELETE = 2
GRANT = 3
"""A lease begins; the value is its time to live in seconds."""
END = 4
"""A lease is gone. Its keys' deletions are operations of the same record."""
COMPACT = 5
"""The value is the new compaction floor."""
KEPT = 6
"""An entry of a snapshot, at the record's revision; creation revision and version precede its value."""
SNAPSHOT = 7
"""The snapshot is complete at the record's revision; the value is the highest lease id given out."""

KEY_BYTES_MAX = 4096
VALUE_BYTES_MAX = 16 * 1024 * 1024


class Operation(NamedTuple):
    """One step of a record. Which fields count depends on `kind`."""

    kind: int
    lease: int
    key: str
    value: bytes


class Record(NamedTuple):
    """One transaction. `revision` is its own, or for bookkeeping records the newest one before it."""

    revision: int
    operations: Sequence[Operation]

    @property
    def size_bytes(self) -> int:
        """About what it takes in the log."""
        return RECORD.size + sum(OPERATION.size + len(step.key) + len(step.value) for step in self.operations)


@dataclass(frozen=True, slots=True)
class BatchHead:
    """A verified batch header."""

    number: int
    payload_bytes: int
    records: int


class BrokenBytes(Exception):
    """Bytes that are not what was written. `offset` is relative to what was decoded."""

    def __init__(self, offset: int, what: str) -> None:
        super().__init__(what)
        self.offset = offset
        self.what = what


def number_value(value: int) -> bytes:
    return NUMBER.pack(value)


def number_of(value: bytes) -> int:
    return int(NUMBER.unpack(value)[0])


def encode_record(record: Record, seed: int) -> bytes:
    """Bytes of `record`, checksum included."""
    parts = [b""]
    for kind, lease, key, value in record.operations:
        key_bytes = key.encode()
        parts += (OPERATION.pack(kind, 0, len(key_bytes), len(value), lease), key_bytes, value)
    body = b"".join(parts)
    head = RECORD.pack(0, len(body), record.revision, len(record.operations))[4:]
    return b"%s%s%s" % (extend(extend(seed, head), body).to_bytes(4, "little"), head, body)


def encode_batch(records: Iterable[Record], number: int, seed: int) -> bytes:
    """A whole batch. `number` counts the batches of a file from 1."""
    encoded = [encode_record(record, seed) for record in records]
    payload = b"".join(encoded)
    head = BATCH.pack(MAGIC, 0, len(payload), len(encoded), number)[8:]
    return b"%s%s%s%s" % (MAGIC, extend(seed, head).to_bytes(4, "little"), head, payload)


def decode_head(data: bytes, seed: int) -> BatchHead:
    """The batch header at the start of `data`. Raises `BrokenBytes`."""
    if len(data) < BATCH.size:
        raise BrokenBytes(0, "the file ends inside a batch header")
    magic, crc, payload_bytes, records, number = BATCH.unpack_from(data)
    if magic != MAGIC:
        raise BrokenBytes(0, "no batch begins here")
    if extend(seed, data[8 : BATCH.size]) != crc:
        raise BrokenBytes(0, "checksum of a batch header does not match")
    return BatchHead(number, payload_bytes, records)


def decode_payload(payload: bytes, count: int, seed: int) -> list[Record]:
    """Every record of a batch, verified. Raises `BrokenBytes`."""
    records = []
    offset = 0
    for _ in range(count):
        if offset + RECORD.size > len(payload):
            raise BrokenBytes(offset, "a batch ends inside a record header")
        crc, length, revision, steps = RECORD.unpack_from(payload, offset)
        body = offset + RECORD.size
        end = body + length
        if end > len(payload) or extend(seed, payload[offset + 4 : end]) != crc:
            raise BrokenBytes(offset, "checksum of a record does not match")
        records.append(Record(revision, _decode_operations(payload, body, steps)))
        offset = end
    if offset != len(payload):
        raise BrokenBytes(offset, "a batch is longer than its records")
    return records


def _decode_operations(payload: bytes, offset: int, count: int) -> list[Operation]:
    operations = []
    for _ in range(count):
        kind, _flags, key_bytes, value_bytes, lease = OPERATION.unpack_from(payload, offset)
        key_at = offset + OPERATION.size
        value_at = key_at + key_bytes
        offset = value_at + value_bytes
        key = payload[key_at:value_at].decode()
        operations.append(Operation(kind, lease, key, payload[value_at:offset]))
    return operations
