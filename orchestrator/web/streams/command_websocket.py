"""Exec and attach over a WebSocket: the first byte of a message names the channel.

Channels are 0 stdin, 1 stdout, 2 stderr, 3 error, 4 resize; in the base64 protocols the first character is the
channel's digit and the rest base64. Version 5 adds 255, whose second byte names a channel that has ended: the
only way to end stdin.
"""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator
from typing import Any

from orchestrator.web.streams import websocket
from orchestrator.web.streams.channels import Inbox, Resizes, status_bytes
from orchestrator.web.streams.websocket import WebSocket, WebSocketError

PROTOCOLS = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "",
)
STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
END = 255
WRITE_BYTES_MAX = 32_768


class Channels:
    """Messages of a channel protocol on a WebSocket: encodes, decodes, sends."""

    def __init__(self, socket: WebSocket, protocol: str) -> None:
        self._socket = socket
        self._base64 = "base64" in protocol
        self.ends_channels = protocol.startswith("v5.")

    async def receive(self) -> tuple[int, bytes] | None:
        """The next message as channel and bytes, None at the end. Raises `WebSocketError`."""
        while (message := await self._socket.receive()) is not None:
            data = message[1]
            if not data:
                continue
            if not self._base64:
                return data[0], data[1:]
            try:
                return data[0] - ord("0"), base64.b64decode(data[1:], validate=True)
            except binascii.Error:
                raise WebSocketError("the message is not base64") from None
        return None

    async def send(self, channel: int, data: bytes) -> None:
        """Send in messages of moderate size. Raises `ConnectionError`."""
        for start in range(0, len(data) or 1, WRITE_BYTES_MAX):
            piece = data[start : start + WRITE_BYTES_MAX]
            if self._base64:
                await self._socket.send(b"%d" % channel + base64.b64encode(piece), websocket.TEXT)
            else:
                await self._socket.send(bytes((channel,)) + piece)

    async def close(self) -> None:
        """Send the close frame."""
        await self._socket.close()


class WebSocketCommand:
    """`channels.RemoteCommand` on a WebSocket. Somebody has to `run` it."""

    def __init__(
        self, socket: WebSocket, protocol: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> None:
        self._socket = socket
        self._channels = Channels(socket, protocol)
        self._wanted = {STDIN: stdin, STDOUT: stdout, STDERR: stderr and not tty, RESIZE: tty, ERROR: True}
        self._status_as_json = protocol.startswith(("v4.", "v5."))
        self._stdin = Inbox()
        self._resize = Inbox()
        self._gone = asyncio.Event()
        if not stdin:
            self._stdin.discard()
        if not tty:
            self._resize.discard()

    async def greet(self) -> None:
        """An empty message on the first channel that we write tells the client that we are ready."""
        first = next(channel for channel in (STDOUT, STDERR, ERROR) if self._wanted[channel])
        await self._channels.send(first, b"")

    async def run(self) -> None:
        """Receive until the client has gone. Raises `WebSocketError`."""
        try:
            while (message := await self._channels.receive()) is not None:
                channel, data = message
                if channel == STDIN:
                    await self._stdin.feed(data)
                elif channel == RESIZE:
                    await self._resize.feed(data)
                elif channel == END and self._channels.ends_channels and data == bytes((STDIN,)):
                    self._stdin.end()
        finally:
            self._gone.set()
            self._stdin.end()
            self._resize.end()

    async def stdin(self) -> bytes:
        return await self._stdin.read()

    async def write_stdout(self, data: bytes) -> None:
        if self._wanted[STDOUT]:
            await self._channels.send(STDOUT, data)

    async def write_stderr(self, data: bytes) -> None:
        if self._wanted[STDERR]:
            await self._channels.send(STDERR, data)

    async def resizes(self) -> AsyncIterator[tuple[int, int]]:
        sizes = Resizes()
        while data := await self._resize.read():
            for size in sizes.feed(data):
                yield size

    async def gone(self) -> None:
        await self._gone.wait()

    async def finish(self, status: dict[str, Any]) -> None:
        try:
            error = status_bytes(status, self._status_as_json)
            if error:
                await self._channels.send(ERROR, error)
            await self._socket.close()
        except ConnectionError:
            return
