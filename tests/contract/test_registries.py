"""Mirrors, their order and names, and the node's logins: the same file for both engines, against a registry with a
password on loopback."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from orchestrator.base.clock import SystemClock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime.containerd import ContainerdRuntime
from orchestrator.runtime.docker import DockerRuntime
from orchestrator.runtime.interface import RuntimeFailure
from orchestrator.runtime.registries import RegistryFile
from tests.contract.registry import PASSWORD, USER, serving
from tests.contract.runtime_support import containerd_endpoint, docker_endpoint
from tests.images import busybox_archive

NAME = "absent.example.com/team/mirrored:1"


def settings(mirror: str, password: str = PASSWORD) -> str:
    return f"""
[mirrors."absent.example.com"]
endpoints = ["http://127.0.0.1:9", "http://{mirror}"]
rewrite = {{ "^team/(.*)$" = "copies/$1" }}
only = true

[hosts."{mirror}"]
username = "{USER}"
password = "{password}"
"""


@asynccontextmanager
async def engine(kind: str, directory: Path) -> AsyncIterator[DockerRuntime | ContainerdRuntime]:
    supervisor, clock, instance = Supervisor("t", SystemClock()), SystemClock(), secrets.token_hex(3)
    file = RegistryFile(directory / "registries.toml")
    with docker_endpoint() if kind == "docker" else containerd_endpoint() as socket:
        runtime: DockerRuntime | ContainerdRuntime
        if kind == "docker":
            runtime = DockerRuntime(socket, instance, clock, supervisor, registries=file)
        else:
            logs = directory / "pods"
            runtime = ContainerdRuntime(socket, instance, directory, logs, clock, supervisor, file)
        try:
            await runtime.connect()
            yield runtime
        finally:
            await runtime.close()
            await supervisor.stop()


@pytest.mark.parametrize("kind", ["docker", "containerd"])
async def test_a_mirror_gives_what_pods_name_by_its_registry(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "registries.toml"
    async with serving(busybox_archive()) as registry, engine(kind, tmp_path) as runtime:
        path.write_text(settings(registry.address, "wrong"))
        registry.asked.clear()
        with pytest.raises(RuntimeFailure, match=r"refused.*unauthorized"):
            await runtime.pull(NAME)
        path.write_text(settings(registry.address))
        image = await runtime.pull(NAME)
        assert image.tags == (NAME,) and await runtime.image(NAME) == image
        await runtime.remove_image(image.id)
        by_digest = f"absent.example.com/team/mirrored@{registry.digest}"
        assert await runtime.image(by_digest) is None
        image = await runtime.pull(by_digest)
        assert await runtime.image(by_digest) == image
        await runtime.remove_image(image.id)
