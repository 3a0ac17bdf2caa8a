"""What list and watch answer, from the registry as from a client."""

from dataclasses import dataclass
from typing import Literal

from orchestrator.api.item import Item

SHOWN_WHEN_DELETED = frozenset(
    (("", "pods"), ("", "services"), ("", "serviceaccounts"), ("", "persistentvolumes"),
     ("", "persistentvolumeclaims"), ("", "podtemplates"), ("", "resourcequotas"))
)  # fmt: skip
"""Resources whose deletion answers the object; others answer a `Status`. Source: Kubernetes' REST storage."""


@dataclass(frozen=True, slots=True)
class ItemList:
    """The answer of a list: one consistent revision."""

    items: list[Item]
    revision: int
    continue_token: str = ""
    remaining: int = 0


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """`item` is the object after the change; for DELETED its last state at the revision of the deletion.

    A BOOKMARK's item carries only the revision up to which everything was delivered.
    """

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    item: Item
