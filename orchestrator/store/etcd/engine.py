"""The distributed engine: `interface.Store` on etcd. Opened and closed by `daemon`; several servers share one etcd.

Writes go to etcd, one transaction each, and are answered when the cache has them: durable is what etcd's majority
has synced. Reads and watches are served from the cache, reads after it has caught up with etcd.
"""

import asyncio
from collections.abc import Sequence

import structlog

from orchestrator.base.clock import Clock
from orchestrator.base.right import right_to_write
from orchestrator.base.tasks import Supervisor
from orchestrator.store.etcd import transactions
from orchestrator.store.etcd.api import EtcdApi, changed
from orchestrator.store.etcd.cache import Cache
from orchestrator.store.etcd.feed import Feed
from orchestrator.store.etcd.freshness import Freshness
from orchestrator.store.etcd.keys import Keys
from orchestrator.store.etcd.maintenance import Maintenance
from orchestrator.store.interface import (
    PREVIOUS,
    CompactedError,
    Entry,
    NoSpaceError,
    Put,
    RangeResult,
    StoreError,
    Txn,
    TxnResult,
    UnavailableError,
    UnknownOutcomeError,
    following,
)
from orchestrator.store.sealing import Sealer, SealError
from orchestrator.store.slices import sliced
from orchestrator.store.watch import LogWatch, closed_error

log = structlog.get_logger(__name__)

WRITES_MAX = 256
"""Transactions under way at once; further ones wait."""
REPEATS_MAX = 3
HISTORY_PATIENCE_S = 10.0
"""A start waits this long for history."""


