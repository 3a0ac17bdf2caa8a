"""`emptyDir` volumes: a directory on the node's disk, in its memory or in its huge pages. Blocking.

A volume in memory takes at most what the pod may use (its memory limit, else the node's memory) and never more than
its own `sizeLimit`. Source: Kubernetes' sizing of memory backed volumes.
"""

from pathlib import Path

from orchestrator.agent import podspec
from orchestrator.agent.volumes.errors import VolumeError
from orchestrator.agent.volumes.ownership import give_to_group
from orchestrator.api.item import Object
from orchestrator.base import mounting

_HUGE = "hugepages-"


def set_up(
    name: str, path: Path, source: Object, pod: Object, allocatable: Object, group: int | None
) -> None:
    """Make the volume `name` at `path` unless it is there. Raises `VolumeError`, `OSError`."""
    medium = source.get("medium") or ""
    if not medium:
        _on_disk(path, group)
        return
    if medium != "Memory" and not medium.startswith("HugePages"):
        raise VolumeError.mount(name, f'unknown storage medium "{medium}"')
    path.mkdir(parents=True, exist_ok=True, mode=0o750)
    if mounting.is_mounted(path):
        return
    # Owner and mode with the mount: a crash must not leave one without the other.
    owner = f"mode=2777,gid={group}" if group is not None else "mode=0777"
    if medium == "Memory":
        size = memory_size(source, pod, allocatable)
        mounting.mount("tmpfs", path, "tmpfs", f"{owner},size={size}" if size else owner)
    else:
        size_name = (medium.partition("-")[2] or _page_size(name, pod)).removesuffix("i")
        mounting.mount("nodev", path, "hugetlbfs", f"{owner},pagesize={size_name}")


def _on_disk(path: Path, group: int | None) -> None:
    """It gets its name when it is complete."""
    if path.is_dir():
        return
    fresh = path.with_name(f".making-{path.name}")
    fresh.mkdir(parents=True, exist_ok=True)
    fresh.chmod(0o777)
    if group is not None:
        give_to_group(fresh, group)
    fresh.rename(path)


def memory_size(source: Object, pod: Object, allocatable: Object) -> int:
    """Bytes that a volume in memory may hold; 0 where nothing limits it."""
    sizes = (
        podspec.whole(allocatable.get("memory")),
        _memory_limit(pod),
        podspec.whole(source.get("sizeLimit")),
    )
    return min((size for size in sizes if size > 0), default=0)


def _memory_limit(pod: Object) -> int:
    """Of the pod as a whole; 0 where one of its containers has none."""
    own = (pod["spec"].get("resources") or {}).get("limits") or {}
    if own.get("memory"):
        return podspec.whole(own["memory"])
    limits = [podspec.whole(podspec.requests(c, "limits").get("memory")) for c in podspec.containers(pod)]
    stay = [c for c in podspec.init_containers(pod) if podspec.is_sidecar(c)]
    limits += [podspec.whole(podspec.requests(c, "limits").get("memory")) for c in stay]
    return sum(limits) if all(limits) else 0


def _page_size(name: str, pod: Object) -> str:
    """The one size of huge pages that the pod asks for."""
    asked = {
        resource.removeprefix(_HUGE)
        for container in podspec.all_containers(pod)
        for kind in ("requests", "limits")
        for resource in podspec.requests(container, kind)
        if resource.startswith(_HUGE)
    }
    if len(asked) > 1:
        text = "medium HugePages can be used only if all hugepage requests are of one size"
        raise VolumeError.mount(name, text)
    if not asked:
        raise VolumeError.mount(name, "pod does not have any hugepages requests, but uses medium HugePages")
    return asked.pop()
