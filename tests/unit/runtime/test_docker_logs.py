"""Frames in which the engine multiplexes output, cut anywhere."""

import asyncio
import struct

import pytest

from orchestrator.runtime.docker_logs import collect, parse_message
from orchestrator.runtime.docker_streams import READ_BYTES_MAX, Frames
from orchestrator.runtime.interface import LogLine, RuntimeUnavailable


def frame(kind: int, data: bytes) -> bytes:
    return struct.pack(">BxxxL", kind, len(data)) + data


def reader(data: bytes) -> asyncio.StreamReader:
    stream = asyncio.StreamReader()
    stream.feed_data(data)
    stream.feed_eof()
    return stream


async def test_frames_keep_streams_apart_and_skip_empty_ones() -> None:
    frames = Frames(reader(frame(1, b"out") + frame(1, b"") + frame(2, b"err")))
    assert [await frames.next() for _ in range(3)] == [("stdout", b"out"), ("stderr", b"err"), None]


async def test_a_large_frame_comes_in_pieces() -> None:
    frames = Frames(reader(frame(2, bytes(READ_BYTES_MAX + 1))))
    sizes = [(len(piece[1]), frames.complete) for _ in range(2) if (piece := await frames.next())]
    assert sizes == [(READ_BYTES_MAX, False), (1, True)]


@pytest.mark.parametrize("cut", [3, 9])
async def test_an_end_inside_a_frame_is_a_broken_engine(cut: int) -> None:
    frames = Frames(reader(frame(1, b"hello")[:cut]))
    with pytest.raises(RuntimeUnavailable):
        await frames.next()


async def test_collected_output_is_bounded() -> None:
    assert await collect(Frames(reader(frame(1, b"abc") + frame(2, b"def"))), 4) == b"abcd"


def test_a_message_is_a_time_and_a_line() -> None:
    assert parse_message("stdout", b"2026-01-02T03:04:05.6Z a line\n") == LogLine(
        "stdout", "2026-01-02T03:04:05.6Z", b"a line"
    )
    assert parse_message("stderr", b"2026-01-02T03:04:05.6Z half").partial
