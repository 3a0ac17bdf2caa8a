"""Objects and lists as bodies, in the form a client asked for, spliced from stored bytes where that works.

Long lists are put together in slices and large bodies compressed in a thread, so that nobody else waits.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterable

import msgspec

from orchestrator.api import printing
from orchestrator.api.errors import Invalid
from orchestrator.api.item import Item, list_body
from orchestrator.api.resources import Resource
from orchestrator.api.results import ItemList
from orchestrator.base.clock import Clock
from orchestrator.server.errors import HEADERS
from orchestrator.server.media import METADATA, Messages, list_message, yaml_of
from orchestrator.server.negotiate import Form, Offer
from orchestrator.server.query import Query
from orchestrator.web.answer import Answer, Request, Response, added_headers, cut, header
from orchestrator.wire.kubernetes import enveloped

SLICE = 500
"""Items spliced before other tasks get their turn."""
TABLE_SLICE = 200
"""The same for rows of a table, which need the decoded object."""
MESSAGE_SLICE = 20
"""The same for protobuf, which is encoded field by field."""
STREAM_MIN_BYTES = 2 * 1024 * 1024
"""Larger lists leave in chunks: whole, one would be encrypted in one go."""
GZIP_MIN_BYTES = 128 * 1024
GZIP_LEVEL = 1
WRITE_TIMEOUT_S = 60.0
WARNINGS_MAX = 16
WARNING_LENGTH_MAX = 1024

_GZIPPED = b"Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n"


def included(query: Query) -> printing.Include:
    """How much of the object a table's rows carry."""
    wanted = query.text("includeObject", "Metadata")
    if wanted == "None":
        return "None"
    if wanted == "Object":
        return "Object"
    if wanted in ("", "Metadata"):
        return "Metadata"
    raise Invalid(f'TableOptions.meta.k8s.io "" is invalid: includeObject: Unsupported value: "{wanted}"')


class Presenter:
    """Makes bodies. Owns only what is kept of encodings; the clock is for ages in tables."""

    def __init__(self, clock: Clock, messages: Messages) -> None:
        self._clock = clock
        self._messages = messages

    async def one(self, resource: Resource, item: Item, offer: Offer, query: Query) -> bytes:
        """The body for one object. Results of a subresource come with the row of their own kind."""
        if offer.media == "protobuf":
            return self._messages.body(item, offer.form == "metadata")
        body = self._json(resource, item, offer.form, query)
        if query.flag("pretty"):
            body = await _indented(body)
        return await yaml_of(body) if offer.media == "yaml" else body

    def _json(self, resource: Resource, item: Item, form: Form, query: Query) -> bytes:
        if form == "object":
            return item.body
        if form == "metadata":
            return printing.partial_metadata(item)
        return printing.table(resource, [item], self._clock.now_s(), included(query))

    async def many(
        self, resource: Resource, found: ItemList, offer: Offer, query: Query
    ) -> AsyncIterator[bytes]:
        """The body for a list, in parts that follow each other; each is made when it is wanted."""
        metadata: dict[str, str | int] = {"resourceVersion": str(found.revision)}
        if found.continue_token:
            metadata["continue"] = found.continue_token
        if found.remaining:
            metadata["remainingItemCount"] = found.remaining
        if offer.media == "protobuf":
            yield await self._messages_of(resource, found.items, metadata, offer.form == "metadata")
            return
        parts = self._json_of(resource, found.items, metadata, offer.form, query)
        if offer.media == "json" and not query.flag("pretty"):
            async for part in parts:
                yield part
            return
        body = b"".join([part async for part in parts])
        if query.flag("pretty"):
            body = await _indented(body)
        yield await yaml_of(body) if offer.media == "yaml" else body

    async def _json_of(
        self,
        resource: Resource,
        items: list[Item],
        metadata: dict[str, str | int],
        form: Form,
        query: Query,
    ) -> AsyncIterator[bytes]:
        if form == "table":
            yield await self._long_table(resource, items, query, metadata)
            return
        if form == "metadata":
            kind, body_of = ("meta.k8s.io/v1", "PartialObjectMetadataList"), printing.partial_metadata
        else:
            kind, body_of = (resource.api_version, resource.list_kind), _body
        # An empty list's body; the items go between its brackets.
        yield list_body(*kind, metadata, ())[:-2]
        for start in range(0, len(items), SLICE):
            if start:
                yield b","
                await asyncio.sleep(0)
            yield b",".join([body_of(item) for item in items[start : start + SLICE]])
        yield b"]}"

    async def _messages_of(
        self, resource: Resource, items: list[Item], metadata: dict[str, str | int], partial: bool
    ) -> bytes:
        messages = []
        for start in range(0, len(items), MESSAGE_SLICE):
            part = items[start : start + MESSAGE_SLICE]
            messages += [self._messages.message(item, partial) for item in part]
            await asyncio.sleep(0)
        kind = METADATA if partial else (resource.api_version, resource.kind)
        return enveloped(kind[0], f"{kind[1]}List", list_message(messages, metadata))

    async def _long_table(
        self, resource: Resource, items: list[Item], query: Query, metadata: dict[str, str | int]
    ) -> bytes:
        """Tables of slices, their rows joined."""
        include, now_s = included(query), self._clock.now_s()
        if len(items) <= TABLE_SLICE:
            return printing.table(resource, items, now_s, include, metadata=metadata)
        parts = []
        for start in range(0, len(items), TABLE_SLICE):
            part = items[start : start + TABLE_SLICE]
            parts.append(printing.table(resource, part, now_s, include, metadata=metadata))
            await asyncio.sleep(0)
        mark = b'"rows":['
        # Everything before the rows, definitions of columns included, is the same in each part.
        at = parts[0].index(mark) + len(mark)
        return parts[0][:at] + b",".join([part[at:-2] for part in parts]) + b"]}"


