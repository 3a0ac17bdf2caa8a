"""The pods of one node, from an informer: a shared one over all pods, or one that only holds this node's.

Nodes in the same process share one informer; `PodFeeds` routes its changes by node, so that a thousand
simulated nodes cost one look-up per change and not a thousand.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from orchestrator.api.item import Item
from orchestrator.informer.cache import Informer

Handler = Callable[[Item | None, Item | None], None]
NODE_INDEX = "node"


class _Spec(msgspec.Struct):
    nodeName: str = ""


class _Pod(msgspec.Struct):
    spec: _Spec


_decode = msgspec.json.Decoder(_Pod).decode


def node_of(item: Item) -> str:
    """`spec.nodeName`, without decoding the rest of the pod; empty while it is not bound."""
    return _decode(item.raw).spec.nodeName


def node_index(item: Item) -> list[str]:
    """Index function for the pods' informer."""
    name = node_of(item)
    return [name] if name else []


class PodFeed(Protocol):
    """What an agent needs to know of its pods."""

    def list(self) -> list[Item]:
        """All pods bound to the node."""

    def on_change(self, handler: Handler) -> None:
        """Call `handler(old, new)` after each change of one of them."""

    def close(self) -> None:
        """Call nobody any more."""


class PodFeeds:
    """Feeds of many nodes over one informer. Owner: the process's composition root."""

    def __init__(self, pods: Informer) -> None:
        """`pods` has the index `node` (`node_index`)."""
        self._pods = pods
        self._handlers: dict[str, list[Handler]] = {}
        pods.on_change(self._route)

    def of(self, node: str) -> "NodeFeed":
        """The feed of one node."""
        return NodeFeed(self, node)

    def list(self, node: str) -> list[Item]:
        return self._pods.by_index(NODE_INDEX, node)

    def add(self, node: str, handler: Handler) -> None:
        self._handlers.setdefault(node, []).append(handler)

    def forget(self, node: str) -> None:
        """The node's agent has ended."""
        self._handlers.pop(node, None)

    def _route(self, old: Item | None, new: Item | None) -> None:
        item = new or old
        assert item is not None
        for handler in self._handlers.get(node_of(item), ()):
            handler(old if old is not None and node_of(old) else None, new)


class NodeFeed:
    """One node's pods out of `PodFeeds`."""

    def __init__(self, feeds: PodFeeds, node: str) -> None:
        self._feeds = feeds
        self._node = node

    def list(self) -> list[Item]:
        return self._feeds.list(self._node)

    def on_change(self, handler: Handler) -> None:
        self._feeds.add(self._node, handler)

    def close(self) -> None:
        self._feeds.forget(self._node)
