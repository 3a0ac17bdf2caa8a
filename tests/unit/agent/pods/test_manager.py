"""The manager: adoption, strangers, lost events, and an agent that ends between any two operations."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.agent.agent import Agent
from orchestrator.api.resources import PODS
from orchestrator.runtime.interface import ContainerSpec, SandboxSpec
from tests.unit.agent.conftest import World, container

PROBED = {
    **container("app"),
    "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 5, "initialDelaySeconds": 1},
}


async def test_adoption_restarts_nothing_and_writes_nothing(world: World) -> None:
    agent = await world.agent(simulated=False)
    await world.create("web", PROBED)
    await world.create("plain", container("app", "sleep", "2"), container("stays"))
    await world.pass_until(lambda: world.ready("web"))
    await world.pass_until(lambda: _restarted(world, "plain"))
    await world.pass_until(lambda: world.ready("plain"))
    await world.calm()
    before = {name: await world.pod(name) for name in ("web", "plain")}
    engine = {c.id: c for c in (r.facts for r in world.runtime._containers.values())}
    await agent.stop()
    await world.agent(simulated=False)
    await world.calm()
    assert {name: await world.pod(name) for name in before} == before
    assert {r.facts.id: r.facts for r in world.runtime._containers.values()} == engine


async def test_what_was_last_written_before_the_start_holds_no_container_back(world: World) -> None:
    agent = await world.agent(simulated=False)
    await world.create("web", PROBED)
    await world.pass_until(lambda: world.ready("web"))
    await agent.stop()
    pod = await world.pod("web")
    created = {"started": False, "ready": False, "state": {"waiting": {"reason": "ContainerCreating"}}}
    status = {**pod["status"], "containerStatuses": [{**pod["status"]["containerStatuses"][0], **created}]}
    await world.admin.update(PODS, {**pod, "status": status}, subresource="status")
    await world.agent(simulated=False)
    await world.pass_until(lambda: _counts(world, "web"))


async def _counts(world: World, name: str) -> bool:
    state = await world.state(name)
    return bool(state.get("started") and state.get("ready"))


async def _restarted(world: World, name: str) -> bool:
    return int((await world.state(name)).get("restartCount", 0)) == 1


async def test_a_pod_deleted_while_the_agent_was_away_is_ended(world: World) -> None:
    agent = await world.agent(simulated=False)
    await world.create("kept")
    await world.create("lost")
    await world.until(lambda: world.ready("kept"))
    await world.until(lambda: world.ready("lost"))
    files = world.directory / "agent" / "pods"
    assert len(list(files.iterdir())) == 2
    await agent.stop()
    await world.delete("lost", grace_s=0)
    await world.until(lambda: len(world.feeds.list("n1")) == 1)
    await world.agent(simulated=False)
    await world.until(lambda: len(world.runtime._sandboxes) == 1)
    kept = await world.pod("kept")
    await world.until(lambda: [path.name for path in files.iterdir()] == [kept["metadata"]["uid"]])
    assert len(world.network._held) == 1


async def test_directories_of_pods_that_nobody_knows_are_removed(world: World) -> None:
    orphan = world.directory / "agent" / "pods" / "0-0" / "volumes" / "data"
    orphan.mkdir(parents=True)
    await world.agent(simulated=False)
    assert not orphan.parent.parent.exists()


async def test_a_stranger_in_the_engine_is_removed_by_the_periodic_list(world: World) -> None:
    await world.agent()
    sandbox = await world.runtime.create_sandbox(SandboxSpec("u-stranger", "x", "default", "x"))
    await world.runtime.start_container(
        await world.runtime.create_container(
            ContainerSpec(sandbox.id, "u-stranger", "x", "default", "app", 0, "demo:1")
        )
    )
    await world.pass_until(world.empty)


async def test_an_event_that_got_lost_is_made_up_for_by_the_periodic_list(world: World) -> None:
    await world.agent()
    pod = await world.create("web")
    await world.until(lambda: world.ready("web"))
    listeners = set(world.runtime._listeners)
    world.runtime._listeners.clear()
    await world.runtime.stop_container(world.containers(pod)[0].id, 1)
    world.runtime._listeners |= listeners
    took_s = await world.pass_until(lambda: _restarted(world, "web"))
    assert 1 <= took_s <= 20


async def test_the_stream_of_events_is_begun_again(world: World) -> None:
    await world.agent()
    pod = await world.create("web")
    await world.until(lambda: world.ready("web"))
    for listener in list(world.runtime._listeners):
        world.runtime._offer(listener, None)
    await world.runtime.stop_container(world.containers(pod)[0].id, 1)
    await world.pass_until(lambda: _restarted(world, "web"))


class Knife:
    """Cuts an agent off at one of its operations: before or after operation `at`, nothing happens any more."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.at = at
        self.after = after
        self.count = 0
        self.cut = asyncio.Event()

    async def around(self, work: Callable[[], Any]) -> Any:
        number, self.count = self.count, self.count + 1
        if self.cut.is_set() or (number == self.at and not self.after):
            await self._hang()
        result = await work()
        if number == self.at:
            await self._hang()
        return result

    async def _hang(self) -> None:
        self.cut.set()
        await asyncio.Event().wait()


