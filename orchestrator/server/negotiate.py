"""Which form a client wants an answer in.

Answers are JSON: an object as it is, as a `Table`, or as `PartialObjectMetadata`. A client that prefers
protobuf gets JSON too, which every Kubernetes client reads by its content type.
"""

from dataclasses import dataclass
from typing import Literal

from orchestrator.api.errors import NotAcceptable

Form = Literal["object", "table", "metadata"]

JSON_TYPE = "application/json"
PROTOBUF_TYPE = "application/vnd.kubernetes.protobuf"
ACCEPTED_MAX = 1024
ACCEPT_LENGTH_MAX = 4096


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One element of an Accept header."""

    type: str
    parameters: dict[str, str]
    quality: float


_ranges: dict[str, tuple[MediaRange, ...]] = {}
_forms: dict[str, Form] = {"": "object", "*/*": "object", JSON_TYPE: "object"}


def media_ranges(accept: str) -> tuple[MediaRange, ...]:
    """The elements of `accept`, best first; remembered, because clients send the same few."""
    ranges = _ranges.get(accept)
    if ranges is None:
        if len(accept) > ACCEPT_LENGTH_MAX:
            raise NotAcceptable("the Accept header is too long")
        found = [_media_range(part) for part in accept.split(",") if part.strip()]
        ranges = tuple(sorted(found, key=lambda r: -r.quality))
        if len(_ranges) < ACCEPTED_MAX:
            _ranges[accept] = ranges
    return ranges


def _media_range(text: str) -> MediaRange:
    kind, *rest = text.split(";")
    parameters: dict[str, str] = {}
    quality = 1.0
    for part in rest:
        name, _, value = part.partition("=")
        name, value = name.strip().lower(), value.strip().strip('"')
        if name == "q":
            try:
                quality = float(value)
            except ValueError:
                quality = 0.0
        elif name:
            parameters[name] = value
    return MediaRange(kind.strip().lower(), parameters, quality)


def form(accept: str) -> Form:
    """The form of an object or list that `accept` asks for. Raises `NotAcceptable`."""
    known = _forms.get(accept)
    if known is not None:
        return known
    for candidate in media_ranges(accept):
        found = _form(candidate)
        if found is not None:
            if len(_forms) < ACCEPTED_MAX:
                _forms[accept] = found
            return found
    raise not_acceptable()


def _form(candidate: MediaRange) -> Form | None:
    if candidate.quality <= 0 or not _gives_json(candidate.type):
        return None
    wanted = candidate.parameters.get("as", "")
    if not wanted:
        return "object"
    if candidate.parameters.get("g") != "meta.k8s.io" or candidate.parameters.get("v") != "v1":
        return None
    if wanted == "Table":
        return "table"
    if wanted in ("PartialObjectMetadata", "PartialObjectMetadataList"):
        return "metadata"
    return None


def _gives_json(media_type: str) -> bool:
    return media_type in (JSON_TYPE, "*/*", "application/*", PROTOBUF_TYPE)


def not_acceptable() -> NotAcceptable:
    return NotAcceptable(
        f"only the following media types are accepted: {JSON_TYPE}, {JSON_TYPE};as=Table;v=v1;g=meta.k8s.io, "
        f"{JSON_TYPE};as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    )
