"""Compiled checkers: one function per schema that says whether a value needs no correction at all.

A checker answers True only for a value of the right type without unknown fields, nulls or values that decoding
would rewrite. Anything else, right or wrong, is False, and `schema_decode` looks again, slowly and with paths.
So the common case costs one dictionary look-up and one call per field. Checkers of fields are compiled when a
field is first seen, since most objects use few of a kind's fields. Loops are spelled out: a generator for
`all` costs twice the look-ups. Called by `schema`.
"""

import binascii
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from orchestrator.api import quantity
from orchestrator.api.schema_bundle import Bundle, Definition

Checker = Callable[[Any], bool]

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
TIME, MICRO_TIME = f"{META}Time", f"{META}MicroTime"

INT_RANGES = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}

_short_quantity = re.compile(r"0|[1-9]\d{0,2}(?:[numkMGTPE]|[KMGTPE]i)?", re.ASCII).fullmatch
_canonical_time = re.compile(r"\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\dZ", re.ASCII).fullmatch
_canonical_micro = re.compile(r"\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\d\.\d{6}Z", re.ASCII).fullmatch


def is_opaque(definition: Definition) -> bool:
    """Whether any JSON may stand there, as in RawExtension, FieldsV1 and a custom resource's defaults."""
    return definition.get("type", "object") == "object" and not (
        "properties" in definition or "additionalProperties" in definition
    )


class Compiler:
    """Checkers by definition. Owner: `Schemas`."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._checkers: dict[str, Checker] = {
            QUANTITY: _clean_quantity,
            INT_OR_STRING: _clean_int_or_string,
            TIME: _clean_time,
            MICRO_TIME: _clean_micro_time,
        }

    def definition(self, name: str) -> Checker:
        """The checker of a definition by its full name."""
        checker = self._checkers.get(name)
        if checker is None:
            checker = self._checkers[name] = self._compile(self._bundle.definition(name))
        return checker

    def node(self, node: Definition) -> Checker:
        """The checker of any schema, also one inside a definition."""
        return self.definition(node["$ref"]) if "$ref" in node else self._compile(node)

    def _compile(self, node: Definition) -> Checker:
        if is_opaque(node):
            return _anything
        kind = node["type"]
        if kind == "object":
            if "properties" in node:
                return _struct(_Fields(self, node["properties"]))
            return _map(self.node(node["additionalProperties"]))
        if kind == "array":
            return _list(self.node(node["items"]))
        if kind == "integer":
            return _INTEGERS[node.get("format", "int64")]
        return _clean_bytes if node.get("format") == "byte" else _SCALARS[kind]


class _Fields(dict[str, Checker]):
    """A struct's checkers by field, compiled at a field's first use; `_never` for unknown fields."""

    __slots__ = ("_compiler", "_properties")

    def __init__(self, compiler: Compiler, properties: dict[str, Definition]) -> None:
        self._compiler = compiler
        self._properties = properties

    def __missing__(self, field: str) -> Checker:
        node = self._properties.get(field)
        if node is None:
            return _never
        checker = self[field] = self._compiler.node(node)
        return checker


def _struct(fields: _Fields) -> Checker:
    def clean(value: Any) -> bool:
        if type(value) is not dict:
            return False
        for field, part in value.items():  # noqa: SIM110
            if not fields[field](part):
                return False
        return True

    return clean


def _map(checker: Checker) -> Checker:
    def clean(value: Any) -> bool:
        if type(value) is not dict:
            return False
        for part in value.values():  # noqa: SIM110
            if not checker(part):
                return False
        return True

    return clean


def _list(checker: Checker) -> Checker:
    def clean(value: Any) -> bool:
        if type(value) is not list:
            return False
        for part in value:  # noqa: SIM110
            if not checker(part):
                return False
        return True

    return clean


def _anything(value: Any) -> bool:
    return value is not None


def _never(value: Any) -> bool:
    return False


def _is_str(value: Any) -> bool:
    return type(value) is str


def _is_bool(value: Any) -> bool:
    return type(value) is bool


def _is_number(value: Any) -> bool:
    return type(value) is float or type(value) is int


def _is_int32(value: Any) -> bool:
    return type(value) is int and -2147483648 <= value <= 2147483647


def _is_int64(value: Any) -> bool:
    return type(value) is int and -9223372036854775808 <= value <= 9223372036854775807


def _clean_int_or_string(value: Any) -> bool:
    return type(value) is str or _is_int32(value)


def _clean_quantity(value: Any) -> bool:
    if type(value) is not str:
        return False
    if _short_quantity(value):
        return True
    try:
        return quantity.canonical(value) == value
    except quantity.QuantityError:
        return False


def _clean_time(value: Any) -> bool:
    return type(value) is str and _canonical_time(value) is not None and _exists(value)


def _clean_micro_time(value: Any) -> bool:
    return type(value) is str and _canonical_micro(value) is not None and _exists(value)


def _exists(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _clean_bytes(value: Any) -> bool:
    if type(value) is not str:
        return False
    try:
        binascii.a2b_base64(value, strict_mode=True)
    except ValueError:
        return False
    return True


_SCALARS: dict[str, Checker] = {"string": _is_str, "boolean": _is_bool, "number": _is_number}
_INTEGERS: dict[str, Checker] = {"int32": _is_int32, "int64": _is_int64}
