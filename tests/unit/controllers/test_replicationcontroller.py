import pytest

from orchestrator.api.item import Object
from orchestrator.api.resources import PODS, REPLICATIONCONTROLLERS
from orchestrator.controllers.replicationcontroller import ReplicationControllerController


@pytest.fixture
async def running(cluster):
    """A cluster that runs ReplicationControllers."""
    await cluster.start(ReplicationControllerController(cluster.client, cluster.clock, cluster.recorder))
    return cluster


def body(replicas: int) -> Object:
    pod = {
        "metadata": {"labels": {"app": "rc"}},
        "spec": {"containers": [{"name": "main", "image": "busybox"}]},
    }
    return {"metadata": {"name": "rc"}, "spec": {"replicas": replicas, "template": pod}}


async def test_pods_are_made_by_the_selector_that_the_template_gives_and_counted(running):
    await running.create(REPLICATIONCONTROLLERS, body(3))
    await running.settle()
    owner = (await running.pods())[0]["metadata"]["ownerReferences"][0]
    assert (owner["apiVersion"], owner["kind"], owner["name"], owner["controller"]) == (
        "v1", "ReplicationController", "rc", True,
    )  # fmt: skip
    status = (await running.get(REPLICATIONCONTROLLERS, "rc"))["status"]
    assert status == {
        "replicas": 3,
        "fullyLabeledReplicas": 3,
        "readyReplicas": 3,
        "availableReplicas": 3,
        "observedGeneration": 1,
    }
    await running.patch(REPLICATIONCONTROLLERS, "rc", {"spec": {"replicas": 1}})
    await running.settle()
    assert len(await running.pods()) == 1
    assert await running.is_at_rest()


async def test_an_orphan_is_adopted_and_a_relabelled_pod_released(running):
    orphan = {
        "metadata": {"name": "orphan", "labels": {"app": "rc"}},
        "spec": body(1)["spec"]["template"]["spec"],
    }
    await running.create(PODS, orphan)
    await running.create(REPLICATIONCONTROLLERS, body(1))
    await running.settle()
    (pod,) = await running.pods()
    assert pod["metadata"]["ownerReferences"][0]["kind"] == "ReplicationController"
    await running.patch(PODS, "orphan", {"metadata": {"labels": {"app": "other"}}})
    await running.settle()
    assert len(await running.pods()) == 2
    assert "ownerReferences" not in (await running.get(PODS, "orphan"))["metadata"]


async def test_an_orphan_that_comes_later_is_taken_instead_of_a_pod_too_many(running):
    await running.create(REPLICATIONCONTROLLERS, body(2))
    await running.settle()
    await running.create(
        PODS, {**body(1)["spec"]["template"], "metadata": {"name": "late", "labels": {"app": "rc"}}}
    )
    await running.settle()
    pods = await running.pods()
    assert len(pods) == 2
    assert all("ownerReferences" in pod["metadata"] for pod in pods)
