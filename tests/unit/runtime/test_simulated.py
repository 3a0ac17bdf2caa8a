"""What the simulated runtime adds to the contract: a virtual clock, images that are missing, and its commands."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from orchestrator.base.clock import VirtualClock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime.interface import (
    ContainerSpec,
    ImageNotFound,
    LogOptions,
    RuntimeUnavailable,
    SandboxSpec,
)
from orchestrator.runtime.simulated import SimulatedRuntime
from orchestrator.runtime.simulated_program import Step, program


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def supervisor(clock: VirtualClock) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor("test", clock)
    yield supervisor
    await supervisor.stop()


@pytest.fixture
def runtime(clock: VirtualClock, supervisor: Supervisor) -> SimulatedRuntime:
    return SimulatedRuntime(clock, supervisor, missing=["gone:1"])


async def container(runtime: SimulatedRuntime, *command: str) -> str:
    sandbox = await runtime.create_sandbox(SandboxSpec("u", "p", "n", "p"))
    spec = ContainerSpec(sandbox.id, "u", "p", "n", "main", 0, "busybox", command=command)
    container_id = await runtime.create_container(spec)
    await runtime.start_container(container_id)
    return container_id


async def test_a_container_ends_when_its_time_has_passed(
    runtime: SimulatedRuntime, clock: VirtualClock
) -> None:
    container_id = await container(runtime, "sh", "-c", "sleep 5; exit 2")
    await clock.advance(4.9)
    before = await runtime.inspect_container(container_id)
    await clock.advance(0.2)
    after = await runtime.inspect_container(container_id)
    assert before is not None and before.state == "running"
    assert after is not None and (after.state, after.exit_code) == ("exited", 2)
    assert after.finished_s - after.started_s == pytest.approx(5)


async def test_a_server_costs_no_task(runtime: SimulatedRuntime, supervisor: Supervisor) -> None:
    for _ in range(100):
        await container(runtime, "nginx", "-g", "daemon off;")
    assert supervisor.names == []
    assert {facts.state for facts in await runtime.list_containers()} == {"running"}


async def test_a_missing_image_is_missing(runtime: SimulatedRuntime) -> None:
    assert await runtime.image("gone:1") is None
    with pytest.raises(ImageNotFound):
        await runtime.pull("gone:1")
    assert (await runtime.pull("here")).tags == ("here:latest",)


async def test_exec_sync_times_out_on_the_given_clock(runtime: SimulatedRuntime, clock: VirtualClock) -> None:
    container_id = await container(runtime, "server")
    probe = asyncio.ensure_future(runtime.exec_sync(container_id, ["sleep", "60"], 3))
    await clock.advance(2.9)
    assert not probe.done()
    await clock.advance(0.2)
    with pytest.raises(TimeoutError):
        await probe


async def test_several_followers_each_see_every_line(runtime: SimulatedRuntime, clock: VirtualClock) -> None:
    container_id = await container(runtime, "sh", "-c", "sleep 1; echo a; sleep 1; echo b")

    async def follow() -> list[bytes]:
        return [line.data async for line in runtime.logs(container_id, LogOptions(follow=True))]

    followers = [asyncio.ensure_future(follow()) for _ in range(3)]
    await clock.advance(5)
    assert await asyncio.gather(*followers) == [[b"a", b"b"]] * 3


async def test_a_listener_that_falls_behind_is_told(
    runtime: SimulatedRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.runtime.simulated.EVENTS_WAITING_MAX", 4)
    events = runtime.events()
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    for _ in range(10):
        await container(runtime, "server")
    with pytest.raises(RuntimeUnavailable, match="fell behind"):
        await first


@pytest.mark.parametrize(
    ("argv", "steps"),
    [
        ((), [Step("forever")]),
        (("nginx",), [Step("forever")]),
        (("/bin/false",), [Step("status", value=1)]),
        (("sleep", "infinity"), [Step("forever")]),
        (("sh", "-c", "echo 'a b' >&2"), [Step("print", "a b\n", stream="stderr")]),
        (
            ("sh", "-c", "true && echo x\nexit 3"),
            [Step("status"), Step("print", "x\n", and_then=True), Step("exit", value=3)],
        ),
    ],
)
def test_command_lines_become_steps(argv: tuple[str, ...], steps: list[Step]) -> None:
    assert program(argv) == steps
