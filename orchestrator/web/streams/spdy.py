"""A SPDY/3.1 session: streams multiplexed over one connection. We are the server, clients open the streams.

Flow control. The peer's windows bind us only once it has shown that it keeps them (it sent SETTINGS or
WINDOW_UPDATE): the library in kubectl and client-go neither sends nor heeds window updates, and waiting for
one would hang for ever. Towards any peer memory is bounded by not reading the connection while a stream's
inbox is full.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from orchestrator.web.streams import spdy_frames as wire
from orchestrator.web.streams.channels import Duplex, Inbox
from orchestrator.web.streams.spdy_frames import ControlFrame, DataFrame, SpdyError

DEFAULT_WINDOW_BYTES: Final = 65_536
WRITE_BYTES_MAX: Final = 32_768
STREAMS_MAX: Final = 1_024
NEW_STREAMS_WAITING_MAX: Final = 64


class SpdyStream:
    """One stream that the client opened. One task reads, one writes."""

    def __init__(
        self, session: "SpdySession", stream_id: int, headers: Mapping[str, str], window: int
    ) -> None:
        self.id = stream_id
        self.headers = headers
        self.inbox = Inbox()
        self.window = window
        self.window_changed = asyncio.Event()
        self.peer_ended = False
        self._session = session
        self._ended = False

    async def read(self) -> bytes:
        """The next bytes, `b""` at the end."""
        data = await self.inbox.read()
        if data:
            await self._session.consumed(self, len(data))
        return data

    async def write(self, data: bytes) -> None:
        """Send; waits while the peer's window or the connection is full. Raises `ConnectionError`."""
        if self._ended:
            raise ConnectionResetError(f"stream {self.id} is closed")
        view = memoryview(data)
        while view:
            size = min(len(view), WRITE_BYTES_MAX, await self._session.room(self))
            await self._session.send(wire.data_frame(self.id, bytes(view[:size])))
            self.window -= size
            view = view[size:]

    async def end(self) -> None:
        """Send the end of this direction; may be repeated."""
        if not self._ended:
            self._ended = True
            self._session.drop_if_over(self)
            await self._session.send(wire.data_frame(self.id, b"", fin=True))

    async def reset(self) -> None:
        """Break the stream off in both directions."""
        self._session.forget(self)
        if not self._ended:
            self._ended = True
            await self._session.send(wire.numbers_frame(wire.RST_STREAM, self.id, wire.CANCEL))

    def lost(self) -> None:
        """The peer or the connection has ended it: writes fail from now on."""
        self._ended = True
        self.inbox.end()
        self.window_changed.set()

    @property
    def ended(self) -> bool:
        """Whether nothing more can be sent."""
        return self._ended


