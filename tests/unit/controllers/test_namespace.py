import pytest

from orchestrator.api.errors import ApiError, InternalError
from orchestrator.api.resources import APISERVICES, CONFIGMAPS, NAMESPACES, PODS, SECRETS, SERVICEACCOUNTS
from orchestrator.controllers.namespace import NamespaceController, Rest, conditions, contents, is_away
from orchestrator.controllers.rootca import NAME, RootCaPublisher
from orchestrator.controllers.serviceaccount import ServiceAccountController

POD = {"containers": [{"name": "c", "image": "i"}]}


@pytest.fixture
async def spaces(cluster):
    parts = (cluster.client, cluster.clock, cluster.recorder)
    await cluster.start(
        NamespaceController(*parts, cluster.table),
        ServiceAccountController(*parts),
        RootCaPublisher(*parts, "PEM"),
    )
    await cluster.create(NAMESPACES, {"metadata": {"name": "team"}})
    await cluster.settle()
    return cluster


async def names(cluster) -> list[str]:
    return [namespace["metadata"]["name"] for namespace in await cluster.list(NAMESPACES, None)]


def test_every_stored_namespaced_resource_is_emptied_pods_first(cluster):
    rows = contents(cluster.table)
    assert rows[0] is PODS
    assert {CONFIGMAPS, SECRETS, SERVICEACCOUNTS} <= set(rows)
    assert all(row.stored and row.namespaced for row in rows)


def test_conditions_name_what_remains_and_keep_their_time():
    rest = Rest()
    rest.counts.update({"pods": 2, "x.example.com": 1})
    rest.finalizers.update({"example.com/hold": 1})
    first = conditions([], rest, "t1")
    found = {c["type"]: (c["status"], c["message"]) for c in first}
    assert found["NamespaceContentRemaining"] == (
        "True", "Some resources are remaining: pods. has 2 resource instances, x.example.com has 1 resource instances",
    )  # fmt: skip
    assert found["NamespaceFinalizersRemaining"] == (
        "True",
        "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances",
    )
    assert conditions(first, rest, "t2") is first


def api_service(group, status, **spec):
    conditions = [{"type": "Available", "status": status}]
    return {
        "metadata": {"name": f"v1.{group}"},
        "spec": {"group": group, "version": "v1", **spec},
        "status": {"conditions": conditions},
    }


def test_only_other_servers_that_do_not_answer_are_away():
    service = {"service": {"namespace": "n", "name": "s"}}
    assert is_away(api_service("a.b", "False", **service))
    assert not is_away(api_service("a.b", "True", **service))
    assert is_away({**api_service("a.b", "True", **service), "status": {}})
    assert not is_away(api_service("apps", "False"))


async def test_a_namespace_waits_for_the_servers_that_may_hold_more_of_it(spaces):
    remote = api_service(
        "metrics.example.com", "False", service={"namespace": "default", "name": "m"},
        groupPriorityMinimum=100, versionPriority=10,
    )  # fmt: skip
    made = await spaces.create(APISERVICES, {**remote, "status": {}}, "")
    made = {**made, "status": remote["status"]}
    await spaces.client.update(APISERVICES, made, subresource="status")
    await spaces.client.delete(NAMESPACES, "team")
    await spaces.settle()
    held = (await spaces.get(NAMESPACES, "team", ""))["status"]["conditions"]
    found = {c["type"]: (c["status"], c["reason"], c["message"]) for c in held}
    assert found["NamespaceDeletionDiscoveryFailure"] == (
        "True",
        "DiscoveryFailed",
        "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: "
        "metrics.example.com/v1: stale GroupVersion discovery: metrics.example.com/v1",
    )
    await spaces.client.delete(APISERVICES, "v1.metrics.example.com")
    await spaces.advance(10)
    assert "team" not in await names(spaces)


async def test_a_deleted_namespace_takes_everything_with_it(spaces):
    for number in range(5):
        await spaces.create(CONFIGMAPS, {"metadata": {"name": f"c{number}"}}, "team")
    await spaces.create(PODS, {"metadata": {"name": "p"}, "spec": POD}, "team")
    await spaces.settle()
    await spaces.client.delete(NAMESPACES, "team")
    await spaces.advance(2.0)
    assert await names(spaces) == ["default"]
    assert await spaces.list(CONFIGMAPS, "team") == []
    assert len(await spaces.list(CONFIGMAPS, "default")) == 1
    assert await spaces.is_at_rest()


