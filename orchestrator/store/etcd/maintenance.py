"""How long history is kept: here, in every server's cache, and in etcd, by whichever server leads.

The rule is the embedded engine's: five minutes, and in memory no more than its bytes.
"""

from collections import deque
from typing import Protocol

import structlog

from orchestrator.base.clock import Clock
from orchestrator.store.etcd.cache import Cache
from orchestrator.store.interface import StoreError
from orchestrator.store.settings import LogSettings

log = structlog.get_logger(__name__)

SETTINGS = LogSettings()
HISTORY_S = SETTINGS.history_s
HISTORY_BYTES_MAX = SETTINGS.history_memory_bytes
TICK_S = 5.0
MARK_S = 30.0
TRIM_EVENTS = 2000
"""Forgotten without giving others their turn."""


class Store(Protocol):
    """The engine's verb that compaction uses."""

    async def compact(self, revision: int) -> None: ...


class Marks:
    """What the newest revision was, when."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._marks: deque[tuple[float, int]] = deque()

    def aged(self, revision: int) -> int:
        """The newest noted revision that is old enough to be forgotten, 0 for none; notes `revision`."""
        now_s = self._clock.monotonic_s()
        if (
            self._marks and revision < self._marks[-1][1]
        ):  # etcd lost data: these are revisions of another past.
            self._marks.clear()
        if not self._marks or now_s - self._marks[-1][0] >= MARK_S:
            self._marks.append((now_s, revision))
        floor = 0
        while self._marks and now_s - self._marks[0][0] >= HISTORY_S:
            floor = self._marks.popleft()[1]
        return floor


class Maintenance:
    """Two services of the engine. Owner of nothing but their marks of time."""

    def __init__(self, store: Store, cache: Cache, clock: Clock) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock

    async def forget(self) -> None:
        """Raise the cache's floor by age and size, and forget what is below it in slices."""
        marks = Marks(self._clock)
        while True:
            await self._clock.sleep(TICK_S)
            state = self._cache.state
            floor = marks.aged(state.revision)
            if state.history_bytes > HISTORY_BYTES_MAX:
                floor = max(floor, state.revision_keeping(HISTORY_BYTES_MAX // 2))
            self._cache.raise_floor(min(floor, state.revision))
            while self._cache.state.untrimmed:
                self._cache.state.trim(TRIM_EVENTS)
                await self._clock.sleep(0)

    async def compact(self) -> None:
        """Compact etcd by age. Servers whose cache still has what etcd forgets are not disturbed."""
        marks = Marks(self._clock)
        while True:
            await self._clock.sleep(TICK_S)
            floor = marks.aged(self._cache.revision)
            if not floor:
                continue
            try:
                await self._store.compact(floor)
            except StoreError as error:
                log.warning("etcd was not compacted, trying again later", error=str(error))
