"""The engine as a process sees it: its lock, its own housekeeping, and `kill -9` at any moment."""

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from orchestrator.base.clock import VirtualClock
from orchestrator.base.errors import StartupError
from orchestrator.store.disk import Disk
from orchestrator.store.engine import LogStore
from orchestrator.store.interface import CompactedError, Put, Txn
from orchestrator.store.settings import LogSettings

KILLS = int(os.environ.get("STORE_TEST_KILLS", "24" if os.environ.get("CI") else "8"))
CHILD = """
import asyncio, os, sys
from pathlib import Path
from orchestrator.base.clock import SystemClock
from orchestrator.base.log import configure
from orchestrator.store import maintenance, rewrite
from orchestrator.store.engine import LogStore
from orchestrator.store.interface import Put, Txn

configure("error")
rewrite.REWRITE_BYTES_MIN, rewrite.REWRITE_FACTOR, maintenance.REWRITE_TICK_S = 50_000, 0, 0.01

async def write(store, writer):
    count = 0
    while True:
        key = f"/{writer}/{count % 5}"
        result = await store.transact(Txn((), (Put(key, b"%d" % count), Put(key + "/twin", b"%d" % count))))
        os.write(1, b"%s %d %d\\n" % (key.encode(), count, result.revision))
        count += 1

async def main():
    store = await LogStore.open(Path(sys.argv[1]), SystemClock())
    await asyncio.gather(*(write(store, writer) for writer in range(64)))

asyncio.run(main())
"""


def run_and_kill(directory: Path, acknowledged_before_kill: int) -> list[tuple[str, bytes, int]]:
    """Acknowledgements that a child wrote until it was killed: key, value, revision."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(directory)], stdout=subprocess.PIPE)
    guard = threading.Timer(30, child.kill)
    guard.start()
    assert child.stdout is not None
    lines = []
    for line in child.stdout:
        lines.append(line)
        if len(lines) == acknowledged_before_kill:
            child.send_signal(signal.SIGKILL)
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    guard.cancel()
    guard.join()
    whole = [line.split() for line in lines if line.endswith(b"\n")]
    assert len(whole) >= acknowledged_before_kill
    return [(key.decode(), value, int(revision)) for key, value, revision in whole]


async def test_kill_loses_no_acknowledged_write(tmp_path: Path) -> None:
    rng = random.Random(5)
    newest = 0
    for _ in range(KILLS):
        acknowledged = run_and_kill(tmp_path, rng.randint(1, 1500))
        store = await LogStore.open(tmp_path, VirtualClock())
        assert store.revision >= max(newest, *(revision for _, _, revision in acknowledged))
        newest = store.revision
        for key, value, revision in acknowledged:
            entry, twin = await store.get(key), await store.get(key + "/twin")
            assert entry is not None and twin is not None
            assert entry.revision == twin.revision >= revision and entry.value == twin.value
            assert entry.revision > revision or entry.value == value
        await store.close()


async def test_directory_is_for_one_process(tmp_path: Path, lazy_disk: Disk) -> None:
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk)
    with pytest.raises(StartupError, match="in use"):
        await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk)
    await store.close()
    await (await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk)).close()


async def write(store: LogStore, count: int, value: bytes = b"v") -> None:
    await store.transact_many([Txn((), (Put("/a", value),)) for _ in range(count)])


async def test_history_is_kept_for_five_minutes(tmp_path: Path, lazy_disk: Disk) -> None:
    clock = VirtualClock()
    store = await LogStore.open(tmp_path, clock, disk=lazy_disk)
    await write(store, 10)
    old = store.revision
    await clock.advance(100)
    await write(store, 10)
    await clock.advance(190)
    assert len((await store.range("/", revision=old)).entries) == 1
    await clock.advance(200)
    await write(store, 1)  # The compaction is before this in the commit queue.
    await clock.advance(10)
    with pytest.raises(CompactedError):
        await store.range("/", revision=old - 1)
    assert store.stats()["history_events"] == 1
    await store.close()


async def test_history_is_bounded_in_bytes(tmp_path: Path, lazy_disk: Disk) -> None:
    clock = VirtualClock()
    settings = LogSettings(history_memory_bytes=50_000)
    store = await LogStore.open(tmp_path, clock, disk=lazy_disk, settings=settings)
    await write(store, 100, b"x" * 1000)
    await clock.advance(10)
    await write(store, 1)
    await clock.advance(10)
    assert 20_000 < store.stats()["history_bytes"] < 50_000
    assert store.compact_revision > 50
    await store.close()
