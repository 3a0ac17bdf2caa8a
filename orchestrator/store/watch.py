"""Fan-out of committed events. Owner of the index: the hub, which the committer calls after each batch.

A watch first reads the history it asked for in slices, then joins the live ones without a gap: both happen
on the loop, between two batches. A batch is split once per prefix, not per watcher; watchers of one prefix
share the list. A watcher that lets `BUFFER_EVENTS_MAX` events wait is cut off and told so.

A batch with many watchers is handed out in slices, between which others run. Slices are in order, so every
watcher gets its events in order; and nobody is told that he is up to date before he has had them.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

from orchestrator.store.archive import Archive
from orchestrator.store.interface import Event, SlowWatcherError, StoppedError, StoreError
from orchestrator.store.state import State

BUFFER_EVENTS_MAX = 16_384
CATCH_UP_EVENTS = 8_192
"""How much history is looked through before others get their turn."""
SLICE_WATCHES = 500
"""So many watches get their events before others get their turn."""


class WatchHub:
    """Every watch of a store, by prefix."""

    def __init__(self, state: State, archive: Archive | None = None) -> None:
        """`archive` reads values that left memory, of a state where they do."""
        self.state = state
        self.archive = archive
        self.dropped = 0
        """Watches that ended because they were too slow."""
        self._live: dict[str, set[LogWatch]] = {}
        self._lengths: dict[int, int] = {}
        """How many watched prefixes have this length."""
        self._catching_up: set[LogWatch] = set()
        self._stopped: StoreError | None = None
        self._waiting: deque[tuple[list[LogWatch], list[Event], int]] = deque()
        """Watches with what they still have to get, and the revision that everybody has until then."""

    def watch(self, prefix: str, after_revision: int) -> "LogWatch":
        watch = LogWatch(self, prefix, after_revision)
        if self._stopped:
            watch.fail(self._stopped)
        elif after_revision >= self.state.revision:
            self.join(watch)
        else:
            self._catching_up.add(watch)
        return watch

    def join(self, watch: "LogWatch") -> None:
        """From now on `watch` gets live events."""
        self._catching_up.discard(watch)
        watch.live = True
        watches = self._live.get(watch.prefix)
        if watches is None:
            watches = self._live[watch.prefix] = set()
            length = len(watch.prefix)
            self._lengths[length] = self._lengths.get(length, 0) + 1
        watches.add(watch)

    def leave(self, watch: "LogWatch") -> None:
        """`watch` gets nothing any more; leaving twice is fine."""
        self._catching_up.discard(watch)
        watches = self._live.get(watch.prefix)
        if watches is None or watch not in watches:
            return
        watches.discard(watch)
        if watches:
            return
        del self._live[watch.prefix]
        length = len(watch.prefix)
        self._lengths[length] -= 1
        if not self._lengths[length]:
            del self._lengths[length]

    @property
    def reached(self) -> int:
        """Every live watch has been given everything up to this revision."""
        return self._waiting[0][2] if self._waiting else self.state.revision

    def publish(self, events: Sequence[Event]) -> None:
        """Hand the events of one batch to whoever watches their keys."""
        if not self._live:
            return
        by_prefix: dict[str, list[Event]] = {}
        lengths, live = self._lengths, self._live
        for event in events:
            key = event.key
            for length in lengths:
                prefix = key[:length]
                if prefix in live and len(prefix) == length:
                    by_prefix.setdefault(prefix, []).append(event)
        idle = not self._waiting
        for prefix, found in by_prefix.items():
            watches = list(live[prefix])
            for start in range(0, len(watches), SLICE_WATCHES):
                self._waiting.append((watches[start : start + SLICE_WATCHES], found, events[0].revision - 1))
        if idle and self._waiting:
            self._hand_out()

    def _hand_out(self) -> None:
        """As many watches as may be served at once; more while slices pile up, so that they do not for ever."""
        waiting = self._waiting
        left = SLICE_WATCHES * (1 + len(waiting) // 64)
        while waiting and left > 0:
            watches, events, _ = waiting.popleft()
            for watch in watches:
                watch.push(events)
            left -= len(watches)
        if waiting:
            asyncio.get_running_loop().call_soon(self._hand_out)

    def stop(self, error: StoreError) -> None:
        """End every watch, after what it has in its buffer."""
        self._stopped = error
        while self._waiting:
            self._hand_out()
        watches = [watch for watches in self._live.values() for watch in watches]
        for watch in [*watches, *self._catching_up]:
            watch.fail(error)

    def __len__(self) -> int:
        return sum(map(len, self._live.values())) + len(self._catching_up)


class LogWatch:
    """See `interface.Watch`. One consumer."""

    __slots__ = ("_buffer", "_closed", "_error", "_hub", "_position", "_waiter", "live", "prefix")

    def __init__(self, hub: WatchHub, prefix: str, after_revision: int) -> None:
        self.prefix = prefix
        self.live = False
        self._hub = hub
        self._position = after_revision
        """While catching up, and for a watch that starts in the future: only later events count."""
        self._buffer: list[Event] = []
        self._waiter: asyncio.Future[None] | None = None
        self._error: StoreError | None = None
        self._closed = False

    @property
    def progress(self) -> int:
        if self._buffer:
            return self._buffer[0].revision - 1
        if self.live and not self._error and not self._closed:
            self._position = max(self._position, self._hub.reached)
        return self._position

    def __aiter__(self) -> "LogWatch":
        return self

    async def __anext__(self) -> list[Event]:
        while not self._closed:
            if self._buffer:
                return self._take()
            if self._error:
                raise self._error
            if not self.live:
                if events := await self._catch_up():
                    return events
                await asyncio.sleep(0)
            else:
                await self._wait()
        raise StopAsyncIteration

    def _take(self) -> list[Event]:
        events, self._buffer = self._buffer, []
        self._position = events[-1].revision
        return events

    async def _catch_up(self) -> list[Event]:
        """The next slice of history; joins the live watches at its end."""
        state, archive = self._hub.state, self._hub.archive
        try:
            events, reached = state.changes_after(self._position, CATCH_UP_EVENTS, self.prefix)
            if archive is not None:
                events = await archive.events(events)
        except StoreError as error:
            self.fail(error)
            return []
        self._position = reached
        if reached >= state.revision and not self._closed and not self._error:
            self._hub.join(self)
        return events

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def push(self, events: list[Event]) -> None:
        """The hub's: take new events, all under the prefix."""
        if self._closed or self._error:
            return
        if events[0].revision <= self._position:
            events = [event for event in events if event.revision > self._position]
        if len(self._buffer) + len(events) > BUFFER_EVENTS_MAX:
            self._hub.dropped += 1
            self._buffer = []
            self.fail(SlowWatcherError(f"the watch of {self.prefix} did not keep up: list again"))
            return
        self._buffer += events
        if events:
            self._wake()

    def fail(self, error: StoreError) -> None:
        """The hub's: end with `error` once the buffer is empty."""
        self._hub.leave(self)
        self._error = self._error or error
        self._wake()

    def close(self) -> None:
        self._hub.leave(self)
        self._closed = True
        self._buffer = []
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def closed_error() -> StoppedError:
    """What readers and writers of a closed store get."""
    return StoppedError("the store is closed")
