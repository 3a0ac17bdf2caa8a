"""The embedded engine: `interface.Store` on a log in one directory. Opened and closed by `daemon.py`.

    writers ─ commit (staging, batches) ─ log (segments) ─ state ─┬─ range, get ─┐
                                            │                      └─ watch ──────┴─ archive (old values)
                                            └─ snapshotter

    LOCK                         held by the process that has the store open
    000000000001a4f0.snapshot    every entry at revision 0x1a4f0, and the place in the log to go on from
    0000000000000006.segment     sealed; needed by recovery, or for past revisions
    0000000000000007.segment     written
    0000000000000008.segment     spare: allocated ahead, empty
    *.tmp                        a snapshot in the making

All numbers are hexadecimal. Recovery feeds the records of the newest snapshot and of the segments after it
to the same `State.apply` as live commits do.

Disk use is bounded. With L for the live data (`live_bytes`): the newest snapshot, about L, and one in the
making; what was logged since the newest, at most max(snapshot_bytes, L) and what is written while a snapshot is
made; files that only history needs, at most history_bytes; and up to three segments that are not full. In all
3 x L + snapshot_bytes + history_bytes + 3 x segment_bytes, beside what is logged during one snapshot. Old
files are removed, so that space is given back.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import structlog

from orchestrator.base.clock import Clock
from orchestrator.base.errors import StartupError
from orchestrator.base.tasks import Supervisor
from orchestrator.store.archive import Archive
from orchestrator.store.commit import Committer
from orchestrator.store.disk import Disk
from orchestrator.store.format_1 import migrate
from orchestrator.store.header import Dropped
from orchestrator.store.interface import (
    Entry,
    FutureRevisionError,
    RangeResult,
    StoreError,
    Txn,
    TxnResult,
)
from orchestrator.store.log import Log
from orchestrator.store.maintenance import Maintenance
from orchestrator.store.record import Sealer
from orchestrator.store.recovery import Recovered, Recovery
from orchestrator.store.settings import LogSettings
from orchestrator.store.slices import sliced
from orchestrator.store.snapshotter import Snapshotter
from orchestrator.store.staging import Compact, End, Grant
from orchestrator.store.watch import LogWatch, WatchHub, closed_error

log = structlog.get_logger(__name__)

CLOSE_TIMEOUT_S = 5.0
RENEWALS_MAX = 5
FILE_THREADS = 3
"""For a snapshot, the next segment, and reads of old values. The log has a thread of its own."""


class LogStore:
    """See `interface.Store`. Make one with `open`."""

    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        supervisor: Supervisor,
        settings: LogSettings,
        sealer: Sealer | None,
        opened: "_Opened",
    ) -> None:
        found, log_ = opened.found, opened.log
        self.dropped = opened.dropped
        """The torn tail that recovery dropped, if any."""
        self.damaged_snapshots = tuple(found.damaged)
        """Snapshots that recovery could not read, and did without."""
        self.recovery_s = opened.duration_s
        self._disk = disk
        self._lock = opened.lock
        self._state = state = found.state
        self._executor = ThreadPoolExecutor(FILE_THREADS, thread_name_prefix="store-files")
        self._archive = Archive(log_, found.snapshots, self._executor, sealer)
        self._hub = WatchHub(state, self._archive)
        self._committer = committer = Committer(log_, state, self._hub, self._after_batch)
        self._snapshotter = Snapshotter(
            disk, committer, self._archive, self._executor, clock, settings, sealer
        )
        self._snapshotter.inherit(found.doomed, found.damaged)
        self._next_lease = state.leases.last + 1
        self._closed = False
        self._maintenance = maintenance = Maintenance(
            self, state, committer, self._snapshotter, self._executor, clock, settings
        )
        self._tasks = [
            supervisor.serve("store-leases", maintenance.expire_leases),
            supervisor.serve("store-compaction", maintenance.compact),
            supervisor.serve("store-snapshots", maintenance.take_snapshots),
            supervisor.serve("store-segments", maintenance.prepare_segments),
        ]

    @classmethod
    async def open(
        cls,
        path: Path,
        clock: Clock,
        supervisor: Supervisor | None = None,
        disk: Disk | None = None,
        settings: LogSettings | None = None,
        sealer: Sealer | None = None,
    ) -> "LogStore":
        """Recover the store in the directory `path`, which is made if it is absent.

        `sealer` encrypts values on disk; without one they are plain. Raises `StartupError` when another process
        has the store open or its format is of a newer version, `DamagedLogError` when the log was damaged.
        """
        disk = disk or Disk()
        settings = settings or LogSettings()
        disk.make_directory(path)
        lock = _lock_directory(disk, path)
        try:
            opened = await asyncio.to_thread(_open, disk, path, clock, settings, sealer, lock)
        except BaseException:
            disk.close(lock)
            raise
        if opened.dropped:
            _report(opened.dropped)
        return cls(disk, clock, supervisor or Supervisor("store", clock), settings, sealer, opened)

    @property
    def revision(self) -> int:
        return self._state.revision

    @property
    def compact_revision(self) -> int:
        """The oldest revision that can be read."""
        return self._state.floor

    @property
    def healthy(self) -> bool:
        """Whether writes can succeed; reads do in any case."""
        return not self._committer.fault and not self._closed

    @property
    def fault(self) -> str:
        """Why writes are stopped until a restart; empty while they are not."""
        return self._committer.fault

    @property
    def no_space(self) -> bool:
        """Whether the last write was refused because the disk was full. The next one tries again."""
        return self._committer.no_space

    async def get(self, key: str) -> Entry | None:
        return self._state.get(key)

    async def range(
        self, prefix: str, *, start_after: str = "", limit: int = 0, revision: int = 0
    ) -> RangeResult:
        state = self._state
        at = state.readable(revision)
        found = await sliced(state, state.reading(prefix, start_after, limit, at), at)
        if at == state.revision:
            return found
        entries = await self._archive.entries(found.entries)
        return RangeResult(entries, found.revision, found.remaining)

    async def transact(self, txn: Txn) -> TxnResult:
        return await self._committer.commit(txn)

    async def transact_many(self, txns: Sequence[Txn]) -> list[TxnResult]:
        return await self._committer.run(txns) if txns else []

    def watch(self, prefix: str, after_revision: int) -> LogWatch:
        return self._hub.watch(prefix, after_revision)

    async def compact(self, revision: int) -> None:
        if revision > self._state.revision:
            raise FutureRevisionError(
                f"cannot compact to {revision}; the newest revision is {self._state.revision}"
            )
        if revision > self._state.floor:
            await self._committer.run((Compact(revision),))

    async def snapshot(self) -> None:
        """Take a snapshot now, with a new segment behind it, and remove the files that it supersedes.

        With history compacted before, no value that was superseded, and none in its older sealed or plain form,
        is on disk any more. Raises `OSError` or `StoreError` when it could not; nothing is lost then.
        """
        await self._committer.rotate()
        await self._snapshotter.run()
        self._snapshotter.check_removed()

    async def renew(self) -> None:
        """Forget all history, and return when every file on disk was begun after this call.

        So the space of what is dead is given back, and no value is on disk in a form that the sealer gave
        before. Raises `OSError` or `StoreError` when it could not.
        """
        log_, archive = self._committer.log, self._archive
        await self.compact(self._state.revision)
        await self._snapshotter.tidy()  # On a full disk this makes the room for what follows.
        await self._committer.rotate()  # What was encoded before lies in front of it.
        first = log_.current.number
        for _ in range(RENEWALS_MAX):
            await self._snapshotter.run()
            await self.compact(self._state.revision)
            await self._snapshotter.tidy()
            if min(file.header.number for file in archive.snapshots) >= first <= log_.segments[0].number:
                self._snapshotter.check_removed()
                return
        raise StoreError("files of the store are still in use, try again")

    def _after_batch(self) -> None:
        self._maintenance.after_batch()

    async def lease_grant(self, ttl_s: int) -> int:
        lease = self._next_lease
        self._next_lease += 1
        await self._committer.run((Grant(lease, max(1, ttl_s)),))
        return lease

    async def lease_keep_alive(self, lease: int) -> int:
        return 0 if self._committer.is_ending(lease) else self._state.leases.renew(lease)

    async def lease_revoke(self, lease: int) -> None:
        await self._committer.run((End(lease),))

    def stats(self) -> dict[str, float]:
        """Figures for metrics; bytes, seconds and counts since the start as their names say."""
        committer, state, log_ = self._committer, self._state, self._committer.log
        dropped = self.dropped
        return {
            "revision": state.revision,
            "compact_revision": state.floor,
            "keys": len(state),
            "live_bytes": state.live_bytes,
            "history_bytes": state.history.hot_bytes + state.history.cold_bytes,
            "history_disk_bytes": self._archive.history_bytes(state.kept_floor),
            "history_events": len(state.history),
            "leases": len(state.leases),
            "watches": len(self._hub),
            "slow_watches_total": self._hub.dropped,
            "batches_total": committer.batches,
            "transactions_total": committer.records,
            "written_bytes_total": log_.written_bytes,
            "log_bytes": sum(segment.tail for segment in tuple(log_.segments)),
            "disk_bytes": log_.allocated_bytes + self._archive.size_bytes,
            "segments": len(log_.segments),
            "snapshots": len(self._archive.snapshots),
            "snapshots_total": self._snapshotter.runs,
            "snapshot_seconds": self._snapshotter.last_s,
            "damaged_snapshots": len(self.damaged_snapshots),
            "recovery_seconds": self.recovery_s,
            "dropped_bytes": dropped.end - dropped.start if dropped else 0,
            "dropped_start": dropped.start if dropped else 0,
            "dropped_end": dropped.end if dropped else 0,
            "stopped": float(not self.healthy),
            "no_space": float(self.no_space),
        }

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._committer.close(CLOSE_TIMEOUT_S)
        self._hub.stop(closed_error())
        await asyncio.to_thread(self._executor.shutdown)
        self._committer.log.close()
        self._archive.close()
        self._disk.close(self._lock)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A directory that was recovered."""

    lock: int
    found: Recovered
    log: Log
    dropped: Dropped | None
    duration_s: float


def _lock_directory(disk: Disk, path: Path) -> int:
    try:
        return disk.lock(path / "LOCK")
    except BlockingIOError:
        raise StartupError(
            f"The data directory {path} is in use by another orchestrator process.",
            "Stop that process, or give this one another --data-dir.",
        ) from None


def _open(
    disk: Disk, path: Path, clock: Clock, settings: LogSettings, sealer: Sealer | None, lock: int
) -> _Opened:
    """Blocking: build the state from what is there."""
    started_s = clock.monotonic_s()
    dropped = migrate(disk, path, clock, sealer)
    found, log_ = Recovery(disk, path, clock, settings, sealer).run()
    log_.sealer = sealer
    return _Opened(lock, found, log_, dropped or found.dropped, clock.monotonic_s() - started_s)


def _report(dropped: Dropped) -> None:
    log.warning(
        "store dropped an unfinished write at the end of its log",
        file=str(dropped.path),
        start=dropped.start,
        end=dropped.end,
        cause=dropped.what,
    )
