"""Claims and volumes find each other, part, and are reclaimed."""

import itertools

import pytest

from orchestrator.api.resources import (
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    STORAGECLASSES,
)
from orchestrator.controllers.persistentvolume import PersistentVolumeController
from orchestrator.controllers.volumebinder import Seen, VolumeBinder, Wait, plan
from orchestrator.scheduler.rules.volumes import Place, find_match, mismatch
from tests.unit.controllers.firstconsumer import FirstConsumer

BIND_COMPLETED, BY_CONTROLLER = "pv.kubernetes.io/bind-completed", "pv.kubernetes.io/bound-by-controller"
_uids = itertools.count()


def claim(name="c", size="1Gi", modes=("ReadWriteOnce",), meta=None, **spec):
    return {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "default", **(meta or {})},
        "spec": {"accessModes": list(modes), "resources": {"requests": {"storage": size}}, **spec},
    }  # fmt: skip


def volume(name="v", size="1Gi", modes=("ReadWriteOnce",), phase="", meta=None, **spec):
    status = {"status": {"phase": phase}} if phase else {}
    return {
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": name, **(meta or {})},
        "spec": {"capacity": {"storage": size}, "accessModes": list(modes), "hostPath": {"path": "/x"}, **spec},
        **status,
    }  # fmt: skip


def stored(obj):
    """As the API hands it out."""
    number = next(_uids)
    metadata = {"uid": f"uid-{obj['metadata']['name']}", "resourceVersion": str(number), **obj["metadata"]}
    return {**obj, "metadata": metadata}


RWO, RWX, ROX = "ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany"
AT_N1 = {
    "required": {
        "nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]}
        ]
    }
}
MINE = {"namespace": "default", "name": "c"}


@pytest.mark.parametrize(
    ("wanted", "volumes", "found"),
    [
        (claim(), [], None),
        (claim(), [volume("a")], "a"),
        (claim(), [volume("a", phase="Released")], None),
        (claim(size="2Gi"), [volume("a"), volume("b", "5Gi"), volume("c", "3Gi")], "c"),
        (claim(), [volume("a", modes=(RWX,))], None),
        (claim(), [volume("a", "1Gi", (RWO, RWX, ROX)), volume("b", "9Gi", (RWO, ROX))], "b"),
        (claim(modes=("ReadWriteOncePod",)), [volume("a"), volume("b", modes=("ReadWriteOncePod",))], "b"),
        (claim(volumeMode="Block"), [volume("a"), volume("b", volumeMode="Block")], "b"),
        (claim(storageClassName="gold"), [volume("a"), volume("b", storageClassName="gold")], "b"),
        (claim(storageClassName=""), [volume("a", storageClassName="gold"), volume("b")], "b"),
        (
            claim(selector={"matchLabels": {"disk": "ssd"}}),
            [volume("a"), volume("b", meta={"labels": {"disk": "ssd"}})],
            "b",
        ),
        (claim(), [volume("a", meta={"deletionTimestamp": "2023-11-14T22:13:20Z"}), volume("b", "9Gi")], "b"),
        (claim(), [volume("a"), volume("b", "9Gi", claimRef=MINE)], "b"),
        (claim(), [volume("b", claimRef={**MINE, "uid": "uid-other"})], None),
        (claim(size="2Gi"), [volume("b", claimRef=MINE)], None),
        (claim(), [volume("a", nodeAffinity=AT_N1)], "a"),
    ],
)
def test_the_smallest_volume_that_suits_is_found(wanted, volumes, found):
    given = [stored({**v, "status": v.get("status") or {"phase": "Available"}}) for v in volumes]
    match = find_match(stored(wanted), given)
    assert (match and match["metadata"]["name"]) == found


@pytest.mark.parametrize(("node", "found"), [("n1", True), ("n2", False), (None, False)])
def test_a_delayed_claim_takes_a_volume_that_the_node_reaches(node, found):
    place = Place(node, {"kubernetes.io/hostname": node}) if node else None
    given = [stored(volume(phase="Available", nodeAffinity=AT_N1))]
    assert bool(find_match(stored(claim()), given, place, delayed=True)) is found


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (volume(), ""),
        (volume(size="1Mi"), "requested PV is too small"),
        (volume(storageClassName="x"), "storageClassName does not match"),
        (volume(volumeMode="Block"), "incompatible volumeMode"),
        (volume(modes=(ROX,)), "incompatible accessMode"),
    ],
)
def test_a_volume_that_is_named_must_suit(given, why):
    assert mismatch(stored(given), stored(claim())) == why
    named = stored(claim(volumeName="v"))
    step = plan(named, Seen(volume=stored(given)))
    expected = Wait("Warning", "VolumeMismatch", f'Cannot bind to requested volume "v": {why}')
    assert (step == expected) is bool(why)