class EtcdStore:
    """See `interface.Store`. Make one with `open`."""

    dropped = None
    """What the embedded engine may have lost at its start; etcd looks after its own log."""

    def __init__(
        self, api: EtcdApi, keys: Keys, clock: Clock, supervisor: Supervisor, sealer: Sealer | None
    ) -> None:
        self.no_space = False
        """Whether etcd refused the last write because its database is full (its NOSPACE alarm)."""
        self.repeats = 0
        """Transactions sent again because their answer was lost."""
        self._api = api
        self._keys = keys
        self._sealer = sealer
        self._cache = Cache(clock)
        self._feed = Feed(api, keys, self._cache, clock, sealer)
        self._supervisor = Supervisor("store/etcd", clock)
        self._freshness = Freshness(api, keys.first, self._feed, self._supervisor, clock)
        self._maintenance = Maintenance(self, self._cache, clock)
        self._room = asyncio.Semaphore(WRITES_MAX)
        self._tasks: list[asyncio.Task[None]] = []
        self._parent = supervisor
        self._closed = False

    @classmethod
    async def open(
        cls,
        api: EtcdApi,
        clock: Clock,
        supervisor: Supervisor | None = None,
        *,
        keys: Keys | None = None,
        sealer: Sealer | None = None,
    ) -> "EtcdStore":
        """Load what etcd has. Raises `StoreError` when it does not answer or does not let us."""
        store = cls(api, keys or Keys(), clock, supervisor or Supervisor("store", clock), sealer)
        mark = await store._load()
        store._tasks = [
            store._parent.serve("etcd-watch", store._feed.run),
            store._parent.serve("etcd-history", store._maintenance.forget),
        ]
        try:
            await store._begin(mark)
            await store._freshness.follows()
            await store.ping()
        except BaseException:
            await store.close()
            raise
        return store

    async def _load(self) -> int:
        """All that etcd has up to some revision; returns one that the watch will bring.

        What it takes to know that the watch has brought everything can't be written to a full etcd: then all is
        loaded as it is now.
        """
        try:
            await self._feed.load()
        except SealError as error:
            log.warning("etcd's history does not open: doing without", cause=str(error))
            await self._feed.load(history=False)
        try:
            mark = await self._feed.stock_up()
            self.no_space = self._feed.full
            return mark
        except NoSpaceError:
            self.no_space = True
            await self._feed.load(history=False)
            return self._cache.revision

    async def _begin(self, mark: int) -> None:
        """Wait until the watch has brought all; history that takes too long is done without."""
        try:
            async with asyncio.timeout(HISTORY_PATIENCE_S):
                await self._freshness.reach(mark, ours=True)
            self._feed.in_history = False
            return
        except (TimeoutError, UnavailableError) as error:
            cause = str(error) or f"more than {HISTORY_PATIENCE_S:.0f} s"
            log.warning("etcd's history takes too long: watches of before must list again", cause=cause)
        self._feed.start_over("its history takes too long")
        await self._freshness.reach(mark, ours=True)

    @property
    def revision(self) -> int:
        return self._cache.revision

    @property
    def compact_revision(self) -> int:
        """The oldest revision that this server can read."""
        return self._cache.state.floor

    @property
    def healthy(self) -> bool:
        """Whether this server follows etcd; it comes back by itself."""
        return not self._feed.fault and not self._closed

    @property
    def fault(self) -> str:
        """Why etcd is not followed at the moment; empty while it is."""
        return self._feed.fault

    async def ping(self) -> None:
        """Ask etcd for its revision and wait until the cache has it. Raises `StoreError`."""
        self._refuse_if_closed()
        await self._freshness.check()

    async def get(self, key: str) -> Entry | None:
        await self.ping()
        return self._cache.state.get(key)

    async def range(
        self, prefix: str, *, start_after: str = "", limit: int = 0, revision: int = 0
    ) -> RangeResult:
        """See `Store.range`. Without `revision`, or with one that is not here yet, the cache catches up first."""
        if revision == 0 or revision > self._cache.revision:
            await self.ping()
        state = self._cache.state
        at = state.readable(revision)
        return await sliced(state, state.reading(prefix, start_after, limit, at), at)

    async def transact(self, txn: Txn) -> TxnResult:
        """See `Store.transact`. Raises `UnknownOutcomeError` where nobody can tell whether it was made."""
        self._refuse_if_closed()
        transactions.check(txn)
        async with self._room:
            return await self._made_once(txn)

    async def transact_many(self, txns: Sequence[Txn]) -> list[TxnResult]:
        """Run several at the same time; those that share a key one after the other, in order.

        etcd has no batch of independent transactions (a nested one is judged as a whole, on what was before it).
        "One sync" is therefore etcd's doing: what arrives while its log is being synced shares the next one.
        """
        last: dict[str, asyncio.Task[TxnResult]] = {}
        writers: dict[str, asyncio.Task[TxnResult]] = {}
        tasks: list[asyncio.Task[TxnResult]] = []
        for number, txn in enumerate(txns):
            names = {step.key for step in (*txn.compares, *txn.operations)}
            before = {last[name] for name in names if name in last}
            follows = {
                compare.key: writers[compare.key]
                for compare in txn.compares
                if compare.revision == PREVIOUS and compare.key in writers
            }
            task = self._supervisor.spawn(f"transaction-{number}", self._after(before, follows, txn))
            tasks.append(task)
            writers.update((step.key, task) for step in txn.operations)
            last.update(dict.fromkeys(names, task))
        results = await asyncio.gather(*tasks, return_exceptions=True)
        return [_unless_failed(result) for result in results]

    def watch(self, prefix: str, after_revision: int) -> LogWatch:
        """See `Store.watch`. A revision that only other servers have seen yet is fine: later events come."""
        return self._cache.hub.watch(prefix, after_revision)

    async def compact(self, revision: int) -> None:
        """Forget history before `revision` in etcd, for every server, and here at once."""
        self._refuse_if_closed()
        if revision > self._cache.revision:
            await self.ping()
        try:
            await self._api.compact(revision)
        except CompactedError:
            log.debug("etcd has been compacted that far already", revision=revision)
        await self._freshness.reach(revision)
        self._cache.raise_floor(revision)

    async def compact_by_age(self) -> None:
        """Keep etcd's history as short as ours, for as long as this runs: the leader's work."""
        await self._maintenance.compact()

    async def lease_grant(self, ttl_s: int) -> int:
        self._refuse_if_closed()
        return await self._api.lease_grant(max(1, ttl_s))

    async def lease_keep_alive(self, lease: int) -> int:
        self._refuse_if_closed()
        return await self._api.lease_keep_alive(lease)

    async def lease_revoke(self, lease: int) -> None:
        """See `Store.lease_revoke`; the deletions are visible when this returns."""
        self._refuse_if_closed()
        await self._api.lease_revoke(lease)
        await self._freshness.check()

    def stats(self) -> dict[str, float]:
        """Figures for metrics; bytes and counts since the start as their names say."""
        state = self._cache.state
        return {
            "revision": state.revision,
            "compact_revision": state.floor,
            "keys": len(state),
            "live_bytes": state.live_bytes,
            "history_bytes": state.history_bytes,
            "history_events": state.history_events,
            "watches": len(self._cache.hub),
            "slow_watches_total": self._cache.slow_watches + self._cache.hub.dropped,
            "loads_total": self._cache.loads,
            "data_losses_total": self._cache.losses,
            "reconnects_total": max(0, self._feed.connects - 1),
            "revision_checks_total": self._freshness.checks,
            "repeats_total": self.repeats,
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
        await self._supervisor.stop()
        self._cache.hub.stop(closed_error())

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise closed_error()

    async def _made_once(self, txn: Txn) -> TxnResult:
        """Send until it is known what became of it. Only the first sending's answer can be taken as it is.

        What was sent before may land at any time, so a repeat that fails may have failed because of it.
        """
        since = self._cache.revision, self._cache.losses
        try:
            return await self._send(txn)
        except UnknownOutcomeError:
            if not transactions.repeatable(txn):
                raise
        for _ in range(REPEATS_MAX):
            traced = await self._trace(txn, since)
            if traced is not None:
                return traced
            self.repeats += 1
            result = await self._repeat(txn)
            if result is not None:
                return result
        traced = await self._trace(txn, since)
        if traced is None:
            raise UnknownOutcomeError("etcd gave no answer several times, the write may still be made")
        return traced

    async def _repeat(self, txn: Txn) -> TxnResult | None:
        """The result if it succeeded; None where only the trace can tell."""
        try:
            result = await self._send(txn)
        except UnknownOutcomeError:
            return None
        except StoreError as error:
            raise UnknownOutcomeError(
                f"etcd gave no answer, the write may have been made; repeated, it failed: {error}"
            ) from error
        return result if result.succeeded else None

    async def _send(self, txn: Txn) -> TxnResult:
        request = transactions.request_of(txn, self._keys, self._sealer)
        try:
            answer = await self._api.txn(request, right_to_write.get())
        except NoSpaceError:
            self.no_space = True
            raise
        revision = int(answer["header"]["revision"])
        if not answer.get("succeeded"):
            await self._freshness.reach(revision)
            return TxnResult(False, revision, (), transactions.failed_keys(txn, answer))
        if not changed(answer):
            await self._freshness.reach(revision)
            return TxnResult(True, revision)
        self.no_space = False
        try:
            await self._freshness.reach(revision, ours=True)
        except UnavailableError as error:
            raise UnknownOutcomeError(f"the write was made, but can't be read yet: {error}") from error
        return TxnResult(True, revision, await self._written(txn, revision))

    async def _written(self, txn: Txn, revision: int) -> tuple[Entry, ...]:
        """The entry per `Put`: the cache's own, or etcd's where all was loaded anew since."""
        found = self._cache.entries_of(revision)
        return tuple(
            [
                found.get(step.key) or await self._written_entry(step.key, revision)
                for step in txn.operations
                if isinstance(step, Put)
            ]
        )

    async def _written_entry(self, key: str, revision: int) -> Entry:
        entry = self._cache.state.get(key)
        if entry is not None and entry.revision == revision:
            return entry
        try:
            entry = await self._feed.read(key, revision)
        except StoreError as error:
            raise UnknownOutcomeError(f"the write was made, but can't be read any more: {error}") from error
        if entry is None:
            raise UnknownOutcomeError(f"the write of {key} was made, but etcd lost it since")
        return entry

    async def _trace(self, txn: Txn, since: tuple[int, int]) -> TxnResult | None:
        """What became of a transaction whose answer was lost; None when it is to be sent again.

        `since` is the cache's revision and its count of losses at the time when it was sent.
        """
        try:
            await self._freshness.check()
            if self._cache.losses != since[1]:
                raise UnavailableError("etcd lost data since")
            return transactions.trace(txn, self._cache.state, since[0])
        except StoreError as error:
            raise UnknownOutcomeError(
                f"etcd gave no answer, the write may have been made: {error}"
            ) from error

    async def _after(
        self,
        before: set[asyncio.Task[TxnResult]],
        follows: dict[str, asyncio.Task[TxnResult]],
        txn: Txn,
    ) -> TxnResult:
        if before:
            await asyncio.wait(before)
        made = {key: _revision_of(writer) for key, writer in follows.items()}
        return await self.transact(following(txn, made))


def _revision_of(writer: asyncio.Task[TxnResult]) -> int:
    """Of its write; `PREVIOUS` when it wrote nothing."""
    made = not writer.cancelled() and writer.exception() is None and writer.result().succeeded
    return writer.result().revision if made else PREVIOUS


def _unless_failed(result: TxnResult | BaseException) -> TxnResult:
    if isinstance(result, BaseException):
        raise result
    return result
