"""Protocols that no kubectl at hand speaks: the older WebSocket channels, and requests that can't be served."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Literal

import aiohttp
import pytest
from aiohttp import web

from orchestrator.base.errors import OrchestratorError
from orchestrator.web.streams.portforward import serve_port_forward
from orchestrator.web.streams.serve import serve_remote_command

FLAGS = {"stdin": True, "stdout": True, "stderr": True, "tty": False}


class Upper:
    """A process that answers each input in capitals on stdout and its length on stderr."""

    def __init__(self) -> None:
        self._output: asyncio.Queue[tuple[Literal["stdout", "stderr"], bytes] | None] = asyncio.Queue()
        self.sizes: list[tuple[int, int]] = []
        self.closed = False

    async def read(self) -> tuple[Literal["stdout", "stderr"], bytes] | None:
        return await self._output.get()

    async def write(self, data: bytes) -> None:
        await self._output.put(("stdout", data.upper()))
        await self._output.put(("stderr", b"%d" % len(data)))
        if data == b"quit":
            await self._output.put(None)

    async def close_stdin(self) -> None:
        await self._output.put(None)

    async def resize(self, width: int, height: int) -> None:
        self.sizes.append((width, height))

    async def wait(self) -> int:
        return 3

    async def close(self) -> None:
        self.closed = True


class Site:
    """A server for one test; `flags` and `problem` may be set before a request."""

    def __init__(self) -> None:
        self.flags = dict(FLAGS)
        self.process = Upper()
        self.problem = ""
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/portforward":
            return await serve_port_forward(request, self._connect)
        return await serve_remote_command(request, self._open, **self.flags)

    async def _open(self) -> Upper:
        if self.problem:
            raise OrchestratorError(self.problem)
        return self.process

    async def _connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if port == 81:
            raise ConnectionRefusedError("nobody there")
        return await asyncio.open_connection("127.0.0.1", self.echo_port)

    echo_port = 0


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1000):
        writer.write(data)
    writer.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    runner = web.ServerRunner(web.Server(site.handle), shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    site.echo_port = server.sockets[0].getsockname()[1]
    yield site
    server.close()
    await server.wait_closed()
    await runner.cleanup()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield session


async def messages(socket: aiohttp.ClientWebSocketResponse) -> list[bytes]:
    """What arrives until the server closes, empty messages left out."""
    received = []
    async for message in socket:
        data = message.data if isinstance(message.data, bytes) else message.data.encode()
        if len(data) > 1:
            received.append(data)
    return received


async def test_version_4_carries_output_errors_and_a_status(site: Site, http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(f"{site.url}/exec", protocols=["v4.channel.k8s.io"]) as socket:
        assert socket.protocol == "v4.channel.k8s.io"
        assert await socket.receive_bytes() == b"\x01"
        await socket.send_bytes(b"\x00hello")
        await socket.send_bytes(b"\x00quit")
        *output, status = await messages(socket)
    assert output == [b"\x01HELLO", b"\x025", b"\x01QUIT", b"\x024"]
    assert status[:1] == b"\x03"
    assert json.loads(status[1:])["details"]["causes"][0]["message"] == "3"
    assert site.process.closed


async def test_version_5_can_end_stdin(site: Site, http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(f"{site.url}/exec", protocols=["v5.channel.k8s.io"]) as socket:
        await socket.send_bytes(b"\x00bye")
        await socket.send_bytes(b"\xff\x00")
        assert (await messages(socket))[0] == b"\x01BYE"


async def test_base64_is_spoken_in_both_directions(site: Site, http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(f"{site.url}/exec", protocols=["base64.channel.k8s.io"]) as socket:
        await socket.send_str("0" + base64.b64encode(b"quit").decode())
        output = await messages(socket)
    assert output[0] == b"1" + base64.b64encode(b"QUIT")
    assert b"non-zero exit code" in base64.b64decode(output[-1][1:])


async def test_a_terminal_sends_its_sizes_and_has_no_stderr(site: Site, http: aiohttp.ClientSession) -> None:
    site.flags["tty"] = True
    async with http.ws_connect(f"{site.url}/exec", protocols=["v4.channel.k8s.io"]) as socket:
        await socket.send_bytes(b'\x04{"Width":120,"Height":40}')
        await socket.send_bytes(b"\x00x")
        while (await socket.receive_bytes()) != b"\x01X":
            pass
        await socket.send_bytes(b"\x00quit")
        output = await messages(socket)
    assert site.process.sizes == [(120, 40)]
    assert [data[0] for data in output] == [1, 3]


async def test_a_process_that_can_not_start_is_told_as_a_status(
    site: Site, http: aiohttp.ClientSession
) -> None:
    site.problem = "container is gone"
    async with http.ws_connect(f"{site.url}/exec", protocols=["v4.channel.k8s.io"]) as socket:
        (status,) = await messages(socket)
    assert "container is gone" in json.loads(status[1:])["message"]


async def test_a_client_that_breaks_the_protocol_lets_go_of_the_process(
    site: Site, http: aiohttp.ClientSession
) -> None:
    async with http.ws_connect(f"{site.url}/exec", protocols=["base64.channel.k8s.io"]) as socket:
        await socket.send_str("0not base64!")
        await messages(socket)
    assert site.process.closed


async def test_plain_http_is_told_what_is_spoken_here(site: Site, http: aiohttp.ClientSession) -> None:
    async with http.post(f"{site.url}/exec") as response:
        assert response.status == 400
        assert "SPDY/3.1 or websocket" in (await response.json())["message"]


async def test_an_unknown_subprotocol_is_refused_with_the_known_ones(
    site: Site, http: aiohttp.ClientSession
) -> None:
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "SPDY/3.1",
        "X-Stream-Protocol-Version": "v9.channel.k8s.io",
    }
    async with http.post(f"{site.url}/exec", headers=headers) as response:
        assert response.status == 403
        assert "v4.channel.k8s.io" in response.headers.getall("X-Accepted-Stream-Protocol-Versions")
    with pytest.raises(aiohttp.WSServerHandshakeError) as failure:
        await http.ws_connect(f"{site.url}/exec", protocols=["v9.channel.k8s.io"])
    assert failure.value.status == 400


async def test_nothing_to_stream_is_a_bad_request(site: Site, http: aiohttp.ClientSession) -> None:
    site.flags = dict.fromkeys(FLAGS, False)
    async with http.post(f"{site.url}/exec") as response:
        assert response.status == 400


async def test_plain_websocket_port_forward_has_two_channels_per_port(
    site: Site, http: aiohttp.ClientSession
) -> None:
    url = f"{site.url}/portforward?ports=80,81"
    async with http.ws_connect(url, protocols=["v4.channel.k8s.io"]) as socket:
        seen: dict[int, bytes] = {}
        while len(seen) < 4 or len(seen[3]) < 3:
            data = await socket.receive_bytes()
            seen[data[0]] = seen.get(data[0], b"") + data[1:]
        await socket.send_bytes(b"\x00ping")
        assert await socket.receive_bytes() == b"\x00ping"
    assert seen[0] == seen[1] == b"\x50\x00" and seen[2] == b"\x51\x00"
    assert seen[3].startswith(b"\x51\x00") and b"nobody there" in seen[3]


@pytest.mark.parametrize("ports", ["0", "65536", "http", "-1", ",".join(["80"] * 65)])
async def test_bad_ports_are_refused(site: Site, http: aiohttp.ClientSession, ports: str) -> None:
    async with http.get(f"{site.url}/portforward?ports={ports}") as response:
        assert response.status == 400
        assert "port" in (await response.json())["message"]
