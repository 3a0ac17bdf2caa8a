"""Work inside another network namespace from a thread, without a process per namespace.

A netlink socket belongs to the namespace in which it was created, so a thread enters the namespace, creates what it
needs and returns; the socket stays usable afterwards. Only ever called on a worker thread of the pod network:
the namespace of the event loop's thread must never change.
"""

import contextlib
import ctypes
import os
import threading
from collections.abc import Iterator

from orchestrator.network.dataplane.interface import NetworkError

CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


class NamespaceLost(BaseException):
    """The thread could not return to its namespace and must not be used again. Ends the thread's pool."""


def open_namespace(path: str) -> int:
    """A descriptor of the namespace at `path`; the caller closes it. Raises `NetworkError`."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NetworkError(f"network namespace {path}: {error.strerror}.") from error


@contextlib.contextmanager
def inside(descriptor: int) -> Iterator[None]:
    """Run the body in the namespace of `descriptor`; the thread is back in its own when the body ends."""
    if threading.current_thread() is threading.main_thread():
        raise RuntimeError("the main thread must not change its network namespace")
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(descriptor)
        try:
            yield
        finally:
            _return(own)
    finally:
        os.close(own)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise NetworkError(f"entering a network namespace: {os.strerror(ctypes.get_errno())}.")


def _return(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise NamespaceLost(f"returning to the host's network namespace: {os.strerror(ctypes.get_errno())}")
