"""SPDY frames and header blocks."""

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.web.streams import spdy_frames as wire
from orchestrator.web.streams.spdy_frames import SpdyError

TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)


def test_the_dictionary_is_the_protocols() -> None:
    """Every SPDY/3 zlib stream names it by this checksum."""
    assert len(wire.DICTIONARY) == 1423 and zlib.adler32(wire.DICTIONARY) == 0xE3C6A7C2


@settings(deadline=None)
@given(st.lists(st.dictionaries(TEXT.map(str.lower), TEXT), max_size=4))
def test_header_blocks_survive_one_after_the_other(blocks: list[dict[str, str]]) -> None:
    encoder, decoder = wire.HeaderEncoder(), wire.HeaderDecoder()
    assert [decoder.decode(encoder.encode(block)) for block in blocks] == blocks


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 99), st.binary(max_size=300), st.booleans())), st.integers(1, 50))
def test_frames_are_found_however_the_bytes_are_cut(frames: list[tuple[int, bytes, bool]], size: int) -> None:
    data = b"".join(wire.data_frame(*frame) for frame in frames)
    parser = wire.Parser()
    found = [frame for at in range(0, len(data), size) for frame in parser.feed(data[at : at + size])]
    assert found == [wire.DataFrame(*frame) for frame in frames]


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01",
        b"\x00\x00\x00\x01\x00\xff\xff\xff",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["version 2", "too large", "not SPDY"],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(SpdyError):
        wire.Parser().feed(data)


def test_a_frame_without_its_numbers_is_refused() -> None:
    (frame,) = wire.Parser().feed(wire.control_frame(wire.PING, b"\0"))
    assert isinstance(frame, wire.ControlFrame)
    with pytest.raises(SpdyError, match="too short"):
        frame.number(0)


@pytest.mark.parametrize("plain", [b"\0\0", b"\0\0\0\1\0\0\0\x09ab", b"\xff" * 12])
def test_a_header_block_that_lies_about_its_size_is_refused(plain: bytes) -> None:
    packer = zlib.compressobj(zdict=wire.DICTIONARY)
    block = packer.compress(plain) + packer.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(SpdyError):
        wire.HeaderDecoder().decode(block)


def test_a_header_block_that_explodes_is_refused() -> None:
    packer = zlib.compressobj(zdict=wire.DICTIONARY)
    block = packer.compress(bytes(10 << 20)) + packer.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(SpdyError, match="more than"):
        wire.HeaderDecoder().decode(block)