CLASS = {"provisioner": "example.com/disks", "volumeBindingMode": "Immediate"}
LATE = {**CLASS, "volumeBindingMode": "WaitForFirstConsumer"}


@pytest.mark.parametrize(
    ("wanted", "seen", "reason"),
    [
        (claim(), Seen(), "FailedBinding"),
        (claim(storageClassName="x"), Seen(), "ProvisioningFailed"),
        (
            claim(storageClassName="x"),
            Seen(storage_class={**CLASS, "provisioner": "kubernetes.io/no-provisioner"}),
            "ProvisioningFailed",
        ),
        (claim(storageClassName="x"), Seen(storage_class=LATE), "WaitForFirstConsumer"),
        (claim(storageClassName="x"), Seen(storage_class=LATE, unscheduled=["p"]), "WaitForPodScheduled"),
        (claim(volumeName="v"), Seen(), ""),
        (
            claim(volumeName="v"),
            Seen(volume=stored(volume(claimRef={**MINE, "name": "other"}))),
            "FailedBinding",
        ),
        (claim(meta={"deletionTimestamp": "2023-11-14T22:13:20Z"}), Seen(volumes=[stored(volume())]), ""),
    ],
)
def test_a_claim_that_waits_says_why(wanted, seen, reason):
    step = plan(stored(wanted), seen)
    assert isinstance(step, Wait)
    assert step.reason == reason


async def started(cluster):
    parts = (cluster.client, cluster.clock, cluster.recorder)
    controllers = [kind(*parts) for kind in (VolumeBinder, PersistentVolumeController, FirstConsumer)]
    await cluster.start(*controllers, kubelet=False)


async def phases(cluster, *names):
    await cluster.settle()
    volumes = {v["metadata"]["name"]: v for v in await cluster.list(PERSISTENTVOLUMES, None)}
    claims = {c["metadata"]["name"]: c for c in await cluster.list(PERSISTENTVOLUMECLAIMS)}
    return [{**claims, **volumes}[name]["status"]["phase"] for name in names]


async def test_binding_marks_both_and_then_rests(cluster):
    await started(cluster)
    await cluster.create(PERSISTENTVOLUMES, volume("big", "5Gi"))
    await cluster.create(PERSISTENTVOLUMES, volume("small", "2Gi"))
    await cluster.create(PERSISTENTVOLUMECLAIMS, claim())
    assert await phases(cluster, "c", "small", "big") == ["Bound", "Bound", "Available"]
    bound = await cluster.get(PERSISTENTVOLUMECLAIMS, "c")
    assert bound["spec"]["volumeName"] == "small"
    assert bound["status"] == {"phase": "Bound", "accessModes": [RWO], "capacity": {"storage": "2Gi"}}
    assert bound["metadata"]["annotations"] == {BIND_COMPLETED: "yes", BY_CONTROLLER: "yes"}
    owner = await cluster.get(PERSISTENTVOLUMES, "small")
    assert owner["spec"]["claimRef"]["uid"] == bound["metadata"]["uid"]
    assert owner["metadata"]["annotations"] == {BY_CONTROLLER: "yes"}
    assert await cluster.is_at_rest()


async def test_many_claims_at_once_get_one_volume_each(cluster):
    await started(cluster)
    for number in range(30):
        await cluster.create(PERSISTENTVOLUMECLAIMS, claim(f"c{number}"))
    for number in range(30):
        await cluster.create(PERSISTENTVOLUMES, volume(f"v{number}"))
    await cluster.advance(5)
    claims = await cluster.list(PERSISTENTVOLUMECLAIMS)
    assert {c["status"]["phase"] for c in claims} == {"Bound"}
    assert len({c["spec"]["volumeName"] for c in claims}) == 30
    assert await cluster.is_at_rest()


