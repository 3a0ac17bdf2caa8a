"""The leaf types of field tables: from a wire value to its JSON form and back.

Numbers and text are fields by themselves; the others are small messages whose JSON is no object: timestamps,
quantities, int-or-string, embedded JSON. Called by `protobuf`.
"""

import base64
import binascii
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from orchestrator.wire.raw import (
    BYTES,
    FIXED64,
    VARINT,
    Value,
    WireError,
    bytes_field,
    fields,
    number_field,
    signed,
    varint,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A leaf type. `decode` answers None for "not set"; `encode` gives what stands behind the tag."""

    wire_type: int
    decode: Callable[[Any], Any]
    encode: Callable[[Any], bytes]
    zero: Any
    """What an absent value means, as in a map's entry."""


def _text(value: memoryview) -> str:
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError as error:
        raise WireError(f"text is not UTF-8: {error.reason} at byte {error.start}") from None


def _want(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise WireError(f"{type(value).__name__} found where {names} belongs")
    return value


def _sized(data: bytes) -> bytes:
    return varint(len(data)) + data


def _encode_text(value: Any) -> bytes:
    try:
        return _sized(_want(value, str).encode())
    except UnicodeEncodeError as error:
        raise WireError(f"text has no UTF-8 form: {error.reason}") from None


def _encode_base64(value: Any) -> bytes:
    try:
        return _sized(binascii.a2b_base64(_want(value, str), strict_mode=True))
    except ValueError as error:
        raise WireError(f"bytes are not base64: {error}") from None


def _integer(bits: int, is_signed: bool = True) -> Scalar:
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if is_signed else (0, 1 << bits)

    def decode(value: int) -> int:
        return signed(value, bits) if is_signed else value & (high - 1)

    def encode(value: Any) -> bytes:
        if not low <= _want(value, int) < high:
            raise WireError(f"{value} does not fit {bits} bits")
        return varint(value)

    return Scalar(VARINT, decode, encode, 0)


def _decode_double(value: memoryview) -> float:
    return float(struct.unpack("<d", value)[0])


def _encode_double(value: Any) -> bytes:
    try:
        return struct.pack("<d", _want(value, float, int))
    except OverflowError:
        raise WireError(f"{value} is no double") from None


def parts(data: memoryview, **wanted: int) -> dict[str, Value]:
    """The last value of each wanted field of a small message: `parts(data, seconds=1)`."""
    names = {number: name for name, number in wanted.items()}
    return {names[number]: value for number, _, value in fields(data) if number in names}


def _number(found: dict[str, Value], name: str, bits: int) -> int:
    value = found.get(name, 0)
    if not isinstance(value, int):
        raise WireError(f"{name} is not a number")
    return signed(value, bits)


def _view(found: dict[str, Value], name: str) -> memoryview:
    value = found.get(name, memoryview(b""))
    if isinstance(value, int):
        raise WireError(f"{name} is a number where bytes belong")
    return value


def _instant(data: memoryview) -> datetime | None:
    """None for an empty message, which is how Go writes its zero time."""
    if not len(data):
        return None
    found = parts(data, seconds=1, nanos=2)
    try:
        return _EPOCH + timedelta(
            seconds=_number(found, "seconds", 64), microseconds=_number(found, "nanos", 32) // 1000
        )
    except OverflowError:
        raise WireError("a time is out of range") from None


def _decode_time(data: memoryview) -> str | None:
    instant = _instant(data)
    return instant.isoformat(timespec="seconds").replace("+00:00", "Z") if instant else None


def _decode_micro_time(data: memoryview) -> str | None:
    instant = _instant(data)
    return instant.isoformat(timespec="microseconds").replace("+00:00", "Z") if instant else None


def _encode_time(value: Any) -> bytes:
    try:
        since = datetime.fromisoformat(_want(value, str)).astimezone(UTC) - _EPOCH
    except (ValueError, OverflowError):
        raise WireError(f"{value!r} is no time") from None
    whole = since.days * 86400 + since.seconds
    return _sized(number_field(1, whole) + number_field(2, since.microseconds * 1000))


def _decode_quantity(data: memoryview) -> str:
    return _text(_view(parts(data, text=1), "text")) or "0"


def _encode_quantity(value: Any) -> bytes:
    text = _want(value, str, int, float)
    return _sized(bytes_field(1, (text if isinstance(text, str) else str(Decimal(repr(text)))).encode()))


def _decode_int_or_string(data: memoryview) -> int | str:
    found = parts(data, type=1, number=2, text=3)
    return _text(_view(found, "text")) if found.get("type", 0) == 1 else _number(found, "number", 32)


def _encode_int_or_string(value: Any) -> bytes:
    if isinstance(value, str):
        return _sized(number_field(1, 1) + number_field(2, 0) + bytes_field(3, value.encode()))
    return _sized(number_field(1, 0) + number_field(2, _want(value, int)) + bytes_field(3, b""))


def _decode_json(data: memoryview) -> Any:
    raw = _view(parts(data, raw=1), "raw")
    if not len(raw):
        return None
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise WireError(f"embedded JSON is malformed: {error}") from None


def _encode_json(value: Any) -> bytes:
    return _sized(bytes_field(1, msgspec.json.encode(value)))


def _decode_strings(data: memoryview) -> list[str]:
    found = []
    for number, wire_type, value in fields(data):
        if number == 1:
            if wire_type != BYTES or isinstance(value, int):
                raise WireError("a list of strings holds a number")
            found.append(_text(value))
    return found


def _encode_strings(value: Any) -> bytes:
    return _sized(b"".join(bytes_field(1, _want(text, str).encode()) for text in _want(value, list)))


def _decode_duration(data: memoryview) -> str:
    """Go's form of a duration, such as `1h0m0s` or `1.5s`."""
    nanos = _number(parts(data, duration=1), "duration", 64)
    sign, nanos = ("-", -nanos) if nanos < 0 else ("", nanos)
    for unit, size in (("ns", 1), ("µs", 1000), ("ms", 1_000_000)):
        if 0 < nanos < min(size * 1000, 1_000_000_000):
            return f"{sign}{_trim(Decimal(nanos) / size)}{unit}"
    seconds = Decimal(nanos) / 1_000_000_000
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    text = f"{_trim(rest)}s"
    if minutes or hours:
        text = f"{int(minutes)}m{text}"
    return sign + (f"{int(hours)}h{text}" if hours else text)


def _trim(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


_UNITS_NS = {"ns": 1, "us": 1000, "µs": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def _encode_duration(value: Any) -> bytes:
    text = _want(value, str)
    total, digits, unit = Decimal(0), "", ""
    for char in text.lstrip("+-") + "0":
        if char in "0123456789.":
            if unit:
                if unit not in _UNITS_NS or not digits.strip("."):
                    raise WireError(f"{text!r} is no duration")
                total, digits, unit = total + Decimal(digits) * _UNITS_NS[unit], "", ""
            digits += char
        else:
            unit += char
    return _sized(number_field(1, int(-total if text.startswith("-") else total)))


SCALARS: dict[str, Scalar] = {
    "string": Scalar(BYTES, _text, _encode_text, ""),
    "bytes": Scalar(BYTES, lambda value: base64.b64encode(value).decode(), _encode_base64, ""),
    "raw": Scalar(BYTES, bytes, _sized, b""),
    "bool": Scalar(VARINT, bool, lambda value: varint(int(_want(value, bool))), False),
    "int32": _integer(32),
    "int64": _integer(64),
    "uint32": _integer(32, False),
    "uint64": _integer(64, False),
    "double": Scalar(FIXED64, _decode_double, _encode_double, 0.0),
    "time": Scalar(BYTES, _decode_time, _encode_time, None),
    "microtime": Scalar(BYTES, _decode_micro_time, _encode_time, None),
    "quantity": Scalar(BYTES, _decode_quantity, _encode_quantity, "0"),
    "intorstring": Scalar(BYTES, _decode_int_or_string, _encode_int_or_string, 0),
    "json": Scalar(BYTES, _decode_json, _encode_json, None),
    "strings": Scalar(BYTES, _decode_strings, _encode_strings, []),
    "duration": Scalar(BYTES, _decode_duration, _encode_duration, "0s"),
}
