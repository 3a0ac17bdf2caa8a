"""Migrates a store of format 1, a log of one file, to the format of today. Called before recovery.

The old file is read, never written. From its state a snapshot and an empty segment are made; then the file is
moved to `format-1-backup/`. Whichever step a crash hits, the next start goes on from there.
"""

from pathlib import Path

import structlog

from orchestrator.base.clock import Clock
from orchestrator.base.errors import StartupError
from orchestrator.store.disk import Disk
from orchestrator.store.frames import Frames
from orchestrator.store.header import (
    HEADER_BYTES,
    DamagedLogError,
    Dropped,
    Header,
)
from orchestrator.store.rebuild import write_store
from orchestrator.store.record import BatchHead, BrokenBytes, Sealer, decode_payload
from orchestrator.store.state import State

log = structlog.get_logger(__name__)

BACKUP = "format-1-backup"


def migrate(disk: Disk, directory: Path, clock: Clock, sealer: Sealer | None) -> Dropped | None:
    """Do what is left to do, if anything. Returns the torn tail of the old log that was dropped.

    Raises `DamagedLogError`, `StartupError`, `OSError`; the old log is then still in its place.
    """
    names = disk.names(directory)
    logs = [directory / name for name in names if name.endswith(".log")]
    if not logs:
        return None
    path = logs[-1]  # The one with the highest number is complete; an older one was only not yet removed.
    header = _header(disk, path)
    dropped = None
    snapshots = [directory / name for name in names if name.endswith(".snapshot")]
    if not snapshots:
        _remove_unfinished(disk, directory, names)
        state, dropped = _read(disk, path, header, clock)
        write_store(disk, directory, state, header, 1, sealer)
        log.info("store migrated from format 1", file=path.name, revision=state.revision, backup=BACKUP)
    elif not _is_of(disk, snapshots[-1], header.store_id):
        raise StartupError(
            f"{directory} holds two stores: {path.name} is not what {snapshots[-1].name} was made of.",
            "Move the files that do not belong there away.",
        )
    _set_aside(disk, directory, logs)
    return dropped


def _header(disk: Disk, path: Path) -> Header:
    fd = disk.open(path)
    try:
        return Header.decode_format_1(path, disk.read(fd, HEADER_BYTES, 0))
    finally:
        disk.close(fd)


def _is_of(disk: Disk, path: Path, store_id: bytes) -> bool:
    fd = disk.open(path)
    try:
        return disk.read(fd, HEADER_BYTES, 0)[16:32] == store_id
    finally:
        disk.close(fd)


def _remove_unfinished(disk: Disk, directory: Path, names: list[str]) -> None:
    """A migration that did not come to its snapshot left at most one segment without batches."""
    for name in names:
        if not name.endswith(".segment"):
            continue
        fd = disk.open(directory / name)
        try:
            used = disk.read(fd, 2 * HEADER_BYTES, 0)[HEADER_BYTES:].strip(b"\0")
        finally:
            disk.close(fd)
        if used:
            raise StartupError(
                f"{directory} holds two stores: a log of format 1 beside {name}.",
                "Move the files that do not belong there away.",
            )
        disk.unlink(directory / name)


def _read(disk: Disk, path: Path, header: Header, clock: Clock) -> tuple[State, Dropped | None]:
    state = State(clock, 0)
    state.begin_loading()
    fd = disk.open(path)
    try:
        frames = Frames(disk, fd, path, header.seed, HEADER_BYTES, 0)

        def take(head: BatchHead, payload: bytes) -> None:
            for record in decode_payload(payload, head.records, header.seed):
                state.apply(record)
            state.shorten_history()

        dropped = None
        try:
            while frames.read(take) is not None:
                pass
        except BrokenBytes as broken:
            if frames.is_followed():
                raise DamagedLogError(path, frames.offset + broken.offset, broken.what) from None
            dropped = Dropped(path, frames.offset, frames.last_byte(frames.offset), broken.what)
    finally:
        disk.close(fd)
    state.end_loading()
    return state, dropped


def _set_aside(disk: Disk, directory: Path, logs: list[Path]) -> None:
    backup = directory / BACKUP
    disk.make_directory(backup)
    for path in logs:
        disk.rename(path, backup / path.name)
    disk.sync_directory(backup)
    disk.sync_directory(directory)
