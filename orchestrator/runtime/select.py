"""Which engine this host has, decided once before anything is changed. Called by the composition root."""

import asyncio

from orchestrator.base.clock import Clock
from orchestrator.base.errors import StartupError
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime.docker import DockerRuntime
from orchestrator.runtime.docker_engine import socket_path
from orchestrator.runtime.interface import Runtime, RuntimeFailure
from orchestrator.runtime.simulated import SimulatedRuntime

DOCKER_ENDPOINT = "/var/run/docker.sock"
CONTAINERD_ENDPOINT = "/run/containerd/containerd.sock"
KNOCK_DEADLINE_S = 5.0


async def select(kind: str, endpoint: str, instance: str, clock: Clock, supervisor: Supervisor) -> Runtime:
    """A connected runtime of `kind` (`auto`, `docker`, `containerd`, `simulated`) at `endpoint`, empty for the
    usual one. Raises `StartupError` when there is none."""
    if kind == "simulated":
        return SimulatedRuntime(clock, supervisor)
    if kind == "containerd":
        raise _no_containerd(endpoint or CONTAINERD_ENDPOINT)
    path = socket_path(endpoint or DOCKER_ENDPOINT)
    problem = await _knock(path)
    if problem and kind == "auto" and not endpoint and not await _knock(CONTAINERD_ENDPOINT):
        raise _no_containerd(CONTAINERD_ENDPOINT)
    if problem:
        raise StartupError(
            f"No Docker engine answers at {path}: {problem}.",
            "Install and start one (apt-get install docker.io), or name its socket with --runtime-endpoint.",
        )
    return await _docker(path, instance, clock, supervisor)


async def _docker(path: str, instance: str, clock: Clock, supervisor: Supervisor) -> Runtime:
    runtime = DockerRuntime(path, instance, clock, supervisor)
    try:
        await runtime.connect()
    except BaseException as error:
        await runtime.close()
        if isinstance(error, RuntimeFailure):
            raise StartupError(
                f"The Docker engine at {path} can't be used: {error}.",
                "Look at its log (journalctl -u docker) and restart it.",
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


def _no_containerd(path: str) -> StartupError:
    return StartupError(
        f"This version runs containers on Docker Engine only; containerd (at {path}) comes in a later one.",
        "Install Docker Engine (apt-get install docker.io) and start with --runtime docker.",
    )
