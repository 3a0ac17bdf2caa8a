"""Many changes become one look: a key is woken at once after a pause, else when the pause is over.

Owner of a `Spacing`: one controller, which says when it looked at a key and when it forgets it.
"""

from orchestrator.base.clock import Clock
from orchestrator.informer.queue import WorkQueue

SPACING_S = 0.1


class Spacing:
    """At least `SPACING_S` between two looks at a key that changes of others wake."""

    def __init__(self, queue: WorkQueue, clock: Clock) -> None:
        self._queue = queue
        self._clock = clock
        self._looked_s: dict[str, float] = {}

    def wake(self, key: str) -> None:
        last_s = self._looked_s.get(key)
        wait_s = 0.0 if last_s is None else last_s + SPACING_S - self._clock.monotonic_s()
        self._queue.add_after(key, wait_s)

    def looked(self, key: str) -> None:
        self._looked_s[key] = self._clock.monotonic_s()

    def forget(self, key: str) -> None:
        self._looked_s.pop(key, None)
