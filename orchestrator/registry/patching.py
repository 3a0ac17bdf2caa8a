"""Patches as the registry takes them, and what it needs to know of schemas."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from orchestrator.api.custom.hints import CustomNode
from orchestrator.api.errors import UnsupportedMediaType
from orchestrator.api.item import Object
from orchestrator.api.patch import SchemaNode, json_patch, merge_patch, strategic_patch

PatchKind = Literal["json", "merge", "strategic", "apply"]

CONTENT_TYPES: dict[str, PatchKind] = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}

GroupVersionKind = tuple[str, str, str]


class SchemaChecker(Protocol):
    """What the registry asks of `orchestrator.api.schema.Schemas`."""

    def check(
        self, kind: GroupVersionKind, obj: Object, field_validation: str, duplicates: Iterable[str], /
    ) -> tuple[Object, list[str]]:
        """The object without unknown fields, and warnings. Raises `BadRequest`."""

    def merge_hints(self, kind: GroupVersionKind, /) -> SchemaNode | None:
        """What strategic merge needs to know, or None for a kind without a schema."""

    def weight(self, kind: GroupVersionKind, /) -> int:
        """How much more work a part of an object is than one of a built-in kind; at least 1."""


@dataclass(frozen=True, slots=True)
class Patch:
    """`body` is a list of operations for `json`, an object otherwise."""

    kind: PatchKind
    body: Any

    @classmethod
    def of(cls, content_type: str, body: Any) -> "Patch":
        """From a request. Raises `UnsupportedMediaType` for anything but the four media types."""
        kind = CONTENT_TYPES.get(content_type.partition(";")[0].strip().lower())
        if kind is None:
            raise _unknown_format(CONTENT_TYPES)
        return cls(kind, body)

    def apply_to(self, obj: Object, node: SchemaNode | None) -> Object:
        """`obj` patched; it is not changed. Raises `BadRequest`, `Invalid`, `UnsupportedMediaType`."""
        match self.kind:
            case "json":
                return json_patch(obj, self.body)
            case "merge":
                return merge_patch(obj, self.body)
            case "strategic":
                if isinstance(node, CustomNode):
                    raise _unknown_format(kind for kind in CONTENT_TYPES if "strategic" not in kind)
                return strategic_patch(obj, self.body, node)
        raise UnsupportedMediaType("server-side apply is not supported by this server")


def _unknown_format(accepted: Iterable[str]) -> UnsupportedMediaType:
    known = ", ".join(accepted)
    return UnsupportedMediaType(
        f"the body of the request was in an unknown format - accepted media types include: {known}"
    )
