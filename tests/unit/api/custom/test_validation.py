"""Custom objects against structural schemas: Kubernetes' messages, ratcheting, and patterns that can't be abused."""

from typing import Any

import pytest

from orchestrator.api.custom import validation
from orchestrator.api.custom.formats import accepts_of, unrecognized
from orchestrator.api.custom.regex import PatternError, search_of
from orchestrator.api.custom.schema import weight_of
from orchestrator.api.custom.validation import Validator
from orchestrator.api.errors import RequestEntityTooLarge

Json = dict[str, Any]


def _schema(**spec: Any) -> Json:
    return {"type": "object", "properties": {"spec": {"type": "object", **spec}}}


def _faults(schema: Json, spec: Any, old: Any = None) -> list[str]:
    validator = Validator(schema)
    before = {"before": {"spec": old}} if old is not None else {}
    causes = validator.check({"spec": spec}, before["before"]) if before else validator.check({"spec": spec})
    return [f"{cause.field}: {cause.message}" for cause in causes]


def _field(**field: Any) -> Json:
    return _schema(properties={"x": field})


_IN_BODY = "spec.x: Invalid value: {}: spec.x in body "


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ({"type": "integer"}, "a", _IN_BODY.format('"string"') + 'must be of type integer: "string"'),
        ({"type": "integer"}, 1.5, _IN_BODY.format('"number"') + 'must be of type integer: "number"'),
        ({"type": "string"}, None, _IN_BODY.format('"null"') + 'must be of type string: "null"'),
        ({"type": "boolean"}, {}, _IN_BODY.format('"object"') + 'must be of type boolean: "object"'),
        ({"x-kubernetes-int-or-string": True}, True,
         _IN_BODY.format('"boolean"') + 'must be of type integer,string: "boolean"'),
        ({"type": "integer", "maximum": 3}, 4, _IN_BODY.format(4) + "should be less than or equal to 3"),
        ({"type": "number", "minimum": 1, "exclusiveMinimum": True}, 1,
         _IN_BODY.format(1) + "should be greater than 1"),
        ({"type": "integer", "multipleOf": 5}, 7, _IN_BODY.format(7) + "should be a multiple of 5"),
        ({"type": "integer", "format": "int32"}, 2**31,
         '<nil>: Invalid value: "": Checked value must be of type integer with format int32'),
        ({"type": "string", "maxLength": 2}, "abc", "spec.x: Too long: may not be more than 2 bytes"),
        ({"type": "string", "minLength": 1}, "", _IN_BODY.format('""') + "should be at least 1 chars long"),
        ({"type": "string", "pattern": "^a+$"}, "b", _IN_BODY.format('"b"') + "should match '^a+$'"),
        ({"type": "string", "format": "ipv4"}, "x", _IN_BODY.format('"x"') + 'must be of type ipv4: "x"'),
        ({"type": "string", "enum": ["a", "b"]}, "c",
         'spec.x: Unsupported value: "c": supported values: "a", "b"'),
        ({"enum": [1, 2]}, 3, 'spec.x: Unsupported value: 3: supported values: "1", "2"'),
        ({"type": "array", "maxItems": 1}, [1, 2], "spec.x: Too many: 2: must have at most 1 items"),
        ({"type": "array", "minItems": 1}, [], _IN_BODY.format(0) + "should have at least 1 items"),
        ({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}, ["a", "a"],
         'spec.x[1]: Duplicate value: "a"'),
        ({"type": "object", "required": ["y"]}, {}, "spec.x.y: Required value"),
        ({"type": "object", "maxProperties": 1}, {"a": 1, "b": 2},
         "spec.x: Too many: 2: must have at most 1 items"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {"k": "v"},
         'spec.x.k: Invalid value: "string": spec.x.k in body must be of type integer: "string"'),
        ({"type": "array", "items": {"type": "object", "properties": {"n": {"type": "string"}}}}, [{}, {"n": 1}],
         'spec.x[1].n: Invalid value: "integer": spec.x[1].n in body must be of type string: "integer"'),
        ({"type": "object", "not": {"required": ["y"]}}, {"y": 1},
         '<nil>: Invalid value: "": "spec.x" must not validate the schema (not)'),
    ],
)  # fmt: skip
def test_one_fault_each(field: Json, value: Any, message: str) -> None:
    assert _faults(_field(**field), {"x": value}) == [message]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ({"type": "integer"}, 3.0),
        ({"type": "number"}, 3),
        ({"type": "string", "nullable": True}, None),
        ({"type": "string", "maxLength": 2}, "éé"),
        ({"type": "string", "format": "of-our-own"}, "anything"),
        ({"type": "object", "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"b": 1}),
        ({"x-kubernetes-preserve-unknown-fields": True}, [1, {"a": None}]),
        ({"enum": [True]}, True),
    ],
)
def test_nothing_wrong(field: Json, value: Any) -> None:
    assert _faults(_field(**field), {"x": value}) == []


