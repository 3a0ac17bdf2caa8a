"""Kinds that nobody stores: the process itself knows their objects. Get and list only.

A provider is connected per resource by `daemon`; without one there are no objects.
"""

from collections.abc import Awaitable, Callable

from orchestrator.api.errors import not_found
from orchestrator.api.item import Item, Object, encode
from orchestrator.api.options import ListOptions
from orchestrator.api.resources import Resource
from orchestrator.api.results import ItemList
from orchestrator.registry.selection import Selection

Provider = Callable[[], Awaitable[list[Object]]]
"""Every object of one resource as of now, with `metadata.name`."""


class VirtualObjects:
    """Owner: the registry."""

    def __init__(self) -> None:
        self._providers: dict[tuple[str, str], Provider] = {}

    def connect(self, resource: Resource, provider: Provider) -> None:
        """Ask `provider` for the objects of `resource` from now on."""
        self._providers[resource.group, resource.plural] = provider

    async def _items(self, resource: Resource) -> list[Item]:
        provider = self._providers.get((resource.group, resource.plural))
        objects = await provider() if provider is not None else []
        kind = {"kind": resource.kind, "apiVersion": resource.api_version}
        return [Item(encode({**kind, **obj}), 0) for obj in objects]

    async def get(self, resource: Resource, name: str) -> Item:
        """Raises `NotFound`."""
        for item in await self._items(resource):
            if item.meta.name == name:
                return item
        raise not_found(resource.group, resource.plural, name)

    async def list(self, resource: Resource, options: ListOptions, revision: int) -> ItemList:
        """What is selected, whole: `limit` is no promise of more."""
        selection = Selection.parse(resource, options.label_selector, options.field_selector)
        matches = selection.matcher
        return ItemList([item for item in await self._items(resource) if matches(item)], revision)
