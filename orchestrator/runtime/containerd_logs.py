"""Reading the log files that the keeper writes: the tail, since a time, following through rotations.

A record is `TIME STREAM TAG TEXT`; times are UTC with nine digits, so they compare as text. Files are read in
blocks off the loop. Called by `containerd`.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from orchestrator.runtime.interface import LogLine, LogOptions

BLOCK_BYTES = 262_144
FOLLOW_S = 0.05
"""How soon a follower looks again; a look is one read of nothing."""


def files(path: Path) -> list[Path]:
    """The log's files, oldest first; the current one is last."""
    try:
        names = sorted(name for name in os.listdir(path.parent) if name.startswith(path.name + "."))
    except FileNotFoundError:
        return []
    return [*(path.parent / name for name in names), *([path] if path.exists() else [])]


async def lines(
    path: Path, options: LogOptions, going_on: Callable[[], bool], pause: Callable[[float], Awaitable[None]]
) -> AsyncIterator[LogLine]:
    """Lines of a log, oldest first. `going_on` tells a follower whether more may come; `pause` sleeps."""
    since = stamp(options.since_s) if options.since_s else ""
    opened = await asyncio.to_thread(_open_from, path, options.tail_lines)
    try:
        while opened:
            more = options.follow and going_on()
            async for record in _records(opened[0]):
                line = parse(record)
                if line is not None and line.time >= since:
                    yield line
            if len(opened) > 1:
                opened.pop(0).close()
            elif (newer := await asyncio.to_thread(_newer, path, opened[0])) is not None:
                opened.append(newer)
            elif not more:
                return
            else:
                await pause(FOLLOW_S)
    finally:
        for file in opened:
            file.close()


async def _records(file: BinaryIO) -> AsyncIterator[bytes]:
    """Whole records from where the file stands to its end now."""
    while block := await asyncio.to_thread(_read_whole, file):
        for record in block:
            yield record


def _read_whole(file: BinaryIO) -> list[bytes]:
    """The next records; half of one at the end of the file is left for later."""
    start = file.tell()
    block = file.read(BLOCK_BYTES)
    whole, newline, _ = block.rpartition(b"\n")
    file.seek(start + len(whole) + len(newline))
    return whole.split(b"\n") if newline else []


def _open_from(path: Path, tail: int | None) -> list[BinaryIO]:
    """The files from which to read, the first one standing at the first wanted record."""
    opened: list[BinaryIO] = []
    wanted = tail
    for each in reversed(files(path)):
        try:
            file = each.open("rb")
        except FileNotFoundError:
            continue
        opened.insert(0, file)
        if wanted is not None:
            wanted -= _seek_tail(file, wanted)
            if wanted <= 0:
                break
    return opened


def _seek_tail(file: BinaryIO, wanted: int) -> int:
    """Stand before the last `wanted` records; returns how many there are behind that place."""
    position, found = file.seek(0, os.SEEK_END), 0
    if wanted <= 0:
        return 0
    while position > 0:
        size = min(BLOCK_BYTES, position)
        position -= size
        file.seek(position)
        block = file.read(size)
        end = len(block)
        while (at := block.rfind(b"\n", 0, end)) >= 0:
            if found == wanted:
                file.seek(position + at + 1)
                return found
            found, end = found + 1, at
    file.seek(0)
    return found


def _newer(path: Path, current: BinaryIO) -> BinaryIO | None:
    """The file that has taken the place of `current` under the log's name, if one has."""
    try:
        if path.stat().st_ino == os.fstat(current.fileno()).st_ino:
            return None
        return path.open("rb")
    except FileNotFoundError:
        return None


def parse(record: bytes) -> LogLine | None:
    """One record; None for what is none."""
    time, _, rest = record.partition(b" ")
    stream, _, rest = rest.partition(b" ")
    tag, separator, text = rest.partition(b" ")
    if not separator or stream not in (b"stdout", b"stderr"):
        return None
    name = "stdout" if stream == b"stdout" else "stderr"
    return LogLine(name, time.decode("latin-1"), text, tag.startswith(b"P"))  # type: ignore[arg-type]


def stamp(time_s: float) -> str:
    """A time as records have it."""
    whole = int(time_s)
    text = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{int((time_s - whole) * 1e9):09d}Z"
