"""The server's end of a WebSocket (RFC 6455) on a raw stream: handshake, frames, messages.

Pings are answered, fragments joined, everything from a client must be masked, and a message has at most
`MESSAGE_BYTES_MAX`. A peer that breaks the rules gets a close frame with the fitting code.
"""

import asyncio
import base64
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator.web.streams.channels import Duplex

GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MESSAGE_BYTES_MAX: Final = 1 << 20
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NORMAL, PROTOCOL_ERROR, TOO_BIG, INTERNAL_ERROR = 1000, 1002, 1009, 1011
CONTROL_BYTES_MAX: Final = 125


class WebSocketError(Exception):
    """The peer broke the protocol. `code` goes into the close frame."""

    def __init__(self, message: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Frame:
    opcode: int
    payload: bytes
    fin: bool = True


def accept_value(key: str) -> str:
    """`Sec-WebSocket-Accept` for the client's `Sec-WebSocket-Key`."""
    return base64.b64encode(hashlib.sha1((key + GUID).encode(), usedforsecurity=False).digest()).decode()


def choose(offered: Sequence[str], known: Sequence[str]) -> str | None:
    """The first of the client's subprotocols that we know, in the client's order."""
    return next((name for name in offered if name in known), None)


def unmask(data: bytes, mask: bytes) -> bytes:
    """XOR with the repeated mask, as one big number: Python has no faster way without libraries."""
    if not data:
        return data
    repeated = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "little") ^ int.from_bytes(repeated, "little")).to_bytes(len(data), "little")


def encode(opcode: int, payload: bytes) -> bytes:
    """A whole message as one unmasked frame."""
    size = len(payload)
    first = 0x80 | opcode
    if size < 126:
        return bytes((first, size)) + payload
    if size < 1 << 16:
        return struct.pack(">BBH", first, 126, size) + payload
    return struct.pack(">BBQ", first, 127, size) + payload


class Parser:
    """Bytes in, frames out. One per connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Frames that are complete now. Raises `WebSocketError`."""
        self._buffer += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        opcode, size, start = buffer[0] & 0x0F, buffer[1] & 0x7F, 2
        self._check(buffer[0], buffer[1], opcode, size)
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(buffer) < start:
                return None
            size = int.from_bytes(buffer[2:start], "big")
        if size > MESSAGE_BYTES_MAX:
            raise WebSocketError(f"frame of {size} bytes; at most {MESSAGE_BYTES_MAX}", TOO_BIG)
        end = start + 4 + size
        if len(buffer) < end:
            return None
        payload = unmask(bytes(buffer[start + 4 : end]), bytes(buffer[start : start + 4]))
        frame = Frame(opcode, payload, bool(buffer[0] & 0x80))
        del buffer[:end]
        return frame

    @staticmethod
    def _check(first: int, second: int, opcode: int, size: int) -> None:
        if first & 0x70:
            raise WebSocketError("reserved bits are set")
        if not second & 0x80:
            raise WebSocketError("a client's frame must be masked")
        if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise WebSocketError(f"opcode {opcode} is unknown")
        if opcode >= CLOSE and (not first & 0x80 or size > CONTROL_BYTES_MAX):
            raise WebSocketError("a control frame must be short and whole")


class WebSocket:
    """Messages over a raw stream whose handshake is done. One task receives; any may send."""

    def __init__(self, connection: Duplex) -> None:
        self._connection = connection
        self._parser = Parser()
        self._frames: list[Frame] = []
        self._parts: list[bytes] = []
        self._opcode = CONTINUATION
        self._sending = asyncio.Lock()
        self._closed = False

    async def receive(self) -> tuple[int, bytes] | None:
        """The next message as opcode (TEXT or BINARY) and bytes, None when the peer has gone or said so.

        Raises `WebSocketError`, after telling the peer.
        """
        try:
            while True:
                while self._frames:
                    frame = self._frames.pop(0)
                    if frame.opcode == CLOSE:
                        await self.close()
                        return None
                    message = await self._take(frame)
                    if message is not None:
                        return message
                data = await self._connection.read()
                if not data:
                    return None
                self._frames = self._parser.feed(data)
        except ConnectionError:
            return None
        except WebSocketError as error:
            await self.close(error.code, str(error))
            raise

    async def _take(self, frame: Frame) -> tuple[int, bytes] | None:
        if frame.opcode == PING:
            await self._send(encode(PONG, frame.payload))
            return None
        if frame.opcode == PONG:
            return None
        if (frame.opcode == CONTINUATION) == (not self._parts and self._opcode == CONTINUATION):
            raise WebSocketError("fragments are out of order")
        if frame.opcode != CONTINUATION:
            self._opcode = frame.opcode
        self._parts.append(frame.payload)
        if sum(map(len, self._parts)) > MESSAGE_BYTES_MAX or len(self._parts) > 4096:
            raise WebSocketError("message is too large", TOO_BIG)
        if not frame.fin:
            return None
        message = self._opcode, b"".join(self._parts)
        self._parts, self._opcode = [], CONTINUATION
        return message

    async def send(self, data: bytes, opcode: int = BINARY) -> None:
        """Send one message and wait for room. Raises `ConnectionError`."""
        if self._closed:
            raise ConnectionResetError("the WebSocket is closed")
        await self._send(encode(opcode, data))

    async def _send(self, frame: bytes) -> None:
        async with self._sending:
            self._connection.write(frame)
            await self._connection.drain()

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Send a close frame once; the caller closes the connection after the peer's answer."""
        if self._closed:
            return
        self._closed = True
        payload = struct.pack(">H", code) + reason.encode()[: CONTROL_BYTES_MAX - 2]
        try:
            await self._send(encode(CLOSE, payload))
        except ConnectionError:
            return
