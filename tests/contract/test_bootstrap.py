"""The objects that every cluster has, against the rules of their kinds."""

from orchestrator.api.access import ADMIN
from orchestrator.assembly import bootstrap
from orchestrator.client.local import LocalClient
from tests.contract.api_support import Cluster

ENDPOINTS = "/api/v1/namespaces/default/endpoints/kubernetes"


async def test_a_server_on_loopback_starts_and_has_no_endpoints_for_pods(cluster: Cluster) -> None:
    client = LocalClient(cluster.registry, cluster.rbac, ADMIN)
    await bootstrap.write(client, service_cidr="10.43.0.0/16", dns_address="10.43.0.10")
    await bootstrap.write_endpoints(client, "127.0.0.1", 6443)
    _, found, _ = await cluster.call("GET", ENDPOINTS)
    assert not found.get("subsets")
    await bootstrap.write_endpoints(client, "192.0.2.1", 6443)
    _, found, _ = await cluster.call("GET", ENDPOINTS)
    assert found["subsets"][0]["addresses"] == [{"ip": "192.0.2.1"}]
