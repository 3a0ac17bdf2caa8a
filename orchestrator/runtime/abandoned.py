"""What becomes of an exec whose client has gone before its end. Called by the real runtimes.

As when a terminal is shut, or the reader of a pipe ends: a process on a terminal gets SIGHUP at once, any other
SIGPIPE when it writes something. What is silent goes on (a migration that somebody started), what ignores its signal
too; either way its output is read and dropped, so that it never hangs on a pipe that nobody empties.
"""

import signal
from collections.abc import Awaitable, Callable

import structlog

from orchestrator.runtime.interface import RuntimeFailure

log = structlog.get_logger(__name__)


async def outlive(
    read: Callable[[], Awaitable[object | None]],
    send: Callable[[signal.Signals], Awaitable[None]],
    *,
    tty: bool,
) -> None:
    """Until its output ends. `read` and `send` may raise `RuntimeFailure`: the engine knows nothing of it any more."""
    try:
        if tty:
            await send(signal.SIGHUP)
        told = tty
        while await read() is not None:
            if not told:
                told = True
                await send(signal.SIGPIPE)
    except (RuntimeFailure, TimeoutError) as error:
        log.debug("an abandoned exec can't be followed", error=str(error))
