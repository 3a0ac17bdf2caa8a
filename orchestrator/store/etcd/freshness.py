"""A read must see what was acknowledged before it, by whichever server: before it, the cache catches up with etcd.

Reads that wait together share one question for etcd's revision. It is asked after the last of them arrived: an
answer that was on its way already may be older than what a reader knows of. Called by the store.
"""

import asyncio

import structlog

from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.store.etcd.api import EtcdApi
from orchestrator.store.etcd.feed import Feed
from orchestrator.store.interface import NoSpaceError, StoreError, UnavailableError

log = structlog.get_logger(__name__)

PROMPT_S = 0.05
"""The watch brings what was just written well within this; then it is asked how far it is."""
MARK_S = 0.2
"""The same for a new watch where asking means to write: etcd lets those catch up every 0.1 s."""
PAUSE_S_MAX = 1.0
"""Between questions that fail."""
BUSY_S = 10.0
"""For so long after others' writes were met, more of them are expected: the watch is asked at once."""
PATIENCE_S = 5.0
"""The watch may bring nothing for this long while something is missing, reconnecting included."""
PATIENCE_S_MAX = 60.0
"""The watch has this long to follow, whatever it brings."""


class Freshness:
    """Owner of the question that is under way."""

    def __init__(self, api: EtcdApi, key: bytes, feed: Feed, supervisor: Supervisor, clock: Clock) -> None:
        self.checks = 0
        self._api = api
        self._key = key
        self._feed = feed
        self._supervisor = supervisor
        self._clock = clock
        self._waiting: list[asyncio.Future[tuple[int, bool]]] = []
        self._asking: asyncio.Task[None] | None = None
        self._catching_up: asyncio.Task[None] | None = None
        self._target = 0
        self._busy_until_s = 0.0

    async def check(self) -> None:
        """Return when the cache has all that etcd had when this was called. Raises `StoreError`."""
        future: asyncio.Future[tuple[int, bool]] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        if self._asking is None or self._asking.done():
            self._asking = self._supervisor.spawn("revision", self._ask())
        revision, ours = await future
        await self.reach(revision, ours=ours)

    async def reach(self, revision: int, *, ours: bool = False) -> None:
        """Return when the cache has everything up to `revision`, which etcd has reached. Raises `StoreError`.

        `ours` says that this revision changed something of ours, so the watch is sure to bring it.
        """
        if revision <= self._feed.cache.revision:
            return
        if not ours:
            self._target = max(self._target, revision)
            if self._catching_up is None or self._catching_up.done():
                self._catching_up = self._supervisor.spawn("catch-up", self._catch_up())
        until_s = self._clock.monotonic_s() + PATIENCE_S_MAX
        feed = self._feed
        while True:
            arrivals, attempts = feed.arrivals, feed.attempts
            if await self._arrives(revision, PATIENCE_S):
                return
            if feed.arrivals == arrivals or self._clock.monotonic_s() >= until_s:
                break
        if feed.arrivals == arrivals and feed.attempts == attempts:
            feed.restart()
        cause = feed.fault or "its watch is silent or too slow"
        raise UnavailableError(f"etcd's changes did not arrive in time: {cause}")

    async def follows(self) -> None:
        """Return once a watch brings what changes. Raises `UnavailableError`."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._feed.following()
        except TimeoutError:
            raise UnavailableError(f"etcd can't be watched: {self._feed.fault}") from None

    async def _arrives(self, revision: int, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await self._feed.cache.reached(revision)
        except TimeoutError:
            return False
        return True

    async def _ask(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            self.checks += 1
            try:
                found = await self._newest()
            except BaseException as error:
                _fail(waiting, error)
                if not isinstance(error, StoreError):
                    raise
                continue
            for future in waiting:
                if not future.done():
                    future.set_result(found)

    async def _newest(self) -> tuple[int, bool]:
        """A revision that etcd has reached by now, and whether the watch is sure to bring it.

        While others write, a mark that we write ourselves answers at once what would else take two requests.
        """
        if self._is_busy and not self._feed.fault and not self._feed.progress_is_right:
            before = self._feed.cache.revision
            try:
                revision = await self._feed.nudge()
            except StoreError as error:
                log.debug("etcd's watch was not marked", error=str(error))
                self._busy_until_s = 0.0
            else:
                if revision <= before + 1:  # Nobody else wrote.
                    self._busy_until_s = 0.0
                return revision, True
        return await self._api.revision(self._key), False

    @property
    def _is_busy(self) -> bool:
        return self._clock.monotonic_s() < self._busy_until_s

    @property
    def _missing(self) -> int:
        """The revision to catch up with, 0 for none; etcd may have lost one that was asked for."""
        target = min(self._target, self._api.newest)
        return target if target > self._feed.cache.revision else 0

    async def _catch_up(self) -> None:
        """Where nothing comes by itself, the missing revisions are not ours: the watch must be asked."""
        pause_s = self._first_pause_s()
        while target := self._missing:
            try:
                if pause_s and await self._arrives(target, pause_s):
                    pause_s = self._first_pause_s()
                else:
                    pause_s = await self._nudge(pause_s)
            except StoreError:
                continue  # etcd lost data, and is loaded anew.

    def _first_pause_s(self) -> float:
        if self._is_busy:
            return 0.0
        return PROMPT_S if self._feed.live else MARK_S

    async def _nudge(self, pause_s: float) -> float:
        """Ask the watch how far it is; returns how long to wait until it is asked again. Raises `StoreError`."""
        longer_s = min(2 * max(pause_s, PROMPT_S), PAUSE_S_MAX)
        if self._feed.fault:
            return longer_s  # A watch that is made anew brings what is missing.
        try:
            mark = await self._feed.nudge()
        except NoSpaceError as error:
            log.warning("etcd is full and others change it: loading all", error=str(error))
            self._feed.start_over(str(error))
            return PAUSE_S_MAX
        except StoreError as error:  # Readers run out of patience by themselves.
            log.debug("etcd's watch was not asked how far it is", error=str(error))
            return longer_s
        self._busy_until_s = self._clock.monotonic_s() + BUSY_S
        if not mark:
            return PROMPT_S
        await self._feed.cache.reached(mark)
        return 0.0


def _fail(waiting: list[asyncio.Future[tuple[int, bool]]], error: BaseException) -> None:
    for future in waiting:
        if not future.done():
            known = isinstance(error, StoreError)
            future.set_exception(error if known else UnavailableError("the store is closed"))
