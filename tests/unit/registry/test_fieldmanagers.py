"""Who owns which field, through the registry: every write verb, apply, and what Kubernetes answers."""

import json
from contextlib import suppress

import pytest

from orchestrator.api.errors import BadRequest, Conflict, Invalid, NotFound
from orchestrator.api.resources import (
    CONFIGMAPS,
    DEPLOYMENTS,
    HORIZONTALPODAUTOSCALERS,
    HORIZONTALPODAUTOSCALERS_V1,
    LEASES,
    NODES,
    PODS,
    SERVICES,
)

STARTED = "2023-11-14T22:13:20Z"
"""When the clock of the tests stands still."""


def config(name: str = "web", **spec):
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def web(replicas=None, image="busybox", **labels):
    container = {"name": "main", "image": image}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}
    spec = {"selector": {"matchLabels": {"app": "web"}}, "template": template}
    if replicas is not None:
        spec["replicas"] = replicas
    obj = config(**spec)
    if labels:
        obj["metadata"]["labels"] = labels
    return obj


async def put(api, obj, manager, resource=DEPLOYMENTS, subresource="", **options):
    return await api.patch(
        resource, obj["metadata"]["name"], obj, "apply", subresource, field_manager=manager, **options
    )


async def get(api, resource, name, namespace="default"):
    """With entries, as clients see it."""
    return (await api.registry.get(resource, namespace, name)).whole


def owned(obj, manager, operation="Apply", subresource=""):
    """The field set of a manager; None when it has no entry."""
    for entry in obj["metadata"].get("managedFields", ()):
        found = entry["manager"], entry["operation"], entry.get("subresource", "")
        if found == (manager, operation, subresource):
            return entry["fieldsV1"]
    return None


