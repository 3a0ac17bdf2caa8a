"""An agent that dies without a word at any step of a pod's way: the next one finishes the work, nothing is left.

Every call that changes something outside the agent is a step. Just after the chosen one the agent stands still for
ever; then it is taken away, and another one begins on what is there.
"""

import asyncio
from typing import Any

from orchestrator.api.item import Object
from tests.unit.agent.builders import Json
from tests.unit.agent.conftest import World, container

STEPS_MAX = 100
CHANGING = {
    "create_sandbox", "stop_sandbox", "remove_sandbox", "create_container", "start_container", "stop_container",
    "remove_container", "update_resources", "attach", "detach", "update", "delete",
}  # fmt: skip


class Fate:
    """Counts steps; at the one that was chosen the agent dies."""

    def __init__(self, step: int) -> None:
        self._left = step
        self.dead = asyncio.Event()
        self.last = ""

    async def pass_through(self, name: str, call: Any) -> Any:
        if self.dead.is_set():
            await asyncio.Event().wait()
        self._left -= 1
        if self._left == 0:
            self.last = name
            await call()
            self.dead.set()
            await asyncio.Event().wait()
        return await call()


class Mortal:
    """Stands before a runtime, a network or a client; what changes something passes through fate."""

    def __init__(self, behind: Any, fate: Fate) -> None:
        self._behind = behind
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._behind, name)
        if name not in CHANGING:
            return found

        async def fated(*args: Any, **more: Any) -> Any:
            return await self._fate.pass_through(name, lambda: found(*args, **more))

        return fated


async def reached(world: World, fate: Fate, condition: Any) -> bool:
    """Whether `condition` came true before the agent died."""
    for _ in range(3000):
        if fate.dead.is_set():
            return False
        if await condition():
            return True
        await world._rest()
        if not await condition():
            await world.clock.advance(1.0)
    raise AssertionError(f"neither dead nor done, last step {fate.last!r}")


async def doomed(world: World, step: int) -> Fate:
    fate = Fate(step)
    agent = await world.built(
        runtime=Mortal(world.runtime, fate),
        network=Mortal(world.network, fate),
        client=Mortal(world.node_client, fate),
    )
    starting = asyncio.ensure_future(agent.start())
    await asyncio.wait((starting, asyncio.ensure_future(fate.dead.wait())), return_when="FIRST_COMPLETED")
    if not starting.done():
        starting.cancel()
    return fate


POD: Json = {
    "initContainers": [container("first", "true"), container("side", restartPolicy="Always")],
    "terminationGracePeriodSeconds": 5,
}
APP = container(
    "app",
    lifecycle={"preStop": {"exec": {"command": ["true"]}}, "postStart": {"exec": {"command": ["true"]}}},
)


async def life(world: World, fate: Fate, name: str) -> bool:
    """From creation to the end; False when the agent died on the way."""
    await world.create(name, APP, **POD)
    if not await reached(world, fate, lambda: world.ready(name)):
        return False
    await world.delete(name)
    return await reached(world, fate, lambda: world.gone(name))


async def test_at_every_step_of_a_pods_life(world: World) -> None:
    for step in range(1, STEPS_MAX):
        fate = await doomed(world, step)
        name = f"web-{step}"
        lived = await life(world, fate, name)
        await world.agents[-1].stop()
        if lived:
            break
        await world.agent()
        await finish(world, name, f"step {step}: {fate.last}")
        await world.agents[-1].stop()
    assert step > 15
    assert world.empty()


async def finish(world: World, name: str, where: str) -> None:
    """What the next agent makes of it: a pod that is not being deleted gets ready without a restart."""
    if not await world.gone(name):
        pod = await world.pod(name)
        if "deletionTimestamp" not in pod["metadata"]:
            await world.pass_until(lambda: world.ready(name))
            assert restarts(await world.status(name)) == 0, where
            await world.delete(name)
    await world.pass_until(lambda: world.gone(name))
    await world.until(world.empty, where)


def restarts(status: Object) -> int:
    entries = [*status["containerStatuses"], *status["initContainerStatuses"]]
    return sum(entry["restartCount"] for entry in entries)


async def test_at_every_step_of_a_crash_and_its_restart(world: World) -> None:
    for step in range(1, STEPS_MAX):
        fate = await doomed(world, step)
        name = f"job-{step}"
        await world.create(name, container("app", "sh", "-c", "sleep 1; exit 3"), restartPolicy="OnFailure")
        lived = await reached(world, fate, lambda name=name: _restarted(world, name, 1))
        await world.agents[-1].stop()
        if not lived:
            await world.agent()
            await world.pass_until(lambda name=name: _restarted(world, name, 1))
            state = await world.state(name)
            assert state["lastState"]["terminated"]["exitCode"] == 3, (step, fate.last, state)
            await world.delete(name)
            await world.pass_until(lambda name=name: world.gone(name))
            await world.until(world.empty)
            await world.agents[-1].stop()
        if lived:
            break
    assert step > 8


async def _restarted(world: World, name: str, times: int) -> bool:
    state = await world.state(name)
    return "running" in (state.get("state") or {}) and state["restartCount"] >= times
