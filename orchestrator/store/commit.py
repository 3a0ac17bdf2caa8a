"""The single writer: decides transactions, groups them into batches, and publishes what is on disk.

A transaction is decided when it arrives, against the durable state and the transactions staged before it.
While one batch is being written, later ones gather in the next. Only when a batch is on disk is it applied,
published to watches and acknowledged, in revision order. If a batch does not get to disk, everything staged
fails with it, since it was decided on top of it.

An allocation without space fails what is staged and nothing else; of that, what frees space or was to change
nothing is decided once more and goes to disk by itself, where the log keeps room for it (`Log.write`). A failed
write or sync stops the store: what the kernel then holds in its cache says nothing about the disk, so nothing is
retried.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any

from msgspec import Struct

from orchestrator.store.files import finish
from orchestrator.store.interface import (
    PREVIOUS,
    Event,
    NoSpaceError,
    StoppedError,
    StoreError,
    Txn,
    TxnResult,
    following,
)
from orchestrator.store.log import Log, Position
from orchestrator.store.record import Record, frees
from orchestrator.store.staging import Bookkeeping, Staging, Unchanged
from orchestrator.store.state import State
from orchestrator.store.watch import WatchHub, closed_error

BATCH_RECORDS_MAX = 512
BATCH_BYTES_MAX = 4 * 1024 * 1024
"""Both bound what waits for one sync; a single transaction may exceed the bytes."""
BACKLOG_BYTES_MAX = 32 * 1024 * 1024
"""Writers wait outside while more than this is staged."""

Job = Callable[[], object]


class CommitThread:
    """Runs one blocking job after the other and reports back to the loop.

    Once a job failed, other than for lack of space, no later one is run: each fails like it. What the failed one
    left on disk is not known, so nothing may be written behind it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: SimpleQueue[tuple[Job, Callable[[BaseException | None], None]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-commit", daemon=True)
        self._thread.start()

    def submit(self, job: Job, done: Callable[[BaseException | None], None]) -> None:
        """Run `job`, then on the loop `done` with what it raised, or None."""
        self._jobs.put((job, done))

    def _run(self) -> None:
        broken: BaseException | None = None
        while (work := self._jobs.get()) is not None:
            job, done = work
            error = broken
            if broken is None:
                try:
                    job()
                except NoSpaceError as refused:
                    error = refused
                except BaseException as caught:
                    error = broken = caught
            if self._loop.is_closed():
                return
            self._loop.call_soon_threadsafe(done, error)

    def stop(self) -> None:
        """End after the jobs already submitted. Must not be called while one hangs."""
        self._jobs.put(None)
        self._thread.join(timeout=5)


class Request(Struct, gc=False, eq=False):
    """What one call waits for: a list of results, or the only result where it is `alone`."""

    works: Sequence[Txn | Bookkeeping]
    outcomes: Sequence[Record | Unchanged]
    future: asyncio.Future[Any]
    alone: bool

    @property
    def frees(self) -> bool:
        """Whether it takes no room on a full disk: it makes some, or changes nothing."""
        return frees(outcome for outcome in self.outcomes if isinstance(outcome, Record))


class Batch:
    """What goes to disk together: requests in order, and the records among their outcomes."""

    __slots__ = ("outcomes", "records", "requests", "size_bytes")

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.records: list[Record] = []
        self.outcomes = 0
        self.size_bytes = 0

    def takes(self, outcomes: int, size_bytes: int) -> bool:
        """Whether so much more stays within the bounds. An empty batch takes whatever comes."""
        fits = (
            self.size_bytes + size_bytes <= BATCH_BYTES_MAX and self.outcomes + outcomes <= BATCH_RECORDS_MAX
        )
        return fits or not self.requests


class Committer:
    """Owner of the state, the log file and the order of everything."""

    def __init__(
        self, log: Log, state: State, hub: WatchHub, after_batch: Callable[[], None] = lambda: None
    ) -> None:
        """`after_batch` is called on the loop when a batch was published."""
        self.log = log
        self.state = state
        self.hub = hub
        self.fault = ""
        """Why the store stopped for good; empty while it works."""
        self.no_space = False
        """Whether the last batch found no room on disk."""
        self.batches = 0
        self.records = 0
        self.published = log.position
        """The place in the log behind the last batch that `state` contains."""
        self._after_batch = after_batch
        self._loop = asyncio.get_running_loop()
        self._thread = CommitThread(self._loop)
        self._staging = Staging(state)
        self._queue: deque[Batch] = deque()
        """The last one is still gathering."""
        self._flying: Batch | None = None
        self._flush_due = False
        self._busy = False
        self._backlog_bytes = 0
        self._room = asyncio.Event()
        self._closing = False

    def commit(self, txn: Txn) -> Awaitable[TxnResult]:
        """`run` for a single transaction: the way of nearly all writes."""
        if self._backlog_bytes > BACKLOG_BYTES_MAX:
            return self._commit_later(txn)
        if self.fault or self._closing:
            self._refuse_if_stopped()
        staging = self._staging
        staging.check(txn)
        outcome = staging.stage(txn)
        future: asyncio.Future[TxnResult] = self._loop.create_future()
        if isinstance(outcome, Record):
            self._enqueue(Request((txn,), (outcome,), future, True), (outcome,), outcome.size_bytes)
        elif staging.touches(txn):
            self._enqueue(Request((txn,), (outcome,), future, True), (), 0)
        else:
            future.set_result(self._unchanged(outcome))
        return future

    async def _commit_later(self, txn: Txn) -> TxnResult:
        return (await self.run((txn,)))[0]

    async def run(self, works: Sequence[Txn | Bookkeeping]) -> list[TxnResult]:
        """Commit every one of `works`, independently and in order. Raises `NoSpaceError`, `StoppedError`."""
        while self._backlog_bytes > BACKLOG_BYTES_MAX:
            self._room.clear()
            await self._room.wait()
        self._refuse_if_stopped()
        for work in works:
            self._staging.check(work)
        futures = [
            self._admit(works[start : start + BATCH_RECORDS_MAX])
            for start in range(0, len(works), BATCH_RECORDS_MAX)
        ]
        if len(futures) == 1:
            return await futures[0]
        return _together(await asyncio.gather(*futures, return_exceptions=True), len(works))

    def is_ending(self, lease: int) -> bool:
        """Whether the end of `lease` is on its way to disk."""
        return self._staging.is_ending(lease)

    def _refuse_if_stopped(self) -> None:
        if self.fault:
            raise StoppedError(f"the store takes no writes until a restart: {self.fault}")
        if self._closing:
            raise closed_error()

    def _admit(self, works: Sequence[Txn | Bookkeeping]) -> asyncio.Future[list[TxnResult]]:
        staging = self._staging
        outcomes = self._staged(works)
        records = [outcome for outcome in outcomes if isinstance(outcome, Record)]
        future: asyncio.Future[list[TxnResult]] = self._loop.create_future()
        if records or any(map(staging.touches, works)):
            size_bytes = sum(record.size_bytes for record in records)
            self._enqueue(Request(works, outcomes, future, False), records, size_bytes)
        else:
            future.set_result(
                [self._unchanged(outcome) for outcome in outcomes if not isinstance(outcome, Record)]
            )
        return future

    def _staged(self, works: Sequence[Txn | Bookkeeping]) -> list[Record | Unchanged]:
        """Each decided on top of those before it."""
        stage, made = self._staging.stage, dict[str, int]()
        outcomes = []
        for work in works:
            if not isinstance(work, Txn):
                outcomes.append(stage(work))
                continue
            outcome = stage(following(work, made))
            outcomes.append(outcome)
            revision = outcome.revision if isinstance(outcome, Record) else PREVIOUS
            made.update((step.key, revision) for step in work.operations)
        return outcomes

    def _enqueue(self, request: Request, records: Sequence[Record], size_bytes: int) -> None:
        """Have `request` in the next batch that has room; it is answered when that is on disk."""
        queue, count = self._queue, len(request.outcomes)
        if not queue or not queue[-1].takes(count, size_bytes) or (self.no_space and self._differs(request)):
            queue.append(Batch())
        batch = queue[-1]
        batch.requests.append(request)
        batch.records += records
        batch.outcomes += count
        batch.size_bytes += size_bytes
        self._backlog_bytes += size_bytes
        if not self._busy:
            self._wake()

    def _differs(self, request: Request) -> bool:
        """On a full disk what frees space does not share the fate of what takes some."""
        batch = self._queue[-1]
        return bool(batch.records) and request.frees != frees(batch.records)

    def _wake(self) -> None:
        """Flush after the callbacks that are ready now: writers woken together share a sync."""
        if not self._flush_due and not self._busy:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._busy or not self._queue:
            return
        batch = self._flying = self._queue.popleft()
        records = batch.records
        self._busy = True
        if not records:
            self._loop.call_soon(self._landed, None)  # Behind what is being published now.
            return
        try:
            data, revision = self.log.encode(records), records[-1].revision
        except Exception as error:  # Such as a lack of memory: say so, instead of having all wait for ever.
            self._loop.call_soon(self._landed, error)
            return
        self._thread.submit(partial(self.log.write, data, revision, frees(records)), self._landed)

    def _landed(self, error: BaseException | None) -> None:
        flying, self._flying = self._flying, None
        assert flying is not None
        self._busy = False
        if error is not None:
            self._fail(flying, error)
            return
        position = self.log.position
        if self.no_space and not frees(flying.records):
            self.no_space = False
        self._flush()  # The disk writes the next batch while this one is published.
        self._publish(flying)
        self.published = position
        self._after_batch()

    def _publish(self, batch: Batch) -> None:
        published: list[Event] = []
        apply, landed = self.state.apply, self._staging.landed
        for request in batch.requests:
            results = []
            for outcome in request.outcomes:
                if isinstance(outcome, Record):
                    events = apply(outcome)
                    landed(outcome)
                    published += events
                    results.append(_made(outcome.revision, events))
                else:
                    results.append(self._unchanged(outcome))
            if not request.future.done():
                request.future.set_result(results[0] if request.alone else results)
        self.records += len(batch.records)
        self.batches += 1
        self._release(batch)
        self.hub.publish(published)

    def _unchanged(self, outcome: Unchanged) -> TxnResult:
        return TxnResult(not outcome.failed, self.state.revision, (), outcome.failed)

    def _release(self, batch: Batch) -> None:
        self._backlog_bytes -= batch.size_bytes
        if self._backlog_bytes <= BACKLOG_BYTES_MAX:
            self._room.set()

    def _fail(self, flying: Batch, error: BaseException) -> None:
        """Nothing staged can be durable any more: everything was decided on top of what failed."""
        failed = [flying, *self._queue]
        self._queue.clear()
        self._staging.reset()
        if isinstance(error, NoSpaceError):
            self.no_space = True
        else:
            self.stop(f"writing {self.log.current.path} failed: {error}")
        again = self.no_space and not self.fault and not frees(flying.records)
        for batch in failed:
            self._release(batch)
        for request in [request for batch in failed for request in batch.requests]:
            if request.future.done():
                continue
            if again and request.frees:
                self._decide_again(request)
            else:
                request.future.set_exception(self._error_of(error))
        self._wake()

    def _decide_again(self, request: Request) -> None:
        """`request` was decided on top of what failed, and nobody was told."""
        outcomes = self._staged(request.works)
        records = [outcome for outcome in outcomes if isinstance(outcome, Record)]
        size_bytes = sum(record.size_bytes for record in records)
        self._enqueue(Request(request.works, outcomes, request.future, request.alone), records, size_bytes)

    def _error_of(self, error: BaseException) -> StoreError:
        if isinstance(error, NoSpaceError):
            return NoSpaceError(str(error))
        return StoppedError(f"the write may be lost: {self.fault}")

    async def rotate(self) -> None:
        """Go on in a new segment of the log. Raises `NoSpaceError`, `StoppedError`."""
        self._refuse_if_stopped()
        future: asyncio.Future[None] = self._loop.create_future()
        reached: list[Position] = []

        def done(error: BaseException | None) -> None:
            if error is None:
                # What was written before has landed: jobs report in order.
                self.published = reached[0]
                future.set_result(None)
                return
            if not isinstance(error, NoSpaceError):
                self.stop(f"writing {self.log.current.path} failed: {error}")
            future.set_exception(self._error_of(error))

        self._thread.submit(lambda: reached.append(self.log.rotate()), done)
        await finish(future)

    def stop(self, fault: str) -> None:
        """No writes any more until a restart; reads and watches go on with what is durable."""
        self.fault = self.fault or fault

    async def close(self, timeout_s: float) -> None:
        """Refuse new work, wait for what is staged, end the thread."""
        self._closing = True
        self._room.set()
        batches = [self._flying, *self._queue] if self._flying else [*self._queue]
        if last := [request.future for batch in batches for request in batch.requests]:
            await asyncio.wait(last, timeout=timeout_s)
        idle: asyncio.Future[None] = self._loop.create_future()
        self._thread.submit(lambda: None, lambda _: idle.set_result(None))
        await finish(idle)
        self._thread.stop()


def _made(revision: int, events: list[Event]) -> TxnResult:
    if len(events) == 1 and (entry := events[0].entry) is not None:
        return TxnResult(True, revision, (entry,))
    return TxnResult(True, revision, tuple([event.entry for event in events if event.entry is not None]))


def _together(parts: list[list[TxnResult] | BaseException], count: int) -> list[TxnResult]:
    """The results of a long list of transactions that went to disk in parts."""
    results: list[TxnResult] = []
    for part in parts:
        if isinstance(part, StoreError):
            made = f"; the first {len(results)} of {count} transactions are made" if results else ""
            raise type(part)(f"{part}{made}")
        if isinstance(part, BaseException):
            raise part
        results += part
    return results
