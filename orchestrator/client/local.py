"""The client of components in the API server's own process: authorizer, then registry, as HTTP does it.

Reads hand out the store's own items. What no registry serves (tokens, reviews) comes from providers that the
daemon connects.
"""

import builtins
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import replace

from orchestrator.api.access import Attributes, Authorizer, Identity, selected_name
from orchestrator.api.errors import ApiError, BadRequest, MethodNotAllowed
from orchestrator.api.item import Object
from orchestrator.api.options import DeleteOptions, ListOptions, WatchOptions, WriteOptions
from orchestrator.api.resources import BINDINGS, PODS, Resource
from orchestrator.api.results import ItemList, WatchEvent
from orchestrator.client.interface import PatchType
from orchestrator.registry.patching import Patch
from orchestrator.registry.registry import Registry

Provider = Callable[[str, str, Object, Identity], Awaitable[Object]]
"""Answers a create of something that is not stored: (namespace, name, body, identity) -> answer."""

ProviderKey = tuple[str, str, str]
"""Group, plural, subresource; such as `("", "serviceaccounts", "token")`."""

_LIST, _WATCH, _DELETE = ListOptions(), WatchOptions(), DeleteOptions()


class LocalClient:
    """`client.interface.Client` over a registry, as one identity."""

    def __init__(
        self,
        registry: Registry,
        authorizer: Authorizer,
        identity: Identity,
        providers: Mapping[ProviderKey, Provider] | None = None,
    ) -> None:
        self.identity = identity
        self._registry = registry
        self._authorizer = authorizer
        self._providers = providers or {}
        self._options = WriteOptions(field_manager=_manager(identity), field_validation="Ignore")

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        await self._authorize("get", resource, namespace, name)
        return (await self._registry.get(resource, namespace, name)).object

    async def list(
        self, resource: Resource, namespace: str | None = None, options: ListOptions = _LIST
    ) -> ItemList:
        await self._authorize("list", resource, namespace or "", selected_name(options.field_selector))
        return await self._registry.list(resource, namespace, options)

    async def watch(
        self, resource: Resource, namespace: str | None = None, options: WatchOptions = _WATCH
    ) -> AsyncGenerator[builtins.list[WatchEvent], None]:
        name = selected_name(options.field_selector)
        await self._authorize("watch", resource, namespace or "", name)
        await self._registry.catch_up(options.resource_version)
        batches = self._registry.watch(resource, namespace, options)
        try:
            async for batch in batches:
                yield batch
        finally:
            await batches.aclose()

    async def create(
        self, resource: Resource, obj: Object, namespace: str = "", *, subresource: str = "", name: str = ""
    ) -> Object:
        await self._authorize("create", resource, namespace, name, subresource)
        provider = self._providers.get((resource.group, resource.plural, subresource))
        if provider is not None:
            return await provider(namespace, name, obj, self.identity)
        if resource is BINDINGS:
            name = (obj.get("metadata") or {}).get("name") or ""
            return await self._post(PODS, "binding", namespace, name, obj)
        if subresource:
            return await self._post(resource, subresource, namespace, name, obj)
        written = await self._registry.create(resource, namespace, obj, self._options, self.identity)
        return written.item.object

    async def update(self, resource: Resource, obj: Object, *, subresource: str = "") -> Object:
        metadata = obj["metadata"]
        namespace, name = metadata.get("namespace") or "", metadata.get("name") or ""
        if not name:
            raise BadRequest("metadata.name: Required value")
        await self._authorize("update", resource, namespace, name, subresource)
        written = await self._registry.update(
            resource, namespace, name, obj, self._options, self.identity, subresource
        )
        return written.item.object

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
        await self._authorize("patch", resource, namespace, name, subresource)
        written = await self._registry.patch(
            resource, namespace, name, Patch(type, patch), self._options, self.identity, subresource
        )
        return written.item.object

    async def apply(
        self,
        resource: Resource,
        obj: Object,
        *,
        manager: str = "",
        force: bool = False,
        subresource: str = "",
    ) -> Object:
        metadata = obj["metadata"]
        namespace, name = metadata.get("namespace") or "", metadata.get("name") or ""
        if not name:
            raise BadRequest("metadata.name: Required value")
        await self._authorize("patch", resource, namespace, name, subresource)
        options = replace(self._options, field_manager=manager or self._options.field_manager, force=force)
        written = await self._registry.patch(
            resource, namespace, name, Patch("apply", obj), options, self.identity, subresource
        )
        return written.item.whole

    async def delete(
        self, resource: Resource, name: str, namespace: str = "", options: DeleteOptions = _DELETE
    ) -> None:
        await self._authorize("delete", resource, namespace, name)
        await self._registry.delete(resource, namespace, name, options, self.identity)

    async def delete_collection(
        self,
        resource: Resource,
        namespace: str,
        options: DeleteOptions = _DELETE,
        selection: ListOptions = _LIST,
    ) -> None:
        await self._authorize("deletecollection", resource, namespace)
        await self._registry.delete_collection(resource, namespace, options, selection, self.identity)

    async def bind_many(self, bindings: builtins.list[Object]) -> builtins.list[ApiError | None]:
        """Create the bindings of many pods in one write; what went wrong with each, or None."""
        for namespace in {binding["metadata"]["namespace"] for binding in bindings}:
            await self._authorize("create", PODS, namespace, "", "binding")
        return await self._registry.subresources.bind_many(bindings, self._options, self.identity)

    async def _post(
        self, resource: Resource, subresource: str, namespace: str, name: str, obj: Object
    ) -> Object:
        """Subresources of pods that take a create; the answer is a `Status`."""
        verbs = self._registry.subresources
        if resource is PODS and subresource == "binding":
            await verbs.bind(namespace, name, obj, self._options, self.identity)
        elif resource is PODS and subresource == "eviction":
            await verbs.evict(namespace, name, obj, self._options, self.identity)
        else:
            raise MethodNotAllowed(f"{resource.qualified}/{subresource} can't be created")
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}

    async def _authorize(
        self, verb: str, resource: Resource, namespace: str, name: str = "", subresource: str = ""
    ) -> None:
        namespace = namespace if resource.namespaced else ""
        attributes = Attributes(verb, resource.group, resource.plural, subresource, namespace, name)
        await self._authorizer.authorize(self.identity, attributes)


def _manager(identity: Identity) -> str:
    """Under which name a component owns fields: its own, without where it runs; nodes are all one kubelet."""
    if identity.name.startswith("system:node:"):
        return "kubelet"
    return identity.name.rpartition(":")[2]
