"""Which images go, and which never do."""

from collections.abc import AsyncIterator

import pytest

from orchestrator.agent.images.access import PullRecords
from orchestrator.agent.images.garbage import Disk, ImageGarbage, wanted_bytes
from orchestrator.agent.settings import ImageSettings
from orchestrator.base.clock import VirtualClock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime.interface import ContainerSpec, SandboxSpec
from orchestrator.runtime.simulated import SimulatedRuntime

SIZE = 1_000_000


class Node:
    """Images `old:1` … `old:3` were there before; the disk is of 100 images."""

    def __init__(self, settings: ImageSettings) -> None:
        self.clock = VirtualClock()
        self.supervisor = Supervisor("t", self.clock)
        self.runtime = SimulatedRuntime(self.clock, self.supervisor)
        self.used_s: dict[str, float] = {}
        self.events: list[tuple[str, str]] = []
        self.disk = Disk(100 * SIZE, 50 * SIZE)
        self.mounted: list[str] = []
        self.garbage = ImageGarbage(
            self.runtime,
            self.clock,
            settings,
            PullRecords(),
            self.used_s,
            lambda: self.disk,
            lambda *event: self.events.append(event),
            lambda: self.mounted,
        )

    async def begin(self) -> None:
        for number in (1, 2, 3):
            await self.runtime.image(f"old:{number}")
        await self.garbage._looked()

    async def tags(self) -> list[str]:
        return sorted(tag for image in await self.runtime.list_images() for tag in image.tags)

    async def id_of(self, tag: str) -> str:
        image = await self.runtime.image(tag)
        assert image is not None
        return image.id

    async def run(self, image: str) -> str:
        sandbox = await self.runtime.create_sandbox(SandboxSpec("u1", "p", "default", "p"))
        spec = ContainerSpec(sandbox.id, "u1", "p", "default", "app", 0, image)
        return await self.runtime.create_container(spec)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    made = Node(ImageSettings())
    await made.begin()
    yield made
    await made.supervisor.stop()


@pytest.mark.parametrize(("available", "wanted"), [(50, 0), (16, 0), (15, 5), (0, 20), (200, 0)])
def test_above_the_high_threshold_the_low_one_is_the_goal(available: int, wanted: int) -> None:
    assert wanted_bytes(Disk(100, available), ImageSettings()) == wanted
    assert wanted_bytes(Disk(0, 0), ImageSettings()) == 0


async def test_a_disk_with_room_keeps_everything(node: Node) -> None:
    await node.garbage.collect()
    assert await node.tags() == ["old:1", "old:2", "old:3"]


async def test_the_least_recently_used_goes_first_until_there_is_room(node: Node) -> None:
    node.used_s[await node.id_of("old:1")] = node.clock.now_s()
    await node.clock.advance(1000)
    node.disk = Disk(100 * SIZE, 19 * SIZE)
    settings = ImageSettings(gc_high=81, gc_low=80)
    node.garbage._settings = settings
    await node.garbage.collect()
    assert await node.tags() == ["old:1", "old:3"] and node.events == []


async def test_what_is_in_use_young_mounted_or_ours_stays_whatever_the_disk_says(node: Node) -> None:
    await node.runtime.image("orchestrator.internal/pause:1")
    await node.run("old:1")
    node.mounted = ["docker.io/library/old:2"]
    await node.clock.advance(1000)
    await node.garbage._looked()
    await node.runtime.image("young:1")
    node.disk = Disk(100 * SIZE, 5 * SIZE)
    await node.garbage.collect()
    assert await node.tags() == ["old:1", "old:2", "orchestrator.internal/pause:1", "young:1"]
    assert node.events == [
        (
            "FreeDiskSpaceFailed",
            "Failed to garbage collect required amount of images. "
            f"Attempted to free {15 * SIZE} bytes, but only found {SIZE} bytes eligible to free.",
        )
    ]


async def test_an_image_goes_once_its_last_container_is_gone(node: Node) -> None:
    container_id = await node.run("old:1")
    await node.garbage.free()
    assert await node.tags() == ["old:1"]
    await node.runtime.remove_container(container_id)
    assert await node.garbage.free() == 0, "it was used a moment ago"
    await node.clock.advance(120)
    assert await node.garbage.free() == SIZE


async def test_with_a_maximum_age_what_is_unused_for_longer_goes_from_an_empty_disk() -> None:
    node = Node(ImageSettings(max_age_s=3600))
    await node.begin()
    node.used_s[await node.id_of("old:2")] = node.clock.now_s()
    await node.garbage.collect()
    assert await node.tags() == ["old:2"]
    await node.clock.advance(3601)
    await node.garbage.collect()
    assert await node.tags() == []
    await node.garbage.collect()
    assert node.used_s == {}, "what is gone is forgotten"
    await node.supervisor.stop()
