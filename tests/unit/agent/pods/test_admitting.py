"""Who is let in, in which order, and with which words one is turned away."""

from typing import Any

import pytest

from orchestrator.agent.pods.admitting import Rejection, Room
from orchestrator.api.resources import NODES
from tests.unit.agent.builders import Json, pod, spec_of
from tests.unit.agent.conftest import World, container

ALLOCATABLE = {"cpu": "2", "memory": "1Gi", "pods": "3", "example.com/dongle": "1"}


def asks(uid: str, cpu: str = "0", memory: str = "0", **spec: Any) -> Json:
    requests = {"cpu": cpu, "memory": memory, **spec.pop("more", {})}
    made = pod(spec_of("app", resources={"requests": requests}, ports=spec.pop("ports", [])), **spec)
    return {**made, "metadata": {**made["metadata"], "uid": uid, "name": uid}}


def admit(room: Room, wanted: Json, *, adopted: bool = False) -> str:
    refused = room.admit(wanted, wanted["spec"], adopted=adopted)
    return refused.reason if refused else ""


def roomy() -> Room:
    return Room(lambda: ALLOCATABLE)


PORT = [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]
DONGLE = {"example.com/dongle": 1}
REFUSED = [
    ("cpu", [asks("a", "1500m")], asks("b", "600m"), "OutOfcpu"),
    ("memory", [asks("a", memory="1Gi")], asks("b", memory="1"), "OutOfmemory"),
    ("pods", [asks("a"), asks("b"), asks("c")], asks("d"), "OutOfpods"),
    ("a device", [asks("a", more=DONGLE)], asks("b", more=DONGLE), "OutOfexample.com/dongle"),
    ("a device of the cluster", [], asks("b", more={"example.com/elsewhere": 1}), ""),
    ("a host port", [asks("a", ports=PORT)], asks("b", ports=PORT), "NodePorts"),
    ("what just fits", [asks("a", "1500m")], asks("b", "500m"), ""),
    ("another system", [], asks("a", os={"name": "windows"}), "PodOSNotSupported"),
]  # fmt: skip


@pytest.mark.parametrize(("why", "before", "wanted", "reason"), REFUSED, ids=[case[0] for case in REFUSED])
def test_refusals(why: str, before: list[Json], wanted: Json, reason: str) -> None:
    room = roomy()
    assert [admit(room, each) for each in before] == [""] * len(before)
    assert admit(room, wanted) == reason


def test_the_words_are_a_kubelets() -> None:
    room = roomy()
    admit(room, asks("a", "1500m"))
    late = asks("b", "600m")
    assert room.admit(late, late["spec"]) == Rejection(
        "OutOfcpu",
        "Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000",
    )


def test_what_is_adopted_counts_unasked_and_leaves_its_room_at_the_end() -> None:
    room = roomy()
    assert admit(room, asks("a", "9"), adopted=True) == ""
    assert admit(room, asks("b", "1")) == "OutOfcpu"
    room.release("a")
    assert admit(room, asks("b", "1")) == ""


def test_a_resize_waits_for_room_and_the_more_important_one_gets_it() -> None:
    room, granted = roomy(), []
    for name in ("a", "b"):
        admit(room, asks(name, "500m"))
    admit(room, asks("c", "1"))
    for name, priority in (("a", 0), ("b", 10)):
        bigger = asks(name, "1500m", priority=priority)
        refused = room.resize(bigger, bigger["spec"], 0.0, lambda name=name: granted.append(name))
        assert refused is not None and refused.reason == "Deferred"
    room.release("c")
    assert granted == ["b"]
    bigger = asks("a", "3")
    refused = room.resize(bigger, bigger["spec"], 1.0, lambda: None)
    assert refused == Rejection(
        "Infeasible", "Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000"
    )


async def test_a_pod_beyond_the_node_fails_and_the_next_one_runs(world: World) -> None:
    await world.agent()
    await world.create("huge", container("app", resources={"requests": {"cpu": "4000"}}))
    await world.create("web")
    await world.until(lambda: world.ready("web"))
    status = await world.status("huge")
    assert (status["phase"], status["reason"]) == ("Failed", "OutOfcpu")
    assert status["message"].startswith(
        "Pod was rejected: Node didn't have enough resource: cpu, requested: "
    )
    assert "containerStatuses" not in status and not world.containers(await world.pod("huge"))
    assert "OutOfcpu" in world.notes.reasons()
    await world.delete("huge")
    await world.until(lambda: world.gone("huge"))


async def test_a_pod_bound_past_the_nodes_rules_fails(world: World) -> None:
    await world.agent()
    await world.create("picky", nodeSelector={"disk": "ssd"})
    await world.until(lambda: _failed(world, "picky", "NodeAffinity"))
    node = await world.admin.get(NODES, "n1")
    taint = {"key": "broken", "effect": "NoExecute"}
    await world.admin.update(NODES, {**node, "spec": {**node["spec"], "taints": [taint]}})
    await world.clock.advance(11)
    await world.create("weak")
    await world.until(lambda: _failed(world, "weak", "TaintToleration"))
    await world.create("strong", tolerations=[{"operator": "Exists"}])
    await world.until(lambda: world.ready("strong"))


async def _failed(world: World, name: str, reason: str) -> bool:
    status = await world.status(name)
    return (status.get("phase"), status.get("reason")) == ("Failed", reason)


async def test_room_is_free_as_soon_as_a_pod_has_ended(world: World) -> None:
    """The scheduler sends the next pod at once after the final phase or the removal of the object."""
    agent = await world.agent()
    assert agent.manager is not None
    cpu = agent.manager._context.facts.allocatable["cpu"]
    most = {"requests": {"cpu": cpu}}
    await world.create("job", container("app", "sleep", "3", resources=most), restartPolicy="Never")
    await world.until(lambda: world.ready("job"))
    await world.clock.advance(4)
    await world.until(lambda: _is(world, "job", "Succeeded"))
    await world.create("next", container("app", resources=most))
    await world.until(lambda: world.ready("next"))
    await world.delete("next")
    await world.until(lambda: world.gone("next"))
    await world.create("last", container("app", resources=most))
    await world.until(lambda: world.ready("last"))


async def _is(world: World, name: str, phase: str) -> bool:
    return (await world.status(name)).get("phase") == phase


async def test_a_refused_pod_stays_as_it_is_when_another_agent_comes(world: World) -> None:
    agent = await world.agent()
    await world.create("huge", container("app", resources={"requests": {"cpu": "4000"}}))
    await world.until(lambda: _failed(world, "huge", "OutOfcpu"))
    before = await world.status("huge")
    await agent.stop()
    await world.agent()
    await world.calm()
    assert await world.status("huge") == before
