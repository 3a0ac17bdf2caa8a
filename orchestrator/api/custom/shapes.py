"""Whether a schema is made of the right types at all: what is below `items` and `additionalProperties` comes unchecked.

Everything that looks into schemas later relies on it. Pure; called by `definition` before any other rule.
"""

from collections.abc import Callable
from typing import Any

from orchestrator.api.custom import problems
from orchestrator.api.errors import CAUSES_MAX, Cause

DEPTH_MAX = 100


def _is(*types: type) -> Callable[[Any], bool]:
    return lambda value: type(value) in types


def _texts(value: Any) -> bool:
    return type(value) is list and all(type(each) is str for each in value)


_text, _flag, _count, _number = _is(str), _is(bool), _is(int), _is(int, float)

_WANTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(
        ("type", "format", "pattern", "title", "description", "id", "$schema", "$ref",
         "x-kubernetes-list-type", "x-kubernetes-map-type"),
        (_text, "string"),
    ),
    **dict.fromkeys(
        ("nullable", "uniqueItems", "exclusiveMinimum", "exclusiveMaximum",
         "x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource", "x-kubernetes-int-or-string"),
        (_flag, "boolean"),
    ),
    **dict.fromkeys(
        ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
        (_count, "integer"),
    ),
    **dict.fromkeys(("minimum", "maximum", "multipleOf"), (_number, "number")),
    **dict.fromkeys(("required", "x-kubernetes-list-map-keys"), (_texts, "array of strings")),
    **dict.fromkeys(("enum", "allOf", "anyOf", "oneOf", "x-kubernetes-validations"), (_is(list), "array")),
    **dict.fromkeys(("properties", "patternProperties", "definitions", "not"), (_is(dict), "object")),
    "items": (_is(dict, list), "object"),
    "additionalProperties": (_is(dict, bool), "object or boolean"),
    "additionalItems": (_is(dict, bool), "object or boolean"),
}  # fmt: skip


def check_shapes(schema: Any, path: str, depth: int = 0) -> list[Cause]:
    """What has the wrong type, or is too deep, anywhere in a schema."""
    if type(schema) is not dict:
        return [problems.invalid(path, schema, "must be an object")]
    if depth > DEPTH_MAX:
        return [problems.invalid(path, "", f"must not be nested deeper than {DEPTH_MAX} levels")]
    found: list[Cause] = []
    for keyword, value in schema.items():
        wanted = _WANTED.get(keyword)
        if wanted is not None and value is not None and not wanted[0](value):
            found.append(problems.invalid(f"{path}.{keyword}", value, f"must be of type {wanted[1]}"))
    if found:
        return found
    for below, part in parts_of(schema, path):
        found += check_shapes(part, below, depth + 1)
        if len(found) >= CAUSES_MAX:
            break
    return found


def parts_of(schema: Any, path: str) -> list[tuple[str, Any]]:
    """Every schema directly inside another, with its path."""
    found: list[tuple[str, Any]] = []
    for keyword in ("properties", "patternProperties", "definitions"):
        named = schema.get(keyword) or {}
        found += [(f"{path}.{keyword}[{name}]", part) for name, part in named.items()]
    for keyword in ("items", "additionalProperties", "additionalItems", "not"):
        part = schema.get(keyword)
        if isinstance(part, list):
            found += [(f"{path}.{keyword}[{at}]", each) for at, each in enumerate(part)]
        elif part is not None and type(part) is not bool:
            found.append((f"{path}.{keyword}", part))
    for keyword in ("allOf", "anyOf", "oneOf"):
        found += [(f"{path}.{keyword}[{at}]", part) for at, part in enumerate(schema.get(keyword) or ())]
    return found
