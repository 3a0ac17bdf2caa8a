"""Containers and sandboxes as OCI specs and labels, and back."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from orchestrator.runtime import containerd_devices
from orchestrator.runtime import containerd_specs as specs
from orchestrator.runtime.containerd_users import Accounts
from orchestrator.runtime.interface import (
    ContainerSpec,
    Device,
    Mount,
    Resources,
    RuntimeFailure,
    SandboxSpec,
    Security,
)
from orchestrator.runtime.oom import OomScores

SANDBOX = SandboxSpec("uid", "web-0", "shop", "web-0")
SPEC = ContainerSpec("box", "uid", "web-0", "shop", "main", 2, "shop:1")
FACTS = specs.HostFacts(
    instance="abc123",
    architecture="amd64",
    capabilities=frozenset({"CHOWN", "KILL", "NET_ADMIN", "SYS_ADMIN"}),
    swap_counted=True,
    cgroup_v2=False,
    oom=OomScores(-500),
)
DIRECTORY = Path("/run/box")


def spec_of(
    spec: ContainerSpec, sandbox: SandboxSpec = SANDBOX, image: specs.ImageConfig | None = None, **facts: Any
) -> dict[str, Any]:
    labels = specs.sandbox_labels("abc123", sandbox)
    host = (
        msgspec.structs.replace(FACTS, **facts)
        if isinstance(FACTS, msgspec.Struct)
        else replace(FACTS, **facts)
    )
    image = image or specs.ImageConfig()
    pid = 77 if sandbox.pid == "pod" or spec.target_id else 0
    return specs.container_spec(host, spec, image, Accounts(), labels, DIRECTORY, pid, [], "/pods/uid/c")


@pytest.mark.parametrize(
    ("command", "args", "wanted"),
    [
        ((), (), ["serve", "--port", "80"]),
        ((), ("--help",), ["serve", "--help"]),
        (("sh",), (), ["sh"]),
        (("sh",), ("-c", "true"), ["sh", "-c", "true"]),
    ],
)
def test_a_command_replaces_entrypoint_and_cmd_and_arguments_replace_cmd(
    command: tuple[str, ...], args: tuple[str, ...], wanted: list[str]
) -> None:
    image = specs.ImageConfig(entrypoint=("serve",), cmd=("--port", "80"))
    assert specs.arguments(replace(SPEC, command=command, args=args), image) == wanted


def test_the_environment_is_the_images_then_the_containers_over_a_few_defaults() -> None:
    image = specs.ImageConfig(env=("PATH=/app", "MODE=slow", "EMPTY="))
    process = spec_of(replace(SPEC, env=(("MODE", "fast"), ("A", "b=c")), tty=True), image=image)["process"]
    assert process["env"] == ["PATH=/app", "HOSTNAME=web-0", "TERM=xterm", "MODE=fast", "EMPTY=", "A=b=c"]


@pytest.mark.parametrize(
    ("security", "wanted"),
    [
        (Security(), ["CHOWN", "KILL"]),
        (Security(drop_capabilities=("CAP_KILL",)), ["CHOWN"]),
        (Security(add_capabilities=("NET_ADMIN",), drop_capabilities=("ALL",)), ["NET_ADMIN"]),
        (
            Security(add_capabilities=("ALL",), drop_capabilities=("kill",)),
            ["CHOWN", "NET_ADMIN", "SYS_ADMIN"],
        ),
        (Security(add_capabilities=("SYS_TIME",)), ["CHOWN", "KILL"]),
        (Security(privileged=True), ["CHOWN", "KILL", "NET_ADMIN", "SYS_ADMIN"]),
    ],
)
def test_capabilities_are_those_asked_for_that_the_engine_has(security: Security, wanted: list[str]) -> None:
    held = spec_of(replace(SPEC, security=security))["process"]["capabilities"]
    assert held["bounding"] == held["effective"] == held["permitted"] == [f"CAP_{name}" for name in wanted]


def test_an_unknown_capability_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown capability 'FLY'"):
        spec_of(replace(SPEC, security=Security(add_capabilities=("FLY",))))


def test_a_privileged_container_has_no_profile_no_hidden_paths_and_all_devices() -> None:
    linux = spec_of(replace(SPEC, security=Security(privileged=True)))["linux"]
    assert not linux.keys() & {"seccomp", "maskedPaths", "readonlyPaths"}
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]


@pytest.mark.parametrize(
    ("seccomp", "action"), [("", "SCMP_ACT_ERRNO"), ('{"defaultAction":"SCMP_ACT_LOG"}', "SCMP_ACT_LOG")]
)
def test_the_profile_is_the_default_one_or_the_one_given(seccomp: str, action: str) -> None:
    linux = spec_of(replace(SPEC, security=Security(seccomp=seccomp)))["linux"]
    assert linux["seccomp"]["defaultAction"] == action


def test_unconfined_means_no_profile() -> None:
    assert "seccomp" not in spec_of(replace(SPEC, security=Security(seccomp="unconfined")))["linux"]


@pytest.mark.parametrize(
    ("sandbox", "wanted"),
    [
        (SANDBOX, {"mount": "", "network": "net", "uts": "uts", "ipc": "ipc", "pid": ""}),
        (replace(SANDBOX, network="host"), {"mount": "", "ipc": "ipc", "pid": ""}),
        (replace(SANDBOX, ipc="host", pid="host"), {"mount": "", "network": "net", "uts": "uts"}),
    ],
)
def test_namespaces_are_the_sandboxes_files_or_the_hosts(
    sandbox: SandboxSpec, wanted: dict[str, str]
) -> None:
    namespaces = spec_of(SPEC, sandbox)["linux"]["namespaces"]
    assert {each["type"]: Path(each.get("path", "")).name for each in namespaces} == wanted


def test_processes_of_a_target_are_seen() -> None:
    namespaces = spec_of(replace(SPEC, target_id="other"))["linux"]["namespaces"]
    assert {"type": "pid", "path": "/proc/77/ns/pid"} in namespaces


@pytest.mark.parametrize(
    ("wanted", "of_host", "profile"),
    [("", "", None), ("", "default", "default"), ("own", "default", "own"), ("unconfined", "default", None)],
)
def test_apparmor(wanted: str, of_host: str, profile: str | None) -> None:
    process = spec_of(replace(SPEC, security=Security(apparmor=wanted)), apparmor=of_host)["process"]
    assert process.get("apparmorProfile") == profile


def test_nothing_is_hidden_where_that_is_asked() -> None:
    linux = spec_of(replace(SPEC, security=Security(unmasked=True)))["linux"]
    assert not linux.keys() & {"maskedPaths", "readonlyPaths"} and linux["seccomp"]


def test_a_device_is_there_and_may_be_used_as_asked() -> None:
    null = containerd_devices.asked(Device("/dev/null", "/dev/nothing", "r"))
    labels = specs.sandbox_labels("abc123", SANDBOX)
    given = [(device, "r") for device in null]
    linux = specs.container_spec(
        FACTS, SPEC, specs.ImageConfig(), Accounts(), labels, DIRECTORY, 0, given, "/c"
    )["linux"]
    (device,) = linux["devices"]
    assert (device["path"], device["type"], device["major"], device["minor"]) == ("/dev/nothing", "c", 1, 3)
    rights = {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "r"}
    assert linux["resources"]["devices"] == [{"allow": False, "access": "rwm"}, rights]


@pytest.mark.parametrize(
    ("path", "words"), [("/dev/none", "no such file"), ("/etc/passwd", "is not a device")]
)
def test_what_is_no_device_is_refused(path: str, words: str) -> None:
    with pytest.raises(RuntimeFailure, match=words):
        containerd_devices.asked(Device(path, path))


def test_on_cgroup_v2_a_container_is_out_of_memory_as_a_whole() -> None:
    assert spec_of(SPEC, cgroup_v2=True)["linux"]["resources"]["unified"] == {"memory.oom.group": "1"}
    assert "unified" not in spec_of(SPEC)["linux"]["resources"]


def test_a_shared_process_namespace_is_that_of_the_pause_process() -> None:
    namespaces = spec_of(SPEC, replace(SANDBOX, pid="pod"))["linux"]["namespaces"]
    assert {"type": "pid", "path": "/proc/77/ns/pid"} in namespaces


def test_resources_become_cgroup_settings_and_the_score_is_clamped() -> None:
    wanted = Resources(512, 50_000, 100_000, 64 << 20, 99, -900)
    spec = spec_of(replace(SPEC, resources=wanted))
    assert spec["linux"]["resources"] == {
        "devices": [{"allow": False, "access": "rwm"}],
        "cpu": {"shares": 512, "quota": 50_000, "period": 100_000},
        "memory": {"limit": 64 << 20, "swap": 64 << 20},
        "pids": {"limit": 99},
    }
    assert spec["process"]["oomScoreAdj"] == -500 and spec["linux"]["cgroupsPath"] == "/pods/uid/c"


def test_swap_is_not_named_where_the_kernel_does_not_count_it() -> None:
    spec = spec_of(replace(SPEC, resources=Resources(memory_limit_bytes=1 << 20)), swap_counted=False)
    assert spec["linux"]["resources"]["memory"] == {"limit": 1 << 20}


def test_mounts_stand_parents_first_and_replace_defaults() -> None:
    mounts = (Mount("/b", "/data/inner", read_only=True), Mount("/a", "/data"), Mount("/s", "/dev/shm"))
    spec = spec_of(replace(SPEC, mounts=mounts))
    binds = [(each["source"], each["destination"]) for each in spec["mounts"] if each["type"] == "bind"]
    assert binds == [
        ("/run/box/hostname", "/etc/hostname"),
        *(("/a", "/data"), ("/b", "/data/inner"), ("/s", "/dev/shm")),
    ]
    assert spec["mounts"][-2]["options"] == ["rbind", "rprivate", "ro"]
    assert "rootfsPropagation" not in spec["linux"]


def test_the_widest_propagation_is_the_roots() -> None:
    mounts = (
        Mount("/a", "/a", propagation="HostToContainer"),
        Mount("/b", "/b", propagation="Bidirectional"),
    )
    assert spec_of(replace(SPEC, mounts=mounts))["linux"]["rootfsPropagation"] == "rshared"


def test_what_labels_keep_comes_back() -> None:
    spec = replace(SPEC, annotations={"hash": "h"}, stdin=True, stdin_once=True)
    labels = specs.container_labels(spec, "sha256:1", "/cg", "/log", "SIGINT")
    ended = specs.Ended(137, 20.5, 10.5, "OOMKilled")
    labels[specs.ENDED] = msgspec.json.encode(ended).decode()
    record = {"id": "c1", "labels": labels, "created_at": {"seconds": 9, "nanos": 500_000_000}}
    container = specs.container_from_record(record, None, specs.ended_of(labels), 0.0)
    assert (container.state, container.exit_code, container.reason) == ("exited", 137, "OOMKilled")
    assert (container.created_s, container.started_s, container.finished_s) == (9.5, 10.5, 20.5)
    assert (container.name, container.attempt, container.annotations) == ("main", 2, {"hash": "h"})
    assert labels[specs.STREAMS] == "stdin stdin_once"


def test_a_label_that_is_no_end_counts_as_none() -> None:
    assert specs.ended_of({specs.ENDED: "{"}) is None and specs.ended_of({}) is None
