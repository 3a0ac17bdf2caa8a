import pytest

from orchestrator.api.item import Object
from orchestrator.api.resources import CONTROLLERREVISIONS, DAEMONSETS
from orchestrator.controllers.daemonset import DaemonSetController


@pytest.fixture
def controller(cluster):
    return DaemonSetController(cluster.client, cluster.clock, cluster.recorder)


@pytest.fixture
def made(cluster, template):
    """Creates a DaemonSet called `agent`."""

    async def create(**spec) -> Object:
        body = {"selector": {"matchLabels": {"app": "agent"}}, "template": template("agent"), **spec}
        return await cluster.create(DAEMONSETS, {"metadata": {"name": "agent"}, "spec": body})

    return create


async def nodes_of(cluster) -> list[str]:
    return sorted(pod["spec"]["nodeName"] for pod in await cluster.pods())


async def status(cluster) -> Object:
    return (await cluster.get(DAEMONSETS, "agent"))["status"]


async def update_image(cluster, image: str, **spec) -> None:
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}, **spec}}
    await cluster.patch(DAEMONSETS, "agent", patch, type="strategic")


async def three_nodes(cluster) -> None:
    for name in ("n1", "n2", "n3"):
        await cluster.node(name)


async def test_every_node_has_a_pod_that_names_it_and_tolerates_what_befalls_it(cluster, controller, made):
    await three_nodes(cluster)
    await cluster.start(controller)
    await made()
    await cluster.settle()
    assert await nodes_of(cluster) == ["n1", "n2", "n3"]
    pod = (await cluster.pods())[0]
    required = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    field = {"key": "metadata.name", "operator": "In", "values": [pod["spec"]["nodeName"]]}
    assert required == {"nodeSelectorTerms": [{"matchFields": [field]}]}
    assert {(t["key"].removeprefix("node.kubernetes.io/"), t["effect"]) for t in pod["spec"]["tolerations"]} == {
        ("not-ready", "NoExecute"), ("unreachable", "NoExecute"), ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"), ("pid-pressure", "NoSchedule"), ("unschedulable", "NoSchedule"),
    }  # fmt: skip
    revision = (await cluster.list(CONTROLLERREVISIONS))[0]
    digest = revision["metadata"]["labels"]["controller-revision-hash"]
    assert revision["metadata"]["name"] == f"agent-{digest}"
    assert pod["metadata"]["labels"] == {
        "app": "agent", "controller-revision-hash": digest, "pod-template-generation": "1",
    }  # fmt: skip
    assert await status(cluster) == {
        "observedGeneration": 1, "currentNumberScheduled": 3, "desiredNumberScheduled": 3, "numberMisscheduled": 0,
        "numberReady": 3, "numberAvailable": 3, "updatedNumberScheduled": 3,
    }  # fmt: skip
    assert await cluster.is_at_rest()
