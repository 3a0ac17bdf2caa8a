"""Incremental scripts against a model of the kernel's maps: any way of changes ends where a full rewrite ends."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.network.dataplane.interface import Endpoint, ServicePort, ServiceRules
from orchestrator.network.dataplane.nft_model import NftModel

LOCAL = "10.42.0.0/24"

endpoints = st.lists(
    st.builds(Endpoint, st.sampled_from(["10.42.0.2", "10.42.0.3", "10.42.9.9", "192.0.2.7"]), st.just(8080)),
    unique=True,
    max_size=3,
).map(lambda found: tuple(sorted(found)))
ports = st.builds(
    ServicePort,
    name=st.sampled_from(["d/a:", "d/b:", "d/c:"]),
    protocol=st.sampled_from(["tcp", "udp"]),
    addresses=st.lists(
        st.sampled_from(["10.43.0.1", "10.43.0.2", "203.0.113.1"]), unique=True, max_size=2
    ).map(tuple),
    port=st.sampled_from([80, 81]),
    endpoints=endpoints,
    node_port=st.sampled_from([0, 0, 30000, 30001]),
    affinity_s=st.sampled_from([0, 0, 10, 20]),
)
states = st.lists(ports, max_size=3, unique_by=lambda port: port.name)


def rules(found, nodes=()):
    return ServiceRules(tuple(found), "10.42.0.0/16", "10.43.0.0/16", nodes)


class Kernel:
    """What nft would hold: elements by map, chains; a strict reader of our scripts."""

    def __init__(self):
        self.maps = {}
        self.chains = set()

    def run(self, script):
        for line in script.splitlines():
            if match := re.match(r"flush (?:map|set) ip \S+ (\S+)", line):
                self.maps[match[1]] = {}
            elif match := re.match(r"(add|delete) element ip \S+ (\S+) \{ (.*) \}", line):
                self.change(match[1], self.maps[match[2]], match[3].split(", "))
            elif match := re.match(r"  chain (\S+) \{", line):
                self.chains.add(match[1])
        for entries in self.maps.values():
            for value in entries.values():
                assert not value.startswith("goto ") or value.removeprefix("goto ") in self.chains, value

    def change(self, verb, entries, texts):
        for text in texts:
            key, _, value = text.partition(" : ")
            if verb == "delete":
                del entries[key]
            else:
                assert entries.setdefault(key, value) == value, f"{key} is there with another value"


@settings(max_examples=80, deadline=None)
@given(st.lists(states, min_size=1, max_size=6))
def test_any_way_of_changes_ends_where_a_full_rewrite_ends(history):
    model, kernel = NftModel("orcx", LOCAL), Kernel()
    for found in history:
        plan = model.plan(rules(found))
        kernel.run(plan.script)
        model.commit(plan, rules(found))
        fresh, anew = NftModel("orcx", LOCAL), Kernel()
        whole = fresh.plan(rules(found))
        anew.run(whole.script)
        fresh.commit(whole, rules(found))
        assert kernel.maps == anew.maps
        assert {name: len(entries) for name, entries in kernel.maps.items()} == dict(model.counts)
        assert not model.plan(rules(found)).script or model.plan(rules(found)).full


def one(name="d/a:", address="10.43.0.1", count=2, **more):
    targets = tuple(Endpoint(f"10.42.0.{n + 2}", 8080) for n in range(count))
    return ServicePort(name, "tcp", (address,), 80, targets, **more)


def committed(*found):
    model = NftModel("orcx", LOCAL)
    model.commit(model.plan(rules(found)), rules(found))
    return model


def test_one_more_service_costs_only_its_own_elements():
    model = committed(one("d/a:"))
    plan = model.plan(rules([one("d/a:"), one("d/b:", "10.43.0.2")]))
    assert plan.script == (
        "add element ip orcx endpoints_tcp { 10.43.0.2 . 80 . 0 : 10.42.0.2 . 8080, "
        "10.43.0.2 . 80 . 1 : 10.42.0.3 . 8080 }\n"
        "add element ip orcx services { 10.43.0.2 . tcp . 80 : goto svc-tcp-2 }\n"
    )


def test_a_lost_endpoint_moves_the_service_to_a_smaller_chain():
    plan = committed(one()).plan(rules([one(count=1)]))
    assert plan.script == (
        "delete element ip orcx endpoints_tcp { 10.43.0.1 . 80 . 1 }\n"
        "delete element ip orcx hairpin { 10.42.0.3 . 10.42.0.3 }\n"
        "delete element ip orcx services { 10.43.0.1 . tcp . 80 }\n"
        "table ip orcx {\n"
        "  chain svc-tcp-1 {\n"
        "    ip saddr != 10.42.0.0/16 meta mark set meta mark | 0x4000\n"
        "    dnat ip addr . port to ip daddr . tcp dport . numgen random mod 1 map @endpoints_tcp\n"
        "  }\n"
        "}\n"
        "add element ip orcx services { 10.43.0.1 . tcp . 80 : goto svc-tcp-1 }\n"
    )


def test_a_front_claimed_twice_goes_to_the_first_by_name_and_back():
    model = committed(one("d/b:"))
    both = rules([one("d/b:"), one("d/a:", count=1)])
    plan = model.plan(both)
    assert plan.full and "goto svc-tcp-1" in plan.script and "goto svc-tcp-2" not in plan.script
    model.commit(plan, both)
    assert "goto svc-tcp-2" in model.plan(rules([one("d/b:")])).script


def test_changed_ranges_or_node_addresses_write_everything_anew():
    model = committed(one())
    assert model.plan(rules([one()], ("192.0.2.1",))).full
    assert not model.plan(rules([one()])).full
