"""A read must see what was acknowledged before it, by whichever server: before it, the cache catches up with etcd.

Reads that wait together share one question for etcd's revision. It is asked after the last of them arrived: an
answer that was on its way already may be older than what a reader knows of. Called by the store.
"""

import asyncio

import structlog

from orchestrator.base.tasks import Supervisor
from orchestrator.store.etcd.api import EtcdApi
from orchestrator.store.etcd.feed import Feed
from orchestrator.store.interface import StoreError, UnavailableError

log = structlog.get_logger(__name__)

PROMPT_S = 0.05
"""The watch brings what was just written well within this; then it is asked how far it is."""
MARK_S = 0.2
"""The same where asking means to write, and for a new watch: etcd lets those catch up every 0.1 s."""
PATIENCE_S = 5.0
"""The watch has this long to follow, reconnecting included."""


class Freshness:
    """Owner of the question that is under way."""

    def __init__(self, api: EtcdApi, key: bytes, feed: Feed, supervisor: Supervisor) -> None:
        self.checks = 0
        self._api = api
        self._key = key
        self._feed = feed
        self._supervisor = supervisor
        self._waiting: list[asyncio.Future[int]] = []
        self._asking: asyncio.Task[None] | None = None
        self._catching_up: asyncio.Task[None] | None = None
        self._target = 0

    async def check(self) -> None:
        """Return when the cache has all that etcd had when this was called. Raises `StoreError`."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        if self._asking is None or self._asking.done():
            self._asking = self._supervisor.spawn("revision", self._ask())
        await self.reach(await future)

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
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._feed.cache.reached(revision)
        except TimeoutError:
            self._feed.restart()
            cause = self._feed.fault or "its watch is silent"
            raise UnavailableError(
                f"etcd's changes did not arrive within {PATIENCE_S:.0f} s: {cause}"
            ) from None

    async def _ask(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            self.checks += 1
            try:
                revision = await self._api.revision(self._key)
            except BaseException as error:
                _fail(waiting, error)
                if not isinstance(error, StoreError):
                    raise
                continue
            for future in waiting:
                if not future.done():
                    future.set_result(revision)

    async def _catch_up(self) -> None:
        """Where nothing comes by itself, the missing revisions are not ours: the watch must be asked."""
        wait_s = PROMPT_S if self._feed.live and self._feed.progress_is_right else MARK_S
        while self._feed.cache.revision < self._target:
            try:
                async with asyncio.timeout(wait_s):
                    await self._feed.cache.reached(self._target)
            except TimeoutError:
                await self._feed.cache.reached(await self._nudge())
                wait_s = min(2 * wait_s, 1.0)

    async def _nudge(self) -> int:
        if self._feed.fault:
            return 0  # A watch that is made anew brings what is missing.
        try:
            return await self._feed.nudge()
        except StoreError as error:  # Readers run out of patience by themselves.
            log.debug("etcd's watch was not asked how far it is", error=str(error))
            return 0


def _fail(waiting: list[asyncio.Future[int]], error: BaseException) -> None:
    for future in waiting:
        if not future.done():
            known = isinstance(error, StoreError)
            future.set_exception(error if known else UnavailableError("the store is closed"))
