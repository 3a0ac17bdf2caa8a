"""The verbs of the registry on real kinds, over a real store."""

import asyncio

import pytest

from orchestrator.api.access import ADMIN
from orchestrator.api.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    UnsupportedMediaType,
)
from orchestrator.api.options import DeleteOptions, ListOptions
from orchestrator.api.resources import (
    CONFIGMAPS,
    DEPLOYMENTS,
    EVENTS,
    LEASES,
    LIMITRANGES,
    NAMESPACES,
    PODS,
    REPLICASETS,
    SERVICES,
)
from orchestrator.registry.patching import Patch


async def test_create_sets_system_metadata_and_ignores_what_a_client_may_not_set(api):
    obj = api.config_map(
        "a", uid="mine", creationTimestamp="1999-01-01T00:00:00Z", deletionTimestamp="1999-01-01T00:00:00Z"
    )
    written = await api.create(CONFIGMAPS, obj)
    metadata = written.item.object["metadata"]
    assert written.created
    assert metadata["uid"] != "mine" and len(metadata["uid"]) == 36
    assert metadata["creationTimestamp"] == "2023-11-14T22:13:20Z"
    assert "deletionTimestamp" not in metadata
    assert metadata["namespace"] == "default"
    assert metadata["resourceVersion"] == str(written.item.revision)
    assert obj["metadata"]["uid"] == "mine", "the caller's object was changed"


async def test_stored_bytes_start_with_metadata_and_lack_the_version(api):
    written = await api.create(CONFIGMAPS, api.config_map("a"))
    assert written.item.raw.startswith(b'{"metadata":{')
    assert b"resourceVersion" not in written.item.raw
    assert (await api.registry.get(CONFIGMAPS, "default", "a")) is written.item


async def test_create_of_an_existing_name_is_refused(api):
    await api.create(CONFIGMAPS, api.config_map("a"))
    with pytest.raises(AlreadyExists, match='configmaps "a" already exists'):
        await api.create(CONFIGMAPS, api.config_map("a"))
    with pytest.raises(AlreadyExists):
        await api.create(CONFIGMAPS, api.config_map("a"), dry_run=True)


async def test_generated_names_differ_and_keep_their_base(api):
    base = "x" * 70
    made = [
        (await api.create(CONFIGMAPS, api.config_map(generateName=base))).item.meta.name for _ in range(5)
    ]
    assert len(set(made)) == 5
    assert all(name.startswith("x" * 58) and len(name) == 63 for name in made)


@pytest.mark.parametrize(
    ("obj", "error", "text"),
    [
        ({"metadata": {}}, Invalid, "metadata.name: Required value: name or generateName is required"),
        (
            {"metadata": {"name": "a", "resourceVersion": "5"}},
            BadRequest,
            "resourceVersion should not be set",
        ),
        ({"metadata": {"name": "a", "namespace": "other"}}, BadRequest, "does not match the namespace sent"),
        ({"metadata": {"name": "A_"}}, Invalid, "metadata.name"),
        ({"metadata": {"name": "a", "labels": {"a": "b c"}}}, Invalid, "metadata.labels"),
        ({"metadata": "name"}, BadRequest, "metadata"),
        ({"kind": "Secret", "metadata": {"name": "a"}}, BadRequest, "Secret"),
        ({"apiVersion": "v2", "metadata": {"name": "a"}}, BadRequest, "v2"),
        ({"metadata": {"name": "a"}, "data": {"k": 5}}, BadRequest, "data"),
    ],
)
async def test_create_refuses_bad_input_and_stores_nothing(api, obj, error, text):
    with pytest.raises(error, match=text):
        await api.create(CONFIGMAPS, obj)
    assert (await api.list(CONFIGMAPS, None)).items == []


async def test_field_validation_warns_or_refuses(api):
    obj = {**api.config_map("a"), "extra": 1}
    written = await api.create(CONFIGMAPS, obj, field_validation="Warn")
    assert any("extra" in text for text in written.warnings)
    assert "extra" not in written.item.object
    with pytest.raises(BadRequest, match='unknown field "extra"'):
        await api.create(CONFIGMAPS, {**api.config_map("b"), "extra": 1}, field_validation="Strict")


