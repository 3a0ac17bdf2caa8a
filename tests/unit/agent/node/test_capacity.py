"""What a node has, and what of it pods get."""

from dataclasses import replace
from pathlib import Path

from orchestrator.agent.node import hostfacts
from orchestrator.agent.node.capacity import allocatable, capacity
from orchestrator.agent.node.conditions import changes, conditions
from orchestrator.agent.node.imagelist import image_list
from orchestrator.agent.settings import KubeletSettings
from orchestrator.runtime.interface import Image

GIB = 1024**3


def host(tmp_path: Path) -> hostfacts.HostFacts:
    return replace(
        hostfacts.read(tmp_path),
        cpus=4,
        memory_bytes=8 * GIB,
        disk_bytes=100 * GIB,
        huge_pages={2 << 20: 512, GIB: 0},
    )


def test_reserved_resources_thresholds_and_huge_pages_are_not_allocatable(tmp_path: Path) -> None:
    settings = KubeletSettings(
        max_pods=50,
        reserved=({"cpu": "250m", "memory": "1Gi"}, {"cpu": "1", "ephemeral-storage": "10Gi"}),
    )
    assert capacity(host(tmp_path), settings) == {
        "cpu": "4",
        "memory": "8388608Ki",
        "ephemeral-storage": "104857600Ki",
        "pods": "50",
        "hugepages-2Mi": "1048576Ki",
        "hugepages-1Gi": "0",
    }
    assert allocatable(host(tmp_path), settings) == {
        "cpu": "2750m",
        "memory": f"{(8 * GIB - GIB - GIB - 100 * 1024**2) // 1024}Ki",
        "ephemeral-storage": str(100 * GIB - 10 * GIB - 10 * GIB),
        "pods": "50",
        "hugepages-2Mi": "1048576Ki",
        "hugepages-1Gi": "0",
    }


def test_more_reserved_than_there_is_leaves_nothing(tmp_path: Path) -> None:
    found = allocatable(host(tmp_path), KubeletSettings(reserved=({"cpu": "9", "memory": "9Gi"},)))
    assert (found["cpu"], found["memory"]) == ("0", "0")


def test_huge_pages_are_read_from_the_kernels_tree(tmp_path: Path) -> None:
    for name, count in (
        ("hugepages-2048kB", "3\n"),
        ("hugepages-1048576kB", "0\n"),
        ("hugepages-spoilt", "1"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "nr_hugepages").write_text(count)
    assert hostfacts.huge_pages(tmp_path) == {2 << 20: 3, GIB: 0}


def test_the_largest_images_are_listed_with_a_few_names() -> None:
    images = [Image(f"sha256:{n}", (f"i:{n}",), size_bytes=n) for n in range(60)]
    named = Image("sha256:x", tuple(f"big:{n}" for n in range(9)), ("big@sha256:1",), 1000)
    found = image_list([*images, named, Image("sha256:y", (), size_bytes=5000)])
    assert len(found) == 50 and found[1] == {"names": ["i:59"], "sizeBytes": 59}
    assert found[0]["names"] == ["big@sha256:1", "big:0", "big:1", "big:2", "big:3"]


def test_a_condition_keeps_the_time_of_its_last_change() -> None:
    first = conditions([], (), (), "t0")
    second = conditions(first, {"MemoryPressure"}, ("a", "", "b"), "t1")
    assert {c["type"]: (c["status"], c["lastTransitionTime"]) for c in second} == {
        "MemoryPressure": ("True", "t1"),
        "DiskPressure": ("False", "t0"),
        "PIDPressure": ("False", "t0"),
        "Ready": ("False", "t1"),
    }
    assert second[-1]["message"] == "[a, b]"
    assert changes(first, second) == ["NodeHasInsufficientMemory", "NodeNotReady"]
