"""`metadata.managedFields`: who owns which fields, and how a write that is no apply changes that.

An entry is the dictionary that clients see. Managers are told apart by name, operation, subresource and, for
updates, version. Who updates a field owns it from then on, together with appliers that had applied the same value;
whoever had another value loses it. Objects without entries are not tracked until somebody applies.
"""

from dataclasses import dataclass
from typing import Any

from orchestrator.api.apply import fieldset
from orchestrator.api.apply.fieldset import FieldSet
from orchestrator.api.apply.shapes import Fields
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object

Entry = dict[str, Any]
Entries = list[Entry]

UPDATERS_MAX = 10
"""Entries of updates that an object has; the oldest are joined beyond that."""
ANCIENT = "ancient-changes"
MANAGER_LENGTH_MAX = 128
SUBRESOURCE_LENGTH_MAX = 256
_RESETS: tuple[Entries, ...] = ([], [{}])
"""What a client sends to drop all entries."""


@dataclass(frozen=True, slots=True)
class Write:
    """Who writes what when."""

    manager: str
    api_version: str
    now: str
    subresource: str = ""
    skipped: tuple[str, ...] = ()
    """Fields of the object that this (sub)resource does not write."""


def entry(write: Write, operation: str, fields: FieldSet) -> Entry:
    """A new entry of this write."""
    made = {
        "manager": write.manager,
        "operation": operation,
        "apiVersion": write.api_version,
        "time": write.now,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }
    if write.subresource:
        made["subresource"] = write.subresource
    return made


def created(new: Object, write: Write, shape: Fields) -> Entries:
    """The entries of an object that is created: all that it says is its creator's."""
    given = decoded(new["metadata"].get("managedFields"))
    shown = seen(new, write.skipped)
    if not given:
        fields = shape.added(shown, True)
        return [entry(write, "Update", fields)] if fields else []
    return _changed(given, write, shape.added(shown, True), fieldset.LEAF)


def updated(old: Object, new: Object, write: Write, shape: Fields) -> Entries:
    """The entries after an update of `old` to `new`; the very list of `old` when nothing changed hands.

    What the client says about entries counts where it is well formed and no subresource is written.
    """
    entries = _current(old, new, write)
    if not entries:
        return entries
    before, after = seen(old, write.skipped), seen(new, write.skipped)
    changed, removed = shape.changes(before, after)
    if changed is None and removed is None:
        return entries
    return _changed(entries, write, changed or fieldset.LEAF, removed or fieldset.LEAF)


def _current(old: Object, new: Object, write: Write) -> Entries:
    live: Entries = old["metadata"].get("managedFields") or []
    given = new["metadata"].get("managedFields")
    if write.subresource or given is live or given is None or given == live:
        return live
    return [] if given in _RESETS else decoded(given) or live


def seen(obj: Object, skipped: tuple[str, ...]) -> Object:
    """`obj` without the skipped fields; `obj` itself where it has none."""
    for name in skipped:
        if name in obj:
            return {key: value for key, value in obj.items() if key not in skipped}
    return obj


def _changed(entries: Entries, write: Write, changed: FieldSet, removed: FieldSet) -> Entries:
    """`entries` after the manager of `write` set what is `changed` and took away what is `removed`."""
    result: Entries = []
    mine: FieldSet = changed
    time = write.now
    for held in entries:
        fields: FieldSet = held["fieldsV1"]
        rest = fieldset.without(fields, removed)
        if is_of(held, write):
            mine = fieldset.union(rest, changed)
            if not changed:
                time = held.get("time", write.now)
            continue
        rest = fieldset.difference(rest, changed)
        if rest:
            result.append(held if rest is fields else {**held, "fieldsV1": rest})
    if mine:
        result.append({**entry(write, "Update", mine), "time": time})
    return capped(in_order(result))


