"""Resize in place: granted, in force, on record, and the same after a restart of the agent."""

from typing import Any

from orchestrator.api.item import Object
from orchestrator.api.resources import PODS
from orchestrator.runtime.interface import PodCgroup, Resources, RuntimeFailure
from orchestrator.runtime.simulated import SimulatedRuntime
from tests.unit.agent.builders import Json
from tests.unit.agent.conftest import World, container


def amounts(cpu: str, memory: str) -> Json:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}}


async def resize(world: World, name: str, cpu: str, memory: str) -> None:
    pod = await world.pod(name)
    changed = {**pod["spec"]["containers"][0], "resources": amounts(cpu, memory)}
    spec = {**pod["spec"], "containers": [changed]}
    await world.admin.update(PODS, {**pod, "spec": spec}, subresource="resize")


async def conditions(world: World, name: str) -> dict[str, Object]:
    found = (await world.status(name)).get("conditions") or ()
    return {c["type"]: c for c in found if c["type"].startswith("PodResize")}


def running(world: World, pod: Object) -> Resources:
    (one,) = [
        r for r in world.runtime._containers.values()
        if r.facts.pod_uid == pod["metadata"]["uid"] and r.facts.state == "running"
    ]  # fmt: skip
    return one.spec.resources


async def in_force(world: World, name: str) -> tuple[str, str, int]:
    state = await world.state(name)
    found: Any = state["resources"]
    return found["limits"]["cpu"], state["allocatedResources"]["cpu"], state["restartCount"]


async def test_a_running_container_is_resized_without_a_restart(world: World) -> None:
    await world.agent()
    pod = await world.create("web", container("app", resources=amounts("100m", "64Mi")))
    await world.until(lambda: world.ready("web"))
    assert running(world, pod).memory_limit_bytes == 64 << 20
    await resize(world, "web", "200m", "96Mi")
    await world.until(lambda: _done(world, "web", "200m"))
    assert running(world, pod).memory_limit_bytes == 96 << 20
    assert running(world, pod).cpu_quota_us == 20_000
    assert await in_force(world, "web") == ("200m", "200m", 0)
    assert not await conditions(world, "web")
    assert [reason for reason in world.notes.reasons() if "Resize" in reason] == [
        "ResizeStarted", "ResizeCompleted",
    ]  # fmt: skip


async def _done(world: World, name: str, cpu: str) -> bool:
    state = await world.state(name)
    shown = ((state.get("resources") or {}).get("limits") or {}).get("cpu")
    status = await world.status(name)
    generation = (await world.pod(name))["metadata"]["generation"]
    return (shown, status["observedGeneration"]) == (cpu, generation) and not await conditions(world, name)


class Cgroups(SimulatedRuntime):
    """Remembers what pods' cgroups were set to."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.memory_bytes: list[int] = []

    async def update_pod(self, cgroup: PodCgroup) -> None:
        self.memory_bytes.append(cgroup.memory_limit_bytes)
        await super().update_pod(cgroup)


async def test_a_policy_that_asks_for_it_restarts_the_container(world: World) -> None:
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    app = container("app", resources=amounts("100m", "64Mi"), resizePolicy=policy)
    cgroups = world.runtime = Cgroups(world.clock, world.supervisor)
    await world.agent()
    pod = await world.create("web", app)
    await world.until(lambda: world.ready("web"))
    await resize(world, "web", "100m", "96Mi")
    await world.until(lambda: _restarted(world, 1))
    assert running(world, pod).memory_limit_bytes == 96 << 20
    assert cgroups.memory_bytes == [96 << 20], "the pod's cgroup as well"
    await world.until(lambda: world.ready("web"))
    await resize(world, "web", "200m", "96Mi")
    await world.until(lambda: _done(world, "web", "200m"))
    assert await in_force(world, "web") == ("200m", "200m", 1)


async def _restarted(world: World, times: int) -> bool:
    state = await world.state("web")
    return "running" in (state.get("state") or {}) and state["restartCount"] == times


async def test_what_never_fits_is_infeasible_and_what_does_not_fit_now_waits(world: World) -> None:
    agent = await world.agent()
    assert agent.manager is not None
    cores = int(agent.manager._context.facts.allocatable["cpu"])
    await world.create("web", container("app", resources=amounts("100m", "64Mi")))
    most = {"requests": {"cpu": f"{cores * 1000 - 200}m"}}
    await world.create("big", container("app", resources=most))
    for name in ("web", "big"):
        await world.until(lambda name=name: world.ready(name))
    await resize(world, "web", str(cores + 1), "64Mi")
    await world.until(lambda: _pending(world, "Infeasible"))
    await resize(world, "web", "500m", "64Mi")
    await world.until(lambda: _pending(world, "Deferred"))
    assert await in_force(world, "web") == ("100m", "100m", 0)
    condition = (await conditions(world, "web"))["PodResizePending"]
    assert condition["message"].startswith("Node didn't have enough resource: cpu, requested: 500, used: ")
    await agent.stop()
    await world.agent()
    await world.calm()
    assert await in_force(world, "web") == ("100m", "100m", 0)
    await world.delete("big")
    await world.until(lambda: _done(world, "web", "500m"))


async def _pending(world: World, reason: str) -> bool:
    found = (await conditions(world, "web")).get("PodResizePending")
    return found is not None and found["reason"] == reason


class Stubborn(SimulatedRuntime):
    """An engine that refuses to change what runs."""

    refuses = 0

    async def update_resources(self, container_id: str, resources: Resources) -> None:
        if self.refuses:
            self.refuses -= 1
            raise RuntimeFailure("device or resource busy")
        await super().update_resources(container_id, resources)


async def test_a_resize_that_fails_says_so_and_is_tried_again(world: World) -> None:
    runtime = world.runtime = Stubborn(world.clock, world.supervisor)
    await world.agent()
    await world.create("web", container("app", resources=amounts("100m", "64Mi")))
    await world.until(lambda: world.ready("web"))
    runtime.refuses = 2
    await resize(world, "web", "200m", "64Mi")
    await world.until(lambda: _error(world))
    await world.pass_until(lambda: _done(world, "web", "200m"))


async def _error(world: World) -> bool:
    found = (await conditions(world, "web")).get("PodResizeInProgress", {})
    return (found.get("reason"), found.get("message")) == ("Error", "device or resource busy")


async def test_a_resize_goes_on_after_the_agent_was_killed_in_the_middle(world: World) -> None:
    runtime = world.runtime = Stubborn(world.clock, world.supervisor)
    agent = await world.agent()
    pod = await world.create("web", container("app", resources=amounts("100m", "64Mi")))
    await world.until(lambda: world.ready("web"))
    runtime.refuses = 1000
    await resize(world, "web", "200m", "64Mi")
    await world.until(lambda: _error(world))
    await agent.stop()
    runtime.refuses = 0
    await world.agent()
    await world.until(lambda: _done(world, "web", "200m"))
    assert running(world, pod).cpu_quota_us == 20_000


async def test_a_container_that_starts_while_a_resize_waits_gets_what_was_granted(world: World) -> None:
    agent = await world.agent()
    assert agent.manager is not None
    cores = int(agent.manager._context.facts.allocatable["cpu"])
    pod = await world.create("web", container("app", "sleep", "5", resources=amounts("100m", "64Mi")))
    await world.until(lambda: world.ready("web"))
    await resize(world, "web", str(cores + 1), "64Mi")
    await world.until(lambda: _pending(world, "Infeasible"))
    await world.pass_until(lambda: _restarted(world, 1))
    assert running(world, pod).cpu_quota_us == 10_000
