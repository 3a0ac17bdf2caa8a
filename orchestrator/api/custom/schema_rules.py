"""Rules of single keywords in a CustomResourceDefinition's schema, in Kubernetes' words. Pure; called by `definition`.

What CEL rules say is stored and their structure checked; evaluating them comes with the extension of the API.
"""

from collections.abc import Iterator
from typing import Any

from orchestrator.api.custom import problems
from orchestrator.api.custom.cleaning import Cleaner
from orchestrator.api.custom.schema import Definition, Node, without_texts
from orchestrator.api.custom.shapes import parts_of
from orchestrator.api.custom.validation import check_value
from orchestrator.api.errors import Cause

TYPES = ("array", "boolean", "integer", "number", "object", "string")
_SCALARS = ("boolean", "integer", "number", "string")
_LIST_TYPE, _MAP_KEYS, _MAP_TYPE = (
    "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type",
)  # fmt: skip
_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_UNSUPPORTED = ("id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref")
_NOT_BESIDE_STATUS = ("allOf", "anyOf", "oneOf", "not", "additionalProperties", "nullable", "default", "enum")
RULE_LENGTH_MAX = 10_000


def check_rules(schema: Definition, path: str, *, has_status: bool) -> list[Cause]:
    """What is wrong with single keywords anywhere in `schema`."""
    found: list[Cause] = []
    if schema.get("nullable"):
        found.append(problems.forbidden(f"{path}.nullable", "nullable cannot be true at the root"))
    if has_status and any(schema.get(keyword) for keyword in _NOT_BESIDE_STATUS):
        detail = (
            'only "description", "type", "properties", "required" and restrictions of a value are allowed at the'
            " root of the schema if the status subresource is enabled"
        )
        found.append(problems.forbidden(path, detail))
    found += _below(schema, path)
    return found


def _below(schema: Definition, path: str) -> Iterator[Cause]:
    yield from _keywords(schema, path)
    yield from _lists(schema, path)
    yield from _defaults(schema, path)
    yield from _cel(schema.get("x-kubernetes-validations") or [], f"{path}.x-kubernetes-validations")
    for below, part in parts_of(schema, path):
        yield from _below(part, below)


def _keywords(schema: Definition, path: str) -> Iterator[Cause]:
    for keyword in _UNSUPPORTED:
        if schema.get(keyword):
            yield problems.forbidden(f"{path}.{keyword}", f"{keyword} is not supported")
    kind = schema.get("type") or ""
    if kind == "null":
        yield problems.forbidden(f"{path}.type", "type cannot be set to null, use nullable as an alternative")
    elif kind and kind not in TYPES:
        yield problems.unsupported(f"{path}.type", kind, TYPES)
    if schema.get("uniqueItems"):
        detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        yield problems.forbidden(f"{path}.uniqueItems", detail)
    if schema.get("additionalProperties") is not None and schema.get("properties"):
        detail = "additionalProperties and properties are mutual exclusive"
        yield problems.forbidden(f"{path}.additionalProperties", detail)
    if isinstance(schema.get("items"), list):
        yield problems.forbidden(f"{path}.items", "items must be a schema object and not an array")
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        field = f"{path}.x-kubernetes-preserve-unknown-fields"
        yield problems.invalid(field, False, "must be true or undefined")
    if schema.get(_MAP_TYPE) is not None:
        if kind != "object":
            yield _typed(f"{path}.type", kind, f"must be object if {_MAP_TYPE} is specified")
        if schema[_MAP_TYPE] not in ("granular", "atomic"):
            yield problems.unsupported(f"{path}.{_MAP_TYPE}", schema[_MAP_TYPE], ("granular", "atomic"))


def _typed(field: str, kind: str, detail: str) -> Cause:
    return problems.invalid(field, kind, detail) if kind else problems.required(field, detail)


def _lists(schema: Definition, path: str) -> Iterator[Cause]:
    wanted, keys = schema.get(_LIST_TYPE), schema.get(_MAP_KEYS) or []
    if wanted is not None:
        kind = schema.get("type") or ""
        if kind != "array":
            yield _typed(f"{path}.type", kind, f"must be array if {_LIST_TYPE} is specified")
        if wanted not in ("atomic", "set", "map"):
            yield problems.unsupported(f"{path}.{_LIST_TYPE}", wanted, ("atomic", "map", "set"))
    if keys and wanted != "map":
        detail = f"must be map if {_MAP_KEYS} is non-empty"
        field = f"{path}.{_LIST_TYPE}"
        yield problems.required(field, detail) if wanted is None else problems.invalid(field, wanted, detail)
    items = schema.get("items")
    if not isinstance(items, dict):
        return
    if wanted == "map":
        yield from _map_list(items, keys, path)
    elif wanted == "set":
        yield from _set_list(items, path)


