"""The endpoints of the API follow the servers that live. On a log store: the rules are those of any store."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from orchestrator.admission.chain import AdmissionChain
from orchestrator.api.access import ADMIN, Attributes, Identity
from orchestrator.api.resources import ENDPOINTS, ENDPOINTSLICES, ResourceTable
from orchestrator.api.schema import Schemas
from orchestrator.assembly import apiservers
from orchestrator.assembly.apiservers import LEASE_S, ApiServers
from orchestrator.base.clock import VirtualClock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.local import LocalClient
from orchestrator.registry.registry import Registry
from orchestrator.registry.strategies import built_in
from orchestrator.store.engine import LogStore
from orchestrator.store.interface import Txn


class Everybody:
    async def authorize(self, identity: Identity, attributes: Attributes) -> None:
        pass


class World:
    def __init__(self, store: LogStore, registry: Registry, clock: VirtualClock) -> None:
        self.store, self.clock = store, clock
        self.client = LocalClient(registry, Everybody(), ADMIN)
        self.supervisors: list[Supervisor] = []

    def server(self, address: str, port: int = 6443) -> tuple[ApiServers, Supervisor]:
        supervisor = Supervisor("server", self.clock)
        self.supervisors.append(supervisor)
        return ApiServers(self.store, self.client, address, port, supervisor, self.clock), supervisor

    async def pass_time(self, duration_s: float) -> None:
        for _ in range(int(duration_s)):
            await self.clock.advance(1)
            for _ in range(4):
                await self.store.transact(Txn((), ()))  # The disk knows no virtual time.
                await self.clock.advance(0)

    async def become(self, *wanted: tuple[str, int]) -> None:
        """Until both kinds of endpoints say so; what is being written takes real time."""
        async with asyncio.timeout(20):
            while (await self.endpoints(), await self.slices()) != (set(wanted), set(wanted)):
                await self.clock.advance(0.1)

    async def endpoints(self) -> set[tuple[str, int]]:
        found = await self.client.get(ENDPOINTS, "kubernetes", "default")
        return {(a["ip"], s["ports"][0]["port"]) for s in found["subsets"] for a in s["addresses"]}

    async def slices(self) -> set[tuple[str, int]]:
        return {
            (address, item.object["ports"][0]["port"])
            for item in (await self.client.list(ENDPOINTSLICES, "default")).items
            for endpoint in item.object["endpoints"]
            for address in endpoint["addresses"]
        }


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = VirtualClock()
    store = await LogStore.open(tmp_path / "store", clock)
    rng = random.Random(3)
    strategies = built_in("10.43.0.0/24", range(30000, 30010), clock, rng)
    registry = Registry(store, ResourceTable(), Schemas.load(), strategies, AdmissionChain(), clock, rng)
    world = World(store, registry, clock)
    yield world
    for supervisor in world.supervisors:
        await supervisor.stop()
    await registry.close()
    await store.close()


async def test_the_address_of_a_dead_server_goes_and_others_stay(world: World) -> None:
    (a, dying), (b, _) = world.server("10.0.0.1"), world.server("10.0.0.2")
    await a.start()
    await b.start()
    await world.pass_time(3 * LEASE_S)
    await world.become(("10.0.0.1", 6443), ("10.0.0.2", 6443))
    await dying.stop()  # As a killed process: nobody renews, nobody says good-bye.
    await world.pass_time(LEASE_S)
    await world.become(("10.0.0.2", 6443))
    await world.pass_time(2 * LEASE_S)
    await world.become(("10.0.0.2", 6443))


async def test_servers_with_several_ports_have_a_slice_each(world: World) -> None:
    (a, _), (b, _), (c, _) = (
        world.server("10.0.0.1"),
        world.server("10.0.0.1", 7443),
        world.server("10.0.0.2"),
    )
    for server in (a, b, c):
        await server.start()
    await world.become(("10.0.0.1", 6443), ("10.0.0.2", 6443), ("10.0.0.1", 7443))
    assert len((await world.client.list(ENDPOINTSLICES, "default")).items) == 2
    await b.stop()
    await world.become(("10.0.0.1", 6443), ("10.0.0.2", 6443))
    assert len((await world.client.list(ENDPOINTSLICES, "default")).items) == 1


async def test_the_last_server_leaves_its_address_behind(world: World) -> None:
    """It may only be restarting; an empty Service would be told to every node."""
    a, _ = world.server("10.0.0.1")
    await a.start()
    await a.stop()
    await world.become(("10.0.0.1", 6443))


async def test_a_stop_that_takes_too_long_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    a, _ = world.server("10.0.0.1")
    await a.start()
    monkeypatch.setattr(apiservers, "STOP_TIMEOUT_S", 0.0)
    with capture_logs() as lines:
        await a.stop()
    assert [line["error"] for line in lines if "until its lease ends" in line["event"]] == [
        "nothing within 0 s"
    ]
