"""The slow look at an object: drops unknown fields and nulls, rewrites what decoding rewrites, names faults.

It does what decoding into Kubernetes' Go types and encoding again does to a JSON object, and its messages
are those of that decoder: a field's path without indexes behind the struct's name for wrong types, with
indexes for unknown fields. Called by `schema` when the compiled checkers are not content; inputs stay untouched.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from orchestrator.api import quantity
from orchestrator.api.schema_bundle import Bundle, Definition
from orchestrator.api.schema_fast import INT_OR_STRING, INT_RANGES, MICRO_TIME, QUANTITY, TIME, is_opaque

FAULTS_MAX = 100
"""Unknown fields beyond this are pruned without being named."""

_rfc3339 = re.compile(r"\d{4}-\d\d-\d\d[T]\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII).fullmatch


class WrongType(Exception):
    """A value that can't be decoded. The message is that of Kubernetes' decoder, without its prefix."""


class Walk:
    """One look at one object. `unknown` fills with the paths of pruned fields."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self.unknown: list[str] = []

    def definition(self, name: str, value: Any, path: str = "", at: str = "") -> Any:
        """A corrected copy of `value` as definition `name`. Raises `WrongType`."""
        special = _SPECIAL.get(name)
        if special is not None:
            return special(value)
        return self._node(self._bundle.definition(name), name, value, path, at)

    def _node(self, node: Definition, name: str, value: Any, path: str, at: str) -> Any:
        """`path` has indexes; `at` is the decoder's `Struct.field.field`, the struct being the innermost."""
        if "$ref" in node:
            return self.definition(node["$ref"], value, path, at)
        if is_opaque(node):
            return value
        kind = node["type"]
        if kind == "object" and "properties" in node:
            return self._struct(node["properties"], name, value, path, at)
        if kind == "object":
            return self._map(node, value, path, at)
        if kind == "array":
            return self._list(node, value, path, at)
        return _scalar(node, value, at)

    def _struct(self, properties: dict[str, Definition], name: str, value: Any, path: str, at: str) -> Any:
        if type(value) is not dict:
            raise _mismatch(value, at, go_type({"$ref": name}))
        struct, fields = name.rpartition(".")[2], at.partition(".")[2]
        out = {}
        for field, part in value.items():
            node = properties.get(field)
            inner = f"{path}.{field}" if path else field
            if node is None:
                self._report(inner)
            elif part is not None:
                out[field] = self._node(node, "", part, inner, f"{struct}.{fields and fields + '.'}{field}")
        return out

    def _map(self, node: Definition, value: Any, path: str, at: str) -> Any:
        if type(value) is not dict:
            raise _mismatch(value, at, go_type(node))
        values = node["additionalProperties"]
        return {key: self._element(values, part, f"{path}[{key}]", at) for key, part in value.items()}

    def _list(self, node: Definition, value: Any, path: str, at: str) -> Any:
        if type(value) is not list:
            raise _mismatch(value, at, go_type(node))
        items = node["items"]
        return [self._element(items, part, f"{path}[{index}]", at) for index, part in enumerate(value)]

    def _element(self, node: Definition, value: Any, path: str, at: str) -> Any:
        """A null in a list or map is the type's zero value there, since nothing can be left out."""
        return self._zero(node) if value is None else self._node(node, "", value, path, at)

    def _zero(self, node: Definition) -> Any:
        name = node.get("$ref", "")
        if name in _ZEROS:
            return _ZEROS[name]
        target = self._bundle.definition(name) if name else node
        if is_opaque(target):
            return None
        zeros = {"object": {}, "array": [], "string": "", "boolean": False, "integer": 0, "number": 0}
        return zeros[target["type"]]

    def _report(self, path: str) -> None:
        if len(self.unknown) < FAULTS_MAX:
            self.unknown.append(path)


def go_type(node: Definition) -> str:
    """The name the decoder's messages give the type: `v1.PodSpec`, `[]v1.Container`, `map[string]string`."""
    if "$ref" in node:
        package, _, short = node["$ref"].rpartition(".")
        return f"{package.rpartition('.')[2]}.{short}"
    kind = node.get("type", "object")
    if kind == "array":
        return "[]" + go_type(node["items"])
    if kind == "object":
        return "map[string]" + go_type(node.get("additionalProperties", {"type": "string"}))
    if kind == "integer":
        return str(node.get("format", "int64"))
    if node.get("format") == "byte":
        return "[]uint8"
    return {"string": "string", "boolean": "bool", "number": "float64"}[kind]


def _scalar(node: Definition, value: Any, at: str) -> Any:
    kind, form = node["type"], node.get("format", "")
    if kind == "integer":
        low, high = INT_RANGES[form or "int64"]
        if type(value) is not int:
            raise _mismatch(value, at, go_type(node), exact=type(value) is float)
        if not low <= value <= high:
            raise _mismatch(value, at, go_type(node), exact=True)
        return value
    allowed = {"string": (str,), "boolean": (bool,), "number": (int, float)}[kind]
    if type(value) not in allowed:
        raise _mismatch(value, at, go_type(node))
    return _bytes(value) if form == "byte" else value


def _mismatch(value: Any, at: str, wanted: str, exact: bool = False) -> WrongType:
    found = f"number {json.dumps(value)}" if exact else _json_type(value)
    target = f"struct field {at}" if at else "value"
    return WrongType(f"json: cannot unmarshal {found} into Go {target} of type {wanted}")


def _json_type(value: Any) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "bool", int: "number", float: "number"}
    return names.get(type(value), "null")


def _bytes(text: str) -> str:
    """Base64 as it is written again, without line breaks."""
    joined = text.replace("\n", "").replace("\r", "")
    try:
        return base64.b64encode(binascii.a2b_base64(joined, strict_mode=True)).decode()
    except ValueError:
        raise WrongType(f"illegal base64 data at input byte {_bad_byte(joined)}") from None


def _bad_byte(text: str) -> int:
    """Where Go's decoder gives up: a foreign character, padding that is missing, or the last whole group."""
    match = re.match(r"[A-Za-z0-9+/]*", text)
    end = match.end() if match else 0
    if end == len(text):
        return end - end % 4
    return len(text) if text[end:] == "=" else end


def _quantity(value: Any) -> str:
    if type(value) is bool or not isinstance(value, str | int | float):
        value = ""
    try:
        return quantity.canonical(value)
    except quantity.QuantityError as error:
        raise WrongType(str(error)) from None


def _int_or_string(value: Any) -> Any:
    if type(value) is str:
        return value
    low, high = INT_RANGES["int32"]
    if type(value) is not int or not low <= value <= high:
        raise _mismatch(value, "", "int32", exact=type(value) in (int, float))
    return value


def _time(value: Any) -> str:
    return _instant(value).isoformat(timespec="seconds").replace("+00:00", "Z")


def _micro_time(value: Any) -> str:
    return _instant(value).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _instant(value: Any) -> datetime:
    if type(value) is not str:
        raise _mismatch(value, "", "string")
    if not _rfc3339(value):
        raise WrongType(
            f'parsing time {json.dumps(value)} as "2006-01-02T15:04:05Z07:00": it is not of that form'
        )
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError):
        raise WrongType(f"parsing time {json.dumps(value)}: a part of it is out of range") from None


_SPECIAL: dict[str, Callable[[Any], Any]] = {
    QUANTITY: _quantity,
    INT_OR_STRING: _int_or_string,
    TIME: _time,
    MICRO_TIME: _micro_time,
}
_ZEROS: dict[str, Any] = {QUANTITY: "0", INT_OR_STRING: 0, TIME: None, MICRO_TIME: None}
