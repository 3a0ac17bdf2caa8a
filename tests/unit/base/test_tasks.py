"""Supervised tasks: they restart, fail alone, and all end when their owner says so."""

import asyncio
import itertools

import pytest

from orchestrator.base.clock import VirtualClock
from orchestrator.base.tasks import Supervisor


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


async def test_a_service_that_fails_is_run_again_after_a_growing_pause(clock: VirtualClock) -> None:
    supervisor, runs = Supervisor("t", clock), []

    async def fail() -> None:
        runs.append(clock.monotonic_s())
        raise ValueError("again")

    supervisor.serve("s", fail)
    await clock.advance(2.0)
    pauses = [later - earlier for earlier, later in itertools.pairwise(runs)]
    assert len(runs) >= 4
    assert all(later > earlier for earlier, later in itertools.pairwise(pauses))
    assert supervisor.failures["s"] == len(runs)
    await supervisor.stop()


async def test_a_service_that_held_a_minute_starts_its_pauses_anew(clock: VirtualClock) -> None:
    supervisor, runs = Supervisor("t", clock), []

    async def hold() -> None:
        runs.append(clock.monotonic_s())
        await clock.sleep(0 if len(runs) < 6 else 100)
        raise ValueError("again")

    supervisor.serve("s", hold)
    await clock.advance(120)
    assert runs[6] - runs[5] - 100 < 0.2
    await supervisor.stop()


async def test_a_service_that_returns_has_ended(clock: VirtualClock) -> None:
    supervisor, runs = Supervisor("t", clock), []

    async def once() -> None:
        runs.append(1)

    await supervisor.serve("s", once)
    await clock.advance(100)
    assert runs == [1] and supervisor.names == []


async def test_one_failure_leaves_the_siblings_running(clock: VirtualClock) -> None:
    supervisor = Supervisor("t", clock)

    async def fail() -> None:
        raise ValueError("alone")

    forever = supervisor.spawn("forever", asyncio.Event().wait())
    failing = supervisor.spawn("failing", fail())
    await asyncio.wait({failing})
    assert not forever.done()
    assert supervisor.failures == {"t/failing": 1}
    await supervisor.stop()
    assert forever.cancelled()


async def test_stop_waits_for_what_cleans_up_and_for_what_it_spawns(clock: VirtualClock) -> None:
    supervisor, done = Supervisor("t", clock), []

    async def late() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            done.append("late")

    async def cleans() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            supervisor.spawn("late", late())
            await asyncio.sleep(0)
            done.append("cleaned")

    supervisor.spawn("cleans", cleans())
    await asyncio.sleep(0)
    await supervisor.stop()
    assert done[0] == "cleaned" and supervisor.names == []
    await supervisor.stop()


async def test_a_task_may_stop_its_own_supervisor(clock: VirtualClock) -> None:
    supervisor = Supervisor("t", clock)
    other = supervisor.spawn("other", asyncio.Event().wait())
    await supervisor.spawn("self", supervisor.stop())
    assert other.cancelled()
