"""Users, privileges and profiles of containers, and what must be refused."""

from pathlib import Path

import pytest

from orchestrator.agent.containers.env import ConfigError
from orchestrator.agent.containers.security import security
from orchestrator.runtime.interface import RuntimeFailure, Security
from tests.unit.agent.builders import Json, pod, spec_of


def secured(
    own: Json | None = None, of_pod: Json | None = None, image_user: str = "", profiles: Path | None = None
) -> Security:
    container = spec_of("app", securityContext=own or {})
    return security(pod(container, securityContext=of_pod or {}), container, image_user, profiles)


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


WHERE = r'\(pod: "web_default\(u1\)", container: app\)'


@pytest.mark.parametrize(
    ("own", "image_user", "words"),
    [
        ({"runAsUser": 0}, "1000", "container's runAsUser breaks non-root policy"),
        ({}, "", "container has runAsNonRoot and image will run as root"),
        ({}, "0:0", "container has runAsNonRoot and image will run as root"),
        ({}, "nginx", r"image has non-numeric user \(nginx\), cannot verify user is non-root"),
        ({}, "²", r"image has non-numeric user \(²\), cannot verify user is non-root"),
    ],
)
def test_root_is_refused_where_it_must_not_run(own: Json, image_user: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"{words} {WHERE}"):
        secured({**own, "runAsNonRoot": True}, image_user=image_user)


def test_a_pods_non_root_policy_may_be_met_or_lifted() -> None:
    assert secured({}, {"runAsNonRoot": True, "runAsUser": 5}).user == "5"
    assert secured({}, {"runAsNonRoot": True}, "1000:0").user == ""
    assert secured({"runAsNonRoot": False}, {"runAsNonRoot": True}).user == ""


DEFAULT, UNCONFINED = {"type": "RuntimeDefault"}, {"type": "Unconfined"}


@pytest.mark.parametrize("field", ["seccompProfile", "appArmorProfile"])
@pytest.mark.parametrize(
    ("own", "of_pod", "wanted"),
    [
        (None, DEFAULT, ""),
        (DEFAULT, UNCONFINED, ""),
        (UNCONFINED, DEFAULT, "unconfined"),
    ],
)
def test_profiles_of_the_container_go_before_the_pods(
    field: str, own: Json | None, of_pod: Json, wanted: str
) -> None:
    found = secured({field: own} if own else {}, {field: of_pod})
    assert (found.seccomp if field == "seccompProfile" else found.apparmor) == wanted


def test_without_a_word_system_calls_are_free_and_apparmor_is_the_engines() -> None:
    assert (secured().seccomp, secured().apparmor) == ("unconfined", "")


def test_privileged_containers_have_no_profiles() -> None:
    found = secured({"privileged": True}, {"seccompProfile": DEFAULT, "appArmorProfile": DEFAULT})
    assert (found.privileged, found.seccomp, found.apparmor) == (True, "unconfined", "unconfined")


def test_a_profile_of_the_node_is_read(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.json").write_text('{"defaultAction": "SCMP_ACT_LOG"}')
    wanted = {"seccompProfile": {"type": "Localhost", "localhostProfile": "own/a.json"}}
    assert secured(wanted, profiles=tmp_path).seccomp == '{"defaultAction": "SCMP_ACT_LOG"}'
    named = {"appArmorProfile": {"type": "Localhost", "localhostProfile": "k8s-write"}}
    assert secured(named).apparmor == "k8s-write"


@pytest.mark.parametrize(
    ("text", "words"), [(None, "no such file"), ("no json", "expecting value"), ("[]", "no JSON")]
)
def test_a_profile_that_is_not_there_or_none_stops_the_container(
    tmp_path: Path, text: str | None, words: str
) -> None:
    if text is not None:
        (tmp_path / "a.json").write_text(text)
    wanted = {"seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"}}
    with pytest.raises(RuntimeFailure, match=f"(?i)cannot load seccomp profile .*a.json.*{words}") as failure:
        secured(wanted, profiles=tmp_path)
    assert failure.value.reason == "CreateContainerError"


def test_the_rest_of_the_security_context() -> None:
    found = secured(
        {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
            "procMount": "Unmasked",
        },
        {"supplementalGroups": [5, 6], "fsGroup": 6, "supplementalGroupsPolicy": "Strict"},
    )
    assert found.no_new_privileges and found.read_only_rootfs and found.unmasked and found.strict_groups
    assert (found.add_capabilities, found.drop_capabilities) == (("NET_ADMIN",), ("ALL",))
    assert found.supplemental_groups == (5, 6)
