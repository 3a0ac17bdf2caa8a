"""Images from a directory: what is read, when again, and what a spoilt file does."""

import gzip
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.agent.images.preload import Preloaded
from orchestrator.base.clock import VirtualClock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime.imagearchive import archive_names, docker_archive, unpack_archive
from orchestrator.runtime.imagetar import Entry, build
from orchestrator.runtime.interface import RuntimeFailure
from orchestrator.runtime.simulated import SimulatedRuntime


def archive(tag: str) -> bytes:
    return build(tag, {"/file": Entry(tag.encode())}, {"Cmd": ["/file"]}, "amd64")


class Node:
    def __init__(self, directory: Path) -> None:
        self.clock = VirtualClock()
        self.supervisor = Supervisor("t", self.clock)
        self.runtime = Loading(self.clock, self.supervisor)
        self.directory = directory / "images"
        self.directory.mkdir()
        self.record = directory / "preloaded.json"
        self.preloaded = self.again()

    def again(self) -> Preloaded:
        return Preloaded(self.directory, self.record, self.runtime, self.clock)

    def put(self, name: str, data: bytes, age_s: float = 60.0) -> None:
        path = self.directory / name
        path.write_bytes(data)
        os.utime(path, (self.clock.now_s() - age_s,) * 2)


class Loading(SimulatedRuntime):
    loaded: list[str]

    async def load_file(self, path: Path) -> None:
        self.__dict__.setdefault("loaded", []).append(path.name)
        await super().load_file(path)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    made.runtime.loaded = []
    yield made
    await made.supervisor.stop()


async def test_archives_are_read_at_the_start_and_others_passed_over(node: Node) -> None:
    node.put("a.tar", archive("a:1"))
    node.put("b.tar.gz", gzip.compress(archive("b:1")))
    node.put("spoilt.tar", b"nothing")
    node.put("README", b"not an image")
    await node.preloaded.start()
    assert sorted(node.preloaded.names()) == ["a:1", "b:1"]
    assert [tag for image in await node.runtime.list_images() for tag in image.tags] == ["a:1", "b:1"]


async def test_what_is_here_is_not_read_again_and_what_was_removed_is(node: Node) -> None:
    node.put("a.tar", archive("a:1"))
    node.put("b.tar", archive("b:1"))
    await node.preloaded.start()
    node.runtime.image = missing(node.runtime, "b:1")  # type: ignore[method-assign]
    again = node.again()
    await again.start()
    assert node.runtime.loaded == ["a.tar", "b.tar", "b.tar"]
    assert sorted(again.names()) == ["a:1", "b:1"]


def missing(runtime: SimulatedRuntime, gone: str):  # type: ignore[no-untyped-def]
    there = runtime.image

    async def image(reference: str):  # type: ignore[no-untyped-def]
        return None if reference == gone else await there(reference)

    return image


async def test_a_file_that_comes_later_is_read_once_it_is_whole(node: Node) -> None:
    await node.preloaded.start()
    node.put("late.tar", archive("late:1"), age_s=1)
    await node.preloaded.look()
    assert node.runtime.loaded == []
    await node.clock.advance(30)
    await node.preloaded.look()
    await node.preloaded.look()
    assert node.runtime.loaded == ["late.tar"]
    (node.directory / "late.tar").unlink()
    await node.preloaded.look()
    assert node.preloaded.names() == []


async def test_no_directory_is_no_fault(tmp_path: Path) -> None:
    clock = VirtualClock()
    runtime = SimulatedRuntime(clock, Supervisor("t", clock))
    preloaded = Preloaded(tmp_path / "none", tmp_path / "record", runtime, clock)
    await preloaded.start()
    assert preloaded.names() == []
    assert not (tmp_path / "none").exists()


def test_an_image_made_over_for_docker_is_the_same_image(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(archive("a:1"))
    assert archive_names(tmp_path / "a.tar") == ["a:1"]
    (first,) = unpack_archive(archive("a:1"))
    (again,) = unpack_archive(docker_archive(first, "amd64"))
    assert again == first
    (tmp_path / "x.tar").write_bytes(b"")
    with pytest.raises(RuntimeFailure, match="no image archive"):
        archive_names(tmp_path / "x.tar")
