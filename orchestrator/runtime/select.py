"""Which engine this host has, decided once before anything is changed. Called by the composition root.

An engine's module is loaded when that engine is taken: nobody pays for the other's client.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from orchestrator.base.clock import Clock
from orchestrator.base.errors import StartupError
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime.interface import Runtime, RuntimeFailure
from orchestrator.runtime.registries import RegistryFile
from orchestrator.runtime.simulated import SimulatedRuntime

DOCKER_ENDPOINT = "/var/run/docker.sock"
CONTAINERD_ENDPOINT = "/run/containerd/containerd.sock"
KNOCK_DEADLINE_S = 5.0


SOCKET_PATH_MAX = 107


@dataclass(frozen=True, slots=True)
class Places:
    """Where an engine that leaves this to us keeps pods' namespaces and pipes, and their logs."""

    run_dir: Path
    log_dir: Path
    registries: Path | None = None
    """The node's file about registries; see `registries`."""


async def select(
    kind: str, endpoint: str, instance: str, places: Places, clock: Clock, supervisor: Supervisor
) -> Runtime:
    """A connected runtime of `kind` (`auto`, `docker`, `containerd`, `simulated`) at `endpoint`, empty for the
    usual one. `auto` takes Docker where it answers. Raises `StartupError` when there is none."""
    if kind == "simulated":
        return SimulatedRuntime(clock, supervisor)
    if kind == "containerd" or (kind == "auto" and await _means_containerd(endpoint)):
        path = _path(endpoint or CONTAINERD_ENDPOINT)
        await _expect("containerd", path, "apt-get install containerd")
        return await _containerd(path, instance, places, clock, supervisor)
    path = _path(endpoint or DOCKER_ENDPOINT)
    await _expect("Docker engine", path, "apt-get install docker.io")
    return await _docker(path, instance, places, clock, supervisor)


async def _means_containerd(endpoint: str) -> bool:
    """What `auto` is: Docker where it answers, unless the endpoint says otherwise."""
    if endpoint:
        return "containerd" in endpoint
    return bool(await _knock(DOCKER_ENDPOINT)) and not await _knock(CONTAINERD_ENDPOINT)


def _path(endpoint: str) -> str:
    """`unix:///path` or a path."""
    path = endpoint.removeprefix("unix://")
    if not path.startswith("/"):
        raise StartupError(
            f"The container engine's address {endpoint!r} is no Unix socket.",
            "Give a path, or unix:///path, to --runtime-endpoint.",
        )
    return path


async def _expect(name: str, path: str, install: str) -> None:
    if problem := await _knock(path):
        raise StartupError(
            f"No {name} answers at {path}: {problem}.",
            f"Install and start one ({install}), or name its socket with --runtime-endpoint.",
        )


async def _docker(path: str, instance: str, places: Places, clock: Clock, supervisor: Supervisor) -> Runtime:
    from orchestrator.runtime.docker import DockerRuntime

    runtime = DockerRuntime(
        path, instance, clock, supervisor, places.log_dir.absolute(), RegistryFile(places.registries)
    )
    return await _connected(runtime, f"The Docker engine at {path}", "docker")


async def _containerd(
    path: str, instance: str, places: Places, clock: Clock, supervisor: Supervisor
) -> Runtime:
    from orchestrator.runtime.containerd import ContainerdRuntime

    if len(str(places.run_dir.absolute())) > SOCKET_PATH_MAX - len("/containerd/keeper.sock"):
        raise StartupError(
            f"The run directory {places.run_dir} is too long a path for a socket in it.",
            "Choose a shorter one with --run-dir.",
        )
    runtime = ContainerdRuntime(
        path, instance, places.run_dir, places.log_dir, clock, supervisor, RegistryFile(places.registries)
    )
    return await _connected(runtime, f"containerd at {path}", "containerd")


async def _connected(runtime: Runtime, name: str, unit: str) -> Runtime:
    try:
        await runtime.connect()
    except BaseException as error:
        await runtime.close()
        if isinstance(error, RuntimeFailure):
            raise StartupError(
                f"{name} can't be used: {error}.",
                f"Look at its log (journalctl -u {unit}) and restart it.",
            ) from error
        raise
    return runtime


async def _knock(path: str) -> str:
    """Why nobody listens at the socket, or nothing if somebody does."""
    try:
        async with asyncio.timeout(KNOCK_DEADLINE_S):
            _, writer = await asyncio.open_unix_connection(path)
    except TimeoutError:
        return f"no answer within {KNOCK_DEADLINE_S:.0f} s"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    writer.close()
    await writer.wait_closed()
    return ""
