"""The node's own object: registration, conditions, lease, and what is not written."""

from typing import Any

import pytest

from orchestrator.agent.context import NodeFacts
from orchestrator.agent.node import hostfacts
from orchestrator.agent.node.addresses import FollowedAddress
from orchestrator.agent.node.capacity import allocatable, capacity
from orchestrator.agent.node.reporter import NodeReporter, NodeSettings
from orchestrator.agent.settings import KubeletSettings
from orchestrator.api.item import Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import LEASES, NODES
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime.interface import RuntimeUnavailable
from orchestrator.runtime.simulated import SimulatedRuntime
from tests.unit.agent.conftest import World


class Engine(SimulatedRuntime):
    """One that may be down."""

    down = False

    async def version(self) -> str:
        if self.down:
            raise RuntimeUnavailable("no answer within 10 s")
        return await super().version()


@pytest.fixture
def engine(world: World) -> Engine:
    return Engine(world.clock, world.supervisor)


def reporter(world: World, engine: Engine, labels: dict[str, str] | None = None, **more: Any) -> NodeReporter:
    host = hostfacts.read(world.directory)
    known = KubeletSettings()
    facts = NodeFacts("n1", "192.0.2.7", capacity(host, known), allocatable(host, known), host.memory_bytes)
    settings = NodeSettings(10250, labels or {}, world.directory, **more)
    return NodeReporter(facts, host, settings, world.node_client, engine, world.clock, world.notes)


async def node(world: World) -> Object:
    return await world.admin.get(NODES, "n1")


async def condition(world: World, kind: str = "Ready") -> Object:
    found = (await node(world))["status"]["conditions"]
    return next(dict(c) for c in found if c["type"] == kind)


async def fresh(world: World) -> None:
    await world.admin.delete(NODES, "n1", "", DeleteOptions())


