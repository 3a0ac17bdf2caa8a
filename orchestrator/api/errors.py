"""API errors, one class per Kubernetes `Status` reason. Raised anywhere, turned into a response in `server`.

Source of codes and reasons: the `metav1.Status` type of Kubernetes v1.36.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from orchestrator.base.errors import OrchestratorError

CAUSES_MAX = 100
"""A small body can hold tens of thousands of faults; nobody reads an answer of many megabytes."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason why an object was refused. `reason` is a `CauseType` such as `FieldValueInvalid`."""

    reason: str
    message: str
    field: str

    def to_json(self) -> dict[str, str]:
        return {"reason": self.reason, "message": self.message, "field": self.field}


class ApiError(OrchestratorError):
    """An answer with a `Status` body. Subclasses fix code and reason."""

    code: ClassVar[int] = 500
    reason: ClassVar[str] = "InternalError"

    def __init__(
        self,
        message: str,
        *,
        group: str = "",
        kind: str = "",
        name: str = "",
        causes: tuple[Cause, ...] = (),
        retry_after_s: int | None = None,
    ) -> None:
        """`kind` is the plural resource name except in `Invalid`, where it is the kind (as Kubernetes does)."""
        super().__init__(message)
        self.message = message
        self.group = group
        self.kind = kind
        self.name = name
        self.causes = causes
        self.retry_after_s = retry_after_s

    def status(self) -> dict[str, Any]:
        """The `Status` object of this error."""
        details: dict[str, Any] = {}
        if self.name:
            details["name"] = self.name
        if self.group:
            details["group"] = self.group
        if self.kind:
            details["kind"] = self.kind
        if self.causes:
            details["causes"] = [cause.to_json() for cause in self.causes]
        if self.retry_after_s is not None:
            details["retryAfterSeconds"] = self.retry_after_s
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if details:
            status["details"] = details
        return status


class BadRequest(ApiError):
    code, reason = 400, "BadRequest"


class Unauthorized(ApiError):
    code, reason = 401, "Unauthorized"


class Forbidden(ApiError):
    code, reason = 403, "Forbidden"


class NotFound(ApiError):
    code, reason = 404, "NotFound"


class MethodNotAllowed(ApiError):
    code, reason = 405, "MethodNotAllowed"


class NotAcceptable(ApiError):
    code, reason = 406, "NotAcceptable"


class Conflict(ApiError):
    code, reason = 409, "Conflict"


class AlreadyExists(ApiError):
    code, reason = 409, "AlreadyExists"


class Expired(ApiError):
    """The asked revision is compacted, or a watcher fell behind: list again."""

    code, reason = 410, "Expired"
    continue_token: str = ""
    """Where a client may go on with a list that is no longer consistent."""

    def status(self) -> dict[str, Any]:
        status = super().status()
        if self.continue_token:
            status["metadata"] = {"continue": self.continue_token}
        return status


class RequestEntityTooLarge(ApiError):
    code, reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(ApiError):
    code, reason = 415, "UnsupportedMediaType"


class Invalid(ApiError):
    """The object is understood but breaks a rule; `causes` name the fields."""

    code, reason = 422, "Invalid"


class TooManyRequests(ApiError):
    code, reason = 429, "TooManyRequests"


class InternalError(ApiError):
    code, reason = 500, "InternalError"


class ServiceUnavailable(ApiError):
    code, reason = 503, "ServiceUnavailable"


class Timeout(ApiError):
    """The request took too long, or asked for a revision that does not exist yet (504, as Kubernetes)."""

    code, reason = 504, "Timeout"


class InsufficientStorage(ApiError):
    """The log can't allocate a segment; the same request works once there is space."""

    code, reason = 507, "InsufficientStorage"


def not_found(group: str, plural: str, name: str) -> NotFound:
    """`pods "x" not found`, with the details that clients test for."""
    qualified = f"{plural}.{group}" if group else plural
    return NotFound(f'{qualified} "{name}" not found', group=group, kind=plural, name=name)


def already_exists(group: str, plural: str, name: str) -> AlreadyExists:
    """`pods "x" already exists`."""
    qualified = f"{plural}.{group}" if group else plural
    return AlreadyExists(f'{qualified} "{name}" already exists', group=group, kind=plural, name=name)


def conflict(group: str, plural: str, name: str, why: str) -> Conflict:
    """`Operation cannot be fulfilled on pods "x": …` — the text that clients show."""
    qualified = f"{plural}.{group}" if group else plural
    return Conflict(
        f'Operation cannot be fulfilled on {qualified} "{name}": {why}', group=group, kind=plural, name=name
    )


def invalid(group: str, kind: str, name: str, causes: tuple[Cause, ...]) -> Invalid:
    """`Pod "x" is invalid: [spec.a: …, spec.b: …]` with one cause per field, for the first `CAUSES_MAX`."""
    causes = causes[:CAUSES_MAX]
    parts = [f"{cause.field}: {cause.message}" for cause in causes]
    text = parts[0] if len(parts) == 1 else "[" + ", ".join(parts) + "]"
    qualified = f"{kind}.{group}" if group else kind
    return Invalid(
        f'{qualified} "{name}" is invalid: {text}', group=group, kind=kind, name=name, causes=causes
    )
