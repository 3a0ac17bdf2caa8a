"""`orchestrator cleanup`: takes a stopped server's traces off this host. The data stays unless `--purge`.

Everything carries the instance's id, so other instances and other people's things are never touched. Runs as
often as one likes; a step that fails is named and does not keep the others from running.
"""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import click

from orchestrator import config as settings
from orchestrator.assembly import host
from orchestrator.base.errors import OrchestratorError, StartupError
from orchestrator.config import Config

MOUNTS = Path("/proc/self/mountinfo")
UMOUNT_DEADLINE_S = 20.0

_PATH = click.Path(path_type=Path)


@click.command("cleanup", help="Remove everything that a stopped server made on this host; data is kept.")
@click.option("--config", "file", type=_PATH, default=None, help="Config file (TOML).")
@click.option("--data-dir", type=_PATH, default=None, help="Where the store and the keys lie.")
@click.option("--run-dir", type=_PATH, default=None, help="Sockets and state of the moment.")
@click.option(
    "--write-kubeconfig", type=_PATH, default=None, help="Where the admin's kubeconfig was written."
)
@click.option("--runtime-endpoint", default=None, help="The engine's socket.")
@click.option("--images", is_flag=True, help="Also remove the pause and demo images where nobody uses them.")
@click.option("--purge", is_flag=True, help="Also delete the data: all objects, keys and certificates.")
def command(file: Path | None, images: bool, purge: bool, **flags: object) -> None:
    config = settings.load(file, flags)
    host.check_root()
    check_stopped(config.data_dir)
    failures = asyncio.run(_remove(config, images=images, purge=purge))
    if failures:
        raise StartupError(
            "Not everything could be removed: " + "; ".join(failures) + ".",
            "Correct the cause and run the command again.",
        )


def check_stopped(data_dir: Path) -> None:
    """Raise `StartupError` while a server holds the data directory: it would make everything anew."""
    from orchestrator.store.disk import Disk

    path = data_dir / "store" / "LOCK"
    if not path.exists():
        return
    try:
        os.close(Disk().lock(path))
    except BlockingIOError as error:
        raise StartupError(
            f"A server is running with the data directory {data_dir}.",
            "Stop it first: systemctl stop orchestrator, or kill $(cat /run/orchestrator/orchestrator.pid).",
        ) from error


async def _remove(config: Config, *, images: bool, purge: bool) -> list[str]:
    """Do every step; returns what failed, as sentences without a full stop."""
    known = (config.data_dir / "instance").exists()
    instance = host.instance_id(config.data_dir) if known else ""
    steps: list[tuple[str, Callable[[], Awaitable[str]]]] = []
    on_containerd = config.runtime == "containerd" or (config.run_dir / "containerd").exists()
    if instance:
        steps.append(("containerd", lambda: _containerd(config, instance, on_containerd)))
    if (instance or images) and not (on_containerd and config.runtime_endpoint):
        steps.append(("containers", lambda: _containers(config, instance, images)))
    if instance:
        steps.append(("network", lambda: _network(config, instance)))
        steps += [("mounts", lambda: _mounts(config)), ("files", lambda: _files(config, purge))]
    if not instance:
        click.echo(f"{config.data_dir} belongs to no server: nothing else to remove")
    failures = []
    for name, step in steps:
        try:
            said = await step()
        except (OrchestratorError, OSError, subprocess.SubprocessError) as error:
            failures.append(f"{name}: {str(error).rstrip('.')}")
        else:
            click.echo(f"{name}: {said}")
    return failures


