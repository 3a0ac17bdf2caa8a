"""Who goes first, and in which words."""

from typing import Any

import pytest

from orchestrator.agent.eviction.ranking import is_critical, message, over_its_limits, rank, requested
from orchestrator.agent.eviction.thresholds import Observation, parse
from orchestrator.agent.stats.usage import ContainerUsage, DiskUse, FileSystem, PodUsage, VolumeUse
from orchestrator.runtime.usage import Usage
from tests.unit.agent.builders import Json, container, pod, spec_of

MIB = 1 << 20
FS = FileSystem(0.0, 1000 * MIB, 500 * MIB, 500 * MIB, 1000, 500)


def disk(used: int, inodes: int = 1) -> DiskUse:
    return DiskUse(0.0, used, inodes, FS)


def usage(
    name: str, *, memory: int = 0, stored: int = 0, inodes: int = 0, processes: int = 0, **spec: Any
) -> PodUsage:
    asked = spec.pop("requests", {})
    found = pod(spec_of("app", resources={"requests": asked, "limits": spec.pop("limits", {})}), **spec)
    found["metadata"] = {**found["metadata"], "name": name, "uid": name}
    used = Usage(working_set_bytes=memory * MIB, processes=processes)
    one = ContainerUsage(container("app"), 0.0, used, 0, rootfs=disk(stored * MIB), logs=disk(0))
    return PodUsage(found, 0.0, used, 0, (one,), ephemeral=disk(stored * MIB, inodes))


def names(found: list[PodUsage]) -> list[str]:
    return [each.uid for each in found]


def test_for_memory_those_beyond_their_request_go_first_then_by_priority_then_by_excess() -> None:
    pods = [
        usage("within", memory=90, requests={"memory": "100Mi"}, priority=-5),
        usage("important", memory=300, priority=100),
        usage("a bit", memory=110, requests={"memory": "100Mi"}),
        usage("a lot", memory=200, requests={"memory": "100Mi"}),
    ]
    assert names(rank("memory.available", pods)) == ["a lot", "a bit", "important", "within"]


@pytest.mark.parametrize(
    ("signal", "field"),
    [("nodefs.available", "stored"), ("imagefs.inodesFree", "inodes"), ("pid.available", "processes")],
)
def test_other_resources_are_ranked_by_their_own_use(signal: str, field: str) -> None:
    pods: list[PodUsage] = [
        usage("little", **{field: 1}),
        usage("much", **{field: 9}),
        usage("most but important", priority=7, **{field: 99}),
    ]
    assert names(rank(signal, pods)) == ["much", "little", "most but important"]


def test_the_message_names_threshold_and_containers_beyond_their_request() -> None:
    (threshold,) = parse(["memory.available<10%"])
    seen = {"memory.available": Observation(50 * MIB, 1000 * MIB)}
    assert message(threshold, seen, usage("web", memory=200, requests={"memory": "100Mi"})) == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
        "Container app was using 200Mi, request is 100Mi, has larger consumption of memory. "
    )
    (threshold,) = parse(["nodefs.available<10%"])
    assert message(threshold, {}, usage("web", stored=7)) == (
        "The node was low on resource: ephemeral-storage. "
        "Container app was using 7Mi, request is 0, has larger consumption of ephemeral-storage. "
    )


@pytest.mark.parametrize(
    ("found", "own_disk", "text"),
    [
        (usage("a", stored=9, limits={"ephemeral-storage": "10Mi"}), False, ""),
        (
            usage("a", stored=11, limits={"ephemeral-storage": "10Mi"}),
            False,
            "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. ",
        ),
        (usage("a", stored=11), False, ""),
    ],
)
def test_limits_of_the_whole_pod(found: PodUsage, own_disk: bool, text: str) -> None:
    assert over_its_limits(found, own_image_disk=own_disk) == text


def test_a_container_beyond_its_own_limit_in_a_pod_within_its_sum() -> None:
    found = usage("a", stored=6, limits={"ephemeral-storage": "5Mi"})
    other: Json = spec_of("other", resources={"limits": {"ephemeral-storage": "5Mi"}})
    spec = {**found.pod["spec"], "containers": [*found.pod["spec"]["containers"], other]}
    both = PodUsage(
        {**found.pod, "spec": spec}, 0.0, found.usage, 0, found.containers, ephemeral=found.ephemeral
    )
    text = 'Container app exceeded its local ephemeral storage limit "5Mi". '
    assert over_its_limits(both, own_image_disk=False) == text
    assert over_its_limits(both, own_image_disk=True) == "", "what it wrote is on the images' disk"


def test_an_empty_dir_beyond_its_size() -> None:
    found = usage(
        "a", volumes=[{"name": "v", "emptyDir": {"sizeLimit": "5Mi"}}, {"name": "w", "emptyDir": {}}]
    )
    full = [VolumeUse("v", disk(6 * MIB)), VolumeUse("w", disk(60 * MIB))]
    over = PodUsage(found.pod, 0.0, found.usage, 0, found.containers, volumes=tuple(full))
    text = 'Usage of EmptyDir volume "v" exceeds the limit "5Mi". '
    assert over_its_limits(over, own_image_disk=False) == text


@pytest.mark.parametrize(
    ("spec", "notes", "critical"),
    [
        ({}, {}, False),
        ({"priority": 2_000_000_000}, {}, True),
        ({}, {"kubernetes.io/config.source": "file"}, True),
        ({}, {"kubernetes.io/config.source": "api"}, False),
        ({}, {"kubernetes.io/config.mirror": "x"}, True),
    ],
)
def test_critical_and_static_pods_are_spared(spec: Json, notes: Json, critical: bool) -> None:
    found = pod(**spec)
    found["metadata"]["annotations"] = notes
    assert is_critical(found) is critical


def test_a_pods_request_counts_its_sidecars_and_its_largest_step() -> None:
    def asking(name: str, memory: str, **more: Any) -> Json:
        return spec_of(name, resources={"requests": {"memory": memory}}, **more)

    found = pod(
        asking("a", "10"),
        asking("b", "20"),
        inits=(asking("sidecar", "5", restartPolicy="Always"), asking("step", "50")),
        overhead={"memory": "1"},
    )
    assert requested(found, "memory") == 56
    assert requested(pod(asking("a", "10"), resources={"requests": {"memory": "7"}}), "memory") == 7