class SpdySession:
    """Owner of a connection's streams. `run` reads until the peer ends; `accept` hands out new streams."""

    def __init__(self, connection: Duplex) -> None:
        self._connection = connection
        self._parser = wire.Parser()
        self._decoder = wire.HeaderDecoder()
        self._encoder = wire.HeaderEncoder()
        self._streams: dict[int, SpdyStream] = {}
        self._new: asyncio.Queue[SpdyStream | None] = asyncio.Queue(NEW_STREAMS_WAITING_MAX)
        self._last_id = 0
        self._window = DEFAULT_WINDOW_BYTES
        self._peer_keeps_windows = False
        self._sending = asyncio.Lock()
        self._closed = False
        self.ended = asyncio.Event()

    async def run(self) -> None:
        """Read frames until the connection ends. Raises `SpdyError` after telling the peer with GOAWAY."""
        try:
            while data := await self._connection.read():
                for frame in self._parser.feed(data):
                    await self._take(frame)
        except ConnectionError:
            return
        except SpdyError:
            await self._say_goodbye(wire.PROTOCOL_ERROR)
            raise
        finally:
            self._end_all()

    async def accept(self) -> SpdyStream | None:
        """The next stream that the client opens, None when the session is over."""
        if self.ended.is_set() and self._new.empty():
            return None
        return await self._new.get()

    async def close(self) -> None:
        """Say that no further stream is taken. The caller still lets `run` see the peer's end."""
        await self._say_goodbye(0)

    async def send(self, frame: bytes) -> None:
        """Write one frame and wait for room. Raises `ConnectionError`."""
        async with self._sending:
            self._connection.write(frame)
            await self._connection.drain()

    async def room(self, stream: SpdyStream) -> int:
        """How many bytes may be sent on the stream now; at least one."""
        while self._peer_keeps_windows and stream.window <= 0 and not stream.ended:
            stream.window_changed.clear()
            await stream.window_changed.wait()
        if stream.ended:
            raise ConnectionResetError(f"stream {stream.id} is closed")
        return stream.window if self._peer_keeps_windows else WRITE_BYTES_MAX

    async def consumed(self, stream: SpdyStream, size: int) -> None:
        """Give the peer its window back, if it counts."""
        if self._peer_keeps_windows and not self.ended.is_set():
            try:
                await self.send(
                    wire.numbers_frame(wire.WINDOW_UPDATE, stream.id, size)
                    + wire.numbers_frame(wire.WINDOW_UPDATE, 0, size)
                )
            except ConnectionError:
                return

    def forget(self, stream: SpdyStream) -> None:
        """Drop a stream; what still arrives for it is ignored."""
        stream.inbox.discard()
        self._streams.pop(stream.id, None)

    def drop_if_over(self, stream: SpdyStream) -> None:
        """Make room once both directions have ended; what has arrived can still be read."""
        if stream.ended and stream.peer_ended:
            self._streams.pop(stream.id, None)

    async def _take(self, frame: DataFrame | ControlFrame) -> None:
        if isinstance(frame, DataFrame):
            await self._take_data(frame)
            return
        match frame.type:
            case wire.SYN_STREAM:
                await self._open(frame)
            case wire.HEADERS:
                # The compression is one stream: a block must be decoded even if nobody wants it.
                self._decoder.decode(frame.payload[4:])
            case wire.RST_STREAM:
                stream = self._streams.pop(frame.stream_id, None)
                if stream is not None:
                    stream.lost()
            case wire.PING:
                if frame.number(0) % 2 == 1:
                    await self.send(wire.numbers_frame(wire.PING, frame.number(0)))
            case wire.SETTINGS:
                self._settings(frame)
            case wire.WINDOW_UPDATE:
                self._widen(frame.stream_id, frame.number(1) & 0x7FFFFFFF)

    async def _take_data(self, frame: DataFrame) -> None:
        stream = self._streams.get(frame.stream_id)
        if stream is None:
            if frame.stream_id > self._last_id:
                raise SpdyError(f"data for stream {frame.stream_id}, which was never opened")
            return
        await stream.inbox.feed(frame.data)
        if frame.fin:
            stream.peer_ended = True
            stream.inbox.end()
            self.drop_if_over(stream)

    async def _open(self, frame: ControlFrame) -> None:
        stream_id = frame.stream_id
        headers = self._decoder.decode(frame.payload[10:])
        if stream_id % 2 == 0 or stream_id <= self._last_id:
            raise SpdyError(f"a new stream can't have the id {stream_id}")
        self._last_id = stream_id
        if len(self._streams) >= STREAMS_MAX or self._new.full() or self._closed:
            await self.send(wire.numbers_frame(wire.RST_STREAM, stream_id, wire.REFUSED_STREAM))
            return
        stream = SpdyStream(self, stream_id, headers, self._window)
        if frame.flags & wire.FLAG_FIN:
            stream.peer_ended = True
            stream.inbox.end()
        self._streams[stream_id] = stream
        reply = stream_id.to_bytes(4, "big") + self._encoder.encode({})
        await self.send(wire.control_frame(wire.SYN_REPLY, reply))
        self._new.put_nowait(stream)

    def _settings(self, frame: ControlFrame) -> None:
        self._peer_keeps_windows = True
        for index in range(min(frame.number(0), 64)):
            if frame.number(1 + 2 * index) & 0xFFFFFF == wire.INITIAL_WINDOW_SIZE:
                window = frame.number(2 + 2 * index) & 0x7FFFFFFF
                for stream in self._streams.values():
                    stream.window += window - self._window
                    stream.window_changed.set()
                self._window = window

    def _widen(self, stream_id: int, delta: int) -> None:
        self._peer_keeps_windows = True
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.window += delta
            stream.window_changed.set()

    async def _say_goodbye(self, status: int) -> None:
        if self._closed or self.ended.is_set():
            return
        self._closed = True
        try:
            await self.send(wire.numbers_frame(wire.GOAWAY, self._last_id, status))
        except ConnectionError:
            return

    def _end_all(self) -> None:
        self.ended.set()
        for stream in self._streams.values():
            stream.lost()
        self._streams.clear()
        if not self._new.full():
            self._new.put_nowait(None)
