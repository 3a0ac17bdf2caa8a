"""Custom kinds over HTTP: from a definition to its objects, and away again."""

import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.api.custom.kinds import CustomVersion
from tests.contract.api_support import Cluster
from tests.contract.conftest import load_schemas
from tests.contract.custom_support import (
    CRDS,
    answers,
    custom_cluster,
    definition,
    establish,
    eventually,
    version,
)

Json = dict[str, Any]
GROUP = "/apis/stable.example.com"
SHIRTS = f"{GROUP}/v1/namespaces/default/shirts"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with custom_cluster(tmp_path, load_schemas()) as cluster:
        status, _, _ = await cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": "default"}})
        assert status == 201
        yield cluster


def shirt(name: str, api: str = "stable.example.com/v1", **spec: Any) -> Json:
    return {"apiVersion": api, "kind": "Shirt", "metadata": {"name": name}, "spec": spec}


COLOUR: Json = {
    "colour": {"type": "string", "enum": ["red", "green"]},
    "size": {"type": "integer", "minimum": 1},
}


async def test_a_definition_becomes_served_and_goes_with_its_objects(cluster: Cluster) -> None:
    crd = definition("shirts", "Shirt", version("v1", COLOUR), names={
        "plural": "shirts", "kind": "Shirt", "shortNames": ["sh"], "categories": ["all"]})  # fmt: skip
    await establish(cluster, crd)
    _, kept, _ = await cluster.call("GET", f"{CRDS}/shirts.stable.example.com")
    assert kept["spec"]["names"]["listKind"] == "ShirtList" and kept["status"]["storedVersions"] == ["v1"]
    assert {c["type"]: c["status"] for c in kept["status"]["conditions"]} == {
        "NamesAccepted": "True", "Established": "True"}  # fmt: skip
    assert kept["status"]["acceptedNames"]["shortNames"] == ["sh"]
    _, found, _ = await cluster.call("GET", f"{GROUP}/v1")
    assert found["resources"][0]["shortNames"] == ["sh"] and found["resources"][0]["singularName"] == "shirt"
    status, made, _ = await cluster.call("POST", SHIRTS, shirt("a", colour="red", size=2))
    assert (status, made["metadata"]["generation"]) == (201, 1)
    status, _, _ = await cluster.call("DELETE", f"{CRDS}/shirts.stable.example.com")
    assert status == 200
    await answers(cluster, f"{CRDS}/shirts.stable.example.com", 404)
    await answers(cluster, SHIRTS, 404)
    assert (await cluster.call("GET", GROUP))[0] == 404
    await establish(cluster, crd)
    assert (await cluster.call("GET", SHIRTS))[1]["items"] == []


async def test_objects_are_pruned_defaulted_and_validated(cluster: Cluster) -> None:
    spec = {**COLOUR, "fit": {"type": "string", "default": "slim"}, "loose": {
        "type": "object", "x-kubernetes-preserve-unknown-fields": True}}  # fmt: skip
    await establish(cluster, definition("shirts", "Shirt", version("v1", spec)))
    body = shirt("a", colour="red", unknown=1, loose={"any": {"thing": 1}})
    status, made, answer = await cluster.call("POST", SHIRTS, body)
    assert status == 201 and made["spec"] == {"colour": "red", "loose": {"any": {"thing": 1}}, "fit": "slim"}
    assert answer.headers["Warning"] == '299 - "unknown field \\"spec.unknown\\""'
    status, refused, _ = await cluster.call("POST", f"{SHIRTS}?fieldValidation=Strict", body)
    assert status == 400 and 'strict decoding error: unknown field "spec.unknown"' in refused["message"]
    status, refused, _ = await cluster.call("POST", SHIRTS, shirt("b", colour="blue", size=0, fit=7))
    assert status == 422 and refused["reason"] == "Invalid"
    assert [(cause["field"], cause["reason"], cause["message"]) for cause in refused["details"]["causes"]] == [
        ("spec.colour", "FieldValueNotSupported", 'Unsupported value: "blue": supported values: "red", "green"'),
        ("spec.size", "FieldValueInvalid",
         "Invalid value: 0: spec.size in body should be greater than or equal to 1"),
        ("spec.fit", "FieldValueTypeInvalid",
         'Invalid value: "integer": spec.fit in body must be of type string: "integer"'),
    ]  # fmt: skip
    patch = {"Content-Type": "application/merge-patch+json"}
    status, patched, _ = await cluster.call("PATCH", f"{SHIRTS}/a", {"spec": {"size": 3}}, headers=patch)
    assert (status, patched["metadata"]["generation"], patched["spec"]["size"]) == (200, 2, 3)
    strategic = {"Content-Type": "application/strategic-merge-patch+json"}
    status, _, _ = await cluster.call("PATCH", f"{SHIRTS}/a", {"spec": {"size": 4}}, headers=strategic)
    assert status == 415
    status, refused, _ = await cluster.call("PUT", f"{SHIRTS}/a", shirt("a"))
    assert status == 422 and "metadata.resourceVersion" in refused["message"]


