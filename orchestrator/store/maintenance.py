"""What the store does by itself: lease expiry, compaction of history, snapshots, the next segment.

Supervised services of the engine. Each looks at the state from time to time, or when a batch was published,
and goes the same way as anybody's write; a full disk only makes it try again later.
"""

import asyncio
from collections import deque
from concurrent.futures import Executor
from typing import Protocol

import structlog

from orchestrator.base.backoff import Backoff
from orchestrator.base.clock import Clock
from orchestrator.store.commit import Committer
from orchestrator.store.files import finish
from orchestrator.store.interface import NoSpaceError, StoppedError, StoreError
from orchestrator.store.settings import LogSettings
from orchestrator.store.snapshotter import Snapshotter
from orchestrator.store.state import State

log = structlog.get_logger(__name__)

LEASE_TICK_S = 1.0
COMPACTION_TICK_S = 5.0
MARK_S = 30.0
TRIM_EVENTS = 2000
"""Forgotten without giving others their turn."""
RETRY_S = 1.0
RETRY_MAX_S = 600.0
RETRY_FULL_S = 15.0
"""On a full disk: somebody deletes, and waits for room."""


class Store(Protocol):
    """The engine's verbs that maintenance uses."""

    async def compact(self, revision: int) -> None: ...

    async def lease_revoke(self, lease: int) -> None: ...


class Maintenance:
    """Owner of nothing but its marks of time."""

    def __init__(
        self,
        store: Store,
        state: State,
        committer: Committer,
        snapshotter: Snapshotter,
        executor: Executor,
        clock: Clock,
        settings: LogSettings,
    ) -> None:
        self._store = store
        self._state = state
        self._committer = committer
        self._snapshotter = snapshotter
        self._executor = executor
        self._clock = clock
        self._settings = settings
        self._marks: deque[tuple[float, int]] = deque()
        """What the newest revision was, when."""
        self._snapshot_due = asyncio.Event()
        self._segment_due = asyncio.Event()

    def after_batch(self) -> None:
        """The committer's: see whether the log has grown to where something is to be done."""
        if self._committer.log.wants_spare:
            self._segment_due.set()
        if self._snapshotter.is_due:
            self._snapshot_due.set()

    async def expire_leases(self) -> None:
        """Delete the keys of leases that were not renewed in time."""
        while not self._committer.fault:
            await self._clock.sleep(LEASE_TICK_S)
            for lease in self._state.leases.expired():
                try:
                    await self._store.lease_revoke(lease)
                except (NoSpaceError, StoppedError):
                    break

    async def compact(self) -> None:
        """Raise the floor by age and by size, and forget what is below it in slices."""
        while True:
            await self._clock.sleep(COMPACTION_TICK_S)
            floor = self._wanted_floor()
            if floor > self._state.floor and not self._committer.fault:
                try:
                    await self._store.compact(floor)
                except (NoSpaceError, StoppedError):
                    continue
            while self._state.untrimmed:
                self._state.trim(TRIM_EVENTS)
                await self._clock.sleep(0)
            await self._snapshotter.tidy()
            if self._snapshotter.gives_space:
                self._snapshot_due.set()

    def _wanted_floor(self) -> int:
        now_s = self._clock.monotonic_s()
        if not self._marks or now_s - self._marks[-1][0] >= MARK_S:
            self._marks.append((now_s, self._state.revision))
        floor = 0
        while self._marks and now_s - self._marks[0][0] >= self._settings.history_s:
            floor = self._marks.popleft()[1]
        return max(floor, self._state.floor_wanted)

    async def take_snapshots(self) -> None:
        """A snapshot whenever enough was logged since the last one."""
        backoff = Backoff(RETRY_S, RETRY_MAX_S)
        while not self._committer.fault:
            await self._snapshot_due.wait()
            self._snapshot_due.clear()
            try:
                await self._snapshotter.run()
                backoff.reset()
            except (OSError, StoreError) as error:
                delay_s = min(backoff.next_s(), RETRY_FULL_S if self._committer.no_space else RETRY_MAX_S)
                log.warning("store snapshot not taken", cause=str(error), retry_in_s=delay_s)
                await self._clock.sleep(delay_s)
                self._snapshot_due.set()

    async def prepare_segments(self) -> None:
        """The next segment before it is needed."""
        backoff = Backoff(RETRY_S, RETRY_MAX_S)
        loop = asyncio.get_running_loop()
        while not self._committer.fault:
            await self._segment_due.wait()
            self._segment_due.clear()
            try:
                await finish(loop.run_in_executor(self._executor, self._committer.log.prepare))
                backoff.reset()
            except (OSError, StoreError) as error:
                if broken := self._committer.log.broken:
                    # It was in use already: whether what was written to it is on disk, nobody knows.
                    self._committer.stop(f"writing {self._committer.log.current.path} failed: {broken}")
                    return
                delay_s = backoff.next_s()
                log.warning("store segment not prepared", cause=str(error), retry_in_s=delay_s)
                await self._clock.sleep(delay_s)
