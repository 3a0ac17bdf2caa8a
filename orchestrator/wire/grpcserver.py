"""A gRPC server on byte messages, behind a Unix socket, that costs nothing until somebody connects.

The library is loaded and the server started with the first connection: a plain socket takes it, and every connection
after is handed on byte by byte to the server's own socket beside it. Meant for rare calls such as a plugin's
registration. Knows no message and no service.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.base.tasks import Supervisor

if TYPE_CHECKING:
    import grpc.aio

Answer = Callable[[bytes], Awaitable[bytes]]
"""Request to answer; what it raises is the call's failure, with its text."""
Flow = Callable[[bytes], AsyncIterator[bytes]]
"""Request to a stream of answers."""

PIECE_BYTES = 65_536
CONNECTIONS_MAX = 64


class GrpcServer:
    """Serves `answers` and `flows` by the method's full name, such as `/v1beta1.Registration/Register`, at `path`."""

    def __init__(
        self,
        path: Path,
        supervisor: Supervisor,
        answers: Mapping[str, Answer],
        flows: Mapping[str, Flow] = {},
    ) -> None:
        self._path = path
        self._inner = path.with_name(f".{path.name}.grpc")
        self._supervisor = supervisor
        self._answers = answers
        self._flows = flows
        self._listener: asyncio.Server | None = None
        self._server: grpc.aio.Server | None = None
        self._starting = asyncio.Lock()
        self._open: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. A socket that a process before us left makes way; raises `OSError`."""
        for left in (self._path, self._inner):
            left.unlink(missing_ok=True)
        self._listener = await asyncio.start_unix_server(self._connected, str(self._path))
        os.chmod(self._path, 0o600)

    async def close(self) -> None:
        """End every call. May be called twice."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            self._path.unlink(missing_ok=True)
        for task in (tasks := list(self._open)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(None)
            self._inner.unlink(missing_ok=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """More connections than a host has plugins are turned away."""
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            # Who only knocks sends nothing, and the server stays unloaded.
            first = await reader.read(PIECE_BYTES) if len(self._open) <= CONNECTIONS_MAX else b""
            if first:
                await self._hand_on(first, reader, writer)
        except OSError:
            pass
        finally:
            self._open.discard(task)
            await _close(writer)

    async def _hand_on(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Relay to the real server until it ends the connection, or the client does."""
        async with self._starting:
            if self._server is None:
                self._server = await self._serve()
        inner_reader, inner_writer = await asyncio.open_unix_connection(str(self._inner))
        inner_writer.write(first)
        forth = self._supervisor.spawn("relay", _relay(reader, inner_writer))
        try:
            await _relay(inner_reader, writer)
        finally:
            forth.cancel()
            await _close(inner_writer)

    async def _serve(self) -> "grpc.aio.Server":
        import grpc.aio

        methods: dict[str, Any] = {name: _unary(answer) for name, answer in self._answers.items()}
        methods |= {name: _stream(flow) for name, flow in self._flows.items()}

        class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
            def service(self, call: Any) -> Any:
                return methods.get(call.method)

        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Handler(),))
        server.add_insecure_port(f"unix:{self._inner}")
        await server.start()
        return server


def _unary(answer: Answer) -> Any:
    import grpc

    async def handle(request: bytes, context: Any) -> bytes:
        try:
            return await answer(request)
        except Exception as error:
            await context.abort(grpc.StatusCode.UNKNOWN, str(error))
            raise

    return grpc.unary_unary_rpc_method_handler(handle)


def _stream(flow: Flow) -> Any:
    import grpc

    async def handle(request: bytes, context: Any) -> AsyncIterator[bytes]:
        async for message in flow(request):
            yield message

    return grpc.unary_stream_rpc_method_handler(handle)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
