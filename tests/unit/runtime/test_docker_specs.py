"""Specs to the engine's JSON and back, where a live engine would not show the difference."""

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.runtime import docker_specs
from orchestrator.runtime.interface import (
    ContainerSpec,
    Device,
    Mount,
    PodCgroup,
    Resources,
    SandboxSpec,
    Security,
)
from orchestrator.runtime.oom import OomScores

SANDBOX = SandboxSpec("uid", "web", "default", "web", cgroup_parent="/kubepods/burstable/pod-1")


def container(**settings: Any) -> ContainerSpec:
    return ContainerSpec("s1", "uid", "web", "default", "main", 0, "busybox", **settings)


def host_config(spec: ContainerSpec, sandbox: SandboxSpec = SANDBOX) -> dict[str, Any]:
    labels = docker_specs.sandbox_labels("abc123", sandbox)
    body = docker_specs.container_body("abc123", spec, labels, OomScores(), "cgroupfs")
    return dict(body["HostConfig"])


def test_a_container_joins_its_sandbox() -> None:
    host = host_config(container())
    assert (host["NetworkMode"], host["IpcMode"], host["PidMode"]) == ("container:s1", "container:s1", "")
    assert host["CgroupParent"] == "/kubepods/burstable/pod-1"


def test_a_container_on_the_host_joins_the_host() -> None:
    host = host_config(container(), SandboxSpec("u", "p", "n", "h", network="host", pid="host", ipc="host"))
    assert (host["NetworkMode"], host["UTSMode"]) == ("host", "host")
    assert (host["PidMode"], host["IpcMode"]) == ("host", "host")


def test_processes_are_shared_when_the_pod_says_so() -> None:
    host = host_config(container(), SandboxSpec("u", "p", "n", "h", pid="pod"))
    assert host["PidMode"] == "container:s1"


def test_a_memory_limit_allows_no_swap_and_absent_limits_are_not_sent() -> None:
    host = host_config(container(resources=Resources(memory_limit_bytes=1 << 20)))
    assert host["Memory"] == host["MemorySwap"] == 1 << 20
    assert not {"CpuQuota", "CpuShares", "PidsLimit"} & host.keys()


def test_output_stays_with_the_engine_and_is_rotated() -> None:
    log = host_config(container())["LogConfig"]
    assert log == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "5", "compress": "true"}}


def test_security_becomes_options() -> None:
    security = Security(no_new_privileges=True, seccomp="unconfined", supplemental_groups=(7,))
    host = host_config(container(security=security))
    assert host["SecurityOpt"] == ["no-new-privileges", "seccomp=unconfined"]
    assert host["GroupAdd"] == ["7"]


def test_devices_profiles_handlers_and_targets_reach_the_engine() -> None:
    security = Security(apparmor="own", unmasked=True)
    spec = container(security=security, devices=(Device("/dev/fuse", "/dev/f", "rw"),), target_id="other")
    host = host_config(spec, replace(SANDBOX, runtime_handler="crun"))
    assert host["Devices"] == [
        {"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/f", "CgroupPermissions": "rw"}
    ]
    assert (host["SecurityOpt"], host["MaskedPaths"], host["ReadonlyPaths"]) == (["apparmor=own"], [], [])
    assert (host["Runtime"], host["PidMode"]) == ("crun", "container:other")


def test_a_pods_cgroup_is_below_the_instances() -> None:
    of_pod = container(cgroup=PodCgroup("burstable/podu1"))
    assert host_config(of_pod)["CgroupParent"] == "/orchestrator-abc123/burstable/podu1"
    below = replace(SANDBOX, cgroup_parent="podu1")
    assert host_config(container(), below)["CgroupParent"] == "/orchestrator-abc123/podu1"
    assert host_config(container(), replace(SANDBOX, cgroup_parent=""))["CgroupParent"] == ""


@pytest.mark.parametrize(
    ("name", "propagation"),
    [("None", "rprivate"), ("HostToContainer", "rslave"), ("Bidirectional", "rshared")],
)
def test_propagation_has_the_engines_names(name: Any, propagation: str) -> None:
    (mount,) = host_config(container(mounts=[Mount("/a", "/b", propagation=name)]))["Mounts"]
    assert mount["BindOptions"] == {"Propagation": propagation}


def test_the_systemd_driver_gets_a_slice() -> None:
    path = "/kubepods/burstable/pod-1"
    assert docker_specs.cgroup_parent(path, "cgroupfs") == path
    assert docker_specs.cgroup_parent(path, "systemd") == "kubepods-burstable-pod_1.slice"
    assert docker_specs.cgroup_parent("", "systemd") == ""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:01.5Z", 1.5),
        ("1970-01-01T00:00:02Z", 2.0),
        ("1970-01-01T01:00:02.25+01:00", 2.25),
        ("0001-01-01T00:00:00Z", 0.0),
        ("", 0.0),
    ],
)
def test_times_are_seconds_since_the_epoch(text: str, seconds: float) -> None:
    assert docker_specs.seconds(text) == seconds


def test_grace_is_rounded_up_to_whole_seconds() -> None:
    assert [docker_specs.stop_timeout_s(grace_s) for grace_s in (0, 0.2, 1, 29.1)] == [0, 1, 1, 30]
