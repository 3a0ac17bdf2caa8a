"""How far a cache is, and when etcd's word for it counts."""

import asyncio

import pytest

from orchestrator.base.clock import VirtualClock
from orchestrator.store.etcd.cache import Cache
from orchestrator.store.etcd.feed import progress_is_right
from orchestrator.store.etcd.maintenance import HISTORY_S, Maintenance
from orchestrator.store.interface import CompactedError
from orchestrator.store.record import PUT, Operation, Record


@pytest.mark.parametrize(
    ("version", "right"),
    [
        ("3.4.23", False),
        ("3.4.25", True),
        ("3.5.7", False),
        ("3.5.8", True),
        ("3.5.21", True),
        ("3.6.0-rc.1", True),
        ("4.0.0", True),
        ("", False),
        ("unknown", False),
    ],
)
def test_requested_progress_is_trusted_from_the_version_that_keeps_its_order(
    version: str, right: bool
) -> None:
    assert progress_is_right(version) is right


def put(revision: int, key: str = "/a", value: bytes = b"") -> Record:
    return Record(revision, [Operation(PUT, 0, key, value)])


async def test_waiters_go_on_at_their_revision_and_not_before() -> None:
    cache = Cache(VirtualClock())
    cache.replace(cache.blank(), 5)
    loop = asyncio.get_running_loop()
    waits = {revision: loop.create_task(cache.reached(revision)) for revision in (5, 7, 6, 9)}
    await asyncio.sleep(0)
    cache.apply([put(6)])
    await asyncio.sleep(0)
    assert [waits[revision].done() for revision in (5, 6, 7, 9)] == [True, True, False, False]
    cache.advance(8)
    await asyncio.sleep(0)
    assert waits[7].done() and not waits[9].done()
    cache.replace(cache.blank(), 9)
    await waits[9]


async def test_a_new_load_ends_the_watches_of_the_old_one() -> None:
    cache = Cache(VirtualClock())
    cache.replace(cache.blank(), 5)
    watch = cache.hub.watch("/", 5)
    cache.apply([put(6)])
    cache.replace(cache.blank(), 20)
    assert [event.revision for event in await anext(watch)] == [6]
    with pytest.raises(CompactedError) as raised:
        await anext(watch)
    assert raised.value.floor == 20


class Etcd:
    """Notes how far it was compacted."""

    def __init__(self) -> None:
        self.floors: list[int] = []

    async def compact(self, revision: int) -> None:
        self.floors.append(revision)


async def test_history_is_kept_for_its_time_here_and_in_etcd() -> None:
    clock, etcd = VirtualClock(), Etcd()
    cache = Cache(clock)
    cache.replace(cache.blank(), 5)
    maintenance = Maintenance(etcd, cache, clock)
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(maintenance.forget()), loop.create_task(maintenance.compact())]
    cache.apply([put(6), put(7)])
    await clock.advance(HISTORY_S - 10)
    cache.apply([put(8)])
    assert (cache.state.floor, etcd.floors) == (5, [])
    await clock.advance(40)
    assert (cache.state.floor, etcd.floors) == (7, [7])
    assert cache.state.history_events == 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
