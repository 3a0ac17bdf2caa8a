"""Services and EndpointSlices → rules, as a table of cases."""

import pytest

from orchestrator.network.dataplane.interface import Endpoint, ServicePort
from orchestrator.network.desired import served

READY = {"ready": True, "serving": True, "terminating": False}
STARTING = {"ready": False, "serving": False, "terminating": False}
LEAVING = {"ready": False, "serving": True, "terminating": True}


def service(labels=None, **spec):
    base = {"type": "ClusterIP", "clusterIP": "10.43.0.5", "clusterIPs": ["10.43.0.5"]}
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
    meta = {"name": "web", "namespace": "default", "labels": labels}
    return {"metadata": meta, "spec": {**base, "ports": ports, **spec}}


def endpoint_slice(*endpoints, port=8080, name="http", protocol="TCP", family="IPv4", owner="web"):
    labels = {"kubernetes.io/service-name": owner}
    return {
        "metadata": {"name": "s", "namespace": "default", "labels": labels},
        "addressType": family,
        "ports": [{"name": name, "port": port, "protocol": protocol}],
        "endpoints": [
            {"addresses": [address], "conditions": conditions} for address, conditions in endpoints
        ],
    }


def rule(*endpoints, addresses=("10.43.0.5",), **more):
    targets = tuple(Endpoint(address, 8080) for address in endpoints)
    return ServicePort("default/web:http", "tcp", addresses, 80, targets, **more)


ONE = endpoint_slice(("10.42.0.2", READY))
CASES = {
    "ready endpoints only, sorted": (
        service(),
        [
            endpoint_slice(
                ("10.42.0.3", READY), ("10.42.0.4", STARTING), ("10.42.0.2", READY), ("10.42.0.9", LEAVING)
            )
        ],
        [rule("10.42.0.2", "10.42.0.3")],
    ),
    "no condition means ready": (service(), [endpoint_slice(("10.42.0.2", {}))], [rule("10.42.0.2")]),
    "several slices, one endpoint once": (service(), [ONE, ONE], [rule("10.42.0.2")]),
    "terminating ones when nothing is ready": (
        service(),
        [endpoint_slice(("10.42.0.2", LEAVING), ("10.42.0.3", STARTING))],
        [rule("10.42.0.2")],
    ),
    "no endpoints at all": (service(), [], [rule()]),
    "another port name does not match": (
        service(),
        [endpoint_slice(("10.42.0.2", READY), name="web")],
        [rule()],
    ),
    "another protocol does not match": (
        service(),
        [endpoint_slice(("10.42.0.2", READY), protocol="UDP")],
        [rule()],
    ),
    "IPv6 slices are for another family": (
        service(),
        [endpoint_slice(("fd00::2", READY), family="IPv6")],
        [rule()],
    ),
    "IPv6 addresses are for another family": (
        service(clusterIPs=["10.43.0.5", "fd00::5"]),
        [ONE],
        [rule("10.42.0.2")],
    ),
    "node port": (
        service(type="NodePort", ports=[{"name": "http", "port": 80, "nodePort": 30080}]),
        [ONE],
        [rule("10.42.0.2", node_port=30080)],
    ),
    "a node port left from another type does not count": (
        service(ports=[{"name": "http", "port": 80, "nodePort": 30080}]),
        [ONE],
        [rule("10.42.0.2")],
    ),
    "external addresses": (
        service(externalIPs=["203.0.113.1", "fd00::1", "203.0.113.1"]),
        [ONE],
        [rule("10.42.0.2", addresses=("10.43.0.5", "203.0.113.1"))],
    ),
    "affinity": (service(sessionAffinity="ClientIP"), [ONE], [rule("10.42.0.2", affinity_s=10800)]),
    "affinity with a time-out": (
        service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}}),
        [ONE],
        [rule("10.42.0.2", affinity_s=60)],
    ),
    "headless": (service(clusterIP="None", clusterIPs=["None"]), [ONE], []),
    "external name": (service(type="ExternalName", externalName="example.org"), [ONE], []),
    "not allocated yet": (service(clusterIP="", clusterIPs=[]), [ONE], []),
    "another proxy's": (service({"service.kubernetes.io/service-proxy-name": "x"}), [ONE], []),
    "an address that this node serves itself": (
        service(clusterIP="10.43.0.10", clusterIPs=["10.43.0.10"]),
        [ONE],
        [],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_rules(case):
    obj, slices, expected = CASES[case]
    assert list(served(obj, slices, {"10.43.0.10"}).ports) == expected


def test_load_balancer_addresses_answer_unless_the_balancer_is_a_proxy():
    obj = service(type="LoadBalancer")
    ingress = [{"ip": "203.0.113.7"}, {"ip": "203.0.113.8", "ipMode": "Proxy"}, {"hostname": "lb.example"}]
    obj["status"] = {"loadBalancer": {"ingress": ingress}}
    assert served(obj, [ONE]).ports[0].addresses == ("10.43.0.5", "203.0.113.7")


def test_endpoints_of_the_last_resort_are_not_ready_ones():
    assert served(service(), [ONE]).ready == {"10.42.0.2"}
    assert served(service(), [endpoint_slice(("10.42.0.2", LEAVING))]).ready == frozenset()
