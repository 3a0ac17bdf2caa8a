"""The work queue: one worker per key, nothing missed, delays and back-off on a clock that tests drive."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from orchestrator.base.clock import VirtualClock
from orchestrator.base.tasks import Supervisor
from orchestrator.informer.queue import RETRY_MAX_S, WorkQueue


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def supervisor(clock: VirtualClock) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor("test", clock)
    yield supervisor
    await supervisor.stop()


@pytest.fixture
def queue(clock: VirtualClock, supervisor: Supervisor) -> WorkQueue:
    return WorkQueue("test", supervisor, clock, capacity=5)


async def test_a_key_waits_once_however_often_it_is_added(queue):
    for key in ("a", "b", "a", "a"):
        queue.add(key)
    assert len(queue) == 2
    assert [await queue.take(), await queue.take()] == ["a", "b"]


async def test_a_key_added_during_work_comes_again_after_done(queue):
    queue.add("a")
    await queue.take()
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0, "a second worker must not get it"
    queue.done("a")
    assert await queue.take() == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_take_waits_for_a_key(queue):
    taken = asyncio.ensure_future(queue.take())
    await asyncio.sleep(0)
    queue.add("a")
    assert await taken == "a"


async def test_delays_ring_in_order_of_time(queue, clock):
    queue.add_after("late", 10)
    queue.add_after("early", 1)
    queue.add_after("early", 5)
    queue.add_after("late", 2)
    await clock.advance(0.5)
    assert len(queue) == 0
    await clock.advance(0.6)
    assert await queue.take() == "early"
    await clock.advance(1)
    assert await queue.take() == "late"
    queue.done("early")
    queue.done("late")
    await clock.advance(20)
    assert len(queue) == 0, "an earlier delay replaces a later one"


async def test_no_delay_adds_at_once(queue):
    queue.add_after("a", 0)
    assert await queue.take() == "a"


async def test_retries_back_off_until_forgotten(queue, clock):
    for failures in range(4):
        queue.retry("a")
        await clock.advance(0.005 * 2**failures - 0.001)
        assert len(queue) == 0
        await clock.advance(0.001)
        assert await queue.take() == "a"
        queue.done("a")
    assert queue.failures("a") == 4
    queue.forget("a")
    queue.retry("a")
    await clock.advance(0.005)
    assert await queue.take() == "a"


async def test_back_off_ends_at_its_maximum(queue, clock):
    for _ in range(60):
        queue.retry("a")
        await clock.advance(RETRY_MAX_S)
        assert await queue.take() == "a"
        queue.done("a")


async def test_a_full_queue_refuses_new_keys_but_keeps_the_old(queue):
    for n in range(4):
        queue.add(f"k{n}")
    queue.add_after("delayed", 1)
    queue.add("one too many")
    queue.add_after("another", 1)
    queue.add("k0")
    assert len(queue) == 4


async def test_the_timer_ends_when_nothing_is_delayed(queue, clock, supervisor):
    queue.add_after("a", 1)
    queue.add_after("b", 0.5)
    await clock.advance(2)
    assert supervisor.names == []
