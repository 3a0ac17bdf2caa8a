"""Whom a node ends for a critical pod, and when that one starts."""

import pytest

from orchestrator.agent.pods.preempting import MESSAGE, Candidate, choose
from tests.unit.agent.conftest import World, container

CRITICAL = 2_000_000_000
LIGHT = Candidate("light", "BestEffort", {"pods": 1})
SMALL = Candidate("small", "Burstable", {"pods": 1, "memory": 100, "cpu": 100})
BIG = Candidate("big", "Burstable", {"pods": 1, "memory": 300, "cpu": 300})
FULL = Candidate("full", "Guaranteed", {"pods": 1, "memory": 200, "cpu": 200})


@pytest.mark.parametrize(
    ("lacking", "chosen"),
    [
        ({}, []),
        ({"pods": 1}, ["light"]),
        ({"memory": 100}, ["small"]),
        ({"memory": 101}, ["big"]),
        ({"memory": 350}, ["big", "small"]),
        ({"memory": 401}, ["big", "full"]),
        ({"memory": 300, "cpu": 400}, ["big", "small"]),
        ({"memory": 601}, None),
        ({"example.com/dongle": 1}, None),
    ],
)
def test_as_little_as_possible_goes(lacking: dict[str, int], chosen: list[str] | None) -> None:
    found = choose([LIGHT, SMALL, BIG, FULL], lacking)
    assert (None if found is None else [candidate.uid for candidate in found]) == chosen


async def test_a_critical_pod_starts_in_the_room_of_one_that_is_ended_for_it(world: World) -> None:
    agent = await world.agent()
    assert agent.manager is not None
    most = {"requests": {"cpu": agent.manager._context.facts.allocatable["cpu"]}}
    slow = container("app", resources=most, lifecycle={"preStop": {"sleep": {"seconds": 5}}})
    victim = await world.create("web", slow, terminationGracePeriodSeconds=20)
    await world.until(lambda: world.ready("web"))
    await world.create("picky", container("app", resources=most), priority=CRITICAL, nodeSelector={"a": "b"})
    await world.until(lambda: _is(world, "picky", "Failed", "NodeAffinity"))
    system = await world.create("system", container("app", resources=most), priority=CRITICAL)
    await world.until(lambda: _noted(world))
    await world.calm()
    assert not world.containers(system) and world.containers(victim)
    await world.pass_until(lambda: world.ready("system"))
    status = await world.status("web")
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "Preempting", MESSAGE)
    assert [(c["reason"], c["message"]) for c in status["conditions"] if c["type"] == "DisruptionTarget"] == [
        ("TerminationByKubelet", "Pod was preempted by Kubelet to accommodate a critical pod.")
    ]
    await world.create("other", container("app", resources=most), priority=CRITICAL)
    await world.until(lambda: _is(world, "other", "Failed", "UnexpectedAdmissionError"))
    assert (
        "no set of running pods found to reclaim resources: [(res: cpu, q: "
        in (await world.status("other"))["message"]
    )


async def _is(world: World, name: str, phase: str, reason: str) -> bool:
    status = await world.status(name)
    return (status.get("phase"), status.get("reason")) == (phase, reason)


async def _noted(world: World) -> bool:
    return ("Warning", "Preempting", MESSAGE) in world.notes.written
