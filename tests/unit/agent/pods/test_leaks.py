"""Pods come and go in any order, containers die, the agent is replaced in the middle: in the end nothing is left.

`AGENT_TEST_CYCLES` says how many pods (the nightly campaign takes 100,000), `AGENT_TEST_SEED` how they go.
"""

import os
import random

from orchestrator.agent.agent import Agent
from orchestrator.api.resources import PODS
from orchestrator.runtime.simulated import SimulatedRuntime
from tests.unit.agent.conftest import World, container

CYCLES = int(os.environ.get("AGENT_TEST_CYCLES", "40"))
SEED = int(os.environ.get("AGENT_TEST_SEED", "1"))
AT_ONCE = 24


async def test_nothing_is_left_of_pods_that_came_and_went(world: World) -> None:
    rng = random.Random(SEED)
    agent = await world.agent()
    alive: list[str] = []
    for number in range(CYCLES):
        alive.append(await _come(world, rng, number))
        agent = await _disturb(world, rng, agent)
        while len(alive) > rng.randrange(AT_ONCE):
            await world.delete(alive.pop(rng.randrange(len(alive))), rng.choice((0, 1, None)))
        if rng.random() < 0.1:
            await world.clock.advance(rng.choice((0.1, 3, 40)))
    for name in alive:
        await world.delete(name)

    async def none() -> bool:
        return not (await world.admin.list(PODS)).items

    await world.pass_until(none)
    left = ["everything"]

    def forgotten() -> bool:
        left[:] = _left(world, agent)
        return not left

    try:
        await world.pass_until(forgotten)
    except AssertionError:
        raise AssertionError(f"left with seed {SEED}: {left}") from None


async def _come(world: World, rng: random.Random, number: int) -> str:
    kinds = (
        container("app"),
        container("app", "sleep", "3"),
        container("app", "false"),
        container("app", "true"),
    )
    inits = [container("init", "true")] if rng.random() < 0.3 else []
    policy = rng.choice(("Always", "OnFailure", "Never"))
    await world.create(f"pod-{number}", rng.choice(kinds), restartPolicy=policy, initContainers=inits)
    return f"pod-{number}"


async def _disturb(world: World, rng: random.Random, agent: Agent) -> Agent:
    """A container is killed past the agent, a sandbox is taken away, or the agent is replaced."""
    dice = rng.random()
    if dice < 0.05:
        await agent.stop()
        return await world.agent()
    runtime = world.runtime
    if dice < 0.3 and runtime._containers:
        await runtime.stop_container(rng.choice(sorted(runtime._containers)), 0)
    elif dice < 0.4 and runtime._sandboxes:
        await runtime.stop_sandbox(rng.choice(sorted(runtime._sandboxes)))
    elif dice < 0.45 and runtime._sandboxes:
        await runtime.remove_sandbox(rng.choice(sorted(runtime._sandboxes)))
    return agent


def _left(world: World, agent: Agent) -> list[str]:
    """What the node, the engine or the agent still has of any pod."""
    manager, runtime = agent.manager, world.runtime
    assert manager is not None
    assert isinstance(runtime, SimulatedRuntime)
    kept = {
        "sandboxes": runtime._sandboxes,
        "containers": runtime._containers,
        "containers by sandbox": runtime._by_sandbox,
        "addresses": world.network._held,
        "workers": manager._workers,
        "probes": manager._context.prober._watched,
        "pulls": manager._context.images._pulls,
    }
    return [f"{name}: {list(what)}" for name, what in kept.items() if what]
