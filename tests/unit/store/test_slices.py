"""Reads of many keys: bounded work between two turns of the loop, one revision whatever is written meanwhile."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.clock import VirtualClock
from orchestrator.store import state as state_module
from orchestrator.store.engine import LogStore
from orchestrator.store.interface import CompactedError, Delete, Put, RangeResult, Txn
from orchestrator.store.record import DELETE, PUT, Operation, Record
from orchestrator.store.settings import LogSettings
from orchestrator.store.slices import sliced
from orchestrator.store.state import State
from tests.unit.store.conftest import LazyDisk

SLICE = 16


class Counted(dict[str, Any]):
    """Counts what is looked up."""

    looks = 0

    def get(self, key: str, default: Any = None) -> Any:
        self.looks += 1
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self.looks += 1
        return super().__getitem__(key)


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLICE_KEYS", "SLICE_NEWEST_KEYS", "SLICE_EVENTS"):
        monkeypatch.setattr(state_module, name, SLICE)


class Changing:
    """A state under random changes, and what it was at every revision."""

    def __init__(self, memory_bytes: int | None = None) -> None:
        self.state = State(VirtualClock(), memory_bytes)
        self.images: list[dict[str, bytes]] = [{}]
        self._rng = random.Random(1)

    def change(self, count: int, keys: int = 300) -> None:
        for _ in range(count):
            revision = self.state.revision + 1
            image = dict(self.images[-1])
            key = f"/{self._rng.randrange(keys):04}"
            if key in image and self._rng.random() < 0.4:
                del image[key]
                operation = Operation(DELETE, 0, key, b"")
            else:
                image[key] = b"%d" % revision
                operation = Operation(PUT, 0, key, image[key])
            self.state.apply(Record(revision, [operation]))
            self.images.append(image)

    def expected(self, at: int, limit: int) -> tuple[list[tuple[str, bytes]], int]:
        rows = sorted(self.images[at].items())
        return (rows[:limit], len(rows) - limit) if 0 < limit < len(rows) else (rows, 0)


def shown(found: RangeResult) -> tuple[list[tuple[str, bytes]], int]:
    return [(entry.key, entry.value) for entry in found.entries], found.remaining


@pytest.mark.parametrize("limit", [0, 1, 50, 10_000])
@pytest.mark.parametrize("at", [300, 900, 1000])
def test_read_shows_one_revision_whatever_changes_between_its_slices(limit: int, at: int) -> None:
    made = Changing()
    made.change(1000)
    state = made.state
    steps = state.reading("/", "", limit, at)
    slices = 1
    state.hold(at)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            found = done.value
            break
        slices += 1
        made.change(20)
        state.floor = state.revision  # Compacted, and forgotten but for what is held.
        state.trim(10_000)
    assert found.revision == at and shown(found) == made.expected(at, limit)
    assert slices > 1 or limit == 1 or at == 1000
    state.release(at)
    if slices > 1:
        with pytest.raises(CompactedError):
            state.readable(at)


@pytest.mark.parametrize("at", [1, 500, 1000])
@pytest.mark.parametrize("limit", [0, 5, 100])
def test_no_slice_looks_at_more_keys_than_its_bound(at: int, limit: int) -> None:
    """Not even where hardly any key of the many that changed was there."""
    made = Changing()
    made.change(1000, keys=1000)
    state = made.state
    state._live = live = Counted(state._live)
    state.history.last = last = Counted(state.history.last)
    steps = state.reading("/", "", limit, at)
    for _ in steps:
        assert live.looks <= SLICE and last.looks <= SLICE
        live.looks = last.looks = 0
    assert live.looks <= SLICE and last.looks <= SLICE


def test_key_that_changed_often_is_followed_back_in_slices() -> None:
    state = State(VirtualClock())
    for revision in range(1, 40 * SLICE):
        state.apply(Record(revision, [Operation(PUT, 0, "/hot", b"%d" % revision)]))
    pauses = sum(1 for _ in state.paging("/", "", 0, 3))
    assert pauses >= 36 and state.page("/", "", 0, 3)[0][0].value == b"3"


async def test_small_read_gives_nobody_else_a_turn() -> None:
    made = Changing()
    made.change(100, keys=SLICE - 1)
    turns: list[int] = []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    await sliced(made.state, made.state.reading("/", "", 0, 100), 100)
    assert not turns
    await asyncio.sleep(0)


async def test_list_of_the_newest_is_of_one_revision_while_others_write(
    tmp_path: Path, lazy_disk: LazyDisk
) -> None:
    """With old values on disk only, and compaction as soon as possible."""
    settings = LogSettings(segment_bytes=64 * 1024, history_memory_bytes=0)
    store = await LogStore.open(tmp_path, VirtualClock(), disk=lazy_disk, settings=settings)
    await store.transact_many([Txn((), (Put(f"/{n:04}", b"0"),)) for n in range(500)])

    async def write() -> None:
        for value in range(1, 12):
            whole = tuple(Put(f"/{n:04}", b"%d" % value) for n in range(400))
            await store.transact(Txn((), (*whole, Delete(f"/{400 + value:04}"))))
            await store.compact(store.revision)
            await store._snapshotter.tidy()

    writing = asyncio.ensure_future(write())
    while not writing.done():
        found = await store.range("/")
        values = {entry.value for entry in found.entries[:400]}
        assert len(values) == 1
        value = int(values.pop())
        assert len(found.entries) == 500 - value
        assert not store._state._held
    await writing
    await store.close()
