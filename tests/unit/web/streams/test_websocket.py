"""The WebSocket's server end, frame by frame."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.web.streams import websocket
from orchestrator.web.streams.websocket import Frame, WebSocket, WebSocketError, unmask

MASK = b"\x01\x02\x03\x04"


def masked(opcode: int, payload: bytes, fin: bool = True) -> bytes:
    """A frame as a client sends it."""
    plain = websocket.encode(opcode, payload)
    start = len(plain) - len(payload)
    head = bytes((plain[0] & 0x7F | (0x80 if fin else 0), plain[1] | 0x80)) + plain[2:start]
    return head + MASK + unmask(payload, MASK)


def test_the_accept_value_is_that_of_the_rfc() -> None:
    assert websocket.accept_value("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@settings(deadline=None)
@given(st.binary(max_size=70), st.binary(min_size=4, max_size=4))
def test_unmasking_is_xor_and_undoes_itself(data: bytes, mask: bytes) -> None:
    expected = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
    assert unmask(data, mask) == expected and unmask(expected, mask) == data


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
@pytest.mark.parametrize("cut", [1, 7, 1 << 20])
def test_frames_of_every_size_are_found_however_the_bytes_are_cut(size: int, cut: int) -> None:
    if cut == 1 and size > 1000:
        cut = 1000
    data = masked(websocket.BINARY, bytes(size)) + masked(websocket.TEXT, b"next")
    parser = websocket.Parser()
    found = [frame for at in range(0, len(data), cut) for frame in parser.feed(data[at : at + cut])]
    assert found == [Frame(websocket.BINARY, bytes(size)), Frame(websocket.TEXT, b"next")]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (websocket.encode(websocket.BINARY, b"bare"), websocket.PROTOCOL_ERROR),
        (masked(3, b""), websocket.PROTOCOL_ERROR),
        (masked(websocket.PING, bytes(126)), websocket.PROTOCOL_ERROR),
        (masked(websocket.PING, b"", fin=False), websocket.PROTOCOL_ERROR),
        (b"\xc2\x80" + MASK, websocket.PROTOCOL_ERROR),
        (b"\x82\xff" + (1 << 40).to_bytes(8, "big"), websocket.TOO_BIG),
        (masked(websocket.CONTINUATION, b"x"), websocket.PROTOCOL_ERROR),
        (masked(websocket.TEXT, b"a", fin=False) + masked(websocket.TEXT, b"b"), websocket.PROTOCOL_ERROR),
    ],
    ids=["unmasked", "opcode", "long ping", "split ping", "reserved", "huge", "continues nothing", "new"],
)
async def test_a_peer_that_breaks_the_rules_is_told_and_left(wire, data: bytes, code: int) -> None:  # type: ignore[no-untyped-def]
    wire.feed(data)
    with pytest.raises(WebSocketError):
        await WebSocket(wire).receive()
    sent = wire.take()
    assert sent[0] == 0x80 | websocket.CLOSE and int.from_bytes(sent[2:4], "big") == code


async def test_fragments_are_joined_and_pings_between_them_answered(wire) -> None:  # type: ignore[no-untyped-def]
    wire.feed(masked(websocket.BINARY, b"one ", fin=False) + masked(websocket.PING, b"?"))
    wire.feed(masked(websocket.CONTINUATION, b"", fin=False) + masked(websocket.CONTINUATION, b"two"))
    assert await WebSocket(wire).receive() == (websocket.BINARY, b"one two")
    assert wire.take() == websocket.encode(websocket.PONG, b"?")


async def test_a_close_is_answered_once(wire) -> None:  # type: ignore[no-untyped-def]
    socket = WebSocket(wire)
    wire.feed(masked(websocket.CLOSE, b"\x03\xe8"))
    assert await socket.receive() is None
    await socket.close()
    assert wire.take() == websocket.encode(websocket.CLOSE, b"\x03\xe8")
    with pytest.raises(ConnectionError):
        await socket.send(b"late")
