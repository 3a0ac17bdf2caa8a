"""Who owns which field of an object that is written: `metadata.managedFields`, kept at every write.

The writer asks between strategy and admission, so that defaults belong to whoever wrote and what admission adds
belongs to nobody, as in Kubernetes. Binding a pod changes no entries. Leases and events are not tracked from their
creation on: they come by the thousand and nobody shares them; an apply starts it, as for any object without entries.
"""

from typing import TYPE_CHECKING, Any

from orchestrator.api.apply import managed, merge, migrate
from orchestrator.api.apply.managed import Entries, Write
from orchestrator.api.apply.structs import Shapes
from orchestrator.api.errors import BadRequest, Cause
from orchestrator.api.item import Object
from orchestrator.api.options import WriteOptions
from orchestrator.api.resources import Resource
from orchestrator.api.times import timestamp
from orchestrator.base.clock import Clock
from orchestrator.registry.patching import GroupVersionKind, SchemaChecker

if TYPE_CHECKING:
    from orchestrator.registry.writing import Target

UNTRACKED = frozenset({("coordination.k8s.io", "leases"), ("", "events"), ("events.k8s.io", "events")})
UNKNOWN = "unknown"
_UNKNOWN_FIELD = 'unknown field "'


class FieldManagers:
    """Keeps the entries. Stateless but for the shapes of kinds."""

    def __init__(self, schemas: SchemaChecker, clock: Clock) -> None:
        self._schemas = schemas
        self._shapes = Shapes(schemas)
        self._clock = clock
        self._skipped: dict[tuple[str, str, str], tuple[Resource, tuple[str, ...]]] = {}
        """With the row that it was told for: a custom kind may get another one."""

    def forget(self, row: Resource) -> None:
        """What was kept for a row that is not served any more."""
        self._shapes.forget(_gvk(row))
        for key in [key for key, (known, _) in self._skipped.items() if known is row]:
            del self._skipped[key]

    def created(self, target: "Target", new: Object) -> Object:
        """`new` with its creator's entry."""
        resource = target.resource
        if (resource.group, resource.plural) in UNTRACKED:
            return _with(new, [])
        write = self._write(target, resource)
        return _with(new, managed.created(new, write, self._shapes.root(_gvk(resource))))

    def updated(self, target: "Target", new: Object, old: Object) -> Object:
        """`new` with the entries of `old`, after the change."""
        resource = target.resource
        if not (old["metadata"].get("managedFields") or new["metadata"].get("managedFields")):
            return new
        write = self._write(target, resource)
        return _with(new, managed.updated(old, new, write, self._shapes.root(_gvk(resource))))

    def config(self, kind: GroupVersionKind, options: WriteOptions, given: Any) -> tuple[Object, list[str]]:
        """What an applier wants, in canonical form and without nulls, and warnings. Raises `BadRequest`."""
        group, version, name = kind
        if not isinstance(given, dict):
            raise BadRequest("error decoding patch: the configuration to apply must be an object")
        api_version = f"{group}/{version}" if group else version
        merge.check(given, api_version, name, self._shapes.root(kind))
        duplicates = [f'duplicate field "{path}"' for path in options.duplicate_fields]
        if duplicates and options.field_validation == "Strict":
            raise BadRequest("error strict decoding YAML: " + _told_twice(options, duplicates))
        checked, faults = self._schemas.check(kind, given, "Warn", ())
        merge.refuse(given, [_undeclared(fault) for fault in faults if fault.startswith(_UNKNOWN_FIELD)])
        config: Object = _as_given(checked, given)
        return config, duplicates if options.field_validation == "Warn" else []

    def applied(self, target: "Target", live: Object, config: Object) -> Object:
        """`live`, or the mere kind of an object to create, with `config` merged in. Raises `Conflicts`."""
        row = target.row
        write, shape = self._write(target, row), self._shapes.root(_gvk(row))
        outcome = migrate.applied(live, config, write, shape, target.options.force)
        return _with(outcome.object, outcome.entries)

    def problems(self, new: Object, old: Object | None) -> list[Cause]:
        """What is wrong with entries that did not stand there before."""
        entries = new["metadata"].get("managedFields")
        if not entries or (old is not None and entries is old["metadata"].get("managedFields")):
            return []
        return managed.problems(entries)

    def _write(self, target: "Target", row: Resource) -> Write:
        key = row.group, row.plural, target.subresource
        known = self._skipped.get(key)
        if known is None or known[0] is not row:
            known = self._skipped[key] = row, _skipped(row, target.subresource)
        manager = target.options.field_manager or UNKNOWN
        return Write(manager, row.api_version, timestamp(self._clock.now_s()), target.subresource, known[1])


def _skipped(row: Resource, subresource: str) -> tuple[str, ...]:
    """Fields that are not written this way: what is written besides is not the writer's."""
    if subresource == "status":
        return ("spec",)
    return ("status",) if not subresource and row.subresource("status") is not None else ()


def _gvk(row: Resource) -> GroupVersionKind:
    return row.group, row.version, row.kind


def _with(obj: Object, entries: Entries) -> Object:
    """`obj` with these entries, which stand last; the same object when it has them."""
    metadata = obj["metadata"]
    if metadata.get("managedFields") is entries:
        return obj
    metadata = {key: value for key, value in metadata.items() if key != "managedFields"}
    if entries:
        metadata["managedFields"] = entries
    return {**obj, "metadata": metadata}


def _told_twice(options: WriteOptions, duplicates: list[str]) -> str:
    """Clients know this refusal by the line and the key that the YAML library names."""
    if not options.repeats:
        return ", ".join(duplicates)
    return "\n  ".join(("error converting YAML to JSON: yaml: unmarshal errors:", *options.repeats))


def _undeclared(fault: str) -> str:
    return f".{fault[len(_UNKNOWN_FIELD) : -1]}: field not declared in schema"


def _as_given(checked: Any, given: Any) -> Any:
    """`checked` without what `given` does not say: defaults are nobody's wish."""
    if type(checked) is dict and type(given) is dict:
        return {
            name: _as_given(part, given[name])
            for name, part in checked.items()
            if given.get(name) is not None
        }
    if type(checked) is list and type(given) is list and len(checked) == len(given):
        return [_as_given(part, other) for part, other in zip(checked, given, strict=True)]
    return checked