def test_one_of_says_how_many_and_why() -> None:
    field = {"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}
    text = '<nil>: Invalid value: "": "spec.x" must validate one and only one schema (oneOf). '
    assert _faults(_field(**field), {"x": {}}) == [text + "Found none valid", "spec.x.a: Required value"]
    assert _faults(_field(**field), {"x": {"a": 1, "b": 1}}) == [text + "Found 2 valid alternatives"]


def test_what_an_update_leaves_alone_is_accepted() -> None:
    keyed = {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {
        "type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "minimum": 5}}}}  # fmt: skip
    schema = _schema(properties={"a": {"type": "integer", "minimum": 5}, "l": keyed, "n": {"type": "string"}})
    old = {"a": 1, "l": [{"k": "x", "v": 1}, {"k": "y", "v": 9}]}
    assert _faults(schema, {**old, "n": "new"}, old) == []
    moved = {"a": 1, "l": [{"k": "z", "v": 9}, {"k": "x", "v": 1}]}
    assert _faults(schema, moved, old) == []
    assert len(_faults(schema, {"a": 2, "l": [{"k": "x", "v": 2}]}, old)) == 2


def test_a_backtracking_bomb_is_answered() -> None:
    """A backtracking engine would not come back from these."""
    assert _faults(_field(type="string", pattern="^(a+)+$"), {"x": "a" * 50_000 + "!"})
    assert accepts_of("hostname")("a" * 4000 + "!") in (None, False)  # type: ignore[misc]
    for pattern in ("(?=a)", "(", "((a{1,100}){1,100}){1,100}"):
        with pytest.raises(PatternError, match="error parsing regexp"):
            search_of(pattern)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date-time", "2026-11-22T10:00:00Z", "2026-13-22T10:00:00Z"), ("date", "2026-11-22", "22.11.2026"),
        ("duration", "1h30m", "soon"), ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123"),
        ("ipv6", "::1", "127.0.0.1"), ("cidr", "10.0.0.0/8", "10.0.0.0"), ("byte", "YQ==", "?"),
        ("email", "a@b.c", "a"), ("uri", "https://a.b/c", "a b"), ("mac", "01:23:45:67:89:ab", "01:23"),
        ("hostname", "a.b-c.d", "-a"), ("quantity", "10Gi", "10 apples"), ("k8s-short-name", "a-b", "A"),
        ("isbn", "978-0321751041", "978-0321751042"), ("hexcolor", "#FFF", "#FF"), ("rgbcolor", "rgb(1,2,3)", "rgb(1)"),
    ],
)  # fmt: skip
def test_formats(name: str, good: str, bad: str) -> None:
    accepts = accepts_of(name)
    assert accepts is not None and accepts(good) and not accepts(bad)
    assert not unrecognized("string", name) and unrecognized("string", "of-our-own")


def test_alternatives_are_not_compared_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [{"required": [f"a{i}"]} for i in range(30)]
    schema = {"type": "array", "items": {"type": "object", "anyOf": many}}
    monkeypatch.setattr(validation, "ALTERNATIVES_MAX", 100)
    Validator(schema).check([{"a0": 1}] * 90)  # the first one that holds is enough
    with pytest.raises(RequestEntityTooLarge, match="takes too long to validate"):
        Validator(schema).check([{}] * 4)


def test_the_weight_of_a_schema_follows_from_its_alternatives() -> None:
    assert weight_of({"type": "object", "properties": {"a": {"type": "string"}}}) == 1
    assert weight_of({"anyOf": [{"type": "integer"}, {"type": "string"}]}) == 2
    nested = {"oneOf": [{"anyOf": [{}] * 10}] * 10}
    assert weight_of({"items": nested}) == weight_of(nested) == 100


@pytest.mark.parametrize(
    ("value", "faults"),
    [
        ({"apiVersion": "apps/v1", "kind": "Deployment"}, []),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"a/b": "c"}}}, []),
        ({}, ["spec.x.apiVersion: Required value", "spec.x.kind: Required value"]),
        ({"apiVersion": "", "kind": 1}, [
            'spec.x.apiVersion: Invalid value: "": must not be empty',
            "spec.x.kind: Invalid value: 1: must be a string"]),
        ({"apiVersion": "a/b/c", "kind": "Pod"}, [
            'spec.x.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c']),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a/b"}}, [
            "spec.x.metadata.name: Invalid value: \"a/b\": may not contain '/'"]),
    ],
)  # fmt: skip
def test_embedded_objects_say_what_they_are(value: Json, faults: list[str]) -> None:
    embedded = {"x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}
    assert _faults(_field(type="object", **embedded), {"x": value}) == faults


def test_an_embedded_object_that_is_wrong_since_before_stays() -> None:
    embedded = {"x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}
    assert _faults(_field(type="object", **embedded), {"x": {"a": 1}}, old={"x": {"a": 1}}) == []
