"""Random transactions, ranges, watches, compactions and restarts against an obviously correct model."""

import asyncio
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.base.clock import VirtualClock
from orchestrator.store import sorted_keys
from orchestrator.store.disk import Disk
from orchestrator.store.engine import LogStore
from orchestrator.store.interface import CompactedError, Compare, Delete, Put, Txn
from orchestrator.store.state import State

KEYS = st.sampled_from(["/a/1", "/a/2", "/a/3", "/b/1", "/b/2", "/c"])
PREFIXES = st.sampled_from(["/", "/a/", "/b/", "/a/2", "/nothing"])

OPERATION = st.one_of(st.builds(Put, KEYS, st.binary(max_size=3)), st.builds(Delete, KEYS))
TXN = st.tuples(
    st.lists(st.tuples(KEYS, st.sampled_from(["absent", "current", "wrong"])), max_size=2),
    st.lists(OPERATION, max_size=3, unique_by=lambda operation: operation.key),
)
STEP = st.one_of(
    st.tuples(st.just("txns"), st.lists(TXN, min_size=1, max_size=4)),
    st.tuples(st.just("range"), PREFIXES, st.integers(0, 3), st.floats(0, 1)),
    st.tuples(st.just("watch"), PREFIXES, st.floats(0, 1)),
    st.tuples(st.just("compact"), st.floats(0, 1)),
    st.tuples(st.just("trim")),
    st.tuples(st.just("restart")),
)


class Model:
    """Every revision whole, and every event."""

    def __init__(self) -> None:
        self.states: list[dict[str, tuple[bytes, int]]] = [{}]
        self.events: list[tuple[int, str, bytes | None, bytes | None]] = []
        self.floor = 0

    @property
    def revision(self) -> int:
        return len(self.states) - 1

    def transact(self, txn: Txn) -> bool:
        now = self.states[-1]
        if any(now.get(compare.key, (b"", 0))[1] != compare.revision for compare in txn.compares):
            return False
        after, events, revision = dict(now), [], self.revision + 1
        for operation in txn.operations:
            before = now[operation.key][0] if operation.key in now else None
            if isinstance(operation, Put):
                after[operation.key] = (operation.value, revision)
                events.append((revision, operation.key, operation.value, before))
            elif operation.key in now:
                del after[operation.key]
                events.append((revision, operation.key, None, before))
        if events:
            self.states.append(after)
            self.events += events
        return True


class Comparison:
    """One run of the same steps on both."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self.directory = directory
        self.disk = disk
        self.model = Model()
        self.store: LogStore

    async def open(self) -> None:
        self.store = await LogStore.open(self.directory, VirtualClock(), disk=self.disk)

    async def run(self, steps: list[tuple]) -> None:
        await self.open()
        for name, *arguments in steps:
            await getattr(self, name)(*arguments)
            assert self.store.revision == self.model.revision
        await self.restart()
        for revision in range(self.model.revision + 1):
            await self.range("/", 0, revision / max(1, self.model.revision))
        await self.store.close()

    def _revision(self, share: float) -> int:
        return round(share * self.model.revision)

    async def txns(self, plans: list) -> None:
        now = self.model.states[-1]
        txns = []
        for compares, operations in plans:
            current = {key: now.get(key, (b"", 0))[1] for key, _ in compares}
            wanted = {"absent": lambda key: 0, "current": current.get, "wrong": lambda key: 10**9}
            checked = tuple(Compare(key, wanted[kind](key)) for key, kind in compares)
            txns.append(Txn(checked, tuple(operations)))
        results = await asyncio.gather(*(self.store.transact(txn) for txn in txns))
        for txn, result in zip(txns, results, strict=True):
            assert result.succeeded == self.model.transact(txn)

    async def range(self, prefix: str, limit: int, share: float) -> None:
        revision = self._revision(share)
        expected = sorted(
            (key, *pair) for key, pair in self.model.states[revision].items() if key.startswith(prefix)
        )
        if revision < self.model.floor:
            try:
                await self.store.range(prefix, limit=limit, revision=revision or -1)
            except CompactedError as error:
                assert error.floor == self.model.floor
                return
            raise AssertionError("read below the floor")
        found: list[tuple[str, bytes, int]] = []
        while True:
            after = found[-1][0] if found else ""
            page = await self.store.range(prefix, start_after=after, limit=limit, revision=revision)
            if revision == 0 and self.model.revision:
                return  # Zero asks for the newest; the loop at the end of `run` has read that already.
            found += [(entry.key, entry.value, entry.revision) for entry in page.entries]
            assert page.remaining == len(expected) - len(found)
            if not page.remaining:
                break
        assert found == expected

    async def watch(self, prefix: str, share: float) -> None:
        revision = self._revision(share)
        watch = self.store.watch(prefix, revision)
        expected = [
            event for event in self.model.events if event[0] > revision and event[1].startswith(prefix)
        ]
        found = []
        try:
            while len(found) < len(expected) or revision < self.model.floor:
                for event in await asyncio.wait_for(anext(watch), 5):
                    value = event.entry.value if event.entry else None
                    before = event.previous.value if event.previous else None
                    found.append((event.revision, event.key, value, before))
        except CompactedError:
            assert revision < self.model.floor
            return
        finally:
            watch.close()
        assert found == expected

    async def compact(self, share: float) -> None:
        revision = self._revision(share)
        await self.store.compact(revision)
        self.model.floor = max(self.model.floor, revision)

    async def trim(self) -> None:
        state: State = self.store._state
        while state.untrimmed:
            state.trim(2)
        if self.model.floor == self.model.revision:
            assert (state.history_bytes, state.history_events) == (0, 0)

    async def restart(self) -> None:
        await self.store.close()
        await self.open()
        assert self.store.compact_revision == self.model.floor


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=25))
def test_store_behaves_like_the_model(steps: list[tuple], lazy_disk: Disk) -> None:
    original, sorted_keys.BLOCK_KEYS_MAX = sorted_keys.BLOCK_KEYS_MAX, 2
    try:
        with tempfile.TemporaryDirectory() as directory:
            asyncio.run(Comparison(Path(directory), lazy_disk).run(steps))
    finally:
        sorted_keys.BLOCK_KEYS_MAX = original
