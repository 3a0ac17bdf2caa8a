"""cgroup numbers and OOM scores of containers and pods."""

import pytest

from orchestrator.agent.containers.resources import oom_score_adj, pod_cgroup, resources
from tests.unit.agent.builders import Json, pod, spec_of

GIB = 1 << 30


def sized(requests: Json | None = None, limits: Json | None = None, **more: object) -> Json:
    given = {"requests": requests, "limits": limits}
    return spec_of("app", resources={k: v for k, v in given.items() if v is not None}, **more)


@pytest.mark.parametrize(
    ("container", "shares", "quota_us", "memory"),
    [
        (sized(), 2, 0, 0),
        (sized({"cpu": "250m"}), 256, 0, 0),
        (sized({"cpu": "1"}, {"cpu": "2", "memory": "64Mi"}), 1024, 200_000, 64 << 20),
        (sized(None, {"cpu": "500m"}), 512, 50_000, 0),
        (sized({"cpu": "1m"}, {"cpu": "1m"}), 2, 1000, 0),
        (sized({"cpu": "1000"}), 262_144, 0, 0),
        (sized({"cpu": "0"}, {"memory": "1500M"}), 2, 0, 1_500_000_000),
    ],
)
def test_cgroup_numbers(container: Json, shares: int, quota_us: int, memory: int) -> None:
    found = resources(pod(container), container, 4 * GIB)
    assert (found.cpu_shares, found.cpu_quota_us, found.memory_limit_bytes) == (shares, quota_us, memory)


def test_the_pods_limits_bound_containers_that_have_none() -> None:
    desired = pod(sized(), resources={"limits": {"cpu": "1", "memory": "1Gi"}})
    found = resources(desired, desired["spec"]["containers"][0], 4 * GIB)
    assert (found.cpu_quota_us, found.memory_limit_bytes, found.cpu_shares) == (100_000, GIB, 2)


ALL = {"cpu": "1", "memory": "1Gi"}


@pytest.mark.parametrize(
    ("container", "score"),
    [
        (sized(), 1000),
        (sized(ALL, ALL), -997),
        (sized(None, ALL), -997),
        (sized({"memory": "1Gi"}), 750),
        (sized({"cpu": "1"}), 999),
        (sized({"memory": "4Gi"}), 3),
    ],
)
def test_oom_scores_follow_the_class_of_service(container: Json, score: int) -> None:
    assert oom_score_adj(pod(container), container, 4 * GIB) == score


def test_critical_pods_are_killed_last() -> None:
    desired = pod(sized(), priorityClassName="system-node-critical", priority=2_000_001_000)
    assert oom_score_adj(desired, desired["spec"]["containers"][0], GIB) == -997


def test_a_sidecar_outlives_what_it_serves() -> None:
    sidecar = sized({"memory": "64Mi"}, restartPolicy="Always")
    big = {**sized({"memory": "2Gi"}), "name": "big"}
    assert (
        oom_score_adj(pod(big, inits=({**sidecar, "name": "s"},)), {**sidecar, "name": "s"}, 4 * GIB) == 500
    )


def test_what_the_pod_asks_for_itself_is_shared_out() -> None:
    one, two = {**sized({"memory": "1Gi"}), "name": "one"}, {**sized(), "name": "two"}
    desired = pod(one, two, resources={"requests": {"memory": "3Gi"}})
    assert [oom_score_adj(desired, each, 4 * GIB) for each in (one, two)] == [500, 750]


@pytest.mark.parametrize(
    ("desired", "path", "shares", "quota_us", "memory"),
    [
        (pod(sized()), "besteffort/podu1", 2, 0, 0),
        (pod(sized(ALL, ALL), sized(ALL, ALL)), "podu1", 2048, 200_000, 2 * GIB),
        (pod(sized({"cpu": "100m"}), sized()), "burstable/podu1", 102, 0, 0),
        (pod(sized({"cpu": "1"}, {"memory": "1Gi"}), sized(ALL, ALL)), "burstable/podu1", 2048, 0, 2 * GIB),
        (
            pod(sized(ALL, ALL), inits=(sized({"cpu": "3"}, {"cpu": "3", "memory": "1Gi"}),)),
            "podu1", 3072, 300_000, GIB,
        ),
        (pod(sized(), resources={"limits": ALL, "requests": ALL}), "podu1", 1024, 100_000, GIB),
        (pod(sized(ALL, ALL), overhead={"cpu": "250m", "memory": "64Mi"}), "podu1", 1280, 125_000, GIB + (64 << 20)),
        (
            pod(sized(ALL, ALL), inits=(sized(ALL, ALL, restartPolicy="Always"), sized(ALL, ALL))),
            "podu1", 2048, 200_000, 2 * GIB,
        ),
    ],
)  # fmt: skip
def test_pods_have_a_cgroup_of_their_own(
    desired: Json, path: str, shares: int, quota_us: int, memory: int
) -> None:
    found = pod_cgroup(desired, 500)
    assert (found.path, found.cpu_shares, found.cpu_quota_us) == (path, shares, quota_us)
    assert (found.memory_limit_bytes, found.pids_limit) == (memory, 500)


def test_huge_pages_are_as_many_as_the_limits_say() -> None:
    two = {"hugepages-2Mi": "4Mi", "memory": "1Gi"}
    found = pod_cgroup(pod(sized(two, two), sized({"hugepages-1Gi": "1Gi"}, {"hugepages-1Gi": "1Gi"})), 0)
    assert found.hugepage_limits == ((GIB, GIB), (2 << 20, 4 << 20))
