"""`/logs/`: the host's log directory, for whoever may read `nodes/log`. Off unless it is configured.

A path never leaves the directory: each part is opened relative to the one before, without following links.
Called by `routes`.
"""

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from orchestrator.api.errors import NotFound
from orchestrator.web.answer import header

BLOCK_BYTES = 65_536
HTML = header("Content-Type", "text/html; charset=utf-8")


def look(root: Path, parts: Sequence[str]) -> bytes | int:
    """A page that lists a directory, or the descriptor of a file, which is the caller's. Raises `NotFound`."""
    try:
        descriptor = _open(root, parts)
        try:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISREG(mode):
                return descriptor
            if not stat.S_ISDIR(mode):
                raise NotFound("404 page not found")
            page = _listing(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
    except OSError:
        raise NotFound("404 page not found") from None
    os.close(descriptor)
    return page


def _open(root: Path, parts: Sequence[str]) -> int:
    current = os.open(root, os.O_RDONLY | os.O_CLOEXEC)
    for part in parts:
        if part in (".", "..") or "\0" in part or "/" in part:
            os.close(current)
            raise NotFound("404 page not found")
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            below = os.open(part, flags, dir_fd=current)
        finally:
            os.close(current)
        current = below
    return current


def _listing(descriptor: int) -> bytes:
    names = []
    with os.scandir(descriptor) as entries:
        for entry in entries:
            names.append(entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name)
    rows = [f'<a href="{quote(name)}">{escape(name)}</a>' for name in sorted(names)]
    return ("<pre>\n" + "\n".join(rows) + "\n</pre>\n").encode()


async def read(descriptor: int) -> AsyncIterator[bytes]:
    """The file's bytes; closes it."""
    try:
        while block := await asyncio.to_thread(os.read, descriptor, BLOCK_BYTES):
            yield block
    finally:
        os.close(descriptor)
