"""Index lists of Jobs: `0,3-5,7`, ascending, each index below the number of completions. Pure.

The form of `status.completedIndexes`, `status.failedIndexes` and of a success policy's `succeededIndexes`. Called
by validation and by whoever counts the indexes of a Job.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable

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


def known(text: str, completions: int) -> list[Interval]:
    """What `text` says of the indexes below `completions`; neighbours are one interval."""
    found: list[Interval] = []
    for part in text.split(",") if text else ():
        first, dash, last = part.partition("-")
        if not _is_integer(first) or (dash and not _is_integer(last)):
            continue
        if int(first) >= completions:
            break
        found.append((int(first), min(int(last or first), completions - 1)))
    return merged(found, [])


def merged(some: list[Interval], others: list[Interval]) -> list[Interval]:
    """The indexes of both, each list in ascending order; neighbours become one interval."""
    found: list[Interval] = []
    for first, last in sorted([*some, *others]):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def of(indexes: Iterable[int]) -> list[Interval]:
    """The intervals that `indexes`, in any order, make."""
    return merged([(index, index) for index in set(indexes)], [])


def text_of(intervals: list[Interval]) -> str:
    """`0,3-5,7`; two neighbours stand as `3,4`."""
    return ",".join(
        f"{first}" if first == last else f"{first},{last}" if first + 1 == last else f"{first}-{last}"
        for first, last in intervals
    )


def contains(intervals: list[Interval], index: int) -> bool:
    at = bisect_left(intervals, index, key=lambda interval: interval[1])
    return at < len(intervals) and intervals[at][0] <= index


def missing(taken: list[Interval], number: int, completions: int) -> list[int]:
    """The first `number` indexes below `completions` that are not `taken`."""
    found: list[int] = []
    candidate = 0
    for first, last in [*taken, (completions, completions)]:
        found += range(candidate, min(first, completions, candidate + number - len(found)))
        candidate = max(candidate, last + 1)
        if len(found) >= number:
            break
    return found


def shared(some: list[Interval], others: list[Interval]) -> int:
    """How many indexes are in both."""
    return count(some) + count(others) - count(merged(some, others))


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
