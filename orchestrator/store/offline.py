"""The log store's files without a running engine: reading them as they are, and making a directory from entries.

Reading goes through the engine's own recovery over a disk that changes nothing, so it also works while a
server writes: what it appends meanwhile looks like a torn tail and is cut, files that a snapshot replaces
vanish and make us start over. Values are in their stored form: what is sealed stays sealed. All of it blocks;
called by the command line.
"""

import errno
import os
import time
from collections.abc import Iterable
from pathlib import Path

from orchestrator.base.clock import SystemClock
from orchestrator.base.errors import StartupError
from orchestrator.store.backup import Kept
from orchestrator.store.disk import Disk
from orchestrator.store.header import SEGMENT_MAGIC, DamagedLogError, Dropped, Header
from orchestrator.store.rebuild import write_store
from orchestrator.store.record import GRANT, KEPT, PAIR, SNAPSHOT, Operation, Record, number_value
from orchestrator.store.recovery import Recovery
from orchestrator.store.settings import LogSettings
from orchestrator.store.state import State

ATTEMPTS = 10
PAUSE_S = 0.2


class ReadOnlyDisk(Disk):
    """Recovery's tidying up is left out; anything else that would change a file fails."""

    def make_directory(self, path: Path) -> None:
        pass

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def create(self, path: Path) -> int:
        raise OSError(errno.EROFS, "the store is read only", str(path))

    def write(self, fd: int, data: bytes, offset: int) -> None:
        pass

    def write_durably(self, fd: int, data: bytes, offset: int) -> None:
        pass

    def sync(self, fd: int) -> None:
        pass

    def allocate(self, fd: int, offset: int, size: int) -> None:
        raise OSError(errno.EROFS, "the store is read only")

    def truncate(self, fd: int, size: int) -> None:
        pass

    def rename(self, source: Path, target: Path) -> None:
        raise OSError(errno.EROFS, "the store is read only", str(source))

    def unlink(self, path: Path) -> None:
        pass

    def sync_directory(self, path: Path) -> None:
        pass


def read(directory: Path) -> tuple[State, Dropped | None]:
    """What the store in `directory` holds, and the torn tail, if there is one, that a start would drop.

    Raises `StartupError` when there is no store, `DamagedLogError` for one that is damaged each time we look.
    """
    if not directory.is_dir():
        raise absent(directory)
    for attempt in range(ATTEMPTS):
        try:
            return _read(directory)
        except (FileNotFoundError, DamagedLogError) as error:
            # A running server's snapshot may have replaced files, or its next batch landed, as we looked.
            if attempt == ATTEMPTS - 1:
                raise error if isinstance(error, DamagedLogError) else absent(directory) from error
            time.sleep(PAUSE_S)
    raise AssertionError


def absent(directory: Path) -> StartupError:
    """What to say where there is no store."""
    return StartupError(f"There is no log store in {directory}.", "Name the data directory with --data-dir.")


def _read(directory: Path) -> tuple[State, Dropped | None]:
    disk = ReadOnlyDisk()
    names = disk.names(directory)
    if any(name.endswith(".log") for name in names):
        raise StartupError(f"{directory} has an older format.", "Start the server once, which migrates it.")
    if not any(name.endswith((".segment", ".snapshot")) for name in names):
        raise FileNotFoundError(errno.ENOENT, "no log", str(directory))
    found, log = Recovery(disk, directory, SystemClock(), LogSettings(history_memory_bytes=0)).run()
    log.close()
    for snapshot in found.snapshots:
        snapshot.close()
    return found.state, found.dropped


def entries_of(state: State) -> list[Kept]:
    """Every entry, in key order."""
    return [
        Kept(entry.key, entry.value, entry.create_revision, entry.revision, entry.version, entry.lease)
        for entry in state.entries()
    ]


def state_of(
    entries: Iterable[Kept], leases: Iterable[tuple[int, int]], last_lease: int, revision: int
) -> State:
    """A state that holds `entries` and nothing older: `revision` is its newest and its floor."""
    state = State(SystemClock())
    state.begin_loading()
    for lease, ttl_s in leases:
        state.apply(Record(0, [Operation(GRANT, lease, "", number_value(ttl_s))]))
    for entry in entries:
        value = PAIR.pack(entry.create_revision, entry.version) + entry.value
        state.apply(Record(entry.revision, [Operation(KEPT, entry.lease, entry.key, value)]))
    state.apply(Record(revision, [Operation(SNAPSHOT, 0, "", number_value(last_lease))]))
    state.end_loading()
    return state


def write(directory: Path, state: State) -> None:
    """Make the store's directory, holding `state`; on disk when it returns. Raises `OSError`."""
    disk = Disk()
    disk.make_directory(directory)
    header = Header(SEGMENT_MAGIC, os.urandom(16), 1, state.revision, os.urandom(16))
    write_store(disk, directory, state, header, 1, None)
