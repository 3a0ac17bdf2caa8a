"""JSONPaths of printer columns, and the cells that come of them."""

from typing import Any

import pytest

from orchestrator.api.custom.jsonpath import PathError, compile_path, simple_parts
from orchestrator.api.printing.custom import printer
from orchestrator.api.resources import CustomColumn

OBJ: dict[str, Any] = {
    "metadata": {"name": "a", "creationTimestamp": "1970-01-01T00:00:00Z", "annotations": {"x.y/z": "v"}},
    "spec": {
        "n": 3,
        "ok": True,
        "f": 1.5,
        "l": [{"a": "1"}, {"a": "2", "b": "deep"}],
        "when": "1970-01-01T00:00:40Z",
    },
    "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.n", [3]), (".spec.absent.more", []), (".spec.l[0].a", ["1"]), (".spec.l[-1].a", ["2"]),
        (".spec.l[*].a", ["1", "2"]), (".spec.l[0:1].a", ["1"]), (".spec.l[5]", []), ("..b", ["deep"]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type=='Nope')].status", []), (".spec.l[?(@.b)].a", ["2"]),
        (r".metadata.annotations.x\.y/z", ["v"]), (".metadata.annotations['x.y/z']", ["v"]),
        ("{.spec.n}", [3]), (".spec['n','ok']", [3, True]), (".spec.l[?(@.a > 1)].a", []),
    ],
)  # fmt: skip
def test_paths(path: str, found: list[Any]) -> None:
    assert compile_path(path)(OBJ) == found


@pytest.mark.parametrize("path", [".spec[", ".spec[x]", ".a..", ".l[?(@.a == b)]", ".a b", "." * 2000])
def test_bad_paths(path: str) -> None:
    with pytest.raises(PathError):
        compile_path(path)


def test_simple_paths() -> None:
    assert simple_parts(".spec.replicas") == ("spec", "replicas")
    assert simple_parts(".spec[0]") is None and simple_parts("spec") is None


def test_cells_by_type_and_age_where_nothing_is_said() -> None:
    columns = [("string", ".spec.n"), ("string", ".spec.ok"), ("integer", ".spec.f"), ("number", ".spec.f"),
               ("boolean", ".spec.ok"), ("date", ".spec.when"), ("string", ".spec.l[0]"), ("integer", ".spec.ok"),
               ("string", ".spec.absent")]  # fmt: skip
    made = printer(tuple(CustomColumn(str(at), kind, path) for at, (kind, path) in enumerate(columns)))
    assert made.cells(OBJ, 100.0) == ["a", "3", "true", 1, 1.5, True, "60s", '{"a":"1"}', None, None]
    plain = printer(())
    assert [column.name for column in plain.columns] == ["Name", "Age"] and plain.cells(OBJ, 100.0) == [
        "a",
        "100s",
    ]
