"""Custom kinds in OpenAPI: v3 components, what v2 can have of them, and hashes that follow the schema."""

import json
from functools import cache

import pytest

from orchestrator.api.custom.kinds import CustomKind
from orchestrator.api.errors import NotFound
from orchestrator.api.openapi import OpenAPI
from orchestrator.api.resources import Resource, ResourceTable
from orchestrator.api.schema import Schemas

_schemas = cache(Schemas.load)
SCHEMA = {
    "type": "object",
    "description": "A shirt.",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["colour", "maybe"],
            "properties": {
                "colour": {"type": "string", "description": "Its colour.", "enum": ["red"]},
                "maybe": {"type": "object", "nullable": True, "properties": {"a": {"type": "string"}}},
                "size": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "loose": {"type": "object", "x-kubernetes-preserve-unknown-fields": True,
                          "properties": {"b": {"type": "string"}}},
                "template": {"type": "object", "x-kubernetes-embedded-resource": True,
                             "x-kubernetes-preserve-unknown-fields": True},
            },
        }
    },
}  # fmt: skip


def _documents(schema: object = SCHEMA) -> OpenAPI:
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    kind = CustomKind.of({
        "metadata": {"name": "shirts.stable.example.com"},
        "spec": {"group": "stable.example.com", "scope": "Namespaced", "versions": [version],
                 "names": {"plural": "shirts", "kind": "Shirt", "listKind": "ShirtList"}},
    })  # fmt: skip
    table, schemas = ResourceTable(()), Schemas(_schemas().bundle)
    for row in kind.rows:
        table.add(row)
        schemas.custom[row.group, row.version, row.kind] = kind.versions[row.version]
    return OpenAPI(table, schemas)


def test_v3_has_the_schema_with_the_fields_of_every_object() -> None:
    document = _documents().render("apis/stable.example.com/v1")
    found = document["components"]["schemas"]
    shirt = found["com.example.stable.v1.Shirt"]
    assert shirt["description"] == "A shirt."
    assert shirt["x-kubernetes-group-version-kind"] == [
        {"group": "stable.example.com", "kind": "Shirt", "version": "v1"}
    ]
    assert {"apiVersion", "kind", "metadata", "spec"} == shirt["properties"].keys()
    assert "metadata" in shirt["properties"]["spec"]["properties"]["template"]["properties"]
    assert found["com.example.stable.v1.ShirtList"]["required"] == ["items"]
    assert "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta" in found
    assert "/apis/stable.example.com/v1/namespaces/{namespace}/shirts/{name}" in document["paths"]


def test_v2_leaves_out_what_clients_would_misread() -> None:
    body, _ = _documents().swagger()
    shirt = json.loads(body)["definitions"]["com.example.stable.v1.Shirt"]
    spec = shirt["properties"]["spec"]
    assert spec["required"] == ["colour"]
    assert spec["properties"]["maybe"] == {}
    assert spec["properties"]["size"] == {"x-kubernetes-int-or-string": True}
    assert spec["properties"]["loose"] == {"x-kubernetes-preserve-unknown-fields": True}
    reference = "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    assert shirt["properties"]["metadata"]["$ref"] == reference
    assert _documents().swagger_protobuf()[0]


def test_another_schema_has_another_hash() -> None:
    assert _documents().index() == _documents().index()
    assert _documents().index() != _documents({"type": "object"}).index()


def test_kinds_may_come_and_go_while_documents_are_made() -> None:
    """They are made in a thread."""
    table = ResourceTable()
    row = Resource("stable.example.com", "v1", "Shirt", "shirts")
    table.add(row)
    rows = iter(table)
    next(rows)
    table.remove(row)
    assert row in list(rows)
    with pytest.raises(NotFound):
        OpenAPI(table, _schemas()).render("apis/stable.example.com/v1")
