"""Every kind that the resource table serves: objects drawn from its schema survive protobuf, field by field.

The oracle is the schema: a field without a number, under a wrong number or of a wrong type is lost or refused.
"""

import base64
import random
from functools import cache
from typing import Any

import pytest

from orchestrator.api.resources import ResourceTable
from orchestrator.api.schema import Schemas
from orchestrator.wire.kubernetes import decode_object, encode_object, has_message

schemas = cache(Schemas.load)
ROWS = sorted({(row.group, row.version, row.kind) for row in ResourceTable()})
OBJECTS_PER_KIND = 5
DEPTH = 7

_SPECIAL: dict[str, Any] = {
    "api.resource.Quantity": lambda rng: rng.choice(["1", "100m", "1Gi", "2e3"]),
    "util.intstr.IntOrString": lambda rng: rng.choice([rng.randint(1, 65535), "50%", "http"]),
    "apis.meta.v1.Time": lambda rng: f"20{rng.randint(10, 40)}-02-03T04:05:06Z",
    "apis.meta.v1.MicroTime": lambda rng: (
        f"20{rng.randint(10, 40)}-02-03T04:05:06.{rng.randint(1, 999999):06}Z"
    ),
    "apis.meta.v1.FieldsV1": lambda rng: {"f:spec": {"f:x": {}, 'k:{"a":1}': {".": {}}}},
    "runtime.RawExtension": lambda rng: {"any": [1, "two", {"three": None}]},
    "v1.JSON": lambda rng: rng.choice([{"a": [1, None]}, [1, "x"], "text", 5, True]),
    "v1.JSONSchemaPropsOrBool": lambda rng: rng.choice([True, False, {"type": "string"}]),
    "v1.JSONSchemaPropsOrArray": lambda rng: rng.choice([{"type": "string"}, [{"type": "a"}, {"type": "b"}]]),
    "v1.JSONSchemaPropsOrStringArray": lambda rng: rng.choice([{"type": "string"}, ["a", "b"]]),
}


def _special(name: str) -> Any:
    return next((make for suffix, make in _SPECIAL.items() if name.endswith(f".{suffix}")), None)


class _Maker:
    """Values for one schema. Zeros are left out: whether a zero is kept is a fact of Go, tested elsewhere."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.bundle = schemas().bundle
        self.kinds = set(self.bundle.kinds.values())

    def definition(self, name: str, depth: int) -> Any:
        make = _special(name)
        if make is not None:
            return make(self.rng)
        made = self.value(self.bundle.definition(name), depth)
        if name in self.kinds:  # An object within another has no kind of its own on the wire.
            made = {key: part for key, part in made.items() if key not in ("apiVersion", "kind")}
        return made

    def value(self, node: dict[str, Any], depth: int) -> Any:
        if "$ref" in node:
            return self.definition(node["$ref"], depth)
        if "properties" in node:
            return self.fields(node["properties"], depth)
        kind = node.get("type")
        if kind == "array":
            return [self.value(node["items"], depth - 1) for _ in range(self.rng.randint(1, 2))]
        if kind == "object" and isinstance(node.get("additionalProperties"), dict):
            return {
                key: self.value(node["additionalProperties"], depth - 1) for key in self.rng.sample("xyz", 2)
            }
        return {} if kind == "object" else self.leaf(kind, node.get("format", ""))

    def fields(self, properties: dict[str, Any], depth: int) -> dict[str, Any]:
        most = 0 if depth <= 0 else len(properties) if self.rng.random() < 0.3 else 4
        names = self.rng.sample(sorted(properties), min(most, len(properties)))
        return {name: self.value(properties[name], depth - 1) for name in names}

    def leaf(self, kind: Any, form: str) -> Any:
        rng = self.rng
        if kind == "integer":
            return rng.randint(1, 2**31 - 1 if form == "int32" else 2**63 - 1)
        if kind == "boolean":
            return True
        if kind == "number":
            return rng.choice([0.5, 1e300, 3.0])
        if form == "byte":
            return base64.b64encode(rng.randbytes(5)).decode()
        return rng.choice(["a", "ü", "x" * 200])


@pytest.mark.parametrize("kind", ROWS, ids=[" ".join(row) for row in ROWS])
def test_objects_of_every_kind_survive(kind: tuple[str, str, str]) -> None:
    group, version, name = kind
    api_version = f"{group}/{version}" if group else version
    assert has_message(api_version, name), "kubectl and client-go send this kind as protobuf"
    schema = schemas().name(kind)
    assert schema is not None
    for seed in range(OBJECTS_PER_KIND):
        made = _Maker(random.Random(f"{kind}{seed}")).definition(schema, DEPTH)
        obj = {**made, "apiVersion": api_version, "kind": name}
        assert _plain(decode_object(encode_object(obj))) == _plain(obj)


def _plain(value: Any) -> Any:
    """Without the empty parts that Go writes or leaves out as its types say."""
    if isinstance(value, dict):
        parts = {key: _plain(part) for key, part in value.items()}
        return {
            key: part for key, part in parts.items() if part not in ({}, [], "", None, 0) or part is False
        }
    return [_plain(part) for part in value] if isinstance(value, list) else value
