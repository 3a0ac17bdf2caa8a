"""Pruning, nulls and defaults of custom objects, in one walk that copies only what it changes.

Rules (source: Kubernetes' structural pruning and defaulting):

1. A field that the schema does not name goes, unless `x-kubernetes-preserve-unknown-fields` keeps it there;
   below such a place the schema's own fields are cleaned on. `apiVersion`, `kind` and `metadata` of the root and
   of embedded objects stay.
2. A null where the schema is not nullable counts as absent; in a list, and where any value may stand, it stays.
3. An absent field with a default gets it, whole, and then the defaults inside it. `metadata` is not defaulted.

Called for bodies (with the paths of what goes), and for stored objects when they are read.
"""

from collections.abc import Callable
from typing import Any

from orchestrator.api.custom.schema import TYPE_FIELDS, Node

UNKNOWN_MAX = 100
"""Pruned fields beyond this are not named."""

MetaCleaner = Callable[[Any, str, list[str]], Any]
"""(metadata of an embedded object, its path, unknown fields to add to) → cleaned metadata."""


class Cleaner:
    """One walk over one object. `unknown` fills with the paths of what was pruned."""

    def __init__(self, clean_meta: MetaCleaner) -> None:
        self._clean_meta = clean_meta
        self.unknown: list[str] = []

    def root(self, node: Node, obj: dict[str, Any]) -> dict[str, Any]:
        """The whole object, whose metadata is somebody else's business."""
        return self._object(node, obj, "", own=True)

    def _value(self, node: Node, value: Any, path: str) -> Any:
        if type(value) is dict:
            if node.embedded:
                return self._embedded(node, value, path)
            return self._object(node, value, path, own=False)
        if type(value) is list and node.items is not None:
            return self._list(node.items, value, path)
        return value

    def _object(self, node: Node, value: dict[str, Any], path: str, *, own: bool) -> dict[str, Any]:
        """`own`: its type fields and metadata stay as they are."""
        out: dict[str, Any] | None = None
        for name, part in value.items():
            if own and (name == "metadata" or name in TYPE_FIELDS):
                continue
            child = node.child(name)
            if child is None:
                if not node.preserves:
                    out = dict(value) if out is None else out
                    del out[name]
                    self._report(path, name)
                continue
            cleaned = self._field(child, part, path, name)
            if cleaned is not part:
                out = dict(value) if out is None else out
                if cleaned is _ABSENT:
                    del out[name]
                else:
                    out[name] = cleaned
        return self._defaulted(node, value if out is None else out, path, own)

    def _field(self, node: Node, value: Any, path: str, name: str) -> Any:
        if value is None:
            return _ABSENT if _is_void(node) else None
        if type(value) is dict or type(value) is list:
            return self._value(node, value, f"{path}.{name}" if path else name)
        return value

    def _defaulted(self, node: Node, value: dict[str, Any], path: str, own: bool) -> dict[str, Any]:
        missing = [name for name in node.defaulting if name not in value and not (own and name == "metadata")]
        if not missing:
            return value
        out = dict(value)
        for name in missing:
            child = node.field(name)
            if child is not None:
                # A default is shared by all objects that have it: nobody mutates one, and cleaning copies.
                out[name] = self._value(child, child.default, f"{path}.{name}" if path else name)
        return out

    def _list(self, node: Node, value: list[Any], path: str) -> list[Any]:
        out: list[Any] | None = None
        for index, part in enumerate(value):
            if type(part) is not dict and type(part) is not list:
                continue
            cleaned = self._value(node, part, f"{path}[{index}]")
            if cleaned is not part:
                out = list(value) if out is None else out
                out[index] = cleaned
        return value if out is None else out

    def _embedded(self, node: Node, value: dict[str, Any], path: str) -> dict[str, Any]:
        cleaned = self._object(node, value, path, own=True)
        metadata = cleaned.get("metadata")
        if metadata is None:
            return cleaned
        kept = self._clean_meta(metadata, f"{path}.metadata", self.unknown)
        return cleaned if kept is metadata else {**cleaned, "metadata": kept}

    def _report(self, path: str, name: str) -> None:
        if len(self.unknown) < UNKNOWN_MAX:
            self.unknown.append(f"{path}.{name}" if path else name)


_ABSENT: Any = object()


def _is_void(node: Node) -> bool:
    """Whether a null there is dropped."""
    return not node.nullable
