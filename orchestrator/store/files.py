"""Files and threads: a file that may still be read when the log has no more use for it, and waiting for a thread."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.store.disk import Disk


class PinnedFile:
    """Owner of a descriptor. `pin`, `unpin` and `close` are called on the loop, reads from any thread between."""

    def __init__(self, disk: Disk, path: Path, fd: int) -> None:
        self.disk = disk
        self.path = path
        self.fd = fd
        self._pins = 0
        self._closing = False

    def pin(self) -> None:
        self._pins += 1

    def unpin(self) -> None:
        self._pins -= 1
        if self._closing and not self._pins:
            self._close()

    def close(self) -> None:
        """Give the descriptor back once nobody reads; may be called twice."""
        self._closing = True
        if not self._pins:
            self._close()

    def _close(self) -> None:
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            self.disk.close(fd)


async def finish(future: asyncio.Future[Any]) -> None:
    """Wait for work in a thread to its end even if cancelled, since the thread goes on with our files."""
    try:
        await asyncio.wait([future])
    except asyncio.CancelledError:
        while not future.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([future])
        if not future.cancelled():
            future.exception()  # Nobody else will look at it.
        raise
    await future
