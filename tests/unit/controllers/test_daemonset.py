import pytest

from orchestrator.api.item import Object
from orchestrator.api.resources import CONTROLLERREVISIONS, DAEMONSETS, NODES, PODS
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


async def test_labels_and_taints_of_nodes_decide_who_has_a_pod(cluster, controller, made, template):
    await three_nodes(cluster)
    await cluster.start(controller)
    pod = template("agent")
    await made(template={**pod, "spec": {**pod["spec"], "nodeSelector": {"disk": "ssd"}}})
    await cluster.settle()
    assert (await nodes_of(cluster), (await status(cluster))["desiredNumberScheduled"]) == ([], 0)
    for name in ("n1", "n2"):
        await cluster.client.patch(NODES, name, "", {"metadata": {"labels": {"disk": "ssd"}}})
    await cluster.settle()
    assert await nodes_of(cluster) == ["n1", "n2"]
    taint = {"key": "k", "value": "v", "effect": "NoSchedule"}
    await cluster.client.patch(NODES, "n1", "", {"spec": {"taints": [taint], "unschedulable": True}})
    await cluster.settle()
    found = await status(cluster)
    assert (await nodes_of(cluster), found["numberMisscheduled"], found["desiredNumberScheduled"]) == (
        ["n1", "n2"], 1, 1,
    )  # fmt: skip
    await cluster.client.patch(NODES, "n1", "", {"spec": {"taints": [{**taint, "effect": "NoExecute"}]}})
    await cluster.client.patch(NODES, "n2", "", {"metadata": {"labels": {"disk": None}}})
    await cluster.settle()
    assert (await nodes_of(cluster), (await status(cluster))["numberMisscheduled"]) == ([], 0)
    assert await cluster.is_at_rest()


async def test_a_heartbeat_wakes_nobody(cluster, controller, made):
    await three_nodes(cluster)
    await cluster.start(controller)
    await made()
    await cluster.settle()
    woken, reconcile = [], controller.reconcile

    async def count(key):
        woken.append(key)
        return await reconcile(key)

    controller.reconcile = count
    beat = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}
    await cluster.client.patch(NODES, "n1", "", {"status": {"conditions": [beat]}}, subresource="status")
    await cluster.client.patch(NODES, "n2", "", {"spec": {"unschedulable": True}})
    await cluster.client.patch(NODES, "n2", "", {"metadata": {"labels": {"some": "label"}}})
    await cluster.settle()
    assert woken == []
    await cluster.client.delete(NODES, "n3")
    await cluster.settle()
    assert (woken[0], (await status(cluster))["desiredNumberScheduled"]) == ("default/agent", 2)


def images_and_nodes(pods) -> list[tuple[str, str]]:
    return sorted((pod["spec"]["nodeName"], pod["spec"]["containers"][0]["image"]) for pod in pods)


async def test_a_rollout_keeps_to_max_unavailable_and_a_rollback_restarts_only_what_it_must(
    cluster, controller, made
):
    await three_nodes(cluster)
    await cluster.start(controller)
    await made()
    await cluster.settle()
    before = {pod["spec"]["nodeName"]: pod["metadata"]["uid"] for pod in await cluster.pods()}
    cluster.kubelet.hold = lambda pod: pod.object["spec"]["containers"][0]["image"] == "v2"
    await update_image(cluster, "v2")
    await cluster.settle()
    pods = await cluster.pods()
    assert sorted(pod["spec"]["containers"][0]["image"] for pod in pods) == ["busybox", "busybox", "v2"]
    cluster.kubelet.hold = lambda pod: False
    await update_image(cluster, "busybox")
    await cluster.advance(2.0)
    after = {pod["spec"]["nodeName"]: pod["metadata"]["uid"] for pod in await cluster.pods()}
    assert len(before.items() & after.items()) == 2
    assert sorted(r["revision"] for r in await cluster.list(CONTROLLERREVISIONS)) == [2, 3]
    assert (await status(cluster))["updatedNumberScheduled"] == 3


