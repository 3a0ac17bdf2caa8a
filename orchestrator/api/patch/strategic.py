"""Strategic merge patch: a merge patch that knows which lists are sets and which are maps.

Directives, as in Kubernetes' `strategicpatch` package:

- `$patch: replace|delete|merge` in an object replaces, empties or merges it; in an element of a merged
  list, `replace` makes the patch's other elements the whole list and `delete` removes the element's twin.
- `$retainKeys: [...]` drops every field of the target that is not listed.
- `$deleteFromPrimitiveList/f: [...]` removes values from the set `f`.
- `$setElementOrder/f: [...]` orders the merged list `f`; elements that only the server has keep their
  place relative to those they stood before.

A null removes a field. Lists without a merge strategy are replaced. Nothing is mutated.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from orchestrator.api.errors import BadRequest, Cause, Invalid
from orchestrator.api.item import Object
from orchestrator.api.patch.merge import DEPTH_MAX
from orchestrator.api.patch.schema_node import SchemaNode

SHOWN_MAX = 1000
"""Characters of a patch that a refusal repeats."""
_PATCH = "$patch"
_RETAIN = "$retainKeys"
_DELETE = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"

_Identity = Callable[[Any], Any]
"""What makes two elements of a list the same: the value itself, or its merge key's value."""


def strategic_patch(obj: Object, patch: Any, node: SchemaNode | None) -> Object:
    """`obj` with `patch` merged in. Raises `BadRequest` for malformed directives, `Invalid` for an element
    without its merge key."""
    if not isinstance(patch, dict):
        raise BadRequest("error decoding patch: a strategic merge patch must be an object")
    try:
        return _merge_object(obj, patch, node, 0)
    except _Unidentified as error:
        field = ".".join(reversed(error.path))
        why = f"does not contain declared merge key: {error.key}" if error.key else "no merge key is known"
        cause = Cause("FieldValueInvalid", f"Invalid value: an element {why}", field)
        what = "the server rejected our request due to an error in our request"
        raise Invalid(f"{what}: {field}: {cause.message}", causes=(cause,)) from None