async def test_a_creation_is_recorded_with_defaults_and_without_what_the_system_sets(api):
    await api.create(DEPLOYMENTS, api.deployment("web"), field_manager="me")
    (entry,) = (await get(api, DEPLOYMENTS, "web"))["metadata"]["managedFields"]
    fields = entry.pop("fieldsV1")
    assert entry == {
        "manager": "me", "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
        "time": STARTED,
    }  # fmt: skip
    assert set(fields) == {"f:spec"}
    container = fields["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"main"}']
    assert container["f:image"] == {}
    assert container["f:terminationMessagePath"] == {}
    assert "f:strategy" in fields["f:spec"]


async def test_an_apply_creates_and_owns_only_what_it_says(api, clock):
    written = await put(api, web(2), "me")
    assert written.created
    obj = await get(api, DEPLOYMENTS, "web")
    assert obj["spec"]["revisionHistoryLimit"] == 10
    assert owned(obj, "me") == {
        "f:spec": {
            "f:replicas": {},
            "f:selector": {},
            "f:template": {
                "f:metadata": {"f:labels": {"f:app": {}}},
                "f:spec": {
                    "f:containers": {'k:{"name":"main"}': {".": {}, "f:name": {}, "f:image": {}}},
                },
            },
        }
    }


async def test_an_apply_that_says_the_same_writes_nothing(api, clock):
    first = await put(api, web(2), "me")
    await clock.advance(5)
    again = await put(api, web(2), "me")
    assert not again.created
    assert again.item.revision == first.item.revision


async def test_a_conflict_names_every_field_and_manager(api):
    await put(api, web(2, "a"), "one")
    await api.patch(DEPLOYMENTS, "web", {"spec": {"minReadySeconds": 3}}, field_manager="two")
    wanted = web(5, "b")
    wanted["spec"]["minReadySeconds"] = 4
    with pytest.raises(Conflict) as raised:
        await put(api, wanted, "three")
    status = raised.value.status()
    assert status["code"] == 409
    assert status["reason"] == "Conflict"
    assert status["message"] == (
        'Apply failed with 3 conflicts: conflicts with "one":\n'
        "- .spec.replicas\n"
        '- .spec.template.spec.containers[name="main"].image\n'
        'conflicts with "two" using apps/v1:\n'
        "- .spec.minReadySeconds"
    )
    assert {
        "reason": "FieldManagerConflict",
        "message": 'conflict with "two" using apps/v1',
        "field": ".spec.minReadySeconds",
    } in status["details"]["causes"]
    written = await put(api, wanted, "three", force=True)
    obj = written.item.whole
    assert obj["spec"]["replicas"] == 5
    assert "f:replicas" not in owned(obj, "one")["f:spec"]
    assert owned(obj, "two", "Update") is None


async def test_one_conflict_has_its_own_sentence(api):
    await api.create(DEPLOYMENTS, web(2), field_manager="kubectl-create")
    with pytest.raises(Conflict) as raised:
        await put(api, config(replicas=3), "me")
    assert raised.value.message == (
        'Apply failed with 1 conflict: conflict with "kubectl-create" using apps/v1: .spec.replicas'
    )


async def test_what_is_no_longer_applied_goes_unless_somebody_else_owns_it(api):
    await put(api, web(2, a="1", b="2", c="3"), "one")
    await put(api, {**config(), "metadata": {"name": "web", "labels": {"b": "2"}}}, "two")
    await api.patch(DEPLOYMENTS, "web", {"metadata": {"labels": {"d": "4"}}}, field_manager="three")
    obj = (await put(api, web(None, a="1"), "one")).item.whole
    assert obj["metadata"]["labels"] == {"a": "1", "b": "2", "d": "4"}
    assert obj["spec"]["replicas"] == 1  # the default is back


async def test_equal_values_are_shared_and_given_up_one_by_one(api):
    await put(api, web(2), "one")
    obj = (await put(api, config(replicas=2), "two")).item.whole
    assert "f:replicas" in owned(obj, "one")["f:spec"]
    assert owned(obj, "two") == {"f:spec": {"f:replicas": {}}}
    obj = (await put(api, web(None), "one")).item.whole
    assert obj["spec"]["replicas"] == 2
    obj = (await put(api, config(), "two")).item.whole
    assert obj["spec"]["replicas"] == 1


async def test_lists_merge_by_key_and_keep_the_appliers_order(api):
    def service(*ports):
        spec = {"ports": [{"name": name, "port": port} for name, port in ports]}
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": spec}

    await put(api, service(("a", 1), ("b", 2)), "one", SERVICES)
    obj = (await put(api, service(("c", 3), ("a", 1)), "two", SERVICES)).item.whole
    assert sorted(port["name"] for port in obj["spec"]["ports"]) == ["a", "b", "c"]
    assert 'k:{"port":1,"protocol":"TCP"}' in owned(obj, "two")["f:spec"]["f:ports"]
    obj = (await put(api, service(("b", 2)), "one", SERVICES)).item.whole
    assert [port["name"] for port in obj["spec"]["ports"] if port["name"] != "b"] == ["c", "a"]
    with pytest.raises(BadRequest) as raised:
        await put(api, service(("x", 1), ("y", 1)), "one", SERVICES)
    assert raised.value.message == (
        "failed to create typed patch object (/s; /v1, Kind=Service): "
        '.spec.ports: duplicate entries for key [port=1,protocol="TCP"]'
    )


async def test_an_update_takes_fields_and_drops_what_it_removes(api):
    await put(api, web(2, a="1"), "one")
    obj = await get(api, DEPLOYMENTS, "web")
    obj = {
        **obj,
        "metadata": {**obj["metadata"], "labels": {"b": "2"}},
        "spec": {**obj["spec"], "replicas": 9},
    }
    obj = (await api.update(DEPLOYMENTS, obj, field_manager="two")).item.whole
    assert "f:metadata" not in owned(obj, "one")
    assert "f:replicas" not in owned(obj, "one")["f:spec"]
    assert owned(obj, "two", "Update") == {
        "f:metadata": {"f:labels": {"f:b": {}}}, "f:spec": {"f:replicas": {}}
    }  # fmt: skip


async def test_status_and_scale_have_entries_of_their_own(api):
    await put(api, web(2), "me")
    obj = await get(api, DEPLOYMENTS, "web")
    await api.update(DEPLOYMENTS, {**obj, "status": {"replicas": 2}}, "status", field_manager="ctl")
    scale = {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {"name": "web"},
        "spec": {"replicas": 4},
    }
    await api.update(DEPLOYMENTS, scale, "scale", field_manager="hpa")
    obj = await get(api, DEPLOYMENTS, "web")
    assert owned(obj, "ctl", "Update", "status") == {"f:status": {"f:replicas": {}}}
    assert owned(obj, "hpa", "Update", "scale") == {"f:spec": {"f:replicas": {}}}
    assert "f:replicas" not in owned(obj, "me")["f:spec"]
    with pytest.raises(
        Conflict, match=r'conflict with "hpa" with subresource "scale" using apps/v1: .spec.replicas'
    ):
        await put(api, web(2), "me")


async def test_a_scale_and_a_status_can_be_applied(api):
    await put(api, web(2), "me")
    scale = {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {"name": "web"},
        "spec": {"replicas": 4},
    }
    with pytest.raises(Conflict, match=r'Apply failed with 1 conflict: conflict with "me": \.spec\.replicas'):
        await put(api, scale, "hpa", subresource="scale")
    written = await put(api, scale, "hpa", subresource="scale", force=True)
    assert written.item.whole["spec"]["replicas"] == 4
    status = {**config(), "status": {"replicas": 3, "observedGeneration": 1}}
    del status["spec"]
    obj = (await put(api, status, "ctl", subresource="status")).item.whole
    assert obj["status"]["replicas"] == 3
    assert owned(obj, "ctl", subresource="status") == {
        "f:status": {"f:replicas": {}, "f:observedGeneration": {}}
    }
    with pytest.raises(NotFound):
        await put(api, {**status, "metadata": {"name": "none"}}, "ctl", subresource="status")


async def test_status_through_the_main_resource_belongs_to_nobody(api):
    obj = (await put(api, {**web(2), "status": {"replicas": 7}}, "me")).item.whole
    assert "f:status" not in owned(obj, "me")
    assert obj.get("status", {}).get("replicas") is None


@pytest.mark.parametrize("entries", [[], [{}]])
async def test_a_reset_drops_all_entries_and_the_first_apply_finds_what_was_before(api, entries):
    await api.create(CONFIGMAPS, api.config_map("a"), field_manager="me")
    reset = [{"op": "replace", "path": "/metadata/managedFields", "value": entries}]
    await api.patch(CONFIGMAPS, "a", reset, "json", field_manager="me")
    assert "managedFields" not in (await get(api, CONFIGMAPS, "a"))["metadata"]
    await api.patch(CONFIGMAPS, "a", {"data": {"x": "y"}}, field_manager="me")
    assert "managedFields" not in (await get(api, CONFIGMAPS, "a"))["metadata"]
    wanted = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "z"}}
    with pytest.raises(Conflict, match=r'conflict with "before-first-apply" using v1: .data.x'):
        await put(api, wanted, "me", CONFIGMAPS)
    obj = (await put(api, wanted, "me", CONFIGMAPS, force=True)).item.whole
    assert owned(obj, "before-first-apply", "Update") == {"f:data": {".": {}, "f:key": {}}}


