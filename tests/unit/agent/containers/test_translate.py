"""A pod in the engine's terms: words, namespaces, and what the other modules work out, put together."""

from typing import Any

import pytest

from orchestrator.agent.containers.env import ConfigError
from orchestrator.agent.containers.translate import Prepared, container_spec, image_id, sandbox_spec
from orchestrator.runtime.interface import Image
from tests.unit.agent.builders import pod, spec_of

GIB = 1 << 30


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


def test_a_sandbox_has_the_pods_name_sysctls_and_place() -> None:
    sysctls = [{"name": "net/ipv4/tcp_syncookies", "value": "1"}]
    desired = pod(
        hostname="db", subdomain="sql", setHostnameAsFQDN=True, securityContext={"sysctls": sysctls}
    )
    found = sandbox_spec(desired, 0, domain="home", runtime_handler="crun")
    assert (found.hostname, found.runtime_handler) == ("db.sql.default.svc.home", "crun")
    assert (found.sysctls, found.cgroup_parent) == ({"net.ipv4.tcp_syncookies": "1"}, "besteffort/podu1")


def test_user_namespaces_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"hostUsers: false.*does not support user namespaces"):
        sandbox_spec(pod(hostUsers=False), 0)


DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("reference", "digests", "shown"),
    [
        ("busybox", (), "sha256:1"),
        ("busybox", (f"busybox@{DIGEST}",), f"docker.io/library/busybox@{DIGEST}"),
        ("r.test/b:1", (f"r.test/a@{DIGEST}", f"r.test/b@{DIGEST}"), f"r.test/b@{DIGEST}"),
        ("mirror.test/c:1", (f"r.test/a@{DIGEST}",), f"r.test/a@{DIGEST}"),
        ("sha256:" + "1" * 64, (f"r.test/a@{DIGEST}",), "sha256:1"),
    ],
)
def test_an_image_is_told_by_its_digest_where_it_came_from_a_registry(
    reference: str, digests: tuple[str, ...], shown: str
) -> None:
    assert image_id(reference, Image("sha256:1", (), digests)) == shown
