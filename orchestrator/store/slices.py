"""Runs work that is cut into slices, so that none of it holds the loop for long. Used by the engines' reads."""

import asyncio
from typing import cast

from orchestrator.store.state import Result, State, Steps


async def sliced(state: State, steps: Steps[Result], revision: int) -> Result:
    """What `steps` returns; others get their turn at each of its yields, while `revision` is held.

    Where there is but one slice, nobody else runs meanwhile.
    """
    try:
        next(steps)
    except StopIteration as done:
        return cast(Result, done.value)
    state.hold(revision)
    try:
        while True:
            await asyncio.sleep(0)
            try:
                next(steps)
            except StopIteration as done:
                return cast(Result, done.value)
    finally:
        state.release(revision)
        steps.close()