async def test_a_default_that_comes_later_shows_in_what_is_stored(cluster: Cluster) -> None:
    await establish(cluster, definition("shirts", "Shirt", version("v1", {"a": {"type": "string"}})))
    await cluster.call("POST", SHIRTS, shirt("a", a="1"))
    later = {"a": {"type": "string"}, "b": {"type": "string", "default": "there"}}
    await establish(cluster, definition("shirts", "Shirt", version("v1", later)))
    assert (await cluster.call("GET", f"{SHIRTS}/a"))[1]["spec"] == {"a": "1", "b": "there"}
    assert (await cluster.call("GET", SHIRTS))[1]["items"][0]["spec"]["b"] == "there"


async def test_versions_show_the_same_object(cluster: Cluster) -> None:
    old = version("v1beta1", {"colour": {"type": "string"}}, storage=True, selectableFields=[])
    new = version(
        "v1", {"colour": {"type": "string"}, "size": {"type": "integer", "default": 5}}, storage=False
    )
    await establish(cluster, definition("shirts", "Shirt", old, new))
    _, group, _ = await cluster.call("GET", GROUP)
    assert [entry["version"] for entry in group["versions"]] == ["v1", "v1beta1"]
    assert group["preferredVersion"]["version"] == "v1"
    await cluster.call("POST", SHIRTS, shirt("a", colour="red"))
    beta = SHIRTS.replace("/v1/", "/v1beta1/")
    _, seen, _ = await cluster.call("GET", f"{beta}/a")
    assert (seen["apiVersion"], seen["spec"]) == ("stable.example.com/v1beta1", {"colour": "red"})
    _, seen, _ = await cluster.call("GET", SHIRTS)
    assert seen["items"][0]["spec"] == {"colour": "red", "size": 5}
    both = definition("shirts", "Shirt", {**old, "storage": False}, {**new, "storage": True})
    await establish(cluster, both)
    _, crd, _ = await cluster.call("GET", f"{CRDS}/shirts.stable.example.com")
    assert crd["status"]["storedVersions"] == ["v1beta1", "v1"]
    for _ in range(20):  # Its controller may have written in between.
        _, crd, _ = await cluster.call("GET", f"{CRDS}/shirts.stable.example.com")
        body = {**definition("shirts", "Shirt", new | {"storage": True}), "metadata": crd["metadata"]}
        status, refused, _ = await cluster.call("PUT", f"{CRDS}/shirts.stable.example.com", body)
        if status != 409:
            break
    assert status == 422 and "status.storedVersions[0]" in refused["message"]
    before = (await cluster.call("GET", f"{SHIRTS}/a"))[1]
    status, after, _ = await cluster.call("PUT", f"{SHIRTS}/a", before)
    assert status == 200 and after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
    assert (await cluster.call("PUT", f"{SHIRTS}/a", after))[1]["metadata"] == after["metadata"]


