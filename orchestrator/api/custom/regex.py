"""Patterns of custom schemas: RE2 syntax as in Go, matched in linear time.

Whoever may write a CustomResourceDefinition chooses both a pattern and, with an object, the text. Python's own
engine backtracks: `(a+)+$` against thirty letters takes minutes, cannot be interrupted and holds the whole
process. RE2 (the engine whose syntax Go's `regexp` has) is linear in the text and bounded in memory, so no
time-out, worker process or list of forbidden patterns is needed. Its library loads with the first pattern.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

PATTERN_LENGTH_MAX = 10_000
_MEMORY_BYTES_MAX = 4 << 20

Search = Callable[[str], Any]


class PatternError(ValueError):
    """The pattern is no valid one; the message says why."""


@lru_cache(maxsize=1024)
def search_of(pattern: str) -> Search:
    """A function that says whether the pattern occurs in a text. Raises `PatternError`."""
    import re2  # type: ignore[import-untyped,unused-ignore]

    if len(pattern) > PATTERN_LENGTH_MAX:
        raise PatternError(f"error parsing regexp: longer than {PATTERN_LENGTH_MAX} characters")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY_BYTES_MAX
    try:
        found: Search = re2.compile(pattern, options).search
    except re2.error as error:
        text = error.args[0] if error.args else ""
        raise PatternError(f"error parsing regexp: {_text(text)}") from None
    return found


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
