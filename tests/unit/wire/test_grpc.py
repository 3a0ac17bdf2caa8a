"""Calls and streams on bytes against a server of the library itself, on TCP and on a Unix socket."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from orchestrator.wire.grpc import GrpcClient, GrpcError

METHOD = "/test.Echo/Say"


class Echo(grpc.GenericRpcHandler):
    """Answers with what it was told, or fails as it was told."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method == METHOD:
            return grpc.unary_unary_rpc_method_handler(self._say)
        if details.method == "/test.Echo/Talk":
            return grpc.stream_stream_rpc_method_handler(self._talk)
        return None

    async def _say(self, request: bytes, context: Any) -> bytes:
        if request == b"slow":
            await asyncio.sleep(30)
        if request == b"full":
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no room")
        metadata = dict(context.invocation_metadata())
        return request + metadata.get("token", "").encode()

    async def _talk(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            if request == b"end":
                return
            yield request * 2


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """The endpoints of one server."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.add_insecure_port(f"unix:{tmp_path}/s")
    await server.start()
    yield f"http://127.0.0.1:{port}", f"unix://{tmp_path}/s"
    await server.stop(0)


@pytest.mark.parametrize("number", [0, 1])
async def test_a_call_carries_bytes_and_metadata(server: tuple[str, str], number: int) -> None:
    client = GrpcClient([server[number]])
    assert await client.unary(METHOD, b"hello ", timeout_s=5, metadata=(("token", "t"),)) == b"hello t"
    large = bytes(6 * 1024 * 1024)
    assert await client.unary(METHOD, b"large", timeout_s=5) == b"large"
    with pytest.raises(GrpcError) as raised:  # The library's servers take 4 MiB unless told otherwise.
        await client.unary(METHOD, large, timeout_s=5)
    assert raised.value.code == "RESOURCE_EXHAUSTED"
    await client.close()


async def test_the_peers_word_and_an_overdue_answer_are_told_apart(server: tuple[str, str]) -> None:
    client = GrpcClient(server)
    with pytest.raises(GrpcError) as raised:
        await client.unary(METHOD, b"full", timeout_s=5)
    assert (raised.value.code, raised.value.details, raised.value.sent) == (
        "RESOURCE_EXHAUSTED",
        "no room",
        True,
    )
    with pytest.raises(GrpcError) as raised:
        await client.unary(METHOD, b"slow", timeout_s=0.2)
    assert (raised.value.code, raised.value.sent) == ("DEADLINE_EXCEEDED", True)
    assert await client.unary(METHOD, b"next", timeout_s=5) == b"next"
    await client.close()


async def test_a_dead_endpoint_is_passed_over_and_nothing_was_sent_to_it(server: tuple[str, str]) -> None:
    client = GrpcClient(["http://127.0.0.1:1", server[0]])
    assert await client.unary(METHOD, b"a", timeout_s=5) == b"a"
    assert client.endpoint == server[0]
    await client.close()
    alone = GrpcClient(["http://127.0.0.1:1"])
    with pytest.raises(GrpcError, match="refused") as raised:
        await alone.unary(METHOD, b"a", timeout_s=5)
    assert not raised.value.sent
    await alone.close()


async def test_a_stream_goes_both_ways_until_either_end(server: tuple[str, str]) -> None:
    client = GrpcClient(server)
    stream = await client.stream("/test.Echo/Talk", timeout_s=5)
    for text in (b"a", b"b"):
        await stream.send(text, 5)
        assert await stream.receive() == text * 2
    await stream.send(b"end", 5)
    assert await stream.receive() is None
    stream.cancel()
    again = await client.stream("/test.Echo/Talk", timeout_s=5)
    await again.send(b"c", 5)
    assert await again.receive() == b"cc"
    pending = asyncio.get_running_loop().create_task(again.receive())
    await asyncio.sleep(0)
    again.cancel()
    with pytest.raises(GrpcError) as raised:  # The stream was cancelled, not the task.
        await pending
    assert raised.value.code == "CANCELLED"
    with pytest.raises(GrpcError):
        await again.send(b"d", 5)
    await client.close()
    with pytest.raises(GrpcError, match="closed"):
        await client.unary(METHOD, b"a", timeout_s=5)


def test_a_server_without_etcd_does_not_load_the_library() -> None:
    """It takes 9 MiB."""
    code = (
        "import orchestrator.daemon, sys; print([m for m in sys.modules if 'grpc' in m or 'store.etcd' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
