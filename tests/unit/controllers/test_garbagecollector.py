import pytest

from orchestrator.api.item import Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import (
    CONFIGMAPS,
    DEPLOYMENTS,
    EVENTS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    REPLICASETS,
    SECRETS,
)
from orchestrator.controllers.deployment import DeploymentController
from orchestrator.controllers.garbagecollector import GarbageCollector, Owner, collected, plan
from orchestrator.controllers.replicaset import ReplicaSetController


@pytest.fixture
async def collecting(cluster):
    parts = (cluster.client, cluster.clock, cluster.recorder)
    await cluster.start(
        GarbageCollector(*parts, cluster.table), DeploymentController(*parts), ReplicaSetController(*parts)
    )
    return cluster


def reference(owner: Object, *, block: bool = True, uid: str = "") -> Object:
    meta = owner["metadata"]
    return {
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": meta["name"], "uid": uid or meta["uid"],
        "blockOwnerDeletion": block,
    }  # fmt: skip


async def config_map(cluster, name: str, *owners: Object, **meta) -> Object:
    metadata = {"name": name, "ownerReferences": list(owners), **meta}
    return await cluster.create(CONFIGMAPS, {"metadata": metadata})


async def names(cluster, resource=CONFIGMAPS) -> list[str]:
    return [obj["metadata"]["name"] for obj in await cluster.list(resource)]


@pytest.mark.parametrize(
    ("states", "blocked", "kept", "policy"),
    [
        ((Owner.ALIVE, Owner.ALIVE), False, None, ""),
        ((Owner.ALIVE, Owner.ABSENT), False, ["o0"], ""),
        ((Owner.ALIVE, Owner.WAITING), False, ["o0"], ""),
        ((Owner.ABSENT, Owner.ABSENT), False, None, "Background"),
        ((Owner.WAITING, Owner.ABSENT), False, None, "Background"),
        ((Owner.WAITING, Owner.WAITING), True, None, "Foreground"),
        ((Owner.UNKNOWN, Owner.ABSENT), False, None, ""),
    ],
)
def test_what_becomes_of_a_dependent(pod_item, states, blocked, kept, policy):
    owners = [
        {"apiVersion": "v1", "kind": "Pod", "name": f"o{n}", "uid": f"o{n}"} for n in range(len(states))
    ]
    item = pod_item("p", meta={"ownerReferences": owners})
    steps = plan(item, {f"o{n}": state for n, state in enumerate(states)}, blocked, circle=False)
    assert ([ref.uid for ref in steps.keep] if steps.keep is not None else None, steps.delete) == (
        kept,
        policy,
    )


def test_events_are_not_collected_and_everything_else_is(cluster):
    found = collected(cluster.table)
    assert {PODS, CONFIGMAPS, NODES, LEASES, REPLICASETS} <= set(found)
    assert "events" not in {row.plural for row in found}


async def test_a_deleted_deployment_takes_sets_and_pods(collecting):
    await collecting.deployment()
    await collecting.settle()
    await collecting.client.delete(DEPLOYMENTS, "web", "default")
    await collecting.settle()
    assert (await names(collecting, REPLICASETS), await names(collecting, PODS)) == ([], [])
    assert await collecting.is_at_rest()


async def test_foreground_keeps_the_owner_until_blocking_dependents_are_gone(collecting):
    await collecting.deployment()
    await collecting.settle()
    collecting.kubelet.hold = lambda pod: bool(pod.meta.deletion_timestamp)
    await collecting.client.delete(
        DEPLOYMENTS, "web", "default", DeleteOptions(propagation_policy="Foreground")
    )
    await collecting.settle()
    assert len(await names(collecting, PODS)) == 3
    assert await names(collecting, DEPLOYMENTS) == ["web"]
    collecting.kubelet.hold = lambda pod: False
    await collecting.advance(2.0)
    for resource in (DEPLOYMENTS, REPLICASETS, PODS):
        assert await names(collecting, resource) == []


async def test_orphaned_dependents_stay_without_their_reference(collecting):
    await collecting.deployment()
    await collecting.settle()
    await collecting.client.delete(DEPLOYMENTS, "web", "default", DeleteOptions(propagation_policy="Orphan"))
    await collecting.settle()
    (left,) = await collecting.list(REPLICASETS)
    assert "ownerReferences" not in left["metadata"]
    assert len(await names(collecting, PODS)) == 3


async def test_a_reference_to_a_name_with_another_uid_is_dead(collecting):
    owner = await collecting.create(SECRETS, {"metadata": {"name": "owner"}})
    await config_map(collecting, "right", reference(owner))
    await config_map(collecting, "wrong", reference(owner, uid="not-this-one"))
    await collecting.settle()
    assert await names(collecting) == ["right"]


