"""Links by which collectors of logs (fluent-bit, promtail, vector) find containers, in a kubelet's layout.

`<containers>/<pod>_<namespace>_<container>-<id>.log` leads to `<pods>/<namespace>_<pod>_<uid>/<container>/<n>.log`,
where `<containers>` lies beside `<pods>`. containerd's logs are those files, in the CRI's format. Docker keeps its own
files, json; there the second is a link as well, as it was with a kubelet on Docker, so that one configuration finds
both (collectors tell the formats apart). Where logs don't lie in a directory `pods` (a second server on a host), the
links lie in `<its name>-links`. Functions block for a moment and may run twice; the runtimes use `LogLinks`.
"""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

from orchestrator.base.tasks import Supervisor
from orchestrator.runtime.interface import Container

NAME_BYTES_MAX = 255


def log_path(pods: Path, container: Container) -> Path:
    """Where a container's log is expected."""
    pod = f"{container.pod_namespace}_{container.pod_name}_{container.pod_uid}"
    return pods / pod / container.name / f"{container.attempt}.log"


def containers(pods: Path) -> Path:
    """The directory of links by container."""
    return pods.parent / ("containers" if pods.name == "pods" else f"{pods.name}-links")


class LogLinks:
    """The links of one engine's containers, made and removed in threads beside the work. None without `pods`."""

    def __init__(self, pods: Path | None, supervisor: Supervisor) -> None:
        self._pods = pods
        self._supervisor = supervisor
        self._linked: set[str] = set()

    async def sweep(self) -> None:
        """Once at the start."""
        if self._pods is not None:
            await asyncio.to_thread(sweep, self._pods)

    def saw(self, container: Container, target: str = "") -> None:
        """A container that has been started; one that is known already costs a look into a set."""
        if self._pods is None or container.state == "created" or container.id in self._linked:
            return
        self._linked.add(container.id)
        work = asyncio.to_thread(link, self._pods, container, Path(target) if target else None)
        self._supervisor.spawn(f"link/{container.id[:12]}", work)

    async def removed(self, container_id: str) -> None:
        """A container and its log are gone."""
        self._linked.discard(container_id)
        if self._pods is not None:
            await asyncio.to_thread(unlink, self._pods, container_id)


def link(pods: Path, container: Container, target: Path | None = None) -> None:
    """Make the links of a container; `target` is its engine's own file, where that is not the log itself.

    A host that refuses (a read-only disk) has none: containers run all the same.
    """
    with suppress(OSError):
        path = log_path(pods, container)
        if target is not None:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            _point(path, target)
        directory = containers(pods)
        directory.mkdir(parents=True, exist_ok=True, mode=0o755)
        _point(directory / _name(container), path)


def unlink(pods: Path, container_id: str) -> None:
    """Remove the links of a container that is removed, and directories that are empty after."""
    ending = f"-{container_id}.log"
    for name in _names(containers(pods)):
        if name.endswith(ending):
            _remove(containers(pods) / name, pods)


def sweep(pods: Path) -> None:
    """Remove links below `pods` that lead nowhere: their containers were removed while nobody watched."""
    directory = containers(pods)
    for name in _names(directory):
        link = directory / name
        if link.is_symlink() and not link.exists() and Path(os.readlink(link)).is_relative_to(pods):
            _remove(link, pods)


def _remove(link: Path, pods: Path) -> None:
    with suppress(OSError):
        path = Path(os.readlink(link))
        link.unlink()
        if not path.is_relative_to(pods):
            return
        if path.is_symlink():
            path.unlink()
        for directory in (path.parent, path.parent.parent):
            directory.rmdir()


def _name(container: Container) -> str:
    ending = f"-{container.id}.log"
    start = f"{container.pod_name}_{container.pod_namespace}_{container.name}"
    return start[: NAME_BYTES_MAX - len(ending)] + ending


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _point(link: Path, target: Path) -> None:
    """A link there that leads elsewhere is of a container that had the same name."""
    with suppress(FileNotFoundError):
        if os.readlink(link) == str(target):
            return
        link.unlink()
    link.symlink_to(target)
