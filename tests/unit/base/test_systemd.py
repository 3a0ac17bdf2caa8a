"""sd_notify as systemd would hear it."""

import socket
from pathlib import Path

import pytest

from orchestrator.base import systemd
from orchestrator.base.clock import VirtualClock
from orchestrator.base.tasks import Supervisor


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield channel


def test_a_state_reaches_the_manager(manager: socket.socket) -> None:
    systemd.notify("READY=1")
    assert manager.recv(100) == b"READY=1"


def test_a_manager_that_is_gone_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    systemd.notify("READY=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    systemd.notify("READY=1")


async def test_the_watchdog_is_fed_twice_per_interval(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    clock = VirtualClock()
    supervisor = Supervisor("t", clock)
    supervisor.serve("watchdog", lambda: systemd.watchdog(clock))
    await clock.advance(12)
    await supervisor.stop()
    assert [manager.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3


async def test_no_watchdog_no_feeding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    await systemd.watchdog(VirtualClock())
