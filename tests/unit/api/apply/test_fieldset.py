"""The algebra of field sets against plain sets of paths."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api.apply import fieldset
from orchestrator.api.apply.fieldset import LEAF, canonical, text

KEYS = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'v:"y"'])
PATHS = st.lists(st.tuples(KEYS) | st.tuples(KEYS, KEYS) | st.tuples(KEYS, KEYS, KEYS), max_size=8).map(set)


def made(paths):
    """The set of `paths`, by another way than the module's own."""
    root = {}
    for path in sorted(paths):
        node = root
        for at, key in enumerate(path):
            above = path[: at + 1]
            node = node.setdefault(key, {".": LEAF} if above in paths else {})
    return cleaned(root)


def cleaned(node):
    if node == {".": LEAF}:
        return LEAF
    return {key: below if key == "." else cleaned(below) for key, below in node.items()}


def members(node):
    return set(fieldset.paths(node))


@given(PATHS, PATHS)
def test_sets_behave_as_sets_of_paths(left, right):
    one, other = made(left), made(right)
    assert members(one) == left
    assert fieldset.union(one, other) == made(left | right)
    assert fieldset.difference(one, other) == made(left - right)
    assert fieldset.intersection(one, other) == made(left & right)
    trees = {path for path in left if any(path[: len(gone)] == gone for gone in right)}
    assert fieldset.without(one, other) == made(left - trees)
    assert all(fieldset.has(one, path) for path in left)
    assert not any(fieldset.has(one, path) for path in right - left)
    assert members(one) == left, "an operand was changed"


@given(PATHS)
def test_what_changes_nothing_returns_the_same_set(paths):
    one = made(paths)
    assert fieldset.union(one, one) is one
    assert fieldset.difference(one, LEAF) is one
    assert fieldset.without(one, {"f:zzz": LEAF}) is one


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (("f:spec", "f:replicas"), ".spec.replicas"),
        (("f:spec", 'k:{"port":80,"protocol":"TCP"}', "f:name"), '.spec[port=80,protocol="TCP"].name'),
        (("f:finalizers", 'v:"a/b"'), '.finalizers[="a/b"]'),
        (("f:list", "i:3"), ".list[3]"),
    ],
)
def test_paths_read_as_kubernetes_writes_them(path, shown):
    assert text(path) == shown


def test_a_clients_set_is_brought_into_one_form():
    given_set = {"f:a": {".": {}}, 'k:{"z": 1, "a":"b"}': {"f:x": {}}, ".": {}}
    assert canonical(given_set) == {"f:a": LEAF, 'k:{"a":"b","z":1}': {"f:x": LEAF}}
    for malformed in ({"q:a": {}}, {"k:[]": {}}, {"k:{": {}}, {"f:a": 1}, [], {"i:x": {}}):
        with pytest.raises(ValueError, match=r"must be an object|path element"):
            canonical(malformed)
