"""What strategic merge patch needs to know about a type. Implemented by `orchestrator.api.schema`."""

from typing import Protocol


class SchemaNode(Protocol):
    """One field (or the root) of a kind's schema."""

    @property
    def patch_strategy(self) -> tuple[str, ...]:
        """Of `merge`, `replace`, `retainKeys` those that `x-kubernetes-patch-strategy` names; often none."""

    @property
    def merge_key(self) -> str:
        """`x-kubernetes-patch-merge-key` of a list of objects; empty elsewhere."""

    def child(self, field: str) -> "SchemaNode | None":
        """The node of `field` in an object, or of a map's values; None when nothing is known."""

    def item(self) -> "SchemaNode | None":
        """The node of a list's elements; None when nothing is known."""
