"""How transactions look in the log: operations, records and batches as bytes. Pure; no I/O here.

    batch   = magic "OBAT", crc, payload length, record count, batch number, payload of records
    record  = crc, length, revision, operation count, operations          one transaction: all or nothing
    operation = kind, flags, key length, value length, lease, key, value

    seal    = magic "OSEA", crc, number of the last batch, end offset, digest of the segment     its last words

Numbers are little-endian. A checksum is CRC32C over everything that follows it in its header (for a record
also its operations), seeded with random bytes of the store: bytes of another store, or bytes that a client
put into a value, do not pass for a batch. Within a store no two batches of its log have the same number.
`flags` is zero. What a sealer does to a value says so itself.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from google_crc32c import extend
from msgspec import Struct

MAGIC = b"OBAT"
SEAL_MAGIC = b"OSEA"
BATCH = struct.Struct("<4sIIIQ")
RECORD = struct.Struct("<IIQI")
OPERATION = struct.Struct("<BBHIQ")
SEAL = struct.Struct("<4sIQQ32s")
NUMBER = struct.Struct("<Q")
PAIR = struct.Struct("<QQ")
_CRC = struct.Struct("<I")
_ALONE = struct.Struct("<IQIBBHIQ")
"""What follows the checksum of a record of one operation, up to its key."""

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

ALONE_BYTES = RECORD.size + OPERATION.size
"""What a record of one operation takes beside its key and value."""
FREEING = frozenset((DELETE, END, COMPACT))
"""What takes away more than it adds; a full disk takes these when it takes nothing else."""

KEY_BYTES_MAX = 4096
VALUE_BYTES_MAX = 16 * 1024 * 1024


class Sealer(Protocol):
    """What encrypts values on their way to disk; see `store.sealing`."""

    def seal(self, key: str, value: bytes) -> bytes: ...

    def unseal(self, key: str, stored: bytes) -> bytes: ...


class Operation(Struct, frozen=True, gc=False):
    """One step of a record. Which fields count depends on `kind`."""

    kind: int
    lease: int
    key: str
    value: bytes


class Record(Struct, frozen=True, gc=False):
    """One transaction. `revision` is its own, or for bookkeeping records the newest one before it."""

    revision: int
    operations: Sequence[Operation]

    @property
    def size_bytes(self) -> int:
        """About what it takes in the log."""
        operations = self.operations
        if len(operations) == 1:
            return ALONE_BYTES + len(operations[0].key) + len(operations[0].value)
        return RECORD.size + sum(OPERATION.size + len(step.key) + len(step.value) for step in self.operations)


def frees(records: Iterable[Record]) -> bool:
    """Whether nothing but deletions and the like is in `records`."""
    return all(step.kind in FREEING for record in records for step in record.operations)


class BatchHead(NamedTuple):
    """A verified batch header."""

    number: int
    payload_bytes: int
    records: int


class SealFrame(NamedTuple):
    """A verified seal: the segment ends at `end` with batch `last`, and `digest` stands for all of it."""

    last: int
    end: int
    digest: bytes


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


def _sealed(sealer: Sealer, kind: int, key: str, value: bytes) -> bytes:
    if kind == PUT:
        return sealer.seal(key, value)
    if kind == KEPT:
        return value[: PAIR.size] + sealer.seal(key, value[PAIR.size :])
    return value


def _unsealed(sealer: Sealer, kind: int, key: str, stored: bytes) -> bytes:
    if kind == PUT:
        return sealer.unseal(key, stored)
    if kind == KEPT:
        return stored[: PAIR.size] + sealer.unseal(key, stored[PAIR.size :])
    return stored


def encode_batch(records: Iterable[Record], number: int, seed: int, sealer: Sealer | None = None) -> bytes:
    """A whole batch. `number` counts the batches of the log, or of a snapshot, from 1.

    Every byte is copied once, when all parts are put together.
    """
    parts = [b""]
    count = payload_bytes = 0
    for record in records:
        payload_bytes += _encode_record(record, seed, sealer, parts)
        count += 1
    head = BATCH.pack(MAGIC, 0, payload_bytes, count, number)[8:]
    parts[0] = b"%s%s%s" % (MAGIC, extend(seed, head).to_bytes(4, "little"), head)
    return b"".join(parts)


def _encode_record(record: Record, seed: int, sealer: Sealer | None, parts: list[bytes]) -> int:
    """Add the bytes of `record`, checksum included, to `parts`; returns how many."""
    operations = record.operations
    if len(operations) != 1:
        return _encode_many(record, seed, sealer, parts)
    step = operations[0]
    key, value = step.key.encode(), step.value
    if sealer is not None:
        value = _sealed(sealer, step.kind, step.key, value)
    size = OPERATION.size + len(key) + len(value)
    fields = _ALONE.pack(size, record.revision, 1, step.kind, 0, len(key), len(value), step.lease)
    head = fields + key
    parts += (_CRC.pack(extend(extend(seed, head), value)), head, value)
    return RECORD.size + size


def _encode_many(record: Record, seed: int, sealer: Sealer | None, parts: list[bytes]) -> int:
    body: list[bytes] = []
    for step in record.operations:
        key, value = step.key.encode(), step.value
        if sealer is not None:
            value = _sealed(sealer, step.kind, step.key, value)
        body += (OPERATION.pack(step.kind, 0, len(key), len(value), step.lease), key, value)
    size = sum(map(len, body))
    crc = extend(seed, head := RECORD.pack(0, size, record.revision, len(record.operations))[_CRC.size :])
    for part in body:
        crc = extend(crc, part)
    parts += (_CRC.pack(crc), head)
    parts += body
    return RECORD.size + size


def encode_seal(seal: SealFrame, seed: int) -> bytes:
    body = SEAL.pack(b"", 0, *seal)[8:]
    return b"%s%s%s" % (SEAL_MAGIC, extend(seed, body).to_bytes(4, "little"), body)


def decode_seal(data: bytes, seed: int) -> SealFrame:
    """The seal at the start of `data`. Raises `BrokenBytes`."""
    if len(data) < SEAL.size or not data.startswith(SEAL_MAGIC):
        raise BrokenBytes(0, "no seal stands here")
    _, crc, last, end, digest = SEAL.unpack_from(data)
    if extend(seed, data[8 : SEAL.size]) != crc:
        raise BrokenBytes(0, "checksum of a seal does not match")
    return SealFrame(last, end, digest)


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


def walk_payload(payload: bytes, count: int, seed: int) -> Iterator[tuple[int, int, int, int]]:
    """Revision, number of operations, start and end of the operations of every record, each verified.

    Raises `BrokenBytes`.
    """
    offset, size = 0, len(payload)
    unpack, head_bytes = RECORD.unpack_from, RECORD.size
    for _ in range(count):
        if offset + head_bytes > size:
            raise BrokenBytes(offset, "a batch ends inside a record header")
        crc, length, revision, steps = unpack(payload, offset)
        body = offset + head_bytes
        end = body + length
        if end > size or extend(seed, payload[offset + 4 : end]) != crc:
            raise BrokenBytes(offset, "checksum of a record does not match")
        yield revision, steps, body, end
        offset = end
    if offset != size:
        raise BrokenBytes(offset, "a batch is longer than its records")


def decode_payload(payload: bytes, count: int, seed: int, sealer: Sealer | None = None) -> list[Record]:
    """Every record of a batch, verified. Raises `BrokenBytes`."""
    records = []
    unpack, head_bytes = OPERATION.unpack_from, OPERATION.size
    for revision, steps, body, end in walk_payload(payload, count, seed):
        if steps != 1 or sealer is not None:
            records.append(Record(revision, decode_operations(payload, body, steps, sealer)))
            continue
        # Most records are one plain step, and recovery reads them by the million.
        kind, _flags, key_bytes, _value_bytes, lease = unpack(payload, body)
        key_at = body + head_bytes
        value_at = key_at + key_bytes
        step = Operation(kind, lease, payload[key_at:value_at].decode(), payload[value_at:end])
        records.append(Record(revision, (step,)))
    return records


def decode_operations(
    payload: bytes, offset: int, count: int, sealer: Sealer | None = None
) -> list[Operation]:
    """`count` operations from `offset` on, of a record that was verified."""
    operations = []
    unpack, head_bytes = OPERATION.unpack_from, OPERATION.size
    for _ in range(count):
        kind, _flags, key_bytes, value_bytes, lease = unpack(payload, offset)
        key_at = offset + head_bytes
        value_at = key_at + key_bytes
        offset = value_at + value_bytes
        key = payload[key_at:value_at].decode()
        value = payload[value_at:offset]
        if sealer is not None:
            value = _unsealed(sealer, kind, key, value)
        operations.append(Operation(kind, lease, key, value))
    return operations
