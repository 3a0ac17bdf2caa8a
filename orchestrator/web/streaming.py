"""An answer that is passed on from somewhere else while it comes in, such as a followed log."""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

import structlog

from orchestrator.web.answer import Request, Response, cut
from orchestrator.web.listener import when_lost

log = structlog.get_logger(__name__)

WRITE_TIMEOUT_S = 60.0


class Source(Protocol):
    """The body of an answer."""

    def iter_any(self) -> AsyncIterator[bytes]: ...


async def stream_to(request: Request, status: int, content_type: str, source: Source) -> Response:
    """Send what `source` yields as soon as it comes; ends early when the client goes or does not read."""
    response = Response(
        status=status, headers={"Content-Type": content_type, "Cache-Control": "no-cache, private"}
    )
    return await relayed(request, response, source.iter_any())


async def relayed(request: Request, response: Response, body: AsyncIterator[bytes]) -> Response:
    """Send `response`, which has not begun, with `body` as it comes in; ends early as `stream_to` does."""
    if "Content-Length" not in response.headers:
        response.enable_chunked_encoding()
    await response.prepare(request)
    try:
        async with asyncio.timeout(None) as deadline:
            when_lost(request, lambda: deadline.reschedule(asyncio.get_running_loop().time()))
            try:
                await _copy(response, body)
            finally:
                when_lost(request, None)
    except TimeoutError:
        cut(response)
        raise ConnectionResetError("client has gone") from None
    except ConnectionError:
        raise
    except Exception as error:
        # The head is sent: all that can still be said is that the body is not complete.
        log.info("stream broke", path=request.path, error=repr(error))
        cut(response)
        raise ConnectionResetError("source broke") from error
    return response


async def _copy(response: Response, body: AsyncIterator[bytes]) -> None:
    async for data in body:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await response.write(data)
