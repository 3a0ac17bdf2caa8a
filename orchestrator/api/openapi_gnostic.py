"""OpenAPI v2 in the protobuf form that kubectl before 1.29 asks for; without it their `apply` gives up.

The message is gnostic's `openapi.v2.Document`; its numbers stand in `wire/tables/openapi`. Extensions and
defaults travel as YAML text, of which JSON is a part. Pure; called by `openapi`.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from orchestrator.wire.protobuf import Codec
from orchestrator.wire.tables import Tables

ACCEPTED = (
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
)
"""What clients ask for. The first is no legal media type, so it must not be answered: clients refuse it."""
MEDIA_TYPE = ACCEPTED[1]

Json = dict[str, Any]

_METHODS = ("get", "put", "post", "delete", "patch")


def encode(swagger: Json) -> bytes:
    """The bytes of a rendered v2 document (see `openapi_v2`)."""
    document = {
        "swagger": swagger["swagger"],
        "info": swagger["info"],
        "paths": {"path": {path: _item(item) for path, item in swagger["paths"].items()}},
        "definitions": _named(swagger["definitions"]),
    }
    return Codec(Tables("openapi")).encode("openapi_v2.Document", document)


def _item(item: Json) -> Json:
    out: Json = {method: _operation(item[method]) for method in _METHODS if method in item}
    out["parameters"] = [_parameter(part) for part in item["parameters"]]
    return out


def _operation(operation: Json) -> Json:
    responses = {code: {"response": _response(part)} for code, part in operation["responses"].items()}
    return {
        **operation,
        "parameters": [_parameter(part) for part in operation.get("parameters", ())],
        "responses": {"response_code": responses},
        "extensions": _extensions(operation),
    }


def _response(response: Json) -> Json:
    out = {"description": response["description"]}
    if "schema" in response:
        out["schema"] = {"schema": _schema(response["schema"])}
    return out


def _parameter(parameter: Json) -> Json:
    place = parameter["in"]
    if place == "body":
        return {"parameter": {"body": {**parameter, "schema": _schema(parameter["schema"])}}}
    return {"parameter": {"other": {place: parameter}}}


def _named(schemas: Json) -> Json:
    return {"additional_properties": {name: _schema(schema) for name, schema in schemas.items()}}


def _schema(schema: Json) -> Json:
    out = {key: _FORMS[key](value) if key in _FORMS else value for key, value in schema.items()}
    out["extensions"] = _extensions(schema)
    return out


def _extensions(value: Json) -> Json:
    return {key: _any(part) for key, part in value.items() if key.startswith("x-")}


def _any(value: Any) -> Json:
    return {"yaml": msgspec.json.encode(value).decode()}


_FORMS: dict[str, Callable[[Any], Json]] = {
    "type": lambda value: {"value": [value]},
    "items": lambda value: {"schema": [_schema(value)]},
    "additionalProperties": lambda value: {"schema": _schema(value)},
    "properties": _named,
    "default": _any,
}