def is_of(held: Entry, write: Write, operation: str = "Update") -> bool:
    """Whether an entry belongs to the manager of `write`. Appliers have one entry whatever the version."""
    return (
        held.get("manager", "") == write.manager
        and held.get("operation") == operation
        and held.get("subresource", "") == write.subresource
        and (operation == "Apply" or held.get("apiVersion") == write.api_version)
    )


def in_order(entries: Entries) -> Entries:
    """As Kubernetes lists them: appliers first, then by time."""
    return sorted(entries, key=_rank) if len(entries) > 1 else entries


def _rank(held: Entry) -> tuple[str, ...]:
    return (
        held["operation"],
        held.get("time") or "",
        held.get("manager", ""),
        held.get("apiVersion", ""),
        held.get("subresource", ""),
    )


def capped(entries: Entries) -> Entries:
    """At most `UPDATERS_MAX` entries of updates: the oldest of a version are joined into one."""
    updaters = [held for held in entries if held["operation"] == "Update"]
    surplus = len(updaters) - UPDATERS_MAX
    if surplus <= 0:
        return entries
    gone: list[int] = []
    joined: dict[str, Entry] = {}
    first: dict[str, Entry] = {}
    for held in sorted(updaters, key=lambda held: (held.get("time") or "", held.get("manager", ""))):
        version = held.get("apiVersion", "")
        if surplus <= 0:
            break
        if version not in first:
            first[version] = held
            continue
        bucket = joined.get(version) or first[version]
        gone += [id(bucket), id(held)]
        fields = fieldset.union(bucket["fieldsV1"], held["fieldsV1"])
        joined[version] = _ancient(held, fields)
        surplus -= 1
    kept = [held for held in entries if id(held) not in gone]
    return in_order([*kept, *joined.values()])


def _ancient(latest: Entry, fields: FieldSet) -> Entry:
    made = {key: value for key, value in latest.items() if key != "subresource"}
    return {**made, "manager": ANCIENT, "fieldsV1": fields}


def decoded(given: Any) -> Entries:
    """A client's entries in canonical form; empty where there are none or they are malformed."""
    try:
        return in_order([_decoded(held) for held in given or ()])
    except (ValueError, TypeError, AttributeError):
        return []


def _decoded(given: Entry) -> Entry:
    if given.get("fieldsType") != "FieldsV1":
        raise ValueError("fieldsType must be FieldsV1")
    made = {**given, "fieldsV1": fieldset.canonical(given.get("fieldsV1") or {})}
    made.setdefault("operation", "")
    return made


def problems(entries: Entries) -> list[Cause]:
    """What is wrong with entries that a client gave."""
    found = []
    for at, held in enumerate(entries):
        path, operation = f"metadata.managedFields[{at}]", held.get("operation")
        if operation not in ("Apply", "Update"):
            text = f'Invalid value: "{operation or ""}": must be `Apply` or `Update`'
            found.append(Cause("FieldValueInvalid", text, f"{path}.operation"))
        if len((held.get("manager") or "").encode()) > MANAGER_LENGTH_MAX:
            text = f"Too long: may not be more than {MANAGER_LENGTH_MAX} bytes"
            found.append(Cause("FieldValueTooLong", text, f"{path}.manager"))
        if len(held.get("subresource") or "") > SUBRESOURCE_LENGTH_MAX:
            text = f"Too long: may not be more than {SUBRESOURCE_LENGTH_MAX} bytes"
            found.append(Cause("FieldValueTooLong", text, f"{path}.subresource"))
    return found


def same_but_times(left: Entries | None, right: Entries | None) -> bool:
    """Whether both say the same, times aside."""
    if left is right:
        return True
    left, right = left or [], right or []
    return len(left) == len(right) and all(
        _timeless(one) == _timeless(other)
        for one, other in zip(sorted(left, key=_identity), sorted(right, key=_identity), strict=True)
    )


def _timeless(held: Entry) -> Entry:
    return {key: value for key, value in held.items() if key != "time"}


def _identity(held: Entry) -> tuple[str, ...]:
    names = ("manager", "operation", "apiVersion", "subresource")
    return tuple(held.get(name) or "" for name in names)
