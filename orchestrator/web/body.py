"""Reading a request's body: bounded in size and time."""

import asyncio

from aiohttp import StreamReader, web
from aiohttp.web_protocol import RequestPayloadError

from orchestrator.base.errors import OrchestratorError

BODY_MAX_BYTES = 3 * 1024 * 1024
BODY_TIMEOUT_S = 60.0


class BodyError(OrchestratorError):
    """The body can't be had. `status` is the HTTP status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


async def read_body(
    request: web.BaseRequest, limit_bytes: int = BODY_MAX_BYTES, timeout_s: float = BODY_TIMEOUT_S
) -> bytes:
    """The whole body. Raises `BodyError` with 413 (too large), 408 (too slow) or 400 (broken encoding)."""
    length = request.content_length
    if length is not None and length > limit_bytes:
        raise BodyError(413, f"limit is {limit_bytes}")
    content = request.content
    try:
        if content.is_eof():
            data = content.read_nowait()
        else:
            async with asyncio.timeout(timeout_s):
                data = await _collect(content, limit_bytes)
    except TimeoutError:
        raise BodyError(408, f"request body did not arrive within {timeout_s:g} seconds") from None
    except (RequestPayloadError, web.HTTPException) as error:
        raise BodyError(400, f"request body is broken: {error}") from error
    if len(data) > limit_bytes:
        raise BodyError(413, f"limit is {limit_bytes}")
    return data


async def _collect(content: StreamReader, limit_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while chunk := await content.readany():
        size += len(chunk)
        if size > limit_bytes:
            raise BodyError(413, f"limit is {limit_bytes}")
        chunks.append(chunk)
    return b"".join(chunks)
