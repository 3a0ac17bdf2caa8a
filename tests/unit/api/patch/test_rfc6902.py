"""The cases of RFC 6902's appendix A, in a table of our own."""

from typing import Any

import pytest

from orchestrator.api.errors import BadRequest, Invalid
from orchestrator.api.patch import json_patch


def op(name: str, path: str, value: Any = None, **more: Any) -> dict[str, Any]:
    return {"op": name, "path": path, **({} if value is None else {"value": value}), **more}


CASES = {
    "adding a member": ({"a": 1}, [op("add", "/b", 2)], {"a": 1, "b": 2}),
    "adding an element": ({"l": ["x", "z"]}, [op("add", "/l/1", "y")], {"l": ["x", "y", "z"]}),
    "removing a member": ({"a": 1, "b": 2}, [op("remove", "/b")], {"a": 1}),
    "removing an element": ({"l": ["x", "y", "z"]}, [op("remove", "/l/1")], {"l": ["x", "z"]}),
    "replacing": ({"a": 1, "b": 2}, [op("replace", "/b", 3)], {"a": 1, "b": 3}),
    "moving a member": (
        {"a": {"b": 1, "c": 2}, "d": {"e": 3}},
        [op("move", "/d/f", **{"from": "/a/c"})],
        {"a": {"b": 1}, "d": {"e": 3, "f": 2}},
    ),
    "moving an element": (
        {"l": ["all", "grass", "cows", "eat"]},
        [op("move", "/l/3", **{"from": "/l/1"})],
        {"l": ["all", "cows", "eat", "grass"]},
    ),
    "testing": (
        {"a": "x", "l": ["y", 2, "z"]},
        [op("test", "/a", "x"), op("test", "/l/1", 2)],
        {"a": "x", "l": ["y", 2, "z"]},
    ),
    "adding an object": ({"a": 1}, [op("add", "/b", {"c": 2})], {"a": 1, "b": {"c": 2}}),
    "unknown members of an operation": ({"a": 1}, [op("add", "/b", 2, xyz=3)], {"a": 1, "b": 2}),
    "escapes": ({"/": 9, "~1": 10}, [op("test", "/~01", 10), op("replace", "/~1", 8)], {"/": 8, "~1": 10}),
    "appending a list": ({"l": ["x"]}, [op("add", "/l/-", ["y", "z"])], {"l": ["x", ["y", "z"]]}),
    "the whole document": ({"a": 1}, [op("replace", "", {"b": 2})], {"b": 2}),
    "an empty name": ({"": 1}, [op("replace", "/", 2)], {"": 2}),
    "copying": ({"a": {"b": 1}}, [op("copy", "/c", **{"from": "/a"})], {"a": {"b": 1}, "c": {"b": 1}}),
    "order": ({"l": [1]}, [op("add", "/l/0", 0), op("add", "/l/-", 2), op("remove", "/l/1")], {"l": [0, 2]}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_outcome(case):
    obj, ops, expected = CASES[case]
    assert json_patch(obj, ops) == expected


REFUSED = {
    "a test that fails": ({"a": "x"}, [op("test", "/a", "y")], Invalid),
    "text is no number": ({"a": 10}, [op("test", "/a", "10")], Invalid),
    "true is not one": ({"a": True}, [op("test", "/a", 1)], Invalid),
    "no place to add to": ({"a": 1}, [op("add", "/b/c", 2)], Invalid),
    "beyond the end": ({"l": [1]}, [op("add", "/l/5", 2)], Invalid),
    "nothing to replace": ({"a": 1}, [op("replace", "/b", 2)], Invalid),
    "nothing to remove": ({"a": 1}, [op("remove", "/b")], Invalid),
    "a leading zero": ({"l": [1, 2]}, [op("remove", "/l/01")], Invalid),
    "into itself": ({"a": {"b": 1}}, [op("move", "/a/b", **{"from": "/a"})], Invalid),
    "an operation that there is not": ({"a": 1}, [op("merge", "/a", 2)], BadRequest),
    "a path without a slash": ({"a": 1}, [op("replace", "a", 2)], BadRequest),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_changes_nothing(case):
    obj, ops, error = REFUSED[case]
    before = repr(obj)
    with pytest.raises(error):
        json_patch(obj, [op("add", "/first", 1), *ops])
    assert repr(obj) == before