async def test_with_a_surge_the_old_pod_goes_when_the_new_one_is_available(cluster, controller, made):
    await three_nodes(cluster)
    await cluster.start(controller)
    await made(updateStrategy={"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})
    await cluster.settle()
    cluster.kubelet.hold = lambda pod: pod.object["spec"]["containers"][0]["image"] == "v2"
    await update_image(cluster, "v2")
    await cluster.settle()
    found = [pod["spec"]["containers"][0]["image"] for pod in await cluster.pods()]
    assert sorted(found) == ["busybox"] * 3 + ["v2"]
    assert (await status(cluster))["numberAvailable"] == 3
    cluster.kubelet.hold = lambda pod: False
    await cluster.advance(3.0)
    assert images_and_nodes(await cluster.pods()) == [("n1", "v2"), ("n2", "v2"), ("n3", "v2")]


async def test_failed_pods_are_replaced_with_a_delay_that_doubles(cluster, controller, made):
    await cluster.node("n1")
    await cluster.start(controller)
    await made()
    await cluster.settle()

    async def fail() -> list[str]:
        name = (await cluster.pods())[0]["metadata"]["name"]
        failed = {"status": {"phase": "Failed"}}
        await cluster.patch(PODS, name, failed, type="strategic", subresource="status")
        await cluster.settle()
        return await phases()

    async def phases() -> list[str]:
        return [pod["status"]["phase"] for pod in await cluster.pods()]

    assert await fail() == ["Running"]
    assert await fail() == ["Failed"]
    await cluster.advance(1.0, step_s=0.5)
    assert await phases() == ["Running"]
    assert await fail() == ["Failed"]
    await cluster.advance(0.5)
    assert await phases() == ["Failed"]
    await cluster.advance(1.5, step_s=0.5)
    assert await phases() == ["Running"]
    assert len(await cluster.events("FailedDaemonPod")) == 3
    assert (await cluster.events("FailedDaemonPod"))[0].endswith("on node n1, will try to kill it")


async def test_an_adopted_pod_beside_ours_is_one_too_many_and_a_relabelled_one_is_released(
    cluster, controller, made, template
):
    await cluster.node("n1")
    await cluster.start(controller)
    await made(updateStrategy={"type": "OnDelete"})
    await cluster.settle()
    ours = (await cluster.pods())[0]["metadata"]["name"]
    stray = {**template("agent"), "metadata": {"name": "zz-stray", "labels": {"app": "agent"}}}
    await cluster.create(PODS, stray)
    await cluster.advance(2.0)
    assert [pod["metadata"]["name"] for pod in await cluster.pods()] == [ours]
    await update_image(cluster, "v2")
    await cluster.settle()
    assert images_and_nodes(await cluster.pods()) == [("n1", "busybox")]
    await cluster.patch(PODS, ours, {"metadata": {"labels": {"app": "other"}}})
    await cluster.settle()
    assert images_and_nodes(await cluster.pods()) == [("n1", "busybox"), ("n1", "v2")]
    assert "ownerReferences" not in (await cluster.get(PODS, ours))["metadata"]


async def test_one_template_has_one_revision_and_a_taken_name_is_a_collision(cluster, controller, made):
    await cluster.node("n1")
    await cluster.start(controller)
    await made(revisionHistoryLimit=1)
    await cluster.settle()
    first = (await cluster.list(CONTROLLERREVISIONS))[0]
    pod = (await cluster.pods())[0]["metadata"]["uid"]
    meta = {key: first["metadata"][key] for key in ("labels", "ownerReferences")}
    copy = {**first, "metadata": {**meta, "generateName": "agent-"}, "revision": 2}
    await cluster.create(CONTROLLERREVISIONS, copy)
    await cluster.settle()
    assert len(await cluster.list(CONTROLLERREVISIONS)) == 2, "until the set is looked at anyway"
    await cluster.client.delete(CONTROLLERREVISIONS, first["metadata"]["name"], "default")
    await update_image(cluster, "v2")
    await cluster.settle()
    assert sorted(r["revision"] for r in await cluster.list(CONTROLLERREVISIONS)) == [2, 3]
    await update_image(cluster, "v3")
    await cluster.settle()
    assert sorted(r["revision"] for r in await cluster.list(CONTROLLERREVISIONS)) == [3, 4]
    taken = {"name": first["metadata"]["name"], "namespace": "default"}
    await cluster.create(CONTROLLERREVISIONS, {"metadata": taken, "data": {"x": 1}, "revision": 1})
    await update_image(cluster, "busybox")
    await cluster.settle()
    found = await status(cluster)
    assert (found["collisionCount"], found["updatedNumberScheduled"]) == (1, 1)
    assert (await cluster.pods())[0]["metadata"]["uid"] != pod
    assert await cluster.is_at_rest()
