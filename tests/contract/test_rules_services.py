"""Services over HTTP: what is taken and refused, what a change of type releases, and ranges under a rush."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.api_support import Cluster, Json, served
from tests.contract.conftest import load_schemas
from tests.contract.rules_support import differs, judge

SERVICES = "/api/v1/namespaces/default/services"
Row = tuple[str, Json, list[str]]


def _spec(*ports: Json, **fields: Any) -> Json:
    return {"selector": {"a": "b"}, "ports": list(ports) or [{"port": 80}], **fields}


def _service(name: str, spec: Json) -> Json:
    return {"metadata": {"name": name}, "spec": spec}


NEW: list[Row] = [
    ("plain", _spec(), []),
    ("no ports", {"selector": {"a": "b"}}, ["spec.ports: Required value"]),
    ("headless without ports", {"clusterIP": "None"}, []),
    ("type", _spec(type="X"), ['spec.type: Unsupported value: "X": supported values: "ClusterIP", "ExternalName"']),
    ("names of ports", _spec({"port": 1}, {"port": 2, "name": "b"}), ["spec.ports[0].name: Required value"]),
    ("port twice", _spec({"port": 1, "name": "a"}, {"port": 1, "name": "b"}), ["spec.ports[1]: Duplicate value: "]),
    ("port", _spec({"port": 0, "targetPort": 1}),
     ["spec.ports[0].port: Invalid value: 0: must be between 1 and 65535"]),
    ("protocol", _spec({"port": 1, "protocol": "X"}), ['spec.ports[0].protocol: Unsupported value: "X"']),
    ("target", _spec({"port": 1, "targetPort": "a--b"}), ['spec.ports[0].targetPort: Invalid value: "a--b"']),
    ("app protocol", _spec({"port": 1, "appProtocol": "a b"}), ['spec.ports[0].appProtocol: Invalid value: "a b"']),
    ("node port of a cluster IP", _spec({"port": 1, "nodePort": 30000}),
     ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"]),
    ("node port twice", _spec({"port": 1, "name": "a", "nodePort": 30000}, {"port": 2, "name": "b", "nodePort": 30000},
                              type="NodePort"), ["spec.ports[1].nodePort: Duplicate value: 30000"]),
    ("node port elsewhere", _spec({"port": 1, "nodePort": 80}, type="NodePort"),
     ["spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports "]),
    ("selector", _spec(selector={"a": "-"}), ['spec.selector: Invalid value: "-"']),
    ("headless balancer", _spec(type="LoadBalancer", clusterIP="None"),
     ["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for LoadBalancer services"]),
    ("address", _spec(clusterIP="x"), ['spec.clusterIPs[0]: Invalid value: "x": must be a valid IP address']),
    ("address elsewhere", _spec(clusterIP="10.0.0.1"),
     ['spec.clusterIPs: Invalid value: ["10.0.0.1"]: failed to allocate IP 10.0.0.1: the provided IP (10.0.0.1) is n']),
    ("two spellings", _spec(clusterIP="10.43.0.7", clusterIPs=["10.43.0.8"]),
     ['spec.clusterIPs: Invalid value: ["10.43.0.8"]: first value must match `clusterIP`']),
    ("only the list", _spec(clusterIPs=["10.43.0.8"]),
     ['spec.clusterIPs: Invalid value: ["10.43.0.8"]: must be empty when `clusterIP` is not specified']),
    ("three addresses", _spec(clusterIP="10.43.0.7", clusterIPs=["10.43.0.7", "10.43.0.8", "10.43.0.9"]),
     ["spec.clusterIPs: Invalid value: ", "spec.clusterIPs: Invalid value: "]),
    ("None and more", _spec(clusterIP="None", clusterIPs=["None", "10.43.0.8"]), ["spec.clusterIPs: Invalid value: "]),
    ("other family", _spec(clusterIP="fd00::1"),
     ['spec.clusterIPs[0]: Invalid value: ["fd00::1"]: IPv6 is not configured on this cluster']),
    ("family of the address", _spec(clusterIP="10.43.0.7", ipFamilies=["IPv6"]),
     ['spec.clusterIPs[0]: Invalid value: "10.43.0.7": expected an IPv6 value as indicated by `ipFamilies[0]`']),
    ("family of nobody", _spec(ipFamilies=["IPv6"]),
     ['spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster']),
    ("two addresses", _spec(
        clusterIP="10.43.0.7", clusterIPs=["10.43.0.7", "fd00::1"], ipFamilyPolicy="PreferDualStack"),
     ['spec.clusterIPs[1]: Invalid value: ["10.43.0.7","fd00::1"]: IPv6 is not configured on this cluster']),
    ("family", _spec(ipFamilies=["X"]),
     ['spec.ipFamilies[0]: Unsupported value: "X": supported values: "IPv4", "IPv6"']),
    ("families of one stack", _spec(ipFamilies=["IPv4", "IPv6"]),
     ["spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when mul"]),
    ("two stacks if possible", _spec(ipFamilyPolicy="PreferDualStack"), []),
    ("two stacks", _spec(ipFamilyPolicy="RequireDualStack"),
     ['spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack service']),
    ("family policy", _spec(ipFamilyPolicy="X"), ['spec.ipFamilyPolicy: Unsupported value: "X"']),
    ("affinity", _spec(sessionAffinity="X"), ['spec.sessionAffinity: Unsupported value: "X"']),
    ("affinity for ever", _spec(
        sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 86401}}),
     ["spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and less tha"]),
    ("external address", _spec(externalIPs=["x"]), ['spec.externalIPs[0]: Invalid value: "x": must be a valid IP']),
    ("external loopback", _spec(externalIPs=["127.0.0.1"]),
     ['spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)']),
    ("external policy", _spec(externalIPs=["1.2.3.4"], externalTrafficPolicy="Local"), []),
    ("external policy inside", _spec(externalTrafficPolicy="Local"),
     ['spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services']),
    ("external policy's name", _spec(type="NodePort", externalTrafficPolicy="X"),
     ['spec.externalTrafficPolicy: Unsupported value: "X": supported values: "Cluster", "Local"']),
    ("internal policy", _spec(internalTrafficPolicy="X"), ['spec.internalTrafficPolicy: Unsupported value: "X"']),
    ("health check port", _spec(healthCheckNodePort=30001),
     ["spec.healthCheckNodePort: Invalid value: 30001: may only be set when `type` is 'LoadBalancer' and `externalT"]),
    ("balancer's class inside", _spec(loadBalancerClass="ex.com/a"),
     ["spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"]),
    ("balancer's class", _spec(type="LoadBalancer", loadBalancerClass="a b"),
     ['spec.loadBalancerClass: Invalid value: "a b"']),
    ("balancer's ports", _spec(allocateLoadBalancerNodePorts=True),
     ["spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'"]),
    ("sources", _spec(type="LoadBalancer", loadBalancerSourceRanges=[" 10.0.0.0/8 "]), []),
    ("sources of none", _spec(loadBalancerSourceRanges=["x"]),
     ["spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
      'spec.LoadBalancerSourceRanges[0]: Invalid value: "x": must be a valid CIDR value']),
    ("distribution", _spec(trafficDistribution="PreferSameNode"), []),
    ("other distribution", _spec(trafficDistribution="X"), ['spec.trafficDistribution: Unsupported value: "X"']),
    ("external name", {"type": "ExternalName", "externalName": "a.example."}, []),
    ("no external name", {"type": "ExternalName"}, ["spec.externalName: Required value"]),
    ("external name with an address", {"type": "ExternalName", "externalName": "a.b", "clusterIP": "10.43.0.7"},
     ["spec.clusterIPs: Forbidden: may not be set for ExternalName services"]),
    ("external name with families", {"type": "ExternalName", "externalName": "a.b", "ipFamilies": ["IPv4"]},
     ["spec.ipFamilies: Forbidden: may not be set for ExternalName services"]),
]  # fmt: skip


async def test_new_services(ready: Cluster) -> None:
    wrong = []
    for name, spec, expected in NEW:
        found = await judge(ready, "POST", SERVICES, _service("svc", spec), "Service")
        if differs(found, expected):
            wrong.append((name, expected, found))
    assert not wrong


BALANCER = {"type": "LoadBalancer", "loadBalancerClass": "ex.com/a", "externalTrafficPolicy": "Local"}
CHANGES: list[tuple[str, Json, Json, list[str]]] = [
    ("address", {}, {"clusterIP": "10.43.0.200", "clusterIPs": ["10.43.0.200"]},
     ["spec.clusterIPs[0]: Invalid value: "]),
    ("headless", {}, {"clusterIP": "None", "clusterIPs": ["None"]}, ["spec.clusterIPs[0]: Invalid value: "]),
    ("class", BALANCER, {"loadBalancerClass": "ex.com/b"},
     ['spec.loadBalancerClass: Invalid value: "ex.com/b": may not change once set']),
    ("no class", BALANCER, {"loadBalancerClass": None},
     ["spec.loadBalancerClass: Invalid value: null: may not change once set"]),
    ("health check port", BALANCER, {"healthCheckNodePort": 30777},
     ["spec.healthCheckNodePort: Forbidden: field is immutable"]),
    ("families", {}, {"ipFamilies": ["IPv6"]},
     ["spec.ipFamilies[0]: Invalid value: ", "spec.clusterIPs[0]: Invalid value: "]),
    ("inside, with a new node port", {"type": "NodePort"},
     {"type": "ClusterIP", "externalTrafficPolicy": None, "ports": [{"port": 80, "nodePort": 30888}]},
     ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"]),
]  # fmt: skip


async def test_changes_that_are_refused(ready: Cluster) -> None:
    for at, (name, before, changes, expected) in enumerate(CHANGES):
        status, made, _ = await ready.call("POST", SERVICES, _service(f"svc{at}", _spec(**before)))
        assert status == 201, made
        spec = {key: value for key, value in {**made["spec"], **changes}.items() if value is not None}
        found = await judge(ready, "PUT", f"{SERVICES}/svc{at}", {**made, "spec": spec}, "Service")
        assert not differs(found, expected), (name, found)


async def test_a_change_of_type_releases_and_takes(ready: Cluster) -> None:
    async def changed(**fields: Any) -> Json:
        patch = {"Content-Type": "application/merge-patch+json"}
        status, answer, _ = await ready.call("PATCH", f"{SERVICES}/svc", {"spec": fields}, headers=patch)
        assert status == 200, answer
        return dict(answer["spec"])

    _, made, _ = await ready.call("POST", SERVICES, _service("svc", _spec(type="LoadBalancer", **{
        name: value for name, value in BALANCER.items() if name != "type"})))  # fmt: skip
    spec = made["spec"]
    address, port, check = spec["clusterIP"], spec["ports"][0]["nodePort"], spec["healthCheckNodePort"]
    status = {**made, "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}
    _, shown, _ = await ready.call("PUT", f"{SERVICES}/svc/status", status)
    assert shown["status"]["loadBalancer"]["ingress"] == [{"ip": "1.2.3.4", "ipMode": "VIP"}]
    inside = await changed(type="ClusterIP")
    assert inside["clusterIP"] == address and "nodePort" not in inside["ports"][0]
    gone = (
        "healthCheckNodePort",
        "loadBalancerClass",
        "allocateLoadBalancerNodePorts",
        "externalTrafficPolicy",
    )
    assert not any(name in inside for name in gone)
    _, shown, _ = await ready.call("GET", f"{SERVICES}/svc")
    assert shown["status"] == {"loadBalancer": {}}
    for at, number in enumerate((port, check)):
        other = _service(f"other{at}", _spec({"port": 1, "nodePort": number}, type="NodePort"))
        status_code, answer, _ = await ready.call("POST", SERVICES, other)
        assert status_code == 201, answer
    named = await changed(type="ExternalName", externalName="a.example")
    assert not {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"} & named.keys()
    status_code, answer, _ = await ready.call("POST", SERVICES, _service("heir", _spec(clusterIP=address)))
    assert status_code == 201, answer
    back = await changed(type="ClusterIP", externalName=None)
    assert back["clusterIP"] != address and back["ipFamilies"] == ["IPv4"]


async def test_a_client_that_leaves_out_what_it_was_given_keeps_it(ready: Cluster) -> None:
    ports = [{"name": "a", "port": 1}, {"name": "b", "port": 2}]
    spec = _spec(*ports, type="NodePort", ipFamilyPolicy="PreferDualStack")
    _, made, _ = await ready.call("POST", SERVICES, _service("svc", spec))
    moved = _spec({"name": "b", "port": 3}, {"name": "a", "port": 4}, type="NodePort")
    _, again, _ = await ready.call("PUT", f"{SERVICES}/svc", _service("svc", moved))
    held = {port["name"]: port["nodePort"] for port in made["spec"]["ports"]}
    assert {port["name"]: port["nodePort"] for port in again["spec"]["ports"]} == held
    assert again["spec"]["clusterIPs"] == made["spec"]["clusterIPs"]
    assert again["spec"]["ipFamilyPolicy"] == "PreferDualStack"
    _, bare, _ = await ready.call("POST", SERVICES, _service("bare", {"clusterIP": "None"}))
    assert (
        bare["spec"]["ipFamilies"] == ["IPv4", "IPv6"]
        and bare["spec"]["ipFamilyPolicy"] == "RequireDualStack"
    )


STATUSES: list[tuple[Json, list[str]]] = [
    ({"hostname": "a.b"}, []),
    ({"ip": "x"}, ['status.loadBalancer.ingress[0].ip: Invalid value: "x": must be a valid IP address']),
    ({"hostname": "1.2.3.4"},
     ['status.loadBalancer.ingress[0].hostname: Invalid value: "1.2.3.4": must be a DNS name']),
    ({"ipMode": "VIP"},
     ["status.loadBalancer.ingress[0].ipMode: Forbidden: may not be specified when `ip` is not set"]),
    ({"ip": "1.2.3.4", "ipMode": "X"}, ['status.loadBalancer.ingress[0].ipMode: Unsupported value: "X"']),
]  # fmt: skip


async def test_the_status_of_a_balancer(ready: Cluster) -> None:
    for name, kind in (("svc", "LoadBalancer"), ("inside", "ClusterIP")):
        await ready.call("POST", SERVICES, _service(name, _spec(type=kind)))
    for entry, expected in STATUSES:
        body = {"metadata": {"name": "svc"}, "status": {"loadBalancer": {"ingress": [entry]}}}
        found = await judge(ready, "PUT", f"{SERVICES}/svc/status", body, "Service")
        assert not differs(found, expected), (entry, found)
    body = {"metadata": {"name": "inside"}, "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}
    found = await judge(ready, "PUT", f"{SERVICES}/inside/status", body, "Service")
    assert found == [
        "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"
    ]


# ── Ranges ───────────────────────────────────────────────────────────────────────────────────────────────

PLACES = 30
CALLERS = 200


@pytest.fixture
async def narrow(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A server with thirty addresses and thirty node ports for Services."""
    ports = range(30000, 30000 + PLACES)
    async with served(tmp_path, load_schemas(), service_cidr="10.43.0.0/27", node_ports=ports) as cluster:
        await cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": "default"}})
        yield cluster


