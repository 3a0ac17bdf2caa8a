"""Pods that a node refuses for good."""

from typing import Any

import pytest

from orchestrator.agent.containers.admit import HostAbilities, Refusal, refusal, sysctl_name
from tests.unit.agent.builders import pod, spec_of


def asking(name: str, **spec: Any) -> Any:
    return pod(securityContext={"sysctls": [{"name": name, "value": "1"}]}, **spec)


@pytest.mark.parametrize(
    ("name", "spec", "words"),
    [
        ("kernel.shm_rmid_forced", {}, ""),
        ("net/ipv4/tcp_syncookies", {}, ""),
        ("net.ipv4.tcp_rmem", {}, ""),
        ("kernel.msgmax", {}, "not allowlisted"),
        ("net.core.somaxconn", {}, "not allowlisted"),
        ("net.ipv4.tcp_syncookies", {"hostNetwork": True}, "not allowed with host net enabled"),
        ("kernel.shm_rmid_forced", {"hostIPC": True}, "not allowed with host ipc enabled"),
    ],
)
def test_sysctls(name: str, spec: dict[str, Any], words: str) -> None:
    wanted = Refusal("SysctlForbidden", f'forbidden sysctl: "{name}" {words}') if words else None
    assert refusal(asking(name, **spec), HostAbilities()) == wanted


def test_an_operator_may_allow_more() -> None:
    host = HostAbilities(unsafe_sysctls=("kernel.msg*", "net.core.somaxconn"))
    names = ("kernel.msgmax", "net.core.somaxconn", "net/core/somaxconn", "vm.swappiness")
    assert [refusal(asking(name), host) is None for name in names] == [True, True, True, False]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("net.ipv4.a", "net.ipv4.a"),
        ("net/ipv4/a", "net.ipv4.a"),
        ("net/ipv4/conf/eth0.1/x", "net.ipv4.conf.eth0/1.x"),
    ],
)
def test_sysctls_are_written_two_ways(name: str, wanted: str) -> None:
    assert sysctl_name(name) == wanted


@pytest.mark.parametrize("kind", ["RuntimeDefault", "Localhost"])
def test_apparmor_needs_a_kernel_that_has_it(kind: str) -> None:
    desired = pod(spec_of("app", securityContext={"appArmorProfile": {"type": kind}}))
    wanted = Refusal("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host")
    assert refusal(desired, HostAbilities()) == wanted
    assert refusal(desired, HostAbilities(apparmor=True)) is None
    assert refusal(pod(securityContext={"appArmorProfile": {"type": "Unconfined"}}), HostAbilities()) is None
