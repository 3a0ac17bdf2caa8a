"""Pull policies, one pull per image, and the reasons that a failed one shows."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from orchestrator.agent.images.keyring import Credential
from orchestrator.agent.images.pulling import Failed, Images, ImageState, Pulling, Ready, default_policy
from orchestrator.base.clock import VirtualClock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime.interface import Image, ImageNotFound, RegistryAuth
from orchestrator.runtime.simulated import SimulatedRuntime


class Counting(SimulatedRuntime):
    """An engine that counts pulls, and takes time for them when told to."""

    pulls = 0
    hold: asyncio.Event | None = None
    broken = False
    wanted = ""
    """The user that the registry lets in; empty lets everybody."""
    takes_s = 0.0

    async def pull(self, reference: str, auth: RegistryAuth | None = None) -> Image:
        self.pulls += 1
        if self.takes_s:
            await self._clock.sleep(self.takes_s)
        if self.wanted and (auth is None or auth.username != self.wanted):
            raise ImageNotFound("access denied")
        if self.hold is not None:
            await self.hold.wait()
        if self.broken:
            raise KeyError("a bug")
        return await super().pull(reference, auth)


class Node:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.supervisor = Supervisor("t", self.clock)
        self.runtime = Counting(self.clock, self.supervisor, missing=("absent:1",))
        self.woken: list[str] = []
        self.images = Images(self.runtime, self.clock, self.supervisor, self.woken.append)

    async def ensure(
        self, reference: str, policy: str = "IfNotPresent", pod: str = "p1", *credentials: Credential
    ) -> ImageState:
        return await self.images.ensure(reference, policy, pod, credentials)

    async def settled(
        self, reference: str, policy: str = "IfNotPresent", pod: str = "p1", *credentials: Credential
    ) -> ImageState:
        """As a worker asks: again when it is woken."""
        state = await self.ensure(reference, policy, pod, *credentials)
        if isinstance(state, Pulling):
            await self.clock.advance(0)
            assert pod in self.woken
            state = await self.ensure(reference, policy, pod, *credentials)
        return state


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    made = Node()
    yield made
    await made.supervisor.stop()


@pytest.mark.parametrize(
    ("reference", "policy"),
    [
        ("busybox", "Always"),
        ("busybox:latest", "Always"),
        ("busybox:1", "IfNotPresent"),
        ("localhost:5000/busybox", "Always"),
        ("localhost:5000/busybox:1", "IfNotPresent"),
        ("busybox@sha256:" + "0" * 64, "IfNotPresent"),
    ],
)
def test_the_policy_follows_from_the_tag(reference: str, policy: str) -> None:
    assert default_policy(reference) == policy


async def test_what_is_here_is_not_pulled(node: Node) -> None:
    assert isinstance(await node.ensure("demo:1"), Ready)
    assert isinstance(await node.ensure("demo:1", "Never"), Ready)
    assert node.runtime.pulls == 0


async def test_always_asks_the_registry_for_every_start(node: Node) -> None:
    for pulls in (1, 2):
        state = await node.settled("demo:1", "Always")
        assert isinstance(state, Ready) and state.pulled_s >= 0
        assert node.runtime.pulls == pulls


async def test_never_says_that_it_is_not_here(node: Node) -> None:
    state = await node.ensure("absent:1", "Never")
    assert isinstance(state, Failed) and state.reason == "ErrImageNeverPull"
    assert node.runtime.pulls == 0


async def test_a_name_that_is_none_is_never_tried(node: Node) -> None:
    state = await node.ensure("Not//Valid")
    assert isinstance(state, Failed) and state.reason == "InvalidImageName"


async def test_the_failure_shows_before_the_back_off(node: Node) -> None:
    first = await node.settled("absent:1")
    assert isinstance(first, Failed) and first.reason == "ErrImagePull"
    assert first.retry_s - node.clock.now_s() < 10
    second = await node.ensure("absent:1")
    assert isinstance(second, Failed) and second.reason == "ImagePullBackOff"
    assert second.retry_s - node.clock.now_s() == 10
    assert "ErrImagePull" in second.message and node.runtime.pulls == 1


async def test_tries_back_off_from_10_to_300_s(node: Node) -> None:
    waits = []
    for _ in range(7):
        await node.settled("absent:1")
        state = await node.ensure("absent:1")
        assert isinstance(state, Failed)
        waits.append(state.retry_s - node.clock.now_s())
        await node.clock.advance(waits[-1])
    assert waits == [10, 20, 40, 80, 160, 300, 300]


async def test_a_new_try_goes_on_showing_the_failure_before_it(node: Node) -> None:
    await node.settled("absent:1")
    await node.clock.advance(10)
    state = await node.ensure("absent:1")
    assert isinstance(state, Pulling) and state.after is not None
    assert state.after.reason == "ImagePullBackOff"


async def test_an_image_that_came_by_another_way_ends_the_back_off(node: Node) -> None:
    await node.settled("absent:1")
    node.runtime._missing.clear()
    assert isinstance(await node.ensure("absent:1"), Ready)


async def test_many_pods_share_one_pull_and_each_hears_of_it(node: Node) -> None:
    node.runtime.hold = asyncio.Event()
    pods = [f"p{number}" for number in range(5)]
    states = await asyncio.gather(*(node.ensure("demo:1", "Always", pod) for pod in pods))
    assert all(isinstance(state, Pulling) for state in states)
    await node.clock.advance(0)
    node.runtime.hold.set()
    await node.clock.advance(0)
    assert sorted(node.woken) == pods and node.runtime.pulls == 1
    for pod in pods:
        assert isinstance(await node.ensure("demo:1", "Always", pod), Ready)
    assert node.images._pulls == {}


async def test_pods_that_ask_at_the_same_time_for_what_is_missing_start_one_pull(node: Node) -> None:
    await asyncio.gather(*(node.ensure("absent:1", "IfNotPresent", pod) for pod in ("p1", "p2")))
    await node.clock.advance(0)
    assert node.runtime.pulls == 1 and sorted(node.woken) == ["p1", "p2"]


async def test_no_more_than_five_pulls_at_a_time(node: Node) -> None:
    node.runtime.hold = asyncio.Event()
    for number in range(8):
        await node.ensure(f"demo:{number}", "Always")
    await node.clock.advance(0)
    assert node.runtime.pulls == 5
    node.runtime.hold.set()
    await node.clock.advance(0)
    assert node.runtime.pulls == 8


async def test_a_pull_that_ends_unheard_of_is_begun_again(node: Node) -> None:
    node.runtime.broken = True
    await node.ensure("demo:1", "Always")
    await node.clock.advance(0)
    assert node.woken == ["p1"]
    node.runtime.broken = False
    assert isinstance(await node.settled("demo:1", "Always"), Ready)


def credential(name: str) -> Credential:
    return Credential(RegistryAuth("r.io", name, "p"), f"ns/{name}/1")


async def test_a_pod_with_the_right_login_does_not_wait_for_one_with_the_wrong(node: Node) -> None:
    node.runtime.wanted = "good"
    assert isinstance(await node.settled("r.io/a:1", "Always", "p1", credential("bad")), Failed)
    assert isinstance(await node.settled("r.io/a:1", "Always", "p2", credential("good")), Ready)
    assert isinstance(await node.ensure("r.io/a:1", "Always", "p1", credential("bad")), Failed)


async def test_what_was_pulled_with_a_login_asks_the_next_pod_for_one(node: Node) -> None:
    node.runtime.wanted = "good"
    assert isinstance(await node.settled("r.io/a:1", "Always", "p1", credential("good")), Ready)
    assert isinstance(await node.ensure("r.io/a:1", "IfNotPresent", "p2", credential("good")), Ready)
    assert isinstance(await node.settled("r.io/a:1", "IfNotPresent", "p3"), Failed)
    never = await node.ensure("r.io/a:1", "Never", "p4")
    assert isinstance(never, Failed) and never.reason == "ErrImageNeverPull"
    assert "proper credentials" in never.message


async def test_pulls_one_after_the_other_tell_how_long_they_waited(node: Node) -> None:
    node.images = Images(node.runtime, node.clock, node.supervisor, node.woken.append, pulls_max=1)
    node.runtime.takes_s = 3.0
    for name in ("a:1", "b:1"):
        await node.ensure(name, "Always", name)
    await node.clock.advance(3)
    await node.clock.advance(3)
    second = await node.ensure("b:1", "Always", "b:1")
    assert isinstance(second, Ready) and (second.pulled_s, second.waited_s) == (3.0, 3.0)
