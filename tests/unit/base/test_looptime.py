"""Turns of the loop are measured in CPU time: waiting is none."""

import asyncio
import time

from orchestrator.base.looptime import TICK_S, LoopTime


async def after_ticks(watch: LoopTime, hold: float, used_s: float) -> None:
    """Let it tick, hold the loop for `hold` seconds of the wall or `used_s` of CPU, and let it tick again."""
    watch.start()
    await asyncio.sleep(2 * TICK_S)
    time.sleep(hold)  # noqa: ASYNC251 - this is what is tested
    end_s = time.thread_time() + used_s
    while time.thread_time() < end_s:
        pass
    await asyncio.sleep(2 * TICK_S)
    watch.stop()


async def test_a_callback_that_computes_is_told() -> None:
    watch = LoopTime()
    await after_ticks(watch, 0, 0.08)
    assert watch.longest_s >= 0.08 - TICK_S
    assert watch.slow_turns >= 1


async def test_a_machine_that_stands_still_is_no_slow_callback() -> None:
    watch = LoopTime()
    await after_ticks(watch, 0.2, 0)
    assert watch.longest_s < 0.1


async def test_it_may_be_stopped_twice() -> None:
    watch = LoopTime()
    watch.start()
    watch.stop()
    watch.stop()
