"""Protocol Buffers' wire format itself: varints, tags and length-delimited fields. Knows no message.

Readers raise `WireError` for anything truncated or impossible and never read outside the given bytes. Called by
`protobuf` and by whoever needs one field of a message without a table.
"""

from collections.abc import Iterator

from orchestrator.base.errors import OrchestratorError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Value = int | memoryview
"""An int for VARINT (unsigned, 64 bits), a view of the bytes for the other wire types."""

_FIXED = {FIXED64: 8, FIXED32: 4}


class WireError(OrchestratorError):
    """Bytes that are no such message, or a value that can't be put into one. Says where."""


def fields(data: memoryview) -> Iterator[tuple[int, int, Value]]:
    """Every field in order: its number, wire type and value. Groups do not occur in what we speak."""
    position, end = 0, len(data)
    while position < end:
        tag, position = read_varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise WireError(f"field number {number} is out of range")
        if wire_type == VARINT:
            value, position = read_varint(data, position)
            yield number, wire_type, value
            continue
        if wire_type == BYTES:
            length, position = read_varint(data, position)
        elif wire_type in _FIXED:
            length = _FIXED[wire_type]
        else:
            raise WireError(f"field {number} has wire type {wire_type}, which is not in use")
        if length > end - position:
            raise WireError(f"field {number} is cut off: {length} bytes wanted, {end - position} left")
        yield number, wire_type, data[position : position + length]
        position += length


def read_varint(data: memoryview, position: int) -> tuple[int, int]:
    """An unsigned 64-bit number at `position`, and the position behind it."""
    result = shift = 0
    while True:
        if position >= len(data):
            raise WireError("a number is cut off")
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            if result >= 1 << 64:
                raise WireError("a number exceeds 64 bits")
            return result, position
        shift += 7
        if shift > 63:
            raise WireError("a number exceeds 64 bits")


def varint(value: int) -> bytes:
    """The encoding of a number; a negative one as its 64-bit two's complement, as `int32` and `int64` do."""
    if 0 <= value < 128:
        return _SHORT[value]
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SHORT = [bytes((value,)) for value in range(128)]


def number_field(number: int, value: int) -> bytes:
    """A whole VARINT field."""
    return varint(number << 3 | VARINT) + varint(value)


def bytes_field(number: int, value: bytes) -> bytes:
    """A whole length-delimited field: bytes, UTF-8 text or an encoded message."""
    return varint(number << 3 | BYTES) + varint(len(value)) + value


def signed(value: int, bits: int) -> int:
    """`value` cut to `bits` and read as two's complement."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value
