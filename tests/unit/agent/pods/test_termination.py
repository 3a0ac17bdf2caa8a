"""The end of containers: who is signalled when, with how much time, and what cuts it short."""

import asyncio
from typing import Any

from orchestrator.agent.pods.termination import in_turn
from orchestrator.runtime.simulated import SimulatedRuntime
from tests.unit.agent.builders import container as made
from tests.unit.agent.builders import pod, spec_of
from tests.unit.agent.conftest import World, container

SIDECARS = (spec_of("one", restartPolicy="Always"), spec_of("two", restartPolicy="Always"))


def test_sidecars_end_after_what_they_were_started_before_and_in_reverse() -> None:
    desired = pod(spec_of("app"), spec_of("web"), inits=SIDECARS)
    running = [made(name) for name in ("one", "two", "app", "web")]
    assert {c.name: sorted(first) for c, first in in_turn(desired, running)} == {
        "app": [],
        "web": [],
        "two": ["app-0", "web-0"],
        "one": ["app-0", "two-0", "web-0"],
    }


class Diary(SimulatedRuntime):
    """An engine that keeps who was stopped with how much grace, and takes as long as told."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.stops: list[tuple[str, float]] = []
        self.takes_s: dict[str, float] = {}

    async def stop_container(self, container_id: str, grace_s: float) -> None:
        facts = await self.inspect_container(container_id)
        assert facts is not None
        if facts.state == "running":
            self.stops.append((facts.name, grace_s))
            await self._clock.sleep(min(self.takes_s.get(facts.name, 0.0), grace_s))
        await super().stop_container(container_id, grace_s)


async def started(world: World, *containers: Any, **spec: Any) -> Diary:
    runtime = world.runtime = Diary(world.clock, world.supervisor)
    await world.agent()
    await world.create("web", *containers, **spec)
    await world.until(lambda: world.ready("web"))
    return runtime


async def test_a_sidecar_is_signalled_after_the_others_have_ended(world: World) -> None:
    sidecar = container("side", restartPolicy="Always")
    runtime = await started(world, initContainers=[sidecar], terminationGracePeriodSeconds=60)
    runtime.takes_s = {"app": 20}
    await world.delete("web")
    await world.pass_until(lambda: world.gone("web"))
    assert [name for name, _ in runtime.stops] == ["app", "side"]
    assert runtime.stops[0][1] > 55 and runtime.stops[1][1] <= 41


async def test_a_sidecar_whose_turn_never_comes_is_signalled_at_the_deadline(world: World) -> None:
    sidecar = container("side", restartPolicy="Always")
    runtime = await started(world, initContainers=[sidecar], terminationGracePeriodSeconds=10)
    runtime.takes_s = {"app": 10}
    await world.delete("web")
    await world.pass_until(lambda: world.gone("web"))
    assert runtime.stops[1] == ("side", 2.0)


async def test_the_hook_counts_within_the_grace_period(world: World) -> None:
    slow = {"preStop": {"sleep": {"seconds": 20}}}
    runtime = await started(world, container("app", lifecycle=slow), terminationGracePeriodSeconds=30)
    await world.delete("web")
    await world.pass_until(lambda: world.gone("web"))
    assert 7 <= runtime.stops[0][1] <= 10


async def test_a_failed_hook_is_told_without_its_words(world: World) -> None:
    bad = {"preStop": {"exec": {"command": ["sh", "-c", "echo secret; exit 3"]}}}
    await started(world, container("app", lifecycle=bad))
    await world.delete("web")
    await world.pass_until(lambda: world.gone("web"))
    assert ("Warning", "FailedPreStopHook", "PreStopHook failed") in world.notes.written
    assert not any("secret" in message for *_, message in world.notes.written)


async def test_a_deletion_cuts_a_post_start_hook_short(world: World) -> None:
    world.runtime = Diary(world.clock, world.supervisor)
    await world.agent()
    endless = {"postStart": {"exec": {"command": ["sleep", "infinity"]}}}
    await world.create("web", container("app", lifecycle=endless))
    await world.until(lambda: "Started" in world.notes.reasons())
    await world.calm()
    await world.delete("web")
    await world.pass_until(lambda: world.gone("web"))


async def test_a_deletion_cuts_the_stop_of_an_unwell_container_short(world: World) -> None:
    runtime = world.runtime = Diary(world.clock, world.supervisor)
    await world.agent(simulated=False)
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
    app = container("app", livenessProbe=probe, lifecycle={"preStop": {"sleep": {"seconds": 900}}})
    await world.create("web", app, terminationGracePeriodSeconds=1000)
    await world.pass_until(lambda: "Killing" in world.notes.reasons())
    await asyncio.sleep(0)
    await world.delete("web", grace_s=3)
    took_s = await world.pass_until(lambda: world.gone("web"))
    assert took_s < 60
    assert runtime.stops and runtime.stops[0][1] <= 3
