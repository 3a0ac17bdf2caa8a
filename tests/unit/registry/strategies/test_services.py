"""Services: defaults, cluster IPs and node ports, changes of type."""

import pytest

from orchestrator.api.errors import Invalid


@pytest.fixture
def services(kind):
    return kind("", "services")


def _service(*ports, **spec):
    return {"spec": {"selector": {"a": "b"}, "ports": list(ports) or [{"port": 80}], **spec}}


async def _allocate(services, obj, old=None, taken=()):
    async def is_taken(key):
        return key in taken

    return await services.strategy.allocate(obj, old, is_taken)


async def _created(services, obj, taken=()):
    return await _allocate(services, services.create(obj), taken=taken)


async def test_a_plain_service_gets_an_address(services):
    service = await _created(services, _service())
    spec = service["spec"]
    ip = spec["clusterIP"]
    assert ip.startswith("10.43.0.") and ip not in ("10.43.0.0", "10.43.0.255")
    assert spec == {
        "type": "ClusterIP",
        "clusterIP": ip,
        "clusterIPs": [ip],
        "selector": {"a": "b"},
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
    }
    assert service["status"] == {"loadBalancer": {}}
    assert services.causes(service) == []
    assert services.strategy.claims(service) == {f"serviceips/{ip}"}


async def test_the_last_free_address_is_found_and_then_none(services):
    every = {f"serviceips/10.43.0.{at}" for at in range(1, 255)}
    service = await _created(services, _service(), taken=every - {"serviceips/10.43.0.7"})
    assert service["spec"]["clusterIP"] == "10.43.0.7"
    with pytest.raises(Invalid, match="range is full"):
        await _created(services, _service(), taken=every)


async def test_an_address_may_be_asked_for(services):
    service = await _created(services, _service(clusterIP="10.43.0.1"))
    assert service["spec"]["clusterIPs"] == ["10.43.0.1"]
    with pytest.raises(Invalid) as raised:
        await _created(services, _service(clusterIP="10.43.0.1"), taken={"serviceips/10.43.0.1"})
    assert raised.value.message == (
        'Service "x" is invalid: spec.clusterIPs: Invalid value: ["10.43.0.1"]:'
        " failed to allocate IP 10.43.0.1: provided IP is already allocated"
    )
    for outside in ("10.44.0.1", "10.43.0.0", "10.43.0.255"):
        with pytest.raises(Invalid, match=r"The range of valid IPs is 10\.43\.0\.0/24"):
            await _created(services, _service(clusterIP=outside))


async def test_headless_and_external_name_hold_no_address(services):
    headless = await _created(services, _service(clusterIP="None"))
    assert headless["spec"]["clusterIPs"] == ["None"]
    assert services.strategy.claims(headless) == frozenset()
    external = await _created(services, {"spec": {"type": "ExternalName", "externalName": "a.example"}})
    assert "clusterIP" not in external["spec"] and services.strategy.claims(external) == frozenset()
    assert services.causes(external) == []


async def test_node_ports_are_drawn_and_shared_over_protocols(services):
    dns = [{"name": "u", "port": 53, "protocol": "UDP"}, {"name": "t", "port": 53}, {"name": "m", "port": 9}]
    service = await _created(services, _service(*dns, type="NodePort"))
    udp, tcp, metrics = (port["nodePort"] for port in service["spec"]["ports"])
    assert udp == tcp != metrics
    assert {udp, metrics} <= set(range(30000, 30010))
    assert service["spec"]["externalTrafficPolicy"] == "Cluster"
    assert services.causes(service) == []


async def test_a_node_port_may_be_asked_for(services):
    asked = _service({"port": 80, "nodePort": 30001}, type="NodePort")
    assert (await _created(services, asked))["spec"]["ports"][0]["nodePort"] == 30001
    with pytest.raises(
        Invalid, match=r"spec.ports\[0\].nodePort: Invalid value: 30001: provided port is already"
    ):
        await _created(services, asked, taken={"servicenodeports/30001"})
    outside = _service({"port": 80, "nodePort": 80}, type="NodePort")
    with pytest.raises(Invalid, match="The range of valid ports is 30000-30009"):
        await _created(services, outside)
    full = {f"servicenodeports/{port}" for port in range(30000, 30010)}
    with pytest.raises(Invalid, match="failed to allocate a nodePort: range is full"):
        await _created(services, _service(type="NodePort"), taken=full)


