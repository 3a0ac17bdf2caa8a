"""What the store does by itself: lease expiry, compaction of history, rewriting of the log.

Supervised services of the engine. Each looks at the state from time to time and goes the same way as
anybody's write; a full disk only makes it try again later.
"""

from collections import deque
from typing import Protocol

import structlog

from orchestrator.base.backoff import Backoff
from orchestrator.base.clock import Clock
from orchestrator.store.commit import Committer
from orchestrator.store.interface import NoSpaceError, StoppedError, StoreError
from orchestrator.store.rewrite import Rewriter, worthwhile
from orchestrator.store.settings import LogSettings
from orchestrator.store.state import State

log = structlog.get_logger(__name__)

LEASE_TICK_S = 1.0
COMPACTION_TICK_S = 5.0
MARK_S = 30.0
TRIM_EVENTS = 2000
"""Forgotten without giving others their turn."""
REWRITE_TICK_S = 10.0


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
        rewriter: Rewriter,
        clock: Clock,
        settings: LogSettings,
    ) -> None:
        self._store = store
        self._state = state
        self._committer = committer
        self._rewriter = rewriter
        self._clock = clock
        self._settings = settings
        self._marks: deque[tuple[float, int]] = deque()
        """What the newest revision was, when."""

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

    def _wanted_floor(self) -> int:
        now_s = self._clock.monotonic_s()
        if not self._marks or now_s - self._marks[-1][0] >= MARK_S:
            self._marks.append((now_s, self._state.revision))
        floor = 0
        while self._marks and now_s - self._marks[0][0] >= self._settings.history_s:
            floor = self._marks.popleft()[1]
        bytes_max = self._settings.history_memory_bytes
        if self._state.history_bytes > bytes_max:
            floor = max(floor, self._state.revision_keeping(bytes_max // 2))
        return floor

    async def rewrite(self) -> None:
        """Rewrite the log when it is mostly history."""
        backoff = Backoff(REWRITE_TICK_S, 600.0)
        delay_s = 0.0
        while not self._committer.fault:
            if worthwhile(self._committer.log.tail, self._state.live_bytes):
                try:
                    await self._rewriter.run()
                    backoff.reset()
                except (OSError, StoreError) as error:
                    delay_s = backoff.next_s()
                    log.warning("store log not rewritten", cause=str(error), retry_in_s=delay_s)
            await self._clock.sleep(max(delay_s, REWRITE_TICK_S))
            delay_s = 0.0
