"""What the daemon reads of the host, and the words for what it can't use."""

import ipaddress
import socket
from pathlib import Path

import pytest

from orchestrator.assembly import host
from orchestrator.base.errors import StartupError
from orchestrator.config import Config


@pytest.mark.parametrize("name", ["Node-1", "a.b.c", "x"])
def test_names_are_taken_in_lower_case(name: str) -> None:
    assert host.complete(Config(node_name=name, advertise_address="127.0.0.1")).node_name == name.lower()


@pytest.mark.parametrize("name", ["a_b", "-a", "a-", "a..b", "ä", "x" * 254])
def test_names_that_no_node_can_have(name: str) -> None:
    with pytest.raises(StartupError, match="can't be the name of a node"):
        host.complete(Config(node_name=name, advertise_address="127.0.0.1"))


def test_an_address_that_is_none_is_named() -> None:
    with pytest.raises(StartupError, match="'here' is no IP address"):
        host.complete(Config(node_name="a", advertise_address="here"))


def test_the_node_takes_the_advertised_address() -> None:
    config = host.complete(Config(node_name="a", advertise_address="192.0.2.9"))
    assert (config.advertise_address, config.node_ip) == ("192.0.2.9", "192.0.2.9")


def test_a_port_in_use_is_named_with_its_flag() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartupError, match=rf"Port {port} for the API.*--port"):
            host.check_port("127.0.0.1", port, "the API", "--port")
    host.check_port("127.0.0.1", port, "the API", "--port")
    host.check_port("127.0.0.1", 0, "the API", "--port")


def test_a_range_that_the_host_routes_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    routes = [
        host.Route("eth0", ipaddress.IPv4Network("10.42.7.0/24")),
        host.Route("orcabcdefbr", ipaddress.IPv4Network("10.43.0.0/16")),
    ]
    monkeypatch.setattr(host, "routes", lambda: routes)
    with pytest.raises(
        StartupError, match=r"pod_cidr 10\.42\.0\.0/16 overlaps the route 10\.42\.7\.0/24 on eth0"
    ):
        host.check_ranges(Config(), "abcdef")
    host.check_ranges(Config(pod_cidr="10.44.0.0/16"), "abcdef")
    with pytest.raises(StartupError, match="service_cidr"):
        host.check_ranges(Config(pod_cidr="10.44.0.0/16"), "other0")


def test_an_ipv6_range_is_refused_in_words() -> None:
    with pytest.raises(StartupError, match="service_cidr fd00::/112 is an IPv6 range"):
        Config(service_cidr="fd00::/112", dns_address="fd00::10").check()


def test_the_hosts_own_routes_and_addresses() -> None:
    assert all(route.network.prefixlen > 0 and route.link for route in host.routes())
    assert "127.0.0.1" in host.local_addresses()
    ipaddress.ip_address(host.default_address())


def test_an_instance_keeps_its_id(tmp_path: Path) -> None:
    config = Config(data_dir=tmp_path / "data", run_dir=tmp_path / "run")
    first = host.instance_id(config.data_dir)
    assert not config.data_dir.exists()
    host.make_directories(config, first)
    assert host.instance_id(config.data_dir) == first and len(first) == 6
    host.make_directories(config, "ffffff")
    assert host.instance_id(config.data_dir) == first
    (config.data_dir / "instance").write_text("rubbish")
    with pytest.raises(StartupError, match="does not hold an instance id"):
        host.instance_id(config.data_dir)


def test_a_directory_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match=r"file.*can't be written"):
        host.make_directories(Config(data_dir=tmp_path / "file" / "data"), "abcdef")
