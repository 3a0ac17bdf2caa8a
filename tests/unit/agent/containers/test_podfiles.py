"""resolv.conf, hosts and last words."""

from pathlib import Path
from typing import Any

import pytest

from orchestrator.agent.containers import podfiles
from orchestrator.agent.containers.podfiles import DnsSettings, parse_resolv, resolv_conf
from tests.unit.agent.builders import Json, pod, spec_of

HOST = (
    "domain old\nsearch example.com corp\nnameserver 192.0.2.53 # one\n; note\n"
    "nameserver 192.0.2.54\noptions timeout:2 rotate\n"
)


@pytest.fixture
def dns(tmp_path: Path) -> DnsSettings:
    path = tmp_path / "host.resolv"
    path.write_text(HOST)
    return DnsSettings("10.43.0.10", "cluster.local", path)


CLUSTER = (
    "search default.svc.cluster.local svc.cluster.local cluster.local example.com corp\n"
    "nameserver 10.43.0.10\noptions ndots:5\n"
)
NODE = "search example.com corp\nnameserver 192.0.2.53\nnameserver 192.0.2.54\noptions timeout:2 rotate\n"
POLICIES: list[tuple[dict[str, Any], str]] = [
    ({}, CLUSTER),
    ({"dnsPolicy": "ClusterFirst"}, CLUSTER),
    ({"dnsPolicy": "ClusterFirst", "hostNetwork": True}, NODE),
    ({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": True}, CLUSTER),
    ({"dnsPolicy": "Default"}, NODE),
    ({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"]}}, "nameserver 1.1.1.1\n"),
    (
        {"dnsPolicy": "Default", "dnsConfig": {
            "nameservers": ["192.0.2.53", "9.9.9.9"], "searches": ["more", "corp"],
            "options": [{"name": "timeout", "value": "9"}, {"name": "edns0"}],
        }},
        "search example.com corp more\nnameserver 192.0.2.53\nnameserver 192.0.2.54\nnameserver 9.9.9.9\n"
        "options timeout:9 rotate edns0\n",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "text"), POLICIES, ids=[str(case[0]) for case in POLICIES])
def test_dns_policies(dns: DnsSettings, spec: dict[str, Any], text: str) -> None:
    assert resolv_conf(pod(**spec), dns) == text


def test_a_host_without_a_resolver_gives_an_empty_one(tmp_path: Path) -> None:
    nowhere = DnsSettings("10.43.0.10", "cluster.local", tmp_path / "none")
    assert "nameserver 10.43.0.10" in resolv_conf(pod(), nowhere)
    assert parse_resolv("nameserver\nrubbish\n\n").servers == []


def test_hosts_names_the_pod_and_its_aliases(tmp_path: Path, dns: DnsSettings) -> None:
    desired = pod(hostname="db", subdomain="sql", hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a", "b"]}])
    podfiles.write(desired, "10.42.0.2", tmp_path, dns)
    lines = (tmp_path / "hosts").read_text().splitlines()
    assert "10.42.0.2\tdb.sql.default.svc.cluster.local\tdb" in lines
    assert "1.2.3.4\ta\tb" in lines
    assert any(line.startswith("127.0.0.1") for line in lines)


def test_hosts_is_as_a_kubelet_writes_it(
    tmp_path: Path, dns: DnsSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = tmp_path / "host.hosts"
    host.write_text("192.0.2.1 node\n")
    monkeypatch.setattr(podfiles, "HOSTS", host)
    alias = [{"ip": "1.2.3.4", "hostnames": ["a"]}]
    podfiles.write(pod(hostNetwork=True, hostAliases=alias), "192.0.2.1", tmp_path, dns)
    assert (tmp_path / "hosts").read_text() == (
        "# Kubernetes-managed hosts file (host network).\n192.0.2.1 node\n"
        "\n# Entries added by HostAliases.\n1.2.3.4\ta\n"
    )
    text = podfiles.hosts(pod(), "10.42.0.2,fd00::2", "cluster.local")
    assert text.startswith("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\t")
    assert text.endswith("\n10.42.0.2\tweb\nfd00::2\tweb\n")


def test_what_resolvers_do_not_take_is_left_out_and_told(dns: DnsSettings) -> None:
    config = {"nameservers": ["1.1.1.1", "1.1.1.2"], "searches": [f"{i}.{'x' * 60}" for i in range(40)]}
    desired = pod(dnsPolicy="Default", dnsConfig=config)
    resolv = parse_resolv(resolv_conf(desired, dns))
    assert resolv.servers == ["192.0.2.53", "192.0.2.54", "1.1.1.1"] and len(resolv.searches) == 32
    search, servers = podfiles.dns_problems(desired, dns)
    assert search.startswith(
        "Search Line limits were exceeded, some search paths have been omitted, the applied"
    )
    assert servers.endswith("the applied nameserver line is: 192.0.2.53 192.0.2.54 1.1.1.1")
    assert podfiles.dns_problems(pod(), dns) == []


def test_files_are_changed_in_place(tmp_path: Path, dns: DnsSettings) -> None:
    """Bind mounts follow the inode."""
    podfiles.write(pod(), "10.42.0.2", tmp_path, dns)
    before = (tmp_path / "hosts").stat().st_ino
    podfiles.write(pod(), "10.42.0.3", tmp_path, dns)
    assert (tmp_path / "hosts").stat().st_ino == before
    assert "10.42.0.3" in (tmp_path / "hosts").read_text()


def mounts(container: Json, directory: Path) -> dict[str, str]:
    return {m.container_path: m.host_path for m in podfiles.mounts(container, directory, 2)}


def test_a_container_may_bring_its_own_hosts(tmp_path: Path) -> None:
    own = spec_of(
        "app", volumeMounts=[{"name": "v", "mountPath": "/etc/hosts"}], terminationMessagePath="/last"
    )
    assert sorted(mounts(own, tmp_path)) == ["/etc/resolv.conf", "/last"]
    assert sorted(mounts(spec_of("app"), tmp_path)) == [
        "/dev/termination-log",
        "/etc/hosts",
        "/etc/resolv.conf",
    ]


def test_last_words_are_read_per_incarnation_and_bounded(tmp_path: Path) -> None:
    path = Path(mounts(spec_of("app"), tmp_path)["/dev/termination-log"])
    path.write_bytes(b"\xff" + b"x" * 10_000)
    text = podfiles.read_termination_message("app", tmp_path, 2)
    assert len(text) == 4096 and text[0] == "�"
    assert podfiles.read_termination_message("app", tmp_path, 1) == ""
    assert podfiles.read_termination_message("none", tmp_path, 0) == ""