@pytest.mark.parametrize(
    "entries", [[{"manager": "x"}], [{"fieldsType": "FieldsV1", "fieldsV1": {"q:a": {}}}], [{"a": 1}, {}]]
)
async def test_malformed_entries_are_not_taken_over(api, entries):
    await api.create(CONFIGMAPS, api.config_map("a"), field_manager="me")
    before = (await get(api, CONFIGMAPS, "a"))["metadata"]["managedFields"]
    patch = [{"op": "replace", "path": "/metadata/managedFields", "value": entries}]
    with suppress(BadRequest):  # some are not even of the right type
        await api.patch(CONFIGMAPS, "a", patch, "json")
    assert (await get(api, CONFIGMAPS, "a"))["metadata"]["managedFields"] == before


async def test_well_formed_entries_of_a_client_replace_those_stored(api):
    await api.create(CONFIGMAPS, api.config_map("a"), field_manager="me")
    entry = {
        "manager": "kubectl", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "time": "2020-01-01T00:00:00Z", "fieldsV1": {"f:data": {"f:key": {}}},
    }  # fmt: skip
    obj = await get(api, CONFIGMAPS, "a")
    obj = {**obj, "metadata": {**obj["metadata"], "managedFields": [entry]}}
    obj = (await api.update(CONFIGMAPS, obj)).item.whole
    assert obj["metadata"]["managedFields"] == [entry]
    wrong = {**obj, "metadata": {**obj["metadata"], "managedFields": [{**entry, "operation": "Guess"}]}}
    with pytest.raises(
        Invalid, match=r'managedFields\[0\].operation: Invalid value: "Guess": must be `Apply`'
    ):
        await api.update(CONFIGMAPS, wrong)


