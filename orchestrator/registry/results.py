"""What writes answer."""

from dataclasses import dataclass, field

from orchestrator.api.item import Item


@dataclass(frozen=True, slots=True)
class Written:
    """The object after a create, update or patch; `warnings` are texts for `Warning` headers."""

    item: Item
    warnings: list[str] = field(default_factory=list)
    created: bool = False


@dataclass(frozen=True, slots=True)
class Deleted:
    """The object as it was removed (`gone`), or as it stays until grace and finalizers are done."""

    item: Item
    gone: bool
