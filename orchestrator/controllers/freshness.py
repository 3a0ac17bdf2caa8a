"""Read your own writes: a controller does not decide from a cache that lacks what it wrote itself.

After a write, `wrote` notes its revision for the key; until the cache reached it, `fresh` is False and the
controller waits for the event that is on its way. So a lagging cache never makes anything twice.
"""

from orchestrator.api.item import Object
from orchestrator.informer.cache import Informer

LAG_S = 0.05
"""When to look again at a cache that lags. The awaited event normally wakes the key earlier."""


class Freshness:
    """Revisions that caches must reach, per key. Owner: one controller."""

    def __init__(self) -> None:
        self._needed: dict[str, dict[Informer, int]] = {}

    def wrote(self, key: str, informer: Informer, written: Object) -> None:
        """`written` is what the client answered to a write of something that `informer` mirrors."""
        needed = self._needed.setdefault(key, {})
        needed[informer] = max(needed.get(informer, 0), int(written["metadata"]["resourceVersion"]))

    def fresh(self, key: str) -> bool:
        """Whether every cache shows what was written for `key`."""
        needed = self._needed.get(key)
        if needed is None:
            return True
        if any(informer.revision < revision for informer, revision in needed.items()):
            return False
        del self._needed[key]
        return True

    def forget(self, key: str) -> None:
        self._needed.pop(key, None)
