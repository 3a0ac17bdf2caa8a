"""Patterns of custom schemas: RE2 syntax as in Go, matched in linear time and bounded memory.

Whoever may write a CustomResourceDefinition chooses both a pattern and, with an object, the text. Python's own
engine backtracks: `(a+)+$` against thirty letters takes minutes, cannot be interrupted and holds the whole
process. RE2 (the engine whose syntax Go's `regexp` has) is linear in the text, so no time-out, worker process or
list of forbidden patterns is needed. Its library loads with the first pattern.

What RE2 keeps for a pattern is bounded by the memory that it is given: `SMALL_BYTES`, and `LARGE_BYTES` where that is
too little. The patterns kept last share `KEPT_BYTES`; others are compiled again when they come back.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

PATTERN_LENGTH_MAX = 10_000
SMALL_BYTES = 128 << 10
LARGE_BYTES = 4 << 20
KEPT_BYTES = 48 << 20

Search = Callable[[str], Any]


class PatternError(ValueError):
    """The pattern is no valid one; the message says why."""


class Patterns:
    """Compiled patterns. Large objects are checked in threads, hence the lock."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[str, tuple[Search, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def search_of(self, pattern: str) -> Search:
        """A function that says whether the pattern occurs in a text. Raises `PatternError`."""
        with self._lock:
            found = self._kept.get(pattern)
            if found is not None:
                self._kept.move_to_end(pattern)
                return found[0]
        search, size = _compiled(pattern)
        with self._lock:
            if pattern not in self._kept:
                self._kept[pattern] = search, size
                self._bytes += size
            while self._bytes > self._kept_bytes and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1][1]
        return search

    @property
    def kept_bytes(self) -> int:
        """At most what the patterns that are kept take."""
        return self._bytes


search_of = Patterns().search_of


def _compiled(pattern: str) -> tuple[Search, int]:
    """The pattern and what it may take at most."""
    import re2  # type: ignore[import-untyped,unused-ignore]

    if len(pattern) > PATTERN_LENGTH_MAX:
        raise PatternError(f"error parsing regexp: longer than {PATTERN_LENGTH_MAX} characters")
    options = re2.Options()
    options.log_errors = False
    fault: Any = ""
    for size in (SMALL_BYTES, LARGE_BYTES):
        options.max_mem = size
        try:
            return re2.compile(pattern, options).search, size
        except re2.error as error:
            fault = error.args[0] if error.args else ""
            if b"too large" not in (fault if isinstance(fault, bytes) else str(fault).encode()):
                break
    text = fault.decode(errors="replace") if isinstance(fault, bytes) else str(fault)
    raise PatternError(f"error parsing regexp: {text}")
