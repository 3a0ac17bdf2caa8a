"""The client of a node's pod workers: what they write about static pods goes to the mirrors, all else to the API."""

import builtins
from collections.abc import AsyncIterator, Callable

from orchestrator.api.item import Object
from orchestrator.api.options import DeleteOptions, ListOptions, WatchOptions
from orchestrator.api.resources import PODS, Resource
from orchestrator.api.results import ItemList, WatchEvent
from orchestrator.client.interface import Client, PatchType

_DELETE, _LIST, _WATCH = DeleteOptions(), ListOptions(), WatchOptions()


class StaticClient:
    """A `Client`; `report` takes a static pod with its status and says whether it is one."""

    def __init__(self, client: Client, report: Callable[[Object], bool]) -> None:
        self._client = client
        self._report = report

    async def update(self, resource: Resource, obj: Object, *, subresource: str = "") -> Object:
        if resource is PODS and subresource == "status" and self._report(obj):
            return obj
        return await self._client.update(resource, obj, subresource=subresource)

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        return await self._client.get(resource, name, namespace)

    async def list(
        self, resource: Resource, namespace: str | None = None, options: ListOptions = _LIST
    ) -> ItemList:
        return await self._client.list(resource, namespace, options)

    def watch(
        self, resource: Resource, namespace: str | None = None, options: WatchOptions = _WATCH
    ) -> AsyncIterator[builtins.list[WatchEvent]]:
        return self._client.watch(resource, namespace, options)

    async def create(
        self, resource: Resource, obj: Object, namespace: str = "", *, subresource: str = "", name: str = ""
    ) -> Object:
        return await self._client.create(resource, obj, namespace, subresource=subresource, name=name)

    async def patch(
        self,
        resource: Resource,
        name: str,
        namespace: str,
        patch: Object | builtins.list[Object],
        *,
        type: PatchType = "merge",
        subresource: str = "",
    ) -> Object:
        return await self._client.patch(resource, name, namespace, patch, type=type, subresource=subresource)

    async def apply(
        self,
        resource: Resource,
        obj: Object,
        *,
        manager: str = "",
        force: bool = False,
        subresource: str = "",
    ) -> Object:
        return await self._client.apply(resource, obj, manager=manager, force=force, subresource=subresource)

    async def delete(
        self, resource: Resource, name: str, namespace: str = "", options: DeleteOptions = _DELETE
    ) -> None:
        await self._client.delete(resource, name, namespace, options)

    async def delete_collection(
        self,
        resource: Resource,
        namespace: str,
        options: DeleteOptions = _DELETE,
        selection: ListOptions = _LIST,
    ) -> None:
        await self._client.delete_collection(resource, namespace, options, selection)
