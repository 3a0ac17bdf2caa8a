"""Shaping objects: copies along a changed path, owners, conditions. Pure; used by every controller."""

from collections.abc import Mapping
from typing import Any

from orchestrator.api.item import Item, Meta, Object, OwnerReference
from orchestrator.api.resources import Resource


def split_key(key: str) -> tuple[str, str]:
    """`namespace/name` in two; the namespace is empty for a cluster-scoped key."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


def join_key(namespace: str, name: str) -> str:
    """The key that `split_key` takes apart, as informers use it."""
    return f"{namespace}/{name}" if namespace else name


def with_value(obj: Mapping[str, Any], path: tuple[str, ...], value: Any) -> Object:
    """A copy of `obj` with `value` at `path`; only dictionaries along the path are copied."""
    copy = dict(obj)
    if len(path) == 1:
        copy[path[0]] = value
    else:
        copy[path[0]] = with_value(copy.get(path[0]) or {}, path[1:], value)
    return copy


def without(obj: Mapping[str, Any], *keys: str) -> Object:
    """A shallow copy that lacks `keys`."""
    return {key: value for key, value in obj.items() if key not in keys}


def controller_of(meta: Meta) -> OwnerReference | None:
    """The one owner that manages the object, if any."""
    for reference in meta.owner_references:
        if reference.controller:
            return reference
    return None


def controller_index(item: Item) -> tuple[str, ...]:
    """Index function `controller`: the managing owner's uid, or `orphan/<namespace>` without one."""
    owner = controller_of(item.meta)
    return (owner.uid,) if owner is not None else (f"orphan/{item.meta.namespace}",)


def controller_reference(resource: Resource, owner: Object) -> Object:
    """The `ownerReferences` entry by which `owner` manages a dependent."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def reference_json(reference: OwnerReference) -> Object:
    """An owner reference of the projection as it stands in the object."""
    entry: Object = {
        "apiVersion": reference.api_version,
        "kind": reference.kind,
        "name": reference.name,
        "uid": reference.uid,
    }
    if reference.controller is not None:
        entry["controller"] = reference.controller
    if reference.block_owner_deletion is not None:
        entry["blockOwnerDeletion"] = reference.block_owner_deletion
    return entry


def find_condition(conditions: list[Object], kind: str) -> Object | None:
    return next((condition for condition in conditions if condition["type"] == kind), None)


def with_condition(conditions: list[Object], new: Object, now: str) -> list[Object]:
    """`conditions` with `new` (type, status, reason, message) set.

    `lastTransitionTime` moves only when the status changes; an equal condition gives back the same list.
    """
    old = find_condition(conditions, new["type"])
    if old is not None and all(old.get(key) == value for key, value in new.items()):
        return conditions
    since = old["lastTransitionTime"] if old is not None and old["status"] == new["status"] else now
    entry = {**(old or {}), **new, "lastTransitionTime": since}
    return [entry if c is old else c for c in conditions] if old is not None else [*conditions, entry]
