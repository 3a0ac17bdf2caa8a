"""Work queue of keys: deduplicated, delayed requeue, back-off per key; a key is handed to one worker at a time.

    queue.add(key); queue.add_after(key, delay_s); queue.retry(key) (back-off); queue.forget(key)
    key = await queue.take(); ...; queue.done(key)

A key added while a worker holds it waits until `done` and is then handed out once more, so no change is
missed and nothing runs twice at once. A key holds at most one delay; the earliest wins.

Bound: at most `capacity` distinct keys wait, delayed ones counted. Further ones are refused, logged and
counted; the informers' periodic resync offers them again.
"""

import asyncio
import heapq

import structlog

from orchestrator.base.backoff import Backoff
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.informer import metrics

log = structlog.get_logger(__name__)

RETRY_INITIAL_S = 0.005
RETRY_MAX_S = 1000.0


class WorkQueue:
    """Keys that want attention. Owner: the controller runner that takes from it."""

    def __init__(self, name: str, supervisor: Supervisor, clock: Clock, *, capacity: int = 200_000) -> None:
        """`name` labels metrics; the timer task for delayed keys belongs to `supervisor`."""
        self.name = name
        self.capacity = capacity
        self._supervisor = supervisor
        self._clock = clock
        self._backoff = Backoff(RETRY_INITIAL_S, RETRY_MAX_S)
        self._ready: asyncio.Queue[str] = asyncio.Queue()  # a subset of _waiting, so bounded by capacity
        self._waiting: dict[str, float] = {}  # key -> when it was added
        self._working: dict[str, float] = {}  # key -> when it was taken
        self._due: dict[str, float] = {}  # delayed key -> when it becomes ready
        self._heap: list[tuple[float, str]] = []
        self._timer: asyncio.Task[None] | None = None
        self._timer_due_s = 0.0
        self._adds = metrics.ADDS.labels(name)
        self._depth = metrics.DEPTH.labels(name)
        self._depth.set(0)  # What waited in the queue of an earlier term waits no more.
        self._retries = metrics.RETRIES.labels(name)
        self._refused = metrics.REFUSED.labels(name)
        self._waited = metrics.WAITED.labels(name)
        self._worked = metrics.WORKED.labels(name)

    def __len__(self) -> int:
        """Keys that wait to be taken, delayed ones not counted."""
        return self._ready.qsize()

    def add(self, key: str) -> None:
        """Let `key` be taken as soon as a worker is free and nobody works on it. Never blocks."""
        if key in self._waiting or not self._has_room(key):
            return
        self._adds.inc()
        self._waiting[key] = self._clock.monotonic_s()
        if key not in self._working:
            self._offer(key)

    def add_after(self, key: str, delay_s: float) -> None:
        """Add `key` when `delay_s` have passed; an earlier delay that it already has stays."""
        if delay_s <= 0:
            self.add(key)
            return
        due_s = self._clock.monotonic_s() + delay_s
        if self._due.get(key, due_s + 1) <= due_s or not self._has_room(key):
            return
        self._due[key] = due_s
        heapq.heappush(self._heap, (due_s, key))
        self._set_timer()

    def retry(self, key: str) -> None:
        """Add `key` again after its back-off, which doubles with every retry until `forget`."""
        self._retries.inc()
        self.add_after(key, self._backoff.next_s(key))

    def forget(self, key: str) -> None:
        """The key did well: its next retry starts with the shortest delay again."""
        self._backoff.reset(key)

    def failures(self, key: str) -> int:
        """Retries of `key` since it was forgotten."""
        return self._backoff.failures(key)

    async def take(self) -> str:
        """The next key, which is the caller's alone until `done`."""
        key = await self._ready.get()
        now_s = self._clock.monotonic_s()
        self._depth.dec()
        self._waited.observe(now_s - self._waiting.pop(key))
        self._working[key] = now_s
        return key

    def done(self, key: str) -> None:
        """End the work on a taken key; it is offered again if it was added meanwhile."""
        started_s = self._working.pop(key)
        self._worked.observe(self._clock.monotonic_s() - started_s)
        if key in self._waiting:
            self._offer(key)

    def _offer(self, key: str) -> None:
        self._depth.inc()
        self._ready.put_nowait(key)

    def _has_room(self, key: str) -> bool:
        if len(self._waiting) + len(self._due) < self.capacity:
            return True
        self._refused.inc()
        log.error("work queue is full, key refused until the next resync", queue=self.name, key=key)
        return False

    def _set_timer(self) -> None:
        """One task sleeps until the earliest delayed key; an earlier one replaces it."""
        due_s = self._heap[0][0]
        if self._timer is not None and not self._timer.done():
            if self._timer_due_s <= due_s:
                return
            self._timer.cancel()
        self._timer_due_s = due_s
        self._timer = self._supervisor.spawn(f"{self.name}-delays", self._ring())

    async def _ring(self) -> None:
        while self._heap:
            now_s = self._clock.monotonic_s()
            self._timer_due_s = self._heap[0][0]
            if self._timer_due_s > now_s:
                await self._clock.sleep(self._timer_due_s - now_s)
                continue
            due_s, key = heapq.heappop(self._heap)
            # A later duplicate in the heap is an old delay that an earlier one replaced.
            if self._due.get(key) == due_s:
                del self._due[key]
                self.add(key)
