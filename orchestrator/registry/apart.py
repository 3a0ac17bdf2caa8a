"""Work on large objects is done in a thread, so that nobody else waits for it.

What checks, defaults and merges do with an object is proportional to its parts: some ten microseconds each. Objects
of more than `PARTS_MAX` (a pod has about a hundred) go to a thread, where the interpreter lets the event loop in
every few milliseconds; `AT_ONCE` bounds how many share it with the loop. What runs there is pure: it reads frozen
objects and only fills caches. Called by the writer, and where items are shown in another version.
"""

import asyncio
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from orchestrator.api.conversion import View
from orchestrator.api.item import Item

PARTS_MAX = 1000
BYTES_MAX = 16 * 1024
"""What a stored object of so many parts has at least."""
WEIGHTS = {("apiextensions.k8s.io", "customresourcedefinitions"): 20}
"""Resources (group, plural) of which a part may be a pattern, say, that is compiled."""
TEXT_BYTES = 256
"""A longer text counts as several parts."""
AT_ONCE = 2

P = ParamSpec("P")
T = TypeVar("T")


def is_large(value: Any, weight: int = 1) -> bool:
    """Whether a JSON value has more than `PARTS_MAX` parts, of which each counts `weight`."""
    left = PARTS_MAX // weight
    containers = [value]
    for container in containers:  # Grows while it is walked.
        kind = type(container)
        if kind is dict:
            parts = container.values()
        elif kind is list:
            parts = container
        else:
            continue
        left -= len(parts)
        if left < 0:
            return True
        for part in parts:
            kind = type(part)
            if kind is str:
                if len(part) > TEXT_BYTES:
                    left -= len(part) // TEXT_BYTES
            elif kind is dict or kind is list:
                containers.append(part)
    return left < 0


class Apart:
    """Owner of the turns of large work."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def run(self, large: bool, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function` returns or raises; small work is done here and now."""
        if not large:
            return function(*args, **kwargs)
        async with self._turns:
            return await asyncio.to_thread(function, *args, **kwargs)

    async def shown(self, view: View, item: Item) -> Item:
        """A kept item as `view` shows it. `View.item` does the same at once, for one that was shown before."""
        known = view.remembered(item)
        if known is not None:
            return known
        large = len(item.raw) > BYTES_MAX
        return view.remember(item, await self.run(large, view.presented, item.raw))
