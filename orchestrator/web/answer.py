"""A response whose head is put together from prepared bytes and leaves in one write with its body.

aiohttp's own responses build a header multidict and serialise it per response (about 40 µs); most answers of
the API differ only in status and length. Anything that streams uses `aiohttp.web.StreamResponse` as usual.
"""

from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http_writer import HttpVersion11

Request = web.BaseRequest
Response = web.StreamResponse
"""Names of aiohttp's types for handlers, which themselves do not import its server."""

PHRASES = {status.value: status.phrase for status in HTTPStatus}
JSON = b"Content-Type: application/json\r\n"
TEXT = b"Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"

_ADDED = web.RequestKey("added headers", Mapping)

_heads: dict[tuple[int, bytes], bytes] = {}
HEADS_MAX = 256
"""Bound of the cache of heads; header blocks that vary per response are few."""


def _head(status: int, headers: bytes) -> bytes:
    """Status line, `headers` and the start of the length line."""
    head = _heads.get((status, headers))
    if head is None:
        line = f"HTTP/1.1 {status} {PHRASES.get(status, 'Status')}\r\n".encode("ascii")
        head = line + headers + b"Content-Length: "
        if len(_heads) < HEADS_MAX:
            _heads[status, headers] = head
    return head


def header(name: str, value: str) -> bytes:
    """One header line. Control characters in `value` become spaces: nobody injects a header."""
    clean = "".join(c if c >= " " and c != "\x7f" else " " for c in value)
    return f"{name}: {clean}\r\n".encode()


def add_headers(request: Request, headers: Mapping[str, str]) -> None:
    """For an answer that streams: headers that it shall carry beside its own."""
    request[_ADDED] = headers


def added_headers(request: Request) -> Mapping[str, str]:
    """What `add_headers` was given."""
    headers: Mapping[str, str] = request.get(_ADDED, {})
    return headers


class Answer(web.StreamResponse):
    """`headers` is a block of complete header lines, the content type included; the length is added.

    `close` ends the connection after this answer. The body is left out for HEAD, its length is not.
    """

    def __init__(self, status: int, body: bytes = b"", headers: bytes = JSON, *, close: bool = False) -> None:
        # The base class' constructor builds what this class avoids; only its type is wanted.
        self._status = status
        self._reason = PHRASES.get(status, "Status")
        self.body = body
        self.block = headers
        self._keep_alive = False if close else None
        self._request: web.BaseRequest | None = None
        self.sent = False

    @property
    def prepared(self) -> bool:
        return self._request is not None or self.sent

    async def prepare(self, request: web.BaseRequest) -> None:
        if self._keep_alive is None:
            self._keep_alive = request.keep_alive
        self._request = request

    async def write_eof(self, data: bytes = b"") -> None:
        request = self._request
        if request is None or self.sent:
            return
        self.sent = True
        self._request = None
        body = self.body
        if self._status in (204, 304):
            body = b""
        date = rfc822_formatted_time().encode()
        if not self._keep_alive:
            end = b"%d\r\nDate: %b\r\nConnection: close\r\n\r\n" % (len(body), date)
        elif request.version < HttpVersion11:
            end = b"%d\r\nDate: %b\r\nConnection: keep-alive\r\n\r\n" % (len(body), date)
        else:
            end = b"%d\r\nDate: %b\r\n\r\n" % (len(body), date)
        if request.method == "HEAD":
            body = b""
        await _send(request, _head(self._status, self.block) + end, body)


async def _send(request: web.BaseRequest, head: bytes, body: bytes) -> None:
    protocol = request.protocol
    transport = protocol.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("client has gone")
    if len(body) < 65536:
        transport.write(head + body)
    else:
        transport.write(head)
        transport.write(body)
    if protocol.writing_paused:
        await request.writer.drain()


def cut(response: Response) -> None:
    """Cut the connection of a response that has begun; what is pending is lost."""
    request = response._req
    if request is not None and request.transport is not None:
        request.transport.abort()
