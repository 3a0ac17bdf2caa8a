"""Merge facts of custom kinds for patches and server-side apply: the same interface as `api.schema_node`.

`metadata` of the object, and of embedded ones, has the facts of the built-in `ObjectMeta`. A place that the schema
does not know is an empty node, whose children are empty too.
"""

from typing import Any

from orchestrator.api.custom.schema import ANYTHING, Node
from orchestrator.api.schema_node import SchemaNode

_EMPTY = Node(ANYTHING)
_TEXT = Node({"type": "string"})


class CustomNode:
    """One place of a custom kind's schema."""

    __slots__ = ("_meta", "_node", "_whole")

    def __init__(self, node: Node, meta: SchemaNode, *, whole: bool = False) -> None:
        """`meta` is the node of `ObjectMeta`; `whole` says that a whole object stands here."""
        self._node = node
        self._meta = meta
        self._whole = whole or node.embedded

    @property
    def definition(self) -> dict[str, Any]:
        """What the schema says here: the same dictionary as long as the schema is the same."""
        return self._node.definition

    @property
    def preserves_unknown(self) -> bool:
        """Whether fields that the schema does not know are kept."""
        return self._node.preserves

    def is_required(self, field: str) -> bool:
        """Custom kinds have no fields that are there without being set."""
        return False

    @property
    def type(self) -> str:
        """`object`, `array`, `string` …; empty where anything may stand."""
        return "object" if self._whole else self._node.type

    @property
    def is_map(self) -> bool:
        """Whether keys are free rather than fields."""
        return self._node.additional is not None

    @property
    def patch_strategy(self) -> tuple[str, ...]:
        return ()

    @property
    def merge_key(self) -> str:
        return ""

    @property
    def list_type(self) -> str:
        """`map`, `set` or `atomic`, of a list; empty elsewhere."""
        return self._node.list_type

    @property
    def map_keys(self) -> tuple[str, ...]:
        return self._node.map_keys

    @property
    def map_key_defaults(self) -> dict[str, Any]:
        """What stands for a map key that an element leaves out."""
        items = self._node.items
        if items is None:
            return {}
        found = {key: node.default for key in self.map_keys if (node := items.field(key)) is not None}
        return {key: default for key, default in found.items() if default is not None}

    @property
    def map_type(self) -> str:
        """`atomic` or `granular`, of an object."""
        return str(self._node.definition.get("x-kubernetes-map-type") or "granular")

    def child(self, field: str) -> "CustomNode | SchemaNode":
        """The place of a field, or of a map's value."""
        if self._whole and field == "metadata":
            return self._meta
        found = self._node.child(field)
        if found is None:
            found = _TEXT if self._whole and field in ("apiVersion", "kind") else _EMPTY
        return CustomNode(found, self._meta)

    def item(self) -> "CustomNode":
        """The place of a list's elements."""
        return CustomNode(self._node.items or _EMPTY, self._meta)

    def has(self, field: str) -> bool:
        """Whether the schema knows `field` here."""
        if self._whole and field in ("metadata", "apiVersion", "kind"):
            return True
        return self._node.preserves or self._node.child(field) is not None
