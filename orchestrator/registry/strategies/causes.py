"""Constructors of validation causes with Kubernetes' reasons and wording (`field.Error`). Pure.

A path is a dotted text such as `spec.containers[0].name`.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from orchestrator.api.errors import Cause


def quoted(value: Any) -> str:
    """A value as messages show it: texts quoted, numbers and booleans bare, the rest as JSON."""
    return msgspec.json.encode(value).decode()


def required(field: str, detail: str = "") -> Cause:
    return Cause("FieldValueRequired", f"Required value: {detail}" if detail else "Required value", field)


def invalid_value(field: str, value: Any, detail: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {quoted(value)}: {detail}", field)


def not_supported(field: str, value: Any, supported: Iterable[str]) -> Cause:
    choices = ", ".join(quoted(choice) for choice in sorted(supported))
    return Cause(
        "FieldValueNotSupported", f"Unsupported value: {quoted(value)}: supported values: {choices}", field
    )


def duplicate(field: str, value: Any) -> Cause:
    return Cause("FieldValueDuplicate", f"Duplicate value: {quoted(value)}", field)


def forbidden(field: str, detail: str) -> Cause:
    return Cause("FieldValueForbidden", f"Forbidden: {detail}", field)


def not_found(field: str, value: Any) -> Cause:
    return Cause("FieldValueNotFound", f"Not found: {quoted(value)}", field)


def too_long(field: str, limit_bytes: int) -> Cause:
    return Cause("FieldValueTooLong", f"Too long: may not be more than {limit_bytes} bytes", field)


def too_many(field: str, count: int, limit: int) -> Cause:
    return Cause("FieldValueTooMany", f"Too many: {count}: must have at most {limit} items", field)


def problems(field: str, value: Any, texts: Iterable[str]) -> list[Cause]:
    """One `Invalid value` per problem that a check of `api.names` found."""
    return [invalid_value(field, value, text) for text in texts]


def immutable(field: str, new: Any, old: Any) -> list[Cause]:
    """`field is immutable` if the two differ."""
    return [] if new == old else [invalid_value(field, new, "field is immutable")]


def non_negative(field: str, value: int | None) -> list[Cause]:
    if value is None or value >= 0:
        return []
    return [invalid_value(field, value, "must be greater than or equal to 0")]


def one_of(field: str, value: Any, supported: Iterable[str]) -> list[Cause]:
    """A cause unless `value` is None or one of `supported`."""
    return [] if value is None or value in supported else [not_supported(field, value, supported)]