async def test_dry_run_answers_and_writes_nothing(api):
    before = api.store.revision
    written = await api.create(CONFIGMAPS, api.config_map("a"), dry_run=True)
    assert written.item.object["metadata"]["uid"]
    assert api.store.revision == before
    await api.create(CONFIGMAPS, api.config_map("a"))
    await api.patch(CONFIGMAPS, "a", {"data": {"key": "new"}}, dry_run=True)
    await api.delete(CONFIGMAPS, "a", dry_run=True)
    assert (await api.get(CONFIGMAPS, "a"))["data"] == {"key": "value"}


async def test_update_keeps_system_metadata(api):
    old = (await api.create(CONFIGMAPS, api.config_map("a"))).item.object
    changed = api.config_map("a", uid="", creationTimestamp="1999-01-01T00:00:00Z", labels={"x": "y"})
    new = (await api.update(CONFIGMAPS, changed)).item.object
    for field in ("uid", "creationTimestamp", "namespace"):
        assert new["metadata"][field] == old["metadata"][field]
    assert new["metadata"]["labels"] == {"x": "y"}
    assert int(new["metadata"]["resourceVersion"]) > int(old["metadata"]["resourceVersion"])


async def test_update_with_an_old_version_conflicts(api):
    old = (await api.create(CONFIGMAPS, api.config_map("a"))).item.object
    await api.patch(CONFIGMAPS, "a", {"data": {"key": "new"}})
    with pytest.raises(Conflict, match=r'on configmaps "a": the object has been modified; please apply'):
        await api.update(CONFIGMAPS, {**old, "data": {"key": "mine"}})
    unconditional = {**api.config_map("a"), "data": {"key": "mine"}}
    assert (await api.update(CONFIGMAPS, unconditional)).item.object["data"] == {"key": "mine"}


async def test_update_of_another_objects_uid_conflicts(api):
    await api.create(CONFIGMAPS, api.config_map("a"))
    with pytest.raises(
        Conflict, match=r"UID in precondition: other|UID in the precondition .other. does not match"
    ):
        await api.update(CONFIGMAPS, api.config_map("a", uid="other"))


async def test_update_must_name_the_object_of_the_url(api):
    await api.create(CONFIGMAPS, api.config_map("a"))
    with pytest.raises(BadRequest, match=r"\(b\) does not match the name on the URL \(a\)"):
        await api.patch(CONFIGMAPS, "a", {"metadata": {"name": "b"}})
    with pytest.raises(BadRequest, match="namespace"):
        await api.patch(CONFIGMAPS, "a", {"metadata": {"namespace": "b"}})


async def test_an_update_that_changes_nothing_writes_nothing(api):
    written = await api.create(CONFIGMAPS, api.config_map("a", labels={"x": "1", "y": "2"}))
    reordered = api.config_map("a", labels={"y": "2", "x": "1"})
    assert (await api.update(CONFIGMAPS, reordered)).item is written.item
    assert (await api.patch(CONFIGMAPS, "a", {"data": {"key": "value"}})).item is written.item


async def test_update_creates_only_where_kubernetes_does(api):
    with pytest.raises(NotFound, match='configmaps "a" not found'):
        await api.update(CONFIGMAPS, api.config_map("a"))
    lease = {"metadata": {"name": "n"}, "spec": {"holderIdentity": "me"}}
    assert (await api.update(LEASES, lease)).created
    assert (await api.update(LIMITRANGES, {"metadata": {"name": "bounds"}})).created
    with pytest.raises(Invalid, match=r"metadata\.resourceVersion: .*must be specified for an update"):
        await api.update(LEASES, {**lease, "spec": {"holderIdentity": "you"}})
    with pytest.raises(NotFound):
        await api.update(LEASES, {"metadata": {"name": "other", "resourceVersion": "3"}})


