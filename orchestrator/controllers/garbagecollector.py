"""Garbage collector: dependents follow their owners. Looks at `Item.meta` only, never at whole objects.

1. An object that names owners lives as long as one of them does. An owner is absent when neither the cache
   nor a live read has an object of that kind, name and uid; a name that was taken again is not the owner.
2. All owners absent: the object is deleted, with the propagation that its own finalizers ask for, else in the
   background.
3. Some owners absent, or waiting for their dependents, and one alive: the dead references are removed.
4. No owner alive and some waiting (being deleted in the foreground): the object is deleted, in the foreground
   if it has dependents itself. If one of these waits for its own dependents, this may be a circle: then the
   object first stops blocking its owners.
5. An object deleted in the foreground loses `foregroundDeletion` once no dependent blocks it any more.
6. An object deleted with `orphan` first loses its dependents' references, then that finalizer.
7. An owner of unknown kind, or a namespaced owner of a cluster-scoped object, decides nothing. The latter, and an
   owner that lives in another namespace (it is absent here), is told as an event `OwnerRefInvalidNamespace`.
8. Custom kinds are collected as their rows come and go.

Keys are `resource.group|namespace/name`. Called for every stored resource of the table but events.
"""

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from orchestrator.api.errors import NotFound
from orchestrator.api.item import Item, OwnerReference
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import EVENTS, NAMESPACES, Resource, ResourceTable
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.objects import join_key, reference_json
from orchestrator.informer.cache import Informer, Informers, key_of
from orchestrator.informer.queue import WorkQueue

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
ABSENT_MAX = 10_000
"""Owners known to be absent. A uid never comes back where it once was not, so they may be forgotten but are never
wrong; elsewhere it may live: who names a living owner by a wrong name or from another namespace says nothing of it."""

Place = tuple[str, str, str, str, str]
"""Kind, version, namespace, name and uid of an owner, as a dependent has them."""


