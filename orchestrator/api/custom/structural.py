"""The rules that a schema of a CustomResourceDefinition must keep to be structural, in Kubernetes' words. Pure.

1. Structure (types, properties, items, defaults, nullable, `x-kubernetes-*`) stands outside of `allOf`, `anyOf`,
   `oneOf` and `not`; these only validate what the structure names.
2. Every place has a type, unless it is int-or-string or preserves unknown fields. The root is an object.
3. `metadata` of the root can only be restricted in name and generateName.

Called by `definition`, with schemas whose shapes were checked.
"""

from collections.abc import Iterator
from typing import Any

from orchestrator.api.custom import problems
from orchestrator.api.custom.regex import PatternError, search_of
from orchestrator.api.custom.schema import Definition
from orchestrator.api.errors import Cause

_PRESERVE, _EMBEDDED = "x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"
_INT_OR_STRING = "x-kubernetes-int-or-string"
_ANY_OF_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]

_EMPTY_TYPE = {
    "root": "must not be empty at the root",
    "item": "must not be empty for specified array items",
    "field": "must not be empty for specified object fields",
}
_NOT_IN_JUNCTORS: dict[str, str] = {
    "type": "must be empty to be structural",
    "additionalProperties": "must be undefined to be structural",
    "default": "must be undefined to be structural",
    "title": "must be empty to be structural",
    "description": "must be empty to be structural",
    "nullable": "must be false to be structural",
    "externalDocs": "must be undefined to be structural",
    _PRESERVE: "must be false to be structural",
    _EMBEDDED: "must be false to be structural",
    _INT_OR_STRING: "must be false to be structural",
    "x-kubernetes-list-map-keys": "must be empty to be structural",
    "x-kubernetes-list-type": "must be undefined to be structural",
    "x-kubernetes-map-type": "must be undefined to be structural",
    "x-kubernetes-validations": "must be empty to be structural",
}


def check_structural(schema: Definition, path: str) -> list[Cause]:
    """What keeps `schema` from being structural."""
    found = [*_place(schema, "root", path), *_completeness(schema, path)]
    return sorted(found, key=lambda cause: (cause.field, cause.message))


def _place(schema: Definition, level: str, path: str) -> Iterator[Cause]:
    if schema.get("type") == "array" and "items" not in schema:
        yield problems.required(f"{path}.items", "must be specified")
    if isinstance(schema.get("items"), dict):
        yield from _place(schema["items"], "item", f"{path}.items")
    for name, part in (schema.get("properties") or {}).items():
        yield from _place(part, "field", f"{path}.properties[{name}]")
    additional = schema.get("additionalProperties")
    if additional is not None and level == "root":
        yield problems.forbidden(f"{path}.additionalProperties", "must not be used at the root")
    if isinstance(additional, dict):
        yield from _place(additional, "field", f"{path}.additionalProperties")
    yield from _extensions(schema, path)
    yield from _validations(schema, path, structure=True)
    yield from _type(schema, level, path)
    if level == "root" or schema.get(_EMBEDDED):
        yield from _type_meta(schema, path)
    yield from _metadata(schema, level, path)


def _extensions(schema: Definition, path: str) -> Iterator[Cause]:
    if schema.get(_INT_OR_STRING):
        for keyword in (_PRESERVE, _EMBEDDED):
            if schema.get(keyword):
                yield problems.invalid(
                    f"{path}.{keyword}", True, f"must be false if {_INT_OR_STRING} is true"
                )
    if schema.get(_EMBEDDED):
        if schema.get("additionalProperties") is not None:
            detail = f"must not be used if {_EMBEDDED} is set"
            yield problems.forbidden(f"{path}.additionalProperties", detail)
        if not schema.get(_PRESERVE) and not schema.get("properties"):
            detail = f"must not be empty if {_EMBEDDED} is true without {_PRESERVE}"
            yield problems.required(f"{path}.properties", detail)


def _type(schema: Definition, level: str, path: str) -> Iterator[Cause]:
    kind = schema.get("type") or ""
    if schema.get(_EMBEDDED) and kind != "object":
        detail = f"must be object if {_EMBEDDED} is true"
        field = f"{path}.type"
        yield problems.invalid(field, kind, detail) if kind else problems.required(field, detail)
    elif not kind and not schema.get(_INT_OR_STRING) and not schema.get(_PRESERVE):
        yield problems.required(f"{path}.type", _EMPTY_TYPE[level])
    if level == "root" and kind and kind != "object":
        yield problems.invalid(f"{path}.type", kind, "must be object at the root")


