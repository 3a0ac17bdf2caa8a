"""Which form and media type a client wants an answer in, from its Accept header as kube-apiserver reads it.

Forms: an object as it is, a `Table`, or `PartialObjectMetadata`. Media types: JSON, YAML, and protobuf where the kind
has a message; a `Table` has none. The best element of the header that can be given wins; elements of the same
quality count in the order in which they stand, wildcards last.
"""

from dataclasses import dataclass
from typing import Literal

from orchestrator.api.errors import NotAcceptable

Form = Literal["object", "table", "metadata"]
Media = Literal["json", "yaml", "protobuf"]

JSON_TYPE = "application/json"
YAML_TYPE = "application/yaml"
PROTOBUF_TYPE = "application/vnd.kubernetes.protobuf"
TYPES: dict[Media, str] = {"json": JSON_TYPE, "yaml": YAML_TYPE, "protobuf": PROTOBUF_TYPE}
ACCEPTED_MAX = 1024
ACCEPT_LENGTH_MAX = 4096

ALL_MEDIA: tuple[Media, ...] = ("json", "yaml", "protobuf")
NO_PROTOBUF: tuple[Media, ...] = ("json", "yaml")
"""What can be given of a kind without a message, such as a custom one."""
STREAMED: tuple[Media, ...] = ("json", "protobuf")
"""What a watch can be given in."""


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One element of an Accept header."""

    type: str
    parameters: dict[str, str]
    quality: float


@dataclass(frozen=True, slots=True)
class Offer:
    """What a client gets. `or_json` says that JSON in the same form would suit it as well."""

    form: Form
    media: Media
    or_json: bool = True


OBJECT = Offer("object", "json")

_ranges: dict[str, tuple[MediaRange, ...]] = {}
_offers: dict[tuple[str, tuple[Media, ...]], Offer] = {}


def media_ranges(accept: str) -> tuple[MediaRange, ...]:
    """The elements of `accept`, best first; remembered, because clients send the same few."""
    ranges = _ranges.get(accept)
    if ranges is None:
        if len(accept) > ACCEPT_LENGTH_MAX:
            raise NotAcceptable("the Accept header is too long")
        found = [_media_range(part) for part in accept.split(",") if part.strip()]
        ranges = tuple(sorted(found, key=_rank))
        if len(_ranges) < ACCEPTED_MAX:
            _ranges[accept] = ranges
    return ranges


def _rank(candidate: MediaRange) -> tuple[float, bool, bool]:
    return -candidate.quality, candidate.type == "*/*", candidate.type.endswith("/*")


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


def offer(accept: str, media: tuple[Media, ...] = ALL_MEDIA, rows: bool = True) -> Offer:
    """What `accept` asks for among `media`; without `rows`, no table. Raises `NotAcceptable` naming what there is."""
    if not accept or accept == JSON_TYPE:
        return OBJECT
    if not rows:
        return _best(accept, media, rows)
    known = _offers.get((accept, media))
    if known is None:
        known = _best(accept, media)
        if len(_offers) < ACCEPTED_MAX:
            _offers[accept, media] = known
    return known


def _best(accept: str, media: tuple[Media, ...], rows: bool = True) -> Offer:
    given = (_given(candidate, media) for candidate in media_ranges(accept))
    found = [one for one in given if one is not None and (rows or one.form != "table")]
    if not found:
        raise not_acceptable(media)
    best = found[0]
    return Offer(best.form, best.media, Offer(best.form, "json") in found)


def _given(candidate: MediaRange, media: tuple[Media, ...]) -> Offer | None:
    if not candidate.quality > 0:
        return None
    form = _form(candidate.parameters)
    for kind in media:
        if form is None or (form == "table" and kind == "protobuf"):
            continue
        if candidate.type in (TYPES[kind], "*/*", "application/*"):
            return Offer(form, kind)
    return None


def _form(parameters: dict[str, str]) -> Form | None:
    wanted = parameters.get("as", "")
    if not wanted:
        return "object"
    if parameters.get("g") != "meta.k8s.io" or parameters.get("v") != "v1":
        return None
    if wanted == "Table":
        return "table"
    return "metadata" if wanted in ("PartialObjectMetadata", "PartialObjectMetadataList") else None


def prefers_protobuf(accept: str) -> bool:
    """Whether a `Status` should be protobuf. Never raises: an answer must be found for every error."""
    if PROTOBUF_TYPE not in accept or len(accept) > ACCEPT_LENGTH_MAX:
        return False
    return bool(_best(f"{accept},*/*;q=0.001", ALL_MEDIA).media == "protobuf")


def not_acceptable(media: tuple[Media, ...]) -> NotAcceptable:
    """406 as Kubernetes says it."""
    suffix = ";stream=watch" if media is STREAMED else ""
    types = ", ".join(TYPES[kind] + suffix for kind in media)
    return NotAcceptable(f"only the following media types are accepted: {types}")
