"""Strings in order, in blocks: insertion moves at most one block, counting adds up block lengths."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

BLOCK_KEYS_MAX = 512


def end_of_prefix(prefix: str) -> str | None:
    """The smallest string greater than every string that starts with `prefix`; None if there is none."""
    stem = prefix.rstrip("\U0010ffff")
    return stem[:-1] + chr(ord(stem[-1]) + 1) if stem else None


class SortedKeys:
    """A sorted set of strings. Order is by code point, as is that of their UTF-8 bytes."""

    def __init__(self, ordered: Sequence[str] = ()) -> None:
        """`ordered` are its first keys, in order."""
        size = BLOCK_KEYS_MAX
        self._blocks = [list(ordered[at : at + size]) for at in range(0, len(ordered), size)]
        self._highest = [block[-1] for block in self._blocks]

    def add(self, key: str) -> None:
        """Insert `key`, which must be absent."""
        if not self._blocks:
            self._blocks.append([key])
            self._highest.append(key)
            return
        at = min(bisect_left(self._highest, key), len(self._blocks) - 1)
        block = self._blocks[at]
        block.insert(bisect_left(block, key), key)
        self._highest[at] = block[-1]
        if len(block) > BLOCK_KEYS_MAX:
            self._split(at)

    def _split(self, at: int) -> None:
        block = self._blocks[at]
        # Keys often arrive in order: a full block then stays full, and the new one takes what comes.
        cut = len(block) - 1 if at == len(self._blocks) - 1 else len(block) // 2
        self._blocks[at : at + 1] = [block[:cut], block[cut:]]
        self._highest[at : at + 1] = [block[cut - 1], block[-1]]

    def remove(self, key: str) -> None:
        """Take `key` out, which must be present."""
        at = bisect_left(self._highest, key)
        block = self._blocks[at]
        del block[bisect_left(block, key)]
        if block:
            self._highest[at] = block[-1]
        else:
            del self._blocks[at], self._highest[at]

    def parts(self, prefix: str, start_after: str = "") -> Iterator[list[str]]:
        """The keys under `prefix` and greater than `start_after`, in order, in lists. Not to be changed meanwhile."""
        (at, index), (last, end) = self._bounds(prefix, start_after)
        while at < last:
            yield self._blocks[at][index:]
            at, index = at + 1, 0
        if at == last and index < end:
            yield self._blocks[at][index:end]

    def count(self, prefix: str, start_after: str = "") -> int:
        """How many keys `parts` would give."""
        (at, index), (last, end) = self._bounds(prefix, start_after)
        if (last, end) <= (at, index):
            return 0
        return sum(map(len, self._blocks[at:last])) + end - index

    def _bounds(self, prefix: str, start_after: str) -> tuple[tuple[int, int], tuple[int, int]]:
        if start_after >= prefix:
            start = self._position(start_after, after=True)
        else:
            start = self._position(prefix, after=False)
        end = end_of_prefix(prefix)
        return start, (len(self._blocks), 0) if end is None else self._position(end, after=False)

    def _position(self, key: str, after: bool) -> tuple[int, int]:
        """Block and index of the first key that is not less than (`after`: greater than) `key`."""
        bisect = bisect_right if after else bisect_left
        at = bisect(self._highest, key)
        return (at, bisect(self._blocks[at], key)) if at < len(self._blocks) else (at, 0)


class Unsorted:
    """Stands in for `SortedKeys` while a state is loaded: takes every change, knows nothing."""

    def add(self, key: str) -> None:
        pass

    def remove(self, key: str) -> None:
        pass

    def parts(self, prefix: str, start_after: str = "") -> Iterator[list[str]]:
        raise AssertionError("the state is being loaded")

    def count(self, prefix: str, start_after: str = "") -> int:
        raise AssertionError("the state is being loaded")
