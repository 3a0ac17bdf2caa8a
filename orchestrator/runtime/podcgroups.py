"""The cgroups around pods: `/orchestrator-<instance>`, below it a directory for each class of service, then the pods.

The engines make a container's own cgroup inside; here are the limits of the whole pod, the weight of the classes
(besteffort has the least, burstable what its pods ask for together) and, on cgroup v2, that a pod does not swap.
Written to the kernel's files, v1 and v2; a controller that the host lacks limits nothing. With the systemd driver the
same path is a slice that systemd makes with the first container. Blocking; `PodCgroups` runs it off the loop. Owner:
a runtime of real processes.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path

from orchestrator.runtime import cgroups
from orchestrator.runtime.interface import PodCgroup, RuntimeFailure

BURSTABLE, BEST_EFFORT = "burstable", "besteffort"
SHARES_MIN, SHARES_MAX = 2, 262_144
WEIGHT_MAX = 10_000
CONTROLLERS = ("cpu", "memory", "pids", "hugetlb")
HUGE_SIZES = Path("/sys/kernel/mm/hugepages")

Files = Mapping[str, str]


def absolute(instance: str, path: str) -> str:
    """A pod's cgroup from the root of the hierarchies; one that begins there already stays."""
    return path if path.startswith("/") else f"/orchestrator-{instance}/{path}"


def slice_path(path: str) -> str:
    """The directory of a path as systemd lays out slices: each is named after all those around it."""
    names: list[str] = []
    for part in path.strip("/").split("/"):
        names.append("-".join([*(names[-1:] or []), part.replace("-", "_")]))
    return "/".join(f"{name}.slice" for name in names)


class PodCgroups:
    """The pods' cgroups of one instance. `systemd` says which driver the engine has."""

    def __init__(self, instance: str, root: Path = cgroups.ROOT) -> None:
        self._instance = instance
        self._root = root
        self.systemd = False
        self._made: dict[str, PodCgroup] = {}

    def path(self, path: str) -> str:
        """As engines are told."""
        return absolute(self._instance, path)

    async def ensure(self, wanted: PodCgroup) -> None:
        """Make the pod's cgroup, or change its limits. Raises `RuntimeFailure` when the kernel refuses."""
        if self._made.get(wanted.path) == wanted:
            return
        try:
            await asyncio.to_thread(self._write, wanted)
        except OSError as error:
            text = f"can't set up the pod's cgroup {self.path(wanted.path)}: {error}"
            raise RuntimeFailure(text, "CreateContainerError") from error
        self._made[wanted.path] = wanted

    def _write(self, wanted: PodCgroup) -> None:
        inner = self.path(wanted.path).strip("/")
        if self.systemd:
            inner = slice_path(inner)
            if not any((base / inner).is_dir() for base in bases(self._root)):
                # systemd makes it with the first container; `settle` comes back to it.
                return
        write(inner, wanted, self._root, make=not self.systemd)
        self._weigh()

    async def settle(self, path: str) -> None:
        """After a container's start: limits of a slice that came to be only now."""
        wanted = self._made.get(path)
        if self.systemd and wanted is not None:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._write, wanted)

    async def remove(self, path: str) -> None:
        """Remove the empty cgroup of a pod; one in use or absent is fine. `path` as `PodCgroup.path` or absolute."""
        for known in [known for known in self._made if self.path(known) == self.path(path)]:
            del self._made[known]
        await asyncio.to_thread(self._remove, path)

    def _remove(self, path: str) -> None:
        inner = self.path(path).strip("/")
        cgroups.remove(slice_path(inner) if self.systemd else inner, self._root)
        self._weigh()

    def _weigh(self) -> None:
        """The class of burstable pods weighs what they ask for together; systemd minds that itself."""
        if not self.systemd:
            weigh(self.path("").strip("/"), self._root)


def bases(root: Path) -> list[Path]:
    """The hierarchies of the controllers that limit pods."""
    if cgroups.is_v2(root):
        return [root]
    return [root / name for name in CONTROLLERS if (root / name).is_dir()]


