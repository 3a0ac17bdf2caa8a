"""Writes a store anew from a state: one snapshot and an empty segment. For migration and repair; blocking.

The snapshot's final name is the last step: before it, the directory holds an empty segment and nothing else
that is new.
"""

from pathlib import Path

from orchestrator.store.disk import Disk
from orchestrator.store.header import HEADER_BYTES, NO_CHAIN, SEGMENT_MAGIC, Header
from orchestrator.store.log import Position
from orchestrator.store.record import Record, Sealer
from orchestrator.store.segment import Segment, segment_path
from orchestrator.store.snapshot import SnapshotWriter, granted, header_of, kept
from orchestrator.store.state import State

BATCH_ENTRIES = 256


def write_store(
    disk: Disk, directory: Path, state: State, header: Header, number: int, sealer: Sealer | None
) -> None:
    """`header` gives the store's id and salt, `number` the segment's. Raises `OSError`."""
    segment = Segment.create(disk, segment_path(directory, number), number)
    try:
        base = Header(SEGMENT_MAGIC, header.store_id, number, state.revision, header.salt)
        segment.begin(base)
    finally:
        segment.close()
    disk.sync_directory(directory)
    position = Position(number, NO_CHAIN, 0, HEADER_BYTES, 0)
    writer = SnapshotWriter(disk, directory, header_of(header.store_id, state.revision, position), sealer)
    try:
        writer.begin()
        _write_entries(writer, state)
        file = writer.finish(state.leases.last)
    except BaseException:
        writer.abort()
        raise
    file.close()


def _write_entries(writer: SnapshotWriter, state: State) -> None:
    leases = [granted(lease.id, lease.ttl_s) for lease in state.leases.all()]
    entries, _ = state.page("", "", 0, state.revision)
    for start in range(0, len(leases), BATCH_ENTRIES):
        writer.add(leases[start : start + BATCH_ENTRIES])
    for start in range(0, len(entries), BATCH_ENTRIES):
        records: list[Record] = [kept(entry) for entry in entries[start : start + BATCH_ENTRIES]]
        writer.add(records)
