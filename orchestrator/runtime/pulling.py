"""Why a pull failed, in words that tell a user what to do. Used by every runtime that fetches images."""

from orchestrator.runtime.interface import ImageNotFound, RuntimeFailure
from orchestrator.runtime.references import Reference

NOT_FOUND = ("not found", "manifest unknown", "does not exist", "no such image", "name unknown")
DENIED = ("denied", "unauthorized", "authentication required", "no basic auth", "forbidden")
UNREACHABLE = (
    "connection refused",
    "no such host",
    "i/o timeout",
    "network is unreachable",
    "no route to host",
    "tls handshake timeout",
    "client.timeout exceeded",
    "server misbehaving",
    "deadline exceeded",
    "eof",
)


def pull_failure(reference: Reference, words: str) -> RuntimeFailure:
    """The failure to raise: `ImageNotFound` where asking again won't help by itself."""
    low = words.lower()
    start = f'failed to pull image "{reference.familiar}" from {reference.registry}'
    if any(mark in low for mark in DENIED):
        return ImageNotFound(f"{start}: access denied, or it does not exist and needs a login: {words}")
    if any(mark in low for mark in NOT_FOUND):
        return ImageNotFound(f"{start}: not found: {words}")
    if any(mark in low for mark in UNREACHABLE):
        return RuntimeFailure(f"{start}: the registry can't be reached: {words}", "ErrImagePull")
    return RuntimeFailure(f"{start}: {words}", "ErrImagePull")
