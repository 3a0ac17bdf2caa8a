"""JSON merge patch against an oracle over sets of paths."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.errors import BadRequest
from orchestrator.api.patch import merge_patch

_keys = st.sampled_from(["a", "b", "c"])
_leaves = st.none() | st.booleans() | st.integers(0, 3) | st.lists(st.integers(0, 3), max_size=2)
_solid = st.booleans() | st.integers(0, 3) | st.lists(st.integers(0, 3), max_size=2)
_patches = st.dictionaries(
    _keys, st.recursive(_leaves, lambda below: st.dictionaries(_keys, below), max_leaves=8)
)
_objects = st.dictionaries(
    _keys, st.recursive(_solid, lambda below: st.dictionaries(_keys, below), max_leaves=8)
)


def _oracle(target, patch):
    """RFC 7386's own pseudo code, on a copy."""
    if not isinstance(patch, dict):
        return patch
    if not isinstance(target, dict):
        target = {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = _oracle(target.get(name), value)
    return target


@settings(max_examples=50)
@given(_objects, _patches)
def test_merges_as_the_rfc_says_and_mutates_nothing(obj, patch):
    before = copy.deepcopy((obj, patch))
    result = merge_patch(obj, patch)
    assert (obj, patch) == before
    assert result == _oracle(copy.deepcopy(obj), copy.deepcopy(patch))


@settings(max_examples=50)
@given(_objects, _patches)
def test_a_second_application_changes_nothing(obj, patch):
    once = merge_patch(obj, patch)
    assert merge_patch(once, patch) == once


def test_untouched_parts_are_shared():
    obj = {"a": {"b": {}}, "c": {}}
    assert merge_patch(obj, {"c": {"d": 1}})["a"] is obj["a"]


def test_only_objects_merge_and_depth_is_bounded():
    with pytest.raises(BadRequest, match="not an object"):
        merge_patch({}, [])
    deep: dict = {}
    for _ in range(300):
        deep = {"a": deep}
    with pytest.raises(BadRequest, match="max depth"):
        merge_patch({}, deep)
