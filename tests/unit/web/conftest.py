"""A listener without TLS on a free port, and raw clients for it."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from orchestrator.web.listener import Handler, Limits, Listener

Start = Callable[..., Awaitable[int]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """`await start(handler, limits)` listens until the test ends and returns the port."""
    listeners: list[Listener] = []

    async def begin(handler: Handler, limits: Limits | None = None) -> int:
        listener = Listener(handler, "127.0.0.1", 0, None, limits)
        listeners.append(listener)
        return await listener.start()

    yield begin
    for listener in listeners:
        await listener.close(grace_s=0.5)
