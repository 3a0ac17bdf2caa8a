"""Which engine is taken, and what is said when there is none."""

from pathlib import Path

import pytest

from orchestrator.base.clock import SystemClock
from orchestrator.base.errors import StartupError
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime.select import select


async def choose(kind: str, endpoint: str = "") -> str:
    return (await select(kind, endpoint, "abc123", SystemClock(), Supervisor("test"))).name


async def test_simulated_needs_nothing() -> None:
    assert await choose("simulated") == "simulated"


@pytest.mark.parametrize("kind", ["auto", "docker"])
async def test_a_socket_that_is_absent_is_named_with_the_fix(kind: str, tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="no such file") as failure:
        await choose(kind, f"unix://{tmp_path}/none.sock")
    assert f"{tmp_path}/none.sock" in failure.value.cause and "--runtime-endpoint" in failure.value.fix


async def test_containerd_is_announced_for_later() -> None:
    with pytest.raises(StartupError, match="containerd"):
        await choose("containerd")
