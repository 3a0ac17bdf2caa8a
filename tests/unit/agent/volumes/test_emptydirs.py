"""How large a volume in memory may be, what volumes take, and which huge pages they are of."""

import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.agent.volumes import emptydirs, usage
from orchestrator.agent.volumes.errors import VolumeError
from tests.unit.agent.builders import Json, pod, spec_of

ALLOCATABLE = {"memory": "8Gi"}
MI = 1 << 20
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")


def limited(name: str, memory: str = "", **more: Any) -> Json:
    return spec_of(name, **({"resources": {"limits": {"memory": memory}}} if memory else {}), **more)


SIDECAR = limited("side", "10Mi", restartPolicy="Always")


@pytest.mark.parametrize(
    ("desired", "size_limit", "expected"),
    [
        (pod(limited("a")), None, 8192 * MI),
        (pod(limited("a")), "64Mi", 64 * MI),
        (pod(limited("a")), "100Gi", 8192 * MI),
        (pod(limited("a", "100Mi"), limited("b", "20Mi")), None, 120 * MI),
        (pod(limited("a", "100Mi"), limited("b")), None, 8192 * MI),
        (pod(limited("a", "100Mi"), inits=(SIDECAR, limited("once"))), "1Gi", 110 * MI),
        (pod(limited("a", "100Mi"), resources={"limits": {"memory": "300Mi"}}), None, 300 * MI),
        (pod(limited("a", "100Mi")), "0", 100 * MI),
    ],
)
def test_a_volume_in_memory_takes_no_more_than_its_pod_may(
    desired: Json, size_limit: str | None, expected: int
) -> None:
    source = {"medium": "Memory", **({"sizeLimit": size_limit} if size_limit else {})}
    assert emptydirs.memory_size(source, desired, ALLOCATABLE) == expected


def test_huge_pages_of_two_sizes_must_be_told_apart(tmp_path: Path) -> None:
    both = {"limits": {"hugepages-2Mi": "2Mi", "hugepages-1Gi": "1Gi"}}
    desired = pod(spec_of("a", resources=both))
    with pytest.raises(VolumeError, match="only if all hugepage requests are of one size"):
        emptydirs.set_up("v", tmp_path / "v", {"medium": "HugePages"}, desired, ALLOCATABLE, None)


def test_what_files_take_is_counted_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"x" * 100_000)
    os.link(tmp_path / "a" / "file", tmp_path / "again")
    (tmp_path / "link").symlink_to("/usr")
    taken, inodes = usage.disk_usage(tmp_path)
    assert 100_000 <= taken < 150_000
    assert inodes == 4
    assert usage.disk_usage(tmp_path / "none") == (0, 0)


@NEEDS_ROOT
def test_usage_tells_disk_from_memory(tmp_path: Path) -> None:
    from orchestrator.base import mounting

    volumes: list[Json] = [
        {"name": "disk", "emptyDir": {}}, {"name": "mem", "emptyDir": {"medium": "Memory"}},
        {"name": "host", "hostPath": {"path": "/"}},
    ]  # fmt: skip
    desired = pod(volumes=volumes)
    for volume in volumes[:2]:
        path = tmp_path / "volumes" / volume["name"]
        emptydirs.set_up(volume["name"], path, volume["emptyDir"], desired, ALLOCATABLE, 4242)
        (path / "x").write_bytes(b"x" * 200_000)
        assert (path.stat().st_gid, path.stat().st_mode & 0o7777) == (4242, 0o2777)
    found = usage.of_pod(tmp_path, desired)
    assert [(each.name, each.on_disk, each.bytes >= 200_000) for each in found] == [
        ("disk", True, True), ("mem", False, True),
    ]  # fmt: skip
    mounting.unmount_below(tmp_path)
