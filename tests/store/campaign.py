"""`python -m tests.store.campaign crashes|faults|kills|bits|cuts [--seed N] [--count N] [--seconds S]`.

The long forms of the store's tests, for tests/nightly.sh. Prints what it does, the seed and what came of it;
exits 1 when anything went wrong. `--save D` keeps the disk images on which a store did not come back.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from orchestrator.base.log import configure
from orchestrator.store.settings import KIB, MIB
from tests.store import crashes, damage, faults, kills
from tests.store.medium import save
from tests.store.memory_disk import MemoryDisk

WRONG_SHOWN = 20
KILLS_TOLD = 250


async def run_crashes(args: argparse.Namespace) -> list[str]:
    """Whole recordings, one seed after the other."""
    wrong: list[str] = []
    opened = runs = 0
    while runs < args.count and time.monotonic() < args.end:
        seed = args.seed + runs
        recording = await crashes.record(seed, args.rounds, MemoryDisk())
        replay = crashes.Replay(recording, seed, share=1.0, nested=0.1, tears=3)
        await replay.run(WRONG_SHOWN, args.end)
        for error in replay.wrong:
            wrong.append(f"seed {seed}: {error}")
            if args.save:
                save(error.image, args.save / f"crash-{seed}-{len(wrong)}")
        runs, opened = runs + 1, opened + replay.opened
        print(
            f"  seed {seed}: {len(recording.journal)} operations, {replay.opened} stores opened", flush=True
        )
    print(f"crash points: {runs} recordings, {opened} different disks opened")
    return wrong


async def run_faults(args: argparse.Namespace) -> list[str]:
    every = await faults.every_fault(args.seed, args.rounds)
    random.Random(args.seed).shuffle(every)
    tally = await faults.campaign(every[: args.count], args.rounds, args.end)
    print(f"faults: {sum(tally.outcomes.values())} of {len(every)}; {dict(tally.outcomes)}")
    print(f"  calls that failed: {dict(tally.verbs)}")
    return tally.wrong


async def run_kills(args: argparse.Namespace) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="orc-kills-", dir=args.directory) as directory:
        run = kills.Kills(Path(directory) / "store", args.seed)
        try:
            while run.kills < args.count and time.monotonic() < args.end:
                await run.run_one()
                if not run.kills % KILLS_TOLD:
                    print(f"  {run.kills} kills, {run.acknowledged} acknowledged", flush=True)
        except AssertionError as error:
            return [f"kill {run.kills}: {error}"]
        finally:
            run.close()
            print(f"kills: {run.kills}, {run.acknowledged} acknowledged in {run.segments} segments")
            print(f"  left behind, in how many kills: {dict(run.found)}")
    return []


async def run_bits(args: argparse.Namespace) -> list[str]:
    """Some bits of a 1 MB log through the store's front door, then every one through its reader."""
    made = await damage.sample(args.seed, MIB, 16 * KIB)
    layouts = [damage.Layout(path, made.image[path]) for path in made.used]
    wrong = await _some_bits(args, made, layouts)
    tried = 0
    for layout in layouts:
        size = min(layout.file.size, layout.tail + KIB)
        unnoticed = [
            f"bit {bit} of byte {offset} of {layout.path.name} is not noticed"
            for offset in range(size)
            for bit in range(8)
            if not layout.notices(offset, bit)
        ]
        wrong += unnoticed
        tried += size * 8
        if tried >= args.count or time.monotonic() > args.end:
            break
    total = sum(min(layout.file.size, layout.tail + KIB) * 8 for layout in layouts)
    print(f"bits: {tried} of {total} through the reader, {len(layouts)} segments")
    return wrong


async def _some_bits(
    args: argparse.Namespace, made: damage.Sample, layouts: list[damage.Layout]
) -> list[str]:
    wrong: list[str] = []
    verdicts: Counter[str] = Counter()
    end = time.monotonic() + args.seconds / 4
    for layout, offset, bit in damage.places(layouts, random.Random(args.seed), min(5000, args.count)):
        if time.monotonic() > end:
            break
        try:
            verdicts[await damage.check_flip(made, str(layout.path), offset, bit, layouts[-1])] += 1
        except AssertionError as error:
            wrong.append(str(error))
    print(f"bits: {dict(verdicts)} when the store was opened", flush=True)
    return wrong


async def run_cuts(args: argparse.Namespace) -> list[str]:
    """Every length in the last 64 KB of the log."""
    made = await damage.sample(args.seed, 70 * KIB, MIB)
    layout = damage.Layout(made.used[-1], made.image[made.used[-1]])
    sizes = list(range(layout.tail, layout.tail - 64 * KIB, -1))
    random.Random(args.seed).shuffle(sizes)
    wrong: list[str] = []
    tried = 0
    for size in sizes[: args.count]:
        if time.monotonic() > args.end:
            break
        tried += 1
        try:
            await damage.check_cut(made, layout, size)
        except AssertionError as error:
            wrong.append(str(error))
    print(f"cuts: {tried} of {len(sizes)} lengths, {len(layout.frames)} batches")
    return wrong


CAMPAIGNS: dict[str, Callable[[argparse.Namespace], Awaitable[list[str]]]] = {
    "crashes": run_crashes,
    "faults": run_faults,
    "kills": run_kills,
    "bits": run_bits,
    "cuts": run_cuts,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.store.campaign", description=__doc__)
    parser.add_argument("campaign", choices=CAMPAIGNS)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--count", type=int, default=1 << 30, help="recordings, faults, kills, bits, cuts")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so long")
    parser.add_argument("--rounds", type=int, default=20, help="length of a workload")
    parser.add_argument(
        "--directory", type=Path, help="where kills put their store; default: the temporary one"
    )
    parser.add_argument("--save", type=Path, help="where to keep disk images that went wrong")
    args = parser.parse_args()
    args.end = time.monotonic() + args.seconds
    configure("critical")
    started = time.monotonic()
    print(f"{args.campaign}: seed {args.seed}", flush=True)
    wrong = asyncio.run(CAMPAIGNS[args.campaign](args))
    for line in wrong[:WRONG_SHOWN]:
        print("WRONG", line)
    print(f"{args.campaign}: {len(wrong)} wrong, {time.monotonic() - started:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
