"""A node that runs short: what is reclaimed, who is evicted, who is spared, whom it takes meanwhile."""

from typing import Any

from orchestrator.agent.agent import Agent
from orchestrator.agent.eviction.manager import EvictionManager
from orchestrator.agent.eviction.observe import HostObserver, Observations
from orchestrator.agent.eviction.thresholds import Observation, parse
from orchestrator.agent.settings import EvictionSettings
from orchestrator.api.item import Object
from orchestrator.api.resources import NODES
from tests.unit.agent.builders import pod as bare
from tests.unit.agent.conftest import World, container

SYSTEM = 2_000_001_000


class Host:
    """What is left, as the test says."""

    own_image_disk = False

    def __init__(self) -> None:
        self.left = {"memory.available": 900, "nodefs.available": 900, "imagefs.available": 900}

    async def look(self) -> Observations:
        return {signal: Observation(left, 1000) for signal, left in self.left.items()}


class Tight:
    """An agent whose eviction looks at a host of the test's."""

    def __init__(self, world: World, agent: Agent, settings: EvictionSettings | None = None) -> None:
        self.world = world
        self.host = Host()
        keeping = agent._housekeeping
        assert keeping is not None
        thresholds = parse(["memory.available<100", "nodefs.available<10%", "imagefs.available<15%"])
        self.manager = EvictionManager(
            settings or EvictionSettings(thresholds), self.host, keeping, agent.reporter.report_now,
            world.clock, world.supervisor,
        )  # fmt: skip
        agent.reporter.pressures = self.manager.pressures
        assert agent.manager is not None
        agent.manager._context.admission.insert(0, self.manager.refuse)

    async def phase(self, name: str) -> str:
        return str((await self.world.status(name)).get("phase"))

    async def condition(self, kind: str) -> str:
        node = await self.world.admin.get(NODES, "n1")
        return next(str(c["status"]) for c in node["status"]["conditions"] if c["type"] == kind)

    async def failed(self, name: str) -> Object:
        async def over() -> bool:
            return await self.phase(name) == "Failed"

        await self.world.pass_until(over)
        return await self.world.status(name)

    async def running(self, *names: str) -> None:
        for name in names:
            await self.world.pass_until(lambda name=name: self.world.ready(name))  # type: ignore[misc]


async def tight(world: World, settings: EvictionSettings | None = None) -> Tight:
    return Tight(world, await world.agent(simulated=False), settings)


async def test_under_memory_pressure_the_greediest_goes_and_besteffort_pods_are_refused(world: World) -> None:
    node = await tight(world)
    asked = {"resources": {"requests": {"memory": "10Gi", "cpu": "1m"}}}
    await world.create("modest", container("app", **asked))
    await world.create("greedy")
    await world.create("vital", priority=SYSTEM, priorityClassName="system-node-critical")
    await node.running("modest", "greedy", "vital")
    node.host.left["memory.available"] = 50
    evicted = await node.manager.look()
    assert [worker.pod["metadata"]["name"] for worker in evicted] == ["greedy"]
    status = await node.failed("greedy")
    assert status["reason"] == "Evicted"
    assert status["message"].startswith(
        "The node was low on resource: memory. Threshold quantity: 100, available: 50. "
    )
    assert (
        next(c for c in status["conditions"] if c["type"] == "DisruptionTarget")["message"]
        == status["message"]
    )
    assert await node.condition("MemoryPressure") == "True"
    assert ("Warning", "EvictionThresholdMet", "Attempting to reclaim memory") in world.notes.written
    assert ("Warning", "Evicted", status["message"]) in world.notes.written
    assert await node.phase("modest") == await node.phase("vital") == "Running"
    await world.create("late")
    late = await node.failed("late")
    assert late["message"] == "Pod was rejected: The node had condition: [MemoryPressure]. "
    await world.create("asking", container("app", resources={"requests": {"memory": "1Mi"}}))
    await node.running("asking")


