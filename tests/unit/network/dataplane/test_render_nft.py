"""Rendered chains as a reader of nft would see them, and which remembered clients are stale."""

from orchestrator.network.dataplane.interface import Endpoint, ServicePort, ServiceRules
from orchestrator.network.dataplane.render_nft import (
    Kind,
    Layout,
    client_key,
    kind_chain,
    learn_chain,
    skeleton,
    stale_clients,
)

LAYOUT = Layout("orcx", "10.42.0.0/24", ServiceRules((), "10.42.0.0/16", "10.43.0.0/16", ()))


def test_cluster_addresses_masquerade_only_outsiders():
    assert kind_chain(LAYOUT, Kind("svc", "udp", 3, sticky=False)) == (
        "  chain svc-udp-3 {\n"
        "    ip saddr != 10.42.0.0/16 meta mark set meta mark | 0x4000\n"
        "    dnat ip addr . port to ip daddr . udp dport . numgen random mod 3 map @endpoints_udp\n"
        "  }\n"
    )


def test_node_ports_masquerade_everyone_and_ask_remembered_clients_first():
    assert kind_chain(LAYOUT, Kind("node", "tcp", 1, sticky=True)) == (
        "  chain node-tcp-1-sticky {\n"
        "    meta mark set meta mark | 0x4000\n"
        "    dnat ip addr . port to ip saddr . ip daddr . meta l4proto . th dport map @clients\n"
        "    dnat ip addr . port to tcp dport . numgen random mod 1 map @node_endpoints_tcp\n"
        "  }\n"
    )


def test_clients_are_remembered_with_their_services_time_out():
    assert "tcp update @clients { ip saddr . ct original ip daddr" in learn_chain(90)
    assert learn_chain(90).count("timeout 90s : ip daddr") == 3


def test_a_rewrite_keeps_remembered_clients_and_flushes_the_rest():
    script = skeleton(LAYOUT)
    assert "flush map ip orcx services\n" in script and "flush set ip orcx hairpin\n" in script
    assert "flush map ip orcx clients" not in script and "delete table" not in script


def test_node_ports_answer_on_chosen_addresses_or_on_all_but_loopback():
    everywhere = skeleton(LAYOUT)
    assert "ip daddr != { 127.0.0.0/8, 10.43.0.0/16 } fib daddr type local meta l4proto" in everywhere
    chosen = ServiceRules((), "10.42.0.0/16", "10.43.0.0/16", ("192.0.2.2", "192.0.2.1"))
    script = skeleton(Layout("orcx", "10.42.0.0/24", chosen))
    assert "ip daddr { 192.0.2.1, 192.0.2.2 } meta l4proto . th dport vmap @node_services" in script


def test_clients_of_vanished_endpoints_and_services_are_stale():
    a, b = Endpoint("10.42.0.2", 8080), Endpoint("10.42.0.3", 8080)
    port = ServicePort("d/a:", "tcp", ("10.43.0.1",), 80, (a,), 30000, 60)
    kept = ("10.42.0.9", "10.43.0.1", "tcp", 80, a)
    kept_node = ("192.0.2.9", "192.0.2.2", "tcp", 30000, a)
    moved = ("10.42.0.9", "10.43.0.1", "tcp", 80, b)
    unknown = ("10.42.0.9", "10.43.0.2", "tcp", 80, a)
    other = ("10.42.0.9", "10.43.0.1", "udp", 80, a)
    assert stale_clients([kept, kept_node, moved, unknown, other], [port]) == [moved, unknown, other]
    assert client_key(moved) == "10.42.0.9 . 10.43.0.1 . tcp . 80"
