"""OpenAPI v2 (Swagger) from rendered v3 documents. Pure; called by `openapi`.

The two differ in where schemas lie, in how bodies and parameters are written, and in that v2 has no `oneOf`.
"""

from typing import Any

Json = dict[str, Any]

_OLD, _NEW = "#/components/schemas/", "#/definitions/"
_METHODS = ("get", "put", "post", "patch", "delete", "head", "options")


def swagger(documents: list[Json], version: str) -> Json:
    """One v2 document for all of `documents`, which are taken apart on the way."""
    paths: Json = {}
    definitions: Json = {}
    for document in documents:
        for name, schema in document["components"]["schemas"].items():
            if name not in definitions:
                definitions[name] = _schema(schema)
        for path, item in document["paths"].items():
            paths[path] = _item(item)
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": paths,
        "definitions": dict(sorted(definitions.items())),
    }


def _schema(schema: Json) -> Json:
    out: Json = {}
    for key, value in schema.items():
        if key == "$ref":
            out[key] = value.replace(_OLD, _NEW)
        elif key == "allOf":
            out["$ref"] = value[0]["$ref"].replace(_OLD, _NEW)
        elif key == "oneOf":
            out["type"] = "string"
        elif key == "properties":
            out[key] = {field: _schema(part) for field, part in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            out[key] = _schema(value)
        else:
            out[key] = value
    return out


def _item(item: Json) -> Json:
    out: Json = {"parameters": [_parameter(part) for part in item["parameters"]]}
    for method in _METHODS:
        if method in item:
            out[method] = _operation(item[method])
    return out


def _operation(operation: Json) -> Json:
    out = {key: value for key, value in operation.items() if key != "requestBody"}
    parameters = [_parameter(part) for part in operation.get("parameters", ())]
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]
        required = operation["requestBody"].get("required", False)
        schema = _schema(next(iter(content.values()))["schema"])
        parameters.insert(0, {"in": "body", "name": "body", "required": required, "schema": schema})
        out["consumes"] = list(content)
    out.setdefault("consumes", ["*/*"])
    if parameters:
        out["parameters"] = parameters
    out["produces"] = list(operation["responses"]["200"]["content"])
    out["responses"] = {code: _response(part) for code, part in operation["responses"].items()}
    return out


def _response(response: Json) -> Json:
    out = {"description": response["description"]}
    for content in response.get("content", {}).values():
        out["schema"] = _schema(content["schema"])
        break  # the same for every media type
    return out


def _parameter(parameter: Json) -> Json:
    out = {key: value for key, value in parameter.items() if key != "schema"}
    out.update(parameter["schema"])
    return out