@pytest.mark.parametrize("side", ["volume", "claim"])
async def test_who_was_reserved_by_name_is_bound_without_a_mark(cluster, side):
    await started(cluster)
    await cluster.create(PERSISTENTVOLUMES, volume("other"))
    reserved = {"claimRef": MINE} if side == "volume" else {}
    await cluster.create(PERSISTENTVOLUMES, volume("v", "9Gi", **reserved))
    assert await phases(cluster, "v") == ["Available"]
    await cluster.create(PERSISTENTVOLUMECLAIMS, claim(**({"volumeName": "v"} if side == "claim" else {})))
    assert await phases(cluster, "c", "v") == ["Bound", "Bound"]
    marks = [
        BY_CONTROLLER in ((await cluster.get(kind, name))["metadata"].get("annotations") or {})
        for kind, name in ((PERSISTENTVOLUMES, "v"), (PERSISTENTVOLUMECLAIMS, "c"))
    ]
    assert marks == ([False, True] if side == "volume" else [True, False])


async def test_a_claim_waits_for_the_volume_that_it_names(cluster):
    await started(cluster)
    await cluster.create(PERSISTENTVOLUMECLAIMS, claim(volumeName="v"))
    assert await phases(cluster, "c") == ["Pending"]
    await cluster.create(PERSISTENTVOLUMES, volume("v"))
    assert await phases(cluster, "c", "v") == ["Bound", "Bound"]


@pytest.mark.parametrize(
    ("policy", "provisioner", "phase", "reason"),
    [
        ("Retain", "", "Released", ""),
        ("Delete", "", "Failed", "VolumeFailedDelete"),
        ("Delete", "example.com/disks", "Released", ""),
        ("Recycle", "", "Failed", "VolumeFailedRecycle"),
    ],
)
async def test_a_volume_whose_claim_is_gone_is_reclaimed(cluster, policy, provisioner, phase, reason):
    await started(cluster)
    marks = {"annotations": {"pv.kubernetes.io/provisioned-by": provisioner}} if provisioner else {}
    given = volume("v", meta=marks, persistentVolumeReclaimPolicy=policy)
    await cluster.create(PERSISTENTVOLUMES, given)
    await cluster.create(PERSISTENTVOLUMECLAIMS, claim())
    assert await phases(cluster, "c") == ["Bound"]
    await cluster.client.delete(PERSISTENTVOLUMECLAIMS, "c", "default")
    assert await phases(cluster, "v") == [phase]
    if reason:
        assert await cluster.events(reason)
    await cluster.create(PERSISTENTVOLUMECLAIMS, claim())
    assert await phases(cluster, "c", "v") == ["Pending", phase]
    assert await cluster.is_at_rest()


async def test_a_claim_that_lost_its_volume_is_lost_and_found(cluster):
    await started(cluster)
    await cluster.create(PERSISTENTVOLUMES, volume("v"))
    await cluster.create(PERSISTENTVOLUMECLAIMS, claim())
    assert await phases(cluster, "c") == ["Bound"]
    kept = await cluster.get(PERSISTENTVOLUMES, "v")
    await cluster.client.delete(PERSISTENTVOLUMES, "v")
    assert await phases(cluster, "c") == ["Lost"]
    assert await cluster.events("ClaimLost")
    again = volume("v", claimRef={**MINE, "uid": kept["spec"]["claimRef"]["uid"]})
    await cluster.create(PERSISTENTVOLUMES, again)
    assert await phases(cluster, "c", "v") == ["Bound", "Bound"]
    assert await cluster.is_at_rest()


async def test_a_claim_bound_to_the_volume_of_another_is_lost(cluster):
    await started(cluster)
    await cluster.create(PERSISTENTVOLUMES, volume("v"))
    await cluster.create(PERSISTENTVOLUMECLAIMS, claim("first"))
    await cluster.settle()
    second = claim("second", volumeName="v", meta={"annotations": {BIND_COMPLETED: "yes"}})
    await cluster.create(PERSISTENTVOLUMECLAIMS, second)
    assert await phases(cluster, "first", "second") == ["Bound", "Lost"]
    assert await cluster.events("ClaimMisbound")


