"""The runner: retries, isolation between keys and controllers, and one worker per key."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from orchestrator.api.errors import Conflict, NotFound
from orchestrator.base.clock import VirtualClock
from orchestrator.base.tasks import Supervisor
from orchestrator.informer.cache import Informers
from orchestrator.informer.controller import Runner


class Scripted:
    """A controller that does what its script says per key and notes every call."""

    name = "scripted"
    watches = ()
    writes = ()

    def __init__(self) -> None:
        self.script = {}
        self.calls = []
        self.running = set()

    def setup(self, informers, queue) -> None:
        self.queue = queue

    async def reconcile(self, key):
        assert key not in self.running, "two workers hold one key"
        self.running.add(key)
        try:
            self.calls.append(key)
            await asyncio.sleep(0)
            steps = self.script.get(key)
            step = steps.pop(0) if steps else None
            if isinstance(step, Exception):
                raise step
            return step
        finally:
            self.running.discard(key)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def controller(clock: VirtualClock) -> AsyncIterator[Scripted]:
    supervisor = Supervisor("test", clock)
    controller = Scripted()
    informers = Informers(None, supervisor, clock)  # type: ignore[arg-type]  # none is asked for
    Runner(controller, informers, supervisor, clock, workers=3).start()
    yield controller
    await supervisor.stop()


async def test_failures_are_retried_and_do_not_hold_up_others(controller, clock):
    controller.script["bad"] = [Conflict("lag"), ValueError("bug"), NotFound("gone")]
    controller.queue.add("bad")
    controller.queue.add("good")
    await clock.advance(0)
    assert sorted(controller.calls) == ["bad", "good"]
    await clock.advance(0.005 + 0.01 + 0.02)
    assert controller.calls.count("bad") == 4
    assert controller.queue.failures("bad") == 0, "success forgets the failures"
    await clock.advance(100)
    assert controller.calls.count("bad") == 4


async def test_the_last_error_of_a_controller_is_the_only_one_shown(controller, clock):
    name = "orchestrator_reconcile_last_error_timestamp_seconds"
    controller.script["bad"] = [ValueError("bug"), NotFound("gone")]
    controller.queue.add("bad")
    await clock.advance(0)
    assert (
        REGISTRY.get_sample_value(name, {"controller": "scripted", "reason": "ValueError"}) == clock.now_s()
    )
    await clock.advance(0.01)
    assert REGISTRY.get_sample_value(name, {"controller": "scripted", "reason": "ValueError"}) is None
    assert REGISTRY.get_sample_value(name, {"controller": "scripted", "reason": "NotFound"})


async def test_a_key_comes_again_when_reconcile_asks_for_it(controller, clock):
    controller.script["a"] = [30.0]
    controller.queue.add("a")
    await clock.advance(29)
    assert controller.calls == ["a"]
    await clock.advance(1)
    assert controller.calls == ["a", "a"]


async def test_a_key_is_worked_on_by_one_worker_at_a_time(controller, clock):
    for _ in range(20):
        controller.queue.add("a")
        controller.queue.add("b")
        await asyncio.sleep(0)
    await clock.advance(0)
    assert set(controller.calls) == {"a", "b"}
