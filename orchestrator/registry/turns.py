"""Turns at one object: writers that met at it go on one after the other, so that none starves.

A writer tries once without asking. Who lost waits for its turn, and while somebody has one, newcomers queue behind:
of twenty clients that patch one object at once each succeeds, where eight tries of each left half of them with a
conflict that Kubernetes does not give. Other servers on the same store are met by trying again within the turn.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar
from weakref import WeakValueDictionary

Done = TypeVar("Done")


class Turns:
    """Owner of the turns of one process; an object that nobody waits for has none."""

    def __init__(self) -> None:
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def take(self, key: str, attempt: Callable[[], Awaitable[Done | None]], tries: int) -> Done | None:
        """The first result of `attempt`, which gives None when somebody else was faster; None after `tries` more."""
        if key not in self._turns:
            done = await attempt()
            if done is not None:
                return done
        turn = self._turns.setdefault(key, asyncio.Lock())
        async with turn:
            for _ in range(tries):
                done = await attempt()
                if done is not None:
                    return done
        return None