async def test_a_volume_whose_claim_went_elsewhere_is_available_again(cluster):
    await started(cluster)
    await cluster.create(PERSISTENTVOLUMES, volume("v"))
    await cluster.create(PERSISTENTVOLUMECLAIMS, claim())
    assert await phases(cluster, "v") == ["Bound"]
    bound = await cluster.get(PERSISTENTVOLUMECLAIMS, "c")
    stray = {**MINE, "uid": bound["metadata"]["uid"]}
    await cluster.create(PERSISTENTVOLUMES, volume("stray", claimRef=stray))
    marked = {"annotations": {BY_CONTROLLER: "yes"}}
    await cluster.create(PERSISTENTVOLUMES, volume("ours", meta=marked, claimRef=stray))
    assert await phases(cluster, "stray", "ours") == ["Available", "Available"]
    assert (await cluster.get(PERSISTENTVOLUMES, "stray"))["spec"]["claimRef"]["name"] == "c"
    assert "claimRef" not in (await cluster.get(PERSISTENTVOLUMES, "ours"))["spec"]
    assert await cluster.is_at_rest()


async def test_a_default_class_that_comes_late_is_given_to_those_that_wait(cluster):
    await started(cluster)
    await cluster.create(PERSISTENTVOLUMECLAIMS, claim())
    await cluster.create(PERSISTENTVOLUMECLAIMS, claim("none", storageClassName=""))
    assert await phases(cluster, "c") == ["Pending"]
    assert len(await cluster.events("FailedBinding")) == 2
    mark = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    await cluster.create(STORAGECLASSES, {"metadata": {"name": "disks", **mark}, **CLASS})
    await cluster.settle()
    late = await cluster.get(PERSISTENTVOLUMECLAIMS, "c")
    assert late["spec"]["storageClassName"] == "disks"
    assert late["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"] == CLASS["provisioner"]
    assert (await cluster.get(PERSISTENTVOLUMECLAIMS, "none"))["spec"]["storageClassName"] == ""
    assert await cluster.events("ExternalProvisioning")
    assert await cluster.is_at_rest()


async def test_a_local_volume_is_taken_where_the_pod_is(cluster):
    await started(cluster)
    for name in ("n1", "n2"):
        await cluster.node(name)
    local = {**LATE, "provisioner": "kubernetes.io/no-provisioner"}
    await cluster.create(STORAGECLASSES, {"metadata": {"name": "local"}, **local})
    hosts = ("n2", "n1")
    for host in hosts:
        [term] = AT_N1["required"]["nodeSelectorTerms"]
        [expression] = term["matchExpressions"]
        affinity = {
            "required": {"nodeSelectorTerms": [{"matchExpressions": [{**expression, "values": [host]}]}]}
        }
        given = volume(f"at-{host}", storageClassName="local", nodeAffinity=affinity)
        await cluster.create(PERSISTENTVOLUMES, given)
    await cluster.create(PERSISTENTVOLUMECLAIMS, claim(storageClassName="local"))
    assert await phases(cluster, "c") == ["Pending"]
    assert await cluster.events("WaitForFirstConsumer")
    spec = {
        "containers": [{"name": "main", "image": "i"}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "c"}}],
    }
    await cluster.create(PODS, {"metadata": {"name": "p"}, "spec": spec})
    await cluster.settle()
    assert await cluster.events("WaitForPodScheduled") == ["waiting for pod p to be scheduled"]
    target = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}}
    await cluster.client.create(PODS, target, "default", subresource="binding", name="p")
    assert await phases(cluster, "c", "at-n1", "at-n2") == ["Bound", "Bound", "Available"]
    assert await cluster.is_at_rest()


async def test_the_best_of_very_many_volumes_is_found(cluster, monkeypatch):
    monkeypatch.setattr("orchestrator.controllers.volumebinder.SLICE", 3)
    await started(cluster)
    for number in range(10):
        await cluster.create(PERSISTENTVOLUMES, volume(f"v{number}", f"{2 + (number * 7) % 10}Gi"))
    await cluster.settle()
    await cluster.create(PERSISTENTVOLUMECLAIMS, claim())
    assert await phases(cluster, "c", "v0") == ["Bound", "Bound"]
    await cluster.create(PERSISTENTVOLUMECLAIMS, claim("next", "3Gi"))
    assert await phases(cluster, "next", "v3") == ["Bound", "Bound"]
