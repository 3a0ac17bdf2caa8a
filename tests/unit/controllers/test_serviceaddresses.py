"""IPAddresses come and go with Services; ServiceCIDRs stay while addresses of theirs are in use."""

from random import Random
from typing import Any

import pytest

from orchestrator.api.errors import Invalid, NotFound
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import IPADDRESSES, SERVICECIDRS, SERVICES
from orchestrator.controllers.serviceaddresses import ServiceAddressController
from orchestrator.controllers.servicecidr import ServiceCIDRController
from orchestrator.registry.strategies.services import ServiceStrategy

PORTS = {"ports": [{"name": "http", "port": 80}]}


async def _service(cluster: Any, name: str, **spec: Any) -> Any:
    return await cluster.create(SERVICES, {"metadata": {"name": name}, "spec": {**PORTS, **spec}})


async def _start(cluster: Any) -> None:
    kinds = (ServiceAddressController, ServiceCIDRController)
    await cluster.start(*(k(cluster.client, cluster.clock, cluster.recorder) for k in kinds), kubelet=False)


async def _addresses(cluster: Any) -> dict[str, str]:
    return {
        a["metadata"]["name"]: a["spec"]["parentRef"]["name"] for a in await cluster.list(IPADDRESSES, None)
    }


async def test_an_address_comes_and_goes_in_the_transaction_of_its_service(cluster: Any) -> None:
    made = await _service(cluster, "web")
    ip = made["spec"]["clusterIP"]
    found = await cluster.client.get(IPADDRESSES, ip)
    assert found["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert found["spec"]["parentRef"] == {"resource": "services", "namespace": "default", "name": "web"}
    assert found["metadata"]["labels"] == {
        "ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
    }  # fmt: skip
    await _service(cluster, "headless", clusterIP="None")
    assert list(await _addresses(cluster)) == [ip]
    await cluster.client.delete(SERVICES, "web", "default")
    assert await _addresses(cluster) == {}


async def test_an_address_that_somebody_else_holds_is_not_given_away(cluster: Any) -> None:
    parent = {"resource": "gateways", "group": "example.com", "name": "own"}
    await cluster.create(IPADDRESSES, {"metadata": {"name": "10.43.0.77"}, "spec": {"parentRef": parent}})
    with pytest.raises(Invalid, match="provided IP is already allocated"):
        await _service(cluster, "web", clusterIP="10.43.0.77")
    await _start(cluster)
    await cluster.advance(70, 35)
    assert await _addresses(cluster) == {"10.43.0.77": "own"}


async def test_what_was_done_by_hand_is_repaired(cluster: Any) -> None:
    await _start(cluster)
    ip = (await _service(cluster, "web"))["spec"]["clusterIP"]
    await cluster.settle()
    await cluster.client.delete(IPADDRESSES, ip)
    await cluster.settle()
    assert await _addresses(cluster) == {ip: "web"}
    labels = {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}
    orphan = {"metadata": {"name": "10.43.9.9", "labels": labels}}
    await cluster.create(
        IPADDRESSES, {**orphan, "spec": {"parentRef": {"resource": "services", "name": "gone"}}}
    )
    await cluster.advance(70, 35)
    assert await _addresses(cluster) == {ip: "web"}
    assert await cluster.is_at_rest()


async def test_a_range_stays_while_its_addresses_are_in_use(cluster: Any) -> None:
    await _start(cluster)
    strategy = cluster.registry._writer._strategies["", "services"]
    assert isinstance(strategy, ServiceStrategy)
    cluster.informers.of(SERVICECIDRS).on_change(strategy.range_changed)
    with pytest.raises(Invalid, match="not in the valid range"):
        await _service(cluster, "early", clusterIP="10.99.0.5")
    await cluster.create(SERVICECIDRS, {"metadata": {"name": "more"}, "spec": {"cidrs": ["10.99.0.0/24"]}})
    await cluster.settle()
    found = await cluster.client.get(SERVICECIDRS, "more")
    assert found["metadata"]["finalizers"] == ["networking.k8s.io/service-cidr-finalizer"]
    assert [(c["type"], c["status"]) for c in found["status"]["conditions"]] == [("Ready", "True")]
    await _service(cluster, "web", clusterIP="10.99.0.5")
    await cluster.client.delete(SERVICECIDRS, "more", "", DeleteOptions())
    await cluster.advance(20, 10)
    (ready,) = (await cluster.client.get(SERVICECIDRS, "more"))["status"]["conditions"]
    assert (ready["status"], ready["reason"]) == ("False", "Terminating")
    with pytest.raises(Invalid, match="not in the valid range"):
        await _service(cluster, "late", clusterIP="10.99.0.6")
    await cluster.client.delete(SERVICES, "web", "default")
    await cluster.settle()
    with pytest.raises(NotFound):
        await cluster.client.get(SERVICECIDRS, "more")


async def test_services_get_addresses_from_further_ranges_when_the_first_is_full(cluster: Any) -> None:
    strategy = ServiceStrategy("10.7.0.0/30", range(30000, 30001), Random(1))
    cluster.registry._writer._strategies["", "services"] = strategy
    first = {(await _service(cluster, name))["spec"]["clusterIP"] for name in ("a", "b")}
    assert first == {"10.7.0.1", "10.7.0.2"}
    with pytest.raises(Invalid, match="range is full"):
        await _service(cluster, "c")
    await _start(cluster)
    cluster.informers.of(SERVICECIDRS).on_change(strategy.range_changed)
    await cluster.create(SERVICECIDRS, {"metadata": {"name": "more"}, "spec": {"cidrs": ["10.8.0.0/29"]}})
    await cluster.settle()
    assert (await _service(cluster, "c"))["spec"]["clusterIP"].startswith("10.8.0.")
