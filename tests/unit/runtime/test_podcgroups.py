"""Pods' cgroups, on file trees as the two versions of the kernel's interface have them."""

from pathlib import Path

import pytest

from orchestrator.runtime import podcgroups
from orchestrator.runtime.interface import PodCgroup
from orchestrator.runtime.podcgroups import PodCgroups, slice_path, weight

V1 = {
    "cpu": ("cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us"),
    "memory": ("memory.limit_in_bytes",),
    "pids": ("pids.max",),
    "hugetlb": ("hugetlb.2MB.limit_in_bytes", "hugetlb.1GB.limit_in_bytes"),
}
V2 = (
    *("cpu.weight", "cpu.max", "memory.max", "memory.swap.max", "pids.max"),
    *("hugetlb.2MB.max", "hugetlb.1GB.max", "cgroup.subtree_control"),
)
LIMITED = PodCgroup("burstable/podu1", 512, 50_000, 100_000, 1 << 30, 100, ((2 << 20, 4 << 20),))
FREE = PodCgroup("besteffort/podu2")


@pytest.fixture(autouse=True)
def huge_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for size_kib in (2048, 1 << 20):
        (tmp_path / "huge" / f"hugepages-{size_kib}kB").mkdir(parents=True)
    monkeypatch.setattr(podcgroups, "HUGE_SIZES", tmp_path / "huge")


def fill(directory: Path, names: tuple[str, ...]) -> None:
    """The files that the kernel makes in a new cgroup."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        (directory / name).write_text("")


def tree(root: Path, paths: tuple[str, ...], *, v2: bool) -> Path:
    if v2:
        fill(root, ("cgroup.subtree_control",))
        (root / "cgroup.controllers").write_text("cpuset cpu memory pids hugetlb rdma")
    for path in paths:
        for controller, names in {"": V2}.items() if v2 else V1.items():
            fill(root / controller / path, names)
    return root


PATHS = ("orchestrator-abc", "orchestrator-abc/burstable", "orchestrator-abc/besteffort")
PODS = ("orchestrator-abc/burstable/podu1", "orchestrator-abc/besteffort/podu2")


def read(root: Path, *paths: str) -> list[str]:
    return [(root / path).read_text() for path in paths]


async def test_limits_of_v1(tmp_path: Path) -> None:
    root = tree(tmp_path / "fs", (*PATHS, *PODS), v2=False)
    groups = PodCgroups("abc", root)
    await groups.ensure(LIMITED)
    await groups.ensure(FREE)
    pod, free = PODS
    assert read(root, *(f"cpu/{pod}/{name}" for name in V1["cpu"])) == ["512", "100000", "50000"]
    assert read(root, f"memory/{pod}/memory.limit_in_bytes", f"pids/{pod}/pids.max") == [str(1 << 30), "100"]
    assert read(root, *(f"hugetlb/{pod}/{name}" for name in V1["hugetlb"])) == [str(4 << 20), "0"]
    assert read(root, f"memory/{free}/memory.limit_in_bytes", f"pids/{free}/pids.max") == ["-1", "max"]
    assert read(root, f"cpu/{PATHS[1]}/cpu.shares", f"cpu/{PATHS[2]}/cpu.shares") == ["512", "2"]


async def test_limits_of_v2(tmp_path: Path) -> None:
    root = tree(tmp_path / "fs", (*PATHS, *PODS), v2=True)
    groups = PodCgroups("abc", root)
    await groups.ensure(LIMITED)
    await groups.ensure(FREE)
    pod, free = PODS
    assert read(root, f"{pod}/cpu.weight", f"{pod}/cpu.max") == ["20", "50000 100000"]
    assert read(root, f"{pod}/memory.max", f"{pod}/memory.swap.max") == [str(1 << 30), "0"]
    assert read(root, f"{pod}/hugetlb.2MB.max", f"{pod}/hugetlb.1GB.max") == [str(4 << 20), "0"]
    assert read(root, f"{free}/cpu.max", f"{free}/memory.max") == ["max 100000", "max"]
    assert (root / "cgroup.subtree_control").read_text() == "+cpu +memory +pids +hugetlb"
    assert read(root, f"{PATHS[1]}/cpu.weight", f"{PATHS[2]}/cpu.weight") == ["20", "1"]


async def test_what_the_host_lacks_is_passed_over_and_directories_are_made(tmp_path: Path) -> None:
    root = tmp_path / "fs"
    (root / "pids").mkdir(parents=True)
    groups = PodCgroups("abc", root)
    await groups.ensure(LIMITED)
    assert (root / "pids" / PODS[0]).is_dir() and not (root / "cpu").exists()
    await groups.remove(LIMITED.path)
    assert not (root / "pids" / PODS[0]).exists()


async def test_limits_change_and_a_pod_that_came_back_is_made_anew(tmp_path: Path) -> None:
    root = tmp_path / "fs"
    (root / "pids").mkdir(parents=True)
    groups = PodCgroups("abc", root)
    await groups.ensure(FREE)
    fill(root / "pids" / PODS[1], ("pids.max",))
    await groups.ensure(PodCgroup(FREE.path, pids_limit=7))
    assert read(root, f"pids/{PODS[1]}/pids.max") == ["7"]
    (root / "pids" / PODS[1] / "pids.max").unlink()
    await groups.remove(groups.path(FREE.path))
    await groups.ensure(FREE)
    assert (root / "pids" / PODS[1]).is_dir()


async def test_slices_belong_to_systemd_and_are_limited_once_they_exist(tmp_path: Path) -> None:
    root = tree(tmp_path / "fs", (), v2=True)
    groups = PodCgroups("abc", root)
    groups.systemd = True
    await groups.ensure(LIMITED)
    inner = "orchestrator_abc.slice/orchestrator_abc-burstable.slice/orchestrator_abc-burstable-podu1.slice"
    assert slice_path("orchestrator-abc/burstable/podu1") == inner and not (root / inner).exists()
    fill(root / inner, V2)
    await groups.settle(LIMITED.path)
    assert read(root, f"{inner}/pids.max") == ["100"]


@pytest.mark.parametrize(("shares", "wanted"), [(0, 1), (2, 1), (1024, 39), (262_144, 10_000)])
def test_shares_as_weights(shares: int, wanted: int) -> None:
    assert weight(shares) == wanted
