import pytest

from orchestrator.api.resources import ENDPOINTS, PODS, SERVICES
from orchestrator.controllers.backends import backends
from orchestrator.controllers.endpoints import ADDRESSES_MAX, EndpointsController, plan

READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}


def service(**spec):
    base = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}
    return {"metadata": {"name": "web", "namespace": "default"}, "spec": {**base, **spec}}


def backend_pod(pod_item, name, ip, status=READY, **meta):
    return pod_item(name, meta={"labels": {"app": "web"}, **meta}, status={**status, "podIP": ip})


def test_ready_and_other_addresses_are_kept_apart_and_terminating_ones_left_out(pod_item):
    pods = [
        backend_pod(pod_item, "a", "10.0.0.2"),
        backend_pod(pod_item, "b", "10.0.0.1", {"phase": "Running"}),
        backend_pod(pod_item, "c", "10.0.0.3", deletionTimestamp="2023-11-14T22:13:20Z"),
    ]
    (subset,) = plan(service(), backends(service(), pods), None)["subsets"]
    assert [a["ip"] for a in subset["addresses"]] == ["10.0.0.2"]
    assert [a["ip"] for a in subset["notReadyAddresses"]] == ["10.0.0.1"]
    assert subset["ports"] == [{"port": 8080, "protocol": "TCP"}]
    published = service(publishNotReadyAddresses=True)
    (subset,) = plan(published, backends(published, pods), None)["subsets"]
    assert [a["ip"] for a in subset["addresses"]] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


def test_too_many_addresses_are_cut_ready_ones_last_and_marked(pod_item):
    pods = [
        backend_pod(pod_item, f"u{n}", f"10.1.{n // 250}.{n % 250}", {"phase": "Running"}) for n in range(20)
    ]
    pods += [backend_pod(pod_item, f"r{n}", f"10.2.{n // 250}.{n % 250}") for n in range(ADDRESSES_MAX - 5)]
    wanted = plan(service(), backends(service(), pods), None)
    (subset,) = wanted["subsets"]
    assert (len(subset["addresses"]), len(subset["notReadyAddresses"])) == (ADDRESSES_MAX - 5, 5)
    assert wanted["metadata"]["annotations"] == {"endpoints.kubernetes.io/over-capacity": "truncated"}
    assert plan(service(), backends(service(), pods), wanted) is None


@pytest.fixture
async def serving(cluster):
    await cluster.start(EndpointsController(cluster.client, cluster.clock, cluster.recorder))
    return cluster


async def test_endpoints_follow_pods_and_go_with_the_service(serving):
    body = {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}
    await serving.create(SERVICES, body)
    await serving.settle()
    assert not (await serving.get(ENDPOINTS, "web")).get("subsets")
    assert await serving.is_at_rest()
    spec = {"containers": [{"name": "c", "image": "i"}]}
    await serving.create(PODS, {"metadata": {"name": "a", "labels": {"app": "web"}}, "spec": spec})
    await serving.settle()
    (subset,) = (await serving.get(ENDPOINTS, "web"))["subsets"]
    assert subset["addresses"][0]["targetRef"]["name"] == "a"
    assert await serving.is_at_rest()
    await serving.client.delete(SERVICES, "web", "default")
    await serving.settle()
    assert await serving.list(ENDPOINTS) == []


async def test_endpoints_of_a_service_without_selector_are_the_users(serving):
    await serving.create(SERVICES, {"metadata": {"name": "ext"}, "spec": {"ports": [{"port": 80}]}})
    subsets = [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}]
    await serving.create(ENDPOINTS, {"metadata": {"name": "ext"}, "subsets": subsets})
    await serving.settle()
    found = (await serving.get(ENDPOINTS, "ext"))["subsets"]
    assert found[0]["addresses"] == [{"ip": "192.0.2.1"}]
    await serving.client.delete(SERVICES, "ext", "default")
    await serving.settle()
    assert len(await serving.list(ENDPOINTS)) == 1
