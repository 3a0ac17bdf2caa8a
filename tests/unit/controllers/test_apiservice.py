"""One APIService per served version, and those that others made."""

import gc

from orchestrator.api.resources import APISERVICES, Resource
from orchestrator.controllers.apiservice import LABEL, ApiServiceController
from orchestrator.informer.queue import WorkQueue


async def _started(cluster):
    await cluster.start(
        ApiServiceController(cluster.client, cluster.clock, cluster.recorder, cluster.table), kubelet=False
    )
    await cluster.settle()


async def test_every_version_of_the_server_has_one_and_deleted_ones_come_back(cluster):
    await _started(cluster)
    services = {item["metadata"]["name"]: item for item in await cluster.list(APISERVICES, None)}
    assert {"v1.", "v1.apps", "v1.events.k8s.io", "v2.autoscaling"} <= services.keys()
    assert "v1.apiregistration.k8s.io" not in services
    apps = services["v1.apps"]
    assert apps["spec"] == {
        "group": "apps",
        "version": "v1",
        "groupPriorityMinimum": 17800,
        "versionPriority": 15,
    }
    assert apps["metadata"]["labels"] == {LABEL: "onstart"}
    (condition,) = apps["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Available", "True", "Local")
    assert await cluster.is_at_rest()
    await cluster.client.delete(APISERVICES, "v1.apps")
    await cluster.settle()
    assert (await cluster.get(APISERVICES, "v1.apps", ""))["metadata"]["uid"] != apps["metadata"]["uid"]


async def test_custom_versions_come_and_go_and_what_others_made_stays(cluster):
    remote = {
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.metrics.example"},
        "spec": {"group": "metrics.example", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100,
                 "service": {"name": "s", "namespace": "n"}},
    }  # fmt: skip
    await cluster.create(APISERVICES, remote, "")
    await _started(cluster)
    row = Resource("example.com", "v1", "Thing", "things")
    cluster.table.add(row)
    await cluster.settle()
    thing = await cluster.get(APISERVICES, "v1.example.com", "")
    assert thing["metadata"]["labels"] == {LABEL: "true"} and thing["spec"]["groupPriorityMinimum"] == 1000
    cluster.table.remove(row)
    await cluster.settle()
    names = {item["metadata"]["name"] for item in await cluster.list(APISERVICES, None)}
    assert "v1.example.com" not in names and "v1.metrics.example" in names


async def test_one_of_an_earlier_term_is_let_go(cluster):
    await _started(cluster)
    following = len(cluster.table._handlers)
    for _ in range(3):
        former = ApiServiceController(cluster.client, cluster.clock, cluster.recorder, cluster.table)
        former.setup(cluster.informers, WorkQueue("former", cluster.supervisor, cluster.clock))
    del former
    gc.collect()
    cluster.table.add(Resource("example.com", "v1", "Thing", "things"))
    assert len(cluster.table._handlers) == following
