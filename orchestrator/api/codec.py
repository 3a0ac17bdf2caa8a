"""Request bodies to JSON values: JSON, YAML and protobuf, and the bodies of patches.

Whatever comes in, what goes out is plain JSON that can be stored: dictionaries with text keys, integers of 64
bits, finite numbers, no deeper than `DEPTH_MAX`. Anything else is a `BadRequest` that says what and where, or
`UnsupportedMediaType`. Size is bounded by whoever reads the body. Called by the server's handlers.
"""

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from orchestrator.api.codec_yaml import YamlError, decode_yaml
from orchestrator.api.errors import BadRequest, RequestEntityTooLarge, UnsupportedMediaType
from orchestrator.wire.kubernetes import MEDIA_TYPE as PROTOBUF
from orchestrator.wire.kubernetes import decode_object
from orchestrator.wire.raw import WireError

JSON, YAML = "application/json", "application/yaml"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

OBJECT_TYPES = (JSON, YAML, PROTOBUF)
PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)

DEPTH_MAX = 200
SLOW_BYTES = 64 * 1024
"""More JSON than this may take twenty thousand steps to look through, and goes to a thread; see `is_slow`."""
DECODED_BYTES_MAX = 48 * 1024 * 1024
"""What the values of one body may take: with the copies that checks make, 128 MiB for a request."""

YAML_TYPES = (YAML, APPLY_PATCH)
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1

_decode_json = msgspec.json.Decoder().decode
_name_ends = re.compile(rb"\"[ \t\r\n]*:").findall
"""Finds the end of every field's name, and now and then something inside of a text."""
_texts = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL).sub


@dataclass(frozen=True, slots=True)
class Decoded:
    """A body's value; `duplicates` are the paths of fields that stood there more than once.

    `repeats` says the same of YAML in the words of Kubernetes' YAML library, which name the line.
    """

    object: Any
    duplicates: tuple[str, ...] = ()
    repeats: tuple[str, ...] = ()


def media_type(content_type: str) -> str:
    """The bare type of a Content-Type header; JSON where there is none, as Kubernetes has it."""
    return content_type.partition(";")[0].strip().lower() or JSON


