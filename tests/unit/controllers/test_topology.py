from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api.resources import ENDPOINTSLICES, NODES, PODS, SERVICES
from orchestrator.controllers.endpointslice import EndpointSliceController
from orchestrator.controllers.topology import meant_for, problem

EVEN = {"a": 0.5, "b": 0.5}
THIRDS = {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}


@pytest.mark.parametrize(
    ("zones", "shares", "text"),
    [
        ("ab", EVEN, ""),
        ("aabbcc", THIRDS, ""),
        ("ab", {}, "Insufficient Node information"),
        ("aa", {"a": 1.0}, "Nodes only ready in one zone"),
        (["a", ""], EVEN, "One or more endpoints do not have a zone specified"),
        ("a", EVEN, "Insufficient number of endpoints (1 endpoints, 2 zones)"),
        ("abcc", THIRDS, "Unable to allocate minimum required endpoints"),
    ],
)
def test_when_no_hints_can_be_given(zones, shares, text):
    found = problem(list(zones), shares)
    assert found.startswith(text) and bool(found) == bool(text)


@pytest.mark.parametrize(
    ("zones", "shares", "meant"),
    [
        ("abab", EVEN, "abab"),
        ("aaaa", EVEN, "aabb"),
        ("aab", EVEN, "aab"),
        ("abb", EVEN, "abb"),
        ("bbbaaa", {"a": 2 / 3, "b": 1 / 3}, "bbaaaa"),
        ("zzz", THIRDS, "abc"),
    ],
)
def test_endpoints_stay_in_their_zone_while_it_has_room(zones, shares, meant):
    assert "".join(meant_for(list(zones), shares)) == meant


@given(
    st.lists(st.sampled_from("abc"), min_size=3, max_size=60),
    st.lists(st.integers(1, 16), min_size=3, max_size=3),
)
def test_no_zone_gets_a_fifth_less_than_its_share(zones, cpus):
    shares = {zone: cpu / sum(cpus) for zone, cpu in zip("abc", cpus, strict=True)}
    if problem(zones, shares):
        return
    counts = Counter(meant_for(zones, shares))
    assert sum(counts.values()) == len(zones)
    assert all(counts[zone] * 1.2 + 1e-9 >= share * len(zones) for zone, share in shares.items())


async def test_a_service_that_asks_is_spread_while_its_nodes_are_ready(cluster):
    await cluster.start(EndpointSliceController(cluster.client, cluster.clock, cluster.recorder))
    for name, zone in (("n1", "a"), ("n2", "b")):
        await cluster.node(name)
        await cluster.client.patch(
            NODES, name, "", {"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}}
        )
        await ready(cluster, name, "True")
    annotations = {"service.kubernetes.io/topology-mode": "Auto"}
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
    await cluster.create(SERVICES, {"metadata": {"name": "web", "annotations": annotations}, "spec": spec})
    for name in "pqrs":
        pod = {"containers": [{"name": "c", "image": "i"}], "nodeName": "n1"}
        await cluster.create(PODS, {"metadata": {"name": name, "labels": {"app": "web"}}, "spec": pod})
    await cluster.settle()
    assert await hints(cluster) == ["a", "a", "b", "b"]
    assert await cluster.is_at_rest()
    await ready(cluster, "n2", "False")
    await cluster.settle()
    assert await hints(cluster) == ["", "", "", ""]
    told = await cluster.events("TopologyAwareHintsDisabled")
    assert told[-1] == "Nodes only ready in one zone, addressType: IPv4"
    assert len(await cluster.events("TopologyAwareHintsEnabled")) == 1


async def ready(cluster, name: str, status: str) -> None:
    condition = {"type": "Ready", "status": status, "reason": "r", "message": "m"}
    patch = {"status": {"allocatable": {"cpu": "2"}, "conditions": [condition]}}
    await cluster.client.patch(NODES, name, "", patch, type="strategic", subresource="status")


async def hints(cluster) -> list[str]:
    (found,) = await cluster.list(ENDPOINTSLICES)
    zones = [entry.get("hints", {}).get("forZones", [{}])[0].get("name", "") for entry in found["endpoints"]]
    return sorted(zones)
