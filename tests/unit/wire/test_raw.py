"""The wire format: every number survives, and nothing outside the given bytes is read."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.wire.raw import (
    BYTES,
    FIXED64,
    VARINT,
    WireError,
    bytes_field,
    fields,
    number_field,
    read_varint,
    signed,
    varint,
)


@settings(deadline=None)
@given(st.integers(-(2**63), 2**63 - 1))
def test_a_number_survives(value: int) -> None:
    encoded = varint(value)
    read, position = read_varint(memoryview(encoded), 0)
    assert (signed(read, 64), position) == (value, len(encoded))


def test_known_encodings() -> None:
    assert varint(300) == b"\xac\x02"
    assert varint(-1) == b"\xff" * 9 + b"\x01"
    assert bytes_field(2, b"testing") == b"\x12\x07testing"
    assert number_field(1, 150) == b"\x08\x96\x01"


def test_fields_come_in_order_with_their_wire_types() -> None:
    data = (
        number_field(1, 7)
        + bytes_field(2, b"ab")
        + varint(3 << 3 | FIXED64)
        + b"12345678"
        + number_field(1, 8)
    )
    found = [
        (number, wire, value if isinstance(value, int) else bytes(value))
        for number, wire, value in fields(memoryview(data))
    ]
    assert found == [(1, VARINT, 7), (2, BYTES, b"ab"), (3, FIXED64, b"12345678"), (1, VARINT, 8)]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x08", "cut off"),
        (b"\x12\x05ab", "cut off: 5 bytes wanted, 2 left"),
        (b"\x19\x01\x02", "cut off"),
        (b"\x08" + b"\xff" * 10, "exceeds 64 bits"),
        (b"\x08" + b"\xff" * 9 + b"\x7f", "exceeds 64 bits"),
        (b"\x00\x00", "field number 0"),
        (b"\x0b", "wire type 3"),
        (b"\x0f", "wire type 7"),
    ],
)
def test_malformed_bytes_are_named(data: bytes, why: str) -> None:
    with pytest.raises(WireError, match=why):
        list(fields(memoryview(data)))
