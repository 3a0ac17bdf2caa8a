"""Garbage collection on purpose: no automatic full collection, which would stall the loop for tens of ms.

What is there after the start is frozen (never looked at again); young objects are collected as usual; a full
collection runs at long intervals, over what came since.
"""

import gc

from orchestrator.base.clock import Clock

YOUNG = 20_000
MIDDLE = 20
NEVER = 1_000_000
FULL_S = 1800.0


def settle() -> None:
    """Collect, freeze what lives, and switch automatic full collections off. Call when the start is done."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, NEVER)


async def collect(clock: Clock) -> None:
    """A full collection now and then."""
    while True:
        await clock.sleep(FULL_S)
        gc.collect()
