"""`/openapi/v3` and what is below it: the documents that kubectl validates and explains with."""

from orchestrator.api.errors import NotFound
from orchestrator.server.errors import HEADERS, NO_CACHE, unknown_resource
from orchestrator.server.interfaces import OpenAPI
from orchestrator.server.present import body_answer
from orchestrator.server.query import Query
from orchestrator.web.answer import JSON, Answer, Request, Response, header

_CACHEABLE = JSON + b"Cache-Control: public, immutable\r\nVary: Accept-Encoding, Accept\r\n"


async def openapi_answer(documents: OpenAPI, request: Request, path: str, query: Query) -> Response:
    """The index, or the document of one group and version. Raises `NotFound`.

    A document asked for by its hash (as the index links it) never changes and may be kept for ever.
    """
    rest = path.removeprefix("/openapi/v3").strip("/")
    if not rest:
        return await body_answer(request, documents.index(), headers=HEADERS)
    try:
        body, etag = documents.document(rest)
    except (KeyError, NotFound):
        raise unknown_resource() from None
    quoted = etag if etag.startswith('"') else f'"{etag}"'
    keep = query.text("hash").strip('"') == quoted.strip('"')
    headers = (_CACHEABLE if keep else JSON + NO_CACHE) + header("ETag", quoted)
    if request.headers.get("If-None-Match") == quoted:
        return Answer(304, b"", headers)
    return await body_answer(request, body, headers=headers)