async def test_an_update_that_says_nothing_of_addresses_keeps_them(services):
    old = await _created(services, _service(type="NodePort"))
    new = services.update(_service(type="NodePort", selector={"a": "c"}), old)
    held = services.strategy.claims(old)
    assert (await _allocate(services, new, old, taken=held))["spec"] == {
        **old["spec"],
        "selector": {"a": "c"},
    }
    assert services.causes(new, old) == []


async def test_a_change_of_type_releases_what_is_not_needed(services):
    old = await _created(services, _service(type="NodePort"))
    plain = services.update({**old, "spec": {**old["spec"], "type": "ClusterIP"}}, old)
    assert "nodePort" not in plain["spec"]["ports"][0] and "externalTrafficPolicy" not in plain["spec"]
    assert services.strategy.claims(plain) == {f"serviceips/{old['spec']['clusterIP']}"}
    assert services.causes(plain, old) == []
    named = {**old["spec"], "type": "ExternalName", "externalName": "a.example"}
    external = services.update({**old, "spec": named}, old)
    assert services.causes(external, old) == [] and services.strategy.claims(external) == frozenset()
    back = services.update({**external, "spec": {**external["spec"], "type": "ClusterIP"}}, external)
    again = await _allocate(services, back, external)
    assert again["spec"]["clusterIP"].startswith("10.43.0.") and services.causes(again, external) == []


async def test_a_local_load_balancer_has_a_health_check_port(services):
    service = await _created(services, _service(type="LoadBalancer", externalTrafficPolicy="Local"))
    check, port = service["spec"]["healthCheckNodePort"], service["spec"]["ports"][0]["nodePort"]
    assert check != port
    assert services.strategy.claims(service) >= {f"servicenodeports/{check}", f"servicenodeports/{port}"}
    cluster = services.update(
        {**service, "spec": {**service["spec"], "externalTrafficPolicy": "Cluster"}}, service
    )
    assert "healthCheckNodePort" not in cluster["spec"]
    bare = await _created(services, _service(type="LoadBalancer", allocateLoadBalancerNodePorts=False))
    assert "nodePort" not in bare["spec"]["ports"][0]


async def test_the_address_never_changes(services):
    old = await _created(services, _service())
    moved = {**old, "spec": {**old["spec"], "clusterIP": "10.43.0.9", "clusterIPs": ["10.43.0.9"]}}
    (text,) = services.update_problems(moved, old)
    assert text == 'spec.clusterIPs[0]: Invalid value: ["10.43.0.9"]: may not change once set'


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ({"spec": {}}, "spec.ports: Required value"),
        (_service(type="Magic"), 'spec.type: Unsupported value: "Magic"'),
        (_service({"port": 1}, {"port": 2, "name": "b"}), "spec.ports[0].name: Required value"),
        (
            _service({"port": 1, "name": "a"}, {"port": 1, "name": "b"}),
            'spec.ports[1]: Duplicate value: {"protocol":"TCP","port":1}',
        ),
        (
            _service({"port": 70000, "targetPort": 1}),
            "spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (_service({"port": 1, "targetPort": "a--b"}), 'spec.ports[0].targetPort: Invalid value: "a--b"'),
        (
            _service({"port": 1, "nodePort": 30000}),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (_service(type="NodePort", clusterIP="None"), "may not be set to 'None' for NodePort services"),
        (_service(clusterIP="x"), 'spec.clusterIPs[0]: Invalid value: "x": must be a valid IP address'),
        (_service(sessionAffinity="Sticky"), 'spec.sessionAffinity: Unsupported value: "Sticky"'),
        ({"spec": {"type": "ExternalName"}}, "spec.externalName: Required value"),
        (_service(externalTrafficPolicy="Local"), "may only be set for externally-accessible services"),
        (
            _service(ipFamilies=["IPv6"]),
            'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster',
        ),
        (_service(selector={"a": "-"}), 'spec.selector: Invalid value: "-": a valid label must be'),
    ],
)
def test_a_fault_is_named(services, service, expected):
    found = services.problems(service)
    assert len(found) == 1, found
    assert expected in found[0]


def test_services_are_named_by_dns_1035(services):
    (text,) = services.problems({**_service(), "metadata": {"name": "1web"}})
    assert text.startswith('metadata.name: Invalid value: "1web": a DNS-1035 label must consist of')
