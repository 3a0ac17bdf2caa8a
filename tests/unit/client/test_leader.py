"""Two candidates on one store: at most one works, by every clock, and somebody does whenever that is possible."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.admission.chain import AdmissionChain
from orchestrator.api.access import ADMIN, Attributes, Identity
from orchestrator.api.errors import ServiceUnavailable
from orchestrator.api.item import Object
from orchestrator.api.resources import CONFIGMAPS, LEASES, Resource, ResourceTable
from orchestrator.api.schema import Schemas
from orchestrator.base.clock import VirtualClock
from orchestrator.client.leader import Elector, OnlyLeader
from orchestrator.client.local import LocalClient
from orchestrator.registry.registry import Registry
from orchestrator.registry.strategies import built_in
from orchestrator.store.engine import LogStore

LEASE_S, DEADLINE_S, RETRY_MAX_S = 15.0, 10.0, 2.0 * 2.2


class Everybody:
    async def authorize(self, identity: Identity, attributes: Attributes) -> None:
        pass


class Line(LocalClient):
    """A client whose way to the API can be cut: requests fail, or hang."""

    broken = False
    hangs = False
    busy = 0

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        async with self._way():
            return await super().get(resource, name, namespace)

    async def create(
        self, resource: Resource, obj: Object, namespace: str = "", *, subresource: str = "", name: str = ""
    ) -> Object:
        async with self._way():
            return await super().create(resource, obj, namespace, subresource=subresource, name=name)

    async def update(self, resource: Resource, obj: Object, *, subresource: str = "") -> Object:
        async with self._way():
            return await super().update(resource, obj, subresource=subresource)

    @asynccontextmanager
    async def _way(self) -> AsyncIterator[None]:
        if self.hangs:
            await asyncio.Event().wait()
        if self.broken:
            raise ServiceUnavailable("cut off")
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1


class Interrupted(VirtualClock):
    """A clock of a process or machine that stood still: time has passed, but nothing has run."""

    frozen_s = 0.0
    suspended_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.frozen_s

    def now_s(self) -> float:
        return super().now_s() + self.frozen_s + self.suspended_s


class Candidate:
    """An elector with its own clock and line; its work is a line in the common book."""

    def __init__(self, name: str, registry: Registry, book: list[tuple[str, str]]) -> None:
        self.name, self.book = name, book
        self.clock = Interrupted()
        self.line = Line(registry, Everybody(), ADMIN)
        self.elector = Elector("thing", name, self.line, self, self.clock, random.Random(name))
        self.client = LocalClient(registry, OnlyLeader(Everybody(), self.elector), ADMIN)

    def start(self) -> None:
        self.book.append((self.name, "starts"))

    async def stop(self) -> None:
        self.book.append((self.name, "stops"))

    async def write(self) -> None:
        await self.client.create(CONFIGMAPS, {"metadata": {"generateName": "x-"}, "data": {}}, "default")


class World:
    def __init__(self, registry: Registry) -> None:
        self.book: list[tuple[str, str]] = []
        self.registry = registry
        self.a, self.b = Candidate("a", registry, self.book), Candidate("b", registry, self.book)

    async def pass_time(self, duration_s: float, *only: Candidate) -> None:
        """On both clocks, in small steps; or on those named."""
        until_s = duration_s
        while until_s > 0:
            step_s = min(0.25, until_s)
            for candidate in only or (self.a, self.b):
                await candidate.clock.advance(step_s)
            while self.a.line.busy or self.b.line.busy:  # noqa: ASYNC110 - the disk knows no virtual time
                await asyncio.sleep(0)
            until_s -= step_s

    async def lease(self) -> Any:
        return (await self.a.client.get(LEASES, "thing", "kube-system"))["spec"]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = VirtualClock()
    store = await LogStore.open(tmp_path / "store", clock)
    rng = random.Random(3)
    strategies = built_in("10.43.0.0/24", range(30000, 30010), clock, rng)
    registry = Registry(store, ResourceTable(), Schemas.load(), strategies, AdmissionChain(), clock, rng)
    world = World(registry)
    world.a.elector.start()
    await world.pass_time(0.25)
    world.b.elector.start()
    await world.pass_time(0.25)
    yield world
    for candidate in (world.a, world.b):
        candidate.line.hangs = False
        await candidate.elector.stop()
    await registry.close()
    await store.close()


async def test_one_of_two_leads_and_its_lease_says_so(world: World) -> None:
    await world.pass_time(60)
    assert world.book == [("a", "starts")]
    lease = await world.lease()
    assert (lease["holderIdentity"], lease["leaseDurationSeconds"], lease["leaseTransitions"]) == ("a", 15, 0)
    assert lease["renewTime"] > lease["acquireTime"]
    await world.a.write()
    with pytest.raises(ServiceUnavailable):
        await world.b.write()


async def test_a_dead_leader_is_followed_when_its_lease_is_over_and_not_before(world: World) -> None:
    await world.pass_time(10)
    await world.pass_time(LEASE_S - 0.5, world.b)  # a's process is gone: its clock stands still.
    assert world.book == [("a", "starts")]
    await world.pass_time(0.5 + 2 * RETRY_MAX_S, world.b)
    assert world.book == [("a", "starts"), ("b", "starts")]
    assert (await world.lease())["leaseTransitions"] == 1


@pytest.mark.parametrize("fault", ["broken", "hangs"])
async def test_a_leader_that_is_cut_off_stops_before_another_starts(world: World, fault: str) -> None:
    await world.pass_time(5)
    setattr(world.a.line, fault, True)
    await world.pass_time(DEADLINE_S + 0.5)
    assert world.book == [("a", "starts"), ("a", "stops")]
    with pytest.raises(ServiceUnavailable):
        await world.a.write()
    await world.pass_time(LEASE_S)
    assert world.book == [("a", "starts"), ("a", "stops"), ("b", "starts")]


async def test_a_short_fault_ends_no_term(world: World) -> None:
    await world.pass_time(5)
    world.a.line.broken = True
    await world.pass_time(DEADLINE_S - 5)
    world.a.line.broken = False
    await world.pass_time(30)
    assert world.book == [("a", "starts")]


async def test_a_frozen_leader_writes_nothing_when_it_thaws(world: World) -> None:
    await world.pass_time(5)
    await world.pass_time(LEASE_S + 2 * RETRY_MAX_S, world.b)
    assert ("b", "starts") in world.book
    world.a.clock.frozen_s = LEASE_S + 2 * RETRY_MAX_S  # Nothing of a has run yet, its work least of all.
    with pytest.raises(ServiceUnavailable):
        await world.a.write()
    await world.b.write()
    await world.pass_time(3)
    assert world.book == [("a", "starts"), ("b", "starts"), ("a", "stops")]


async def test_a_suspended_leader_is_told_by_the_wall_clock(world: World) -> None:
    """The monotonic clock may stand still while a machine is suspended."""
    await world.pass_time(5)
    world.a.clock.suspended_s = 60
    with pytest.raises(ServiceUnavailable):
        await world.a.write()


async def test_a_clean_stop_hands_over_at_once(world: World) -> None:
    await world.pass_time(5)
    await world.a.elector.stop()
    world.b.elector.look()
    await world.pass_time(0.25)
    assert world.book == [("a", "starts"), ("a", "stops"), ("b", "starts")]
    assert (await world.lease())["leaseTransitions"] == 1


async def test_a_lease_taken_away_ends_the_term_and_may_be_won_again(world: World) -> None:
    await world.pass_time(5)
    lease = await world.a.client.get(LEASES, "thing", "kube-system")
    await LocalClient(world.registry, Everybody(), ADMIN).update(
        LEASES, {**lease, "spec": {**lease["spec"], "holderIdentity": "somebody"}}
    )
    await world.pass_time(2 * RETRY_MAX_S)
    assert world.book == [("a", "starts"), ("a", "stops")]
    await world.pass_time(LEASE_S + 2 * RETRY_MAX_S)
    assert len(world.book) == 3 and world.book[2][1] == "starts"


async def test_a_deleted_lease_is_made_again_by_one_of_them(world: World) -> None:
    await world.pass_time(5)
    await LocalClient(world.registry, Everybody(), ADMIN).delete(LEASES, "thing", "kube-system")
    await world.pass_time(60)
    working = [name for name, what in world.book if what == "starts"]
    stopped = [name for name, what in world.book if what == "stops"]
    assert len(working) == len(stopped) + 1


async def test_work_that_fails_to_start_is_tried_again(world: World) -> None:
    await world.pass_time(5)
    await world.a.elector.stop()
    failures = iter([True])

    def start() -> None:
        if next(failures, False):
            raise RuntimeError("no")
        Candidate.start(world.b)

    world.b.start = start  # type: ignore[method-assign]
    world.b.elector.look()
    await world.pass_time(5)
    assert world.book == [("a", "starts"), ("a", "stops"), ("b", "stops"), ("b", "starts")]
