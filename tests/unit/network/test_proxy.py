"""The proxy over a real registry: first rules, changes, bursts, failures, and waiting for an endpoint to be gone."""

import asyncio

import pytest

from orchestrator.api.resources import SERVICES
from orchestrator.network.dataplane.interface import NetworkError
from orchestrator.network.proxy import CHECK_PERIOD_S, ServiceProxy


class MemoryRenderer:
    """Holds the rules that a kernel would; can be held up, refuse, and be flushed."""

    def __init__(self):
        self.rules = None
        self.applied = 0
        self.free = asyncio.Event()
        self.free.set()
        self.refusals = 0

    async def apply(self, rules):
        await self.free.wait()
        self.applied += 1
        if self.refusals:
            self.refusals -= 1
            raise NetworkError("the kernel says no")
        self.rules = rules

    async def check(self):
        return self.rules is not None

    async def remove(self):
        self.rules = None

    def addresses(self, name="default/web:http"):
        ports = self.rules.ports if self.rules else ()
        return [endpoint.address for port in ports if port.name == name for endpoint in port.endpoints]


@pytest.fixture
async def renderer():
    return MemoryRenderer()


@pytest.fixture
async def proxy(world, renderer):
    made = ServiceProxy(
        world.informers, renderer, pod_cidr="10.42.0.0/16", service_cidr="10.43.0.0/16", clock=world.clock
    )
    made.start()
    yield made
    await made.stop()


async def test_the_first_rules_hold_everything_that_was_there(world, renderer, proxy):
    await world.put(world.service())
    await world.put(world.slice("10.42.0.2", "10.42.0.3"))
    assert not proxy.synced.is_set() and renderer.rules is None
    world.informers.start()
    await proxy.synced.wait()
    assert renderer.addresses() == ["10.42.0.2", "10.42.0.3"]


async def test_an_empty_cluster_gets_its_empty_rules(world, renderer, proxy):
    world.informers.start()
    await proxy.synced.wait()
    assert renderer.rules.ports == ()


async def test_changes_are_followed_until_the_service_goes(world, renderer, proxy):
    world.informers.start()
    await world.put(world.slice("10.42.0.2"))
    await world.put(world.service())
    await world.until(lambda: renderer.addresses() == ["10.42.0.2"])
    await world.put(world.slice("10.42.0.3"))
    await world.until(lambda: renderer.addresses() == ["10.42.0.3"])
    await world.client.delete(SERVICES, "web", "default")
    await world.until(lambda: renderer.rules.ports == ())


async def test_a_burst_during_an_application_is_one_more_application(world, renderer, proxy):
    world.informers.start()
    await world.put(world.service())
    await proxy.synced.wait()
    await world.until(lambda: renderer.rules.ports)
    before = renderer.applied
    renderer.free.clear()
    for number in range(2, 30):
        await world.put(world.slice(f"10.42.0.{number}"))
    renderer.free.set()
    await world.until(lambda: renderer.addresses() == ["10.42.0.29"])
    assert renderer.applied - before <= 3


async def test_flushed_rules_come_back_within_a_second(world, renderer, proxy):
    await world.put(world.service())
    await world.put(world.slice("10.42.0.2"))
    world.informers.start()
    await proxy.synced.wait()
    await renderer.remove()
    assert CHECK_PERIOD_S < 1
    await world.clock.advance(CHECK_PERIOD_S)
    await world.until(lambda: renderer.addresses() == ["10.42.0.2"])


async def test_a_refusing_kernel_is_asked_again(world, renderer, proxy):
    renderer.refusals = 2
    await world.put(world.service())
    await world.put(world.slice("10.42.0.2"))
    world.informers.start()
    for _ in range(4):
        await world.until(lambda: renderer.applied > 0)
        await world.clock.advance(1)
    await world.until(lambda: renderer.addresses() == ["10.42.0.2"])
    assert proxy.synced.is_set()


async def test_waiting_ends_when_the_rules_without_the_endpoint_are_applied(world, renderer, proxy):
    await world.put(world.service())
    await world.put(world.slice("10.42.0.2", "10.42.0.3"))
    world.informers.start()
    await proxy.synced.wait()
    assert await proxy.wait_without("10.42.0.99", 0.01), (
        "an address that nobody serves need not be waited for"
    )
    assert not await proxy.wait_without("10.42.0.2", 0.01)
    waiting = asyncio.ensure_future(proxy.wait_without("10.42.0.2", 10))
    renderer.free.clear()
    await world.put(world.slice("10.42.0.3"))
    await asyncio.sleep(0.01)
    assert not waiting.done(), "the rules are not applied yet"
    renderer.free.set()
    assert await waiting
    assert renderer.addresses() == ["10.42.0.3"]


async def test_an_endpoint_of_last_resort_is_not_waited_for(world, renderer, proxy):
    leaving = {"ready": False, "serving": True, "terminating": True}
    await world.put(world.service())
    await world.put(world.slice({"addresses": ["10.42.0.2"], "conditions": leaving}))
    world.informers.start()
    await proxy.synced.wait()
    assert renderer.addresses() == ["10.42.0.2"]
    assert await proxy.wait_without("10.42.0.2", 0.01)
