"""Strategic merge patch: directives, and lists as maps against an oracle."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.errors import BadRequest, Invalid
from orchestrator.api.patch import merge_patch, strategic_patch


class Node:
    """A schema written down by hand: the interface's third implementation beside the bundle's."""

    def __init__(self, fields=None, strategy=(), key="", element=None):
        self.patch_strategy = strategy
        self.merge_key = key
        self._fields = fields or {}
        self._element = element

    def child(self, field):
        return self._fields.get(field)

    def item(self):
        return self._element


ELEMENT = Node({"env": Node(strategy=("merge",), key="name", element=Node())})
SCHEMA = Node(
    {
        "containers": Node(strategy=("merge",), key="name", element=ELEMENT),
        "tags": Node(strategy=("merge",)),
        "atomic": Node(),
        "strategy": Node(strategy=("retainKeys",)),
        "source": Node(strategy=("replace",)),
    }
)


def _apply(obj, patch):
    before = copy.deepcopy((obj, patch))
    result = strategic_patch(obj, patch, SCHEMA)
    assert (obj, patch) == before, "inputs are never mutated"
    return result


_names = st.sampled_from(["a", "b", "c", "d"])
_values = st.integers(0, 3)
_element = st.dictionaries(st.sampled_from(["x", "y"]), _values)
_lists = st.dictionaries(_names, _element).map(lambda d: [{"name": n, **e} for n, e in d.items()])
_patch_element = st.dictionaries(st.sampled_from(["x", "y"]), st.none() | _values) | st.just(
    {"$patch": "delete"}
)
_patch_lists = st.dictionaries(_names, _patch_element).map(lambda d: [{"name": n, **e} for n, e in d.items()])


def _as_map(elements):
    return {element["name"]: element for element in elements}


@settings(max_examples=50)
@given(_lists, _patch_lists)
def test_a_list_with_a_merge_key_is_a_map(elements, patch):
    """The oracle is a merge patch of the list seen as a map, a deleted element being null."""
    result = _apply({"containers": elements}, {"containers": patch})["containers"]
    as_patch = {n: None if "$patch" in e else e for n, e in _as_map(patch).items()}
    assert _as_map(result) == merge_patch(_as_map(elements), as_patch)
    kept = [e["name"] for e in elements if as_patch.get(e["name"], {}) is not None]
    assert [e["name"] for e in result][: len(kept)] == kept, "the order of what was there stays"


@settings(max_examples=50)
@given(_lists, _lists, st.randoms(use_true_random=False))
def test_set_element_order_decides_the_order(elements, patch, rng):
    names = list({e["name"]: None for e in [*elements, *patch]})
    rng.shuffle(names)
    order = [{"name": name} for name in names]
    result = _apply({"containers": elements}, {"containers": patch, "$setElementOrder/containers": order})
    assert [e["name"] for e in result["containers"]] == names


@settings(max_examples=50)
@given(st.lists(_values, unique=True), st.lists(_values, unique=True), st.lists(_values))
def test_a_list_of_plain_values_is_a_set(old, added, removed):
    patch = {"tags": added, "$deleteFromPrimitiveList/tags": removed}
    result = _apply({"tags": old}, patch)["tags"]
    assert set(result) | set(removed) == set(old) | set(added) | set(removed)
    assert len(result) == len(set(result))
    assert not (set(result) & set(removed)) - set(added)


@pytest.mark.parametrize(
    ("obj", "patch", "expected"),
    [
        ({"a": 1, "b": 2}, {"a": None}, {"b": 2}),
        ({"m": {"a": 1}}, {"m": {"$patch": "replace", "b": 2}}, {"m": {"b": 2}}),
        ({"m": {"a": 1}}, {"m": {"$patch": "delete"}}, {"m": {}}),
        ({"m": {"a": 1}}, {"m": {"$patch": "merge", "b": 2}}, {"m": {"a": 1, "b": 2}}),
        (
            {"strategy": {"type": "R", "rolling": {}}},
            {"strategy": {"$retainKeys": ["type"], "type": "X"}},
            {"strategy": {"type": "X"}},
        ),
        ({"source": {"a": 1}}, {"source": {"b": 2}}, {"source": {"b": 2}}),
        ({"atomic": [1, 2]}, {"atomic": [3]}, {"atomic": [3]}),
        (
            {"containers": [{"name": "a"}]},
            {"containers": [{"$patch": "replace"}, {"name": "b"}]},
            {"containers": [{"name": "b"}]},
        ),
        (
            {"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}]}]},
            {
                "containers": [
                    {"name": "a", "env": [{"name": "Y", "value": "2"}, {"name": "X", "$patch": "delete"}]}
                ]
            },
            {"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}]},
        ),
        (
            {},
            {"containers": [{"name": "a", "x": None, "env": [{"name": "E", "$patch": "delete"}]}]},
            {"containers": [{"name": "a", "env": []}]},
        ),
        (
            {"containers": [{"name": "a"}, {"name": "s"}, {"name": "b"}]},
            {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]},
            {"containers": [{"name": "s"}, {"name": "b"}, {"name": "a"}]},
        ),
        (
            {"containers": [{"name": "s"}, {"name": "a"}]},
            {"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "a", "x": 1}]},
            {"containers": [{"name": "s"}, {"name": "a", "x": 1}]},
        ),
    ],
)
def test_directive(obj, patch, expected):
    assert _apply(obj, patch) == expected


@pytest.mark.parametrize(
    ("patch", "error", "text"),
    [
        ([], BadRequest, "must be an object"),
        (
            {"m": {"$patch": "explode"}},
            BadRequest,
            r'unknown patch type: explode in map: {"\$patch":"explode"}',
        ),
        ({"m": {"$patch": "x" * 5000}}, BadRequest, r"x{1000}… in map: .{1000}…$"),
        ({"strategy": {"$retainKeys": ["a"], "b": 1}}, BadRequest, "b not in the list"),
        ({"strategy": {"$retainKeys": "a"}}, BadRequest, "retainKeys"),
        ({"$deleteFromPrimitiveList/tags": "a"}, BadRequest, "primitive list"),
        ({"$setElementOrder/containers": "a"}, BadRequest, "setElementOrder"),
        ({"$unknown": 1}, BadRequest, "unknown directive"),
        ({"containers": [{"image": "x"}]}, Invalid, "does not contain declared merge key: name"),
        (
            {"containers": [{"name": "n"}], "$setElementOrder/containers": [{"name": "a"}]},
            BadRequest,
            r'list:\n\[{"name":"n"}\]\n doesn\'t match \$setElementOrder list:\n\[{"name":"a"}\]',
        ),
        ({"containers": [{"name": "n"}, "text"]}, BadRequest, "objects"),
    ],
)
def test_malformed_patch_is_refused(patch, error, text):
    with pytest.raises(error, match=text):
        strategic_patch({"tags": ["a"], "containers": [{"name": "a"}]}, patch, SCHEMA)


def test_without_a_schema_lists_are_replaced():
    assert strategic_patch({"l": [1], "m": {"a": 1}}, {"l": [2], "m": {"b": 2}}, None) == {
        "l": [2],
        "m": {"a": 1, "b": 2},
    }
