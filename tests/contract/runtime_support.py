"""What the runtime contract needs around it: an engine to talk to, and short ways to make pods."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.runtime.interface import ContainerSpec, LogOptions, Runtime, SandboxSpec
from tests.images import TAG

USUAL_SOCKET = "/var/run/docker.sock"
START_DEADLINE_S = 40.0


def engine_answers(socket: str) -> bool:
    if not Path(socket).is_socket():
        return False
    done = subprocess.run(
        ["curl", "-s", "-m", "5", "--unix-socket", socket, "http://localhost/_ping"],
        capture_output=True,
        check=False,
    )
    return done.stdout == b"OK"


@contextlib.contextmanager
def docker_endpoint() -> Iterator[str]:
    """The socket of the engine that runs, or of one that is started here and ended after.

    Skips where that can't be done; with CI set, fails instead.
    """
    if os.geteuid() != 0:
        _lacking("the Docker runtime needs root")
    if engine_answers(USUAL_SOCKET):
        yield USUAL_SOCKET
        return
    if shutil.which("dockerd") is None:
        _lacking("no Docker engine answers and dockerd is not installed")
    # Short, because a socket's path has at most 107 characters.
    directory = Path(tempfile.mkdtemp(prefix="orcd", dir="/tmp"))
    process = subprocess.Popen(_dockerd(directory), stdout=subprocess.DEVNULL, stderr=_log(directory))
    try:
        _wait_for(process, directory)
        yield str(directory / "d.sock")
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(directory, ignore_errors=True)


def _dockerd(directory: Path) -> list[str]:
    return [
        "dockerd",
        f"--host=unix://{directory}/d.sock",
        f"--data-root={directory}/data",
        f"--exec-root={directory}/exec",
        f"--pidfile={directory}/pid",
        "--bridge=none",
        "--iptables=false",
    ]


def _log(directory: Path) -> int:
    return os.open(directory / "log", os.O_WRONLY | os.O_CREAT)


def _wait_for(process: subprocess.Popen[bytes], directory: Path) -> None:
    until_s = time.monotonic() + START_DEADLINE_S
    while not engine_answers(str(directory / "d.sock")):
        if process.poll() is not None or time.monotonic() > until_s:
            _lacking(f"dockerd does not start: {(directory / 'log').read_text()[-800:]}")
        time.sleep(0.1)


@contextlib.contextmanager
def containerd_endpoint() -> Iterator[str]:
    """The socket of a containerd of our own, with a root of its own, that is ended after. Skips as above."""
    if os.geteuid() != 0:
        _lacking("the containerd runtime needs root")
    if shutil.which("containerd") is None:
        _lacking("containerd is not installed")
    directory = Path(tempfile.mkdtemp(prefix="orcc", dir="/tmp"))
    try:
        with containerd_started(directory) as socket:
            yield socket
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def containerd_started(directory: Path) -> Iterator[str]:
    """A containerd whose root is below `directory`; what it ran runs on when it ends."""
    settings = directory / "config.toml"
    settings.write_text(_containerd_settings(directory))
    with (directory / "log").open("ab") as output:
        process = subprocess.Popen(
            ["containerd", "--config", str(settings)], stdout=output, stderr=output, start_new_session=True
        )
    try:
        until_s = time.monotonic() + START_DEADLINE_S
        while not _containerd_answers(directory):
            if process.poll() is not None or time.monotonic() > until_s:
                _lacking(f"containerd does not start: {(directory / 'log').read_text()[-800:]}")
            time.sleep(0.1)
        yield str(directory / "c.sock")
    finally:
        process.terminate()
        process.wait(30)


def _containerd_settings(directory: Path) -> str:
    """Only what we use of it: the CRI plugin would take its time to start."""
    return f"""version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "{directory}/c.sock"
[ttrpc]
  address = "{directory}/c.sock.ttrpc"
"""


def _containerd_answers(directory: Path) -> bool:
    command = ["ctr", "--connect-timeout", "2s", "-a", str(directory / "c.sock"), "version"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _lacking(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


class Pod:
    """Short ways to make one pod's sandbox and containers in a runtime."""

    def __init__(self, runtime: Runtime, name: str) -> None:
        self.runtime = runtime
        self.name = name
        self.sandbox_id = ""

    def sandbox_spec(self, **settings: object) -> SandboxSpec:
        return SandboxSpec(f"uid-{self.name}", self.name, "testing", self.name, **settings)  # type: ignore[arg-type]

    def spec(self, *command: str, name: str = "main", attempt: int = 0, **settings: object) -> ContainerSpec:
        return ContainerSpec(
            sandbox_id=self.sandbox_id,
            pod_uid=f"uid-{self.name}",
            pod_name=self.name,
            pod_namespace="testing",
            name=name,
            attempt=attempt,
            image=str(settings.pop("image", TAG)),
            command=command,
            **settings,  # type: ignore[arg-type]
        )

    async def open(self, **settings: object) -> "Pod":
        self.sandbox_id = (await self.runtime.create_sandbox(self.sandbox_spec(**settings))).id
        return self

    async def run(self, *command: str, **settings: object) -> str:
        container_id = await self.runtime.create_container(self.spec(*command, **settings))  # type: ignore[arg-type]
        await self.runtime.start_container(container_id)
        return container_id

    async def output(self, container_id: str) -> list[tuple[str, bytes]]:
        """All output, once the container has ended."""
        lines = self.runtime.logs(container_id, LogOptions(follow=True))
        async with asyncio.timeout(30):
            return [(line.stream, line.data) async for line in lines]

    async def ended(self, container_id: str) -> int:
        """The exit code, once there is one."""
        await self.output(container_id)
        async with asyncio.timeout(30):
            while True:
                facts = await self.runtime.inspect_container(container_id)
                assert facts is not None
                if facts.state == "exited":
                    return facts.exit_code
                await asyncio.sleep(0.02)