async def _containers(config: Config, instance: str, images: bool) -> str:
    from orchestrator.assembly.engine import log_dir
    from orchestrator.cli.demo import TAG as DEMO_TAG
    from orchestrator.runtime import docker_certs
    from orchestrator.runtime.docker_engine import Engine, socket_path
    from orchestrator.runtime.loglinks import sweep
    from orchestrator.runtime.pause import TAG as PAUSE_TAG
    from orchestrator.runtime.removal import remove_containers, remove_unused_images
    from orchestrator.runtime.select import DOCKER_ENDPOINT

    path = socket_path(config.runtime_endpoint or DOCKER_ENDPOINT)
    if not await asyncio.to_thread(os.path.exists, path):
        return f"no engine at {path}, so there are none that run"
    engine = Engine(path)
    try:
        await engine.connect()
        count = await remove_containers(engine, instance) if instance else 0
        gone = await remove_unused_images(engine, (DEMO_TAG, PAUSE_TAG)) if images else []
        if instance:
            await asyncio.to_thread(docker_certs.remove, docker_certs.ROOT, instance)
    finally:
        await engine.close()
    await asyncio.to_thread(sweep, log_dir(config).absolute())
    return f"{count} removed" + "".join(f", image {tag} removed" for tag in gone)


async def _containerd(config: Config, instance: str, given: bool) -> str:
    """`given` tells that the endpoint, if there is one, is containerd's."""
    from orchestrator.assembly.engine import log_dir
    from orchestrator.base.clock import SystemClock
    from orchestrator.runtime.select import CONTAINERD_ENDPOINT

    path = (config.runtime_endpoint if given else "") or CONTAINERD_ENDPOINT
    path = path.removeprefix("unix://")
    if not await asyncio.to_thread(os.path.exists, path):
        return f"none at {path}, so nothing of ours runs there"
    from orchestrator.runtime.containerd_removal import knows, remove_instance

    if not await knows(path, instance):
        return f"nothing of ours at {path}"
    count = await remove_instance(path, instance, config.run_dir, log_dir(config), SystemClock())
    return f"{count} removed"


async def _network(config: Config, instance: str) -> str:
    from orchestrator.network.dataplane.removal import remove_everything

    state_dir = config.run_dir / "network"
    await remove_everything(instance, config.pod_cidr, config.service_cidr, state_dir)
    return f"links, routes and rules of orc{instance} removed"


async def _mounts(config: Config) -> str:
    """Unmount what lies below our directories, the innermost first."""
    found = mounts_below((config.data_dir, config.run_dir), await asyncio.to_thread(MOUNTS.read_text))
    for point in found:
        await asyncio.to_thread(
            subprocess.run,
            ["umount", "-l", point],
            check=True,
            capture_output=True,
            timeout=UMOUNT_DEADLINE_S,
        )
    return f"{len(found)} removed"


def mounts_below(directories: tuple[Path, ...], mountinfo: str) -> list[str]:
    """Mount points strictly below one of `directories`, innermost first, from the text of `mountinfo`."""
    points = [_unescape(line.split()[4]) for line in mountinfo.splitlines()]
    below = [point for point in points if any(folder in Path(point).parents for folder in directories)]
    return sorted(below, key=len, reverse=True)


def _unescape(text: str) -> str:
    """The kernel writes space, tab, newline and backslash as three octal digits."""
    for number in (0o40, 0o11, 0o12, 0o134):
        text = text.replace(f"\\{number:03o}", chr(number))
    return text


async def _files(config: Config, purge: bool) -> str:
    doomed = [config.run_dir, config.write_kubeconfig, config.data_dir / "agent"]
    if purge:
        doomed.append(config.data_dir)
    gone = [path for path in doomed if await asyncio.to_thread(_delete, path)]
    kept = await asyncio.to_thread(_kept, config, purge)
    said = ", ".join(map(str, gone)) + " removed" if gone else "nothing to remove"
    return said + "".join(f"; {path} is kept" for path in kept)


def _kept(config: Config, purge: bool) -> list[Path]:
    """Data that stays. Volumes outside of the data directory are never deleted: others may have theirs there."""
    volumes = config.volumes_dir()
    kept = [] if purge else [config.data_dir]
    if not volumes.is_relative_to(config.data_dir.absolute()):
        kept.append(volumes)
    return [path for path in kept if path.exists()]


def _delete(path: Path) -> bool:
    """Whether there was anything."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
        return True
    if path.exists() or path.is_symlink():
        path.unlink()
        return True
    return False