class Cut:
    """Any collaborator of the agent, its changing calls under the knife."""

    CHANGES = frozenset({
        "create_sandbox", "stop_sandbox", "remove_sandbox", "create_container", "start_container",
        "stop_container", "remove_container", "attach", "detach", "update", "delete",
    })  # fmt: skip

    def __init__(self, inner: Any, knife: Knife) -> None:
        self._inner = inner
        self._knife = knife

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self.CHANGES:
            return found

        async def guarded(*arguments: Any, **named: Any) -> Any:
            if name == "update" and arguments[0] is not PODS:
                return await found(*arguments, **named)
            return await self._knife.around(lambda: found(*arguments, **named))

        return guarded


async def _cut_agent(world: World, knife: Knife) -> Agent:
    return await world.agent(
        Cut(world.runtime, knife),
        Cut(world.network, knife),
        Cut(world.node_client, knife),  # type: ignore[arg-type]
    )


async def _run_cut(world: World, knife: Knife, done: Callable[[], Any]) -> None:
    """Run an agent until the knife falls or `done` holds, then another one."""
    agent = await _cut_agent(world, knife)
    await world.pass_until(lambda: _either(knife, done), step_s=0.5)
    await agent.stop()
    world.agents.remove(agent)
    await world.agent()


async def _either(knife: Knife, done: Callable[[], Any]) -> bool:
    if knife.cut.is_set():
        return True
    held = done()
    return bool(held if isinstance(held, bool) else await held)


OPERATIONS_MAX = 16
"""More than any of the scenarios needs; a knife that never falls ends its scenario."""


@pytest.mark.parametrize("after", [False, True])
async def test_an_agent_may_end_at_any_operation_of_a_start(world: World, after: bool) -> None:
    fell = 0
    for at in range(OPERATIONS_MAX):
        knife, name = Knife(at, after=after), f"web-{at}"
        created = await world.create(
            name,
            container("app"),
            initContainers=[container("init", "true"), container("side", restartPolicy="Always")],
        )
        await _run_cut(world, knife, lambda name=name: world.ready(name))
        await world.pass_until(lambda name=name: world.ready(name), step_s=0.5)
        await world.calm()
        running = sorted(c.name for c in world.containers(created) if c.state == "running")
        assert running == ["app", "side"]
        live = [s.id for s in world.runtime._sandboxes.values()]
        assert sorted(world.network._held) == sorted(live) and len(live) == 1
        status = await world.status(name)
        assert [entry["restartCount"] for entry in status["containerStatuses"]] == [0]
        await world.delete(name)
        await world.pass_until(world.empty, step_s=0.5)
        await world.agents.pop().stop()
        fell += knife.cut.is_set()
    assert 8 <= fell < OPERATIONS_MAX


@pytest.mark.parametrize("after", [False, True])
async def test_an_agent_may_end_at_any_operation_of_an_end(world: World, after: bool) -> None:
    fell = 0
    for at in range(OPERATIONS_MAX):
        name = f"web-{at}"
        whole = await world.agent()
        await world.create(name, container("app"), container("other"))
        await world.until(lambda name=name: world.ready(name))
        await whole.stop()
        world.agents.remove(whole)
        await world.delete(name)
        knife = Knife(at, after=after)
        await _run_cut(world, knife, lambda name=name: world.gone(name))
        await world.pass_until(lambda name=name: world.gone(name), step_s=0.5)
        await world.pass_until(world.empty, step_s=0.5)
        await world.agents.pop().stop()
        fell += knife.cut.is_set()
    assert 5 <= fell < OPERATIONS_MAX
