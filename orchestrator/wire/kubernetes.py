"""Bodies of type `application/vnd.kubernetes.protobuf`: four bytes of magic, an envelope, the object's message.

The envelope (`runtime.Unknown`) names apiVersion and kind; the message itself does not carry them. Bytes are
bounded by whoever reads the body. Called by `api.codec` and by the server's answers.
"""

from functools import cache, lru_cache
from typing import Any

from orchestrator.wire.protobuf import Codec
from orchestrator.wire.raw import WireError, bytes_field
from orchestrator.wire.tables import Tables

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"

MESSAGES_MAX = 200_000
"""Messages and elements in one body: each takes a hundred bytes and more once decoded, and two in the body."""

_META = "meta_v1"


@cache
def _codec() -> Codec:
    return Codec(tables())


@cache
def tables() -> Tables:
    """The tables of the Kubernetes API; one set per process."""
    return Tables("kubernetes")


def decode_object(data: bytes) -> dict[str, Any]:
    """The object in a body, apiVersion and kind first. Raises `WireError` saying what is wrong."""
    if data[: len(MAGIC)] != MAGIC:
        raise WireError(f"the body does not start with the bytes {MAGIC.hex(' ')}")
    codec = Codec(tables(), MESSAGES_MAX)
    envelope = codec.decode("runtime.Unknown", memoryview(data)[len(MAGIC) :])
    kind = envelope.get("typeMeta", {})
    api_version, name = kind.get("apiVersion", ""), kind.get("kind", "")
    if not api_version or not name:
        raise WireError("the envelope names no apiVersion and kind")
    if envelope.get("contentEncoding"):
        raise WireError(f"content encoding {envelope['contentEncoding']!r} is not in use")
    message = message_of(api_version, name)
    return {"apiVersion": api_version, "kind": name, **codec.decode(message, envelope.get("raw", b""))}


def encode_object(obj: dict[str, Any]) -> bytes:
    """The body for an object of a built-in kind. Raises `WireError` where the kind or a value has no form."""
    api_version, kind = obj["apiVersion"], obj["kind"]
    return enveloped(api_version, kind, encode_message(api_version, kind, obj))


def encode_message(api_version: str, kind: str, obj: dict[str, Any]) -> bytes:
    """The message of an object alone, as it lies in a list or behind an envelope. Raises as `encode_object`."""
    return _codec().encode(message_of(api_version, kind), obj)


def enveloped(api_version: str, kind: str, message: bytes) -> bytes:
    """The body for a message: magic and the envelope that names its kind."""
    return _envelope_head(api_version, kind) + bytes_field(2, message) + _ENVELOPE_TAIL


@lru_cache(maxsize=256)
def _envelope_head(api_version: str, kind: str) -> bytes:
    names = bytes_field(1, api_version.encode()) + bytes_field(2, kind.encode())
    return MAGIC + bytes_field(1, names)


_ENVELOPE_TAIL = bytes_field(3, b"") + bytes_field(4, b"")


def watch_frame(event_type: str, body: bytes) -> bytes:
    """One event of a watch stream: its length in four bytes, then a `WatchEvent` without envelope, whose object is
    a whole body."""
    event = bytes_field(1, event_type.encode()) + bytes_field(2, bytes_field(1, body))
    return len(event).to_bytes(4, "big") + event


def has_message(api_version: str, kind: str) -> bool:
    """Whether the kind is one with a message."""
    try:
        message_of(api_version, kind)
    except WireError:
        return False
    return True


def message_of(api_version: str, kind: str) -> str:
    """The message of a kind; options and `Status` belong to every group. `WireError` for an unknown one."""
    group, _, version = api_version.rpartition("/")
    package = f"{group or 'core'}_{version}"
    for candidate in (package, _META):
        if tables().has(candidate, kind):
            return f"{candidate}.{kind}"
    raise WireError(f'no kind "{kind}" is registered for version "{api_version}"')
