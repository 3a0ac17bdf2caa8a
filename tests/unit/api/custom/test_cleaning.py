"""Pruning, nulls and defaults: what changes, what stays, and that nothing that was handed in is mutated."""

import copy
from typing import Any

import pytest

from orchestrator.api.custom.cleaning import Cleaner
from orchestrator.api.custom.schema import Node, without_texts

Json = dict[str, Any]


def _meta(metadata: Any, path: str, unknown: list[str]) -> Any:
    if "bad" not in metadata:
        return metadata
    unknown.append(f"{path}.bad")
    return {key: value for key, value in metadata.items() if key != "bad"}


def _clean(spec: Json, value: Any) -> tuple[Any, list[str]]:
    node = Node({"type": "object", "properties": {"spec": spec}})
    obj = {"apiVersion": "a/v1", "kind": "A", "metadata": {"any": 1}, "spec": value}
    before, cleaner = copy.deepcopy(obj), Cleaner(_meta)
    out = cleaner.root(node, obj)
    assert obj == before, "what is handed in stays as it is"
    assert (out is obj) == (out == obj), "a copy only where something changes"
    assert {key: out[key] for key in ("apiVersion", "kind", "metadata")} == {
        "apiVersion": "a/v1", "kind": "A", "metadata": {"any": 1}}  # fmt: skip
    return out.get("spec"), cleaner.unknown


_PORT = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "p": {"type": "string", "default": "TCP"}},
}


@pytest.mark.parametrize(
    ("spec", "value", "expected", "unknown"),
    [
        ({"type": "object", "properties": {"a": {"type": "string"}}}, {"a": "x", "b": 1}, {"a": "x"}, ["spec.b"]),
        ({"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {"a": _PORT}},
         {"b": {"c": 1}, "a": {"x": 1}}, {"b": {"c": 1}, "a": {"p": "TCP"}}, ["spec.a.x"]),
        ({"type": "object", "additionalProperties": _PORT}, {"k": {"n": 1, "z": 2}}, {"k": {"n": 1, "p": "TCP"}},
         ["spec.k.z"]),
        ({"type": "object", "properties": {"l": {"type": "array", "items": _PORT}}},
         {"l": [{"n": 1, "p": "UDP"}, {"q": 1}]}, {"l": [{"n": 1, "p": "UDP"}, {"p": "TCP"}]}, ["spec.l[1].q"]),
        ({"type": "object", "properties": {"o": {**_PORT, "default": {"n": 7}}}}, {}, {"o": {"n": 7, "p": "TCP"}}, []),
        ({"type": "object", "properties": {"a": {"type": "string", "default": "d"}, "b": {"type": "string"},
                                           "c": {"type": "string", "nullable": True, "default": "d"}}},
         {"a": None, "b": None, "c": None}, {"a": "d", "c": None}, []),
        ({"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True},
         {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "n", "bad": 1}, "spec": {}},
         {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "n"}, "spec": {}}, ["spec.metadata.bad"]),
        (_PORT, {"n": 1, "p": "x"}, {"n": 1, "p": "x"}, []),
    ],
)  # fmt: skip
def test_cleaning(spec: Json, value: Any, expected: Any, unknown: list[str]) -> None:
    assert _clean(spec, value) == (expected, unknown)


def test_a_field_may_be_called_description() -> None:
    schema = {
        "type": "object",
        "description": "x",
        "properties": {"description": {"type": "string", "title": "t"}},
    }
    assert without_texts(schema) == {"type": "object", "properties": {"description": {"type": "string"}}}