def _map_list(items: Definition, keys: list[str], path: str) -> Iterator[Cause]:
    if not keys:
        yield problems.required(f"{path}.{_MAP_KEYS}", f"must not be empty if {_LIST_TYPE} is map")
    if items.get("type") != "object":
        kind = items.get("type") or ""
        yield problems.invalid(
            f"{path}.items.type", kind, f"must be object if parent array's {_LIST_TYPE} is map"
        )
    if items.get("nullable"):
        detail = f"cannot be nullable when {_LIST_TYPE} is map"
        yield problems.forbidden(f"{path}.items.nullable", detail)
    properties, required = items.get("properties") or {}, items.get("required") or ()
    for at, key in enumerate(keys):
        if key in keys[:at]:
            yield problems.duplicate(f"{path}.{_MAP_KEYS}[{at}]", key)
        if key not in properties:
            yield problems.invalid(
                f"{path}.{_MAP_KEYS}", keys, "entries must all be names of item properties"
            )
            continue
        part, field = properties[key], f"{path}.items.properties[{key}]"
        kind = part.get("type") or ""
        if kind not in _SCALARS and not part.get("x-kubernetes-int-or-string"):
            detail = f"must be a scalar type if parent array's {_LIST_TYPE} is map"
            yield problems.invalid(f"{field}.type", kind, detail)
        if key not in required and part.get("default") is None:
            yield problems.required(
                f"{field}.default",
                f"this property is in {_MAP_KEYS}, so it must have a default or be a required property",
            )
        if part.get("nullable"):
            detail = f"this property is in {_MAP_KEYS}, so it cannot be nullable"
            yield problems.forbidden(f"{field}.nullable", detail)


def _set_list(items: Definition, path: str) -> Iterator[Cause]:
    if items.get("nullable"):
        yield problems.forbidden(f"{path}.items.nullable", f"cannot be nullable when {_LIST_TYPE} is set")
    if items.get("type") == "array" and items.get(_LIST_TYPE, "atomic") != "atomic":
        detail = f"must be atomic as item of a list with {_LIST_TYPE}=set"
        yield problems.invalid(f"{path}.items.{_LIST_TYPE}", items[_LIST_TYPE], detail)
    if items.get("type") == "object" and items.get(_MAP_TYPE) != "atomic":
        detail = f"must be atomic as item of a list with {_LIST_TYPE}=set"
        field = f"{path}.items.{_MAP_TYPE}"
        given = items.get(_MAP_TYPE)
        yield problems.required(field, detail) if given is None else problems.invalid(field, given, detail)


def _defaults(schema: Definition, path: str) -> Iterator[Cause]:
    default = schema.get("default")
    if default is None:
        return
    field = f"{path}.default"
    plain = without_texts(schema)
    cleaner = Cleaner(lambda metadata, at, unknown: metadata)
    if type(default) is dict and schema.get("type") == "object":
        cleaner.root(Node(plain), default)
    if cleaner.unknown:
        yield problems.invalid(field, default, "must not have unknown fields")
    yield from check_value(plain, default, field)


def _cel(rules: list[Any], path: str) -> Iterator[Cause]:
    for at, rule in enumerate(rules):
        field = f"{path}[{at}]"
        if type(rule) is not dict or any(
            type(rule.get(key, "")) is not str
            for key in ("rule", "message", "messageExpression", "reason", "fieldPath")
        ):
            yield problems.invalid(field, rule, "must be an object of strings")
            continue
        text = rule.get("rule", "")
        if not text.strip():
            yield problems.required(f"{field}.rule", "rule is not specified")
        elif len(text) > RULE_LENGTH_MAX:
            yield problems.too_long(f"{field}.rule", RULE_LENGTH_MAX)
        message = rule.get("message")
        if message is not None and not message.strip():
            yield problems.invalid(f"{field}.message", message, "message must be non-empty if specified")
        elif message is not None and "\n" in message.strip():
            yield problems.invalid(f"{field}.message", message, "message must not contain line breaks")
        elif message is None and "\n" in text.strip() and not rule.get("messageExpression"):
            detail = "message must be specified if rule contains line breaks"
            yield problems.required(f"{field}.message", detail)
        if rule.get("reason") and rule["reason"] not in _REASONS:
            yield problems.unsupported(f"{field}.reason", rule["reason"], _REASONS)
