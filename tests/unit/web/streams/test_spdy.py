"""A SPDY session, told as a transcript between a client and us."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from orchestrator.base.tasks import Supervisor
from orchestrator.web.streams import spdy_frames as frames
from orchestrator.web.streams.channels import BUFFER_BYTES_MAX
from orchestrator.web.streams.spdy import SpdySession, SpdyStream
from orchestrator.web.streams.spdy_frames import ControlFrame, DataFrame, SpdyError


class Client:
    """The other end of a session."""

    def __init__(self, wire) -> None:  # type: ignore[no-untyped-def]
        self.wire = wire
        self.encoder = frames.HeaderEncoder()
        self.parser = frames.Parser()

    def open(self, stream_id: int, **headers: str) -> None:
        payload = stream_id.to_bytes(4, "big") + bytes(6) + self.encoder.encode(headers)
        self.wire.feed(frames.control_frame(frames.SYN_STREAM, payload))

    def data(self, stream_id: int, data: bytes, fin: bool = False) -> None:
        self.wire.feed(frames.data_frame(stream_id, data, fin))

    def control(self, kind: int, *numbers: int) -> None:
        self.wire.feed(frames.numbers_frame(kind, *numbers))

    async def heard(self) -> list[DataFrame | ControlFrame]:
        for _ in range(20):
            await asyncio.sleep(0)
        return self.parser.feed(self.wire.take())


@pytest.fixture
async def client(wire) -> Client:  # type: ignore[no-untyped-def]
    return Client(wire)


@pytest.fixture
async def session(wire) -> AsyncIterator[SpdySession]:  # type: ignore[no-untyped-def]
    supervisor = Supervisor("test")
    session = SpdySession(wire)
    supervisor.spawn("run", session.run())
    yield session
    await supervisor.stop()


async def accept(session: SpdySession) -> SpdyStream:
    async with asyncio.timeout(5):
        stream = await session.accept()
    assert stream is not None
    return stream


async def test_a_stream_is_answered_and_carries_bytes_both_ways(session: SpdySession, client: Client) -> None:
    client.open(1, streamtype="data", Port="80")
    stream = await accept(session)
    (reply,) = await client.heard()
    assert isinstance(reply, ControlFrame) and (reply.type, reply.stream_id) == (frames.SYN_REPLY, 1)
    assert stream.headers == {"streamtype": "data", "port": "80"}
    client.data(1, b"hello ")
    client.data(1, b"there", fin=True)
    assert [await stream.read() for _ in range(3)] == [b"hello ", b"there", b""]
    await stream.write(b"answer")
    await stream.end()
    assert await client.heard() == [DataFrame(1, b"answer"), DataFrame(1, b"", fin=True)]


async def test_many_short_streams_leave_nothing_behind(session: SpdySession, client: Client) -> None:
    for number in range(1, 6001, 2):
        client.open(number)
        stream = await accept(session)
        client.data(number, b"", fin=True)
        assert await stream.read() == b""
        await stream.end()
    client.open(6001)
    await (await accept(session)).write(b"x")
    assert (await client.heard())[-1] == DataFrame(6001, b"x")


async def test_a_ping_is_answered(session: SpdySession, client: Client) -> None:
    client.control(frames.PING, 7)
    (pong,) = await client.heard()
    assert isinstance(pong, ControlFrame) and (pong.type, pong.number(0)) == (frames.PING, 7)


async def test_a_peer_without_windows_is_written_to_without_limit(
    session: SpdySession, client: Client
) -> None:
    client.open(1)
    stream = await accept(session)
    await asyncio.wait_for(stream.write(bytes(1 << 20)), 5)
    received = sum(len(frame.data) for frame in await client.heard() if isinstance(frame, DataFrame))
    assert received == 1 << 20


async def test_a_peer_with_windows_is_waited_for(session: SpdySession, client: Client) -> None:
    client.wire.feed(
        frames.control_frame(
            frames.SETTINGS, b"".join(n.to_bytes(4, "big") for n in (1, frames.INITIAL_WINDOW_SIZE, 10))
        )
    )
    client.open(1)
    stream = await accept(session)
    await client.heard()
    write = asyncio.ensure_future(stream.write(b"0123456789abcde"))
    assert await client.heard() == [DataFrame(1, b"0123456789")]
    client.control(frames.WINDOW_UPDATE, 1, 3)
    assert await client.heard() == [DataFrame(1, b"abc")]
    client.control(frames.WINDOW_UPDATE, 1, 100)
    assert await client.heard() == [DataFrame(1, b"de")]
    await write
    client.data(1, b"four")
    await stream.read()
    updates = [(frame.stream_id, frame.number(1)) for frame in await client.heard()]  # type: ignore[union-attr]
    assert updates == [(1, 4), (0, 4)]


async def test_a_reader_that_sleeps_stops_the_connection(session: SpdySession, client: Client) -> None:
    client.open(1)
    stream = await accept(session)
    total = 4 * BUFFER_BYTES_MAX
    for _ in range(total // 32_768):
        client.data(1, bytes(32_768))
    client.control(frames.PING, 1)
    assert [frame.type for frame in await client.heard()] == [frames.SYN_REPLY]  # type: ignore[union-attr]
    received = 0
    while received < total:
        received += len(await stream.read())
    assert [frame.type for frame in await client.heard()] == [frames.PING]  # type: ignore[union-attr]


async def test_a_stream_that_the_peer_resets_can_not_be_written(session: SpdySession, client: Client) -> None:
    client.open(1)
    stream = await accept(session)
    client.control(frames.RST_STREAM, 1, frames.CANCEL)
    assert await stream.read() == b""
    with pytest.raises(ConnectionError):
        await stream.write(b"x")


async def test_the_end_of_the_connection_ends_everything(session: SpdySession, client: Client) -> None:
    client.open(1)
    stream = await accept(session)
    client.wire.end()
    assert await stream.read() == b""
    assert await session.accept() is None


@pytest.mark.parametrize("stream_id", [2, 0])
async def test_a_stream_with_an_id_of_ours_breaks_the_session(wire, client: Client, stream_id: int) -> None:  # type: ignore[no-untyped-def]
    client.open(stream_id)
    with pytest.raises(SpdyError, match="can't have the id"):
        await SpdySession(wire).run()
    (goodbye,) = await client.heard()
    assert isinstance(goodbye, ControlFrame) and goodbye.type == frames.GOAWAY


async def test_data_for_a_stream_that_never_was_breaks_the_session(wire, client: Client) -> None:  # type: ignore[no-untyped-def]
    client.data(9, b"x")
    with pytest.raises(SpdyError, match="never opened"):
        await SpdySession(wire).run()
