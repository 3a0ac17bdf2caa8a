"""Which engine is taken, and what is said when there is none."""

import asyncio
from pathlib import Path

import pytest

from orchestrator.base.clock import SystemClock
from orchestrator.base.errors import StartupError
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime.select import Places, select


async def choose(kind: str, endpoint: str = "") -> str:
    places = Places(Path("/nonexistent/run"), Path("/nonexistent/logs"))
    return (await select(kind, endpoint, "abc123", places, SystemClock(), Supervisor("test"))).name


async def test_simulated_needs_nothing() -> None:
    assert await choose("simulated") == "simulated"


@pytest.mark.parametrize("kind", ["auto", "docker", "containerd"])
async def test_a_socket_that_is_absent_is_named_with_the_fix(kind: str, tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="no such file") as failure:
        await choose(kind, f"unix://{tmp_path}/none.sock")
    assert f"{tmp_path}/none.sock" in failure.value.cause and "--runtime-endpoint" in failure.value.fix


async def test_a_run_directory_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    socket = tmp_path / "c.sock"
    server = await asyncio.start_unix_server(lambda reader, writer: writer.close(), socket)
    places = Places(Path("/run/" + "x" * 90), Path("/nonexistent/logs"))
    with pytest.raises(StartupError, match="too long"):
        await select("containerd", str(socket), "abc123", places, SystemClock(), Supervisor("test"))
    server.close()
    await server.wait_closed()
