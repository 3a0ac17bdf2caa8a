"""`orchestrator server`: settings from flags and file, one daemon, until SIGTERM."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import structlog

from orchestrator import config as settings
from orchestrator.base import garbage, log, systemd
from orchestrator.base.clock import SystemClock
from orchestrator.base.errors import StartupError
from orchestrator.base.tasks import Supervisor
from orchestrator.config import Config

STOP_TIMEOUT_S = 10.0

_PATH = click.Path(path_type=Path)
_FLAGS: tuple[tuple[str, Any, str], ...] = (
    ("--data-dir", _PATH, "Where the store and the keys lie."),
    ("--run-dir", _PATH, "Sockets and state of the moment."),
    ("--bind", str, "Address that the API listens on."),
    ("--port", int, "Port of the API; 0 takes a free one."),
    ("--advertise-address", str, "Where clients and pods reach the API."),
    ("--write-kubeconfig", _PATH, "Where the admin's kubeconfig is written."),
    ("--node-name", str, "Name of this host's node."),
    ("--node-ip", str, "Address of this host's node."),
    ("--agent-port", int, "Port of the node agent's API."),
    ("--simulated-nodes", int, "Also run this many nodes without containers."),
    ("--runtime", click.Choice(["auto", "docker", "containerd", "simulated"]), "Container engine."),
    ("--runtime-endpoint", str, "The engine's socket."),
    ("--pod-cidr", str, "Range of pod addresses."),
    ("--service-cidr", str, "Range of Service addresses."),
    ("--dns-address", str, "Address of the cluster's DNS server."),
    ("--store", click.Choice(["log", "etcd"]), "Store engine."),
    ("--etcd-ca", str, "CA of etcd's certificate (PEM file)."),
    ("--etcd-cert", str, "Client certificate for etcd (PEM file)."),
    ("--etcd-key", str, "Key of that certificate (PEM file)."),
    ("--etcd-user", str, "User of etcd."),
    ("--etcd-password-file", str, "File with that user's password."),
    ("--etcd-prefix", str, "Where the store's keys lie in etcd."),
    ("--log-level", click.Choice(["debug", "info", "warning", "error"]), "What is logged."),
)


def _options(function: Callable[..., None]) -> Callable[..., None]:
    for name, kind, text in reversed(_FLAGS):
        function = click.option(name, type=kind, default=None, help=text)(function)
    return function


@click.command("server", help="Run a server with its node. Every flag has a key in the config file.")
@click.option("--config", "file", type=_PATH, default=None, help="Config file (TOML).")
@click.option("--no-agent", is_flag=True, default=None, help="Run the control plane only.")
@click.option("--etcd-endpoints", default=None, help="Comma-separated URLs of etcd.")
@_options
def command(file: Path | None, etcd_endpoints: str | None, **flags: Any) -> None:
    if etcd_endpoints is not None:
        flags["etcd_endpoints"] = tuple(etcd_endpoints.split(","))
    config = settings.load(file, flags)
    log.configure(config.log_level, config.log_format)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(config))


async def _serve(config: Config) -> None:
    from orchestrator.daemon import Daemon

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    clock = SystemClock()
    daemon, supervisor = Daemon(config, clock), Supervisor("process", clock)
    supervisor.serve("watchdog", lambda: systemd.watchdog(clock))
    supervisor.spawn("announce", _announce(daemon))
    starting = supervisor.spawn("start", _start(daemon))
    stopping = supervisor.spawn("stop", stop.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    try:
        if starting.done():
            refusal = await starting
            if refusal is not None:
                raise refusal
            garbage.settle()
            supervisor.serve("garbage", lambda: garbage.collect(clock))
            await stop.wait()
    finally:
        systemd.notify("STOPPING=1")
        await _stop(daemon, supervisor)


async def _announce(daemon: Any) -> None:
    """Ready is when `/readyz` says so; a node may take longer, for as long as its engine does."""
    await daemon.ready.wait()
    systemd.notify("READY=1")


async def _start(daemon: Any) -> StartupError | None:
    """A host that can't run the daemon is no failed task: the refusal is told once, in words."""
    try:
        await daemon.start()
    except StartupError as error:
        return error
    return None


async def _stop(daemon: Any, supervisor: Supervisor) -> None:
    await supervisor.stop()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await daemon.stop()
    except TimeoutError:
        structlog.get_logger(__name__).error("stop took too long", timeout_s=STOP_TIMEOUT_S)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed, else the standard library's."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
