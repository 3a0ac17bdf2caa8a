"""Whether a server has the data directory, and how the command line talks to it. Called by `cli` only."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.api.errors import ApiError
from orchestrator.api.item import Object
from orchestrator.base.errors import StartupError
from orchestrator.client.https import HttpsClient
from orchestrator.config import Config
from orchestrator.pki.kubeconfig import connection
from orchestrator.store.disk import Disk

REQUEST_DEADLINE_S = 600.0
"""A rewrite of a large store takes minutes on a slow disk."""


def is_running(data_dir: Path) -> bool:
    """Whether a server holds the log store in `data_dir`."""
    path = data_dir / "store" / "LOCK"
    if not path.exists():
        return False
    try:
        os.close(Disk().lock(path))
    except BlockingIOError:
        return True
    except OSError as error:
        raise StartupError(
            f"{path} can't be opened: {error.strerror}.", "Run as the server's user."
        ) from error
    return False


@contextmanager
def stopped(data_dir: Path) -> Iterator[None]:
    """Hold the lock of the store in `data_dir`, if there is one. Raises `StartupError` while a server has it."""
    path = data_dir / "store" / "LOCK"
    if not path.parent.exists():
        yield
        return
    try:
        lock = Disk().lock(path)
    except BlockingIOError as error:
        raise StartupError(
            f"A server is running with the data directory {data_dir}.",
            "Stop it first: systemctl stop orchestrator, or kill $(cat /run/orchestrator/orchestrator.pid).",
        ) from error
    except OSError as error:
        raise StartupError(
            f"{path} can't be opened: {error.strerror}.", "Run as the server's user."
        ) from error
    try:
        yield
    finally:
        os.close(lock)


async def ask(config: Config, method: str, path: str) -> Object:
    """One request to the running server as its admin. Raises `StartupError` with the server's words."""
    try:
        server, context = connection(config.write_kubeconfig)
    except StartupError as error:
        raise StartupError(
            error.cause, "Name the one that the running server wrote with --kubeconfig."
        ) from error
    client = HttpsClient(server, context)
    try:
        return await client.call(method, path, deadline_s=REQUEST_DEADLINE_S)
    except ApiError as error:
        raise StartupError(
            f"The server at {server} answers: {error.message.rstrip('.')}.",
            f"See its log. If {config.write_kubeconfig} belongs to another server, name the right one "
            "with --kubeconfig.",
        ) from error
    finally:
        await client.close()
