"""Priority levels: how many seats each has, who waits for one, who may borrow from whom. No HTTP here.

A level's nominal seats are its part of the server's limit. Up to that it may always go, even while others still
have seats that it lent (they end soon); above that it borrows what other levels lend and do not use now, up to its
own bound and never beyond the server's limit. What it can't start at once waits in one of its
queues: a flow is dealt a hand of them and takes the shortest, so that a flow that floods fills only its own hand.
Among queues the one that was served least goes next (start-time fair queueing, a request costs its width).

Everything here happens on the event loop, and only `Level.wait` suspends.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil

from orchestrator.api.item import Object

WAIT_LIMIT_S = 15.0
"""How long a request may wait for a seat: a quarter of the time that a request may take."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a PriorityLevelConfiguration asks for. `queues` of 0 refuses what can't start at once."""

    exempt: bool = False
    shares: int = 30
    lendable_percent: int = 0
    borrowing_percent: int | None = None
    queues: int = 0
    hand_size: int = 1
    queue_length_max: int = 0


def shape_of(spec: Object) -> Shape:
    """The shape in a PriorityLevelConfiguration's spec, with the API's defaults."""
    if spec.get("type") == "Exempt":
        exempt = spec.get("exempt") or {}
        shares, lendable = exempt.get("nominalConcurrencyShares") or 0, exempt.get("lendablePercent") or 0
        return Shape(exempt=True, shares=shares, lendable_percent=lendable)
    limited = spec.get("limited") or {}
    shares = limited.get("nominalConcurrencyShares")
    base = Shape(
        shares=30 if shares is None else shares,
        lendable_percent=limited.get("lendablePercent") or 0,
        borrowing_percent=limited.get("borrowingLimitPercent"),
    )
    response = limited.get("limitResponse") or {}
    if response.get("type") != "Queue":
        return base
    queuing = response.get("queuing") or {}
    queues = queuing.get("queues") or 64
    return Shape(
        False,
        base.shares,
        base.lendable_percent,
        base.borrowing_percent,
        queues,
        min(queuing.get("handSize") or 8, queues),
        queuing.get("queueLengthLimit") or 50,
    )


