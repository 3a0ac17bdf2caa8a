"""The kubelet's side of device plugins, with a real plugin on a real socket."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.agent.devices.manager import DeviceManager, Edits
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime.interface import Device, Mount, RuntimeFailure
from orchestrator.wire.grpc import GrpcError
from tests.unit.agent.builders import Json, pod, spec_of
from tests.unit.agent.devices.plugin import FakeGpu

GPU = "test.example/gpu"
TWO = {"a": "Healthy", "b": "Healthy"}


def asking(uid: str, count: int, inits: tuple[Json, ...] = ()) -> Json:
    wanted = pod(user("app", count), inits=inits)
    wanted["metadata"]["uid"] = uid
    return wanted


def user(name: str, count: int) -> Json:
    return spec_of(name, resources={"limits": {GPU: str(count)}})


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="orcdp", dir="/tmp") as name:
        yield Path(name)


class Kubelet:
    """A manager and what it tells."""

    def __init__(self, directory: Path, supervisor: Supervisor) -> None:
        self.active: set[str] = {"u1", "u2", "u3"}
        self.told: list[Collection[str]] = []
        self.manager = DeviceManager(directory, supervisor, lambda: self.active, self.told.append)

    async def totals(self, capacity: int, allocatable: int) -> None:
        wanted = ({GPU: str(capacity)}, {GPU: str(allocatable)})
        await until(lambda: self.manager.totals() == wanted)


async def until(held: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not held():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[tuple[Kubelet, Supervisor]]:
    supervisor = Supervisor("devices")
    kubelet = Kubelet(directory, supervisor)
    await kubelet.manager.start()
    try:
        yield kubelet, supervisor
    finally:
        await kubelet.manager.close()
        await supervisor.stop()


@asynccontextmanager
async def plugged(
    directory: Path, supervisor: Supervisor, devices: dict[str, str], **options: bool
) -> AsyncIterator[FakeGpu]:
    gpu = FakeGpu(directory, supervisor, devices, **options)
    try:
        await gpu.start()
        yield gpu
    finally:
        await gpu.close()


async def test_a_plugins_devices_are_counted_given_out_once_and_come_back(directory: Path) -> None:
    async with running(directory) as (kubelet, supervisor), plugged(directory, supervisor, TWO) as gpu:
        manager = kubelet.manager
        await kubelet.totals(2, 2)
        assert manager.refusal(asking("u1", 1)) is None
        text = (
            "Allocate failed due to requested number of devices unavailable for test.example/gpu. "
            "Requested: 2, Available: 1, which is unexpected"
        )
        assert manager.refusal(asking("u2", 2)) == ("UnexpectedAdmissionError", text)
        desired = asking("u1", 1)
        edits = await manager.edits(desired, desired["spec"]["containers"][0])
        assert edits == Edits(
            {"GPUS": "a"},
            {"gpu": "yes"},
            (Mount("/opt/gpu", "/gpu", read_only=True),),
            (Device("/dev/null", "/dev/gpu0", "rw"),),
        )
        await manager.edits(desired, desired["spec"]["containers"][0])
        assert gpu.asked == [("Allocate", ["a"])]
        kubelet.active.discard("u1")
        assert manager.refusal(asking("u2", 2)) is None
        assert await manager.edits(pod(), spec_of("app")) == Edits()


async def test_health_shows_in_the_nodes_and_the_pods_status(directory: Path) -> None:
    async with running(directory) as (kubelet, supervisor), plugged(directory, supervisor, TWO) as gpu:
        await kubelet.totals(2, 2)
        assert kubelet.manager.refusal(asking("u1", 1)) is None
        gpu.set("a", "Unhealthy")
        await kubelet.totals(2, 1)
        await until(lambda: {"u1"} in kubelet.told)
        status: Json = {"containerStatuses": [{"name": "app"}, {"name": "other"}]}
        kubelet.manager.add_health("u1", status)
        shown = [{"name": GPU, "resources": [{"resourceID": "a", "health": "Unhealthy"}]}]
        assert status["containerStatuses"] == [
            {"name": "app", "allocatedResourcesStatus": shown},
            {"name": "other"},
        ]
        await gpu.close()
        await kubelet.totals(2, 0)
        assert kubelet.manager.statuses("u1", "app")[0]["resources"][0]["health"] == "Unknown"


async def test_what_was_given_out_survives_the_agent(directory: Path) -> None:
    desired = asking("u1", 1)
    container = desired["spec"]["containers"][0]
    async with running(directory) as (kubelet, supervisor), plugged(directory, supervisor, TWO):
        await kubelet.totals(2, 2)
        assert kubelet.manager.refusal(desired) is None
        edits = await kubelet.manager.edits(desired, container)
    async with running(directory) as (kubelet, supervisor):
        assert kubelet.manager.totals() == ({GPU: "0"}, {GPU: "0"})
        assert kubelet.manager.refusal(desired) is None
        assert await kubelet.manager.edits(desired, container) == edits
        assert kubelet.manager.refusal(asking("u2", 1)) is not None
        async with plugged(directory, supervisor, TWO):
            await kubelet.totals(2, 2)
            assert kubelet.manager.refusal(asking("u2", 1)) is None
            assert kubelet.manager.statuses("u2", "app")[0]["resources"][0]["resourceID"] == "b"


async def test_a_plugin_is_asked_what_it_prefers_and_told_before_each_start(directory: Path) -> None:
    options = {"getPreferredAllocationAvailable": True, "preStartRequired": True}
    async with (
        running(directory) as (kubelet, supervisor),
        plugged(directory, supervisor, {"a": "Healthy", "b": "Healthy", "c": "Healthy"}, **options) as gpu,
    ):
        await kubelet.totals(3, 3)
        desired = asking("u1", 2)
        assert kubelet.manager.refusal(desired) is None
        for _ in range(2):
            await kubelet.manager.edits(desired, desired["spec"]["containers"][0])
        preferred = {"available": ["a", "b", "c"], "size": 2}
        assert gpu.asked == [
            ("GetPreferredAllocation", preferred),
            ("Allocate", ["b", "c"]),
            ("PreStartContainer", ["b", "c"]),
            ("PreStartContainer", ["b", "c"]),
        ]


async def test_devices_of_init_containers_are_used_again(directory: Path) -> None:
    async with running(directory) as (kubelet, supervisor), plugged(directory, supervisor, TWO):
        await kubelet.totals(2, 2)
        assert kubelet.manager.refusal(asking("u1", 2, inits=(user("init", 2),))) is None
        assert kubelet.manager.refusal(asking("u2", 1)) is not None


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"version": "v1alpha"}, 'API version "v1alpha" is not supported'),
        ({"resource": "cpu"}, 'ResourceName "cpu" is invalid'),
        ({"resource": "kubernetes.io/gpu"}, "is invalid"),
    ],
)
async def test_a_registration_that_makes_no_sense_is_refused(
    directory: Path, request_: dict[str, Any], words: str
) -> None:
    async with running(directory) as (_, supervisor):
        gpu = FakeGpu(directory, supervisor, TWO)
        try:
            with pytest.raises(GrpcError, match=words):
                await gpu.start(**request_)
        finally:
            await gpu.close()


async def test_without_its_plugin_a_container_waits(directory: Path) -> None:
    async with running(directory) as (kubelet, supervisor):
        desired = asking("u1", 1)
        async with plugged(directory, supervisor, TWO):
            await kubelet.totals(2, 2)
            assert kubelet.manager.refusal(desired) is None
        await kubelet.totals(2, 0)
        with pytest.raises(RuntimeFailure, match="no device plugin for"):
            await kubelet.manager.edits(desired, desired["spec"]["containers"][0])


async def test_devices_that_only_cdi_describes_are_refused_by_name(directory: Path) -> None:
    async with running(directory) as (kubelet, supervisor), plugged(directory, supervisor, TWO) as gpu:
        gpu.cdi = ("test.example/gpu=a",)
        await kubelet.totals(2, 2)
        desired = asking("u1", 1)
        assert kubelet.manager.refusal(desired) is None
        with pytest.raises(RuntimeFailure, match="unresolvable CDI devices test"):
            await kubelet.manager.edits(desired, desired["spec"]["containers"][0])


async def test_a_host_has_one_kubelet(directory: Path) -> None:
    async with running(directory) as (_, supervisor):
        with pytest.raises(OSError, match="another kubelet"):
            await Kubelet(directory, supervisor).manager.start()
