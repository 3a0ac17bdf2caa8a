"""Which address a proxy request means."""

import json
import random
from typing import Any

import pytest

from orchestrator.api.errors import ApiError, BadRequest, NotFound, ServiceUnavailable
from orchestrator.api.item import Item
from orchestrator.api.options import ListOptions
from orchestrator.api.resources import ENDPOINTSLICES, PODS, SERVICES, Resource
from orchestrator.api.results import ItemList
from orchestrator.server.proxy_targets import Target, check_address, of_pod, of_service, split_name


class _Objects:
    """A few objects by resource and name."""

    def __init__(self, *objects: tuple[Resource, dict[str, Any]]) -> None:
        self._objects = {
            (resource.plural, obj["metadata"]["name"]): Item(
                json.dumps(obj, separators=(",", ":")).encode(), 1
            )
            for resource, obj in objects
        }

    async def get(self, resource: Resource, namespace: str, name: str) -> Item:
        try:
            return self._objects[resource.plural, name]
        except KeyError:
            raise NotFound(f'{resource.plural} "{name}" not found') from None

    async def list(self, resource: Resource, namespace: str | None, options: ListOptions) -> ItemList:
        return ItemList([item for (plural, _), item in self._objects.items() if plural == resource.plural], 1)


def _pod(name: str, ip: str) -> tuple[Resource, dict[str, Any]]:
    ports = [{"name": "web", "containerPort": 8080}, {"name": "tls", "containerPort": 8443}]
    spec = {"containers": [{"name": "a"}, {"name": "b", "ports": ports}]}
    return PODS, {"metadata": {"name": name}, "spec": spec, "status": {"podIP": ip, "podIPs": [{"ip": ip}]}}


def _endpoint(ip: str, pod: str, *, ready: bool = True) -> dict[str, Any]:
    reference = {"kind": "Pod", "namespace": "n", "name": pod} if pod else None
    return {"addresses": [ip], "conditions": {"ready": ready}, "targetRef": reference}


def _service(*endpoints: dict[str, Any]) -> _Objects:
    ports = [{"name": "web", "port": 80}, {"name": "tls", "port": 443}]
    slice_ports = [{"name": "web", "port": 8080}, {"name": "tls", "port": 8443}]
    return _Objects(
        (SERVICES, {"metadata": {"name": "s"}, "spec": {"ports": ports}}),
        (ENDPOINTSLICES, {"metadata": {"name": "s-1"}, "ports": slice_ports, "endpoints": list(endpoints)}),
        _pod("p1", "10.42.0.5"),
        _pod("p2", "10.42.0.6"),
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("p1", Target("http", "10.42.0.5", "8080")),
        ("p1:9000", Target("http", "10.42.0.5", "9000")),
        ("p1:tls", Target("http", "10.42.0.5", "8443")),
        ("https:p1:tls", Target("https", "10.42.0.5", "8443")),
        ("https:p1:", Target("https", "10.42.0.5", "8080")),
        (":p1:80", Target("http", "10.42.0.5", "80")),
    ],
)
async def test_a_pod_by_scheme_name_and_port(text: str, wanted: Target) -> None:
    assert await of_pod(_Objects(_pod("p1", "10.42.0.5")), "n", text) == wanted


@pytest.mark.parametrize(
    "text", ["ftp:p1:80", "a:b:c:d", ":80", "p1:nope", "p1:0", "p1:70000", "p1:99999999999"]
)
async def test_a_name_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadRequest) as refused:
        await of_pod(_Objects(_pod("p1", "10.42.0.5")), "n", text)
    assert refused.value.message == f'invalid pod request "{text}"'


@pytest.mark.parametrize("ip", ["", "127.0.0.1", "169.254.169.254"])
async def test_a_pod_without_an_address_of_its_own_is_refused(ip: str) -> None:
    with pytest.raises(BadRequest, match="address not allowed"):
        await of_pod(_Objects(_pod("p1", ip)), "n", "p1")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "169.254.1.1", "169.254.169.254", "fe80::1%eth0",
     "fd00:ec2::254", "100.100.100.200", "0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "name", ""],
)  # fmt: skip
def test_addresses_that_nobody_may_be_sent_to(address: str) -> None:
    with pytest.raises(BadRequest):
        check_address(address)


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "8.8.8.8", "fd00::1", "100.64.0.1"])
def test_addresses_of_a_cluster_are_fine(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("s:80", Target("http", "10.42.0.5", "8080")),
        ("s:web", Target("http", "10.42.0.5", "8080")),
        ("https:s:443", Target("https", "10.42.0.5", "8443")),
        ("https:s:tls", Target("https", "10.42.0.5", "8443")),
    ],
)
async def test_a_service_by_port_number_and_name(text: str, wanted: Target) -> None:
    objects = _service(_endpoint("10.42.0.5", "p1"))
    assert await of_service(objects, random.Random(1), "n", text) == wanted


async def test_every_ready_endpoint_is_chosen_at_times_and_no_other() -> None:
    objects = _service(
        _endpoint("10.42.0.5", "p1"),
        _endpoint("10.42.0.6", "p2"),
        _endpoint("10.42.0.7", "p3"),
        _endpoint("10.42.0.9", "p1"),
        _endpoint("192.0.2.1", ""),
    )
    rng = random.Random(1)
    assert {(await of_service(objects, rng, "n", "s:80")).host for _ in range(40)} == {
        "10.42.0.5",
        "10.42.0.6",
    }


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("s:80", ServiceUnavailable, 'no endpoints available for service "s:80"'),
        ("s:81", ServiceUnavailable, 'no service port 81 found for service "s"'),
        ("s", ServiceUnavailable, 'no endpoints available for service "s"'),
        ("x:80", NotFound, 'services "x" not found'),
        ("a:b:c:d", BadRequest, 'invalid service request "a:b:c:d"'),
    ],
)
async def test_a_service_that_leads_nowhere(text: str, error: type[ApiError], message: str) -> None:
    objects = _service(_endpoint("10.42.0.5", "p1", ready=False))
    with pytest.raises(error) as raised:
        await of_service(objects, random.Random(1), "n", text)
    assert raised.value.message == message


def test_the_kind_is_named_in_the_refusal() -> None:
    with pytest.raises(BadRequest, match='invalid node request "::"'):
        split_name("::", "node")
