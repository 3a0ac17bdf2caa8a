"""Time as a value that is handed in, so that tests can drive it.

`now_s` is wall time (seconds since the epoch), `monotonic_s` never goes back. Nothing else in the project
calls `time.time`, `time.monotonic` or `asyncio.sleep` for logic that a test wants to drive.
"""

import asyncio
import heapq
import time
from typing import Protocol


class Clock(Protocol):
    """Wall time, monotonic time, and sleeping in the latter."""

    def now_s(self) -> float:
        """Seconds since the epoch."""

    def monotonic_s(self) -> float:
        """Seconds on a clock that never goes back."""

    async def sleep(self, duration_s: float) -> None:
        """Return when `monotonic_s` has advanced by `duration_s`; zero yields once."""


class SystemClock:
    """The machine's clocks."""

    def now_s(self) -> float:
        return time.time()

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, duration_s: float) -> None:
        await asyncio.sleep(max(0.0, duration_s))


class VirtualClock:
    """A clock that stands still until somebody calls `advance`. Owner: the test or simulation."""

    def __init__(self, start_s: float = 1_700_000_000.0) -> None:
        self._epoch_s = start_s
        self._elapsed_s = 0.0
        self._order = 0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now_s(self) -> float:
        return self._epoch_s + self._elapsed_s

    def monotonic_s(self) -> float:
        return self._elapsed_s

    async def sleep(self, duration_s: float) -> None:
        if duration_s <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._order += 1
        heapq.heappush(self._sleepers, (self._elapsed_s + duration_s, self._order, future))
        await future

    async def advance(self, duration_s: float) -> None:
        """Move time on, waking sleepers in order; between two wake-ups the loop runs until it is calm."""
        end_s = self._elapsed_s + duration_s
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= end_s:
            due_s, _, future = heapq.heappop(self._sleepers)
            self._elapsed_s = due_s
            if not future.done():
                future.set_result(None)
            await self._settle()
        self._elapsed_s = end_s
        await self._settle()

    async def _settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)
