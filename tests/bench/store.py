"""`python -m tests.bench.store [--directory D] [--seconds S]`: durable puts, reads, recovery, memory.

The directory should lie on the disk that is to be measured. Without an `etcd` beside it the puts are set
against the figure recorded in ARCHITECTURE.md.
"""

import argparse
import asyncio
import gc
import itertools
import os
import tempfile
import time
from pathlib import Path

import uvloop

from orchestrator.base.clock import SystemClock
from orchestrator.store.engine import LogStore
from orchestrator.store.interface import Put, Txn
from tests.bench.report import percentile, row

VALUE = b'{"metadata":{"name":"bench"},"data":"' + b"x" * 985 + b'"}'
ETCD_PUTS = 5070.0
OBJECTS = 100_000
PUT_ROWS = (
    # clients, target, what it holds, recorded peer
    (1, None, "value", None),
    (64, None, "value", None),
    (512, 3.0, "ratio", ETCD_PUTS),
)


def put(key: str) -> Txn:
    """A value of its own for each key, or memory per object would not count it."""
    return Txn((), (Put(key, VALUE[:-2] + b'"}'),))


def bare_sync_s(directory: Path, count: int = 300) -> float:
    """Median of one durable write of the same size into a preallocated file."""
    fd = os.open(directory / "bare", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(fd, 0, count * 2048)
    os.fsync(fd)
    took = []
    for n in range(count):
        started = time.perf_counter()
        os.pwrite(fd, VALUE, n * len(VALUE))
        os.fdatasync(fd)
        took.append(time.perf_counter() - started)
    os.close(fd)
    os.unlink(directory / "bare")
    return percentile(took, 0.5)


async def puts(store: LogStore, clients: int, seconds: float) -> list[float]:
    """Latencies of durable puts by so many clients, each one after the other."""
    took: list[float] = []
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        for n in itertools.count():
            started = time.perf_counter()
            if started >= end:
                return
            await store.transact(put(f"/registry/bench/{number}/{n % 50}"))
            took.append(time.perf_counter() - started)

    await asyncio.gather(*(client(number) for number in range(clients)))
    return took


async def measure_puts(directory: Path, seconds: float) -> None:
    bare_us = bare_sync_s(directory) * 1e6
    row("store", "bare fdatasync of 1 KB, p50", bare_us, "us", "lower")
    store = await LogStore.open(directory / "puts", SystemClock())
    for clients, target, of, recorded in PUT_ROWS:
        started = time.perf_counter()
        took = await puts(store, clients, seconds)
        rate = len(took) / (time.perf_counter() - started)
        name = f"puts, {clients} clients"
        row("store", name, rate, "1/s", "higher", target, of, recorded_peer=recorded)
        single = 2 * bare_us if clients == 1 else None
        row("store", f"{name}, p50", percentile(took, 0.5) * 1e6, "us", "lower", single)
        row("store", f"{name}, p99", percentile(took, 0.99) * 1e6, "us", "lower")
    stats = store.stats()
    row("store", "log bytes per put of 1 KB", stats["log_bytes"] / stats["transactions_total"], "B", "lower")
    await store.close()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def measure_objects(directory: Path) -> None:
    """Fill a store with distinct objects, read them, and recover it."""
    key = "/registry/configmaps/namespace-{}/object-{:06d}".format
    store = await LogStore.open(directory / "objects", SystemClock())
    before = resident_bytes()
    for start in range(0, OBJECTS, 2000):
        await store.transact_many([put(key(n % 20, n)) for n in range(start, start + 2000)])
    await store.compact(store.revision)
    await asyncio.sleep(6)  # The engine forgets history in its own time.
    per_object = (resident_bytes() - before) / OBJECTS - len(VALUE)
    row("store", "memory per object beside its value", per_object, "B", "lower", 600)
    await measure_reads(store, [key(n % 20, n) for n in range(0, OBJECTS, 7)])
    await store.close()
    del store
    started = time.perf_counter()
    store = await LogStore.open(directory / "objects", SystemClock())
    row("store", f"recovery, {OBJECTS} objects", time.perf_counter() - started, "s", "lower", 2.0)
    await store.close()


async def measure_reads(store: LogStore, keys: list[str]) -> None:
    started = time.perf_counter()
    for name in keys:
        await store.get(name)
    row("store", "point reads", len(keys) / (time.perf_counter() - started), "1/s", "higher", 100_000)
    took = []
    for _ in range(20):
        started = time.perf_counter()
        found = await store.range("/registry/configmaps/namespace-3/")
        took.append(time.perf_counter() - started)
    name = f"range of {len(found.entries)}, p50"
    row("store", name, percentile(took, 0.5) * 1e3, "ms", "lower")


async def measure_watch(directory: Path) -> None:
    """One event to ten thousand watches, and what such a watch takes."""
    count = 10_000
    store = await LogStore.open(directory / "watch", SystemClock())
    before = resident_bytes()
    watches = [store.watch("/registry/bench/", store.revision) for _ in range(count)]
    row("store", f"{count} idle watches", (resident_bytes() - before) / 2**20, "MiB", "lower", 60)
    started = time.perf_counter()
    await store.transact(put("/registry/bench/one"))
    await asyncio.gather(*(anext(watch) for watch in watches))
    row("store", f"1 event to {count} watches", (time.perf_counter() - started) * 1e3, "ms", "lower")
    for watch in watches:
        watch.close()
    await store.close()


async def main(directory: Path, seconds: float) -> None:
    gc.disable()  # As the daemon does.
    # What is measured in resident memory comes first: later parts would reuse what earlier ones freed.
    await measure_watch(directory)
    await measure_objects(directory)
    await measure_puts(directory, seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=None)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as made:
        uvloop.run(main(Path(made), arguments.seconds))