def write(inner: str, wanted: PodCgroup, root: Path, *, make: bool = True) -> None:
    """Make the cgroup `inner` (below the mount) and set its limits."""
    v2 = cgroups.is_v2(root)
    for base in bases(root):
        if make:
            _make(base, inner, v2=v2)
        for name, value in (_v2_files(wanted) if v2 else _v1_files(wanted, base.name)).items():
            _put(base / inner / name, value)


def _make(base: Path, inner: str, *, v2: bool) -> None:
    directory = base
    for part in inner.split("/"):
        if v2:
            _delegate(directory)
        directory = directory / part
        if not directory.is_dir():
            directory.mkdir(exist_ok=True)


def _delegate(directory: Path) -> None:
    """Hand the controllers that are there on to what lies below."""
    with contextlib.suppress(OSError):
        there = (directory / "cgroup.controllers").read_text().split()
        handed = (directory / "cgroup.subtree_control").read_text().split()
        missing = [f"+{name}" for name in CONTROLLERS if name in there and name not in handed]
        if missing:
            (directory / "cgroup.subtree_control").write_text(" ".join(missing))


def _v1_files(wanted: PodCgroup, controller: str) -> Files:
    match controller:
        case "cpu":
            return {
                "cpu.shares": str(wanted.cpu_shares),
                "cpu.cfs_period_us": str(wanted.cpu_period_us),
                "cpu.cfs_quota_us": str(wanted.cpu_quota_us or -1),
            }
        case "memory":
            return {"memory.limit_in_bytes": str(wanted.memory_limit_bytes or -1)}
        case "pids":
            return {"pids.max": str(wanted.pids_limit or "max")}
    return {f"hugetlb.{size}.limit_in_bytes": str(limit) for size, limit in _huge(wanted).items()}


def _v2_files(wanted: PodCgroup) -> Files:
    return {
        "cpu.weight": str(weight(wanted.cpu_shares)),
        "cpu.max": f"{wanted.cpu_quota_us or 'max'} {wanted.cpu_period_us}",
        "memory.max": str(wanted.memory_limit_bytes or "max"),
        "memory.swap.max": "0",
        "pids.max": str(wanted.pids_limit or "max"),
        **{f"hugetlb.{size}.max": str(limit) for size, limit in _huge(wanted).items()},
    }


def _huge(wanted: PodCgroup) -> dict[str, int]:
    """Limits by the kernel's name of a page size; sizes of the host that the pod did not ask for are shut."""
    with contextlib.suppress(OSError):
        sizes = [
            int(entry.name.removeprefix("hugepages-").removesuffix("kB")) for entry in HUGE_SIZES.iterdir()
        ]
        given = {size // 1024: limit for size, limit in wanted.hugepage_limits}
        return {_size_name(size_kib): given.get(size_kib, 0) for size_kib in sizes}
    return {}


def _size_name(size_kib: int) -> str:
    for unit, factor in (("GB", 1 << 20), ("MB", 1 << 10)):
        if size_kib >= factor:
            return f"{size_kib // factor}{unit}"
    return f"{size_kib}KB"


def weight(shares: int) -> int:
    """cgroup v2's weight of v1's shares."""
    return 1 + (max(shares, SHARES_MIN) - SHARES_MIN) * (WEIGHT_MAX - 1) // (SHARES_MAX - SHARES_MIN)


def weigh(top: str, root: Path) -> None:
    """Weights of the two lower classes of service below the instance's cgroup `top`."""
    v2 = cgroups.is_v2(root)
    base, name = (root, "cpu.weight") if v2 else (root / "cpu", "cpu.shares")
    least, most = (1, WEIGHT_MAX) if v2 else (SHARES_MIN, SHARES_MAX)
    total = 0
    with contextlib.suppress(OSError):
        for pod in (base / top / BURSTABLE).iterdir():
            if pod.is_dir():
                total += int((pod / name).read_text())
    for group, value in ((BURSTABLE, total), (BEST_EFFORT, least)):
        if (base / top / group).is_dir():
            _put(base / top / group / name, str(min(max(value, least), most)))


def _put(path: Path, value: str) -> None:
    """Write where it differs; what the kernel does not have is passed over."""
    with contextlib.suppress(FileNotFoundError):
        if path.read_text().strip() != value:
            path.write_text(value)
