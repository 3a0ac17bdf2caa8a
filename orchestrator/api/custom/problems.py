"""Causes of refusals of custom objects and of their definitions, in Kubernetes' words (`field.Error`). Pure."""

from collections.abc import Iterable
from typing import Any

import msgspec

from orchestrator.api.errors import Cause

ROOT = "<nil>"
"""How Kubernetes writes the path of the whole object."""


def quoted(value: Any) -> str:
    """A value as messages show it: texts quoted, numbers and booleans bare, the rest as JSON."""
    return msgspec.json.encode(value).decode()


def required(field: str, detail: str = "") -> Cause:
    return Cause("FieldValueRequired", f"Required value: {detail}" if detail else "Required value", field)


def invalid(field: str, value: Any, detail: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {quoted(value)}: {detail}", field or ROOT)


def wrong_type(field: str, value: Any, detail: str) -> Cause:
    return Cause("FieldValueTypeInvalid", f"Invalid value: {quoted(value)}: {detail}", field or ROOT)


def forbidden(field: str, detail: str) -> Cause:
    return Cause("FieldValueForbidden", f"Forbidden: {detail}", field)


def duplicate(field: str, value: Any) -> Cause:
    return Cause("FieldValueDuplicate", f"Duplicate value: {quoted(value)}", field)


def unsupported(field: str, value: Any, supported: Iterable[Any]) -> Cause:
    """`supported` in the order in which they are named; what is no text is shown as JSON."""
    choices = ", ".join(quoted(choice if isinstance(choice, str) else quoted(choice)) for choice in supported)
    return Cause(
        "FieldValueNotSupported", f"Unsupported value: {quoted(value)}: supported values: {choices}", field
    )


def too_long(field: str, max_length: int) -> Cause:
    return Cause("FieldValueTooLong", f"Too long: may not be more than {max_length} bytes", field or ROOT)


def too_many(field: str, actual: int, max_count: int) -> Cause:
    return Cause(
        "FieldValueTooMany", f"Too many: {actual}: must have at most {max_count} items", field or ROOT
    )
