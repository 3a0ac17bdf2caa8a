"""The host restarts: nothing runs any more, the engine's records and the disk are there, or not even those."""

from dataclasses import replace

from orchestrator.api.item import Object
from tests.unit.agent.conftest import World, container


def fall(world: World) -> None:
    """What a host that goes down leaves: every process ended, unasked and at once."""
    now_s = world.clock.now_s()
    runtime = world.runtime
    for running in runtime._containers.values():
        if running.facts.state == "running":
            running.facts = replace(running.facts, state="exited", exit_code=255, finished_s=now_s)
    for sandbox_id, sandbox in list(runtime._sandboxes.items()):
        runtime._sandboxes[sandbox_id] = replace(sandbox, running=False, netns_path="")
    world.network._held.clear()


async def before(world: World) -> Object:
    agent = await world.agent()
    first, side = container("first", "true"), container("side", restartPolicy="Always")
    await world.create("web", initContainers=[first, side])
    await world.create("job", container("app", "true"), restartPolicy="Never")
    await world.create("once", container("app"), restartPolicy="Never")
    await world.until(lambda: world.ready("web"))
    await world.until(lambda: world.ready("once"))
    await world.until(lambda: _phase(world, "job", "Succeeded"))
    job = await world.status("job")
    await agent.stop()
    await world.clock.advance(30)
    return job


async def _phase(world: World, name: str, phase: str) -> bool:
    return (await world.status(name)).get("phase") == phase


async def test_pods_come_back_in_fresh_sandboxes_and_count_it_as_a_restart(world: World) -> None:
    job = await before(world)
    fall(world)
    await world.agent()
    await world.pass_until(lambda: _back(world))
    assert await world.status("job") == job
    for name in ("app", "side"):
        state = await world.state("web", name)
        assert state["restartCount"] == 1
        assert state["lastState"]["terminated"]["exitCode"] == 255
    assert (await world.state("web", "first"))["restartCount"] == 1
    assert [s.attempt for s in world.runtime._sandboxes.values() if s.running] == [1]
    await world.until(lambda: _phase(world, "once", "Failed"))
    assert (await world.state("once"))["state"]["terminated"]["exitCode"] == 255


async def _back(world: World) -> bool:
    running = any(s.running for s in world.runtime._sandboxes.values())
    return running and await world.ready("web")


async def test_with_an_engine_that_forgot_everything_the_counts_go_on(world: World) -> None:
    job = await before(world)
    fall(world)
    world.runtime._containers.clear()
    world.runtime._sandboxes.clear()
    world.runtime._by_sandbox.clear()
    await world.agent()
    await world.pass_until(lambda: _back(world))
    state = await world.state("web")
    assert state["restartCount"] == 1
    assert state["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert await world.status("job") == job
