"""Custom kinds as OpenAPI publishes them: components of v3 documents, and what is left of them in v2. Pure.

The root, and every embedded object, gets the fields that all objects have. v2 cannot say everything; what kubectl
would misread there is left out: junctors, types of nullable values, fields beside those that the schema does not
know. Called by `api.openapi`.
"""

from typing import Any

import msgspec

from orchestrator.api.custom.kinds import CustomVersion
from orchestrator.api.resources import Resource

Json = dict[str, Any]

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
OBJECT_META, LIST_META = f"{_META}ObjectMeta", f"{_META}ListMeta"
REFERRED = (OBJECT_META, LIST_META)
"""Components that every custom kind refers to."""

_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_CONVENTIONS = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"
_TYPE_META: Json = {
    "apiVersion": {
        "type": "string",
        "description": f"Version of the schema that this object is written in. More info: {_CONVENTIONS}#resources",
    },
    "kind": {
        "type": "string",
        "description": f"What this object is, in CamelCase. More info: {_CONVENTIONS}#types-kinds",
    },
}


def component_name(row: Resource) -> str:
    """`com.example.stable.v1.Shirt`."""
    return ".".join([*reversed(row.group.split(".")), row.version, row.kind])


def components(version: CustomVersion) -> dict[str, Json]:
    """The kind and its list, by name."""
    row = version.row
    name = component_name(row)
    schema = _published(msgspec.json.decode(version.raw) or {"type": "object", _PRESERVE: True})
    listed: Json = {
        "description": f"{row.list_kind} is a list of {row.kind}",
        "type": "object",
        "required": ["items"],
        "properties": {
            **_TYPE_META,
            "items": {"type": "array", "items": {"$ref": _reference(name)}},
            "metadata": _referring(LIST_META, "Standard list metadata."),
        },
        "x-kubernetes-group-version-kind": [_gvk(row, row.list_kind)],
    }
    whole = {**_with_own_fields(schema), "x-kubernetes-group-version-kind": [_gvk(row, row.kind)]}
    return {name: whole, f"{name}List": listed}


def _published(schema: Any) -> Any:
    """A copy in which embedded objects have the fields of objects."""
    if not isinstance(schema, dict):
        return schema
    out = dict(schema)
    if isinstance(out.get("properties"), dict):
        out["properties"] = {name: _published(part) for name, part in out["properties"].items()}
    for keyword in ("items", "additionalProperties"):
        if isinstance(out.get(keyword), dict):
            out[keyword] = _published(out[keyword])
    return _with_own_fields(out) if out.get("x-kubernetes-embedded-resource") else out


def _with_own_fields(schema: Json) -> Json:
    properties = {**_TYPE_META, "metadata": _referring(OBJECT_META, "Standard object's metadata.")}
    return {**schema, "properties": {**(schema.get("properties") or {}), **properties}}


def _gvk(row: Resource, kind: str) -> Json:
    return {"group": row.group, "kind": kind, "version": row.version}


def _reference(name: str) -> str:
    return f"#/components/schemas/{name}"


def _referring(name: str, description: str) -> Json:
    return {"description": description, "allOf": [{"$ref": _reference(name)}]}


_LOST = ("anyOf", "oneOf", "not", "nullable", "x-kubernetes-validations", "example")


def simplified(schema: Any, *, root: bool = True) -> Any:
    """A v3 component as v2 can have it; references stay as they are."""
    if not isinstance(schema, dict):
        return schema
    out = {key: value for key, value in schema.items() if key not in _LOST}
    if "allOf" in out and "$ref" not in out["allOf"][0]:
        del out["allOf"]
    preserves = bool(out.get(_PRESERVE))
    if schema.get("nullable") or (preserves and not root):
        for key in ("items", "properties"):
            out.pop(key, None)
    if schema.get("nullable") or out.get("x-kubernetes-int-or-string") or (preserves and not root):
        out.pop("type", None)
    if preserves and root:
        out["properties"] = {
            name: part
            for name, part in out.get("properties", {}).items()
            if name in (*_TYPE_META, "metadata")
        }
    if out.get("type") == "array" and "items" not in out:
        del out["type"]
    if "properties" in out:
        needed = [
            name
            for name in out.get("required") or ()
            if not (out["properties"].get(name) or {}).get("nullable")
        ]
        out["properties"] = {name: simplified(part, root=False) for name, part in out["properties"].items()}
        _set(out, "required", needed)
    for key in ("items", "additionalProperties"):
        if key in out:
            out[key] = simplified(out[key], root=False)
    return out


def _set(out: Json, key: str, value: list[str]) -> None:
    if value:
        out[key] = value
    else:
        out.pop(key, None)
