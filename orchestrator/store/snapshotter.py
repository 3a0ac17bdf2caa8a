"""Takes snapshots while writes go on, and removes what they supersede.

The steps, each of which may be the last before a crash: every entry at one revision is written to a temporary
file, in slices; it is synced and gets its final name; the directory is synced; only then older snapshots are
removed, and segments, oldest first, that neither recovery nor history needs. Recovery takes the newest snapshot
and the segments from the place that it names.

The loop collects and encodes entries, a small slice at a time, reading through the history of versions; writing
and syncing are done in a thread that is not the log's. Encoding in that thread would be worse: it takes the
interpreter's lock, which the loop and the log's thread then wait for, each time for as long as a slice takes.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog

from orchestrator.base.clock import Clock
from orchestrator.store.archive import Archive
from orchestrator.store.commit import Committer
from orchestrator.store.disk import Disk
from orchestrator.store.files import finish
from orchestrator.store.header import HEADER_BYTES
from orchestrator.store.interface import Entry, StoreError
from orchestrator.store.log import Log
from orchestrator.store.record import Record, Sealer
from orchestrator.store.settings import LogSettings
from orchestrator.store.slices import sliced
from orchestrator.store.snapshot import SnapshotFile, SnapshotWriter, granted, header_of, kept, snapshot_path
from orchestrator.store.state import State

log = structlog.get_logger(__name__)

SLICE_ENTRIES = 32
SLICE_BYTES = 128 * 1024
"""One batch of a snapshot, after which others get their turn: some 100 us."""
WORTH_SEGMENTS = 3
"""So many that are not full are there after any snapshot, at most."""

Result = TypeVar("Result")


class Snapshotter:
    """Owner of the snapshot in the making. One run at a time."""

    def __init__(
        self,
        disk: Disk,
        committer: Committer,
        archive: Archive,
        executor: Executor,
        clock: Clock,
        settings: LogSettings,
        sealer: Sealer | None,
    ) -> None:
        self.runs = 0
        self.last_s = 0.0
        """How long the last one took."""
        self._disk = disk
        self._directory = committer.log.current.path.parent
        self._committer = committer
        self._state: State = committer.state
        self._archive = archive
        self._executor = executor
        self._clock = clock
        self._settings = settings
        self._sealer = sealer
        self._begun_at = -_replayed_bytes(committer.log, archive)
        """How many bytes this process had logged at the last snapshot; less than none where that was an earlier one."""
        self._running = asyncio.Lock()
        self._doomed: list[Path] = []
        """Files that nobody needs and that are still there."""
        self._damaged: list[Path] = []
        """Likewise as soon as there is another snapshot."""
        self._unsynced = True
        """Whether files were removed of which the disk may not know."""
        self._removing = asyncio.Lock()

    def inherit(self, doomed: list[Path], damaged: list[Path]) -> None:
        """What recovery could not remove, and the snapshots that it could not use."""
        self._doomed += doomed
        self._damaged += damaged

    @property
    def is_due(self) -> bool:
        """Whether enough was logged since the last snapshot."""
        logged = self._committer.log.written_bytes - self._begun_at
        return logged >= max(self._settings.snapshot_bytes, self._state.live_bytes)

    @property
    def gives_space(self) -> bool:
        """Whether on a full disk a snapshot would give back more than the segments that it needs."""
        held = self._committer.log.allocated_bytes + self._archive.size_bytes
        spare = held - self._state.live_bytes
        return self._committer.no_space and spare > WORTH_SEGMENTS * self._settings.segment_bytes

    async def run(self) -> None:
        """Take a snapshot now and remove what it supersedes.

        Raises `OSError` or `StoreError` when it could not; everything is then as before.
        """
        async with self._running:
            revision, started_s = self._state.revision, self._clock.monotonic_s()
            self._state.hold(revision)
            try:
                file = await self._write(revision)
            finally:
                self._state.release(revision)
            self._adopt(file)
            self._doomed += self._damaged
            self._damaged = []
            self.runs += 1
            self.last_s = self._clock.monotonic_s() - started_s
            await self.tidy()
            log.info("store snapshot taken", revision=revision, size_bytes=file.size_bytes)

    async def _write(self, revision: int) -> SnapshotFile:
        log_, leases = self._committer.log, self._state.leases
        position, last_lease = self._committer.published, leases.last
        header = header_of(log_.header.store_id, revision, position)
        records = [granted(lease.id, lease.ttl_s) for lease in leases.all()]
        writer = SnapshotWriter(self._disk, self._directory, header, self._sealer)
        await self._spare(snapshot_path(self._directory, revision))
        try:
            await self._in_thread(writer.begin)
            for start in range(0, len(records), SLICE_ENTRIES):
                await self._add(writer, records[start : start + SLICE_ENTRIES])
            await self._add_entries(writer, revision)
            file = await self._in_thread(lambda: writer.finish(last_lease))
        except BaseException:
            await self._give_up(writer)
            raise
        self._begun_at = position.written
        return file

    async def _give_up(self, writer: SnapshotWriter) -> None:
        """Even a file that has its final name goes: nobody keeps account of it."""
        if writer.path is not None:
            self._doomed.append(writer.path)
        try:
            await self._in_thread(writer.abort)
        except OSError as error:
            log.warning("store file not removed", file=str(writer.path), cause=str(error))

    async def _spare(self, path: Path) -> None:
        """The names of this snapshot are about to be used again."""
        async with self._removing:
            self._doomed = [old for old in self._doomed if old.stem != path.stem and old.stem != path.name]

    async def _add_entries(self, writer: SnapshotWriter, revision: int) -> None:
        after, more = "", True
        while more:
            pages = self._state.paging("", after, SLICE_ENTRIES, revision)
            page, more = await sliced(self._state, pages, revision)
            if not page:
                break
            after = page[-1].key
            entries = await self._archive.entries(page)
            for part in _parts(entries):
                await self._in_thread(partial(writer.write, writer.encode([kept(entry) for entry in part])))

    async def _add(self, writer: SnapshotWriter, records: list[Record]) -> None:
        await self._in_thread(partial(writer.write, writer.encode(records)))

    def _adopt(self, file: SnapshotFile) -> None:
        snapshots = self._archive.snapshots
        if snapshots and snapshots[-1].revision == file.revision:
            snapshots.pop().close()  # Its name now means the new one.
        snapshots.append(file)

    async def tidy(self) -> None:
        """Keep to the bound of history on disk, and remove what nobody needs.

        On a full disk no file is kept for history's sake: writing comes first.
        """
        state = self._state
        bytes_max = 0 if self._committer.no_space else self._settings.history_bytes
        floor = self._archive.floor_for(state.kept_floor, bytes_max)
        if floor > state.floor:
            # In memory alone: this floor is not above the newest snapshot, where a restart begins anyhow.
            state.floor = floor
        self._doomed += [file.path for file in self._archive.drop_superseded(state.kept_floor)]
        await self._remove()

    async def _remove(self) -> None:
        """What could not be removed is tried again each time."""
        async with self._removing:
            used = {file.path for file in self._archive.snapshots}
            left = [path for path in self._doomed if path not in used]
            self._doomed = []
            if not left and not self._unsynced:
                return
            try:
                self._unsynced = not await self._in_thread(lambda: self._unlink(left))
            finally:
                self._doomed += left

    def _unlink(self, paths: list[Path]) -> bool:
        """Remove files, and from `paths` those that are gone; whether the disk knows."""
        for path in tuple(paths):
            try:
                self._disk.unlink(path)
                paths.remove(path)
            except OSError as error:
                log.warning("store file not removed", file=str(path), cause=str(error))
        try:
            self._disk.sync_directory(self._directory)
        except OSError as error:
            log.warning("store directory not synced", file=str(self._directory), cause=str(error))
            return False
        return True

    def check_removed(self) -> None:
        """Raises `StoreError` when a file that was superseded is, or may be, still on disk."""
        if self._doomed:
            names = ", ".join(path.name for path in self._doomed)
            raise StoreError(f"{names} in {self._directory} could not be removed; see the log, and try again")
        if self._unsynced:
            raise StoreError(f"{self._directory} could not be synced after files were removed; see the log")

    async def _in_thread(self, job: Callable[[], Result]) -> Result:
        future: asyncio.Future[Any] = asyncio.get_running_loop().run_in_executor(self._executor, job)
        await finish(future)
        result: Result = future.result()
        return result


def _replayed_bytes(log_: Log, archive: Archive) -> int:
    """What the log held beyond the newest snapshot when the store was opened."""
    written = sum(segment.tail - HEADER_BYTES for segment in log_.segments)
    return written - (archive.snapshots[-1].header.offset - HEADER_BYTES if archive.snapshots else 0)


def _parts(entries: list[Entry]) -> list[list[Entry]]:
    """Cut where a batch would become too large."""
    parts: list[list[Entry]] = [[]]
    size = 0
    for entry in entries:
        if size >= SLICE_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(entry)
        size += len(entry.item.raw)
    return parts
