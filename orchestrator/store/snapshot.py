"""A snapshot: one file with every entry at one revision, in key order, and the place in the log to go on from.

Batches of KEPT records like those of the log, numbered from 1, then one SNAPSHOT record. Under its final
name a snapshot is complete: it is written and synced under a temporary one first.
"""

import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.store.disk import Disk
from orchestrator.store.files import PinnedFile
from orchestrator.store.frames import Frames
from orchestrator.store.header import HEADER_BYTES, SNAPSHOT_MAGIC, DamagedLogError, Header
from orchestrator.store.interface import Entry
from orchestrator.store.log import Position
from orchestrator.store.record import (
    GRANT,
    KEPT,
    PAIR,
    SNAPSHOT,
    BatchHead,
    BrokenBytes,
    Operation,
    Record,
    Sealer,
    decode_payload,
    encode_batch,
    number_value,
)

SYNC_BYTES = 2 * 1024 * 1024
"""So much is written between two syncs, so that none of them keeps the log's waiting for long."""


def snapshot_path(directory: Path, revision: int) -> Path:
    return directory / f"{revision:016x}.snapshot"


def header_of(store_id: bytes, revision: int, position: Position) -> Header:
    """What a snapshot at `position` of the log says of itself."""
    return Header(
        SNAPSHOT_MAGIC,
        store_id,
        position.number,
        revision,
        os.urandom(16),
        position.chain,
        position.batch,
        position.offset,
    )


def kept(entry: Entry) -> Record:
    """An entry as a snapshot has it."""
    value = PAIR.pack(entry.create_revision, entry.version) + entry.item.raw
    return Record(entry.item.revision, [Operation(KEPT, entry.lease, entry.key, value)])


def granted(lease: int, ttl_s: int) -> Record:
    """A lease as a snapshot has it."""
    return Record(0, [Operation(GRANT, lease, "", number_value(ttl_s))])


class SnapshotFile(PinnedFile):
    """An open snapshot. `revision` is what it shows."""

    def __init__(self, disk: Disk, path: Path, fd: int, header: Header) -> None:
        super().__init__(disk, path, fd)
        self.header = header
        self.revision = header.base_revision
        self.size_bytes = HEADER_BYTES
        self._keys: list[str] = []
        self._offsets = array("Q")

    @classmethod
    def open(cls, disk: Disk, path: Path) -> "SnapshotFile":
        """Raises `DamagedLogError`, `StartupError`; only the header is read yet."""
        fd = disk.open(path)
        try:
            header = Header.decode(path, disk.read(fd, HEADER_BYTES, 0), SNAPSHOT_MAGIC)
            if path.name != snapshot_path(path.parent, header.base_revision).name:
                raise DamagedLogError(path, 0, f"this is the snapshot of revision {header.base_revision}")
            return cls(disk, path, fd, header)
        except BaseException:
            disk.close(fd)
            raise

    def note(self, records: Sequence[Record]) -> None:
        """Have the batch of `records`, which begins at the end of what is known, in the index."""
        if key := records[0].operations[0].key:
            self._keys.append(key)
            self._offsets.append(self.size_bytes)

    def place(self, key: str) -> int:
        """Offset of the only batch that can have `key`; 0 if there is none."""
        at = bisect_right(self._keys, key) - 1
        return self._offsets[at] if at >= 0 else 0

    def load(self, take: Callable[[list[Record]], object], sealer: Sealer | None) -> None:
        """Hand over every batch's records. Raises `DamagedLogError` unless all of it is as it was written."""
        frames = Frames(self.disk, self.fd, self.path, self.header.seed, HEADER_BYTES, 0)
        complete = False

        def batch(head: BatchHead, payload: bytes) -> None:
            nonlocal complete
            records = decode_payload(payload, head.records, self.header.seed, sealer)
            if not records:
                raise BrokenBytes(0, "an empty batch")
            self.size_bytes = frames.offset
            self.note(records)
            take(records)
            complete = records[-1].operations[0].kind == SNAPSHOT

        try:
            while frames.read(batch) is not None:
                pass
        except BrokenBytes as broken:
            raise DamagedLogError(self.path, frames.offset + broken.offset, broken.what) from None
        if not complete:
            raise DamagedLogError(self.path, frames.offset, "the snapshot has no end")
        self.size_bytes = frames.offset


class SnapshotWriter:
    """Writes one snapshot. All methods but `__init__` and `encode` block; one thread at a time."""

    def __init__(self, disk: Disk, directory: Path, header: Header, sealer: Sealer | None) -> None:
        self._disk = disk
        self._directory = directory
        self._header = header
        self._sealer = sealer
        self._batch = 0
        self._written = HEADER_BYTES
        self._unsynced = 0
        self._final = snapshot_path(directory, header.base_revision)
        self._begun: SnapshotFile | None = None

    def begin(self) -> None:
        """Make the temporary file. From now on either `finish` or `abort` is to be called."""
        temporary = self._final.with_name(self._final.name + ".tmp")
        self._begun = SnapshotFile(self._disk, temporary, self._disk.create(temporary), self._header)
        self._disk.write(self._file.fd, self._header.encode(), 0)

    @property
    def path(self) -> Path | None:
        """Where the file is now; None before it is begun."""
        return self._begun.path if self._begun else None

    @property
    def _file(self) -> SnapshotFile:
        assert self._begun is not None
        return self._begun

    def add(self, records: Sequence[Record]) -> None:
        """One more batch."""
        self.write(self.encode(records))

    def encode(self, records: Sequence[Record]) -> bytes:
        """The next batch, for the next call of `write`."""
        file = self._file
        self._batch += 1
        data = encode_batch(records, self._batch, file.header.seed, self._sealer)
        file.note(records)
        file.size_bytes += len(data)
        return data

    def write(self, data: bytes) -> None:
        """Add an encoded batch."""
        file = self._file
        self._disk.write(file.fd, data, self._written)
        self._written += len(data)
        self._unsynced += len(data)
        if self._unsynced >= SYNC_BYTES:
            self._disk.sync(file.fd)
            self._unsynced = 0

    def finish(self, last_lease: int) -> SnapshotFile:
        """Make it durable under its final name."""
        file = self._file
        self.add([Record(file.revision, [Operation(SNAPSHOT, 0, "", number_value(last_lease))])])
        self._disk.sync(file.fd)
        self._disk.rename(file.path, self._final)
        file.path = self._final
        self._disk.sync_directory(self._directory)
        return file

    def abort(self) -> None:
        """Leave nothing behind. A file that already has its final name is complete and may stay."""
        file = self._begun
        if file is None:
            return
        file.close()
        if file.path.suffix == ".tmp":
            self._disk.unlink(file.path)
