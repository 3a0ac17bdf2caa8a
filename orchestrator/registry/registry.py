"""Registry: the verbs over stored objects, for HTTP and local callers alike.

Reads hand out the store's own `Item`s; writes go through the `Writer`, which asks strategy and admission.
Whoever calls has been authenticated and authorized. Owner: the daemon; `close` ends the watches' timers.
"""

import asyncio
import random
from collections.abc import Mapping

from orchestrator.admission.chain import AdmissionChain
from orchestrator.api.access import Authorizer, Identity
from orchestrator.api.conversion import Views
from orchestrator.api.errors import MethodNotAllowed, NotFound, not_found
from orchestrator.api.item import Item, Object
from orchestrator.api.options import DeleteOptions, ListOptions, WatchOptions, WriteOptions
from orchestrator.api.resources import NAMESPACES, Resource, ResourceTable
from orchestrator.api.results import ItemList
from orchestrator.base.clock import Clock
from orchestrator.registry.apart import Apart, is_large
from orchestrator.registry.explaining import Explanations
from orchestrator.registry.indexing import Indexes
from orchestrator.registry.listing import list_items
from orchestrator.registry.patching import GroupVersionKind, Patch, SchemaChecker
from orchestrator.registry.results import Deleted, Written
from orchestrator.registry.selection import check_not_future, parse_revision
from orchestrator.registry.storage import Storage
from orchestrator.registry.strategy import Strategy
from orchestrator.registry.subresources import Subresources
from orchestrator.registry.virtual import VirtualObjects
from orchestrator.registry.watching import Batches, Watches
from orchestrator.registry.writing import Writer
from orchestrator.store.interface import Store

DELETED_AT_ONCE = 64
"""Objects of a collection that are deleted side by side, so that they share syncs."""


