import pytest

from orchestrator.api.errors import NotFound
from orchestrator.api.item import Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import (
    CONTROLLERREVISIONS,
    PERSISTENTVOLUMECLAIMS,
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


async def test_pods_come_in_order_and_a_sick_one_halts_scaling(cluster, controller, made):
    cluster.kubelet.hold = lambda pod: pod.meta.name == "web-1"
    await cluster.start(controller)
    await made(replicas=3)
    await cluster.settle()
    assert await names(cluster) == ["web-0", "web-1"]
    cluster.kubelet.hold = lambda pod: False
    await cluster.advance(2.0)
    assert await names(cluster) == ["web-0", "web-1", "web-2"]
    sick = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    await cluster.patch(PODS, "web-0", sick, type="strategic", subresource="status")
    await cluster.patch(STATEFULSETS, "web", {"spec": {"replicas": 1}})
    await cluster.settle()
    assert await names(cluster) == ["web-0", "web-1", "web-2"]
    well = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    await cluster.patch(PODS, "web-0", well, type="strategic", subresource="status")
    await cluster.settle()
    assert await names(cluster) == ["web-0"]
    deleted = [
        "delete Pod web-2 in StatefulSet web successful",
        "delete Pod web-1 in StatefulSet web successful",
    ]
    assert await cluster.events("SuccessfulDelete") == deleted


async def test_a_rollout_goes_down_to_the_partition_and_a_rollback_brings_the_revision_back(
    cluster, controller, made
):
    await cluster.start(controller)
    await made()
    await cluster.settle()
    first = (await status(cluster))["updateRevision"]
    await update_image(cluster, "v2", updateStrategy={"rollingUpdate": {"partition": 2}})
    await cluster.settle()
    assert await images(cluster) == {"web-0": "busybox", "web-1": "busybox", "web-2": "v2"}
    found = await status(cluster)
    assert (found["currentRevision"], found["currentReplicas"], found["updatedReplicas"]) == (first, 2, 1)
    await cluster.client.delete(PODS, "web-0", "default")
    await cluster.settle()
    assert (await images(cluster))["web-0"] == "busybox"
    await cluster.patch(
        STATEFULSETS, "web", {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}
    )
    await cluster.settle()
    assert set((await images(cluster)).values()) == {"v2"}
    second = (await status(cluster))["currentRevision"]
    assert second == (await status(cluster))["updateRevision"] != first
    await update_image(cluster, "busybox")
    await cluster.settle()
    revisions = {r["metadata"]["name"]: r["revision"] for r in await cluster.list(CONTROLLERREVISIONS)}
    assert (revisions, (await status(cluster))["currentRevision"]) == ({first: 3, second: 2}, first)
    assert await cluster.is_at_rest()


async def test_what_kubectl_rolls_back_to_is_the_data_of_a_revision(cluster, controller, made):
    await cluster.start(controller)
    await made(replicas=1)
    await cluster.settle()
    revision = (await cluster.list(CONTROLLERREVISIONS))[0]
    await update_image(cluster, "v2")
    await cluster.settle()
    await cluster.patch(STATEFULSETS, "web", revision["data"], type="strategic")
    await cluster.settle()
    assert (await status(cluster))["currentRevision"] == revision["metadata"]["name"]
    assert await images(cluster) == {"web-0": "busybox"}


async def test_a_broken_pod_of_an_old_revision_is_replaced_at_once_in_parallel(cluster, controller, made):
    cluster.kubelet.hold = lambda pod: pod.object["spec"]["containers"][0]["image"] == "busybox"
    await cluster.start(controller)
    await made(podManagementPolicy="Parallel")
    await cluster.settle()
    assert await names(cluster) == ["web-0", "web-1", "web-2"]
    cluster.kubelet.hold = lambda pod: (
        pod.object["spec"]["containers"][0]["image"] == "busybox" and not pod.meta.deletion_timestamp
    )
    await update_image(cluster, "v2")
    await cluster.advance(3.0)
    assert set((await images(cluster)).values()) == {"v2"}
    assert (await status(cluster))["readyReplicas"] == 3


async def test_a_pod_that_ended_is_made_anew_when_it_is_really_gone(cluster, controller, made):
    await cluster.start(controller)
    await made(replicas=2)
    await cluster.settle()
    old = await cluster.get(PODS, "web-0")
    await cluster.patch(PODS, "web-0", {"metadata": {"finalizers": ["example.com/wait"]}})
    failed = {"status": {"phase": "Failed", "reason": "Evicted"}}
    await cluster.patch(PODS, "web-0", failed, type="strategic", subresource="status")
    await cluster.settle()
    ending = (await cluster.get(PODS, "web-0"))["metadata"]
    assert (ending["uid"], "deletionTimestamp" in ending) == (old["metadata"]["uid"], True)
    await cluster.patch(PODS, "web-0", {"metadata": {"finalizers": None}})
    await cluster.settle()
    anew = await cluster.get(PODS, "web-0")
    assert anew["metadata"]["uid"] != old["metadata"]["uid"]
    assert await cluster.events("SuccessfulDelete") == ["delete Pod web-0 in StatefulSet web successful"]
    assert (await status(cluster))["readyReplicas"] == 2


async def test_a_place_that_is_taken_is_waited_for_and_an_orphan_is_adopted(
    cluster, controller, made, template
):
    await cluster.start(controller)
    other = {**template("other"), "metadata": {"name": "web-0", "labels": {"app": "other"}}}
    await cluster.create(PODS, other)
    await made(replicas=1)
    await cluster.settle()
    assert "replicas" not in await status(cluster) or (await status(cluster))["replicas"] == 0
    assert not await cluster.events("FailedCreate")
    await cluster.client.delete(PODS, "web-0", "default")
    await cluster.settle()
    uid = (await cluster.get(STATEFULSETS, "web"))["metadata"]["uid"]
    assert (await cluster.get(PODS, "web-0"))["metadata"]["ownerReferences"][0]["uid"] == uid
    patch = {"metadata": {"ownerReferences": None, "labels": {"statefulset.kubernetes.io/pod-name": None}}}
    await cluster.patch(PODS, "web-0", patch)
    await cluster.settle()
    meta = (await cluster.get(PODS, "web-0"))["metadata"]
    assert meta["ownerReferences"][0]["uid"] == uid
    assert meta["labels"]["statefulset.kubernetes.io/pod-name"] == "web-0"
    assert await cluster.events("SuccessfulUpdate") == ["update Pod web-0 in StatefulSet web successful"]
    assert await cluster.is_at_rest()


async def test_pods_have_their_claims_and_wait_for_the_end_of_an_old_one(cluster, controller, made):
    await cluster.start(controller)
    claim = {**CLAIM, "metadata": {"name": "data-web-0", "finalizers": ["example.com/wait"]}}
    await cluster.create(PERSISTENTVOLUMECLAIMS, claim)
    await cluster.client.delete(PERSISTENTVOLUMECLAIMS, "data-web-0", "default")
    await made(replicas=1, volumeClaimTemplates=[CLAIM])
    await cluster.settle()
    assert await names(cluster) == []
    refused = "create Pod web-0 in StatefulSet web failed error: pvc data-web-0 is being deleted"
    assert set(await cluster.events("FailedCreate")) == {refused}
    await cluster.patch(PERSISTENTVOLUMECLAIMS, "data-web-0", {"metadata": {"finalizers": None}})
    await cluster.settle()
    assert await names(cluster) == ["web-0"]
    made_claim = await cluster.get(PERSISTENTVOLUMECLAIMS, "data-web-0")
    assert made_claim["metadata"]["labels"] == {"app": "web", "tier": "db"}
    assert "ownerReferences" not in made_claim["metadata"]
    volumes = (await cluster.get(PODS, "web-0"))["spec"]["volumes"]
    assert volumes[0] == {"name": "data", "persistentVolumeClaim": {"claimName": "data-web-0"}}
    assert "create Claim data-web-0 Pod web-0 in StatefulSet web success" in await cluster.events(
        "SuccessfulCreate"
    )


async def test_claims_of_pods_scaled_away_go_with_them(cluster, controller, made):
    await cluster.start(controller)
    policy = {"whenDeleted": "Delete", "whenScaled": "Delete"}
    await made(replicas=2, volumeClaimTemplates=[CLAIM], persistentVolumeClaimRetentionPolicy=policy)
    await cluster.settle()

    async def owners(name: str) -> list[str]:
        found = await cluster.get(PERSISTENTVOLUMECLAIMS, name)
        return [entry["kind"] for entry in found["metadata"].get("ownerReferences") or ()]

    assert [await owners(f"data-web-{n}") for n in (0, 1)] == [["StatefulSet"], ["StatefulSet"]]
    await cluster.patch(STATEFULSETS, "web", {"spec": {"replicas": 1}})
    await cluster.settle()
    assert (await names(cluster), await owners("data-web-1")) == (["web-0"], ["Pod"])
    await cluster.patch(STATEFULSETS, "web", {"spec": {"replicas": 2}})
    await cluster.settle()
    assert await names(cluster) == ["web-0"], "the claim is about to be collected"
    await cluster.client.delete(PERSISTENTVOLUMECLAIMS, "data-web-1", "default")
    await cluster.settle()
    assert (await names(cluster), await owners("data-web-1")) == (["web-0", "web-1"], ["StatefulSet"])
    retain = {"whenDeleted": "Retain", "whenScaled": "Retain"}
    await cluster.patch(STATEFULSETS, "web", {"spec": {"persistentVolumeClaimRetentionPolicy": retain}})
    await cluster.settle()
    assert [await owners(f"data-web-{n}") for n in (0, 1)] == [[], []]
    assert await cluster.is_at_rest()


async def test_a_pod_is_available_only_after_min_ready_seconds(cluster, controller, made):
    await cluster.start(controller)
    await made(replicas=2, minReadySeconds=30)
    await cluster.settle()
    await cluster.advance(60.0)
    assert (await status(cluster))["availableReplicas"] == 2


async def test_history_keeps_to_its_limit_and_a_taken_name_is_a_collision(cluster, controller, made):
    await cluster.start(controller)
    await made(replicas=1, revisionHistoryLimit=1)
    await cluster.settle()
    taken = (await cluster.list(CONTROLLERREVISIONS))[0]
    for image in ("v2", "v3", "v4"):
        await update_image(cluster, image)
        await cluster.settle()
    revisions = sorted(r["revision"] for r in await cluster.list(CONTROLLERREVISIONS))
    assert revisions == [3, 4]
    strange = {key: taken["metadata"][key] for key in ("name", "namespace")}
    await cluster.create(CONTROLLERREVISIONS, {"metadata": strange, "data": {"x": 1}, "revision": 1})
    await update_image(cluster, "busybox")
    await cluster.settle()
    found = await status(cluster)
    assert (found["collisionCount"], found["readyReplicas"]) == (1, 1)
    assert found["updateRevision"] not in (taken["metadata"]["name"], "")


async def test_a_set_that_is_being_deleted_makes_nothing_any_more(cluster, controller, made):
    await cluster.start(controller)
    await made(replicas=2)
    await cluster.settle()
    await cluster.client.delete(
        STATEFULSETS, "web", "default", DeleteOptions(propagation_policy="Foreground")
    )
    for revision in await cluster.list(CONTROLLERREVISIONS):
        await cluster.client.delete(CONTROLLERREVISIONS, revision["metadata"]["name"], "default")
    await cluster.client.delete(PODS, "web-0", "default")
    await cluster.settle()
    assert (await names(cluster), await cluster.list(CONTROLLERREVISIONS)) == (["web-1"], [])
    assert (await status(cluster))["replicas"] == 1
    await cluster.patch(STATEFULSETS, "web", {"metadata": {"finalizers": None}})
    await cluster.settle()
    with pytest.raises(NotFound):
        await cluster.get(STATEFULSETS, "web")
