"""`python -m tests.bench.store [--directory D] [--seconds S] [PART …]`: the embedded store, etcd beside it.

Parts: `watch`, `objects`, `recovery`, `puts`, `heartbeats`; all by default. The directory should lie on the
disk that is to be measured. With etcd and `h2load` (Debian's etcd-server and nghttp2-client) installed, both
stores take puts turn by turn and medians are compared; else the figure recorded in ARCHITECTURE.md stands in.
What is measured in resident memory comes first: later parts would reuse what earlier ones freed.
"""

import argparse
import asyncio
import contextlib
import gc
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from orchestrator.base.clock import SystemClock
from orchestrator.store.engine import LogStore
from orchestrator.store.interface import Put, Txn, Watch
from tests.bench import etcd_peer
from tests.bench.heartbeats import measure_heartbeats, written_bytes
from tests.bench.report import paused_share, percentile, row

VALUE = b'{"metadata":{"name":"bench"},"data":"' + b"x" * 985 + b'"}'
SMALL = b'{"metadata":{"name":"bench"},"data":"' + b"x" * 85 + b'"}'
ETCD_PUTS = 5070.0
OBJECTS = 100_000
RECORDS = 1_000_000
ROUNDS = 3
WATCHES = 10_000
FAN_OUT_WATCHES, FAN_OUT_RATE = 100, 1000


def put(key: str, value: bytes = VALUE) -> Txn:
    """A value of its own for each key, or memory per object would not count it."""
    return Txn((), (Put(key, value[:-2] + b'"}'),))


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


async def puts(store: LogStore, clients: int, seconds: float) -> tuple[float, list[float]]:
    """Durable puts per second and the latency of each (s), by so many clients, each one after the other."""
    took: list[float] = []
    began = time.perf_counter()
    end = began + seconds

    async def client(number: int) -> None:
        for n in itertools.count():
            started = time.perf_counter()
            if started >= end:
                return
            await store.transact(put(f"/registry/bench/{number}/{n % 50}"))
            took.append(time.perf_counter() - started)

    await asyncio.gather(*(client(number) for number in range(clients)))
    return len(took) / (time.perf_counter() - began), took


async def measure_puts(directory: Path, seconds: float) -> None:
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(etcd_peer.running(directory / "etcd")) if etcd_peer.available() else None
        store = await LogStore.open(directory / "puts", SystemClock())
        for clients in (1, 64, 512):
            await _compare(store, peer, directory, clients, seconds)
        await _measure_written(store, seconds)
        await store.close()


async def _measure_written(store: LogStore, seconds: float) -> None:
    """What reaches the disk for a put, by the kernel's account; batches share pages."""
    for clients in (1, 512):
        before, transactions = written_bytes(), store.stats()["transactions_total"]
        await puts(store, clients, seconds)
        made = store.stats()["transactions_total"] - transactions
        name = f"bytes written to disk per put of 1 KB, {clients} clients"
        row("store", name, (written_bytes() - before) / made, "B", "lower")


async def _compare(
    store: LogStore, peer: etcd_peer.EtcdPeer | None, directory: Path, clients: int, seconds: float
) -> None:
    ours: list[tuple[float, list[float]]] = []
    theirs: list[tuple[float, list[float]]] = []
    bare: list[float] = []
    cpu: list[float] = []
    peer_cpu: list[float] = []
    for _ in range(ROUNDS):
        bare.append(bare_sync_s(directory))
        began_s = time.process_time()
        ours.append(await puts(store, clients, seconds))
        cpu.append((time.process_time() - began_s) / len(ours[-1][1]))
        if peer is not None:
            began_s = peer.cpu_s
            theirs.append(await asyncio.to_thread(peer.puts, clients, seconds, VALUE))
            peer_cpu.append((peer.cpu_s - began_s) / max(1, len(theirs[-1][1])))
    theirs = [(rate, took) for rate, took in theirs if took]
    name = f"puts, {clients} clients"
    peer_name = peer.name if peer else None
    rate = statistics.median(rate for rate, _ in ours)
    peer_rate = statistics.median(rate for rate, _ in theirs) if theirs else None
    recorded = ETCD_PUTS if clients == 512 else None
    target = 3.0 if clients == 512 else None
    row(
        "store", name, rate, "1/s", "higher", target, "ratio",
        peer=peer_name, peer_value=peer_rate, recorded_peer=recorded,
    )  # fmt: skip
    row(
        "store", f"{name}, least CPU per put (ours: with its clients)", min(cpu) * 1e6, "us", "lower",
        peer=peer_name, peer_value=min(peer_cpu) * 1e6 if peer_cpu else None,
    )  # fmt: skip
    for share, label in ((0.5, "p50"), (0.99, "p99")):
        mine = statistics.median(percentile(took, share) for _, took in ours) * 1e6
        other = statistics.median(percentile(took, share) for _, took in theirs) * 1e6 if theirs else None
        row("store", f"{name}, {label}", mine, "us", "lower", peer=peer_name, peer_value=other)
    if clients == 1:
        mine = statistics.median(percentile(took, 0.5) for _, took in ours) * 1e6
        row(
            "store", "one client's p50 to a bare fdatasync", mine, "us", "lower", 2.0, "ratio",
            peer="bare fdatasync of 1 KB", peer_value=statistics.median(bare) * 1e6,
        )  # fmt: skip


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def measure_objects(directory: Path, _seconds: float) -> None:
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
    await _measure_snapshot(store)
    await store.close()
    del store
    await _recover(directory / "objects", f"recovery, {OBJECTS} objects of 1 KB", 2.0)