class Rejected(Exception):
    """No seat, and no waiting for one. `reason` as the metric names it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(eq=False, slots=True)
class _Waiter:
    width: int
    seated: asyncio.Future[None]
    queue: int


@dataclass(slots=True)
class _Queue:
    """Waiters of one queue. `virtual` grows by the width of each that was started."""

    virtual: float
    waiters: deque[_Waiter] = field(default_factory=deque)


class Level:
    """One priority level. `seats` are taken by `executing` requests; `waiting` requests are queued."""

    __slots__ = (
        "_pool", "_queues", "_virtual", "executing", "lower", "name", "nominal", "seats", "shape", "uid",
        "upper", "waiting",
    )  # fmt: skip

    def __init__(self, name: str, pool: "Pool") -> None:
        self.name = name
        self.uid = ""
        self.shape = Shape()
        self.nominal = self.lower = self.upper = 0
        self.seats = 0
        self.executing = 0
        self.waiting = 0
        self._pool = pool
        self._queues: dict[int, _Queue] = {}
        self._virtual = 0.0

    def try_enter(self, width: int) -> bool:
        """Take `width` seats if that is possible at once; then `leave` must follow."""
        if not self.shape.exempt and (
            self.waiting or (self.seats + width > self.nominal and not self._pool.may_borrow(self, width))
        ):
            return False
        self.seats += width
        self.executing += 1
        return True

    def leave(self, width: int) -> None:
        """Give `width` seats back, to whoever waits."""
        self.seats -= width
        self.executing -= 1
        if self._pool.waiting:
            self._pool.start_waiting(self)

    async def wait(self, width: int, flow: str, limit_s: float = WAIT_LIMIT_S) -> None:
        """Wait for seats in a queue of `flow`; then `leave` must follow. Raises `Rejected`."""
        waiter = self._enqueue(width, flow)
        try:
            async with asyncio.timeout(limit_s):
                await waiter.seated
        except BaseException as error:
            if waiter.seated.done() and not waiter.seated.cancelled():
                self.leave(width)
            else:
                self._withdraw(waiter)
            if isinstance(error, TimeoutError):
                raise Rejected("time-out") from None
            raise

    def _enqueue(self, width: int, flow: str) -> _Waiter:
        shape = self.shape
        if not shape.queues:
            raise Rejected("concurrency-limit")
        hand = deal(flow, shape.queues, shape.hand_size)
        number = min(hand, key=self._length)
        if self._length(number) >= shape.queue_length_max:
            raise Rejected("queue-full")
        queue = self._queues.get(number)
        if queue is None:
            queue = self._queues[number] = _Queue(self._virtual)
        waiter = _Waiter(width, asyncio.get_running_loop().create_future(), number)
        queue.waiters.append(waiter)
        self._count(1)
        # Seats may be free though somebody waits: those of the others did not suffice for a wider request.
        self._pool.start_waiting(self)
        return waiter

    def _length(self, number: int) -> int:
        queue = self._queues.get(number)
        return len(queue.waiters) if queue is not None else 0

    def _withdraw(self, waiter: _Waiter) -> None:
        """Take a waiter who gave up out of its queue. Those it stood in the way of may go now."""
        queue = self._queues.get(waiter.queue)
        if queue is None or waiter not in queue.waiters:
            return  # Whoever looked for the next one found it given up.
        queue.waiters.remove(waiter)
        if not queue.waiters:
            del self._queues[waiter.queue]
        self._count(-1)
        if self._pool.waiting:
            self._pool.start_waiting(self)

    def _count(self, change: int) -> None:
        self.waiting += change
        self._pool.waiting += change

    def start_next(self) -> bool:
        """Start the next waiter if its seats are free, or drop it if it gave up; False when nothing changed."""
        number = min(self._queues, key=lambda n: self._queues[n].virtual)
        queue = self._queues[number]
        width = queue.waiters[0].width
        if queue.waiters[0].seated.done():
            # Cancelled, but its task has not run since: it has no use for seats and would never give them back.
            self._withdraw_first(number, queue)
            return True
        if self.seats + width > self.nominal and not self._pool.may_borrow(self, width):
            return False
        self._virtual = queue.virtual
        queue.virtual += width
        waiter = self._withdraw_first(number, queue)
        self.seats += width
        self.executing += 1
        waiter.seated.set_result(None)
        return True

    def _withdraw_first(self, number: int, queue: _Queue) -> _Waiter:
        waiter = queue.waiters.popleft()
        if not queue.waiters:
            del self._queues[number]
        self._count(-1)
        return waiter


class Pool:
    """All levels of a server. Owner of their limits; `waiting` requests over all levels."""

    def __init__(self, seats_max: int) -> None:
        self.seats_max = seats_max
        self.waiting = 0
        self.levels: dict[str, Level] = {}
        self._limited: Sequence[Level] = ()

    def configure(self, shapes: Iterable[tuple[str, str, Shape]]) -> None:
        """Name, uid and shape of every level. A level that is gone ends with its last request."""
        levels: dict[str, Level] = {}
        for name, uid, shape in shapes:
            level = levels[name] = self.levels.get(name) or Level(name, self)
            level.uid, level.shape = uid, shape
        self.levels = levels
        total = sum(level.shape.shares for level in levels.values()) or 1
        for level in levels.values():
            self._limit(level, total)
        self._limited = [level for level in levels.values() if not level.shape.exempt]
        if self.waiting:
            self._start_all(list(levels.values()))

    def _limit(self, level: Level, total: int) -> None:
        shape = level.shape
        level.nominal = ceil(self.seats_max * shape.shares / total)
        level.lower = level.nominal - round(level.nominal * shape.lendable_percent / 100)
        level.upper = self.seats_max
        if shape.borrowing_percent is not None:
            level.upper = min(
                level.upper, level.nominal + round(level.nominal * shape.borrowing_percent / 100)
            )

    def may_borrow(self, level: Level, width: int) -> bool:
        """Whether `level` may take `width` more seats than are its own: others lend them and do not use them."""
        if level.seats + width > level.upper or level.shape.exempt:
            return level.shape.exempt
        spare = used = 0
        for other in self._limited:
            used += other.seats
            if other is not level:
                spare += other.nominal - max(other.seats, other.lower)
        borrowed = level.seats + width - level.nominal
        return used + width <= self.seats_max and borrowed <= spare

    def start_waiting(self, first: Level) -> None:
        """Start who can start now: `first` has a seat back, what it does not need others may borrow."""
        while first.waiting and first.start_next():
            pass
        if self.waiting > first.waiting:
            self._start_all([level for level in self._limited if level is not first])

    def _start_all(self, levels: Sequence[Level]) -> None:
        """One after the other, who uses the least of its own first."""
        waiting = [level for level in levels if level.waiting]
        while waiting:
            level = min(waiting, key=lambda each: each.seats / max(1, each.nominal))
            if not level.start_next() or not level.waiting:
                waiting.remove(level)


def deal(flow: str, queues: int, hand_size: int) -> list[int]:
    """A hand of `hand_size` different queues out of `queues`, always the same for `flow`."""
    value = int.from_bytes(hashlib.blake2b(flow.encode(errors="replace"), digest_size=16).digest())
    hand: list[int] = []
    for size in range(queues, queues - hand_size, -1):
        value, card = divmod(value, size)
        for taken in sorted(hand):
            card += card >= taken
        hand.append(card)
    return hand
