"""What a stranger can send, and how a listener ends."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from orchestrator.base.clock import SystemClock
from orchestrator.base.errors import StartupError
from orchestrator.pki.authority import Authority, CertificateSpec
from orchestrator.pki.tls import client_context, server_context
from orchestrator.web.answer import Answer, Request, Response
from orchestrator.web.listener import Limits, Listener, peer_certificate
from orchestrator.web.upgrade import RawStream, TakenOver, connect, take_over

Start = Callable[..., Awaitable[int]]


async def hello(request: Request) -> Response:
    return Answer(200, b"hello", b"Content-Type: text/plain\r\n")


async def raw(port: int, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    return reader, writer


async def ended(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


async def test_a_port_in_use_is_named_with_the_fix(start: Start) -> None:
    port = await start(hello)
    with pytest.raises(StartupError) as refused:
        await Listener(hello, "127.0.0.1", port, None).start()
    assert f"Port {port} on 127.0.0.1 is in use" in refused.value.cause
    assert "choose another port" in refused.value.fix


async def test_what_is_no_http_gets_400_and_the_end(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = await raw(await start(hello), b"\x16\x03\x01 garbage\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert not caplog.records
    await ended(writer)


async def test_headers_beyond_the_limit_are_refused(start: Start) -> None:
    port = await start(hello, Limits(header_bytes_max=1000))
    reader, writer = await raw(port, b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 5000 + b"\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 400 ")
    await ended(writer)


async def test_a_later_request_that_never_gets_complete_is_cut(start: Start) -> None:
    """Its head comes a byte at a time: that is no use of the connection."""
    port = await start(hello, Limits(idle_timeout_s=0.1))
    reader, writer = await raw(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await asyncio.wait_for(reader.readuntil(b"hello"), 5)).startswith(b"HTTP/1.1 200 ")
    for byte in b"GET / HTTP/1.1\r\nA: " + b"b" * 1000:
        if writer.is_closing() or reader.at_eof():
            break
        writer.write(bytes((byte,)))
        await asyncio.sleep(0.01)
    else:
        pytest.fail("the connection is still open")
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_more_headers_than_anybody_needs_are_refused(start: Start) -> None:
    lines = b"".join(b"A%d: b\r\n" % number for number in range(20_000))
    reader, writer = await raw(await start(hello), b"GET / HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")
    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 400 ")
    await ended(writer)


async def test_connections_beyond_the_limit_are_closed(start: Start) -> None:
    port = await start(hello, Limits(connections_max=1))
    _, first = await raw(port, b"")
    await asyncio.sleep(0)
    reader, second = await raw(port, b"")
    assert await asyncio.wait_for(reader.read(), 5) == b""
    await ended(second)
    await ended(first)


@pytest.mark.parametrize("begin", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_a_client_that_never_asks_is_cut(start: Start, begin: bytes) -> None:
    port = await start(hello, Limits(first_request_timeout_s=0.05))
    reader, writer = await raw(port, begin)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    await ended(writer)


async def test_an_idle_connection_is_cut(start: Start) -> None:
    port = await start(hello, Limits(idle_timeout_s=0.05))
    reader, writer = await raw(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 5)).endswith(b"hello")
    await ended(writer)


async def test_answers_follow_each_other_on_one_connection(start: Start) -> None:
    reader, writer = await raw(await start(hello), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    for _ in range(3):
        assert b"Content-Length: 5\r\n" in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(5) == b"hello"
    await ended(writer)


async def test_http_1_0_and_close_end_the_connection(start: Start) -> None:
    port = await start(hello)
    for request in (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):
        reader, writer = await raw(port, request)
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.endswith(b"hello")
        assert b"Connection: close\r\n" in answer
        await ended(writer)


async def test_close_lets_a_request_end_and_cuts_streams() -> None:
    entered, release = asyncio.Event(), asyncio.Event()
    streams: list[RawStream] = []

    async def handler(request: Request) -> Response:
        if request.path == "/stream":
            streams.append(await take_over(request, b"HTTP/1.1 101 x\r\n\r\n"))
            await streams[0].read()
            return TakenOver()
        entered.set()
        await release.wait()
        return await hello(request)

    listener = Listener(handler, "127.0.0.1", 0, None)
    port = await listener.start()
    stream = await connect("127.0.0.1", port)
    stream.write(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    await stream.read_until(b"\r\n\r\n", 1000)
    reader, writer = await raw(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await entered.wait()
    assert listener.connections == 2
    closing = asyncio.ensure_future(listener.close(grace_s=5.0))
    await asyncio.sleep(0)
    release.set()
    assert (await asyncio.wait_for(reader.read(), 5)).endswith(b"hello")
    assert await asyncio.wait_for(stream.read(), 5) == b""
    await asyncio.wait_for(closing, 10)
    await ended(writer)
    stream.abort()
    await stream.wait_closed()
    await listener.close()


async def test_the_client_certificate_is_optional_and_handed_on(tmp_path: Path) -> None:
    ca = Authority(tmp_path, SystemClock())
    server, _ = ca.ensure("server", CertificateSpec("s", (), ("127.0.0.1",), ("server",)))
    client, _ = ca.ensure("client", CertificateSpec("c"))

    async def handler(request: Request) -> Response:
        first, second = peer_certificate(request), peer_certificate(request)
        assert first is second
        return Answer(200, first or b"none")

    listener = Listener(handler, "127.0.0.1", 0, server_context(server, ca.pair.certificate))
    port = await listener.start()
    for pair, known in ((client, True), (None, False)):
        stream = await connect(
            "127.0.0.1", port, tls=client_context(ca.pair.certificate, pair), server_hostname="127.0.0.1"
        )
        stream.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await stream.read_until(b"\r\n\r\n", 10_000)
        body = b""
        while data := await stream.read():
            body += data
        assert (body != b"none") is known
        stream.abort()
        await stream.wait_closed()
    await listener.close()