async def _rush(
    cluster: Cluster, prefix: str, spec: Json, callers: int = CALLERS
) -> tuple[list[Json], list[str]]:
    """What came of that many creations at once: the Services, and why the others were refused."""
    answers = await asyncio.gather(
        *(cluster.call("POST", SERVICES, _service(f"{prefix}{at}", spec)) for at in range(callers))
    )
    made = [answer for status, answer, _ in answers if status == 201]
    return made, [answer["message"] for status, answer, _ in answers if status != 201]


async def test_every_address_is_given_once(narrow: Cluster) -> None:
    made, refused = await _rush(narrow, "a", _spec())
    addresses = {service["spec"]["clusterIP"] for service in made}
    assert len(made) == len(addresses) == PLACES
    assert all("failed to allocate a serviceIP: range is full" in text for text in refused)
    for service in made[:10]:
        status, _, _ = await narrow.call("DELETE", f"{SERVICES}/{service['metadata']['name']}")
        assert status == 200
    again, _ = await _rush(narrow, "b", _spec(), 20)
    assert {service["spec"]["clusterIP"] for service in again} == {s["spec"]["clusterIP"] for s in made[:10]}


async def test_every_node_port_is_given_once(narrow: Cluster) -> None:
    made, refused = await _rush(narrow, "a", _spec(type="NodePort"))
    ports = {service["spec"]["ports"][0]["nodePort"] for service in made}
    assert len(made) == len(ports) == PLACES and all("range is full" in text for text in refused)
    name, port = made[0]["metadata"]["name"], made[0]["spec"]["ports"][0]["nodePort"]
    patch = {"Content-Type": "application/merge-patch+json"}
    outside = {"spec": {"type": "ExternalName", "externalName": "a.b"}}
    status, answer, _ = await narrow.call("PATCH", f"{SERVICES}/{name}", outside, headers=patch)
    assert status == 200, answer
    (heir,), _ = await _rush(narrow, "b", _spec(type="NodePort"), 5)
    assert heir["spec"]["ports"][0]["nodePort"] == port