async def test_entries_of_updates_are_joined_beyond_ten(api, clock):
    await api.create(CONFIGMAPS, api.config_map("a"), field_manager="m0")
    for n in range(1, 13):
        await clock.advance(1)
        await api.patch(CONFIGMAPS, "a", {"data": {f"k{n}": "v"}}, field_manager=f"m{n}")
    obj = await get(api, CONFIGMAPS, "a")
    entries = obj["metadata"]["managedFields"]
    assert [entry["manager"] for entry in entries] == ["ancient-changes", *(f"m{n}" for n in range(4, 13))]
    assert owned(obj, "ancient-changes", "Update")["f:data"] == {
        ".": {}, "f:key": {}, "f:k1": {}, "f:k2": {}, "f:k3": {}
    }  # fmt: skip


async def test_a_time_changes_with_what_the_manager_changes(api, clock):
    await api.create(CONFIGMAPS, api.config_map("a"), field_manager="me")
    await clock.advance(60)
    await api.patch(CONFIGMAPS, "a", {"data": {"key": "value"}}, field_manager="me")
    assert (await get(api, CONFIGMAPS, "a"))["metadata"]["managedFields"][0]["time"] == STARTED
    await api.patch(CONFIGMAPS, "a", {"data": {"key": "other"}}, field_manager="me")
    assert (await get(api, CONFIGMAPS, "a"))["metadata"]["managedFields"][0]["time"] == "2023-11-14T22:14:20Z"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"apiVersion": "v2"},
         "Incorrect version specified in apply patch. Specified patch version: v2, expected: v1"),
        ({"kind": "Secret"}, 'Secret in version "v1" cannot be handled as a ConfigMap'),
        ({"metadata": {"name": "a", "managedFields": []}}, "metadata.managedFields must be nil"),
        ({"metadata": {"name": "b"}}, "the name of the object (b) does not match the name on the URL (a)"),
        ({"metadata": {}},
         "the name of the object (a based on URL) was undeterminable: name must be provided"),
        ({"spec": {}}, "failed to create typed patch object (/a; /v1, Kind=ConfigMap): "
         ".spec: field not declared in schema"),
    ],
)  # fmt: skip
async def test_what_can_not_be_applied(api, change, message):
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, **change}
    with pytest.raises(BadRequest) as raised:
        await api.patch(CONFIGMAPS, "a", obj, "apply", field_manager="me")
    assert raised.value.message == message


