"""Writer: the read-modify-write that every change of an object goes through.

create: check → metadata → strategy → admission → validation → claims → transaction (key absent).
modify: read → build the candidate → the same steps → transaction (revision as read); when somebody else was
faster it starts over with what they wrote, so admission and validation always see what is really merged.
A change that says what is already stored writes nothing. The only writer of objects in the process.
"""

import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from orchestrator.admission.chain import AdmissionChain, AdmissionRequest
from orchestrator.api.access import Attributes, Authorizer, Identity
from orchestrator.api.conversion import View, Views
from orchestrator.api.errors import (
    AlreadyExists,
    BadRequest,
    Cause,
    InternalError,
    NotFound,
    already_exists,
    conflict,
    invalid,
    not_found,
)
from orchestrator.api.item import Item, Object, decode, encode
from orchestrator.api.options import DeleteOptions, WriteOptions
from orchestrator.api.resources import Resource
from orchestrator.api.times import timestamp
from orchestrator.base.clock import Clock
from orchestrator.registry import claims, deletion, objectmeta
from orchestrator.registry.apart import BYTES_MAX, WEIGHTS, Apart, is_large
from orchestrator.registry.charging import Charging
from orchestrator.registry.fieldmanagers import FieldManagers
from orchestrator.registry.patching import GroupVersionKind, SchemaChecker
from orchestrator.registry.results import Deleted, Written
from orchestrator.registry.storage import Storage
from orchestrator.registry.strategy import Strategy
from orchestrator.registry.turns import Done, Turns
from orchestrator.store.interface import Compare, Delete, Entry, Put, Txn

ATTEMPTS = 8
"""Tries of one write: generated names that exist, claims that others take, conflicts of unconditional writes."""

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"
CREATED_BY_UPDATE = frozenset({
    ("", "endpoints"), ("", "events"), ("", "limitranges"), ("", "services"), ("coordination.k8s.io", "leases"),
    ("rbac.authorization.k8s.io", "roles"), ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"), ("rbac.authorization.k8s.io", "clusterrolebindings"),
})  # fmt: skip
"""Resources (group, plural) whose update creates what is absent, as in Kubernetes."""
CONDITIONAL = frozenset({("coordination.k8s.io", "leases")})
"""Resources whose update needs a `resourceVersion`, beside custom ones."""

_ABSENT = {
    "uid": "uid mismatch: the provided object specified uid {}, and no existing object was found",
    "resourceVersion": MODIFIED,
}
"""Why an object that is applied with such metadata is not created."""

Build = Callable[[Object], tuple[Object, list[str]]]
"""From the stored object (frozen, with `resourceVersion`) the one that the client means, and warnings."""


@dataclass(frozen=True, slots=True)
class Target:
    """One object, or one subresource of it, and who writes it how.

    `resource` is the row in whose form strategy and admission work; `view` says how that differs from the row
    that is asked and from what is kept, and is None where it does not.
    """

    resource: Resource
    namespace: str
    name: str
    options: WriteOptions
    identity: Identity
    subresource: str = ""
    view: View | None = None

    @property
    def key(self) -> str:
        return self.resource.key(self.namespace, self.name)

    @property
    def row(self) -> Resource:
        """The row that the client asked for: its version is that of bodies, patches and answers."""
        return self.resource if self.view is None else self.view.row

    def inward(self, obj: Object) -> Object:
        """A client's object in the form that is worked in."""
        return obj if self.view is None else self.view.inward(obj)

    def outward(self, obj: Object) -> Object:
        """The object worked with as the client sees it."""
        return obj if self.view is None else self.view.outward(obj)

    def opened(self, entry: Entry) -> Object:
        """A stored object in the form that is worked in: always a fresh dictionary."""
        if self.view is None:
            return decode(entry.value, entry.revision)
        return self.view.opened(entry.value, entry.revision)

    def closed(self, obj: Object) -> bytes:
        """The bytes to store."""
        return encode(obj) if self.view is None else self.view.closed(obj)