class _Unidentified(Exception):
    """An element of a merged list lacks `key`, the list's merge key. `path` grows outwards from the list."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.path: list[str] = []


def _merge_object(target: Any, patch: Object, node: SchemaNode | None, depth: int) -> Object:
    if depth > DEPTH_MAX:
        raise BadRequest(f"error decoding patch: exceeded max depth of {DEPTH_MAX}")
    if _PATCH in patch:
        directive = patch[_PATCH]
        if directive == "delete":
            return {}
        if directive not in ("replace", "merge"):
            raise BadRequest(f"unknown patch type: {_shown(directive)} in map: {_shown(patch)}")
        patch = {key: value for key, value in patch.items() if key != _PATCH}
        if directive == "replace":
            target = {}
    result = _retained(target if isinstance(target, dict) else {}, patch)
    for key, value in patch.items():
        try:
            if key == _RETAIN:
                continue
            if key.startswith("$"):
                _apply_list_directive(result, patch, key, node)
            elif value is None:
                result.pop(key, None)
            else:
                child = node.child(key) if node else None
                result[key] = _merge_value(result.get(key), value, child, _order_of(patch, key), depth + 1)
        except _Unidentified as error:
            error.path.append(key.rpartition("/")[2] if key.startswith("$") else key)
            raise
    return result


def _retained(target: Object, patch: Object) -> Object:
    """A copy of `target` with only those fields that `$retainKeys`, if given, allows."""
    retain = patch.get(_RETAIN)
    if retain is None:
        return dict(target)
    if not isinstance(retain, list):
        raise BadRequest("invalid patch format of retainKeys")
    stray = [key for key in patch if not key.startswith("$") and patch[key] is not None and key not in retain]
    if stray:
        raise BadRequest(f"invalid patch format of retainKeys: {', '.join(stray)} not in the list")
    return {key: value for key, value in target.items() if key in retain}


def _order_of(patch: Object, key: str) -> list[Any] | None:
    order = patch.get(_ORDER + key)
    if order is not None and not isinstance(order, list):
        raise BadRequest("invalid patch format of setElementOrder list")
    return order


def _apply_list_directive(result: Object, patch: Object, key: str, node: SchemaNode | None) -> None:
    """`$deleteFromPrimitiveList/f`, and `$setElementOrder/f` where the patch does not merge `f` itself."""
    name, _, field = key.partition("/")
    if name == _DELETE[:-1] and field:
        values = patch[key]
        if not isinstance(values, list):
            raise BadRequest("invalid patch format of primitive list")
        if isinstance(result.get(field), list):
            result[field] = [value for value in result[field] if value not in values]
    elif name == _ORDER[:-1] and field:
        order = _order_of(patch, field)
        if order and patch.get(field) is None and isinstance(result.get(field), list):
            identity = _identity(result[field], node.child(field) if node else None)
            result[field] = _ordered(result[field], result[field], order, identity)
    else:
        raise BadRequest(f"unknown directive {key} in a strategic merge patch")


def _merge_value(
    target: Any, value: Any, node: SchemaNode | None, order: list[Any] | None, depth: int
) -> Any:
    strategy = node.patch_strategy if node else ()
    if isinstance(value, dict):
        if "replace" in strategy:
            target = {}
        return _merge_object(target, value, node, depth)
    if isinstance(value, list):
        if node is not None and "merge" in strategy:
            old = target if isinstance(target, list) else []
            return _merge_list(old, value, node, order, depth)
        return [_stripped(element, depth) for element in value]
    return value


def _stripped(value: Any, depth: int) -> Any:
    """An element that replaces: directives inside it do not belong into the object."""
    return _merge_object({}, value, None, depth + 1) if isinstance(value, dict) else value


def _merge_list(
    old: list[Any], patch: list[Any], node: SchemaNode, order: list[Any] | None, depth: int
) -> list[Any]:
    if any(isinstance(element, dict) for element in (*patch, *old)):
        merged = _merge_elements(old, patch, node, order, depth)
    else:
        known = set(map(_hashable, old))
        added = {_hashable(value): value for value in patch}
        merged = old + [value for key, value in added.items() if key not in known]
        _check_order(patch, order, _hashable)
    if not order:
        return merged
    return _ordered(merged, old, order, _identity(merged or order, node))


def _merge_elements(
    old: list[Any], patch: list[Any], node: SchemaNode, order: list[Any] | None, depth: int
) -> list[Any]:
    """Merge lists of objects by the node's merge key."""
    identity = _identity(patch or old, node)
    wanted: dict[Any, Object] = {}
    deleted: set[Any] = set()
    replace = False
    for element in patch:
        if not isinstance(element, dict):
            raise BadRequest("expected all elements of the patched list to be objects")
        directive = element.get(_PATCH)
        if directive == "replace":
            replace = True
            if len(element) == 1:
                continue
        elif directive == "delete":
            deleted.add(identity(element))
            continue
        key = identity(element)
        wanted[key] = {
            **wanted.get(key, {}),
            **{k: v for k, v in element.items() if k != _PATCH or v != "replace"},
        }
    _check_order(list(wanted.values()), order, identity)
    below = node.item()
    if replace:
        return [_merge_object({}, element, below, depth + 1) for element in wanted.values()]
    merged = []
    for element in old:
        key = identity(element)
        if key in wanted:
            merged.append(_merge_object(element, wanted.pop(key), below, depth + 1))
        elif key not in deleted:
            merged.append(element)
    return merged + [_merge_object({}, element, below, depth + 1) for element in wanted.values()]


def _identity(sample: list[Any], node: SchemaNode | None) -> _Identity:
    """How elements of a list like `sample` are told apart."""
    if not any(isinstance(element, dict) for element in sample):
        return _hashable
    key = node.merge_key if node else ""
    if not key:
        raise _Unidentified("")

    def of_object(element: Any) -> Any:
        if not isinstance(element, dict) or key not in element:
            raise _Unidentified(key)
        return _hashable(element[key])

    return of_object


def _hashable(value: Any) -> Any:
    """`value` as a set member; `true` and 1 stay different, lists and objects compare by their text."""
    if isinstance(value, dict | list):
        return (type(value), repr(value))
    return (type(value), value) if isinstance(value, bool) else value


def _check_order(patch: list[Any], order: list[Any] | None, identity: _Identity) -> None:
    if order is None:
        return
    listed = {identity(element) for element in order}
    for element in patch:
        if identity(element) not in listed:
            raise BadRequest(
                f"The order in patch list:\n{_shown(patch)}\n doesn't match $setElementOrder list:\n{_shown(order)}\n"
            )


def _shown(value: Any) -> str:
    """What a client sent, in a message: as JSON, not at any length."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"


def _ordered(merged: list[Any], old: list[Any], order: list[Any], identity: _Identity) -> list[Any]:
    """`merged` in the patch's order; an element unknown to it goes before the first listed element that
    followed it in `old`."""
    rank = {identity(element): at for at, element in enumerate(order)}
    place = {identity(element): at for at, element in enumerate(old)}
    listed = sorted((e for e in merged if identity(e) in rank), key=lambda e: rank[identity(e)])
    others = [e for e in merged if identity(e) not in rank]
    result: list[Any] = []
    while listed and others:
        mine, theirs = place.get(identity(others[0]), -1), place.get(identity(listed[0]), -1)
        first_other = mine >= 0 and theirs >= 0 and mine < theirs
        result.append((others if first_other else listed).pop(0))
    return result + listed + others
