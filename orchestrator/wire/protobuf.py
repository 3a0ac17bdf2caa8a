"""Messages to JSON dictionaries and back, driven by field tables.

Decoding gives what Go would write as JSON for the same message; the marks in the tables (see `tables`) say
which zeros count as set. Unknown fields are skipped, as Kubernetes does. Depth is bounded, size is the
caller's matter. Encoding takes the fields that the table knows and leaves out what is absent or null.
Called by `kubernetes` and by the clients of other protocols.
"""

from typing import Any

from orchestrator.wire.raw import BYTES, VARINT, Value, WireError, bytes_field, fields, read_varint, varint
from orchestrator.wire.scalars import SCALARS
from orchestrator.wire.tables import Field, Message, Tables

DEPTH_MAX = 100

Json = dict[str, Any]


class Codec:
    """Decodes and encodes the messages of one set of tables. Stateless but for the tables' caches and the bound."""

    def __init__(self, tables: Tables, messages_max: int | None = None) -> None:
        """`messages_max` bounds what one codec may decode in all: for bytes that anybody sent."""
        self._tables = tables
        self._left = messages_max

    def decode(self, name: str, data: bytes | memoryview) -> Any:
        """The JSON of message `name`, such as `core_v1.Pod`. Raises `WireError` naming the field."""
        return self._decode(self._tables.message(name), memoryview(data), 0)

    def encode(self, name: str, value: Json) -> bytes:
        """The bytes of message `name`. Raises `WireError` naming the field of a value that does not fit."""
        return self._encode(self._tables.message(name), value, 0)

    def _decode(self, message: Message, data: memoryview, depth: int) -> Any:
        if depth > DEPTH_MAX:
            raise WireError(f"messages are nested deeper than {DEPTH_MAX}")
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise WireError("it has too many parts")
        out: Json = {}
        for number, wire_type, value in fields(data):
            field = message.by_number.get(number)
            if field is None:
                continue
            try:
                self._take(out, field, wire_type, value, depth)
            except WireError as error:
                raise WireError(f"{field.name}: {error}") from None
        return _chosen(message, out) if message.choice else out

    def _take(self, out: Json, field: Field, wire_type: int, value: Value, depth: int) -> None:
        """Put one field as read from the wire into `out`."""
        if field.is_map:
            key, part = self._entry(field, _bytes(wire_type, value), depth)
            out.setdefault(field.name, {})[key] = part
        elif field.repeated:
            out.setdefault(field.name, []).extend(self._elements(field, wire_type, value, depth))
        elif field.inline:
            out.update(self._single(field, wire_type, value, depth))
        else:
            part = self._single(field, wire_type, value, depth)
            if part is None or (not field.keeps_zero and _is_zero(field, part)):
                out.pop(field.name, None)
            else:
                out[field.name] = part

    def _single(self, field: Field, wire_type: int, value: Value, depth: int) -> Any:
        if field.message:
            return self._decode(self._tables.message(field.message), _bytes(wire_type, value), depth + 1)
        scalar = SCALARS[field.type]
        if wire_type != scalar.wire_type:
            raise WireError(f"wire type {wire_type} found where {scalar.wire_type} belongs")
        return scalar.decode(value)

    def _elements(self, field: Field, wire_type: int, value: Value, depth: int) -> list[Any]:
        """One element, or all of a packed list of numbers."""
        if self._left is not None:
            self._left -= 1
        scalar = SCALARS.get(field.type)
        if scalar is None or scalar.wire_type != VARINT or wire_type != BYTES:
            return [self._single(field, wire_type, value, depth)]
        data, position, found = _bytes(wire_type, value), 0, []
        while position < len(data):
            number, position = read_varint(data, position)
            found.append(scalar.decode(number))
        return found

    def _entry(self, field: Field, data: memoryview, depth: int) -> tuple[str, Any]:
        key, part = "", SCALARS[field.type].zero if not field.message else {}
        for number, wire_type, value in fields(data):
            if number == 1:
                key = SCALARS["string"].decode(_bytes(wire_type, value))
            elif number == 2:
                part = self._single(field, wire_type, value, depth)
        return key, part

    def _encode(self, message: Message, value: Any, depth: int) -> bytes:
        if depth > DEPTH_MAX:
            raise WireError(f"values are nested deeper than {DEPTH_MAX}")
        if message.choice:
            value = _choice(message, value)
        if not isinstance(value, dict):
            raise WireError(f"{type(value).__name__} found where an object belongs")
        out = [self._inlined(field, value, depth) for field in message.inlined]
        for name, part in value.items():
            field = message.by_name.get(name)
            if field is not None and part is not None:
                try:
                    out.append(self._put(field, part, depth))
                except WireError as error:
                    raise WireError(f"{name}: {error}") from None
        return b"".join(out)

    def _inlined(self, field: Field, value: Json, depth: int) -> bytes:
        part = self._encode(self._tables.message(field.message), value, depth + 1)
        return bytes_field(field.number, part) if part else b""

    def _put(self, field: Field, value: Any, depth: int) -> bytes:
        if field.is_map:
            if not isinstance(value, dict):
                raise WireError(f"{type(value).__name__} found where an object belongs")
            entries = [_key(key) + self._one(field, 2, part, depth) for key, part in value.items()]
            return b"".join(bytes_field(field.number, entry) for entry in entries)
        if field.repeated:
            if not isinstance(value, list):
                raise WireError(f"{type(value).__name__} found where a list belongs")
            return b"".join([self._one(field, field.number, part, depth) for part in value])
        return self._one(field, field.number, value, depth)

    def _one(self, field: Field, number: int, value: Any, depth: int) -> bytes:
        if field.message:
            return bytes_field(number, self._encode(self._tables.message(field.message), value, depth + 1))
        scalar = SCALARS[field.type]
        return varint(number << 3 | scalar.wire_type) + scalar.encode(value)


def _bytes(wire_type: int, value: Value) -> memoryview:
    if wire_type != BYTES or isinstance(value, int):
        raise WireError(f"wire type {wire_type} found where {BYTES} belongs")
    return value


def _key(key: str) -> bytes:
    return varint(1 << 3 | BYTES) + SCALARS["string"].encode(key)


def _is_zero(field: Field, value: Any) -> bool:
    """Whether a plain field's value is one that Go's JSON leaves out; messages are always written."""
    return not field.message and value == SCALARS[field.type].zero


def _chosen(message: Message, out: Json) -> Any:
    """The value of the one field that counts: the object if there is one, else the list or flag."""
    for field in message.by_number.values():
        if field.message and not field.repeated and field.name in out:
            return out[field.name]
    other = next(field for field in message.by_number.values() if field.repeated or not field.message)
    return out.get(other.name, [] if other.repeated else False)


def _choice(message: Message, value: Any) -> Json:
    """The field of a `choice` message that takes a value of this JSON type."""
    for field in message.by_number.values():
        takes = list if field.repeated else dict if field.message else bool
        if type(value) is takes:
            return {field.name: value}
    raise WireError(f"{type(value).__name__} fits no field of {message.name}")
