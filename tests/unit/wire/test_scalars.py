"""Leaf types: the JSON form of small messages, as Go writes it."""

from typing import Any

import pytest

from orchestrator.wire.raw import BYTES, WireError, fields, varint
from orchestrator.wire.scalars import SCALARS


def through(word: str, value: Any) -> Any:
    """`value` encoded, and decoded again from what stands behind the tag."""
    scalar = SCALARS[word]
    data = memoryview(varint(1 << 3 | scalar.wire_type) + scalar.encode(value))
    ((_, _, found),) = fields(data)
    return scalar.decode(found)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("string", "grüße"),
        ("bytes", "AAH/"),
        ("bool", True),
        ("int32", -1),
        ("int64", -(2**63)),
        ("uint64", 2**64 - 1),
        ("double", 0.1),
        ("time", "2026-02-03T04:05:06Z"),
        ("time", "1950-02-03T04:05:06Z"),
        ("microtime", "2026-02-03T04:05:06.000007Z"),
        ("quantity", "100m"),
        ("intorstring", 80),
        ("intorstring", "http"),
        ("intorstring", ""),
        ("json", {"a": [1, None, "x"]}),
        ("strings", ["get", "list"]),
        ("duration", "1h0m0s"),
        ("duration", "-1m1.5s"),
        ("duration", "250ms"),
        ("duration", "0s"),
    ],
)
def test_a_value_survives(word: str, value: Any) -> None:
    assert through(word, value) == value


@pytest.mark.parametrize("word", ["time", "microtime", "json"])
def test_an_empty_message_is_not_set(word: str) -> None:
    assert SCALARS[word].decode(memoryview(b"")) is None


def test_an_epoch_is_a_time_though_its_numbers_are_zero() -> None:
    assert SCALARS["time"].decode(memoryview(b"\x08\x00\x10\x00")) == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("word", "data"),
    [
        ("string", b"\xff"),
        ("json", b"\x0a\x02{]"),
        ("json", b"\x08\x01"),
        ("time", b"\x0a\x01x"),
        ("time", b"\x08" + b"\xff" * 8 + b"\x7f"),
        ("strings", b"\x08\x01"),
        ("quantity", b"\x08\x01"),
        ("intorstring", b"\x08\x01\x1a\x01\xff"),
    ],
)
def test_malformed_values_are_refused(word: str, data: bytes) -> None:
    assert SCALARS[word].wire_type == BYTES
    with pytest.raises(WireError):
        SCALARS[word].decode(memoryview(data))


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("string", 1),
        ("string", "\ud800"),
        ("bytes", "!"),
        ("bool", 1),
        ("int32", 2**31),
        ("int64", "1"),
        ("time", "yesterday"),
        ("duration", "1 fortnight"),
        ("strings", "get"),
        ("intorstring", 1.5),
    ],
)
def test_values_that_do_not_fit_are_refused(word: str, value: Any) -> None:
    with pytest.raises(WireError):
        SCALARS[word].encode(value)
