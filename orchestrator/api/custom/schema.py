"""A place in a custom kind's schema: its parts, read once and kept; children come into being when first needed.

`Node` says what structure means there. `clean` in `cleaning`, `validation` and the merge hints walk nodes. The
schema has passed the structural rules (`structural`), so that shapes are not checked again.
"""

import re
from math import prod
from typing import Any

Definition = dict[str, Any]
"""One JSON schema of a version, without descriptions. Never mutated."""

TYPE_FIELDS = ("apiVersion", "kind")
PATTERN_LENGTH = 8
"""Of a pattern that takes as long as one other check."""
UNFOLDED_MAX = 4096
_counts = re.compile(r"\{\d*,?(\d{1,6})\}").findall


class Node:
    """One place. Cheap: holds its definition and what was asked of it so far."""

    __slots__ = ("_additional", "_defaulting", "_items", "_properties", "definition", "embedded", "preserves")

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.preserves = bool(definition.get("x-kubernetes-preserve-unknown-fields"))
        """Whether fields that the schema does not name stay."""
        self.embedded = bool(definition.get("x-kubernetes-embedded-resource"))
        """Whether a whole object with `apiVersion`, `kind` and `metadata` stands there."""
        self._properties: dict[str, Node] = {}
        self._items: Node | None = None
        self._additional: Node | None = None
        self._defaulting: tuple[str, ...] | None = None

    @property
    def type(self) -> str:
        """`object`, `array` …; empty where anything may stand."""
        return str(self.definition.get("type", ""))

    @property
    def nullable(self) -> bool:
        return bool(self.definition.get("nullable"))

    @property
    def default(self) -> Any:
        """The default, None for none."""
        return self.definition.get("default")

    @property
    def list_type(self) -> str:
        """`map`, `set` or `atomic`, of a list; a list that says nothing is atomic."""
        return str(self.definition.get("x-kubernetes-list-type") or "atomic") if self.type == "array" else ""

    @property
    def map_keys(self) -> tuple[str, ...]:
        return tuple(self.definition.get("x-kubernetes-list-map-keys") or ())

    @property
    def properties(self) -> Definition:
        return self.definition.get("properties") or {}

    def field(self, name: str) -> "Node | None":
        """The place of a named field."""
        node = self._properties.get(name)
        if node is None:
            definition = self.properties.get(name)
            if definition is None:
                return None
            node = self._properties[name] = Node(definition)
        return node

    @property
    def additional(self) -> "Node | None":
        """The place of a map's values; None where keys are not free."""
        if self._additional is None:
            definition = self.definition.get("additionalProperties")
            if definition is None or definition is False:
                return None
            self._additional = Node(ANYTHING if definition is True else definition)
        return self._additional

    @property
    def items(self) -> "Node | None":
        if self._items is None and "items" in self.definition:
            self._items = Node(self.definition["items"])
        return self._items

    def child(self, name: str) -> "Node | None":
        """The place of a field or of a map's value; None where the schema knows of none."""
        return self.field(name) or self.additional

    @property
    def defaulting(self) -> tuple[str, ...]:
        """Fields that have a default."""
        if self._defaulting is None:
            self._defaulting = tuple(
                name for name, part in self.properties.items() if part.get("default") is not None
            )
        return self._defaulting


ANYTHING: Definition = {"x-kubernetes-preserve-unknown-fields": True, "nullable": True}


def without_texts(schema: Any) -> Any:
    """A copy of a schema without what only people read, which is most of its size."""
    if not isinstance(schema, dict):
        return schema
    out: Definition = {}
    for key, value in schema.items():
        if key in ("properties", "patternProperties") and isinstance(value, dict):
            out[key] = {name: without_texts(part) for name, part in value.items()}
        elif key in ("items", "additionalProperties", "not"):
            out[key] = without_texts(value)
        elif key in ("allOf", "anyOf", "oneOf") and isinstance(value, list):
            out[key] = [without_texts(part) for part in value]
        elif key not in ("description", "title", "example", "externalDocs"):
            out[key] = value
    return out


def weight_of(schema: Definition) -> int:
    """At most how many checks a part of an object may have to pass: what stands in a schema's alternatives is looked
    at in each of them, and patterns take longer than other checks."""
    below = [
        *(schema.get("properties") or {}).values(),
        schema.get("items"),
        schema.get("additionalProperties"),
    ]
    weight = max((weight_of(part) for part in below if isinstance(part, dict)), default=0)
    for keyword in ("allOf", "anyOf", "oneOf"):
        weight += sum(weight_of(part) for part in schema.get(keyword) or ())
    if schema.get("not"):
        weight += weight_of(schema["not"])
    pattern = schema.get("pattern")
    return max(1, weight) + (_weight_of_pattern(pattern) if pattern else 0)


def _weight_of_pattern(pattern: str) -> int:
    """Counted repetitions unfold, inside each other all the more."""
    unfolded = prod(int(count) for count in _counts(pattern))
    return (len(pattern) + min(unfolded, UNFOLDED_MAX)) // PATTERN_LENGTH


def may_default(raw: bytes) -> bool:
    """Whether a place of an encoded schema may have a default; one that has a field of that name may be taken for
    it."""
    return b'"default":' in raw
