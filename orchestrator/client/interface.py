"""What a component asks of the API, wherever it runs.

Objects handed out are shared and frozen: build a new dictionary to change one. Every failure is an
`orchestrator.api.errors.ApiError`, the same from both implementations.
"""

import builtins
from collections.abc import AsyncIterator
from typing import Literal, Protocol

from orchestrator.api.item import Object
from orchestrator.api.options import DeleteOptions, ListOptions, WatchOptions
from orchestrator.api.resources import Resource
from orchestrator.api.results import ItemList, WatchEvent

PatchType = Literal["json", "merge", "strategic"]


class Client(Protocol):
    """The verbs. `namespace` is ignored for resources without one; None in list and watch means all."""

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Object: ...

    async def list(
        self, resource: Resource, namespace: str | None = None, options: ListOptions = ...
    ) -> ItemList: ...

    def watch(
        self, resource: Resource, namespace: str | None = None, options: WatchOptions = ...
    ) -> AsyncIterator[builtins.list[WatchEvent]]:
        """Batches of events after `options.resource_version`. Raises `Expired` when one must list again.

        Close with `aclose()` (it is an asynchronous generator).
        """

    async def create(
        self, resource: Resource, obj: Object, namespace: str = "", *, subresource: str = "", name: str = ""
    ) -> Object:
        """Create `obj`, or post it to `subresource` of `name` (binding, eviction, token)."""

    async def update(self, resource: Resource, obj: Object, *, subresource: str = "") -> Object:
        """Write; a `resourceVersion` in the object makes it conditional (`Conflict`)."""

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
        """Patch; `patch` is a dictionary, or a list of operations for `json`."""

    async def apply(
        self,
        resource: Resource,
        obj: Object,
        *,
        manager: str = "",
        force: bool = False,
        subresource: str = "",
    ) -> Object:
        """Server-side apply of what `obj` says, as `manager` (the client's own name unless given); creates what
        is absent. Raises `Conflict` with a cause for each field that others own, unless `force`."""

    async def delete(
        self, resource: Resource, name: str, namespace: str = "", options: DeleteOptions = ...
    ) -> None:
        """Delete, or start deletion (grace period, finalizers). Raises `NotFound`."""

    async def delete_collection(
        self, resource: Resource, namespace: str, options: DeleteOptions = ..., selection: ListOptions = ...
    ) -> None: ...
