"""Answers DNS questions by UDP and TCP: cluster names from the zone, the rest from the forwarder.

A finished UDP answer is kept under the bytes of its question (without the id), so that the next equal question costs
a dictionary look-up; a change of names drops exactly the answers to those names. Garbage is answered with an error
where it has an id, never with a crash; answers that come in are dropped, so that two servers can't play ping-pong.
"""

import asyncio
import contextlib
import random
from collections.abc import Iterable

import structlog

from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.network.dataplane.interface import NetworkError
from orchestrator.network.dns import wire
from orchestrator.network.dns.forward import Forwarder, Server
from orchestrator.network.dns.wire import FormatError, Query, Record, Reply
from orchestrator.network.dns.zone import Zone

log = structlog.get_logger(__name__)

CACHED_MAX = 32_768
ALIASES_MAX = 8
PENDING_MAX = 1000
CONNECTIONS_MAX = 256
IDLE_S = 10.0
TCP_BYTES_MAX = 65_535

_FAILED = Reply(wire.SERVFAIL, authoritative=False)


class Resolver:
    """Finds answers: zone, aliases, forwarder. `ready` is False until the zone has been filled once."""

    def __init__(self, zone: Zone, forwarder: Forwarder, rng: random.Random) -> None:
        self.ready = False
        self._zone = zone
        self._forwarder = forwarder
        self._rng = rng
        self._cache: dict[bytes, bytes] = {}
        self._cached_names: dict[str, list[bytes]] = {}

    def invalidate(self, names: Iterable[str]) -> None:
        """Forget the kept answers to these names."""
        for name in names:
            for key in self._cached_names.pop(name, ()):
                self._cache.pop(key, None)

    def cached(self, data: bytes) -> bytes | None:
        """The kept UDP answer to a message."""
        answer = self._cache.get(data[2:])
        return None if answer is None else data[:2] + answer

    def at_once(self, data: bytes, size_max: int = 0) -> bytes | None:
        """The answer that needs nobody else; None when `later` has to find it; empty: do not answer at all.

        `size_max` is 0 for UDP, where the client says how much it takes.
        """
        try:
            query = wire.parse_query(data)
        except FormatError as error:
            return b"" if len(data) < 3 or data[2] & 0x80 else wire.encode_error(data, error.rcode)
        if query.edns_version:
            return wire.encode_reply(query, Reply(wire.BADVERS, authoritative=False))
        if self._forwarder.noticed(query.name):
            return b""
        if not self._zone.covers(query.name):
            return None
        if not self.ready:
            return wire.encode_reply(query, _FAILED)
        if query.type != wire.CNAME and self._zone.alias(query.name):
            return None
        return self._from_zone(query, data, size_max)

    async def later(self, data: bytes, *, tcp: bool) -> bytes:
        """The answer to a message that `at_once` left open."""
        query = wire.parse_query(data)
        if self._zone.covers(query.name):
            message = wire.encode_reply(query, await self._follow(query))
            return message if tcp else wire.truncate(query, message, query.size_max)
        answer = await self._forwarder.ask(data, tcp=tcp)
        return answer if answer is not None else wire.encode_reply(query, _FAILED)

    def _from_zone(self, query: Query, data: bytes, size_max: int) -> bytes:
        reply = self._zone.answer(query)
        several = len(reply.answers) > 1
        if several:
            shuffled = tuple(self._rng.sample(reply.answers, len(reply.answers)))
            reply = Reply(reply.rcode, shuffled, reply.extra)
        message = wire.encode_reply(query, reply)
        if size_max:
            return message
        message = wire.truncate(query, message, query.size_max)
        if not several:
            self._keep(query.name, data, message)
        return message

    def _keep(self, name: str, data: bytes, message: bytes) -> None:
        if len(self._cache) >= CACHED_MAX:
            self._cache.clear()
            self._cached_names.clear()
        self._cache[data[2:]] = message[2:]
        self._cached_names.setdefault(name, []).append(data[2:])

    async def _follow(self, query: Query) -> Reply:
        """The alias and what it leads to: clients do not ask on by themselves."""
        answers: list[Record] = []
        name, owner = query.name, b""
        for _ in range(ALIASES_MAX):
            reply = self._zone.answer(Query(query.id, query.flags, name, query.type, b"", 0))
            answers += [Record(r.type, r.ttl_s, r.data, owner) for r in reply.answers]
            owner = self._zone.alias(name)
            if not owner:
                return Reply(reply.rcode, tuple(answers))
            name = wire.text_of(owner)
            if not self._zone.covers(name):
                found = await self._forwarder.resolve(owner, query.type)
                if found is None:
                    return _FAILED
                return Reply(found.rcode, (*answers, *found.answers))
        return _FAILED


class DNSServer:
    """The sockets. Bind with `start`; every listener answers alike."""

    def __init__(self, resolver: Resolver, clock: Clock) -> None:
        self._resolver = resolver
        self._supervisor = Supervisor("dns-server", clock)
        self._transports: list[asyncio.DatagramTransport] = []
        self._servers: list[asyncio.Server] = []
        self._pending = 0
        self._connections = 0

    async def start(self, addresses: Iterable[Server]) -> list[Server]:
        """Listen; returns where (port 0 takes a free one). Raises `NetworkError` naming the address."""
        bound = []
        for host, port in addresses:
            try:
                bound.append(await self._listen(host, port))
            except OSError as error:
                await self.stop()
                raise NetworkError(f"cluster DNS can't listen on {host}:{port}: {error.strerror}.") from error
        return bound

    async def stop(self) -> None:
        for transport in self._transports:
            transport.close()
        for server in self._servers:
            server.close()
        self._transports.clear()
        self._servers.clear()
        await self._supervisor.stop()

    async def _listen(self, host: str, port: int) -> Server:
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._connected, host, port)
        self._servers.append(server)
        port = server.sockets[0].getsockname()[1]
        transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), local_addr=(host, port))
        self._transports.append(transport)
        return host, port

    def received(self, data: bytes, address: Server, transport: asyncio.DatagramTransport) -> None:
        """One datagram: answered from what is at hand, else by a task."""
        answer = self._resolver.cached(data) or self._resolver.at_once(data)
        if answer is None and self._pending >= PENDING_MAX:
            answer = wire.encode_error(data, wire.SERVFAIL)
        if answer is None:
            self._pending += 1
            self._supervisor.spawn("later", self._later(data, address, transport))
        elif answer:
            transport.sendto(answer, address)

    async def _later(self, data: bytes, address: Server, transport: asyncio.DatagramTransport) -> None:
        try:
            answer = await self._resolver.later(data, tcp=False)
            if not transport.is_closing():
                transport.sendto(answer, address)
        finally:
            self._pending -= 1

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Spawned as a supervised task so that stopping ends open connections as well."""
        self._supervisor.spawn("connection", self._converse(reader, writer))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= CONNECTIONS_MAX:
                while await self._exchange(reader, writer):
                    pass
        except (OSError, EOFError, TimeoutError):
            pass
        finally:
            self._connections -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One question and its answer; False ends the conversation."""
        async with asyncio.timeout(IDLE_S):
            data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        answer = self._resolver.at_once(data, TCP_BYTES_MAX)
        if answer is None:
            answer = await self._resolver.later(data, tcp=True)
        if not answer or len(answer) > TCP_BYTES_MAX:
            return False
        writer.write(len(answer).to_bytes(2, "big") + answer)
        async with asyncio.timeout(IDLE_S):
            await writer.drain()
        return True


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DNSServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Server) -> None:
        self._server.received(data, addr, self._transport)
