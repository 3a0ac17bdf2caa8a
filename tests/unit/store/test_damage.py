"""A damaged log is refused by name or, where only the last batch is broken, opened and the loss reported.

All bits and all cuts are tried by tests/nightly.sh (`tests.store.campaign bits|cuts`); here are some of them.
"""

import os
import random
from collections import Counter
from collections.abc import Callable

import pytest

from orchestrator.store.header import DamagedLogError
from orchestrator.store.settings import KIB, MIB
from tests.store.damage import Layout, Sample, check_cut, check_flip, places, sample, verdict
from tests.store.memory_disk import File

SEED = int(os.environ.get("STORE_TEST_SEED", "1"))


async def several_segments() -> Sample:
    return await sample(SEED, 80 * KIB, 16 * KIB)


async def test_every_flipped_bit_is_noticed_by_the_reader() -> None:
    made = await several_segments()
    layouts = [Layout(path, made.image[path]) for path in made.used]
    for layout, offset, bit in places(layouts, random.Random(SEED), 4000):
        assert layout.notices(offset, bit), (layout.path, offset, bit)


async def test_store_refuses_or_reports_flipped_bits() -> None:
    made = await several_segments()
    layouts = [Layout(path, made.image[path]) for path in made.used]
    found: Counter[str] = Counter()
    for layout, offset, bit in places(layouts, random.Random(SEED), 120):
        found[await check_flip(made, str(layout.path), offset, bit, layouts[-1])] += 1
    last = layouts[-1]
    for offset in range(last.frames[-1].start, last.tail, 97):
        assert await check_flip(made, str(last.path), offset, offset % 8, last) == "dropped"
    assert found["refused"] > 50


async def test_damaged_snapshot_is_refused_or_an_older_one_taken() -> None:
    made = await sample(SEED, 60 * KIB, 16 * KIB, snapshot_bytes=8 * KIB)
    snapshots = [Layout(path, made.image[path]) for path in made.paths(".snapshot")]
    last = Layout(made.used[-1], made.image[made.used[-1]])
    assert snapshots
    for layout, offset, bit in places(snapshots[-1:], random.Random(SEED), 50):
        assert layout.notices(offset, bit)
        await check_flip(made, str(layout.path), offset, bit, last)


async def test_log_cut_anywhere_loses_no_whole_batch() -> None:
    made = await sample(SEED, 70 * KIB, MIB)
    layout = Layout(made.used[-1], made.image[made.used[-1]])
    assert layout.tail > 64 * KIB
    rng = random.Random(SEED)
    ends = [
        frame.end + step
        for frame in rng.sample(layout.frames, min(15, len(layout.frames)))
        for step in (-1, 0, 1)
    ]
    anywhere = [rng.randrange(layout.tail - 64 * KIB, layout.tail) for _ in range(40)]
    for size in (*ends, *anywhere):
        await check_cut(made, layout, size)


def missing(made: Sample, at: int) -> dict[str, File]:
    return made.with_file(made.used[at], None)


def doubled(made: Sample, at: int) -> dict[str, File]:
    """A file stands in the place of the one behind it, too."""
    return made.with_file(made.used[at + 1], made.image[made.used[at]])


def swapped(made: Sample, at: int) -> dict[str, File]:
    one, other = made.used[at], made.used[at + 1]
    return {**made.image, one: made.image[other], other: made.image[one]}


def unsealed(made: Sample, at: int) -> dict[str, File]:
    """An old copy, of before the segment was full."""
    layout = Layout(made.used[at], made.image[made.used[at]])
    return made.cut(made.used[at], layout.frames[-2].start)


def zeroed(made: Sample, at: int) -> dict[str, File]:
    return made.with_file(made.used[at], File(b"", made.image[made.used[at]].size))


@pytest.mark.parametrize("change", [missing, doubled, swapped, unsealed, zeroed])
@pytest.mark.parametrize("at", [0, 1, 2])
async def test_segment_that_is_not_the_right_one_is_refused(
    change: Callable[[Sample, int], dict[str, File]], at: int
) -> None:
    made = await several_segments()
    assert len(made.used) > 4
    found = await verdict(change(made, at), made)
    assert isinstance(found.refused, DamagedLogError) and str(found.refused.path) in made.used[: at + 2]


async def test_segment_of_another_store_is_refused() -> None:
    made, other = await several_segments(), await sample(SEED + 1, 80 * KIB, 16 * KIB)
    for at in range(3):
        found = await verdict(made.with_file(made.used[at], other.image[other.used[at]]), made)
        assert isinstance(found.refused, DamagedLogError)
