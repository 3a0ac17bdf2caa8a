"""`/openapi/v3` and what is below it, and `/openapi/v2`: what kubectl validates and explains with.

Documents are rendered in a thread: the core group's takes tens of milliseconds.
"""

import asyncio

from orchestrator.api.errors import NotFound
from orchestrator.api.openapi_gnostic import ACCEPTED, MEDIA_TYPE
from orchestrator.server.errors import HEADERS, NO_CACHE, unknown_resource
from orchestrator.server.interfaces import OpenAPI
from orchestrator.server.negotiate import media_ranges
from orchestrator.server.present import body_answer
from orchestrator.server.query import Query
from orchestrator.web.answer import JSON, Answer, Request, Response, header

_VARY = b"Vary: Accept-Encoding, Accept\r\n"
_FOREVER = b"Cache-Control: public, max-age=31536000, immutable\r\n"


async def openapi_answer(documents: OpenAPI, request: Request, path: str, query: Query) -> Response:
    """The document at `path`. Raises `NotFound`."""
    if path == "/openapi/v2":
        return await _swagger(documents, request)
    rest = path.removeprefix("/openapi/v3").strip("/")
    if not rest:
        return await body_answer(request, documents.index(), headers=HEADERS)
    try:
        body, etag = await asyncio.to_thread(documents.document, rest)
    except NotFound:
        raise unknown_resource() from None
    # A document asked for by its hash, as the index links it, never changes.
    asked = query.text("hash")
    if asked and asked != etag:
        return Answer(301, b"", header("Location", f"/openapi/v3/{rest}?hash={etag}"))
    keep = asked == etag
    return await _document(request, body, etag, JSON + (_FOREVER if keep else NO_CACHE))


async def _swagger(documents: OpenAPI, request: Request) -> Response:
    """The v2 document: JSON, or the protobuf form that kubectl before 1.29 insists on."""
    for candidate in media_ranges(request.headers.get("Accept", "")):
        if candidate.type in ACCEPTED:
            body, etag = await asyncio.to_thread(documents.swagger_protobuf)
            return await _document(request, body, etag, header("Content-Type", MEDIA_TYPE) + NO_CACHE)
        if candidate.type in ("application/json", "*/*"):
            break
    body, etag = await asyncio.to_thread(documents.swagger)
    return await _document(request, body, etag, HEADERS)


async def _document(request: Request, body: bytes, etag: str, headers: bytes) -> Response:
    quoted = f'"{etag}"'
    headers += header("ETag", quoted) + _VARY
    if request.headers.get("If-None-Match") == quoted:
        return Answer(304, b"", headers)
    return await body_answer(request, body, headers=headers)
