import pytest

from orchestrator.api.errors import InternalError
from orchestrator.api.item import Object
from orchestrator.api.resources import PODS, REPLICASETS
from orchestrator.controllers.replicaset import ReplicaSetController


@pytest.fixture
def controller(cluster):
    return ReplicaSetController(cluster.client, cluster.clock, cluster.recorder)


def replica_set(name="rs", replicas=3, **spec) -> Object:
    labels = {"app": name}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "busybox"}]}}
    return {
        "metadata": {"name": name, "namespace": "default", "uid": "u"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod, **spec},
    }


async def test_pods_are_made_counted_and_replaced(cluster, controller):
    await cluster.start(controller)
    await cluster.create(REPLICASETS, replica_set())
    await cluster.settle()
    pods = await cluster.pods()
    assert len(pods) == 3
    owner = pods[0]["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"], owner["controller"], owner["blockOwnerDeletion"]) == (
        "ReplicaSet", "rs", True, True,
    )  # fmt: skip
    await cluster.client.delete(PODS, pods[0]["metadata"]["name"], "default")
    await cluster.settle()
    assert len(await cluster.pods()) == 3
    status = (await cluster.get(REPLICASETS, "rs"))["status"]
    counted = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas")
    assert [status[name] for name in counted] == [3, 3, 3, 3]
    assert len(await cluster.events("SuccessfulCreate")) == 4
    assert await cluster.is_at_rest()


async def test_a_cache_that_lags_never_makes_a_pod_too_many(cluster, controller):
    await cluster.start(controller)
    pods = cluster.informers.of(PODS)
    take, held = pods._take, []

    async def hold(batch):
        held.append(batch)

    pods._take = hold
    await cluster.create(REPLICASETS, replica_set(replicas=20))
    await cluster.settle()
    for _ in range(5):
        await cluster.patch(REPLICASETS, "rs", {"metadata": {"annotations": {"poke": str(_)}}})
        await cluster.settle()
    assert len(await cluster.pods()) == 20
    pods._take = take
    for batch in held:
        await take(batch)
    await cluster.settle()
    assert len(await cluster.pods()) == 20


async def test_a_matching_orphan_is_adopted_and_a_relabelled_pod_released(cluster, controller):
    await cluster.start(controller)
    orphan = replica_set()["spec"]["template"]
    await cluster.create(PODS, {**orphan, "metadata": {"name": "orphan", "labels": {"app": "rs"}}})
    await cluster.create(REPLICASETS, replica_set(replicas=2))
    await cluster.settle()
    pods = await cluster.pods()
    assert len(pods) == 2
    assert all(pod["metadata"]["ownerReferences"][0]["name"] == "rs" for pod in pods)
    await cluster.patch(PODS, "orphan", {"metadata": {"labels": {"app": "other"}}})
    await cluster.settle()
    assert len(await cluster.pods()) == 3
    assert "ownerReferences" not in (await cluster.get(PODS, "orphan"))["metadata"]


async def test_a_refused_template_costs_one_request_and_shows_in_the_condition(cluster, controller):
    await cluster.start(controller)
    tried = []

    async def refuse(resource, *args, **options) -> Object:
        tried.append(resource)
        raise InternalError("quota exceeded")

    create, cluster.client.create = cluster.client.create, refuse
    await create(
        REPLICASETS, {"apiVersion": "apps/v1", "kind": "ReplicaSet", **replica_set(replicas=50)}, "default"
    )
    await cluster.settle()
    status = (await cluster.get(REPLICASETS, "rs"))["status"]
    assert [(c["type"], c["reason"], c["message"]) for c in status["conditions"]] == [
        ("ReplicaFailure", "FailedCreate", "quota exceeded")
    ]
    attempts = sum(resource is PODS for resource in tried)
    assert attempts < 10
    cluster.client.create = create
    await cluster.advance(5.0)
    assert len(await cluster.pods()) == 50
    assert "conditions" not in (await cluster.get(REPLICASETS, "rs"))["status"]


async def test_orphans_of_other_labels_are_not_looked_at(cluster, controller):
    await cluster.start(controller)
    for number in range(20):
        spec = replica_set()["spec"]["template"]["spec"]
        meta = {"name": f"stranger-{number}", "labels": {"app": "stranger"}}
        await cluster.create(PODS, {"metadata": meta, "spec": spec})
    await cluster.create(REPLICASETS, replica_set(replicas=1))
    await cluster.settle()
    pods = cluster.informers.of(PODS)
    assert len(pods.by_index("orphan", "default/app=stranger")) == 20
    assert pods.by_index("orphan", "default/app=rs") == []
    assert len(await cluster.pods()) == 21


async def test_two_sets_of_one_selector_share_no_pod_and_rest(cluster, controller):
    await cluster.start(controller)
    await cluster.create(REPLICASETS, replica_set("one", replicas=2, **_selecting("rs")))
    await cluster.create(REPLICASETS, replica_set("two", replicas=3, **_selecting("rs")))
    await cluster.settle()
    owners = sorted(pod["metadata"]["ownerReferences"][0]["name"] for pod in await cluster.pods())
    assert owners == ["one"] * 2 + ["two"] * 3
    assert await cluster.is_at_rest()


async def test_a_large_set_tells_of_its_pods_together_and_in_the_end_rightly(cluster, controller):
    await cluster.start(controller)
    written, update = [], cluster.client.update

    async def noting(resource, obj, **options) -> Object:
        written.append(obj)
        return await update(resource, obj, **options)

    cluster.client.update = noting
    await cluster.create(REPLICASETS, replica_set(replicas=40))
    await cluster.settle()
    await cluster.settle()
    assert (await cluster.get(REPLICASETS, "rs"))["status"]["availableReplicas"] == 40
    assert len(written) < 12
    assert await cluster.is_at_rest()


def _selecting(label: str) -> Object:
    labels = {"app": label}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "busybox"}]}}
    return {"selector": {"matchLabels": labels}, "template": pod}