def _body(item: Item) -> bytes:
    return item.body


async def _indented(body: bytes) -> bytes:
    """`pretty=true`: the same JSON for people."""
    if len(body) > GZIP_MIN_BYTES:
        return await asyncio.to_thread(msgspec.json.format, body, indent=2)
    return msgspec.json.format(body, indent=2)


def warning_headers(warnings: Iterable[str]) -> bytes:
    """`Warning: 299 - "…"` lines, as clients print them."""
    lines = []
    for text in list(warnings)[:WARNINGS_MAX]:
        quoted = text[:WARNING_LENGTH_MAX].replace("\\", "\\\\").replace('"', '\\"')
        lines.append(header("Warning", f'299 - "{quoted}"'))
    return b"".join(lines)


async def body_answer(request: Request, body: bytes, status: int = 200, headers: bytes = HEADERS) -> Answer:
    """`body` as the answer, compressed when it is large and the client takes that."""
    if len(body) >= GZIP_MIN_BYTES and "gzip" in request.headers.get("Accept-Encoding", ""):
        body = await asyncio.to_thread(_gzip, body)
        headers += _GZIPPED
    return Answer(status, body, headers)


async def list_answer(request: Request, parts: AsyncIterator[bytes], headers: bytes = HEADERS) -> Response:
    """A list's parts as the answer; a long one leaves part by part, each compressed by itself in a thread."""
    ready: list[bytes] = []
    size = 0
    async for part in parts:
        ready.append(part)
        size += len(part)
        if size >= STREAM_MIN_BYTES and request.method != "HEAD" and request.version >= (1, 1):
            return await _streamed(request, b"".join(ready), parts, headers)
    return await body_answer(request, b"".join(ready), headers=headers)


async def _streamed(request: Request, first: bytes, rest: AsyncIterator[bytes], headers: bytes) -> Response:
    response = Response()
    for line in headers.decode("latin-1").splitlines():
        name, _, value = line.partition(": ")
        response.headers[name] = value
    response.headers.update(added_headers(request))
    packer = None
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        packer = zlib.compressobj(GZIP_LEVEL, wbits=31)
        response.headers.update({"Content-Encoding": "gzip", "Vary": "Accept-Encoding"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    try:
        await _write(response, first if packer is None else await asyncio.to_thread(packer.compress, first))
        async for data in rest:
            await _write(response, data if packer is None else await asyncio.to_thread(packer.compress, data))
        if packer is not None:
            await _write(response, packer.flush())
    except BaseException:
        cut(
            response
        )  # The head is sent: a refusal after it, such as that of the time limit, would be part of the list.
        raise
    return response


async def _write(response: Response, data: bytes) -> None:
    """A client that does not read is cut."""
    if not data:
        return  # An empty chunk would end the body.
    try:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await response.write(data)
    except TimeoutError:
        cut(response)
        raise ConnectionResetError("client does not read") from None


def _gzip(body: bytes) -> bytes:
    packer = zlib.compressobj(GZIP_LEVEL, wbits=31)
    return packer.compress(body) + packer.flush()
