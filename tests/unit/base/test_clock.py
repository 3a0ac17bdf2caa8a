"""The clock of tests must itself be right."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.base.backoff import Backoff
from orchestrator.base.clock import SystemClock, VirtualClock
from orchestrator.base.tasks import Supervisor


async def test_sleepers_wake_in_order_and_at_their_time() -> None:
    clock, woken = VirtualClock(), []
    supervisor = Supervisor("t", clock)

    async def sleep(duration_s: float) -> None:
        await clock.sleep(duration_s)
        woken.append((duration_s, clock.monotonic_s()))

    for duration_s in (3.0, 1.0, 2.0, 1.0):
        supervisor.spawn("s", sleep(duration_s))
    await clock.advance(2.5)
    assert woken == [(1.0, 1.0), (1.0, 1.0), (2.0, 2.0)]
    assert clock.monotonic_s() == 2.5
    await clock.advance(1)
    assert woken[-1] == (3.0, 3.0)


async def test_who_sleeps_again_within_one_advance_is_woken_again() -> None:
    clock, ticks = VirtualClock(start_s=100.0), []
    supervisor = Supervisor("t", clock)

    async def tick() -> None:
        while True:
            await clock.sleep(10)
            ticks.append(clock.now_s())

    supervisor.spawn("tick", tick())
    await clock.advance(35)
    assert ticks == [110, 120, 130]
    await supervisor.stop()


async def test_a_cancelled_sleeper_disturbs_nobody() -> None:
    clock = VirtualClock()
    supervisor = Supervisor("t", clock)
    supervisor.spawn("s", clock.sleep(1))
    await asyncio.sleep(0)
    await supervisor.stop()
    await clock.advance(2)
    assert clock.monotonic_s() == 2


async def test_the_machines_clock_takes_a_time_in_the_past() -> None:
    await SystemClock().sleep(-1)


@given(st.integers(0, 200), st.floats(0.01, 10), st.floats(10, 1000), st.floats(0, 1))
def test_delays_grow_to_their_bound_and_no_further(
    calls: int, initial_s: float, max_s: float, jitter: float
) -> None:
    backoff = Backoff(initial_s, max_s, jitter)
    delays = [backoff.next_s("k") for _ in range(calls)]
    assert all(initial_s <= delay <= max_s * (1 + jitter) for delay in delays)
    assert backoff.failures("k") == calls and backoff.failures("other") == 0
    backoff.reset("k")
    assert backoff.next_s("k") <= initial_s * (1 + jitter)
