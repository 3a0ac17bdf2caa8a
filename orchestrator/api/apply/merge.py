"""The verb: merge what an applier wants into the live object, and say who owns what afterwards.

1. What is applied must be well formed: known fields, no duplicates, no entries of its own.
2. Fields that this applier gave last time, gives no longer, and nobody else owns, go away.
3. A field that another manager owns and whose value would change is a conflict, unless the applier forces: then
   the other manager loses it. Equal values are shared.

Pure. Called by the registry; `migrate` adds what `kubectl` alone may do.
"""

from dataclasses import dataclass

from orchestrator.api.apply import fieldset, managed
from orchestrator.api.apply.fieldset import LEAF, FieldSet
from orchestrator.api.apply.managed import Entries, Entry, Write
from orchestrator.api.apply.shapes import Fields
from orchestrator.api.errors import BadRequest, Cause, Conflict
from orchestrator.api.item import Object

BEFORE_FIRST = "before-first-apply"
"""Owner of what an object without entries says when it is first applied to."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The outcome; `object` has the metadata of the live one, entries apart."""

    object: Object
    entries: Entries


class Conflicts(Conflict):
    """Fields that others own, by manager."""

    def __init__(self, found: list[tuple[Entry, FieldSet]]) -> None:
        pairs = [(_manager(held), path) for held, fields in found for path in fieldset.paths(fields)]
        super().__init__(_message(pairs), causes=_causes(pairs))
        self.found = found


def check(config: Object, api_version: str, kind: str, shape: Fields) -> None:
    """Raises `BadRequest` for what can't be applied."""
    given = config.get("apiVersion")
    if given != api_version:
        raise BadRequest(
            f"Incorrect version specified in apply patch. Specified patch version: {given or ''}, "
            f"expected: {api_version}"
        )
    if config.get("kind") != kind:
        raise BadRequest(
            f'{config.get("kind") or ""} in version "{api_version}" cannot be handled as a {kind}'
        )
    metadata = config.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise BadRequest("metadata: must be an object")
    if metadata.get("managedFields") is not None:
        raise BadRequest("metadata.managedFields must be nil")
    refuse(config, list(shape.faults(config, "")))


def refuse(config: Object, faults: list[str]) -> None:
    """Raises `BadRequest` for `faults`, if there are any, as Kubernetes words them."""
    if not faults:
        return
    metadata = config.get("metadata") or {}
    group, _, version = str(config.get("apiVersion")).rpartition("/")
    name = f"{metadata.get('namespace') or ''}/{metadata.get('name') or ''}"
    what = f"{name}; {group}/{version}, Kind={config.get('kind')}"
    text = faults[0] if len(faults) == 1 else "errors:" + "".join(f"\n  {fault}" for fault in faults[:100])
    raise BadRequest(f"failed to create typed patch object ({what}): {text}")


def applied(live: Object, config: Object, write: Write, shape: Fields, force: bool) -> Applied:
    """`config` merged into `live`, which is empty but for its kind when the object is created.

    Raises `Conflicts`. `config` has passed `check`.
    """
    config = managed.seen(config, write.skipped)
    entries: Entries = live.get("metadata", {}).get("managedFields") or []
    if not entries and live.get("metadata", {}).get("uid"):
        first = Write(BEFORE_FIRST, write.api_version, write.now, "", write.skipped)
        entries = managed.created(live, first, shape)
    mine = next((held for held in entries if managed.is_of(held, write, "Apply")), None)
    others = [held for held in entries if held is not mine]
    fields = shape.owned(config) or LEAF
    merged = shape.merged(live, config)
    if mine is not None:
        merged = _pruned(merged, mine["fieldsV1"], fields, others, shape)
    before, after = managed.seen(live, write.skipped), managed.seen(merged, write.skipped)
    changed, removed = (None, None) if before == after else shape.changes(before, after)
    kept = _others(others, changed or LEAF, removed or LEAF, force)
    if fields:
        kept.append(_own(mine, fields, write, changed is not None or removed is not None))
    return Applied(merged, managed.in_order(kept))


def _own(mine: Entry | None, fields: FieldSet, write: Write, changed: bool) -> Entry:
    """The applier's entry; as it was when neither its fields nor the object changed."""
    same = mine is not None and mine["fieldsV1"] == fields and mine.get("apiVersion") == write.api_version
    if mine is not None and same and not changed:
        return mine
    return managed.entry(write, "Apply", fields)


def _others(others: Entries, changed: FieldSet, removed: FieldSet, force: bool) -> Entries:
    """Their entries afterwards. Raises `Conflicts` unless `force`."""
    found: list[tuple[Entry, FieldSet]] = []
    kept: Entries = []
    for held in others:
        fields: FieldSet = held["fieldsV1"]
        lost = fieldset.intersection(fields, changed)
        if lost:
            found.append((held, lost))
        rest = fieldset.without(fieldset.difference(fields, lost), removed)
        if rest:
            kept.append(held if rest is fields else {**held, "fieldsV1": rest})
    if found and not force:
        raise Conflicts(found)
    return kept


def _pruned(merged: Object, last: FieldSet, now: FieldSet, others: Entries, shape: Fields) -> Object:
    """`merged` without what the applier gave last time and neither it nor anybody else wants now."""
    if not fieldset.difference(last, now):
        return merged
    gone = shape.named(last)
    wanted = now
    for held in others:
        wanted = fieldset.union(wanted, held["fieldsV1"])
    everything = shape.named(shape.owned(merged) or LEAF)
    # What lies in no tree of the applier's, or has an owner, stays …
    left = shape.named(shape.owned(shape.pruned(merged, gone)) or LEAF)
    kept = fieldset.union(left, shape.named(wanted))
    pruned = shape.pruned(merged, fieldset.difference(everything, kept))
    # … and so do elements beside the applier's own that nobody owns.
    left = shape.named(shape.owned(pruned) or LEAF)
    result: Object = shape.pruned(merged, fieldset.intersection(fieldset.difference(everything, left), gone))
    return result


# ── messages ────────────────────────────────────────────────────────────────────────────────────────────────


def _manager(held: Entry) -> str:
    text = f'"{held.get("manager", "")}"'
    if held.get("subresource"):
        text += f' with subresource "{held["subresource"]}"'
    return f"{text} using {held.get('apiVersion', '')}" if held.get("operation") == "Update" else text


def _causes(pairs: list[tuple[str, tuple[str, ...]]]) -> tuple[Cause, ...]:
    return tuple(
        Cause("FieldManagerConflict", f"conflict with {manager}", fieldset.text(path))
        for manager, path in pairs
    )


def _message(pairs: list[tuple[str, tuple[str, ...]]]) -> str:
    if len(pairs) == 1:
        manager, path = pairs[0]
        return f"Apply failed with 1 conflict: conflict with {manager}: {fieldset.text(path)}"
    by_manager: dict[str, list[str]] = {}
    for manager, path in pairs:
        by_manager.setdefault(manager, []).append(fieldset.text(path))
    parts = []
    for manager in sorted(by_manager):
        parts.append(f"conflicts with {manager}:")
        parts += [f"- {path}" for path in by_manager[manager]]
    return f"Apply failed with {len(pairs)} conflicts: " + "\n".join(parts)
