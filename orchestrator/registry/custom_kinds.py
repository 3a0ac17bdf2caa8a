"""Custom kinds come and go: what an established CustomResourceDefinition adds to table, schemas, strategies and views.

`CustomKinds.changed` is handed every change of a definition by whoever watches them (the daemon connects it to an
informer before the server is ready, on each server of a store). It only acts where that changes what is served: a
new generation, other accepted names, deletion. Routing, discovery, OpenAPI and authorization read the table; others
that keep something per row subscribe to it.
"""

from collections.abc import MutableMapping
from dataclasses import dataclass

import structlog

from orchestrator.api.conversion import Views
from orchestrator.api.custom.kinds import CustomKind, CustomView, is_served
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import Resource, ResourceTable
from orchestrator.api.schema import Schemas
from orchestrator.registry.strategies.custom_resources import CustomStrategy
from orchestrator.registry.strategy import Strategy

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Served:
    kind: CustomKind
    facts: object
    """What the rows follow from; a change of a definition that leaves them alone changes nothing."""


class CustomKinds:
    """Owner of the custom rows of the table, and of what belongs to them."""

    def __init__(
        self,
        table: ResourceTable,
        schemas: Schemas,
        strategies: MutableMapping[tuple[str, str], Strategy],
        views: Views,
    ) -> None:
        self._table = table
        self._schemas = schemas
        self._strategies = strategies
        self._views = views
        self._served: dict[str, _Served] = {}

    def changed(self, old: Item | None, new: Item | None) -> None:
        """A definition as it was and as it is; None for absent."""
        if new is None:
            if old is not None:
                self._remove(old.meta.name)
            return
        crd, name = new.object, new.meta.name
        if not is_served(crd):
            self._remove(name)
            return
        facts = _facts(crd)
        known = self._served.get(name)
        if known is None or known.facts != facts:
            self._replace(name, CustomKind.of(crd), facts)

    def kind(self, name: str) -> CustomKind | None:
        """The kind that the definition `name` serves, if it does."""
        known = self._served.get(name)
        return known.kind if known is not None else None

    def _replace(self, name: str, kind: CustomKind, facts: object) -> None:
        """In one go: a request sees the old or the new kind, never a part."""
        before = self._served.get(name)
        self._served[name] = _Served(kind, facts)
        if not kind.rows:
            self._drop(before)
            return
        for row in kind.rows:
            version = kind.versions[row.version]
            self._schemas.custom[row.group, row.version, row.kind] = version
            if row.stored_as is None:
                self._views.drop(row)
            else:
                self._views.set(row, CustomView(kind, version))
        row = kind.rows[0]
        self._strategies[row.group, row.plural] = CustomStrategy(kind)
        kept = {(row.version, row.kind) for row in kind.rows}
        gone = [r for r in before.kind.rows if (r.version, r.kind) not in kept] if before is not None else []
        self._table.replace(gone, kind.rows)
        for row in gone:
            self._forget(row)
        log.info("custom kind served", definition=name, versions=kind.served)

    def _remove(self, name: str) -> None:
        if name in self._served:
            self._drop(self._served.pop(name))
            log.info("custom kind removed", definition=name)

    def _drop(self, served: _Served | None) -> None:
        if served is None:
            return
        self._table.replace(served.kind.rows, [])
        for row in served.kind.rows:
            self._strategies.pop((row.group, row.plural), None)
            self._forget(row)

    def _forget(self, row: Resource) -> None:
        self._schemas.custom.pop((row.group, row.version, row.kind), None)
        self._views.drop(row)


def _facts(crd: Object) -> object:
    status, metadata = crd.get("status") or {}, crd["metadata"]
    return (
        metadata["uid"],
        metadata.get("generation"),
        bool(metadata.get("deletionTimestamp")),
        status.get("acceptedNames"),
        status.get("storedVersions"),
    )
