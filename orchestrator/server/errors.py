"""Errors as answers: an `ApiError` becomes its `Status`, anything else a 500 that tells nothing but an id."""

import itertools
import os

import msgspec
import structlog

from orchestrator.api.errors import ApiError, NotFound, RequestEntityTooLarge, Unauthorized
from orchestrator.web.answer import JSON, Answer, header
from orchestrator.web.body import BodyError

log = structlog.get_logger(__name__)

NO_CACHE = b"Cache-Control: no-cache, private\r\n"
HEADERS = JSON + NO_CACHE

_encode = msgspec.json.Encoder().encode
_ids = itertools.count(1)
_process = os.urandom(4).hex()


def status_answer(error: ApiError) -> Answer:
    """The answer with the error's `Status`."""
    headers = HEADERS
    if error.retry_after_s is not None:
        headers += header("Retry-After", str(error.retry_after_s))
    if isinstance(error, Unauthorized):
        headers += header("WWW-Authenticate", 'Bearer realm="kubernetes"')
    # What is left of a body that was too large to read can't be skipped safely.
    return Answer(error.code, status_body(error), headers, close=isinstance(error, RequestEntityTooLarge))


def status_body(error: ApiError) -> bytes:
    """The `Status` object as JSON."""
    return _encode(error.status())


def unexpected_answer(error: Exception, method: str, path: str) -> Answer:
    """500 for a bug: logged here, once, with the id that the client sees."""
    request_id = f"{_process}-{next(_ids)}"
    log.error("request failed", request=request_id, method=method, path=path, exc_info=error)
    return status_answer(ApiError(f"an unexpected error occurred; the server's log has it as {request_id}"))


def body_answer(error: BodyError) -> Answer:
    """The answer to a body that could not be read."""
    if error.status == 413:
        return status_answer(RequestEntityTooLarge(f"Request entity too large: {error.message}"))
    reason = {400: "BadRequest", 408: "Timeout"}[error.status]
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": error.message,
        "reason": reason,
        "code": error.status,
    }
    return Answer(error.status, _encode(status), HEADERS, close=True)


def unknown_resource() -> NotFound:
    """For paths below `/api` and `/apis` that name nothing that is served."""
    return NotFound("the server could not find the requested resource")