async def test_status_and_scale_are_apart(cluster: Cluster) -> None:
    scale = {"specReplicasPath": ".spec.count", "statusReplicasPath": ".status.replicas",
             "labelSelectorPath": ".status.selector"}  # fmt: skip
    spec = {"count": {"type": "integer"}, "size": {"type": "integer"}}
    await establish(cluster, definition("shirts", "Shirt", version("v1", spec, subresources={
        "status": {}, "scale": scale})))  # fmt: skip
    body = {**shirt("a", count=2), "status": {"phase": "ignored"}}
    _, made, _ = await cluster.call("POST", SHIRTS, body)
    assert "status" not in made
    body = {**made, "spec": {"count": 9}, "status": {"replicas": 1, "selector": "a=b"}}
    status, written, _ = await cluster.call("PUT", f"{SHIRTS}/a/status", body)
    assert status == 200 and written["spec"] == {"count": 2} and written["metadata"]["generation"] == 1
    _, shown, _ = await cluster.call("GET", f"{SHIRTS}/a/scale")
    assert (shown["spec"], shown["status"]) == ({"replicas": 2}, {"replicas": 1, "selector": "a=b"})
    merge = {"Content-Type": "application/merge-patch+json"}
    status, shown, _ = await cluster.call(
        "PATCH", f"{SHIRTS}/a/scale", {"spec": {"replicas": 4}}, headers=merge
    )
    assert (status, shown["spec"]) == (200, {"replicas": 4})
    _, found, _ = await cluster.call("GET", f"{SHIRTS}/a")
    assert (found["spec"]["count"], found["metadata"]["generation"]) == (4, 2)
    table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    _, rows, _ = await cluster.call("GET", f"{SHIRTS}/a/scale", headers=table)
    assert rows["rows"][0]["cells"][:3] == ["a", 4, 1]
    await cluster.call("POST", SHIRTS, shirt("bare"))
    status, _, _ = await cluster.call("GET", f"{SHIRTS}/bare/scale")
    assert status == 500
    status, shown, _ = await cluster.call(
        "PATCH", f"{SHIRTS}/bare/scale", {"spec": {"replicas": 3}}, headers=merge
    )
    assert (status, shown["spec"]) == (200, {"replicas": 3})


async def test_tables_selectors_and_watches(cluster: Cluster) -> None:
    columns = [{"name": "Colour", "type": "string", "jsonPath": ".spec.colour"},
               {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "priority": 1}]  # fmt: skip
    await establish(cluster, definition("shirts", "Shirt", version(
        "v1", COLOUR, additionalPrinterColumns=columns, selectableFields=[{"jsonPath": ".spec.colour"}])))  # fmt: skip
    for name, colour in (("a", "red"), ("b", "green")):
        await cluster.call("POST", SHIRTS, shirt(name, colour=colour, size=1))
    _, table, _ = await cluster.call("GET", SHIRTS, headers={"Accept": TABLE})
    assert [(c["name"], c["priority"]) for c in table["columnDefinitions"]] == [
        ("Name", 0), ("Colour", 0), ("Size", 1)]  # fmt: skip
    assert [row["cells"] for row in table["rows"]] == [["a", "red", 1], ["b", "green", 1]]
    _, found, _ = await cluster.call("GET", f"{SHIRTS}?fieldSelector=spec.colour=red")
    assert [item["metadata"]["name"] for item in found["items"]] == ["a"]
    status, _, _ = await cluster.call("GET", f"{SHIRTS}?fieldSelector=spec.size=1")
    assert status == 400
    watch = f"{cluster.base}{SHIRTS}?watch=1&fieldSelector=spec.colour=green"
    async with cluster.admin.get(watch) as answer:
        line = await answer.content.readline()
    assert b'"type":"ADDED"' in line and b'"name":"b"' in line