async def test_a_new_node_is_not_ready_before_its_network(world: World, engine: Engine) -> None:
    await fresh(world)
    made = reporter(world, engine, {"zone": "a"})
    await made.register()
    found = await node(world)
    assert found["metadata"]["labels"].items() >= {"kubernetes.io/hostname": "n1", "zone": "a"}.items()
    assert (await condition(world))["status"] == "False"
    assert "network not ready" in (await condition(world))["message"]
    await made.network_ready()
    assert (await condition(world))["status"] == "True"
    status = (await node(world))["status"]
    assert status["capacity"]["pods"] == "110"
    assert status["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 10250}}
    assert status["nodeInfo"]["containerRuntimeVersion"] == "simulated://1.0"
    assert status["nodeInfo"]["kubeletVersion"].startswith("v1.36")


async def test_a_ready_node_stays_ready_while_its_agent_starts_again(world: World, engine: Engine) -> None:
    first = reporter(world, engine)
    await first.register()
    await first.network_ready()
    since = (await condition(world))["lastTransitionTime"]
    await world.clock.advance(5)
    again = reporter(world, engine, {"zone": "b"})
    await again.register()
    assert ((await condition(world))["status"], (await condition(world))["lastTransitionTime"]) == (
        "True",
        since,
    )
    assert (await node(world))["metadata"]["labels"]["zone"] == "b"


async def test_an_engine_that_is_down_makes_the_node_not_ready_and_its_return_ready(
    world: World, engine: Engine
) -> None:
    made = reporter(world, engine)
    await made.register()
    await made.network_ready()
    supervisor = Supervisor("t", world.clock)
    supervisor.serve("report", made.report)

    async def shows(value: str) -> bool:
        return bool((await condition(world))["status"] == value)

    engine.down = True
    assert await world.pass_until(lambda: shows("False")) <= 12
    assert "no answer within 10 s" in (await condition(world))["message"]
    engine.down = False
    assert await world.pass_until(lambda: shows("True")) <= 12
    await supervisor.stop()


async def test_a_healthy_node_writes_its_status_every_five_minutes_only(world: World, engine: Engine) -> None:
    made = reporter(world, engine)
    await made.register()
    await made.network_ready()
    supervisor = Supervisor("t", world.clock)
    supervisor.serve("report", made.report)
    before = (await node(world))["metadata"]["resourceVersion"]
    await world.clock.advance(290)
    await world.calm()
    assert (await node(world))["metadata"]["resourceVersion"] == before

    async def written() -> bool:
        return bool((await node(world))["metadata"]["resourceVersion"] != before)

    await world.pass_until(written)
    await supervisor.stop()


async def test_conditions_of_others_stay(world: World, engine: Engine) -> None:
    made = reporter(world, engine)
    await made.register()
    found = await node(world)
    theirs = {"type": "NetworkUnavailable", "status": "False", "reason": "Theirs", "message": ""}
    status = {**found["status"], "conditions": [theirs, *found["status"]["conditions"]]}
    await world.admin.update(NODES, {**found, "status": status}, subresource="status")
    await made.network_ready()
    assert (await condition(world, "NetworkUnavailable"))["reason"] == "Theirs"


async def test_the_lease_belongs_to_the_node_and_is_renewed(world: World, engine: Engine) -> None:
    made = reporter(world, engine)
    await made.register()
    supervisor = Supervisor("t", world.clock)
    supervisor.serve("renew", made.renew)

    async def lease() -> Object:
        found = await world.admin.list(LEASES, "kube-node-lease")
        return found.items[0].object if found.items else {}

    async def there() -> bool:
        return bool(await lease())

    await world.until(there)
    first = await lease()
    assert first["metadata"]["ownerReferences"][0]["uid"] == (await node(world))["metadata"]["uid"]
    assert first["spec"]["holderIdentity"] == "n1"

    async def renewed() -> bool:
        return bool((await lease())["spec"]["renewTime"] != first["spec"]["renewTime"])

    assert await world.pass_until(renewed) <= 12
    await world.admin.delete(LEASES, "n1", "kube-node-lease")
    await world.pass_until(there)
    await supervisor.stop()


async def test_a_new_node_gets_its_taints_and_an_old_one_keeps_its_own(world: World, engine: Engine) -> None:
    taint = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
    await fresh(world)
    await reporter(world, engine, taints=(taint,)).register()
    assert (await node(world))["spec"]["taints"] == [taint]
    await reporter(world, engine, taints=({"key": "other", "effect": "NoExecute"},)).register()
    assert (await node(world))["spec"]["taints"] == [taint]


async def test_pressures_show_at_once_with_their_events(world: World, engine: Engine) -> None:
    made = reporter(world, engine)
    await made.register()
    await made.network_ready()
    world.notes.written.clear()
    made.pressures = lambda: {"DiskPressure"}
    await made.report_now()
    found = await condition(world, "DiskPressure")
    assert (found["status"], found["reason"]) == ("True", "KubeletHasDiskPressure")
    assert world.notes.written == [
        ("Normal", "NodeHasDiskPressure", "Node n1 status is now: NodeHasDiskPressure")
    ]
    made.problems["shutdown"] = "node is shutting down"
    await made.report_now()
    assert (await condition(world))["message"] == "node is shutting down"
    assert world.notes.reasons()[-1] == "NodeNotReady"


async def test_the_address_follows_the_host(world: World, engine: Engine) -> None:
    answers = {4: "192.0.2.7"}
    following = FollowedAddress("192.0.2.7", lambda version: answers[version])
    made = reporter(world, engine, address=following)
    told: list[str] = []
    made.on_address = told.append
    await made.register()
    for answer in ("192.0.2.8", ""):
        answers[4] = answer
        await made.report_now()
    addresses = (await node(world))["status"]["addresses"]
    assert addresses[0] == {"type": "InternalIP", "address": "192.0.2.7"}
    assert told == ["192.0.2.8", "192.0.2.7"], "without a default route it is the one of the start"


async def test_the_status_lists_images_and_extended_resources(world: World, engine: Engine) -> None:
    await engine.image("demo:1")
    made = reporter(world, engine)
    made.extended = lambda: ({"example.com/gpu": "2"}, {"example.com/gpu": "1"})
    await made.register()
    status = (await node(world))["status"]
    assert status["images"] == [{"names": ["demo:1"], "sizeBytes": 1_000_000}]
    assert (status["capacity"]["example.com/gpu"], status["allocatable"]["example.com/gpu"]) == ("2", "1")


async def test_a_host_that_was_restarted_is_told(world: World, engine: Engine) -> None:
    await reporter(world, engine).register()
    found = await node(world)
    info = {**found["status"]["nodeInfo"], "bootID": "before"}
    await world.admin.update(
        NODES, {**found, "status": {**found["status"], "nodeInfo": info}}, subresource="status"
    )
    await reporter(world, engine).register()
    assert "Rebooted" in world.notes.reasons()
