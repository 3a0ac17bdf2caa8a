"""Answers in other media types than JSON: protobuf of built-in kinds, and YAML. Called by whoever answers.

Protobuf messages of recent items are kept, bounded in bytes, so that a list, a get and every watcher of one object
share them. YAML is for people: one object is laid out, a list goes as JSON, which YAML contains.
"""

import asyncio
from collections import OrderedDict
from functools import lru_cache
from typing import Any

import msgspec

from orchestrator.api.errors import ApiError, NotAcceptable
from orchestrator.api.item import Item
from orchestrator.api.resources import Resource
from orchestrator.server.errors import HEADERS, NO_CACHE, status_answer
from orchestrator.server.negotiate import (
    NO_PROTOBUF,
    PROTOBUF_TYPE,
    TYPES,
    Media,
    not_acceptable,
    prefers_protobuf,
)
from orchestrator.web.answer import Answer, Request, header
from orchestrator.wire import kubernetes
from orchestrator.wire.raw import WireError, bytes_field

KEPT_BYTES_MAX = 8 * 1024 * 1024
YAML_BYTES_MAX = 256 * 1024
"""Larger bodies go as JSON even where YAML is asked for."""

HEADERS_OF: dict[Media, bytes] = {
    "json": HEADERS,
    "yaml": header("Content-Type", TYPES["yaml"]) + NO_CACHE,
    "protobuf": header("Content-Type", PROTOBUF_TYPE) + NO_CACHE,
}

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


@lru_cache(maxsize=256)
def has_message(resource: Resource) -> bool:
    """Whether objects of `resource` can be protobuf."""
    return kubernetes.has_message(resource.api_version, resource.kind)


class Messages:
    """Protobuf of recent items: the message without its envelope. Keeps the items, so that ids stay theirs."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, str], tuple[Item, bytes]] = OrderedDict()
        self._bytes = 0

    def message(self, item: Item, partial: bool = False) -> bytes:
        """The item's message, or that of its metadata alone. Raises `NotAcceptable` where there is none."""
        key = (id(item), "metadata" if partial else "")
        known = self._kept.get(key)
        if known is not None and known[0] is item:
            self._kept.move_to_end(key)
            return known[1]
        obj = item.whole
        try:
            if partial:
                message = kubernetes.encode_message(*METADATA, {"metadata": obj["metadata"]})
            else:
                message = kubernetes.encode_message(obj["apiVersion"], obj["kind"], obj)
        except WireError as error:
            raise NotAcceptable(f"{not_acceptable(NO_PROTOBUF).message} ({error})") from None
        self._keep(key, item, message)
        return message

    def _keep(self, key: tuple[int, str], item: Item, message: bytes) -> None:
        if (old := self._kept.pop(key, None)) is not None:
            self._bytes -= len(old[1])
        self._kept[key] = item, message
        self._bytes += len(message)
        while self._bytes > KEPT_BYTES_MAX and self._kept:
            _, (_, gone) = self._kept.popitem(last=False)
            self._bytes -= len(gone)

    def body(self, item: Item, partial: bool = False) -> bytes:
        """The whole body: magic, envelope, message."""
        api_version, kind = METADATA if partial else (item.object["apiVersion"], item.object["kind"])
        return kubernetes.enveloped(api_version, kind, self.message(item, partial))


METADATA = ("meta.k8s.io/v1", "PartialObjectMetadata")


def list_message(messages: list[bytes], metadata: dict[str, Any]) -> bytes:
    """A list's message of its items': every list has its metadata in field 1 and its items in field 2."""
    head = bytes_field(1, kubernetes.encode_message("meta.k8s.io/v1", "ListMeta", metadata))
    return head + b"".join([bytes_field(2, message) for message in messages])


async def yaml_of(body: bytes) -> bytes:
    """A JSON body as YAML; in a thread, as it takes long."""
    if len(body) > YAML_BYTES_MAX:
        return body
    return await asyncio.to_thread(_yaml, body)


def _yaml(body: bytes) -> bytes:
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: bytes = yaml.dump(
        _decode(body), Dumper=dumper, sort_keys=False, allow_unicode=True, encoding="utf-8"
    )
    return text


def plain_answer(status: int, obj: dict[str, Any], media: Media = "json", more: bytes = b"") -> Answer:
    """A small object that is not stored, such as a `Status` or a review. Where it has no message, JSON."""
    if media == "protobuf":
        try:
            return Answer(status, kubernetes.encode_object(obj), HEADERS_OF["protobuf"] + more)
        except WireError:
            media = "json"
    body = _encode(obj)
    return Answer(status, _yaml(body) if media == "yaml" else body, HEADERS_OF[media] + more)


def error_answer(request: Request, error: ApiError) -> Answer:
    """The answer with the error's `Status`, in protobuf for clients that prefer it."""
    answer = status_answer(error)
    if prefers_protobuf(request.headers.get("Accept", "")):
        answer.body = kubernetes.encode_object(error.status())
        answer.block = answer.block.replace(
            b"Content-Type: application/json", b"Content-Type: " + PROTOBUF_TYPE.encode()
        )
    return answer
