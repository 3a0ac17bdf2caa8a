"""What etcd has under our prefix, in memory: the embedded engine's state and fan-out, fed by etcd's watch.

Versions, creation revisions and previous values need not come over the wire: the state computes them as etcd
does, since no event is missing. Owner: the feed; everybody else reads, or waits for a revision.
"""

import asyncio
import heapq
import itertools
from collections.abc import Sequence

from orchestrator.base.clock import Clock
from orchestrator.store.interface import CompactedError, Entry, Event, StoreError
from orchestrator.store.record import COMPACT, KEPT, PAIR, SNAPSHOT, Operation, Record, number_value
from orchestrator.store.state import State
from orchestrator.store.watch import WatchHub


def kept(key: str, value: bytes, revision: int, create_revision: int, version: int, lease: int) -> Record:
    """An entry as it was loaded."""
    return Record(revision, [Operation(KEPT, lease, key, PAIR.pack(create_revision, version) + value)])


class Cache:
    """State and watches of one time between two loads; a new load begins with new ones."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.loads = 0
        self.losses = 0
        """Times that etcd was found to have lost data."""
        self.slow_watches = 0
        """Of loads before this one."""
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self.state = State(clock)
        self.hub = WatchHub(self.state)

    @property
    def revision(self) -> int:
        return self.state.revision

    def blank(self) -> State:
        """A state to be filled with `kept` records, page by page, for `replace`."""
        return State(self._clock)

    def replace(self, state: State, revision: int) -> None:
        """Begin anew with what etcd has at `revision`: watches of before end, their readers must list again."""
        state.apply(Record(revision, [Operation(SNAPSHOT, 0, "", number_value(0))]))
        old, self.state, self.hub = self.hub, state, WatchHub(state)
        self.slow_watches += old.dropped
        self.loads += 1
        old.stop(CompactedError(revision))
        self._wake()

    def lose(self, error: StoreError) -> None:
        """What is here etcd has no more: end every watch, fail who waits, have nothing until the next load."""
        self.losses += 1
        waiting, self._waiting = self._waiting, []
        self.replace(self.blank(), 0)
        for _, _, future in waiting:
            if not future.done():
                future.set_exception(error)

    def apply(self, records: Sequence[Record]) -> None:
        """Take over transactions in order, publish them, wake who waits for them."""
        events: list[Event] = []
        for record in records:
            events += self.state.apply(record)
        self.hub.publish(events)
        self._wake()

    def advance(self, revision: int) -> None:
        """Nothing of ours changed up to `revision`."""
        if revision > self.state.revision:
            self.apply((Record(revision, []),))

    def raise_floor(self, revision: int) -> None:
        """Forget what was before `revision`; `State.trim` frees the memory."""
        if revision > self.state.floor:
            self.state.apply(Record(self.state.revision, [Operation(COMPACT, 0, "", number_value(revision))]))

    def entries_of(self, revision: int) -> dict[str, Entry]:
        """What the transaction with this revision wrote; empty where its events are gone already."""
        try:
            events = self.state.events_after(revision - 1, 1)
        except CompactedError:
            return {}
        return {event.key: event.entry for event in events if event.entry and event.revision == revision}

    async def reached(self, revision: int) -> None:
        """Wait until everything up to `revision` is here."""
        if revision <= self.state.revision:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (revision, next(self._order), future))
        await future

    def _wake(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.state.revision:
            future = heapq.heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)
