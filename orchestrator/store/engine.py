"""The embedded engine: `interface.Store` on a log in one directory. Opened and closed by `daemon.py`.

    writers ─ commit (staging, batches) ─ log (disk) ─ state ─┬─ range, get
                                                              └─ watch

The directory holds `LOCK` and one `*.log` file (a second one for the moment of a switch-over). Recovery
feeds the log's records to the same `State.apply` as live commits do.
"""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import structlog

from orchestrator.base.clock import Clock
from orchestrator.base.errors import StartupError
from orchestrator.base.tasks import Supervisor
from orchestrator.store.commit import Committer
from orchestrator.store.disk import Disk
from orchestrator.store.interface import Entry, FutureRevisionError, RangeResult, Txn, TxnResult
from orchestrator.store.log import Dropped, LogFile
from orchestrator.store.maintenance import Maintenance
from orchestrator.store.record import Record
from orchestrator.store.rewrite import Rewriter, log_path
from orchestrator.store.settings import LogSettings
from orchestrator.store.staging import Compact, End, Grant
from orchestrator.store.state import State
from orchestrator.store.watch import LogWatch, WatchHub, closed_error

log = structlog.get_logger(__name__)

CLOSE_TIMEOUT_S = 5.0


class LogStore:
    """See `interface.Store`. Make one with `open`."""

    def __init__(
        self,
        disk: Disk,
        directory: Path,
        clock: Clock,
        supervisor: Supervisor,
        lock: int,
        opened: "_Opened",
        settings: LogSettings,
    ) -> None:
        self.dropped = opened.dropped
        """The torn tail that recovery dropped, if any."""
        self.recovery_s = opened.duration_s
        self._disk = disk
        self._lock = lock
        self._state = opened.state
        self._hub = WatchHub(opened.state)
        self._committer = Committer(opened.log, opened.state, self._hub)
        self._rewriter = Rewriter(disk, directory, self._committer)
        self._next_lease = opened.state.leases.last + 1
        self._closed = False
        maintenance = Maintenance(self, opened.state, self._committer, self._rewriter, clock, settings)
        self._tasks = [
            supervisor.serve("store-leases", maintenance.expire_leases),
            supervisor.serve("store-compaction", maintenance.compact),
            supervisor.serve("store-rewrite", maintenance.rewrite),
        ]

    @classmethod
    async def open(
        cls,
        path: Path,
        clock: Clock,
        supervisor: Supervisor | None = None,
        disk: Disk | None = None,
        settings: LogSettings | None = None,
    ) -> "LogStore":
        """Recover the store in the directory `path`, which is made if it is absent.

        Raises `StartupError` when another process has it open or its format is of another version,
        `DamagedLogError` when the log was damaged.
        """
        disk = disk or Disk()
        settings = settings or LogSettings()
        disk.make_directory(path)
        lock = _lock_directory(disk, path)
        try:
            opened = await asyncio.to_thread(_recover, disk, path, clock, settings)
        except BaseException:
            disk.close(lock)
            raise
        if opened.dropped:
            _report(opened.dropped)
        return cls(disk, path, clock, supervisor or Supervisor("store", clock), lock, opened, settings)

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
        return self._state.range(prefix, start_after, limit, revision)

    async def transact(self, txn: Txn) -> TxnResult:
        return (await self._committer.run((txn,)))[0]

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
        committer, state = self._committer, self._state
        return {
            "revision": state.revision,
            "compact_revision": state.floor,
            "keys": len(state),
            "live_bytes": state.live_bytes,
            "history_bytes": state.history_bytes,
            "history_events": state.history_events,
            "leases": len(state.leases),
            "watches": len(self._hub),
            "slow_watches_total": self._hub.dropped,
            "batches_total": committer.batches,
            "transactions_total": committer.records,
            "log_bytes": committer.log.tail,
            "disk_bytes": committer.log.allocated_bytes,
            "rewrites_total": self._rewriter.runs,
            "recovery_seconds": self.recovery_s,
            "dropped_bytes": self.dropped.end - self.dropped.start if self.dropped else 0,
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
        self._committer.log.close()
        self._disk.close(self._lock)


class _Opened:
    """What recovery found."""

    def __init__(self, log: LogFile, state: State, dropped: Dropped | None, duration_s: float) -> None:
        self.log = log
        self.state = state
        self.dropped = dropped
        self.duration_s = duration_s


def _lock_directory(disk: Disk, path: Path) -> int:
    try:
        return disk.lock(path / "LOCK")
    except BlockingIOError:
        raise StartupError(
            f"The data directory {path} is in use by another orchestrator process.",
            "Stop that process, or give this one another --data-dir.",
        ) from None


def _recover(disk: Disk, path: Path, clock: Clock, settings: LogSettings) -> _Opened:
    """Blocking: find the log, or make the first one, and build the state from it."""
    started_s = clock.monotonic_s()
    names = disk.names(path)
    for name in names:
        if name.endswith(".tmp"):
            disk.unlink(path / name)
    logs = [path / name for name in names if name.endswith(".log")]
    file = LogFile.open(disk, logs[-1]) if logs else _first_log(disk, path)
    try:
        state = State(clock)
        dropped = file.replay(lambda record: _replay(state, record, settings.history_memory_bytes))
        for superseded in logs[:-1]:
            disk.unlink(superseded)
    except BaseException:
        file.close()
        raise
    return _Opened(file, state, dropped, clock.monotonic_s() - started_s)


def _replay(state: State, record: Record, history_bytes_max: int) -> None:
    state.apply(record)
    if state.history_bytes > history_bytes_max:
        state.shorten_history(history_bytes_max // 2)


def _first_log(disk: Disk, path: Path) -> LogFile:
    temporary, final = path / "first.tmp", log_path(path, 1)
    file = LogFile.create(disk, temporary, 1, os.urandom(16), 0)
    file.sync()
    disk.rename(temporary, final)
    disk.sync_directory(path)
    file.path = final
    return file


def _report(dropped: Dropped) -> None:
    log.warning(
        "store dropped an unfinished write at the end of its log",
        file=str(dropped.path),
        start=dropped.start,
        end=dropped.end,
        cause=dropped.what,
    )