def test_whom_a_node_under_pressure_takes(world: World) -> None:
    manager = EvictionManager.__new__(EvictionManager)
    tolerating = [{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}]
    asking = {"containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}]}
    cases: list[tuple[set[str], dict[str, Any], bool]] = [
        (set(), {}, True),
        ({"MemoryPressure"}, {}, False),
        ({"MemoryPressure"}, {"tolerations": tolerating}, True),
        ({"MemoryPressure"}, asking, True),
        ({"DiskPressure"}, {"tolerations": tolerating, **asking}, False),
        ({"DiskPressure"}, {"priority": SYSTEM}, True),
        ({"MemoryPressure", "PIDPressure"}, asking, False),
    ]
    for shown, spec, taken in cases:
        manager._state = type("S", (), {"pressures": frozenset(shown)})()
        assert (manager.refuse({**bare(), "spec": {**bare()["spec"], **spec}}) is None) is taken, (
            shown,
            spec,
        )


async def test_a_full_disk_is_cleared_of_dead_containers_and_images_before_any_pod_goes(world: World) -> None:
    node = await tight(world)
    await world.runtime.image("unused:1")
    done = await world.create("done", container("app", "exit", "0"), restartPolicy="Never")
    await world.create("web")
    await node.running("web")
    await world.pass_until(lambda: _is(node, "done", "Succeeded"))
    await world.clock.advance(121)
    node.host.left["imagefs.available"] = 100
    removed = world.runtime.remove_image

    async def remove(image_id: str) -> None:
        await removed(image_id)
        node.host.left["imagefs.available"] = 500

    world.runtime.remove_image = remove  # type: ignore[method-assign]
    assert await node.manager.look() == []
    assert [tag for image in await world.runtime.list_images() for tag in image.tags] == ["demo:1"]
    assert world.containers(done) == [] and await node.phase("web") == "Running"
    assert await node.condition("DiskPressure") == "True", "it shows for the transition period"
    await world.clock.advance(301)
    await node.manager.look()
    assert await node.condition("DiskPressure") == "False"


async def _is(node: Tight, name: str, phase: str) -> bool:
    return await node.phase(name) == phase


async def test_a_disk_that_stays_full_costs_a_pod_at_a_time(world: World) -> None:
    node = await tight(world)
    for name in ("a", "b"):
        await world.create(name)
    await node.running("a", "b")
    node.host.left["nodefs.available"] = 10
    first = await node.manager.look()
    assert len(first) == 1
    await node.failed(first[0].pod["metadata"]["name"])
    second = await node.manager.look()
    assert {each.pod["metadata"]["name"] for each in (*first, *second)} == {"a", "b"}
    assert await node.manager.look() == [], "nothing is left to evict"


async def test_a_pod_beyond_its_storage_limit_goes_while_the_node_has_room(world: World) -> None:
    node = await tight(world)
    pod = await world.create(
        "full",
        container("app", volumeMounts=[{"name": "v", "mountPath": "/v"}]),
        volumes=[{"name": "v", "emptyDir": {"sizeLimit": "4Ki"}}],
    )
    await world.create("other")
    await node.running("full", "other")
    assert await node.manager.look() == []
    (found,) = (world.directory / "agent").glob(f"pods/{pod['metadata']['uid']}/volumes/**/v")
    (found / "data").write_bytes(b"x" * 20_000)
    # The agent's own manager finds it, at one of its looks.
    status = await node.failed("full")
    assert status["message"] == 'Usage of EmptyDir volume "v" exceeds the limit "4Ki". '
    assert await node.phase("other") == "Running"


async def test_the_host_itself_is_measured(world: World) -> None:
    seen = await HostObserver(world.directory, world.runtime, world.clock).look()
    assert seen.keys() >= {"memory.available", "pid.available", "nodefs.available", "imagefs.available"}
    assert all(0 < found.available <= found.capacity for found in seen.values())
