"""The building blocks of a kind's table: columns, a function from object to cells, and common cells."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.api.errors import BadRequest
from orchestrator.api.item import Object
from orchestrator.api.printing.duration import age
from orchestrator.api.selectors import from_label_selector

NONE = "<none>"


@dataclass(frozen=True, slots=True)
class Column:
    """One `columnDefinitions` entry. Priority 1 shows with `-o wide` only."""

    name: str
    description: str
    type: str = "string"
    format: str = ""
    priority: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        }


Cells = Callable[[Object, float], list[Any]]
"""Cells of one object at a time in seconds since the epoch, one per column."""


@dataclass(frozen=True, slots=True)
class Printer:
    """The table of one kind. `conditions` are marks on a row, such as that a pod has completed."""

    columns: tuple[Column, ...]
    cells: Cells
    conditions: Callable[[Object], list[Object]] | None = None


NAME = Column("Name", "Name of the object, unique among its kind and namespace", format="name")
AGE = Column("Age", "Time since the object was created")
CREATED_AT = Column("Created At", "Time when the object was created", type="date")


def wide(name: str, description: str, kind: str = "string") -> Column:
    return Column(name, description, type=kind, priority=1)


def name_of(obj: Object) -> str:
    name: str = obj["metadata"].get("name", "")
    return name


def age_of(obj: Object, now_s: float) -> str:
    return age(obj["metadata"].get("creationTimestamp"), now_s)


def part(obj: Object, field: str) -> Object:
    """`spec`, `status` or their like; empty when absent."""
    value: Object = obj.get(field) or {}
    return value


def joined(values: Iterable[str], separator: str = ",") -> str:
    return separator.join(values) or NONE


def map_text(labels: Mapping[str, str] | None) -> str:
    """`a=b,c=d`, sorted."""
    return joined(f"{key}={value}" for key, value in sorted((labels or {}).items()))


def selector_text(selector: Object | None) -> str:
    """A `LabelSelector` as clients write it."""
    try:
        return str(from_label_selector(selector)) or NONE
    except BadRequest:
        return "<error>"


def more(shown: list[str], total: int) -> str:
    """Up to three values, and how many are not shown."""
    if not total:
        return NONE
    text = ",".join(shown)
    return f"{text} + {total - len(shown)} more..." if total > len(shown) else text


def template_cells(spec: Object) -> list[str]:
    """Names and images of a pod template's containers."""
    containers = ((spec.get("template") or {}).get("spec") or {}).get("containers") or ()
    return [
        ",".join(container.get("name", "") for container in containers),
        ",".join(container.get("image", "") for container in containers),
    ]


CONTAINERS = wide("Containers", "Names of the containers in the template")
IMAGES = wide("Images", "Images of the containers in the template")
SELECTOR = wide("Selector", "Labels that select the pods")
