"""Watch streams: one line of JSON or one frame of protobuf per event, in chunks, for as long as the client listens.

A line is encoded once per event and form, however many clients watch. A client that does not read is cut after
`WRITE_TIMEOUT_S`; behind it the store's bounded buffer says 410. Timeouts and bookmarks are the registry's.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass

import structlog

from orchestrator.api import printing
from orchestrator.api.errors import ApiError, InternalError
from orchestrator.api.item import Item
from orchestrator.api.resources import Resource
from orchestrator.api.results import WatchEvent
from orchestrator.base.clock import Clock
from orchestrator.server.errors import status_body
from orchestrator.server.media import Messages
from orchestrator.server.negotiate import JSON_TYPE, PROTOBUF_TYPE, Form, Media, Offer
from orchestrator.server.present import included
from orchestrator.server.query import Query
from orchestrator.web.answer import Request, Response, added_headers, cut
from orchestrator.web.listener import when_lost
from orchestrator.wire.kubernetes import encode_object, watch_frame

log = structlog.get_logger(__name__)

WRITE_TIMEOUT_S = 60.0
LINES_MAX = 2048
"""Encoded lines kept for other watchers of the same events."""
WRITE_EVENTS_MAX = 200
"""Events per chunk; between chunks other tasks get their turn."""

_TYPES: dict[Media, str] = {"json": JSON_TYPE, "protobuf": f"{PROTOBUF_TYPE};stream=watch"}

LineKey = tuple[int, str, "Shape", bool]
"""id of the item, event type, shape, and for tables whether column headers are in it"""


@dataclass(frozen=True, slots=True)
class Shape:
    """What one client wants its events to carry."""

    form: Form
    media: Media
    include: printing.Include


class Lines:
    """Encoded lines of recent events. Keeps the items too, so that an id is never somebody else's."""

    def __init__(self, clock: Clock, messages: Messages) -> None:
        self._clock = clock
        self._messages = messages
        self._lines: OrderedDict[LineKey, tuple[Item, bytes]] = OrderedDict()

    def line(self, resource: Resource, event: WatchEvent, shape: Shape, headers: bool = False) -> bytes:
        """`{"type":…,"object":…}` and a newline, or a frame of protobuf. `headers` puts the definitions of columns
        into a table."""
        key = (id(event.item), event.type, shape, headers)
        known = self._lines.get(key)
        if known is not None and known[0] is event.item:
            return known[1]
        if shape.media == "protobuf":
            line = watch_frame(event.type, self._messages.body(event.item, shape.form == "metadata"))
        else:
            body = self._object(resource, event, shape, headers)
            line = b'{"type":"%b","object":%b}\n' % (event.type.encode(), body)
        self._lines[key] = event.item, line
        if len(self._lines) > LINES_MAX:
            self._lines.popitem(last=False)
        return line

    def _object(self, resource: Resource, event: WatchEvent, shape: Shape, headers: bool) -> bytes:
        item = event.item
        if shape.form == "object":
            return item.body
        if shape.form == "metadata":
            return printing.partial_metadata(item)
        if event.type == "BOOKMARK":
            return printing.table(
                resource, [], 0.0, metadata={"resourceVersion": str(item.revision)}, headers=False
            )
        return printing.table(resource, [item], self._clock.now_s(), shape.include, headers=headers)


class Watchers:
    """Open streams. Owner of their ends: `stop` ends all of them in an orderly way."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._open: set[asyncio.Timeout] = set()
        self._stopping = False

    @property
    def count(self) -> int:
        return len(self._open)

    def stop(self) -> None:
        """End every stream, and from now on each new one at once."""
        self._stopping = True
        for deadline in self._open:
            _expire(deadline)

    async def stream(
        self,
        request: Request,
        resource: Resource,
        events: AsyncIterator[list[WatchEvent]],
        offer: Offer,
        query: Query,
    ) -> Response:
        """Send `events` until they end, the client goes, or the server stops; an error is the last event."""
        shape = Shape(offer.form, offer.media, included(query))
        response = Response(
            headers={"Content-Type": _TYPES[offer.media], "Cache-Control": "no-cache, private"}
        )
        response.headers.update(added_headers(request))
        response.enable_chunked_encoding()
        await response.prepare(request)
        try:
            async with asyncio.timeout(0 if self._stopping else None) as deadline:
                await self._until(deadline, request, self._send(response, resource, events, shape))
        except TimeoutError:
            pass  # the client has gone, or the server stops
        except ApiError as error:
            await _last_event(response, error, offer.media)
        except ConnectionError:
            raise
        except Exception as error:
            log.error("watch failed", resource=resource.qualified, exc_info=error)
            await _last_event(response, InternalError("the watch failed; list again"), offer.media)
        finally:
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()
        return response

    async def _until(
        self, deadline: asyncio.Timeout, request: Request, sending: Coroutine[None, None, None]
    ) -> None:
        """Send until `deadline`, which moves to now when the client goes or the server stops."""
        self._open.add(deadline)
        when_lost(request, lambda: _expire(deadline))
        try:
            await sending
        finally:
            when_lost(request, None)
            self._open.discard(deadline)

    async def _send(
        self, response: Response, resource: Resource, events: AsyncIterator[list[WatchEvent]], shape: Shape
    ) -> None:
        line = self._lines.line
        headers = shape.form == "table"
        async for batch in events:
            for start in range(0, len(batch), WRITE_EVENTS_MAX):
                part = batch[start : start + WRITE_EVENTS_MAX]
                lines = [line(resource, event, shape) for event in part]
                if headers:
                    lines[0] = line(resource, part[0], shape, headers)
                    headers = False
                await _write(response, b"".join(lines))
                if len(batch) > WRITE_EVENTS_MAX:
                    await asyncio.sleep(0)


async def _write(response: Response, data: bytes) -> None:
    """Cut a client that does not read: what waits for it would hold its answer open for ever."""
    try:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await response.write(data)
    except TimeoutError:
        cut(response)
        raise ConnectionResetError("client does not read") from None


def _expire(deadline: asyncio.Timeout) -> None:
    if not deadline.expired():
        deadline.reschedule(asyncio.get_running_loop().time())


async def _last_event(response: Response, error: ApiError, media: Media) -> None:
    if media == "protobuf":
        await response.write(watch_frame("ERROR", encode_object(error.status())))
        return
    await response.write(b'{"type":"ERROR","object":%b}\n' % status_body(error))
