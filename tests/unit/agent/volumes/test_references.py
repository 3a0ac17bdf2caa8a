"""What pods refer to: read fresh for each pod, watched once for all, forgotten with the last; over a registry."""

import asyncio

import pytest

from orchestrator.agent.volumes.references import References
from orchestrator.api.errors import NotFound
from orchestrator.api.item import Object
from orchestrator.api.resources import CONFIGMAPS
from orchestrator.base.tasks import Supervisor
from tests.unit.agent.conftest import World


def config(name: str, value: str, **more: object) -> Object:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"k": value}, **more}


class Holder:
    def __init__(self, world: World) -> None:
        self.world = world
        self.woken: list[str] = []
        self.supervisor = Supervisor("references", world.clock)
        client = world.node_client
        self.references = References(client, self.supervisor, world.clock, self.woken.append)

    async def value(self, pod: str, name: str = "one") -> str:
        return str((await self.references.get(pod, CONFIGMAPS, "default", name))["data"]["k"])

    async def until_woken(self, *pods: str) -> None:
        await self.world.until(lambda: set(pods) <= set(self.woken), f"{pods} are woken")
        self.woken.clear()


async def refer(world: World, *names: str) -> None:
    """A pod on the node that may read these."""
    volumes = [{"name": f"v{i}", "configMap": {"name": name}} for i, name in enumerate(names)]
    await world.create("reader", volumes=volumes)
    await world.calm()


@pytest.fixture
async def holder(world: World):  # type: ignore[no-untyped-def]
    await refer(world, "one", "late", "fixed")
    made = Holder(world)
    yield made
    await made.supervisor.stop()


async def test_a_change_arrives_and_wakes_every_pod_that_holds_it(world: World, holder: Holder) -> None:
    await world.admin.create(CONFIGMAPS, config("one", "1"), "default")
    assert [await holder.value(pod) for pod in ("a", "b")] == ["1", "1"]
    assert len(holder.supervisor.names) == 1
    await world.calm()
    await world.admin.update(CONFIGMAPS, config("one", "2"))
    await holder.until_woken("a", "b")
    assert await holder.value("a") == "2"


async def test_a_pod_that_comes_later_is_never_told_what_was_before(world: World, holder: Holder) -> None:
    await world.admin.create(CONFIGMAPS, config("one", "1"), "default")
    assert await holder.value("a") == "1"
    for number in range(5):
        await world.admin.update(CONFIGMAPS, config("one", f"new {number}"))
        assert await holder.value(f"pod {number}") == f"new {number}"


async def test_what_is_missing_is_waited_for_and_what_goes_is_missed(world: World, holder: Holder) -> None:
    with pytest.raises(NotFound):
        await holder.value("a", "late")
    await world.calm()
    await world.admin.create(CONFIGMAPS, config("late", "1"), "default")
    await holder.until_woken("a")
    assert await holder.value("a", "late") == "1"
    await world.admin.delete(CONFIGMAPS, "late", "default")
    await holder.until_woken("a")
    with pytest.raises(NotFound):
        await holder.value("a", "late")


async def test_what_can_not_change_is_not_watched_and_nobody_s_is_forgotten(
    world: World, holder: Holder
) -> None:
    await world.admin.create(CONFIGMAPS, config("fixed", "1", immutable=True), "default")
    await world.admin.create(CONFIGMAPS, config("one", "1"), "default")
    assert await holder.value("a", "fixed") == "1"
    assert holder.supervisor.names == []
    await asyncio.gather(holder.value("a"), holder.value("b"))
    holder.references.forget("a")
    assert len(holder.supervisor.names) == 1
    holder.references.forget("b")
    await world.until(lambda: holder.supervisor.names == [], "the watch has ended")
