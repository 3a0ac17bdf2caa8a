"""A byte stream whose other end is the test."""

import asyncio

import pytest


class Wire:
    """`channels.Duplex`: the test feeds what the peer sends and reads what we sent."""

    def __init__(self) -> None:
        self._reader = asyncio.StreamReader(limit=1 << 24)
        self.sent = bytearray()
        self.closed = False

    def feed(self, data: bytes) -> None:
        self._reader.feed_data(data)

    def end(self) -> None:
        self._reader.feed_eof()

    async def read(self, n: int = 65536) -> bytes:
        return await self._reader.read(n)

    def write(self, data: bytes) -> None:
        if self.closed:
            raise ConnectionResetError("closed")
        self.sent += data

    async def drain(self) -> None:
        await asyncio.sleep(0)

    def write_eof(self) -> None: ...

    def close(self) -> None:
        self.closed = True

    def take(self) -> bytes:
        data = bytes(self.sent)
        self.sent.clear()
        return data


@pytest.fixture
async def wire() -> Wire:
    return Wire()