class GarbageCollector:
    name = "garbagecollector"

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder, table: ResourceTable) -> None:
        self._client = client
        self._recorder = recorder
        self._table = table
        self._absent: dict[Place, None] = {}
        self._informers: dict[str, Informer] = {}
        self._owned: dict[str, dict[tuple[str, str], None]] = {}
        """Owner's uid → (resource, place) of dependents: one look instead of one in every informer's index."""
        self.watches = tuple(collected(table))
        self.writes = self.watches

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._source = informers
        self._queue = queue
        for resource in collected(self._table):
            self.watch(resource)
        self._follow_table()

    def _follow_table(self) -> None:
        """Rule 8, for as long as somebody has this collector: one of a later term takes over from it."""
        held = weakref.ref(self)

        def changed(gone: list[Resource], rows: list[Resource]) -> None:
            collector = held()
            if collector is None:
                forget()
            else:
                collector._table_changed([*gone, *rows])

        forget = self._table.on_change(changed)

    def _table_changed(self, rows: list[Resource]) -> None:
        """Each resource is watched through one of the rows that serve it, the one in use if it still does."""
        served = {row.qualified: row for row in collected(self._table)}
        for qualified in dict.fromkeys(row.qualified for row in rows):
            informer, row = self._informers.get(qualified), served.get(qualified)
            if informer is not None and not self._still_serves(informer.resource, row):
                del self._informers[qualified]
                self._forget(informer)
                self._source.drop(informer)
            if row is not None:
                self.watch(row)

    def _forget(self, informer: Informer) -> None:
        """Nobody is told of the objects of a dropped informer any more."""
        for item in informer.list():
            self._note(informer, item, None)

    def _still_serves(self, watched: Resource, row: Resource | None) -> bool:
        found = self._table.find(watched.group, watched.version, watched.plural)
        return row is not None and found is not None and found.namespaced == watched.namespaced

    def watch(self, resource: Resource) -> None:
        """Collect objects of `resource` too; for resources that appear at run time."""
        if resource.qualified in self._informers:
            return
        informer = self._informers[resource.qualified] = self._source.of(resource)
        informer.on_change(lambda old, new: self._changed(informer, old, new))

    async def reconcile(self, key: str) -> float | None:
        qualified, _, place = key.partition("|")
        informer = self._informers.get(qualified)
        if informer is None:
            return None
        item = informer.get(place)
        if item is None:
            return None
        meta = item.meta
        if meta.deletion_timestamp:
            if FOREGROUND in meta.finalizers:
                await self._foreground(informer, item)
            elif ORPHAN in meta.finalizers:
                await self._orphan(informer, item)
        elif meta.owner_references:
            await self._judge(informer, item)
        return None

    def _changed(self, informer: Informer, old: Item | None, new: Item | None) -> None:
        """Wake whoever may be concerned: the object, its dependents, the owners that wait for it."""
        self._note(informer, old, new)
        if new is None:
            if old is not None:
                self._wake_dependents(old.meta.uid)
                self._wake_waiting(old)
            return
        meta = new.meta
        if meta.deletion_timestamp:
            if FOREGROUND in meta.finalizers or ORPHAN in meta.finalizers:
                self._queue.add(self._key(informer, new))
        elif meta.owner_references and (
            old is None or old is new or old.meta.owner_references != meta.owner_references
        ):
            self._queue.add(self._key(informer, new))
        if old is not None and old.meta.owner_references != meta.owner_references:
            self._wake_waiting(old)

    def _key(self, informer: Informer, item: Item) -> str:
        return f"{informer.resource.qualified}|{key_of(item)}"

    def _wake_dependents(self, uid: str) -> None:
        for informer, item in self._dependents(uid):
            self._queue.add(self._key(informer, item))

    def _wake_waiting(self, dependent: Item) -> None:
        for reference in dependent.meta.owner_references:
            found = self._cached(dependent, reference)
            if found is not None and FOREGROUND in found[1].meta.finalizers:
                self._queue.add(self._key(*found))

    def _note(self, informer: Informer, old: Item | None, new: Item | None) -> None:
        before, after = _owners(old), _owners(new)
        if before == after:
            return
        place = informer.resource.qualified, key_of(new or old)  # type: ignore[arg-type]
        for uid in before:
            places = self._owned.get(uid) or {}
            places.pop(place, None)
            if not places:
                self._owned.pop(uid, None)
        for uid in after:
            self._owned.setdefault(uid, {})[place] = None

    def _dependents(self, uid: str) -> Iterator[tuple[Informer, Item]]:
        for qualified, place in tuple(self._owned.get(uid) or ()):
            informer = self._informers.get(qualified)
            item = informer.get(place) if informer is not None else None
            if informer is not None and item is not None:
                yield informer, item

    def _owner_place(self, dependent: Item, reference: OwnerReference) -> tuple[Resource, str] | None:
        """Where the owner would be; None when it can't be told (rule 7)."""
        row = self._table.by_kind(reference.api_version, reference.kind)
        if row is None or not row.stored or (row.namespaced and not dependent.meta.namespace):
            return None
        return row, dependent.meta.namespace if row.namespaced else ""

    def _cached(self, dependent: Item, reference: OwnerReference) -> tuple[Informer, Item] | None:
        place = self._owner_place(dependent, reference)
        informer = self._informers.get(place[0].qualified) if place is not None else None
        if place is None or informer is None:
            return None
        item = informer.get(join_key(place[1], reference.name))
        return (informer, item) if item is not None and item.meta.uid == reference.uid else None

    async def _judge(self, informer: Informer, item: Item) -> None:
        states = {ref.uid: await self._state(item, ref) for ref in item.meta.owner_references}
        dependents = [dependent for _, dependent in self._dependents(item.meta.uid)]
        steps = plan(item, states, bool(dependents), any(map(_is_foreground, dependents)))
        if steps.keep is not None:
            await self._set_owners(informer.resource, item, steps.keep)
        elif steps.unblock:
            references = [
                {**reference_json(r), "blockOwnerDeletion": False} for r in item.meta.owner_references
            ]
            await self._patch(informer.resource, item, {"ownerReferences": references})
        elif steps.delete:
            options = DeleteOptions(
                propagation_policy=steps.delete,
                uid=item.meta.uid,
                resource_version=str(item.revision),
            )
            try:
                await self._client.delete(informer.resource, item.meta.name, item.meta.namespace, options)
            except NotFound:
                return

    async def _state(self, dependent: Item, reference: OwnerReference) -> "Owner":
        named = _place(dependent, reference)
        if named in self._absent:
            return Owner.ABSENT
        found = self._cached(dependent, reference)
        if found is not None:
            return Owner.WAITING if _is_foreground(found[1]) else Owner.ALIVE
        place = self._owner_place(dependent, reference)
        if place is None:
            self._report_unreachable(dependent, reference)
            return Owner.UNKNOWN
        try:
            live = await self._client.get(place[0], reference.name, place[1])
            if live["metadata"]["uid"] == reference.uid:
                return Owner.ALIVE
        except NotFound:
            pass
        self._report_elsewhere(dependent, place[0], reference)
        self._absent[named] = None
        if len(self._absent) > ABSENT_MAX:
            del self._absent[next(iter(self._absent))]
        return Owner.ABSENT

    def _report_elsewhere(self, dependent: Item, row: Resource, reference: OwnerReference) -> None:
        """An owner of this uid lives in another namespace: the reference is invalid, and somebody should know."""
        informer = self._informers.get(row.qualified)
        if informer is None or not row.namespaced:
            return
        for namespace in self._source.of(NAMESPACES).list():
            item = informer.get(join_key(namespace.meta.name, reference.name))
            if item is not None and item.meta.uid == reference.uid:
                self._report(dependent, reference)
                return

    def _report_unreachable(self, dependent: Item, reference: OwnerReference) -> None:
        """A cluster-scoped object names an owner of a namespaced kind (rule 7)."""
        row = self._table.by_kind(reference.api_version, reference.kind)
        if row is not None and row.namespaced and not dependent.meta.namespace:
            self._report(dependent, reference)

    def _report(self, dependent: Item, reference: OwnerReference) -> None:
        namespace = dependent.meta.namespace
        named = (
            f"[{reference.api_version}/{reference.kind}, namespace: {namespace}, name: {reference.name}, "
            f"uid: {reference.uid}]"
        )
        text = f'ownerRef {named} does not exist in namespace "{namespace}"'
        self._recorder.event(dependent.object, "Warning", "OwnerRefInvalidNamespace", text)

    async def _foreground(self, informer: Informer, item: Item) -> None:
        blocking = False
        for other, dependent in self._dependents(item.meta.uid):
            blocking = blocking or _blocks(dependent, item)
            if not dependent.meta.deletion_timestamp:
                self._queue.add(self._key(other, dependent))
        if not blocking:
            await self._drop_finalizer(informer.resource, item, FOREGROUND)

    async def _orphan(self, informer: Informer, item: Item) -> None:
        for other, dependent in list(self._dependents(item.meta.uid)):
            kept = [ref for ref in dependent.meta.owner_references if ref.uid != item.meta.uid]
            await self._set_owners(other.resource, dependent, kept)
        await self._drop_finalizer(informer.resource, item, ORPHAN)

    async def _set_owners(self, resource: Resource, item: Item, kept: list[OwnerReference]) -> None:
        references = [reference_json(reference) for reference in kept] or None
        await self._patch(resource, item, {"ownerReferences": references})

    async def _drop_finalizer(self, resource: Resource, item: Item, name: str) -> None:
        kept = [finalizer for finalizer in item.meta.finalizers if finalizer != name]
        await self._patch(resource, item, {"finalizers": kept or None})

    async def _patch(self, resource: Resource, item: Item, metadata: dict[str, object]) -> None:
        """Change metadata if the object is still at this revision (`Conflict` retries)."""
        patch = {"metadata": {"resourceVersion": str(item.revision), **metadata}}
        try:
            await self._client.patch(resource, item.meta.name, item.meta.namespace, patch)
        except NotFound:
            return