async def test_one_living_owner_keeps_the_dependent_and_loses_the_dead_reference(collecting):
    one = await collecting.create(SECRETS, {"metadata": {"name": "one"}})
    two = await collecting.create(SECRETS, {"metadata": {"name": "two"}})
    await config_map(collecting, "shared", reference(one), reference(two))
    await collecting.client.delete(SECRETS, "one", "default")
    await collecting.settle()
    left = (await collecting.get(CONFIGMAPS, "shared"))["metadata"]["ownerReferences"]
    assert [ref["name"] for ref in left] == ["two"]
    await collecting.client.delete(SECRETS, "two", "default")
    await collecting.settle()
    assert await names(collecting) == []


async def test_owners_of_unknown_kind_decide_nothing(collecting):
    stranger = {"apiVersion": "example.com/v1", "kind": "Thing", "name": "t", "uid": "u"}
    await config_map(collecting, "kept", stranger)
    await collecting.settle()
    assert await names(collecting) == ["kept"]


async def test_an_owner_in_another_namespace_is_absent_and_told(collecting):
    await collecting.create(NAMESPACES, {"metadata": {"name": "other"}})
    owner = await collecting.create(SECRETS, {"metadata": {"name": "s"}}, "other")
    await config_map(collecting, "dependent", reference(owner))
    await collecting.settle()
    assert await names(collecting) == []
    assert len(await collecting.list(SECRETS, "other")) == 1
    (event,) = await collecting.list(EVENTS)
    assert (event["type"], event["reason"]) == ("Warning", "OwnerRefInvalidNamespace")
    assert event["involvedObject"]["name"] == "dependent"
    uid = owner["metadata"]["uid"]
    assert event["message"] == (
        f'ownerRef [v1/Secret, namespace: default, name: s, uid: {uid}] does not exist in namespace "default"'
    )


async def test_who_names_a_living_owner_wrongly_takes_nothing_from_its_real_dependents(collecting):
    await collecting.create(NAMESPACES, {"metadata": {"name": "other"}})
    owner = await collecting.create(SECRETS, {"metadata": {"name": "s"}})
    stranger = {"metadata": {"name": "stranger", "ownerReferences": [reference(owner)]}}
    await collecting.create(CONFIGMAPS, stranger, "other")
    await config_map(collecting, "mistaken", {**reference(owner), "name": "t"})
    await collecting.settle()
    await config_map(collecting, "real", reference(owner))
    await collecting.settle()
    assert await names(collecting) == ["real"]
    assert await collecting.list(CONFIGMAPS, "other") == []


async def test_a_namespaced_owner_of_a_cluster_scoped_object_decides_nothing_and_is_told(collecting):
    owner = await collecting.create(SECRETS, {"metadata": {"name": "s"}})
    await collecting.create(
        NODES, {"metadata": {"name": "n8", "ownerReferences": [reference(owner)]}}, namespace=""
    )
    await collecting.settle()
    assert "n8" in await names(collecting, NODES)
    events = await collecting.list(EVENTS)
    assert [event["reason"] for event in events] == ["OwnerRefInvalidNamespace"]


async def test_a_circle_of_owners_does_not_keep_the_collector_busy(collecting):
    one = await config_map(collecting, "one")
    two = await config_map(collecting, "two", reference(one))
    await collecting.patch(CONFIGMAPS, "one", {"metadata": {"ownerReferences": [reference(two)]}})
    assert await collecting.is_at_rest()
    await collecting.client.delete(
        CONFIGMAPS, "one", "default", DeleteOptions(propagation_policy="Foreground")
    )
    await collecting.settle()
    assert await names(collecting) == []


async def test_cluster_scoped_owners_take_namespaced_dependents(collecting):
    node = await collecting.node("n9")
    await config_map(collecting, "of-node", reference(node))
    await collecting.settle()
    assert await names(collecting) == ["of-node"]
    await collecting.client.delete(NODES, "n9")
    await collecting.settle()
    assert await names(collecting) == []


async def test_many_dependents_cost_one_look_at_the_missing_owner(collecting):
    owner = await collecting.create(SECRETS, {"metadata": {"name": "owner"}})
    for number in range(40):
        await config_map(collecting, f"c{number}", reference(owner))
    await collecting.settle()
    get, asked = collecting.client.get, []

    async def count(resource, *args, **options):
        asked.append(resource)
        return await get(resource, *args, **options)

    collecting.client.get = count
    await collecting.client.delete(SECRETS, "owner", "default")
    await collecting.settle()
    assert await names(collecting) == []
    assert len(asked) <= 4  # one per worker
