"""`Table` and `PartialObjectMetadata` bodies, spliced from stored bytes where possible."""

from functools import lru_cache
from typing import Literal

import msgspec

from orchestrator.api.item import Item, Object
from orchestrator.api.printing.kinds import printer_of
from orchestrator.api.resources import Resource

Include = Literal["None", "Metadata", "Object"]

_encode = msgspec.json.Encoder().encode


class _Head(msgspec.Struct):
    metadata: msgspec.Raw


_decode_head = msgspec.json.Decoder(_Head).decode


def table(
    resource: Resource,
    items: list[Item],
    now_s: float,
    include: Include = "Metadata",
    *,
    metadata: Object | None = None,
    headers: bool = True,
) -> bytes:
    """A meta.k8s.io/v1 `Table` body with one row per item.

    `include` says what a row carries of its object. `metadata` is the list's (resourceVersion, continue);
    without it a single item gives its own version. `headers` of False leaves the column definitions out,
    as watches do after their first event.
    """
    if metadata is None:
        metadata = {"resourceVersion": str(items[0].revision)} if len(items) == 1 else {}
    columns = _column_definitions(resource) if headers else b"null"
    rows = b",".join([_row(resource, item, now_s, include) for item in items])
    return (
        b'{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":%s,"columnDefinitions":%s,"rows":[%s]}'
        % (_encode(metadata), columns, rows)
    )


@lru_cache(maxsize=256)
def _column_definitions(resource: Resource) -> bytes:
    return _encode([column.to_json() for column in printer_of(resource).columns])


def _row(resource: Resource, item: Item, now_s: float, include: Include) -> bytes:
    printer = printer_of(resource)
    obj = item.object
    conditions = printer.conditions(obj) if printer.conditions else []
    marks = b',"conditions":%s' % _encode(conditions) if conditions else b""
    cells = _encode(printer.cells(obj, now_s))
    if include == "None":
        return b'{"cells":%s%s}' % (cells, marks)
    body = item.body if include == "Object" else partial_metadata(item)
    return b'{"cells":%s%s,"object":%s}' % (cells, marks, body)


def partial_metadata(item: Item) -> bytes:
    """A `PartialObjectMetadata` body of one object."""
    raw = bytes(_decode_head(item.raw).metadata)
    separator = b"" if raw[1:2] == b"}" else b","
    return (
        b'{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1",'
        b'"metadata":{"resourceVersion":"%d"%s%s}' % (item.revision, separator, raw[1:])
    )


def partial_metadata_list(items: list[Item], metadata: Object) -> bytes:
    """A `PartialObjectMetadataList` body; `metadata` is the list's."""
    return (
        b'{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":%s,"items":[%s]}'
        % (_encode(metadata), b",".join([partial_metadata(item) for item in items]))
    )
