"""Timestamps as the API writes them: RFC 3339 in UTC, whole seconds for `Time`, microseconds for `MicroTime`."""

from datetime import UTC, datetime
from functools import lru_cache


def timestamp(now_s: float) -> str:
    """`2026-01-02T03:04:05Z` for seconds since the epoch, cut to whole seconds."""
    return _whole_second(int(now_s))


@lru_cache(maxsize=16)
def _whole_second(now_s: int) -> str:
    """Everything that is created within a second asks for the same text."""
    return datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(now_s: float) -> str:
    """`2026-01-02T03:04:05.000006Z`."""
    return datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds(text: str) -> float:
    """Seconds since the epoch of either form. Raises ValueError for anything else."""
    return datetime.fromisoformat(text).timestamp()
