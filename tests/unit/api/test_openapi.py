"""What kubectl reads from OpenAPI: which kind a path serves, what PATCH takes, how fields are described."""

import json
import re
from typing import Any

import pytest

from orchestrator.api.errors import NotFound
from orchestrator.api.openapi import OpenAPI
from orchestrator.api.openapi_gnostic import MEDIA_TYPE
from orchestrator.api.resources import Resource, ResourceTable
from orchestrator.api.schema import Schemas
from orchestrator.wire.protobuf import Codec
from orchestrator.wire.tables import Tables

schemas = Schemas.load()
openapi = OpenAPI(ResourceTable(), schemas)
METHODS = ("get", "put", "post", "delete", "patch")


def document(path: str, source: OpenAPI = openapi) -> Any:
    return json.loads(source.document(path)[0])


def references(node: Any) -> set[str]:
    return set(
        re.findall(r'"\$ref":"#/[a-z]+(?:/schemas)?/([^"]+)"', json.dumps(node, separators=(",", ":")))
    )


def test_the_index_leads_to_every_document_with_its_hash() -> None:
    paths = json.loads(openapi.index())["paths"]
    assert {"api/v1", "apis/apps/v1", "apis/rbac.authorization.k8s.io/v1"} <= set(paths)
    for path, entry in paths.items():
        assert entry["serverRelativeURL"] == f"/openapi/v3/{path}?hash={openapi.document(path)[1]}"


@pytest.mark.parametrize("path", sorted(json.loads(openapi.index())["paths"]))
def test_a_document_is_whole(path: str) -> None:
    found = document(path)
    assert references(found) <= set(found["components"]["schemas"])
    operations = [item[method] for item in found["paths"].values() for method in METHODS if method in item]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))
    for url, item in found["paths"].items():
        declared = {part["name"] for part in item["parameters"] if part["in"] == "path"}
        assert declared == set(re.findall(r"{(\w+)}", url))


def test_patch_says_that_it_takes_dry_run_and_field_validation() -> None:
    item = document("apis/apps/v1")["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]
    names = {part["name"] for part in item["patch"]["parameters"]}
    assert {"dryRun", "fieldManager", "fieldValidation", "force"} <= names
    assert item["patch"]["x-kubernetes-group-version-kind"] == {
        "group": "apps",
        "kind": "Deployment",
        "version": "v1",
    }
    assert item["patch"]["x-kubernetes-action"] == "patch"


def test_a_list_path_names_the_kind_of_its_items() -> None:
    paths = document("api/v1")["paths"]
    for path in ("/api/v1/pods", "/api/v1/namespaces/{namespace}/pods"):
        assert paths[path]["get"]["x-kubernetes-group-version-kind"]["kind"] == "Pod"
    scale = document("apis/apps/v1")["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]
    assert scale["get"]["x-kubernetes-group-version-kind"] == {
        "group": "autoscaling",
        "kind": "Scale",
        "version": "v1",
    }
    attach = paths["/api/v1/namespaces/{namespace}/pods/{name}/exec"]["post"]
    assert (attach["x-kubernetes-action"], attach["operationId"]) == (
        "connect",
        "connectCoreV1PostNamespacedPodExec",
    )


def test_fields_carry_descriptions_merge_facts_and_defaults() -> None:
    components = document("api/v1")["components"]["schemas"]
    spec = components["io.k8s.api.core.v1.PodSpec"]["properties"]
    assert len(spec["containers"]["description"]) > 20
    assert spec["containers"]["x-kubernetes-patch-merge-key"] == "name"
    assert spec["containers"]["x-kubernetes-list-map-keys"] == ["name"]
    assert spec["affinity"]["allOf"] == [{"$ref": "#/components/schemas/io.k8s.api.core.v1.Affinity"}]
    assert components["io.k8s.api.core.v1.ServicePort"]["properties"]["protocol"]["default"] == "TCP"
    quantity = components["io.k8s.apimachinery.pkg.api.resource.Quantity"]
    assert quantity["oneOf"] == [{"type": "string"}, {"type": "number"}]
    pod = components["io.k8s.api.core.v1.Pod"]
    assert pod["x-kubernetes-group-version-kind"] == [{"group": "", "kind": "Pod", "version": "v1"}]


def test_nothing_decoded_is_kept() -> None:
    source = OpenAPI(ResourceTable(), Schemas.load())
    body, _ = source.document("api/v1")
    assert sum(len(kept) for kept in source._kept.values()) < len(body) / 3
    assert source.document("api/v1")[0] == body


def test_a_new_row_changes_its_document_only() -> None:
    table = ResourceTable()
    source = OpenAPI(table, schemas)
    before = json.loads(source.index())["paths"]
    row = Resource("example.com", "v1", "Widget", "widgets")
    table.add(row)
    after = json.loads(source.index())["paths"]
    assert {path: after[path] for path in before} == before
    found = document("apis/example.com/v1", source)
    assert "/apis/example.com/v1/namespaces/{namespace}/widgets/{name}" in found["paths"]
    assert found["components"]["schemas"]["com.example.v1.Widget"]["type"] == "object"
    assert references(found) <= set(found["components"]["schemas"])
    table.remove(row)
    with pytest.raises(NotFound):
        source.document("apis/example.com/v1")


def test_version_2_says_the_same_as_json_and_as_protobuf() -> None:
    swagger = json.loads(openapi.swagger()[0])
    assert references(swagger) <= set(swagger["definitions"])
    assert (
        swagger["definitions"]["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["format"] == "int-or-string"
    )
    item = swagger["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]
    assert item["patch"]["parameters"][0]["in"] == "body"

    message = Codec(Tables("openapi")).decode("openapi_v2.Document", openapi.swagger_protobuf()[0])
    assert set(message["paths"]["path"]) == set(swagger["paths"])
    definitions = message["definitions"]["additional_properties"]
    assert set(definitions) == set(swagger["definitions"])
    pod = definitions["io.k8s.api.core.v1.Pod"]
    assert json.loads(pod["extensions"]["x-kubernetes-group-version-kind"]["yaml"])[0]["kind"] == "Pod"
    patch = message["paths"]["path"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"]
    query = [part["parameter"]["other"]["query"]["name"] for part in patch["parameters"][1:]]
    assert {"dryRun", "fieldValidation"} <= set(query)
    assert "@" not in MEDIA_TYPE
