import pytest

from orchestrator.api.item import Object
from orchestrator.api.resources import (
    PODS,
    STATEFULSETS,
)
from orchestrator.controllers.statefulset import StatefulSetController

CLAIM = {
    "metadata": {"name": "data", "labels": {"tier": "db"}},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}


@pytest.fixture
def controller(cluster):
    return StatefulSetController(cluster.client, cluster.clock, cluster.recorder)


@pytest.fixture
def made(cluster, template):
    """Creates a StatefulSet called `web`."""

    async def create(replicas: int = 3, **spec) -> Object:
        selector = {"matchLabels": {"app": "web"}}
        body = {"serviceName": "svc", "replicas": replicas, "selector": selector, "template": template("web")}
        return await cluster.create(STATEFULSETS, {"metadata": {"name": "web"}, "spec": {**body, **spec}})

    return create


async def names(cluster) -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in await cluster.pods())


async def status(cluster) -> Object:
    return (await cluster.get(STATEFULSETS, "web"))["status"]


async def images(cluster) -> dict[str, str]:
    pods = sorted(await cluster.pods(), key=lambda pod: pod["metadata"]["name"])
    return {pod["metadata"]["name"]: pod["spec"]["containers"][0]["image"] for pod in pods}


async def update_image(cluster, image: str, **spec) -> None:
    container = {"name": "main", "image": image}
    patch = {"spec": {"template": {"spec": {"containers": [container]}}, **spec}}
    await cluster.patch(STATEFULSETS, "web", patch, type="strategic")


async def test_pods_have_stable_names_labels_and_hosts_and_are_counted(cluster, controller, made):
    await cluster.start(controller)
    await made(replicas=2, ordinals={"start": 5})
    await cluster.settle()
    pod = await cluster.get(PODS, "web-5")
    assert await names(cluster) == ["web-5", "web-6"]
    revision = (await status(cluster))["updateRevision"]
    assert pod["metadata"]["labels"] == {
        "app": "web",
        "apps.kubernetes.io/pod-index": "5",
        "controller-revision-hash": revision,
        "statefulset.kubernetes.io/pod-name": "web-5",
    }
    assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("web-5", "svc")
    assert pod["metadata"]["ownerReferences"][0]["kind"] == "StatefulSet"
    assert await status(cluster) == {
        "observedGeneration": 1, "replicas": 2, "readyReplicas": 2, "availableReplicas": 2,
        "currentReplicas": 2, "updatedReplicas": 2, "collisionCount": 0,
        "currentRevision": revision, "updateRevision": revision,
    }  # fmt: skip
    assert await cluster.events("SuccessfulCreate") == [
        "create Pod web-5 in StatefulSet web successful",
        "create Pod web-6 in StatefulSet web successful",
    ]
    assert await cluster.is_at_rest()