async def test_fields_of_any_name_and_scalar_type_are_selectable(cluster: Cluster) -> None:
    spec: Json = {"a-b": {"type": "integer"}, "class": {"type": "boolean"}}
    fields = [{"jsonPath": ".spec.a-b"}, {"jsonPath": ".spec.class"}]
    await establish(cluster, definition("shirts", "Shirt", version("v1", spec, selectableFields=fields)))
    for name, number in (("a", 1), ("b", 2)):
        await cluster.call("POST", SHIRTS, shirt(name, **{"a-b": number, "class": number == 1}))
    for selector, names in (("spec.a-b=2", ["b"]), ("spec.class=true", ["a"]), ("spec.class!=true", ["b"])):
        _, found, _ = await cluster.call("GET", f"{SHIRTS}?fieldSelector={selector}")
        assert [item["metadata"]["name"] for item in found["items"]] == names


async def test_names_that_others_have_are_not_accepted(cluster: Cluster) -> None:
    await establish(cluster, definition("shirts", "Shirt", version("v1")))
    other = definition("blouses", "Shirt", version("v1"))
    await cluster.call("POST", CRDS, other)
    path = f"{CRDS}/blouses.stable.example.com"
    conditions: list[Json] = []

    async def told() -> bool:
        conditions[:] = (await cluster.call("GET", path))[1]["status"].get("conditions") or []
        return bool(conditions)

    await eventually(told)
    found = {c["type"]: (c["status"], c["reason"]) for c in conditions}
    assert found == {"NamesAccepted": ("False", "ListKindConflict"), "Established": ("False", "NotAccepted")}
    assert (await cluster.call("GET", SHIRTS.replace("shirts", "blouses")))[0] == 404
    await cluster.call("DELETE", f"{CRDS}/shirts.stable.example.com")
    await answers(cluster, SHIRTS.replace("shirts", "blouses"), 200)


async def test_cluster_scoped_kinds_live_outside_namespaces(cluster: Cluster) -> None:
    await establish(cluster, definition("racks", "Rack", version("v1"), scope="Cluster"))
    body = {"apiVersion": "stable.example.com/v1", "kind": "Rack", "metadata": {"name": "r"}}
    assert (await cluster.call("POST", f"{GROUP}/v1/racks", body))[0] == 201
    assert (await cluster.call("GET", f"{GROUP}/v1/racks/r"))[0] == 200


async def test_owners_and_namespaces_take_custom_objects_with_them(cluster: Cluster) -> None:
    await establish(cluster, definition("shirts", "Shirt", version("v1"), version("v1beta1", storage=False)))
    maps = "/api/v1/namespaces/default/configmaps"
    _, owner, _ = await cluster.call("POST", SHIRTS, shirt("owner"))
    reference = {"apiVersion": "stable.example.com/v1beta1", "kind": "Shirt", "name": "owner",
                 "uid": owner["metadata"]["uid"]}  # fmt: skip
    owned = {"name": "owned", "ownerReferences": [reference]}
    assert (await cluster.call("POST", maps, {"metadata": owned}))[0] == 201
    _, root, _ = await cluster.call("POST", maps, {"metadata": {"name": "root"}})
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "root", "uid": root["metadata"]["uid"]}
    dependent = shirt("dependent")
    dependent["metadata"]["ownerReferences"] = [reference]
    assert (await cluster.call("POST", SHIRTS, dependent))[0] == 201
    await cluster.call("DELETE", f"{SHIRTS}/owner")
    await answers(cluster, f"{maps}/owned", 404)
    await cluster.call("DELETE", f"{maps}/root")
    await answers(cluster, f"{SHIRTS}/dependent", 404)
    await cluster.call("POST", SHIRTS, shirt("left"))
    await cluster.call("DELETE", "/api/v1/namespaces/default")
    await answers(cluster, f"{SHIRTS}/left", 404)
    await answers(cluster, "/api/v1/namespaces/default", 404)


