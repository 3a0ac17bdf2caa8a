"""Raw connections: what was sent early is not lost, nobody outruns a slow reader, ends are passed on."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from orchestrator.web.answer import Request, Response
from orchestrator.web.upgrade import READ_HIGH_BYTES, RawStream, TakenOver, connect, relay, take_over

Start = Callable[..., Awaitable[int]]
HEAD = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


async def pair() -> tuple[RawStream, RawStream, asyncio.Server]:
    """Two ends of one connection."""
    accepted: asyncio.Future[RawStream] = asyncio.get_running_loop().create_future()

    def factory() -> RawStream:
        stream = RawStream()
        accepted.set_result(stream)
        return stream

    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    client = await connect("127.0.0.1", server.sockets[0].getsockname()[1])
    return client, await accepted, server


async def gone(*streams: RawStream) -> None:
    for stream in streams:
        stream.abort()
        await asyncio.wait_for(stream.wait_closed(), 5)


async def read_all(stream: RawStream) -> bytes:
    data = b""
    while part := await asyncio.wait_for(stream.read(), 5):
        data += part
    return data


@pytest.mark.parametrize("protocol", [b"websocket", b"SPDY/3.1"])
async def test_a_taken_over_connection_is_a_plain_stream(start: Start, protocol: bytes) -> None:
    async def handler(request: Request) -> Response:
        stream = await take_over(request, HEAD)
        while data := await stream.read():
            stream.write(data)
            await stream.drain()
        stream.write(b"bye")
        stream.write_eof()
        return TakenOver()

    client = await connect("127.0.0.1", await start(handler))
    client.write(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % protocol)
    assert await client.read_until(b"\r\n\r\n", 1000) == HEAD
    client.write(b"hello")
    client.write_eof()
    assert await read_all(client) == b"hellobye"
    await gone(client)


async def test_bytes_behind_the_upgrade_request_are_kept(start: Start) -> None:
    seen = asyncio.get_running_loop().create_future()

    async def handler(request: Request) -> Response:
        stream = await take_over(request, HEAD)
        seen.set_result(await stream.read())
        stream.close()
        return TakenOver()

    client = await connect("127.0.0.1", await start(handler))
    client.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly")
    assert await asyncio.wait_for(seen, 5) == b"early"
    await gone(client)


async def test_a_reader_that_does_not_read_stops_the_writer() -> None:
    client, server_end, server = await pair()
    block = b"x" * 65536
    sent = 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            for _ in range(2000):
                client.write(block)
                await client.drain()
                sent += len(block)
    assert sent < 2000 * len(block)
    assert len(server_end._chunks) <= READ_HIGH_BYTES + 2 * 256 * 1024
    received = 0
    while received < sent:
        received += len(await asyncio.wait_for(server_end.read(), 5))
    await gone(client, server_end)
    server.close()


async def test_a_relay_passes_half_closes_on_and_ends_when_both_sides_have() -> None:
    client, front, first = await pair()
    back, agent, second = await pair()
    joined = asyncio.ensure_future(relay(front, back))
    client.write(b"question")
    client.write_eof()
    assert await read_all(agent) == b"question"
    agent.write(b"answer after the end of the question")
    agent.write_eof()
    assert await read_all(client) == b"answer after the end of the question"
    await asyncio.wait_for(joined, 5)
    await gone(client, agent, front, back)
    first.close()
    second.close()


async def test_a_relay_cuts_the_other_side_when_one_breaks() -> None:
    client, front, first = await pair()
    back, agent, second = await pair()
    joined = asyncio.ensure_future(relay(front, back))
    client.abort()
    assert await asyncio.wait_for(agent.read(), 5) == b""
    agent.close()
    await asyncio.wait_for(joined, 5)
    await gone(agent, front, back)
    first.close()
    second.close()


async def test_an_idle_relay_ends() -> None:
    client, front, first = await pair()
    back, agent, second = await pair()
    await asyncio.wait_for(relay(front, back, idle_timeout_s=0.05), 5)
    await gone(client, agent, front, back)
    first.close()
    second.close()


async def test_a_head_without_end_is_refused() -> None:
    client, server_end, server = await pair()
    client.write(b"x" * 5000)
    with pytest.raises(ConnectionError, match="within 1000 bytes"):
        await asyncio.wait_for(server_end.read_until(b"\r\n\r\n", 1000), 5)
    await gone(client, server_end)
    server.close()


async def test_writing_to_a_lost_connection_is_an_error() -> None:
    client, server_end, server = await pair()
    await gone(server_end)
    with pytest.raises(ConnectionError):
        server_end.write(b"x")
    await gone(client)
    server.close()
