"""`metadata` that the system sets, whatever the kind. Pure; called by the registry around strategies.

Source of the rules: Kubernetes' `rest.BeforeCreate`, `rest.BeforeUpdate` and `apimachinery` validation of
`ObjectMeta`.
"""

import random
from typing import Any

from orchestrator.api.apply.managed import same_but_times
from orchestrator.api.errors import BadRequest, Cause
from orchestrator.api.item import Object
from orchestrator.api.resources import Resource

RANDOM_LENGTH = 5
_RANDOM_CHARS = "bcdfghjklmnpqrstvwxz2456789"
_BASE_LENGTH_MAX = 63 - RANDOM_LENGTH
_SYSTEM = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
"""Fields of metadata that a client's update never changes."""
_IGNORED = ("resourceVersion", "selfLink", *_SYSTEM)

WRONG_NAMESPACE = "the namespace of the provided object does not match the namespace sent on the request"


def typed(wanted_version: str, wanted_kind: str, obj: Object) -> Object:
    """`obj` with the `apiVersion` and `kind` wanted. Raises `BadRequest` where it says something else."""
    api_version = obj.get("apiVersion") or wanted_version
    kind = obj.get("kind") or wanted_kind
    if api_version != wanted_version:
        raise BadRequest(
            f"the API version in the data ({api_version}) does not match "
            f"the expected API version ({wanted_version})"
        )
    if kind != wanted_kind:
        raise BadRequest(f'{kind} in version "{api_version}" cannot be handled as a {wanted_kind}')
    if not isinstance(obj.get("metadata") or {}, dict):
        raise BadRequest("metadata: must be an object")
    return {**obj, "apiVersion": api_version, "kind": kind, "metadata": obj.get("metadata") or {}}


def namespace_of(resource: Resource, metadata: Object, requested: str) -> str:
    """The object's namespace; empty where the resource has none. Raises `BadRequest` for a mismatch."""
    if not resource.namespaced:
        return ""
    given = metadata.get("namespace") or requested
    if given != requested:
        raise BadRequest(WRONG_NAMESPACE)
    return str(given)


def generated_name(base: str, rng: random.Random) -> str:
    """`base`, cut to leave room, with five random characters."""
    suffix = "".join(rng.choices(_RANDOM_CHARS, k=RANDOM_LENGTH))
    return f"{base[:_BASE_LENGTH_MAX]}{suffix}"


def new_uid(rng: random.Random) -> str:
    """A random UUID (version 4, RFC 9562), written by hand: `uuid` takes three times as long."""
    text = f"{rng.getrandbits(128):032x}"
    variant = "89ab"[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


def created(obj: Object, namespace: str, name: str, uid: str, now: str) -> Object:
    """`obj` with the metadata of a new object: what the client may not set is dropped."""
    given = obj["metadata"]
    metadata: dict[str, Any] = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    metadata["uid"] = uid
    metadata["creationTimestamp"] = now
    for field, value in given.items():
        if field not in metadata and field not in _IGNORED and field != "namespace":
            metadata[field] = value
    return {**obj, "metadata": metadata}


def updated(obj: Object, old: Object) -> Object:
    """`obj` with the metadata fields that an update keeps, in the order in which they are stored."""
    given, before = obj["metadata"], old["metadata"]
    metadata: dict[str, Any] = {"name": before["name"]}
    if "namespace" in before:
        metadata["namespace"] = before["namespace"]
    for field in before:
        if field in _SYSTEM:
            metadata[field] = before[field]
        elif field in given and field not in _IGNORED and field not in metadata:
            metadata[field] = given[field]
    for field, value in given.items():
        if field not in metadata and field not in _IGNORED and field != "namespace":
            metadata[field] = value
    if metadata.get("finalizers") == []:  # The last one was taken off: the field goes with it.
        del metadata["finalizers"]
    return {**obj, "metadata": metadata}


def update_problems(new: Object, old: Object) -> list[Cause]:
    """What an update may not do to metadata: no new finalizers once deletion has started."""
    if not old["metadata"].get("deletionTimestamp"):
        return []
    before = set(old["metadata"].get("finalizers") or ())
    added = [name for name in new["metadata"].get("finalizers") or () if name not in before]
    if not added:
        return []
    quoted = ", ".join(f'"{name}"' for name in added)
    text = (
        "Forbidden: no new finalizers can be added if the object is being deleted, "
        f"found new finalizers []string{{{quoted}}}"
    )
    return [Cause("FieldValueForbidden", text, "metadata.finalizers")]


def same(new: Object, old: Object, applied: bool = False) -> bool:
    """Whether both say the same, `resourceVersion` aside, in whatever order. When it was `applied`, times in
    `managedFields` are not looked at."""
    if {**new, "metadata": None} != {**old, "metadata": None}:
        return False
    left, right = _comparable(new, applied), _comparable(old, applied)
    if left != right:
        return False
    entries = new["metadata"].get("managedFields"), old["metadata"].get("managedFields")
    return not applied or same_but_times(*entries)


def _comparable(obj: Object, applied: bool) -> Object:
    ignored = ("resourceVersion", "managedFields") if applied else ("resourceVersion",)
    return {key: value for key, value in obj["metadata"].items() if key not in ignored}


def unmet_uid(wanted: str, actual: str) -> list[str]:
    """Why the object is not the one that is meant; empty when it is, or when any will do."""
    if not wanted or wanted == actual:
        return []
    return [f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {actual}"]