async def test_a_finalizer_holds_the_namespace_and_is_named(spaces):
    held = {"metadata": {"name": "held", "finalizers": ["example.com/hold"]}}
    await spaces.create(CONFIGMAPS, held, "team")
    await spaces.client.delete(NAMESPACES, "team")
    await spaces.advance(5.0)
    namespace = await spaces.client.get(NAMESPACES, "team")
    assert namespace["status"]["phase"] == "Terminating"
    found = {c["type"]: c["status"] for c in namespace["status"]["conditions"]}
    assert found["NamespaceFinalizersRemaining"] == "True"
    assert await spaces.is_at_rest(20.0)
    await spaces.patch(CONFIGMAPS, "held", {"metadata": {"finalizers": None}}, namespace="team")
    await spaces.advance(10.0)
    assert await names(spaces) == ["default"]


async def test_what_pods_live_by_stays_until_they_are_gone(spaces):
    await spaces.create(CONFIGMAPS, {"metadata": {"name": "c"}}, "team")
    await spaces.create(PODS, {"metadata": {"name": "p"}, "spec": POD}, "team")
    await spaces.settle()
    spaces.kubelet.hold = lambda pod: True
    await spaces.client.delete(NAMESPACES, "team")
    await spaces.advance(5.0)
    assert "c" in [obj["metadata"]["name"] for obj in await spaces.list(CONFIGMAPS, "team")]
    (pod,) = await spaces.list(PODS, "team")
    assert pod["metadata"]["deletionTimestamp"]
    spaces.kubelet.hold = lambda pod: False
    await spaces.advance(10.0)
    assert await names(spaces) == ["default"]


async def test_one_resource_that_fails_does_not_keep_the_others(spaces):
    await spaces.create(CONFIGMAPS, {"metadata": {"name": "c"}}, "team")
    await spaces.create(SECRETS, {"metadata": {"name": "s"}}, "team")
    delete = spaces.client.delete_collection

    async def refuse(resource, *args, **options):
        if resource is CONFIGMAPS:
            raise InternalError("disk on fire")
        await delete(resource, *args, **options)

    spaces.client.delete_collection = refuse
    await spaces.client.delete(NAMESPACES, "team")
    await spaces.advance(5.0)
    assert await spaces.list(SECRETS, "team") == []
    namespace = await spaces.client.get(NAMESPACES, "team")
    failure = {c["type"]: c for c in namespace["status"]["conditions"]}["NamespaceDeletionContentFailure"]
    assert failure["message"] == "Failed to delete all resource types, 1 remaining: configmaps: disk on fire"
    spaces.client.delete_collection = delete
    await spaces.advance(10.0)
    assert await names(spaces) == ["default"]


async def test_a_namespace_has_its_account_and_ca_and_gets_them_back(spaces):
    assert (await spaces.get(SERVICEACCOUNTS, "default", "team"))["metadata"]["name"] == "default"
    assert (await spaces.get(CONFIGMAPS, NAME, "team"))["data"] == {"ca.crt": "PEM"}
    assert await spaces.is_at_rest()
    await spaces.client.delete(SERVICEACCOUNTS, "default", "team")
    await spaces.client.delete(CONFIGMAPS, NAME, "team")
    await spaces.patch(CONFIGMAPS, NAME, {"data": {"ca.crt": "forged", "more": "x"}})
    await spaces.settle()
    await spaces.get(SERVICEACCOUNTS, "default", "team")
    for namespace in ("team", "default"):
        assert (await spaces.get(CONFIGMAPS, NAME, namespace))["data"] == {"ca.crt": "PEM"}


async def test_nothing_is_put_into_a_namespace_that_goes(spaces):
    held = {"metadata": {"name": "held", "finalizers": ["example.com/hold"]}}
    await spaces.create(CONFIGMAPS, held, "team")
    await spaces.client.delete(NAMESPACES, "team")
    await spaces.advance(5.0)
    with pytest.raises(ApiError):
        await spaces.create(CONFIGMAPS, {"metadata": {"name": "late"}}, "team")
    assert [c["metadata"]["name"] for c in await spaces.list(CONFIGMAPS, "team")] == ["held"]
