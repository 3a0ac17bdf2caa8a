"""`python -m tests.store.kill_child DIRECTORY`: for each line on stdin, a seed, one process full of writers.

A process is forked, so that none has to import anything, and writes until somebody kills it; its first line is its
own id, and the last one, from its parent, its exit status. In between each acknowledgement is one line, written
after the store returned: the process that reads them knows what this one had been told, and survives it. Value N
of a writer stands under one of its own keys and under a twin, in one transaction.
"""

import asyncio
import os
import random
import sys
from pathlib import Path

from orchestrator.base.clock import SystemClock
from orchestrator.base.log import configure
from orchestrator.store.engine import LogStore
from orchestrator.store.interface import Delete, Put, Txn
from tests.store.kills import KEYS, SETTINGS, WRITERS, value_of


async def write(store: LogStore, writer: int, rng: random.Random) -> None:
    newest = [await store.get(f"/{writer}/{name}") for name in range(KEYS)]
    number = max((int(entry.value.split(b".")[0]) for entry in newest if entry), default=0)
    while True:
        number += 1
        key, value = f"/{writer}/{rng.randrange(KEYS)}", value_of(number, rng)
        steps = (Put(key, value), Put(f"{key}/twin", value), Delete(f"/{writer}/gone"))
        result = await store.transact(Txn((), steps))
        os.write(1, b"%s %d %d\n" % (key.encode(), number, result.revision))
        if rng.random() < 0.1:
            await store.transact(Txn((), (Put(f"/{writer}/gone", value),)))


async def compact(store: LogStore, rng: random.Random) -> None:
    while True:
        await asyncio.sleep(rng.random() / 20)
        await store.compact(max(0, store.revision - rng.randrange(200)))


async def work(directory: Path, seed: int) -> None:
    rng = random.Random(seed)
    store = await LogStore.open(directory, SystemClock(), settings=SETTINGS)
    os.write(1, b"open - %d\n" % store.revision)
    writers = [write(store, number, random.Random(rng.random())) for number in range(WRITERS)]
    await asyncio.gather(*writers, compact(store, rng))


def main(directory: Path) -> None:
    configure("error")
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            os.write(1, b"born %d -\n" % os.getpid())
            asyncio.run(work(directory, int(line)))
        os.write(1, b"died %d -\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
