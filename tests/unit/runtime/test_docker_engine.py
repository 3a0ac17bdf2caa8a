"""Versions that are agreed on, and engines that misbehave."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from orchestrator.runtime.docker_engine import Engine, EngineError, choose_version
from orchestrator.runtime.interface import RuntimeUnavailable

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.mark.parametrize(
    ("oldest", "newest", "chosen"),
    [
        ("1.12", "1.41", "v1.41"),
        ("1.24", "1.50", "v1.41"),
        ("1.44", "1.52", "v1.44"),
        ("1.12", "1.40", "v1.40"),
    ],
)
def test_the_version_is_one_that_both_know(oldest: str, newest: str, chosen: str) -> None:
    assert choose_version(oldest, newest) == chosen


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    engine = Engine(f"unix://{tmp_path}/e.sock")
    yield engine
    await engine.close()


async def serve(engine: Engine, handler: Handler) -> asyncio.Server:
    return await asyncio.start_unix_server(handler, engine.path)


async def test_a_frozen_engine_is_unavailable_after_the_deadline(engine: Engine) -> None:
    release = asyncio.Event()

    async def frozen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.close()

    async with await serve(engine, frozen):
        with pytest.raises(RuntimeUnavailable, match=r"within 0 s"):
            await engine.call("GET", "info", deadline_s=0.05)
        release.set()


async def test_an_engine_that_hangs_up_is_unavailable(engine: Engine) -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with await serve(engine, rude):
        with pytest.raises(RuntimeUnavailable):
            await engine.call("POST", "containers/create", body={})
        with pytest.raises(RuntimeUnavailable):
            await engine.hijack("exec/1/start", {})


async def test_a_refusal_carries_the_engines_words(engine: Engine) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"message":"no such thing"}'
        head = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nConnection: close\r\n"
        writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    async with await serve(engine, refuse):
        for attempt in (engine.call("GET", "x"), engine.hijack("x")):
            with pytest.raises(EngineError, match="no such thing") as failure:
                await attempt
            assert failure.value.status == 404


async def test_nothing_is_asked_after_the_end(engine: Engine) -> None:
    await engine.close()
    with pytest.raises(RuntimeUnavailable, match="closed"):
        await engine.call("GET", "info")
