"""From a `Status` body back to the error that it was. The counterpart of `ApiError.status`."""

import msgspec

from orchestrator.api.errors import ApiError, Cause, InternalError

_BY_REASON = {kind.reason: kind for kind in ApiError.__subclasses__()}
_BY_CODE = {kind.code: kind for kind in reversed(ApiError.__subclasses__())}


class _Cause(msgspec.Struct):
    reason: str = ""
    message: str = ""
    field: str = ""


class _Details(msgspec.Struct, rename="camel"):
    name: str = ""
    group: str = ""
    kind: str = ""
    causes: tuple[_Cause, ...] = ()
    retry_after_seconds: int | None = None


class _Status(msgspec.Struct):
    message: str = ""
    reason: str = ""
    code: int = 0
    details: _Details | None = None


def error_of(code: int, body: bytes) -> ApiError:
    """The error of a response with status `code`. A body that is no `Status` becomes the message."""
    try:
        status = msgspec.json.decode(body, type=_Status)
    except (msgspec.DecodeError, UnicodeDecodeError):
        status = _Status(message=body[:512].decode(errors="replace"))
    kind = _BY_REASON.get(status.reason) or _BY_CODE.get(code) or InternalError
    details = status.details or _Details()
    return kind(
        status.message or f"the server answered {code}",
        group=details.group,
        kind=details.kind,
        name=details.name,
        causes=tuple(Cause(cause.reason, cause.message, cause.field) for cause in details.causes),
        retry_after_s=details.retry_after_seconds,
    )
