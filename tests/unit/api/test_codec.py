"""Bodies of every type, and bad input of every kind: plain JSON comes out, or a refusal that says why."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.codec import (
    APPLY_PATCH,
    DEPTH_MAX,
    JSON,
    JSON_PATCH,
    MERGE_PATCH,
    PROTOBUF,
    STRATEGIC_PATCH,
    YAML,
    decode_body,
    decode_patch,
    is_slow,
    media_type,
)
from orchestrator.api.errors import BadRequest, UnsupportedMediaType
from orchestrator.wire.kubernetes import encode_object

OBJECT = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "b"}}


def refusal(data: bytes, content_type: str = JSON) -> str:
    with pytest.raises(BadRequest) as caught:
        decode_body(data, content_type)
    return caught.value.message


def yaml(text: str) -> Any:
    return decode_body(text.encode(), YAML).object


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"a":"b"}}', JSON),
        (b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"a":"b"}}', ""),
        (b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"a":"b"}}', YAML),
        (b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  a: b\n", f"{YAML}; charset=utf-8"),
        (encode_object(OBJECT), PROTOBUF),
    ],
)
def test_an_object_is_read_in_every_form(data: bytes, content_type: str) -> None:
    assert decode_body(data, content_type).object == OBJECT


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "malformed JSON"),
        (b'{"a":1', "malformed JSON: input data was truncated"),
        (b'{"a":1} {"b":2}', "trailing characters"),
        (b'{"a":"\xff"}', "utf-8"),
        (b'{"a":NaN}', "malformed JSON"),
        (b'{"a":Infinity}', "malformed JSON"),
        (b'{"a":1e999}', "out of range"),
        (b'{"a":9223372036854775808}', "9223372036854775808 does not fit 64 bits"),
        (b'{"a":' + b"1" * 5000 + b"}", "64 bits|out of range"),
        (b"[]", "must be an object, not a list"),
        (b"null", "must be an object, not null"),
        (b'"text"', "must be an object, not text"),
        (b'{"a":' * 100_000, "nested deeper"),
        (b'{"a":' * (DEPTH_MAX + 1) + b"1" + b"}" * (DEPTH_MAX + 1), "nested deeper"),
        (b'{"a":' + b"[" * DEPTH_MAX + b"]" * DEPTH_MAX + b"}", "nested deeper"),
    ],
)
def test_bad_json_is_refused(data: bytes, why: str) -> None:

    assert re.search(why, refusal(data))


def test_numbers_at_the_edge_of_64_bits_are_fine() -> None:
    assert decode_body(b'{"a":9223372036854775807,"b":-9223372036854775808,"c":1e3}', JSON).object == {
        "a": 2**63 - 1,
        "b": -(2**63),
        "c": 1000.0,
    }


def test_depth_up_to_the_bound_is_fine() -> None:
    body = b'{"a":' * DEPTH_MAX + b"1" + b"}" * DEPTH_MAX
    assert decode_body(body, JSON).object["a"]


@pytest.mark.parametrize(
    ("body", "duplicates"),
    [
        (b'{"a":"x\\":","b":"\\" :"}', ()),
        (b'{"a" :1, "a"\n:2}', ("a",)),
        (b'{"b":[{"c":{"d":1,"d":2}}],"e":"\\":"}', ("b[0].c.d",)),
        (b'{"a":1,"\\u0061":2}', ("a",)),
    ],
)
def test_duplicates_are_told_from_texts_that_look_like_names(
    body: bytes, duplicates: tuple[str, ...]
) -> None:
    assert decode_body(body, JSON, find_duplicates=True).duplicates == duplicates


def test_duplicate_fields_are_found_with_their_path() -> None:
    body = b'{"a":1,"a":2,"b":[{"c":1},{"c":1,"c":2,"c":3}],"d":{"d":1}}'
    assert decode_body(body, JSON, find_duplicates=True).duplicates == ("a", "b[1].c")
    assert decode_body(body, JSON).duplicates == ()
    assert decode_body(b"a: 1\na: 2\nb:\n- c: 1\n  c: 2\n", YAML).duplicates == ("a", "b[0].c")


def test_an_unknown_content_type_names_those_that_are_known() -> None:
    for body_type in ("text/plain", "application/cbor", MERGE_PATCH):
        with pytest.raises(UnsupportedMediaType, match="application/json, application/yaml"):
            decode_body(b"{}", body_type)
    with pytest.raises(UnsupportedMediaType, match=r"application/merge-patch\+json"):
        decode_patch(b"{}", JSON)
    assert media_type("Application/JSON;charset=UTF-8") == JSON


def test_patches_have_the_shape_of_their_type() -> None:
    assert decode_patch(b'[{"op":"remove","path":"/a"}]', JSON_PATCH).object == [
        {"op": "remove", "path": "/a"}
    ]
    assert decode_patch(b'{"a":null}', STRATEGIC_PATCH).object == {"a": None}
    assert decode_patch(b"a: 1\n", APPLY_PATCH).object == {"a": 1}
    with pytest.raises(BadRequest, match="must be a list of operations, not an object"):
        decode_patch(b"{}", JSON_PATCH)
    with pytest.raises(BadRequest, match="must be an object, not a list"):
        decode_patch(b"[]", MERGE_PATCH)


def test_yaml_scalars_are_read_as_kubernetes_reads_them() -> None:
    text = """
    plain: text
    yes_: yes
    off_: Off
    octal: 0777
    octal2: 0o17
    hex: 0x1F
    under: 1_000
    float: 1.5
    whole: 1e3
    none:
    tilde: ~
    date: 2001-01-01
    clock: 22:22
    version: 1.2.3
    dash: -x
    quoted: "1"
    single: 'yes'
    tagged: !!str 5
    block: |
      a
      b
    8080: port
    true: key
    """
    assert yaml("\n".join(line[4:] for line in text.split("\n"))) == {
        "plain": "text",
        "yes_": True,
        "off_": False,
        "octal": 511,
        "octal2": 15,
        "hex": 31,
        "under": 1000,
        "float": 1.5,
        "whole": 1000,
        "none": None,
        "tilde": None,
        "date": "2001-01-01",
        "clock": "22:22",
        "version": "1.2.3",
        "dash": "-x",
        "quoted": "1",
        "single": "yes",
        "tagged": "5",
        "block": "a\nb\n",
        "8080": "port",
        "true": "key",
    }


def test_yaml_aliases_share_nothing_and_merges_keep_own_keys() -> None:
    value = yaml("base: &b {x: 1, z: [2]}\nother: *b\nmerged:\n  <<: *b\n  x: 3\nmany:\n  <<: [{x: 5}, *b]\n")
    assert value == {
        "base": {"x": 1, "z": [2]},
        "other": {"x": 1, "z": [2]},
        "merged": {"x": 3, "z": [2]},
        "many": {"x": 5, "z": [2]},
    }
    assert value["base"] is not value["other"]
    assert value["base"]["z"] is not value["other"]["z"]


def test_only_the_first_yaml_document_counts() -> None:
    assert yaml("a: 1\n---\nb: 2\n") == {"a": 1}


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(i)}: &{chr(i)} [{','.join([f'*{chr(i - 1)}'] * 10)}]\n" for i in range(98, 107)
)
DEEP_ALIASES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{x: *a{i - 1}}}\n" for i in range(1, DEPTH_MAX + 5)
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BOMB, "more than 200000 values once aliases are expanded"),
        (DEEP_ALIASES, "too deeply"),
        ("a: &a [*a]", "unknown or contains itself"),
        ("a: *b", "alias"),
        ("[" * 100_000, "nested deeper"),
        ("a: [1,", "malformed YAML"),
        ("a: b: c", "malformed YAML"),
        ("a: !!python/object:os.system x", "tag"),
        ("a: !!int x", "is no int"),
        ("? [a]\n: b", "key is not plain text"),
        ("~: b", "a key is null"),
        ("a: .nan", "no JSON form"),
        ("a: -.inf", "no JSON form"),
        ("a: 99999999999999999999", "64 bits"),
        ("<<: 1", "can be merged"),
        ("- 1", "not a list"),
        ("", "not null"),
    ],
)
def test_bad_yaml_is_refused(text: str, why: str) -> None:
    assert why in refusal(text.encode(), YAML)


def test_bad_bytes_are_refused() -> None:
    assert "not UTF-8" in refusal(b"a: \xff", YAML)
    assert "malformed protobuf" in refusal(b"k8s\x00\xff\xff", PROTOBUF)
    assert "malformed protobuf" in refusal(b"{}", PROTOBUF)


def test_long_bodies_are_given_to_a_thread() -> None:
    yaml("a: 1")
    assert not is_slow(b"x" * 1000, YAML)
    assert is_slow(b"x" * 10_000, YAML)
    assert is_slow(b"a: &a [1]\nb: *a", YAML)  # few bytes, but aliases can multiply them
    assert not is_slow(b"x" * 10_000, JSON)
    assert is_slow(b"x" * 1_000_000, MERGE_PATCH)


@settings(deadline=None)
@given(st.binary(max_size=60), st.sampled_from([JSON, YAML, PROTOBUF]))
def test_garbage_is_an_object_or_a_bad_request(data: bytes, content_type: str) -> None:
    try:
        assert isinstance(decode_body(data, content_type, find_duplicates=True).object, dict)
    except BadRequest as error:
        assert error.message


@settings(deadline=None)
@given(st.text("{}[]:,-&*!|>'\"#%@?~ \nab1.<", max_size=40))
def test_yaml_like_text_is_an_object_or_a_bad_request(text: str) -> None:
    try:
        assert isinstance(decode_body(text.encode(), YAML).object, dict)
    except BadRequest as error:
        assert error.message