async def test_uid_and_resource_version_make_an_apply_conditional(api):
    def given(**metadata):
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "a", **metadata},
            "data": {"k": "v"},
        }

    with pytest.raises(Conflict, match="uid mismatch: the provided object specified uid x, and no existing"):
        await put(api, given(uid="x"), "me", CONFIGMAPS)
    with pytest.raises(Conflict, match="the object has been modified"):
        await put(api, given(resourceVersion="999"), "me", CONFIGMAPS)
    obj = (await put(api, given(), "me", CONFIGMAPS)).item.whole
    with pytest.raises(Conflict, match="UID in precondition: x"):
        await put(api, given(uid="x"), "me", CONFIGMAPS)
    with pytest.raises(Conflict, match="the object has been modified"):
        await put(api, given(resourceVersion="999"), "me", CONFIGMAPS)
    version, uid = obj["metadata"]["resourceVersion"], obj["metadata"]["uid"]
    changed = {**given(resourceVersion=version, uid=uid), "data": {"k": "w"}}
    assert (await put(api, changed, "me", CONFIGMAPS)).item.whole["data"] == {"k": "w"}


async def test_a_dry_run_shows_and_stores_nothing(api):
    shown = await put(api, web(2), "me", dry_run=True)
    assert owned(shown.item.whole, "me")
    with pytest.raises(NotFound):
        await get(api, DEPLOYMENTS, "web")


async def test_quantities_are_compared_in_the_form_in_which_they_are_kept(api):
    pod = api.pod("a")
    pod["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "0.5", "memory": "1024Mi"}}
    first = await put(api, pod, "me", PODS)
    assert (await put(api, pod, "me", PODS)).item.revision == first.item.revision


async def test_kubectl_takes_over_from_its_client_side_apply(api):
    last = web(2)
    obj = {**last, "metadata": {**last["metadata"], "annotations": {
        "kubectl.kubernetes.io/last-applied-configuration": json.dumps(last)}}}  # fmt: skip
    await api.create(DEPLOYMENTS, obj, field_manager="kubectl-client-side-apply")
    with pytest.raises(Conflict):
        await put(api, web(3), "somebody")
    obj = (await put(api, web(3), "kubectl")).item.whole
    assert obj["spec"]["replicas"] == 3
    kept = json.loads(obj["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"])
    assert kept["spec"]["replicas"] == 3
    await api.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 8}}, field_manager="hpa")
    with pytest.raises(Conflict, match='conflict with "hpa"'):
        await put(api, web(4), "kubectl")


async def test_bindings_and_leases_leave_no_entries(api):
    lease = {"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}}
    obj = (await api.create(LEASES, lease, field_manager="me")).item.whole
    assert "managedFields" not in obj["metadata"]


async def test_a_heartbeat_adds_no_entry(api, clock):
    node = {
        "metadata": {"name": "n", "labels": {"a": "b"}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    await api.create(NODES, node, namespace="", field_manager="kubelet")
    for n in range(3):
        await clock.advance(10)
        beat = {"status": {"conditions": [
            {"type": "Ready", "status": "True", "lastHeartbeatTime": f"2020-01-01T00:00:0{n}Z"}]}}  # fmt: skip
        await api.patch(NODES, "n", beat, "strategic", "status", namespace="", field_manager="kubelet")
    obj = await get(api, NODES, "n", namespace="")
    assert [entry.get("subresource") for entry in obj["metadata"]["managedFields"]].count("status") == 1


async def test_a_kind_with_two_versions_is_applied_in_either(api):
    def scaler(version, **spec):
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
        metadata = {"name": "web"}
        return {"apiVersion": f"autoscaling/{version}", "kind": "HorizontalPodAutoscaler", "metadata": metadata,
                "spec": {"scaleTargetRef": target, **spec}}  # fmt: skip

    v1 = scaler("v1", maxReplicas=3, targetCPUUtilizationPercentage=50)
    await put(api, v1, "one", HORIZONTALPODAUTOSCALERS_V1)
    again = await put(api, v1, "one", HORIZONTALPODAUTOSCALERS_V1)
    obj = await get(api, HORIZONTALPODAUTOSCALERS, "web")
    assert obj["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 50
    assert obj["metadata"]["resourceVersion"] == str(again.item.revision)
    with pytest.raises(Conflict, match=r'conflict with "one": \.spec\.maxReplicas'):
        await put(api, scaler("v2", maxReplicas=5), "two", HORIZONTALPODAUTOSCALERS)