async def _measure_snapshot(store: LogStore) -> None:
    """What writers notice of a snapshot: one client's puts beside one and without, turn by turn."""
    beside: list[float] = []
    without: list[float] = []
    for _ in range(ROUNDS):
        snapshot = asyncio.ensure_future(store.snapshot())
        while not snapshot.done():
            beside += (await puts(store, 1, 0.1))[1]
        await snapshot
        while len(without) < len(beside):
            without += (await puts(store, 1, 0.1))[1]
    for share, label in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99")):
        row(
            "store", f"put beside a snapshot of {OBJECTS} objects, {label}", percentile(beside, share) * 1e6,
            "us", "lower", peer="the same without a snapshot", peer_value=percentile(without, share) * 1e6,
        )  # fmt: skip


async def _recover(directory: Path, name: str, target_s: float) -> None:
    """The fastest of three: what else the machine does only adds to it."""
    took = []
    for _ in range(ROUNDS):
        started, started_cpu = time.perf_counter(), time.process_time()
        store = await LogStore.open(directory, SystemClock())
        took.append((time.perf_counter() - started, time.process_time() - started_cpu))
        await store.close()
        del store
        gc.collect()
    row("store", name, min(took)[0], "s", "lower", target_s)
    row("store", f"{name}, CPU", min(cpu for _, cpu in took), "CPU s", "lower")


async def measure_recovery(directory: Path, _seconds: float) -> None:
    """A million records of a hundred bytes over a tenth as many keys."""
    path = directory / "records"
    store = await LogStore.open(path, SystemClock())
    for start in range(0, RECORDS, 5000):
        await store.transact_many(
            [put(f"/registry/leases/{n % (RECORDS // 10):06d}", SMALL) for n in range(start, start + 5000)]
        )
    await store.close()
    del store
    await _recover(path, f"recovery, {RECORDS} records", 10.0)


async def measure_reads(store: LogStore, keys: list[str]) -> None:
    rates = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for name in keys:
            await store.get(name)
        rates.append(len(keys) / (time.perf_counter() - started))
    row("store", "point reads", statistics.median(rates), "1/s", "higher", 100_000)
    await _measure_range(store, 0)
    await _measure_range(store, 500)


async def _measure_range(store: LogStore, limit: int) -> None:
    took = []
    for _ in range(20):
        started = time.perf_counter()
        found = await store.range("/registry/configmaps/namespace-3/", limit=limit)
        took.append(time.perf_counter() - started)
    name = f"range of {len(found.entries)}{' of more' if found.remaining else ''}, p50"
    row("store", name, percentile(took, 0.5) * 1e3, "ms", "lower")


async def measure_watch(directory: Path, seconds: float) -> None:
    """One event to ten thousand watches, what such a watch takes, and a steady stream to a hundred."""
    store = await LogStore.open(directory / "watch", SystemClock())
    before = resident_bytes()
    watches = [store.watch("/registry/bench/", store.revision) for _ in range(WATCHES)]
    waiting = [asyncio.ensure_future(anext(watch)) for watch in watches]
    await asyncio.sleep(0)
    used = (resident_bytes() - before) / 2**20
    row("store", f"{WATCHES} idle watches, a task waiting on each", used, "MiB", "lower", 60)
    await asyncio.gather(store.transact(put("/registry/bench/one")), *waiting)
    took = []
    for _ in range(5):
        started = time.perf_counter()
        await asyncio.gather(store.transact(put("/registry/bench/one")), *(anext(watch) for watch in watches))
        took.append(time.perf_counter() - started)
    row("store", f"1 event to {WATCHES} watches", statistics.median(took) * 1e3, "ms", "lower")
    for watch in watches:
        watch.close()
    await _stream(store, seconds)
    await store.close()


async def _stream(store: LogStore, seconds: float) -> None:
    """Each event's way from before its put to each watcher's hands."""
    sent: dict[str, float] = {}
    took: list[float] = []
    count = int(FAN_OUT_RATE * seconds)

    async def watcher(watch: Watch) -> None:
        seen = 0
        while seen < count:
            events = await anext(watch)
            now = time.perf_counter()
            took.extend(now - sent[event.key] for event in events)
            seen += len(events)
        watch.close()

    async def writer(number: int) -> None:
        key = f"/registry/stream/{number:06d}"
        await asyncio.sleep(number / FAN_OUT_RATE)
        sent[key] = time.perf_counter()
        await store.transact(put(key))

    cpu = time.process_time()
    watches = [store.watch("/registry/stream/", store.revision) for _ in range(FAN_OUT_WATCHES)]
    await asyncio.gather(*(watcher(watch) for watch in watches), *(writer(number) for number in range(count)))
    name = f"{FAN_OUT_RATE} events/s to {FAN_OUT_WATCHES} watches"
    row("store", f"{name}, p50", percentile(took, 0.5) * 1e3, "ms", "lower")
    row("store", f"{name}, p99", percentile(took, 0.99) * 1e3, "ms", "lower")
    row(
        "store",
        f"{name}, CPU per event and watch",
        (time.process_time() - cpu) / len(took) * 1e6,
        "us",
        "lower",
    )


PARTS: dict[str, Callable[[Path, float], Awaitable[None]]] = {
    "watch": measure_watch,
    "objects": measure_objects,
    "recovery": measure_recovery,
    "puts": measure_puts,
    "heartbeats": measure_heartbeats,
}


async def main(directory: Path, seconds: float, parts: list[str]) -> None:
    gc.disable()  # As the daemon does.
    row("store", "share of its time that this machine is paused", paused_share(), "1", "lower")
    for part in parts or PARTS:
        await PARTS[part](directory, seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--directory", type=Path, default=None)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("parts", nargs="*", metavar="PART", help=" ".join(PARTS))
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(dir=arguments.directory) as made:
        uvloop.run(main(Path(made), arguments.seconds, arguments.parts))
