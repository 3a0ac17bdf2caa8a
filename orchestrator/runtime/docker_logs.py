"""Container output as the engine kept it (json-file, rotated by the engine), as lines with times.

The engine sends one frame per message it stored: a time, a space and the text. A message without a newline at
its end is a piece of a longer line.
"""

from collections.abc import AsyncIterator
from typing import Any, Literal

import aiohttp

from orchestrator.runtime.docker_engine import Engine
from orchestrator.runtime.docker_streams import READ_BYTES_MAX, Frames
from orchestrator.runtime.interface import LogLine, LogOptions

LINE_BYTES_MAX = 262_144
"""What lies beyond this in one message is cut. The engine stores no message above 16 KiB and a time."""


async def lines(engine: Engine, container_id: str, tty: bool, options: LogOptions) -> AsyncIterator[LogLine]:
    """Lines of a container, oldest first. Raises `RuntimeUnavailable` when the engine breaks off."""
    params: dict[str, Any] = {
        "stdout": 1,
        "stderr": 1,
        "timestamps": 1,
        "follow": int(options.follow),
        "tail": "all" if options.tail_lines is None else str(options.tail_lines),
    }
    if options.since_s:
        params["since"] = f"{options.since_s:.9f}"
    async with engine.stream("GET", f"containers/{container_id}/logs", params=params) as content:
        messages = _raw_messages(content) if tty else _framed_messages(content)
        async for stream, message in messages:
            yield parse_message(stream, message)


def parse_message(stream: Literal["stdout", "stderr"], message: bytes) -> LogLine:
    """`2026-01-02T03:04:05.000000006Z text\\n` as a line."""
    time, _, text = message.partition(b" ")
    partial = not text.endswith(b"\n")
    return LogLine(stream, time.decode("latin-1"), text if partial else text[:-1], partial)


async def _framed_messages(
    content: aiohttp.StreamReader,
) -> AsyncIterator[tuple[Literal["stdout", "stderr"], bytes]]:
    frames = Frames(content)
    message = bytearray()
    while (piece := await frames.next()) is not None:
        message += piece[1][: LINE_BYTES_MAX - len(message)]
        if frames.complete:
            yield piece[0], bytes(message)
            message.clear()


async def _raw_messages(content: aiohttp.StreamReader) -> AsyncIterator[tuple[Literal["stdout"], bytes]]:
    rest = b""
    while data := await content.read(READ_BYTES_MAX):
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield "stdout", line + b"\n"
        if len(rest) > LINE_BYTES_MAX:
            yield "stdout", rest
            rest = b""
    if rest:
        yield "stdout", rest


async def collect(frames: Frames, size_max: int) -> bytes:
    """Both streams in order of arrival, up to `size_max`; what is beyond is read and dropped."""
    output = bytearray()
    while (piece := await frames.next()) is not None:
        output += piece[1][: size_max - len(output)]
    return bytes(output)