class Owner(Enum):
    """How an owner stands to a dependent."""

    ALIVE = "alive"
    WAITING = "waiting"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Plan:
    """`keep`: the owner references to leave; `unblock`: let no reference block its owner; `delete`: the
    propagation policy to delete with. At most one of them."""

    keep: list[OwnerReference] | None = field(default=None)
    unblock: bool = False
    delete: str = ""


def plan(item: Item, states: dict[str, Owner], has_dependents: bool, circle: bool) -> Plan:
    """Rules 2 to 4. `states` by owner uid; `circle` when a dependent waits for its own dependents."""
    found = set(states.values())
    if found & {Owner.ALIVE, Owner.UNKNOWN}:
        dead = (Owner.ABSENT, Owner.WAITING) if Owner.ALIVE in found else ()
        kept = [ref for ref in item.meta.owner_references if states[ref.uid] not in dead]
        return Plan(keep=kept if len(kept) < len(item.meta.owner_references) else None)
    if Owner.WAITING in found and has_dependents:
        if circle and any(reference.block_owner_deletion for reference in item.meta.owner_references):
            return Plan(unblock=True)
        return Plan(delete="Foreground")
    if ORPHAN in item.meta.finalizers:
        return Plan(delete="Orphan")
    if FOREGROUND in item.meta.finalizers:
        return Plan(delete="Foreground")
    return Plan(delete="Background")


def _place(dependent: Item, reference: OwnerReference) -> Place:
    return (
        reference.kind, reference.api_version, dependent.meta.namespace, reference.name, reference.uid,
    )  # fmt: skip


def _is_foreground(item: Item) -> bool:
    return bool(item.meta.deletion_timestamp) and FOREGROUND in item.meta.finalizers


def _blocks(dependent: Item, owner: Item) -> bool:
    return any(
        reference.uid == owner.meta.uid and bool(reference.block_owner_deletion)
        for reference in dependent.meta.owner_references
    )


def collected(table: ResourceTable) -> list[Resource]:
    """Every stored resource that can be watched and deleted, one row per group and plural: the one that is kept."""
    needed = {"delete", "list", "watch"}
    rows: dict[tuple[str, str], Resource] = {}
    for row in table:
        if not row.stored or not needed <= set(row.verbs) or row.qualified == EVENTS.qualified:
            continue
        kept_as = row.stored_as or (row.group, row.version)
        if kept_as[0] == row.group and (row.version == kept_as[1] or (row.group, row.plural) not in rows):
            rows[row.group, row.plural] = row
    return list(rows.values())


def _owners(item: Item | None) -> tuple[str, ...]:
    return tuple(reference.uid for reference in item.meta.owner_references) if item is not None else ()
