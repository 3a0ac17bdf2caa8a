"""Exec and attach over SPDY: one stream per channel, told apart by the header `streamtype`."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from orchestrator.web.streams.channels import Resizes, status_bytes
from orchestrator.web.streams.spdy import SpdySession, SpdyStream

PROTOCOLS = (
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
    "",
)
"""Version 3 brought the resize channel, version 4 the status as JSON; the last two are version 1."""

STREAM_CREATION_TIMEOUT_S = 30.0


def expected_streams(protocol: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> set[str]:
    """The stream types that the client will open."""
    wanted = {
        "error": True,
        "stdin": stdin,
        "stdout": stdout,
        "stderr": stderr and not tty,
        "resize": tty and protocol >= "v3",
    }
    return {kind for kind, present in wanted.items() if present}


async def collect(session: SpdySession, expected: set[str]) -> dict[str, SpdyStream]:
    """Wait for the client's streams. Raises `ConnectionError` when they don't come."""
    streams: dict[str, SpdyStream] = {}
    try:
        async with asyncio.timeout(STREAM_CREATION_TIMEOUT_S):
            while expected - streams.keys():
                stream = await session.accept()
                if stream is None:
                    raise ConnectionResetError("the client has gone before it opened its streams")
                kind = stream.headers.get("streamtype", "")
                if kind not in expected or kind in streams:
                    await stream.reset()
                    continue
                streams[kind] = stream
    except TimeoutError:
        missing = sorted(expected - streams.keys())
        raise ConnectionResetError(f"the client did not open its streams {missing} in time") from None
    return streams


class SpdyCommand:
    """`channels.RemoteCommand` on the streams of a session."""

    def __init__(self, session: SpdySession, streams: dict[str, SpdyStream], protocol: str) -> None:
        self._session = session
        self._streams = streams
        self._status_as_json = protocol >= "v4"

    async def stdin(self) -> bytes:
        stream = self._streams.get("stdin")
        return await stream.read() if stream else b""

    async def write_stdout(self, data: bytes) -> None:
        await self._write("stdout", data)

    async def write_stderr(self, data: bytes) -> None:
        await self._write("stderr", data)

    async def _write(self, kind: str, data: bytes) -> None:
        """Output that the client did not ask for is dropped."""
        stream = self._streams.get(kind)
        if stream is not None:
            await stream.write(data)

    async def resizes(self) -> AsyncIterator[tuple[int, int]]:
        stream = self._streams.get("resize")
        sizes = Resizes()
        while stream is not None and (data := await stream.read()):
            for size in sizes.feed(data):
                yield size

    async def gone(self) -> None:
        await self._session.ended.wait()

    async def finish(self, status: dict[str, Any]) -> None:
        try:
            error = status_bytes(status, self._status_as_json)
            if error:
                await self._streams["error"].write(error)
            for stream in self._streams.values():
                await stream.end()
            await self._session.close()
        except ConnectionError:
            return
