"""How long a reader waits for the watch, and when it is given up."""

import asyncio
from typing import Any, cast

import pytest

from orchestrator.base.clock import SystemClock
from orchestrator.base.tasks import Supervisor
from orchestrator.store.etcd import freshness
from orchestrator.store.etcd.cache import Cache
from orchestrator.store.etcd.freshness import Freshness
from orchestrator.store.interface import UnavailableError

REVISIONS = 12
STEP_S = 0.05


class Watch:
    """What a feed tells of itself; brings one revision per step while it works."""

    def __init__(self) -> None:
        self.cache = Cache(SystemClock())
        self.cache.replace(self.cache.blank(), 1)
        self.fault = ""
        self.live = True
        self.arrivals = self.attempts = self.restarts = 0

    def restart(self) -> None:
        self.restarts += 1
        self.attempts += 1

    async def bring(self) -> None:
        for revision in range(2, REVISIONS + 1):
            await asyncio.sleep(STEP_S)
            self.arrivals += 1
            self.cache.advance(revision)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    monkeypatch.setattr(freshness, "PATIENCE_S", 3 * STEP_S)
    return Watch()


def reader(watch: Watch) -> Freshness:
    feed: Any = watch
    clock = SystemClock()
    return Freshness(cast(Any, None), b"/", feed, Supervisor("test", clock), clock)


async def test_readers_wait_as_long_as_the_watch_brings_something(watch: Watch) -> None:
    """Catching up takes several times the patience, and is not cut off by those who wait for it."""
    waiting = reader(watch).reach(REVISIONS, ours=True)
    await asyncio.gather(watch.bring(), waiting)
    assert watch.restarts == 0


async def test_a_silent_watch_is_given_up_once_however_many_wait(watch: Watch) -> None:
    fresh = reader(watch)
    results = await asyncio.gather(
        *(fresh.reach(REVISIONS, ours=True) for _ in range(3)), return_exceptions=True
    )
    assert [type(result) for result in results] == [UnavailableError] * 3
    assert watch.restarts == 1
