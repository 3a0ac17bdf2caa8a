"""Sets of fields, kept as the very dictionaries that `fieldsV1` shows: nothing to encode, nothing to decode.

A key is one step of a path: `f:name` a field, `k:{"name":"a"}` an element of a list by its keys, `v:"a"` an
element of a set by its value, `i:0` an element by its place. An empty dictionary is a member; a member that has
members below it holds the key `.` as well; a dictionary with neither is only on the way. The root is on the way
always, so an empty root is the empty set. Sets are frozen and share parts; where nothing changes, functions return
the very set they were given.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

FieldSet = dict[str, Any]

LEAF: FieldSet = {}
"""A member without members below it. Shared, so never to be changed."""
SELF = "."

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.decode


def is_member(node: FieldSet) -> bool:
    """Whether the path that leads to `node` is itself in the set."""
    return not node or SELF in node


def as_member(node: FieldSet) -> FieldSet:
    """`node` with its own path in the set."""
    return node if is_member(node) else {SELF: LEAF, **node}


def union(left: FieldSet, right: FieldSet) -> FieldSet:
    """What is in either. Both are roots."""
    if not left or left is right:
        return right
    return _union(left, right) if right else left


def _union(left: FieldSet, right: FieldSet) -> FieldSet:
    if not left or not right:
        return as_member(left or right)
    result = left
    for key, node in right.items():
        held = left.get(key)
        joined = node if held is None else held if held is node else _union(held, node)
        if joined is not held:
            if result is left:
                result = dict(left)
            result[key] = joined
    return result


def difference(left: FieldSet, right: FieldSet) -> FieldSet:
    """What is in `left` and not in `right`. Both are roots."""
    if not left or not right:
        return left
    return _difference(left, right) or LEAF


def _difference(left: FieldSet, right: FieldSet) -> FieldSet | None:
    """None when nothing is left."""
    if not left:
        return None if is_member(right) else left
    taken = is_member(right)
    result: FieldSet = {}
    changed = False
    for key, node in left.items():
        if key == SELF:
            rest = None if taken else node
        else:
            other = right.get(key)
            rest = node if other is None else _difference(node, other)
        changed = changed or rest is not node
        if rest is not None:
            result[key] = rest
    return _normal(result) if changed else left


def intersection(left: FieldSet, right: FieldSet) -> FieldSet:
    """What is in both. Both are roots."""
    if not left or not right:
        return LEAF
    return _intersection(left, right) or LEAF


def _intersection(left: FieldSet, right: FieldSet) -> FieldSet | None:
    result: FieldSet = {SELF: LEAF} if is_member(left) and is_member(right) else {}
    for key, node in left.items():
        other = right.get(key)
        if other is not None and key != SELF:
            common = _intersection(node, other)
            if common is not None:
                result[key] = common
    return _normal(result)


def without(left: FieldSet, trees: FieldSet) -> FieldSet:
    """`left` without the members of `trees` and everything below them. Both are roots."""
    if not left or not trees:
        return left
    return _without(left, trees) or LEAF


def _without(left: FieldSet, trees: FieldSet) -> FieldSet | None:
    if is_member(trees):
        return None
    result: FieldSet = {}
    changed = False
    for key, node in left.items():
        other = trees.get(key)
        rest = node if other is None else _without(node, other)
        changed = changed or rest is not node
        if rest is not None:
            result[key] = rest
    return _normal(result) if changed else left


def _normal(node: FieldSet) -> FieldSet | None:
    """The one form of what is left: None for nothing, `LEAF` for a member alone."""
    if not node:
        return None
    return LEAF if len(node) == 1 and SELF in node else node


def paths(node: FieldSet) -> Iterator[tuple[str, ...]]:
    """The members, sorted by path, as tuples of keys."""
    for key in sorted(node):
        if key != SELF:
            below = node[key]
            if is_member(below):
                yield (key,)
            for path in paths(below):
                yield (key, *path)


def has(node: FieldSet, path: tuple[str, ...]) -> bool:
    """Whether `path` is a member."""
    for key in path:
        found = node.get(key)
        if found is None:
            return False
        node = found
    return bool(path) and is_member(node)


# ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────


def keys_key(values: dict[str, Any]) -> str:
    """The key of an element told apart by `values`."""
    return "k:" + _encode(values).decode()


def single_key(name: str, value: Any) -> str:
    """As `keys_key` for one field; names of containers, ports and conditions come again and again."""
    return _text_key(name, value) if type(value) is str else keys_key({name: value})


@lru_cache(maxsize=2048)
def _text_key(name: str, value: str) -> str:
    return keys_key({name: value})


def value_key(value: Any) -> str:
    """The key of an element of a set."""
    return "v:" + _encode(value).decode()


def text(path: tuple[str, ...]) -> str:
    """A path as messages show it: `.spec.containers[name="main"].image`."""
    return "".join(map(_step, path))


def _step(key: str) -> str:
    rest = key[2:]
    match key[:2]:
        case "f:":
            return f".{rest}"
        case "k:":
            values = _decode(rest)
            return "[" + ",".join(f"{name}={_encode(value).decode()}" for name, value in values.items()) + "]"
        case "v:":
            return f"[={rest}]"
    return f"[{rest}]"


def canonical(given: Any) -> FieldSet:
    """A client's `fieldsV1` in the form in which sets compare. Raises `ValueError` for what is none."""
    if not isinstance(given, dict):
        raise ValueError("a field set must be an object")
    root = {_canonical_key(key): _canonical(node) for key, node in given.items() if key != SELF}
    return root or LEAF


def _canonical(given: Any) -> FieldSet:
    if not isinstance(given, dict):
        raise ValueError("a field set must be an object")
    node = {_canonical_key(key): _canonical(below) for key, below in given.items()}
    return _normal(node) or LEAF


def _canonical_key(key: str) -> str:
    kind, rest = key[:2], key[2:]
    if key == SELF or kind == "f:":
        return key
    try:
        value = _decode(rest)
    except msgspec.DecodeError:
        raise ValueError(f"malformed path element {key!r}") from None
    if kind == "k:" and isinstance(value, dict) and value:
        return keys_key(value)
    if kind == "v:":
        return value_key(value)
    if kind == "i:" and isinstance(value, int):
        return f"i:{value}"
    raise ValueError(f"unknown path element {key!r}")