class Writer:
    """Creates, changes and removes objects. Stateless; the store decides every race."""

    def __init__(
        self,
        apart: Apart,
        storage: Storage,
        schemas: SchemaChecker,
        strategies: Mapping[tuple[str, str], Strategy],
        admission: AdmissionChain,
        clock: Clock,
        rng: random.Random,
        views: Views,
        authorizer: Authorizer | None = None,
    ) -> None:
        self._authorizer = authorizer
        self._views = views
        self._storage = storage
        self._schemas = schemas
        self._fields = FieldManagers(schemas, clock)
        self._strategies = strategies
        self._admission = admission
        self._charging = Charging(storage, admission.ledger, clock)
        self._clock = clock
        self._rng = rng
        self._apart = apart
        self._turns = Turns()

    async def close(self) -> None:
        """End what writes by itself. May be called twice."""
        await self._charging.close()

    def rows_changed(self, gone: Iterable[Resource], rows: Iterable[Resource]) -> None:
        """The table's handler: nothing is kept for rows that went or are served otherwise."""
        for row in (*gone, *rows):
            self._fields.forget(row)

    def target(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        options: WriteOptions,
        identity: Identity,
        subresource: str = "",
    ) -> Target:
        """One object of the row that is asked, seen as its kind is worked with."""
        view = self._views.of(resource)
        working = resource if view is None else view.working
        return Target(working, namespace, name, options, identity, subresource, view)

    # ── create ──────────────────────────────────────────────────────────────────────────────────────────

    async def create(
        self, resource: Resource, namespace: str, obj: Object, options: WriteOptions, identity: Identity
    ) -> Written:
        """Raises `AlreadyExists`, `BadRequest`, `Invalid` and what admission raises."""
        large = self._is_large(resource, obj)
        obj, warnings = await self._apart.run(large, self.checked, resource, obj, options)
        view = self._views.of(resource)
        if view is not None:
            obj, resource = view.inward(obj), view.working
        metadata = obj["metadata"]
        namespace = objectmeta.namespace_of(resource, metadata, namespace)
        if metadata.get("resourceVersion"):
            raise BadRequest("resourceVersion should not be set on objects to be created")
        given, base = metadata.get("name") or "", metadata.get("generateName") or ""
        if not given and not base:
            cause = Cause(
                "FieldValueRequired", "Required value: name or generateName is required", "metadata.name"
            )
            raise invalid(resource.group, resource.kind, "", (cause,))
        name = given
        for _ in range(ATTEMPTS):
            name = given or objectmeta.generated_name(base, self._rng)
            target = Target(resource, namespace, name, options, identity, view=view)
            written = await self._create(target, obj, [*warnings], large, unique=bool(given))
            if written is not None:
                return await self._shown(target, written)
        raise already_exists(resource.group, resource.plural, name)

    async def _create(
        self,
        target: Target,
        obj: Object,
        warnings: list[str],
        large: bool,
        *,
        unique: bool,
        applied: bool = False,
    ) -> Written | None:
        """One try; None when a generated name or a claim was taken by somebody else. What was `applied` says
        itself whose its fields are."""
        resource, strategy = target.resource, self._strategy(target.row)
        now = timestamp(self._clock.now_s())
        uid = objectmeta.new_uid(self._rng)
        new = objectmeta.created(obj, target.namespace, target.name, uid, now)
        new = await self._apart.run(large, self._prepared, target, strategy, new, applied)
        new = await self._admitted(target, new, None, warnings)
        warnings += await self._apart.run(large, self._validated, target, strategy, new, None)
        new = await strategy.allocate(new, None, self._is_taken)
        key, raw = target.key, target.closed(new)
        request = self._request(target, new, None)
        if target.options.dry_run:
            if await self._storage.get(key) is not None:
                raise already_exists(resource.group, resource.plural, target.name)
            await self._charging.check(request)
            return Written(Item(raw, 0), warnings, created=True)
        compares, operations = claims.changes(key, frozenset(), strategy.claims(new), self._new_metadata)
        lease = await self._storage.lease_for(resource.ttl_s)
        txn = Txn((Compare(key, 0), *compares), (Put(key, raw, lease), *operations))
        result = await self._charging.commit(request, txn)
        if result.succeeded:
            return Written(result.entries[0].item, warnings, created=True)
        if unique and key in result.failed:
            raise already_exists(resource.group, resource.plural, target.name)
        return None

    def _prepared(self, target: Target, strategy: Strategy, new: Object, applied: bool) -> Object:
        """A new object with defaults and its creator's fields."""
        new = strategy.prepare_create(new)
        return new if applied else self._fields.created(target, new)

    # ── modify ──────────────────────────────────────────────────────────────────────────────────────────

    async def modify(
        self, target: Target, build: Build, *, rules: bool = True, large: bool = False
    ) -> Written:
        """Write what `build` makes of the stored object. Raises `NotFound`, `Conflict`, `Invalid` …

        Without `rules` the strategy has no say: for subresources whose change is a rule of its own. `large` says
        that `build` takes long, or makes much of the object.
        """

        async def attempt() -> Written | None:
            entry = await self._found(target)
            return await self._modify(target, entry, build, rules, large=large)

        return await self._shown(target, await self._in_turn(target, attempt))

    async def _found(self, target: Target) -> Entry:
        entry = await self._storage.get(target.key)
        if entry is None:
            raise not_found(target.resource.group, target.resource.plural, target.name)
        return entry

    async def _in_turn(self, target: Target, attempt: Callable[[], Awaitable[Done | None]]) -> Done:
        """What `attempt` did. Raises `Conflict` when others were faster each time."""
        done = await self._turns.take(target.key, attempt, ATTEMPTS)
        if done is None:
            raise conflict(target.resource.group, target.resource.plural, target.name, MODIFIED)
        return done

    async def update(self, target: Target, obj: Object) -> Written:
        """Replace the object; creates it where its resource allows that."""
        resource, large = target.resource, self._is_large(target.row, obj)
        obj, warnings = await self._apart.run(large, self.checked, target.row, obj, target.options)
        metadata = obj["metadata"]
        if (resource.group, resource.plural) in CREATED_BY_UPDATE and not target.subresource:
            known = await self._storage.get(target.key)
            if known is None and not metadata.get("uid") and not metadata.get("resourceVersion"):
                self._check_address(target, obj)
                await self._authorize_create(target)
                named = {**obj, "metadata": {**metadata, "name": target.name}}
                return await self.create(target.row, target.namespace, named, target.options, target.identity)
        conditional = resource.columns is not None or (resource.group, resource.plural) in CONDITIONAL
        if conditional and not metadata.get("resourceVersion"):
            cause = Cause(
                "FieldValueInvalid",
                "Invalid value: 0: must be specified for an update",
                "metadata.resourceVersion",
            )
            raise invalid(resource.group, resource.kind, target.name, (cause,))
        wanted = target.inward(obj)
        return await self.modify(target, lambda _: (wanted, warnings), large=large)

    async def apply(self, target: Target, given: Object) -> Written:
        """Server-side apply of what `given` says; creates what is absent. Raises `Conflict` with a cause for
        each field that others own, unless the options force."""
        row, large = target.row, self._is_large(target.row, given)
        config, warnings = await self._apart.run(
            large, self._fields.config, _kind(row), target.options, given
        )

        def merged(old: Object) -> tuple[Object, list[str]]:
            obj = self._fields.applied(target, target.outward(old), config)
            return target.inward(self._known(target, obj)), warnings

        async def attempt() -> Written | None:
            entry = await self._storage.get(target.key)
            if entry is not None:
                return await self._modify(target, entry, merged, True, applied=True, large=large)
            return await self._apply_absent(target, config, warnings, large)

        return await self._shown(target, await self._in_turn(target, attempt))

    def applicable(self, kind: GroupVersionKind, target: Target, given: Object) -> tuple[Object, list[str]]:
        """What is applied to a subresource of a kind of its own, and warnings. Raises `BadRequest`."""
        return self._fields.config(kind, target.options, given)

    def _known(self, target: Target, obj: Object) -> Object:
        """What was applied, as the schema allows it: defaults of custom kinds, nothing else should differ."""
        obj, _ = self._schemas.check(_kind(target.row), obj, "Ignore", ())
        return obj

    async def _apply_absent(
        self, target: Target, config: Object, warnings: list[str], large: bool
    ) -> Written | None:
        """Create what is applied; None when somebody else was faster."""
        resource, metadata = target.resource, config.get("metadata") or {}
        if target.subresource:
            raise not_found(resource.group, resource.plural, target.name)
        if not metadata.get("name"):
            raise BadRequest(
                f"the name of the object ({target.name} based on URL) was undeterminable: "
                "name must be provided"
            )
        self._check_address(target, config)
        for field, text in _ABSENT.items():
            if metadata.get(field):
                raise conflict(resource.group, resource.plural, target.name, text.format(metadata[field]))
        await self._authorize_create(target)
        row = target.row
        empty = {"apiVersion": row.api_version, "kind": row.kind, "metadata": {}}
        merged = await self._apart.run(large, self._fields.applied, target, empty, config)
        obj = target.inward(await self._apart.run(large, self._known, target, merged))
        try:
            return await self._create(target, obj, [*warnings], large, unique=True, applied=True)
        except AlreadyExists:
            return None

    async def _authorize_create(self, target: Target) -> None:
        """An update that creates needs the right to create."""
        if self._authorizer is not None:
            resource = target.row  # The group that is asked counts: events have two.
            attributes = Attributes(
                "create",
                resource.group,
                resource.plural,
                namespace=target.namespace if resource.namespaced else "",
                name=target.name,
            )
            await self._authorizer.authorize(target.identity, attributes)

    async def _modify(
        self, target: Target, entry: Entry, build: Build, rules: bool, *,
        applied: bool = False, large: bool = False,
    ) -> Written | None:  # fmt: skip
        """One try; None when somebody else wrote the object, or took a claim, in between."""
        large = large or len(entry.value) > BYTES_MAX or self._is_heavy(target.row, entry)
        strategy = self._strategy(target.row)
        step = _Step(target, strategy, build, rules, applied)
        new, old, warnings = await self._apart.run(large, self._merged, step, entry)
        new = await self._admitted(target, new, old, warnings)
        if rules:
            warnings += await self._apart.run(large, self._validated, target, strategy, new, old)
            new = await strategy.allocate(new, old, self._is_taken)
        raw = target.closed(new)
        if raw == entry.value or (objectmeta.same(new, old, applied) and _is_current(target, entry)):
            return Written(entry.item, warnings)
        if deletion.removable(new):
            return await self._remove_modified(target, entry, raw, strategy.claims(old), warnings)
        request = self._request(target, new, old)
        if target.options.dry_run:
            await self._charging.check(request)
            return Written(Item(raw, entry.revision), warnings)
        held = strategy.claims(old), strategy.claims(new)
        txn = await self._replacement(target, entry, raw, held)
        result = await self._charging.commit(request, txn)
        return Written(result.entries[0].item, warnings) if result.succeeded else None

    async def _replacement(
        self, target: Target, entry: Entry, raw: bytes, held: tuple[frozenset[str], frozenset[str]]
    ) -> Txn:
        """The transaction that writes `raw`; `held` are the claims before and after."""
        compares, operations = claims.changes(entry.key, *held, self._new_metadata)
        lease = await self._storage.lease_for(target.resource.ttl_s)
        return Txn((Compare(entry.key, entry.revision), *compares), (Put(entry.key, raw, lease), *operations))

    def _merged(self, step: "_Step", entry: Entry) -> tuple[Object, Object, list[str]]:
        """The object to write, the stored one, and warnings. Raises what `build` and the preconditions raise."""
        target = step.target
        # A fresh decode: what is replaced soon would only push live objects out of the items' cache.
        old = target.opened(entry)
        candidate, warnings = step.build(old)
        self._check_address(target, candidate)
        self._check_preconditions(target, candidate["metadata"], old["metadata"])
        new = objectmeta.updated(candidate, old)
        if step.rules:
            new = step.strategy.prepare_update(new, old, target.subresource)
            if not step.applied:
                new = self._fields.updated(target, new, old)
        return new, old, [*warnings]

    async def _remove_modified(
        self, target: Target, entry: Entry, raw: bytes, held: frozenset[str], warnings: list[str]
    ) -> Written | None:
        """The change that took away the last finalizer of an object being deleted removes it."""
        if target.options.dry_run:
            return Written(Item(raw, entry.revision), warnings)
        revision = await self._remove(entry, held)
        return Written(Item(raw, revision), warnings) if revision else None

    # ── delete ──────────────────────────────────────────────────────────────────────────────────────────

    async def delete(self, target: Target, options: DeleteOptions) -> Deleted:
        """Remove, or start deletion. Raises `NotFound`, `Conflict` for preconditions."""
        deletion.check_options(options)

        async def attempt() -> Deleted | None:
            return await self._delete(target, await self._found(target), options)

        deleted = await self._in_turn(target, attempt)
        if target.view is None:
            return deleted
        return Deleted(await self._apart.shown(target.view, deleted.item), deleted.gone)

    async def _delete(self, target: Target, entry: Entry, options: DeleteOptions) -> Deleted | None:
        old = target.opened(entry)
        wanted = {"uid": options.uid, "resourceVersion": options.resource_version}
        self.check_deletion_preconditions(target, wanted, old["metadata"])
        await self._admission.admit(self._request(target, None, old))
        strategy = self._strategy(target.resource)
        grace_s = strategy.grace_period_s(old, options.grace_period_s)
        now_s = self._clock.now_s()
        step = deletion.plan(strategy.ending(old, timestamp(now_s)), options, grace_s, now_s)
        if step.action == "keep":
            return Deleted(entry.item, gone=False)
        if options.dry_run:
            return Deleted(Item(target.closed(step.object), entry.revision), gone=step.action == "remove")
        if step.action == "remove":
            revision = await self._remove(entry, strategy.claims(old))
            return Deleted(Item(entry.value, revision), gone=True) if revision else None
        put = Put(entry.key, target.closed(step.object), entry.lease)
        result = await self._storage.transact(Txn((Compare(entry.key, entry.revision),), (put,)))
        return Deleted(result.entries[0].item, gone=False) if result.succeeded else None

    async def _remove(self, entry: Entry, held: frozenset[str]) -> int:
        """The revision of the removal, or 0 when the object changed in between."""
        _, operations = claims.changes(entry.key, held, frozenset(), self._new_metadata)
        txn = Txn((Compare(entry.key, entry.revision),), (Delete(entry.key), *operations))
        result = await self._storage.transact(txn)
        return result.revision if result.succeeded else 0

    # ── shared steps ────────────────────────────────────────────────────────────────────────────────────

    def checked(self, resource: Resource, obj: Object, options: WriteOptions) -> tuple[Object, list[str]]:
        """`obj` with its kind, as the schema allows it. Raises `BadRequest`."""
        return self.checked_kind(_kind(resource), obj, options)

    def checked_kind(
        self, kind: GroupVersionKind, obj: Object, options: WriteOptions
    ) -> tuple[Object, list[str]]:
        """The same for a kind that has no row of its own, such as the bodies of subresources."""
        group, version, name = kind
        obj = objectmeta.typed(f"{group}/{version}" if group else version, name, obj)
        return self._schemas.check(kind, obj, options.field_validation, options.duplicate_fields)

    def _strategy(self, resource: Resource) -> Strategy:
        strategy = self._strategies.get((resource.group, resource.plural))
        if strategy is None and resource.columns is not None:  # a custom kind that went meanwhile
            raise NotFound("the server could not find the requested resource")
        if strategy is None:
            raise InternalError(f"no strategy is registered for {resource.qualified}")
        return strategy

    def _request(self, target: Target, obj: Object | None, old: Object | None) -> AdmissionRequest:
        operation = "DELETE" if obj is None else "CREATE" if old is None else "UPDATE"
        return AdmissionRequest(
            operation,  # type: ignore[arg-type]  # the literals above
            target.resource,
            target.subresource,
            target.namespace,
            target.name,
            obj,
            old,
            target.identity,
            target.options.dry_run,
        )

    async def _admitted(self, target: Target, new: Object, old: Object | None, warnings: list[str]) -> Object:
        request = self._request(target, new, old)
        admitted = await self._admission.admit(request)
        warnings += request.warnings
        return admitted

    def _validated(self, target: Target, strategy: Strategy, new: Object, old: Object | None) -> list[str]:
        """Warnings about what is to be written. Raises `Invalid`."""
        causes = [] if old is None else objectmeta.update_problems(new, old) + self._fields.problems(new, old)
        causes += strategy.validate(new, old, target.subresource)
        if causes:
            raise invalid(target.resource.group, target.resource.kind, target.name, tuple(causes))
        return strategy.warnings(new, old)

    async def _shown(self, target: Target, written: Written) -> Written:
        """The answer in the version that was asked for."""
        if target.view is None:
            return written
        return Written(await self._apart.shown(target.view, written.item), written.warnings, written.created)

    def _is_large(self, row: Resource, obj: Object) -> bool:
        """Whether work on an object, or on what is said of it, takes long."""
        if row.columns is None:
            return is_large(obj, WEIGHTS.get((row.group, row.plural), 1))
        return is_large(obj, self._schemas.weight(_kind(row)))

    def _is_heavy(self, row: Resource, entry: Entry) -> bool:
        """Whether work on a stored object takes long though it is short: its kind's schema makes it so."""
        return row.columns is not None and len(entry.value) * self._schemas.weight(_kind(row)) > BYTES_MAX

    async def _is_taken(self, claim: str) -> bool:
        for key in claims.keys(claim):
            if await self._storage.get(key) is not None:
                return True
        return False

    def _new_metadata(self) -> Object:
        """Of an object that is written beside another."""
        now = timestamp(self._clock.now_s())
        return {"uid": objectmeta.new_uid(self._rng), "creationTimestamp": now}

    def _check_address(self, target: Target, candidate: Object) -> None:
        """The body must mean the object that the URL names."""
        metadata = candidate["metadata"]
        name = metadata.get("name") or target.name
        if name != target.name:
            raise BadRequest(
                f"the name of the object ({name}) does not match the name on the URL ({target.name})"
            )
        objectmeta.namespace_of(target.resource, metadata, target.namespace)

    def _check_preconditions(self, target: Target, given: Object, current: Object) -> None:
        resource = target.resource
        for text in objectmeta.unmet_uid(given.get("uid") or "", current["uid"]):
            raise conflict(resource.group, resource.plural, target.name, text)
        wanted = given.get("resourceVersion")
        if wanted and wanted not in ("0", current["resourceVersion"]):
            raise conflict(resource.group, resource.plural, target.name, MODIFIED)

    def check_deletion_preconditions(self, target: Target, wanted: Object, current: Object) -> None:
        """Raises `Conflict`; `wanted` has the `uid` and `resourceVersion` that a deletion names, or empty texts."""
        resource = target.resource
        uid, version = wanted["uid"], wanted["resourceVersion"]
        texts = []
        if uid and uid != current["uid"]:
            texts.append(
                f"the UID in the precondition ({uid}) does not match the UID in record ({current['uid']}). "
                "The object might have been deleted and then recreated"
            )
        if version and version != current["resourceVersion"]:
            texts.append(
                f"the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in "
                f"record ({current['resourceVersion']}). The object might have been modified"
            )
        for text in texts:
            raise conflict(resource.group, resource.plural, target.name, text)


@dataclass(frozen=True, slots=True)
class _Step:
    """How a stored object is changed."""

    target: Target
    strategy: Strategy
    build: Build
    rules: bool
    applied: bool
    """What was applied says itself whose its fields are."""


def _kind(row: Resource) -> GroupVersionKind:
    return row.group, row.version, row.kind


def _is_current(target: Target, entry: Entry) -> bool:
    """Whether a change that changes nothing may be left out: not where it would bring the stored form up to date."""
    return target.view is None or target.view.current(entry.value)
