"""Load from a process of its own: keep-alive TLS connections, one request in flight on each, bounded in time.

`python -m tests.bench.load` reads one JSON object on stdin (host, port, ca, token or cert, connections,
duration_s, method, path, body) and prints one: requests per second, latency percentiles, status counts.
`{n}` in path or body becomes a number of its own for each request.
"""

import asyncio
import json
import ssl
import sys
import time
from collections import Counter
from typing import Any

import uvloop

from tests.bench.report import percentile


class _Connection(asyncio.Protocol):
    """Sends the next request as soon as the last answer is complete."""

    def __init__(self, load: "_Load") -> None:
        self._load = load
        self._buffer = bytearray()
        self._sent_s = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[: end + 2]).lower()
        start = head.find(b"content-length: ")
        length = int(head[start + 16 : head.find(b"\r\n", start)])
        if len(self._buffer) < end + 4 + length:
            return
        del self._buffer[: end + 4 + length]
        self._load.took(time.perf_counter() - self._sent_s, int(head[9:12]))
        self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.open -= 1
        if self._load.open == 0 and not self._load.done.done():
            self._load.done.set_result(None)

    def send(self) -> None:
        assert self._transport is not None
        if time.perf_counter() >= self._load.end_s:
            self._transport.close()
            return
        self._sent_s = time.perf_counter()
        self._transport.write(self._load.request())


class _Load:
    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.open = plan["connections"]
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.latencies: list[float] = []
        self.statuses: Counter[int] = Counter()
        self._number = 0
        self.end_s = 0.0

    def took(self, duration_s: float, status: int) -> None:
        self.latencies.append(duration_s)
        self.statuses[status] += 1

    def request(self) -> bytes:
        self._number += 1
        plan, number = self.plan, str(self._number)
        body = plan.get("body", "").replace("{n}", number).encode()
        head = (
            f"{plan['method']} {plan['path'].replace('{n}', number)} HTTP/1.1\r\n"
            f"Host: {plan['host']}\r\nAuthorization: Bearer {plan['token']}\r\nAccept: application/json\r\n"
        )
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return head.encode() + b"\r\n" + body


async def _main() -> None:
    plan = json.loads(sys.stdin.read())
    context = ssl.create_default_context(cafile=plan["ca"])
    loop, load = asyncio.get_running_loop(), _Load(plan)
    connections = [
        await loop.create_connection(
            lambda: _Connection(load), plan["host"], plan["port"], ssl=context, server_hostname="localhost"
        )
        for _ in range(plan["connections"])
    ]
    # Handshakes are not what is measured: all connections stand before the first request leaves.
    began_s = time.perf_counter()
    load.end_s = began_s + plan["duration_s"]
    for _, connection in connections:
        connection.send()
    await asyncio.wait_for(load.done, plan["duration_s"] + 30)
    took_s = time.perf_counter() - began_s
    latencies = sorted(load.latencies)
    result = {
        "rate": len(latencies) / took_s,
        "p50_ms": percentile(latencies, 0.5) * 1000,
        "p99_ms": percentile(latencies, 0.99) * 1000,
        "statuses": dict(load.statuses),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    uvloop.run(_main())