async def test_an_update_that_creates_needs_the_right_to_create(api):
    class Refusing:
        async def authorize(self, identity, attributes):
            assert (attributes.verb, attributes.resource, attributes.name) == ("create", "leases", "n")
            raise Forbidden("no")

    api.registry._writer._authorizer = Refusing()
    with pytest.raises(Forbidden):
        await api.update(LEASES, {"metadata": {"name": "n"}, "spec": {"holderIdentity": "me"}})
    with pytest.raises(NotFound):
        await api.get(LEASES, "n")


async def test_generation_counts_changes_of_the_desired_state_only(api):
    await api.create(DEPLOYMENTS, api.deployment("web"))
    await api.patch(DEPLOYMENTS, "web", {"metadata": {"labels": {"a": "b"}}})
    assert (await api.get(DEPLOYMENTS, "web"))["metadata"]["generation"] == 1
    await api.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 5}})
    assert (await api.get(DEPLOYMENTS, "web"))["metadata"]["generation"] == 2
    status = {"observedGeneration": 2, "replicas": 4}
    await api.patch(DEPLOYMENTS, "web", {"status": status, "spec": {"replicas": 9}}, subresource="status")
    stored = await api.get(DEPLOYMENTS, "web")
    assert stored["status"] == status
    assert stored["spec"]["replicas"] == 5
    assert stored["metadata"]["generation"] == 2


async def test_patches_of_every_type(api):
    await api.create(DEPLOYMENTS, api.deployment("web"))
    containers = {"template": {"spec": {"containers": [{"name": "main", "image": "other"}]}}}
    await api.patch(DEPLOYMENTS, "web", {"spec": containers}, "strategic")
    spec = (await api.get(DEPLOYMENTS, "web"))["spec"]
    assert spec["template"]["spec"]["containers"][0]["image"] == "other"
    assert spec["template"]["spec"]["containers"][0]["terminationMessagePath"] == "/dev/termination-log"
    await api.patch(DEPLOYMENTS, "web", [{"op": "replace", "path": "/spec/replicas", "value": 7}], "json")
    assert (await api.get(DEPLOYMENTS, "web"))["spec"]["replicas"] == 7
    with pytest.raises(UnsupportedMediaType):
        Patch.of("text/plain", {})
    assert Patch.of("application/merge-patch+json; charset=utf-8", {}).kind == "merge"


async def test_concurrent_patches_all_land(api):
    await api.create(CONFIGMAPS, api.config_map("a"))
    await asyncio.gather(*(api.patch(CONFIGMAPS, "a", {"data": {f"k{n}": "v"}}) for n in range(40)))
    assert len((await api.get(CONFIGMAPS, "a"))["data"]) == 41


async def test_concurrent_appliers_and_a_remover_all_have_their_turn(api):
    def config(n):
        return {**api.config_map("a"), "data": {f"k{n}": "v"}}

    await api.patch(CONFIGMAPS, "a", config(0), "apply", field_manager="m0")
    appliers = [api.patch(CONFIGMAPS, "a", config(n), "apply", field_manager=f"m{n}") for n in range(1, 30)]
    await asyncio.gather(*appliers)
    assert len((await api.get(CONFIGMAPS, "a"))["data"]) == 30
    patches = [api.patch(CONFIGMAPS, "a", {"data": {f"k{n}": "w"}}) for n in range(20)]
    *_, deleted = await asyncio.gather(*patches, api.delete(CONFIGMAPS, "a"), return_exceptions=True)
    assert deleted.gone


async def test_a_patch_with_a_version_does_not_retry(api):
    old = (await api.create(CONFIGMAPS, api.config_map("a"))).item.object
    await api.patch(CONFIGMAPS, "a", {"data": {"key": "new"}})
    stale = {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}, "data": {"key": "mine"}}
    with pytest.raises(Conflict):
        await api.patch(CONFIGMAPS, "a", stale)


async def test_a_patch_is_validated_as_merged(api):
    await api.create(DEPLOYMENTS, api.deployment("web"))
    with pytest.raises(Invalid, match=r"spec\.selector"):
        await api.patch(DEPLOYMENTS, "web", {"spec": {"selector": {"matchLabels": {"app": "other"}}}})
    with pytest.raises(BadRequest, match=r"spec\.replicas"):
        await api.patch(DEPLOYMENTS, "web", {"spec": {"replicas": "many"}})


