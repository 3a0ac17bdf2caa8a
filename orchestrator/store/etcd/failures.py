"""From etcd's errors to the store's. Source: etcd, api/v3rpc/rpctypes/error.go. Pure."""

from orchestrator.store.interface import (
    CompactedError,
    FutureRevisionError,
    LeaseNotFoundError,
    NoSpaceError,
    StoreError,
    TooLargeError,
    UnavailableError,
    UnknownOutcomeError,
)
from orchestrator.wire.grpc import GrpcError


class AccessError(StoreError):
    """etcd does not let us: wrong user or password, or its role lacks a permission."""


class LostDataError(UnavailableError):
    """etcd is behind what it has answered before: it lost data, or an older backup was restored into it."""

    def __init__(self, revision: int, before: int) -> None:
        super().__init__(
            f"etcd lost data: it is at revision {revision}, after {before} before. "
            "Was its data directory removed, or a backup restored into it?"
        )


TOO_LARGE_HELP = (
    "etcd takes requests of 1.5 MiB and 128 operations unless it is started with "
    "--max-request-bytes and --max-txn-ops; this server sends values of up to 3 MiB"
)
TOKEN_REFUSED = ("invalid auth token", "revision of auth store is old")
"""The request was refused before anything was done; a new token helps."""

_BEFORE_ANYTHING = (
    "too many requests",
    "no leader",
    "not capable",
    "is a learner",
    "rpc not supported for learner",
)
"""etcd says so instead of carrying a request out."""

_KINDS: tuple[tuple[str, type[StoreError]], ...] = (
    ("required revision is a future revision", FutureRevisionError),
    ("database space exceeded", NoSpaceError),
    ("requested lease not found", LeaseNotFoundError),
    ("request is too large", TooLargeError),
    ("too many operations in txn request", TooLargeError),
    ("message larger than max", TooLargeError),
    ("permission denied", AccessError),
    ("authentication failed", AccessError),
    ("user name is empty", AccessError),
    ("authentication is not enabled", AccessError),
    ("invalid auth token", AccessError),
)

_LOST = frozenset(("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN", "INTERNAL", "ABORTED"))
"""Codes of calls that ended without an answer about what was done."""


def refused_token(error: GrpcError) -> bool:
    return any(text in error.details for text in TOKEN_REFUSED)


def no_answer(error: GrpcError) -> bool:
    """Whether the server said nothing about the request, so that another one may do better."""
    return error.code in _LOST or "too many requests" in error.details


def store_error(error: GrpcError, *, write: bool) -> StoreError:
    """What a failed call means; `write` is set for calls that change something."""
    if "required revision has been compacted" in error.details:
        return CompactedError(0)
    for text, kind in _KINDS:
        if text in error.details and kind is TooLargeError:
            return TooLargeError(f"etcd: {error.details}. {TOO_LARGE_HELP}")
        if text in error.details:
            return kind(f"etcd: {error.details}")
    if error.code == "UNAUTHENTICATED" or error.code == "PERMISSION_DENIED":
        return AccessError(f"etcd: {error.details}")
    if not no_answer(error):
        return StoreError(f"etcd refuses the request: {error.code}: {error.details}")
    if write and error.sent and not any(text in error.details for text in _BEFORE_ANYTHING):
        return UnknownOutcomeError(f"etcd gave no answer, the write may have been made: {error}")
    return UnavailableError(f"etcd does not answer: {error}")
