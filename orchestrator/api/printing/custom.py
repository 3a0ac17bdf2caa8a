"""Tables of custom kinds: `additionalPrinterColumns` as `api.printing` shows them. Pure.

A row of the resource table carries its columns (`Resource.columns`); `printer` makes the cells. Without columns of
its own a kind shows name and age. Source: Kubernetes' table converter of custom resources.
"""

from functools import lru_cache
from typing import Any

import msgspec

from orchestrator.api.custom.jsonpath import PathError, compile_path
from orchestrator.api.item import Object
from orchestrator.api.printing.columns import NAME, Cells, Column, Printer, name_of
from orchestrator.api.printing.duration import age
from orchestrator.api.resources import CustomColumn

AGE = CustomColumn("Age", "date", ".metadata.creationTimestamp")
_AGE_TEXT = "Time at which the object was created on the server, in UTC"


@lru_cache(maxsize=512)
def printer(columns: tuple[CustomColumn, ...]) -> Printer:
    """Name first, then `columns`."""
    shown = columns or (AGE,)
    heads = tuple(
        Column(
            column.name,
            column.description or _description(column),
            type=column.type,
            format=column.format,
            priority=column.priority,
        )
        for column in shown
    )
    return Printer((NAME, *heads), _cells(shown))


def _description(column: CustomColumn) -> str:
    if column is AGE:
        return _AGE_TEXT
    return f"Custom resource definition column (in JSONPath format): {column.json_path}"


def _cells(columns: tuple[CustomColumn, ...]) -> Cells:
    finders = [(column.type, _finder(column.json_path)) for column in columns]

    def cells(obj: Object, now_s: float) -> list[Any]:
        row: list[Any] = [name_of(obj)]
        for kind, find in finders:
            found = find(obj)
            row.append(_cell(kind, found[0], now_s) if found else None)
        return row

    return cells


def _finder(path: str) -> Any:
    try:
        return compile_path(path)
    except PathError:  # of a definition from before paths were looked at
        return lambda obj: []


def _cell(kind: str, value: Any, now_s: float) -> Any:
    if kind == "string":
        return _text(value)
    if kind == "date":
        return age(value, now_s) if type(value) is str else None
    if kind == "boolean":
        return value if type(value) is bool else None
    if type(value) is bool or not isinstance(value, int | float):
        return None
    return int(value) if kind == "integer" else value


def _text(value: Any) -> Any:
    if value is None or type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is float and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return msgspec.json.encode(value).decode()