async def test_services_hold_their_addresses_against_each_other(api):
    """The range has six usable addresses; every one is given once, and given again after a deletion."""
    made = await asyncio.gather(*(api.create(SERVICES, api.service(f"s{n}")) for n in range(6)))
    addresses = [written.item.object["spec"]["clusterIP"] for written in made]
    assert len(set(addresses)) == 6
    with pytest.raises(Exception, match=r"range is full|allocat"):
        await api.create(SERVICES, api.service("late"))
    await api.delete(SERVICES, "s3")
    again = await api.create(SERVICES, api.service("late"))
    assert again.item.object["spec"]["clusterIP"] == addresses[3]
    with pytest.raises(Invalid, match="already allocated"):
        await api.create(SERVICES, api.service("thief", clusterIP=addresses[0]))


async def test_an_update_releases_the_claims_it_gives_up(api):
    made = await api.create(SERVICES, api.service("web", type="NodePort"))
    port = made.item.object["spec"]["ports"][0]["nodePort"]
    held = [entry.key for entry in (await api.store.range("/registry/ranges/")).entries]
    assert len(held) == 2 and any(str(port) in taken for taken in held), held
    await api.patch(
        SERVICES, "web", {"spec": {"type": "ClusterIP", "ports": [{"port": 80, "protocol": "TCP"}]}}
    )
    held = [entry.key for entry in (await api.store.range("/registry/ranges/")).entries]
    assert len(held) == 1
    await api.delete(SERVICES, "web")
    assert (await api.store.range("/registry/ranges/")).entries == []


async def test_deletion_of_a_collection_takes_the_selected_ones_only(api):
    for n in range(5):
        await api.create(CONFIGMAPS, api.config_map(f"c{n}", labels={"odd": str(n % 2)}))
    gone = await api.registry.delete_collection(
        CONFIGMAPS, "default", DeleteOptions(), ListOptions(label_selector="odd=1"), ADMIN
    )
    assert api.names(gone.items) == ["c1", "c3"]
    assert api.names((await api.list(CONFIGMAPS)).items) == ["c0", "c2", "c4"]


async def test_a_finalizer_keeps_an_object_until_it_is_taken_away(api):
    await api.create(CONFIGMAPS, api.config_map("a", finalizers=["example.com/wait"]))
    deleted = await api.delete(CONFIGMAPS, "a")
    assert not deleted.gone
    assert deleted.item.meta.deletion_timestamp
    assert not (await api.delete(CONFIGMAPS, "a")).gone, "a second delete must not remove it"
    with pytest.raises(Invalid, match="no new finalizers can be added"):
        more = {"metadata": {"finalizers": ["example.com/wait", "example.com/more"]}}
        await api.patch(CONFIGMAPS, "a", more)
    await api.patch(CONFIGMAPS, "a", {"metadata": {"finalizers": None}})
    with pytest.raises(NotFound):
        await api.get(CONFIGMAPS, "a")


async def test_deletion_checks_its_preconditions(api):
    made = (await api.create(CONFIGMAPS, api.config_map("a"))).item
    with pytest.raises(
        Conflict, match=r"UID in precondition: other|UID in the precondition .other. does not match"
    ):
        await api.delete(CONFIGMAPS, "a", uid="other")
    with pytest.raises(Conflict, match=r"ResourceVersion in the precondition .999. does not match"):
        await api.delete(CONFIGMAPS, "a", resource_version="999")
    deleted = await api.delete(CONFIGMAPS, "a", uid=made.meta.uid, resource_version=str(made.revision))
    assert deleted.gone and deleted.item.revision > made.revision
    with pytest.raises(NotFound):
        await api.delete(CONFIGMAPS, "a")


