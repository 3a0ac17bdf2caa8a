"""Reading the log files that the keeper writes: the tail, since a time, following through rotations.

A record is `TIME STREAM TAG TEXT`; times are UTC with nine digits, so they compare as text. Files are read in
blocks off the loop; a compressed part is unpacked into a nameless file first. A reader that falls behind goes on
through the parts that were rotated away meanwhile, as far as they are kept. Called by `containerd`.
"""

import asyncio
import gzip
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, cast

from orchestrator.runtime.containerd_keeper import GZIP, parts
from orchestrator.runtime.interface import LogLine, LogOptions

BLOCK_BYTES = 262_144
FOLLOW_S = 0.05
"""How soon a follower looks again; a look is one read of nothing."""
TIME_BYTES = 30


def files(path: Path) -> list[Path]:
    """Everything on disk of a log, oldest first; the current file is last."""
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
            elif newer := await asyncio.to_thread(_newer, path, opened[0]):
                opened += newer
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
    current, older = _open_current(path)
    if current is None:
        return []
    found: list[BinaryIO | str] = [current, *reversed(older)]
    for each in found:
        file = _open(each) if isinstance(each, str) else each
        if file is None:
            continue
        opened.insert(0, file)
        if wanted is not None:
            wanted -= _seek_tail(file, wanted)
            if wanted <= 0:
                break
    return opened


def _open_current(path: Path) -> tuple[BinaryIO | None, list[str]]:
    """The file under the log's name, and the names of what was rotated away before it: none in between is missed."""
    try:
        before = parts(str(path))
        while True:
            file = path.open("rb")
            after = parts(str(path))
            if after[-1:] == before[-1:]:
                return file, after
            file.close()
            before = after
    except FileNotFoundError:
        return None, []


def _open(part: str) -> BinaryIO | None:
    """A part that was rotated away, compressed or not; None for one that is gone."""
    for name in (part, part + GZIP):
        try:
            return open(name, "rb") if name == part else _unpacked(name)
        except FileNotFoundError:
            continue
    return None


def _unpacked(name: str) -> BinaryIO:
    # The caller closes it, as it does with the others.
    file = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115
    try:
        with gzip.open(name) as packed:
            shutil.copyfileobj(packed, file, BLOCK_BYTES)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


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


def _newer(path: Path, current: BinaryIO) -> list[BinaryIO]:
    """What has come after `current`, which was the log's file: nothing while it still is."""
    try:
        if path.stat().st_ino == os.fstat(current.fileno()).st_ino:
            return []
    except FileNotFoundError:
        return []
    mine = _first_time(current)
    newest, older = _open_current(path)
    opened = [newest] if newest is not None else []
    for part in reversed(older):
        file = _open(part)
        if file is None:
            continue
        if _first_time(file) <= mine:
            file.close()
            break
        opened.insert(0, file)
    return opened


def _first_time(file: BinaryIO) -> bytes:
    """When a file begins, without moving in it."""
    return os.pread(file.fileno(), TIME_BYTES, 0)


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
