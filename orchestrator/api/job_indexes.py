"""Index lists of Jobs: `0,3-5,7`, ascending, each index below the number of completions. Pure.

The form of `status.completedIndexes`, `status.failedIndexes` and of a success policy's `succeededIndexes`. Called
by validation and by whoever counts the indexes of a Job.
"""

import re

from orchestrator.base.errors import OrchestratorError

Interval = tuple[int, int]
"""First and last index, both included."""

_is_integer = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII).fullmatch


class IndexesError(OrchestratorError):
    """The text is no list of indexes. The message is Kubernetes'."""


def parse(text: str, completions: int) -> list[Interval]:
    """The intervals of `text`; none for an empty one. Raises `IndexesError`."""
    found: list[Interval] = []
    for part in text.split(",") if text else ():
        interval = _interval(part, completions)
        if found and found[-1][1] >= interval[0]:
            raise IndexesError(f"non-increasing order, previous: {found[-1][1]}, current: {interval[0]}")
        found.append(interval)
    return found


def count(intervals: list[Interval]) -> int:
    return sum(last - first + 1 for first, last in intervals)


def overlap(some: list[Interval], others: list[Interval]) -> int | None:
    """The first index that is in both."""
    at = beside = 0
    while at < len(some) and beside < len(others):
        (first, last), (start, end) = some[at], others[beside]
        if first <= end and start <= last:
            return max(first, start)
        if first <= start:
            at += 1
        else:
            beside += 1
    return None


def readable(text: str, completions: int) -> list[Interval]:
    """The intervals that can be read, whatever is beside them."""
    found = []
    for part in text.split(",") if text else ():
        try:
            found.append(_interval(part, completions))
        except IndexesError:
            continue
    return found


def _interval(text: str, completions: int) -> Interval:
    parts = text.split("-")
    if len(parts) > 2:
        raise IndexesError(
            f'the fragment "{text}" violates the requirement that an index interval can have at most two parts'
            " separated by '-'"
        )
    first = _index(parts[0], completions)
    if len(parts) == 1:
        return first, first
    last = _index(parts[1], completions)
    if first >= last:
        raise IndexesError(f"non-increasing order, previous: {first}, current: {last}")
    return first, last


def _index(text: str, completions: int) -> int:
    if not _is_integer(text):
        raise IndexesError(f'cannot convert string to integer for index: "{text}"')
    index = int(text)
    if index >= completions:
        raise IndexesError(f'too large index: "{text}"')
    return index
