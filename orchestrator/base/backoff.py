"""Exponential back-off per key, as pure bookkeeping: no clock, no sleeping."""

import random


class Backoff:
    """Delays that double from `initial_s` up to `max_s`, spread by up to `jitter` of themselves."""

    def __init__(
        self, initial_s: float, max_s: float, jitter: float = 0.0, rng: random.Random | None = None
    ) -> None:
        self.initial_s = initial_s
        self.max_s = max_s
        self.jitter = jitter
        self._rng = rng
        """Made when it is first needed: its 2.5 KB are much for one of thousands of tasks that never fail."""
        self._failures: dict[str, int] = {}

    def next_s(self, key: str = "") -> float:
        """The delay before the next try of `key`; each call counts as one more failure."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay_s = min(self.max_s, self.initial_s * 2.0 ** min(failures, 60))
        if not self.jitter:
            return delay_s
        self._rng = self._rng or random.Random()
        return delay_s * (1 + self.jitter * self._rng.random())

    def failures(self, key: str = "") -> int:
        """How often `next_s(key)` was asked since the last `reset`."""
        return self._failures.get(key, 0)

    def reset(self, key: str = "") -> None:
        """Forget the failures of `key`; forgetting an unknown key is fine."""
        self._failures.pop(key, None)
