"""Before the host goes down pods stop, the critical ones last."""

import asyncio

import pytest

from orchestrator.agent.node.shutdown import MESSAGE, grouped
from orchestrator.agent.node.stages import CRITICAL, Stage, stages
from orchestrator.api.resources import NODES
from tests.unit.agent.conftest import container


class Host:
    """Delays a shutdown; tests announce one."""

    def __init__(self):
        self.said = asyncio.Queue()
        self.held = False
        self.allowed = 0

    async def allow(self, duration_s):
        self.allowed = duration_s
        return duration_s

    async def hold(self):
        self.held = True

    async def release(self):
        self.held = False

    async def announcements(self):
        while True:
            yield await self.said.get()


class Pod:
    def __init__(self, priority):
        self.pod = {"spec": {} if priority is None else {"priority": priority}}


@pytest.mark.parametrize(
    ("planned", "groups"),
    [
        (stages(30, 10), {(0, 20): [None, -5, 0, 7], (CRITICAL, 10): [CRITICAL, CRITICAL + 1000]}),
        ((Stage(5, 1), Stage(7, 2)), {(5, 1): [None, -5, 0], (7, 2): [7, CRITICAL, CRITICAL + 1000]}),
        ((Stage(CRITICAL + 2000, 3),), {(CRITICAL + 2000, 3): [None, -5, 0, 7, CRITICAL, CRITICAL + 1000]}),
    ],
)
def test_which_pods_stop_together(planned, groups):
    pods = [Pod(priority) for priority in (None, -5, 0, 7, CRITICAL, CRITICAL + 1000)]
    found = grouped(pods, planned)
    shown = {
        (s.priority, s.grace_s): [pod.pod["spec"].get("priority") for pod in group] for s, group in found
    }
    assert shown == groups
    assert stages(0, 0) == ()


@pytest.fixture
async def host(world):
    host = Host()
    agent = await world.built()
    names = agent._settings.__slots__
    given = {name: getattr(agent._settings, name) for name in names}
    agent._settings = type(agent._settings)(**{**given, "stages": stages(20, 5), "holder": host})
    await agent.start()
    return host


async def ready_of_node(world):
    conditions = (await world.admin.get(NODES, "n1"))["status"]["conditions"]
    return next((c["status"], c["reason"], c["message"]) for c in conditions if c["type"] == "Ready")


async def test_pods_stop_by_priority_and_the_node_says_why(world, host):
    await world.create("plain")
    await world.create("critical", priority=CRITICAL)
    await world.pass_until(lambda: world.ready("plain"))
    await world.pass_until(lambda: world.ready("critical"))
    assert host.held and host.allowed == 20
    host.said.put_nowait(True)
    await world.pass_until(lambda: phase_is(world, "plain", "Failed"), step_s=0.1)
    assert not await phase_is(world, "critical", "Failed")
    await world.pass_until(lambda: phase_is(world, "critical", "Failed"), step_s=0.1)
    status = await world.status("plain")
    assert (status["reason"], status["message"]) == ("Terminated", MESSAGE)
    target = next(c for c in status["conditions"] if c["type"] == "DisruptionTarget")
    assert (target["status"], target["reason"]) == ("True", "TerminationByKubelet")
    await world.pass_until(lambda: not host.held, step_s=0.1)
    assert await ready_of_node(world) == ("False", "KubeletNotReady", "node is shutting down")
    assert ("Normal", "Shutdown", "Shutdown manager detected shutdown event") in world.notes.written

    await world.create("late")
    await world.pass_until(lambda: phase_is(world, "late", "Failed"), step_s=0.1)
    late = await world.status("late")
    assert (late["reason"], late["message"]) == (
        "NodeShutdown",
        "Pod was rejected: Pod was rejected as the node is shutting down.",
    )

    host.said.put_nowait(False)
    await world.pass_until(lambda: host.held, step_s=0.1)
    assert (await ready_of_node(world))[0] == "True"
    await world.create("after", container("app"))
    await world.pass_until(lambda: world.ready("after"))


async def phase_is(world, name, phase):
    return (await world.status(name)).get("phase") == phase