def _type_meta(schema: Definition, path: str) -> Iterator[Cause]:
    properties = schema.get("properties") or {}
    for name, wanted in (("kind", "string"), ("apiVersion", "string"), ("metadata", "object")):
        kind = properties.get(name, {}).get("type") or ""
        if name in properties and kind != wanted:
            yield problems.invalid(f"{path}.properties[{name}].type", kind, f"must be {wanted}")


def _metadata(schema: Definition, level: str, path: str) -> Iterator[Cause]:
    metadata = (schema.get("properties") or {}).get("metadata")
    if level != "root" or metadata is None:
        return
    named = set(metadata.get("properties") or {})
    free = {"type", "properties", "description"}
    structure = set(_NOT_IN_JUNCTORS) | {"items"}
    if named - {"name", "generateName"} or (set(metadata) - free) & structure:
        detail = (
            "must not specify anything other than name and generateName, but metadata is implicitly specified"
        )
        yield problems.forbidden(f"{path}.properties[metadata]", detail)


def _validations(schema: Definition, path: str, *, structure: bool) -> Iterator[Cause]:
    """The junctors of a place or of another junctor, and its pattern. `structure`: of a place."""
    any_of, all_of = schema.get("anyOf") or [], schema.get("allOf") or []
    if not (structure and any_of == _ANY_OF_INT_OR_STRING):
        for at, part in enumerate(any_of):
            yield from _nested(part, f"{path}.anyOf[{at}]")
    for at, part in enumerate(all_of):
        allowed = structure and at == 0 and part.get("anyOf") == _ANY_OF_INT_OR_STRING
        yield from _nested({**part, "anyOf": None} if allowed else part, f"{path}.allOf[{at}]")
    for at, part in enumerate(schema.get("oneOf") or ()):
        yield from _nested(part, f"{path}.oneOf[{at}]")
    if schema.get("not") is not None:
        yield from _nested(schema["not"], f"{path}.not")
    if schema.get("pattern"):
        try:
            search_of(schema["pattern"])
        except PatternError as error:
            detail = f"must be a valid regular expression, but isn't: {error}"
            yield problems.invalid(f"{path}.pattern", schema["pattern"], detail)


def _nested(schema: Definition, path: str) -> Iterator[Cause]:
    yield from _validations(schema, path, structure=False)
    if isinstance(schema.get("items"), dict):
        yield from _nested(schema["items"], f"{path}.items")
    for name, part in (schema.get("properties") or {}).items():
        yield from _nested(part, f"{path}.properties[{name}]")
    for keyword, detail in _NOT_IN_JUNCTORS.items():
        if schema.get(keyword):
            yield problems.forbidden(f"{path}.{keyword}", detail)
    if "metadata" in (schema.get("properties") or {}):
        detail = "must not be specified in a nested context"
        yield problems.forbidden(f"{path}.properties[metadata]", detail)


def _completeness(schema: Definition, path: str) -> Iterator[Cause]:
    """What junctors speak of must also stand in the structure."""
    for keyword in ("allOf", "anyOf", "oneOf"):
        for at, part in enumerate(schema.get(keyword) or ()):
            yield from _covered(part, schema, f"{path}.{keyword}[{at}]", path)
    if schema.get("not") is not None:
        yield from _covered(schema["not"], schema, f"{path}.not", path)
    for name, part in (schema.get("properties") or {}).items():
        yield from _completeness(part, f"{path}.properties[{name}]")
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            yield from _completeness(schema[keyword], f"{path}.{keyword}")


def _covered(nested: Definition, structure: Definition | None, at: str, path: str) -> Iterator[Cause]:
    """`at` is where `nested` stands, `path` where the structure should."""
    if structure is None:
        yield problems.required(path, f"because it is defined in {at}")
        return
    for keyword in ("allOf", "anyOf", "oneOf"):
        for index, part in enumerate(nested.get(keyword) or ()):
            yield from _covered(part, structure, f"{at}.{keyword}[{index}]", path)
    if nested.get("not") is not None:
        yield from _covered(nested["not"], structure, f"{at}.not", path)
    if isinstance(nested.get("items"), dict):
        yield from _covered(nested["items"], _dict(structure.get("items")), f"{at}.items", f"{path}.items")
    for name, part in (nested.get("properties") or {}).items():
        below = (structure.get("properties") or {}).get(name)
        yield from _covered(part, below, f"{at}.properties[{name}]", f"{path}.properties[{name}]")


def _dict(value: Any) -> Definition | None:
    return value if isinstance(value, dict) else None