async def test_a_pod_on_a_node_leaves_with_grace_and_a_waiting_one_at_once(api):
    await api.create(PODS, api.pod("waiting"))
    assert (await api.delete(PODS, "waiting")).gone
    await api.create(PODS, api.pod("running", nodeName="n1"))
    first = await api.delete(PODS, "running")
    assert not first.gone
    metadata = first.item.object["metadata"]
    assert metadata["deletionGracePeriodSeconds"] == 30
    assert metadata["deletionTimestamp"] == "2023-11-14T22:13:50Z"
    hurried = await api.delete(PODS, "running", grace_period_s=5)
    assert hurried.item.object["metadata"]["deletionTimestamp"] == "2023-11-14T22:13:25Z"
    longer = await api.delete(PODS, "running", grace_period_s=60)
    assert longer.item.object["metadata"]["deletionGracePeriodSeconds"] == 5
    assert (await api.delete(PODS, "running", grace_period_s=0)).gone


async def test_a_namespace_waits_for_its_finalizer_and_is_removed_by_finalize(api):
    await api.create(NAMESPACES, {"metadata": {"name": "team"}}, "")
    deleted = await api.delete(NAMESPACES, "team", "")
    assert not deleted.gone
    assert deleted.item.object["status"]["phase"] == "Terminating"
    finished = {**deleted.item.object, "spec": {"finalizers": []}}
    await api.update(NAMESPACES, finished, subresource="finalize", namespace="")
    with pytest.raises(NotFound):
        await api.get(NAMESPACES, "team", "")


async def test_propagation_policies_leave_their_finalizer(api):
    await api.create(REPLICASETS, {**api.deployment("a"), "kind": "ReplicaSet"})
    deleted = await api.delete(REPLICASETS, "a", propagation_policy="Foreground")
    assert deleted.item.meta.finalizers == ("foregroundDeletion",)
    await api.create(REPLICASETS, {**api.deployment("b"), "kind": "ReplicaSet"})
    deleted = await api.delete(REPLICASETS, "b", orphan_dependents=True)
    assert deleted.item.meta.finalizers == ("orphan",)
    with pytest.raises(Invalid, match="propagationPolicy"):
        await api.delete(REPLICASETS, "b", propagation_policy="Sideways")


async def test_events_share_a_lease_and_expire(api):
    event = {
        "metadata": {"name": "a.1"}, "type": "Normal", "reason": "Tested", "message": "m",
        "involvedObject": {"kind": "Pod", "name": "a", "namespace": "default"},
    }  # fmt: skip
    await api.create(EVENTS, event)
    await api.create(EVENTS, {**event, "metadata": {"name": "a.2"}})
    leases = {entry.lease for entry in (await api.store.range("/registry/events/")).entries}
    assert len(leases) == 1 and leases != {0}
    await api.clock.advance(61)
    await api.create(EVENTS, {**event, "metadata": {"name": "a.3"}})
    leases = {entry.lease for entry in (await api.store.range("/registry/events/")).entries}
    assert len(leases) == 2


async def test_a_write_between_read_and_transaction_is_merged_not_lost(api):
    await api.create(CONFIGMAPS, api.config_map("a"))
    api.hook.act = lambda: api.patch(CONFIGMAPS, "a", {"data": {"theirs": "1"}})
    await api.patch(CONFIGMAPS, "a", {"data": {"mine": "1"}})
    assert (await api.get(CONFIGMAPS, "a"))["data"] == {"key": "value", "mine": "1", "theirs": "1"}


async def test_a_deletion_decides_again_when_the_object_changed_meanwhile(api):
    await api.create(CONFIGMAPS, api.config_map("a"))
    held = {"metadata": {"finalizers": ["example.com/wait"]}}
    api.hook.act = lambda: api.patch(CONFIGMAPS, "a", held)
    assert not (await api.delete(CONFIGMAPS, "a")).gone


async def test_an_object_that_vanishes_meanwhile_is_not_found(api):
    await api.create(CONFIGMAPS, api.config_map("a"))
    api.hook.act = lambda: api.delete(CONFIGMAPS, "a")
    with pytest.raises(NotFound):
        await api.patch(CONFIGMAPS, "a", {"data": {"mine": "1"}})
