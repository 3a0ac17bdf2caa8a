"""Bodies of type `application/vnd.kubernetes.protobuf`: four bytes of magic, an envelope, the object's message.

The envelope (`runtime.Unknown`) names apiVersion and kind; the message itself does not carry them. Bytes are
bounded by whoever reads the body. Called by `api.codec` and by the server's answers.
"""

from functools import cache
from typing import Any

from orchestrator.wire.protobuf import Codec
from orchestrator.wire.raw import WireError
from orchestrator.wire.tables import Tables

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"

_META = "meta_v1"


@cache
def tables() -> Tables:
    """The tables of the Kubernetes API; one set per process."""
    return Tables("kubernetes")


def decode_object(data: bytes) -> dict[str, Any]:
    """The object in a body, apiVersion and kind first. Raises `WireError` saying what is wrong."""
    if data[: len(MAGIC)] != MAGIC:
        raise WireError(f"the body does not start with the bytes {MAGIC.hex(' ')}")
    codec = Codec(tables())
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
    codec = Codec(tables())
    api_version, kind = obj["apiVersion"], obj["kind"]
    raw = codec.encode(message_of(api_version, kind), obj)
    envelope = {"typeMeta": {"apiVersion": api_version, "kind": kind}, "raw": raw}
    return MAGIC + codec.encode("runtime.Unknown", envelope)


def message_of(api_version: str, kind: str) -> str:
    """The message of a kind; options and `Status` belong to every group. `WireError` for an unknown one."""
    group, _, version = api_version.rpartition("/")
    package = f"{group or 'core'}_{version}"
    for candidate in (package, _META):
        if tables().has(candidate, kind):
            return f"{candidate}.{kind}"
    raise WireError(f'no kind "{kind}" is registered for version "{api_version}"')
