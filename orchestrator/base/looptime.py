"""How long single turns of the event loop take: what holds it up holds up every request.

A tick every 20 ms looks how late it is and how much CPU the loop's thread has used since the one before; the
lesser of the two is what the turn took. So a machine that stands still is not taken for a slow callback, and many
short callbacks are not either. Run by the daemon, shown in metrics.
"""

import asyncio
import time

TICK_S = 0.02
WINDOW_S = 60.0
"""The longest turn of this window and of the one before is told."""
SLOW_S = 0.02
"""No callback may hold the loop longer; longer turns are counted."""


class LoopTime:
    """Owner of one timer on the running loop."""

    def __init__(self) -> None:
        self.slow_turns = 0
        """Turns longer than `SLOW_S` since the start."""
        self._longest_s = self._before_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def longest_s(self) -> float:
        """The longest turn of the last one to two minutes, in CPU seconds."""
        return max(self._longest_s, self._before_s)

    def start(self) -> None:
        """Begin on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._window_end_s = self._loop.time() + WINDOW_S
        self._again()

    def stop(self) -> None:
        """End the timer; may be called twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self) -> None:
        self._due_s = self._loop.time() + TICK_S
        self._used_s = time.thread_time()
        self._timer = self._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        now_s = self._loop.time()
        turn_s = min(now_s - self._due_s, time.thread_time() - self._used_s)
        if turn_s > self._longest_s:
            self._longest_s = turn_s
        if turn_s > SLOW_S:
            self.slow_turns += 1
        if now_s >= self._window_end_s:
            self._before_s, self._longest_s = self._longest_s, 0.0
            self._window_end_s = now_s + WINDOW_S
        self._again()
