"""JSON patch: the operations, their errors and bounds."""

import copy

import pytest

from orchestrator.api.errors import BadRequest, Invalid, RequestEntityTooLarge
from orchestrator.api.patch import json_patch

DOC = {"a": {"b": [1, 2, 3], "c/d": 1, "e~f": 2}, "l": []}


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ({"op": "add", "path": "/a/b/1", "value": 9}, {"b": [1, 9, 2, 3]}),
        ({"op": "add", "path": "/a/b/-", "value": 9}, {"b": [1, 2, 3, 9]}),
        ({"op": "add", "path": "/a/new", "value": None}, {"new": None}),
        ({"op": "remove", "path": "/a/b/0"}, {"b": [2, 3]}),
        ({"op": "remove", "path": "/a/b/-1"}, {"b": [1, 2]}),
        ({"op": "replace", "path": "/a/c~1d", "value": 5}, {"c/d": 5}),
        ({"op": "replace", "path": "/a/e~0f", "value": 5}, {"e~f": 5}),
        ({"op": "move", "from": "/a/b/0", "path": "/a/b/2"}, {"b": [2, 3, 1]}),
        ({"op": "copy", "from": "/a/b", "path": "/a/g"}, {"g": [1, 2, 3]}),
        ({"op": "test", "path": "/a/b", "value": [1, 2, 3]}, {}),
        ({"op": "test", "path": "/a/missing", "value": None}, {}),
    ],
)
def test_operation(op, expected):
    before = copy.deepcopy(DOC)
    result = json_patch(DOC, [op])
    assert result == {**DOC, "a": {**DOC["a"], **expected}}
    assert before == DOC
    assert result["l"] is DOC["l"], "what the patch does not touch is shared"


@pytest.mark.parametrize(
    "op",
    [
        {"op": "remove", "path": "/x"},
        {"op": "replace", "path": "/x", "value": 1},
        {"op": "add", "path": "/x/y", "value": 1},
        {"op": "add", "path": "/a/b/4", "value": 1},
        {"op": "add", "path": "/a/b/01", "value": 1},
        {"op": "remove", "path": "/a/b/x"},
        {"op": "test", "path": "/a/b/0", "value": 2},
        {"op": "test", "path": "/a/b/0", "value": True},
        {"op": "move", "from": "/a", "path": "/a/b"},
        {"op": "add", "path": "", "value": []},
        {"op": "copy", "from": "/nope", "path": "/a"},
        {"op": "add", "path": "/a/c~1d/x", "value": 1},
    ],
)
def test_what_does_not_fit_the_object_is_invalid(op):
    with pytest.raises(Invalid, match="the server rejected our request due to an error in our request"):
        json_patch(DOC, [op])


@pytest.mark.parametrize(
    "ops",
    [
        {},
        ["x"],
        [{"op": "jump", "path": "/a"}],
        [{"op": "add", "path": "/a"}],
        [{"op": "remove"}],
        [{"op": "remove", "path": "a"}],
        [{"op": "move", "path": "/a"}],
        [{"op": "test", "path": 3}],
    ],
)
def test_malformed_patch_is_a_bad_request(ops):
    with pytest.raises(BadRequest, match="error decoding patch"):
        json_patch(DOC, ops)


def test_growth_is_bounded():
    with pytest.raises(RequestEntityTooLarge, match="maximum operations in a JSON patch is 10000, got 10001"):
        json_patch({}, [{"op": "add", "path": "/a", "value": 1}] * 10_001)
    doubling = [{"op": "add", "path": "/a", "value": "x" * 1000}]
    doubling += [{"op": "copy", "from": "", "path": "/b"}, {"op": "copy", "from": "", "path": "/a"}] * 20
    with pytest.raises(RequestEntityTooLarge, match="accumulated size"):
        json_patch({}, doubling)


def test_a_copy_and_its_source_change_apart_and_inputs_stay_as_they_were() -> None:
    obj = {"a": {"b": [1]}, "kept": {"x": 1}}
    value = {"new": []}
    ops = [
        {"op": "add", "path": "/a/b/-", "value": 2},
        {"op": "copy", "from": "/a", "path": "/c"},
        {"op": "add", "path": "/a/b/-", "value": 3},
        {"op": "add", "path": "/c/b/0", "value": 0},
        {"op": "add", "path": "/v", "value": value},
        {"op": "add", "path": "/v/new/-", "value": 1},
        {"op": "move", "from": "/v", "path": "/w"},
        {"op": "add", "path": "/w/new/-", "value": 2},
    ]
    expected = {"a": {"b": [1, 2, 3]}, "kept": {"x": 1}, "c": {"b": [0, 1, 2]}, "w": {"new": [1, 2]}}
    assert json_patch(obj, ops) == json_patch(obj, ops) == expected
    assert obj == {"a": {"b": [1]}, "kept": {"x": 1}}
    assert value == {"new": []}


def test_a_container_is_copied_once_however_many_operations_change_it() -> None:
    class Counting(dict):
        copies = 0

        def copy(self) -> dict:
            Counting.copies += 1
            return dict(self)

    obj = {"data": Counting(a="1")}
    json_patch(obj, [{"op": "add", "path": f"/data/k{n}", "value": "v"} for n in range(100)])
    assert Counting.copies == 1


def test_operations_cannot_nest_deeper_than_a_body_may() -> None:
    nested: dict = {}
    for _ in range(150):
        nested = {"a": nested}
    ops = [{"op": "add", "path": "/x", "value": nested}]
    assert json_patch({}, ops)["x"] == nested
    with pytest.raises(Invalid, match="nested deeper"):
        json_patch({}, [*ops, {"op": "copy", "from": "/x", "path": "/x" + "/a" * 150 + "/a"}])