async def test_a_bad_definition_is_refused_with_every_fault(cluster: Cluster) -> None:
    bad = definition("shirts", "Shirt", version("v1", {"a": {"pattern": "("}}, storage=False))
    bad["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["default"] = 7
    status, refused, _ = await cluster.call("POST", CRDS, bad)
    path = "spec.validation.openAPIV3Schema.properties[spec]"
    assert status == 422
    assert {cause["field"]: cause["reason"] for cause in refused["details"]["causes"]} == {
        "spec.versions": "FieldValueInvalid",
        f"{path}.default": "FieldValueTypeInvalid",
        f"{path}.properties[a].type": "FieldValueRequired",
        f"{path}.properties[a].pattern": "FieldValueInvalid",
    }


async def test_server_side_apply_merges_by_the_lists_of_the_schema(cluster: Cluster) -> None:
    pockets = {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
               "items": {"type": "object", "required": ["name"], "properties": {
                   "name": {"type": "string"}, "size": {"type": "integer"}}}}  # fmt: skip
    await establish(cluster, definition("shirts", "Shirt", version("v1", {"pockets": pockets})))
    apply = {"Content-Type": "application/apply-patch+yaml"}
    for manager, pocket in (("one", {"name": "left", "size": 1}), ("two", {"name": "right"})):
        status, merged, _ = await cluster.call(
            "PATCH", f"{SHIRTS}/a?fieldManager={manager}", shirt("a", pockets=[pocket]), headers=apply
        )
        assert status in (200, 201), merged
    assert merged["spec"]["pockets"] == [{"name": "left", "size": 1}, {"name": "right"}]
    status, _, _ = await cluster.call(
        "PATCH",
        f"{SHIRTS}/a?fieldManager=two",
        shirt("a", pockets=[{"name": "left", "size": 2}]),
        headers=apply,
    )
    assert status == 409
    status, refused, _ = await cluster.call(
        "POST", SHIRTS, shirt("b", pockets=[{"name": "x"}, {"name": "x"}])
    )
    assert status == 422 and refused["details"]["causes"][0]["message"] == 'Duplicate value: {"name":"x"}'


async def test_nothing_is_kept_of_kinds_that_came_and_went(cluster: Cluster) -> None:
    crd = f"{CRDS}/mayflies.stable.example.com"
    insects = f"{GROUP}/v1/namespaces/default/mayflies"
    mayfly = {**shirt("a", colour="red"), "kind": "Mayfly"}
    apply = {"Content-Type": "application/apply-patch+yaml"}
    for _ in range(2):
        await establish(
            cluster, definition("mayflies", "Mayfly", version("v1", {"colour": {"type": "string"}}))
        )
        status, _, _ = await cluster.call("PATCH", f"{insects}/a?fieldManager=me", mayfly, headers=apply)
        assert status == 201
        assert (await cluster.call("DELETE", crd))[0] == 200
        await answers(cluster, crd, 404)

    async def holds() -> bool:
        gc.collect()
        kept = [each for each in gc.get_objects() if type(each) is CustomVersion]
        return [version for version in kept if version.row.plural == "mayflies"] == []

    await eventually(holds)


async def test_lists_have_the_kind_that_the_definition_names(cluster: Cluster) -> None:
    names = {"plural": "shirts", "kind": "Shirt", "listKind": "Wardrobe"}
    await establish(cluster, definition("shirts", "Shirt", version("v1"), names=names))
    listed = (await cluster.call("GET", SHIRTS))[1]
    assert (listed["kind"], listed["apiVersion"]) == ("Wardrobe", "stable.example.com/v1")
    document = (await cluster.call("GET", "/openapi/v3/apis/stable.example.com/v1"))[1]
    schemas, path = document["components"]["schemas"], "/apis/stable.example.com/v1/shirts"
    name = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
    assert name.rpartition("/")[2] in schemas
