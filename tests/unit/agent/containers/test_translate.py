"""A pod in the engine's terms: cgroup numbers, users, names, and what must be refused."""

from typing import Any

import pytest

from orchestrator.agent.containers.env import ConfigError
from orchestrator.agent.containers.translate import (
    Prepared,
    container_spec,
    hostname,
    oom_score_adj,
    resources,
    sandbox_spec,
    security,
)
from orchestrator.runtime.interface import Image, Security
from tests.unit.agent.builders import Json, pod, spec_of

GIB = 1 << 30


def sized(requests: Json | None = None, limits: Json | None = None) -> Json:
    given = {"requests": requests, "limits": limits}
    return spec_of("app", resources={key: value for key, value in given.items() if value is not None})


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


def secured(own: Json | None = None, of_pod: Json | None = None, image_user: str = "") -> Security:
    container = spec_of("app", securityContext=own or {})
    return security(pod(container, securityContext=of_pod or {}), container, image_user)


@pytest.mark.parametrize(
    ("own", "of_pod", "image_user", "user"),
    [
        ({}, {}, "1000", ""),
        ({}, {"runAsUser": 5}, "", "5"),
        ({"runAsUser": 0}, {"runAsUser": 5}, "", "0"),
        ({"runAsUser": 7, "runAsGroup": 8}, {}, "", "7:8"),
        ({}, {"runAsGroup": 8}, "nginx:nginx", "nginx:8"),
        ({}, {"runAsGroup": 8}, "", "0:8"),
    ],
)
def test_users(own: Json, of_pod: Json, image_user: str, user: str) -> None:
    assert secured(own, of_pod, image_user).user == user


@pytest.mark.parametrize(
    ("own", "image_user", "words"),
    [
        ({"runAsNonRoot": True, "runAsUser": 0}, "1000", "runAsUser breaks non-root policy"),
        ({"runAsNonRoot": True}, "", "image will run as root"),
        ({"runAsNonRoot": True}, "0:0", "image will run as root"),
        ({"runAsNonRoot": True}, "nginx", r"non-numeric user \(nginx\)"),
        ({"runAsNonRoot": True}, "²", r"non-numeric user \(²\)"),
        ({"seccompProfile": {"type": "Localhost", "localhostProfile": "x.json"}}, "", "x.json"),
    ],
)
def test_what_would_be_less_secure_than_asked_is_refused(own: Json, image_user: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        secured(own, image_user=image_user)


def test_a_pods_non_root_policy_may_be_met_or_lifted() -> None:
    assert secured({}, {"runAsNonRoot": True, "runAsUser": 5}).user == "5"
    assert secured({}, {"runAsNonRoot": True}, "1000:0").user == ""
    assert secured({"runAsNonRoot": False}, {"runAsNonRoot": True}).user == ""


@pytest.mark.parametrize(
    ("own", "of_pod", "seccomp"),
    [
        ({}, {}, "unconfined"),
        ({}, {"seccompProfile": {"type": "RuntimeDefault"}}, ""),
        (
            {"seccompProfile": {"type": "Unconfined"}},
            {"seccompProfile": {"type": "RuntimeDefault"}},
            "unconfined",
        ),
        ({"privileged": True}, {"seccompProfile": {"type": "RuntimeDefault"}}, "unconfined"),
    ],
)
def test_seccomp(own: Json, of_pod: Json, seccomp: str) -> None:
    assert secured(own, of_pod).seccomp == seccomp


def test_the_rest_of_the_security_context() -> None:
    found = secured(
        {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
        },
        {"supplementalGroups": [5, 6], "fsGroup": 6},
    )
    assert found.no_new_privileges and found.read_only_rootfs
    assert (found.add_capabilities, found.drop_capabilities) == (("NET_ADMIN",), ("ALL",))
    assert found.supplemental_groups == (5, 6)


def test_command_and_arguments_are_expanded() -> None:
    container = spec_of("app", command=["sh", "$(A)"], args=["$$(A)", "$(B)"])
    prepared = Prepared(Image("sha256:1", ("demo:1",)), {"A": "1"}, (), GIB)
    found = container_spec(pod(container), container, "s", 3, prepared)
    assert (found.command, found.args) == (["sh", "1"], ["$(A)", "$(B)"])
    assert (found.image, found.attempt, found.env) == ("sha256:1", 3, [("A", "1")])


@pytest.mark.parametrize(
    ("spec", "network", "pid", "ipc"),
    [
        ({}, "pod", "container", "pod"),
        ({"hostNetwork": True, "hostPID": True, "hostIPC": True}, "host", "host", "host"),
        ({"shareProcessNamespace": True}, "pod", "pod", "pod"),
    ],
)
def test_namespaces(spec: dict[str, Any], network: str, pid: str, ipc: str) -> None:
    found = sandbox_spec(pod(**spec), 2)
    assert (found.network, found.pid, found.ipc, found.attempt) == (network, pid, ipc, 2)


@pytest.mark.parametrize(
    ("name", "spec", "wanted"),
    [
        ("web", {}, "web"),
        ("web", {"hostname": "db"}, "db"),
        ("a" * 62 + "-b", {}, "a" * 62),
        ("web", {"hostNetwork": True}, ""),
    ],
)
def test_hostnames_fit_into_linux(name: str, spec: dict[str, Any], wanted: str) -> None:
    desired = pod(**spec)
    desired["metadata"]["name"] = name
    assert hostname(desired) == wanted