class Registry:
    """The verbs. `namespace` is ignored for resources without one; None in list and watch means all."""

    def __init__(
        self,
        store: Store,
        table: ResourceTable,
        schemas: SchemaChecker,
        strategies: Mapping[tuple[str, str], Strategy],
        admission: AdmissionChain,
        clock: Clock,
        rng: random.Random,
        authorizer: Authorizer | None = None,
    ) -> None:
        """`strategies` by (group, plural). `authorizer` decides what only shows while writing: whether an update
        may create; None leaves that to the caller."""
        self.table = table
        self._storage = Storage(store, clock)
        self._schemas = schemas
        self.views = Views(table)
        """How rows differ from the form in which their objects are kept."""
        self._apart = Apart()
        self._writer = Writer(
            self._apart, self._storage, schemas, strategies, admission, clock, rng, self.views, authorizer
        )
        table.on_change(self._writer.rows_changed)
        self._indexes = Indexes(self._storage, clock)
        self._watches = Watches(self._storage, self._indexes, clock, rng, self._apart)
        self.subresources = Subresources(self._storage, self._writer, self.views, admission, clock)
        self.virtual = VirtualObjects()
        self.explanations = Explanations()

    async def close(self) -> None:
        """End the timers of open watches, the indexes, and writes that wait for a quota. May be called twice."""
        await self._writer.close()
        await self._watches.stop()
        await self._indexes.stop()

    @property
    def revision(self) -> int:
        """The newest visible revision."""
        return self._storage.revision

    def checked(self, kind: GroupVersionKind, obj: Object, options: WriteOptions) -> tuple[Object, list[str]]:
        """The body of a kind that is only asked with, as its schema allows it, and warnings.

        Raises `BadRequest` for another kind, for wrong types, and for what strict validation refuses.
        """
        return self._writer.checked_kind(kind, obj, options)

    async def find(self, resource: Resource, namespace: str, name: str) -> Item | None:
        """The object, or None."""
        item = await self._storage.find(resource, namespace, name)
        if item is None or resource.stored_as is None:
            return item
        view = self.views.of(resource)
        return item if view is None else await self._apart.shown(view, item)

    async def get(self, resource: Resource, namespace: str, name: str, subresource: str = "") -> Item:
        """The object, or its scale. Raises `NotFound`."""
        if subresource == "scale":
            return await self.subresources.get_scale(resource, namespace, name)
        if resource.virtual:
            return await self.virtual.get(resource, name)
        item = await self.find(resource, namespace, name)
        if item is None:
            raise not_found(resource.group, resource.plural, name)
        return item

    async def list(self, resource: Resource, namespace: str | None, options: ListOptions) -> ItemList:
        """One consistent revision. Raises `BadRequest`, `Expired`, `Timeout`."""
        if resource.virtual:
            return await self.virtual.list(resource, options, self._storage.revision)
        view = self.views.of(resource)
        return await list_items(self._storage, resource, namespace, options, view, self._indexes, self._apart)

    def watch(self, resource: Resource, namespace: str | None, options: WatchOptions) -> Batches:
        """Batches of events. Raises `BadRequest` and `Timeout` at once, `Expired` on iteration.

        Close with `aclose()`.
        """
        return self._watches.open(resource, namespace, options, self.views.of(resource))

    async def catch_up(self, resource_version: str) -> None:
        """Before a read not older than a revision, which only another server of the same store may have seen yet.

        Raises `BadRequest`, and `Timeout` for a revision that does not exist.
        """
        revision = parse_revision(resource_version)
        check_not_future(revision, await self._storage.newest(revision))

    async def create(
        self, resource: Resource, namespace: str, obj: Object, options: WriteOptions, identity: Identity
    ) -> Written:
        """Raises `AlreadyExists`, `BadRequest`, `Invalid`, `Forbidden` …"""
        return await self._writer.create(resource, namespace, obj, options, identity)

    async def update(
        self, resource: Resource, namespace: str, name: str, obj: Object, options: WriteOptions,
        identity: Identity, subresource: str = "",
    ) -> Written:  # fmt: skip
        """Raises `NotFound`, `Conflict`, `BadRequest`, `Invalid` …"""
        namespace = namespace if resource.namespaced else ""
        if subresource == "scale":
            return await self.subresources.update_scale(resource, namespace, name, obj, options, identity)
        if subresource == "finalize" and resource is NAMESPACES:
            return await self.subresources.finalize(name, obj, options, identity)
        target = self._writer.target(resource, namespace, name, options, identity, subresource)
        return await self._writer.update(target, obj)

    async def patch(
        self, resource: Resource, namespace: str, name: str, patch: Patch, options: WriteOptions,
        identity: Identity, subresource: str = "",
    ) -> Written:  # fmt: skip
        """Raises as `update` does, `Conflict` with causes for an apply, and `UnsupportedMediaType`."""
        namespace = namespace if resource.namespaced else ""
        if subresource == "scale":
            verbs = self.subresources
            verb = verbs.apply_scale if patch.kind == "apply" else verbs.patch_scale
            return await verb(resource, namespace, name, patch, options, identity)
        if subresource == "finalize":
            raise MethodNotAllowed("the server does not allow this method on the requested resource")
        node = self._schemas.merge_hints((resource.group, resource.version, resource.kind))
        target = self._writer.target(resource, namespace, name, options, identity, subresource)
        if patch.kind == "apply":
            return await self._writer.apply(target, patch.body)

        def patched(old: Object) -> tuple[Object, list[str]]:
            obj, warnings = self._writer.checked(resource, patch.apply_to(target.outward(old), node), options)
            return target.inward(obj), warnings

        return await self._writer.modify(target, patched, large=is_large(patch.body))

    async def delete(
        self, resource: Resource, namespace: str, name: str, options: DeleteOptions, identity: Identity
    ) -> Deleted:
        """Remove, or start deletion. Raises `NotFound`, `Conflict`, `Forbidden`."""
        namespace = namespace if resource.namespaced else ""
        write = WriteOptions(dry_run=options.dry_run)
        return await self._writer.delete(
            self._writer.target(resource, namespace, name, write, identity), options
        )

    async def delete_collection(
        self, resource: Resource, namespace: str | None, options: DeleteOptions, selection: ListOptions,
        identity: Identity,
    ) -> ItemList:  # fmt: skip
        """Delete what `selection` lists now; answers the objects as they were deleted or marked."""
        found = await self.list(resource, namespace, selection)
        deleted: list[Item] = []
        for start in range(0, len(found.items), DELETED_AT_ONCE):
            part = found.items[start : start + DELETED_AT_ONCE]
            results = await asyncio.gather(
                *(self._delete_present(resource, item, options, identity) for item in part)
            )
            deleted += [item for item in results if item is not None]
        return ItemList(deleted, self._storage.revision, found.continue_token, found.remaining)

    async def _delete_present(
        self, resource: Resource, item: Item, options: DeleteOptions, identity: Identity
    ) -> Item | None:
        """None when somebody else removed it first."""
        try:
            meta = item.meta
            return (await self.delete(resource, meta.namespace, meta.name, options, identity)).item
        except NotFound:
            return None
