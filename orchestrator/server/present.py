"""Objects and lists as bodies, in the form a client asked for, spliced from stored bytes where that works.

Long lists are put together in slices and large bodies compressed in a thread, so that nobody else waits.
"""

import asyncio
import zlib
from collections.abc import Callable, Iterable

from orchestrator.api import printing
from orchestrator.api.errors import Invalid
from orchestrator.api.item import Item, list_body
from orchestrator.api.resources import Resource
from orchestrator.api.results import ItemList
from orchestrator.base.clock import Clock
from orchestrator.server.errors import HEADERS
from orchestrator.server.negotiate import Form
from orchestrator.server.query import Query
from orchestrator.web.answer import Answer, Request, header

SLICE = 2000
"""Items spliced before other tasks get their turn."""
TABLE_SLICE = 200
"""The same for rows of a table, which need the decoded object."""
GZIP_MIN_BYTES = 128 * 1024
GZIP_LEVEL = 1
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
    """Makes bodies. Pure but for the clock, which ages in tables need."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def one(self, resource: Resource, item: Item, form: Form, query: Query) -> bytes:
        """The body for one object. Results of a subresource come with the row of their own kind."""
        if form == "object":
            return item.body
        if form == "metadata":
            return printing.partial_metadata(item)
        return printing.table(resource, [item], self._clock.now_s(), included(query))

    async def many(self, resource: Resource, found: ItemList, form: Form, query: Query) -> bytes:
        """The body for a list."""
        metadata: dict[str, str | int] = {"resourceVersion": str(found.revision)}
        if found.continue_token:
            metadata["continue"] = found.continue_token
        if found.remaining:
            metadata["remainingItemCount"] = found.remaining
        if form == "table":
            return await self._long_table(resource, found.items, query, metadata)
        if form == "metadata":
            head = list_body("meta.k8s.io/v1", "PartialObjectMetadataList", metadata, ())
            return await _spliced(head, found.items, printing.partial_metadata)
        if len(found.items) <= SLICE:
            return list_body(resource.api_version, f"{resource.kind}List", metadata, found.items)
        head = list_body(resource.api_version, f"{resource.kind}List", metadata, ())
        return await _spliced(head, found.items, _body)

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


async def _spliced(head: bytes, items: list[Item], body_of: Callable[[Item], bytes]) -> bytes:
    """`head` is an empty list's body; the items go between its brackets."""
    parts: list[bytes] = []
    for start in range(0, len(items), SLICE):
        parts.append(b",".join([body_of(item) for item in items[start : start + SLICE]]))
        await asyncio.sleep(0)
    return head[:-2] + b",".join(parts) + b"]}"


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


def _gzip(body: bytes) -> bytes:
    packer = zlib.compressobj(GZIP_LEVEL, wbits=31)
    return packer.compress(body) + packer.flush()