def is_slow(data: bytes, content_type: str) -> bool:
    """Whether `decode_body` should run in a thread: YAML and protobuf take fifty times as long as JSON."""
    kind = media_type(content_type)
    if kind in YAML_TYPES and ("yaml" not in sys.modules or b"*" in data):
        return True  # an alias can make a great deal of a few bytes
    return len(data) > (SLOW_BYTES // 8 if kind in (*YAML_TYPES, PROTOBUF) else SLOW_BYTES)


def decode_body(
    data: bytes, content_type: str, accepted: tuple[str, ...] = OBJECT_TYPES, find_duplicates: bool = False
) -> Decoded:
    """The value of an object's body, a dictionary. `find_duplicates` is for field validation Warn and Strict.

    Raises `BadRequest` for a malformed body, `UnsupportedMediaType` for a type that is not in `accepted`.
    """
    decoded = decode_value(data, content_type, accepted, find_duplicates)
    check_shape(decoded.object, content_type)
    return decoded


def decode_patch(data: bytes, content_type: str, find_duplicates: bool = False) -> Decoded:
    """The value of a patch: a list of operations for JSON patch, else a dictionary. Raises as `decode_body`."""
    decoded = decode_value(data, content_type, PATCH_TYPES, find_duplicates)
    check_shape(decoded.object, content_type, patch=True)
    return decoded


def check_shape(value: Any, content_type: str, patch: bool = False) -> None:
    """Raises `BadRequest` unless a body's value is an object, or the list of operations of a JSON patch."""
    operations = patch and media_type(content_type) == JSON_PATCH
    if not isinstance(value, list if operations else dict):
        wanted = "a list of operations" if operations else "an object"
        raise BadRequest(f"the {'patch' if patch else 'body'} must be {wanted}, not {_named(value)}")


def decode_value(
    data: bytes, content_type: str, accepted: tuple[str, ...], find_duplicates: bool = False
) -> Decoded:
    """Any JSON value in a body. Raises as `decode_body`."""
    kind = media_type(content_type)
    if kind not in accepted:
        raise UnsupportedMediaType(
            "the body of the request was in an unknown format - accepted media types include: "
            + ", ".join(accepted)
        )
    if kind == PROTOBUF:
        return Decoded(_protobuf(data))
    if kind in YAML_TYPES and not _looks_like_json(data):
        return _yaml(data)
    if len(data) > SLOW_BYTES:
        _check_memory(data)
    value, fields = _json(data)
    if not find_duplicates or len(_name_ends(data)) == fields:
        return Decoded(value)  # as many fields as names: none stood twice
    return Decoded(value, _duplicates(data))


def _check_memory(data: bytes) -> None:
    """Refuse a body of many small parts before it is decoded: three megabytes of `{},` take a hundred."""
    if _decoded_bytes(data) > DECODED_BYTES_MAX and _decoded_bytes(_texts(b'""', data)) > DECODED_BYTES_MAX:
        raise RequestEntityTooLarge(
            f"the body takes more than {DECODED_BYTES_MAX >> 20} MiB of memory: it has too many parts"
        )


def _decoded_bytes(data: bytes) -> int:
    """At least what the values take, counting in texts what looks like structure."""
    return 240 * data.count(b":") + 64 * (data.count(b"{") + data.count(b"[")) + 60 * data.count(b",")


def _json(data: bytes) -> tuple[Any, int]:
    """The value, and how many fields its objects have."""
    try:
        value = _decode_json(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is malformed JSON: {_lower(str(error))}") from None
    except RecursionError:
        raise _too_deep() from None
    return value, _verify([value])


def _protobuf(data: bytes) -> Any:
    try:
        value = decode_object(data)
    except WireError as error:
        raise BadRequest(f"the body is malformed protobuf: {error}") from None
    _verify([value])
    return value


def _yaml(data: bytes) -> Decoded:
    try:
        value, duplicates, repeats = decode_yaml(data, DEPTH_MAX)
    except YamlError as error:
        raise BadRequest(f"the body is malformed YAML: {error}") from None
    _verify([value])
    return Decoded(value, tuple(duplicates), tuple(repeats))


def _looks_like_json(data: bytes) -> bool:
    """JSON is YAML; the faster decoder takes what is JSON, and leaves flow-style YAML alone."""
    if data.lstrip()[:1] != b"{":
        return False
    try:
        _decode_json(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _verify(container: dict[str, Any] | list[Any], depth: int = 0) -> int:
    """Refuse what can't be stored or would exhaust the stack of whoever walks it later. Returns how many
    fields the objects in `container` have, itself included."""
    fields = len(container) if type(container) is dict else 0
    if depth > DEPTH_MAX:
        raise _too_deep()
    part: Any
    for part in container.values() if type(container) is dict else container:
        kind: Any = type(part)
        if kind is str or kind is bool:
            continue
        if kind is dict or kind is list:
            fields += _verify(part, depth + 1)
        elif kind is int:
            if not _INT_MIN <= part <= _INT_MAX:
                raise BadRequest(f"the number {_shown(part)} does not fit 64 bits")
        elif kind is float and not math.isfinite(part):
            raise BadRequest("the body holds a number that is infinite or none at all")
    return fields


def _shown(value: int) -> str:
    return str(value) if abs(value) < 10**40 else "of more than 40 digits"


def _too_deep() -> BadRequest:
    return BadRequest(f"the body is nested deeper than {DEPTH_MAX} levels")


class _Pairs(dict[str, Any]):
    """An object of the body that remembers which of its keys stood there twice."""

    __slots__ = ("twice",)
    twice: list[str]

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(key for key, _ in pairs) if len(self) < len(pairs) else {}
        self.twice = [key for key, count in counts.items() if count > 1]


def _duplicates(data: bytes) -> tuple[str, ...]:
    """Paths of duplicate fields. Reads the body a second time with the only decoder that shows them."""
    return tuple(_paths(json.loads(data, object_pairs_hook=_Pairs), ""))


def _paths(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, _Pairs):
        dot = f"{path}." if path else ""
        yield from (dot + key for key in value.twice)
        for key, part in value.items():
            yield from _paths(part, dot + key)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _paths(part, f"{path}[{index}]")


def _named(value: Any) -> str:
    names = {list: "a list", str: "text", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null" if value is None else "an object")


def _lower(text: str) -> str:
    """msgspec's sentence as the end of ours; it names the byte."""
    text = text.removeprefix("JSON is malformed: ")
    return text[:1].lower() + text[1:]
