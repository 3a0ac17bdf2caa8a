"""Names outside the cluster: asked of the host's resolvers, with a small cache.

Each question is sent as the client put it, under a random id and from a fresh socket; only an answer with that id and
question counts. A resolver that does not answer in time, or refuses, gives the turn to the next; none left means
SERVFAIL. Equal questions in flight share one answer. A resolver that leads back to us is noticed by a question of
our own that comes in again, and left out.
"""

import asyncio
import contextlib
import random
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.network.dns import wire

log = structlog.get_logger(__name__)

Server = tuple[str, int]

TIMEOUT_S = 2.0
ROUNDS = 2
IN_FLIGHT_MAX = 1000
CACHED_MAX = 10_000
CACHED_S_MAX = 30
FAILED_S = 5.0
"""A resolver that failed is asked last for so long."""
REFRESH_S = 5.0
PROBE_ZONE = "orchestrator-loop-check.invalid"


class ResolvConf:
    """The resolvers of a `resolv.conf`, read again when the file changes. `own` addresses are left out."""

    def __init__(self, path: Path = Path("/etc/resolv.conf"), own: Collection[str] = ()) -> None:
        self._path = path
        self._own = frozenset(own)
        self._read_ns = -1
        self._servers: list[Server] = []

    def __call__(self) -> list[Server]:
        try:
            changed_ns = self._path.stat().st_mtime_ns
            if changed_ns != self._read_ns:
                self._servers = parse_resolv_conf(self._path.read_text(errors="replace"), self._own)
                self._read_ns = changed_ns
        except OSError as error:
            log.warning("the host's resolvers can't be read", file=str(self._path), cause=error.strerror)
        return self._servers


def parse_resolv_conf(text: str, own: Collection[str]) -> list[Server]:
    """Its name servers without those in `own`, in order. Pure."""
    words = [line.split() for line in text.splitlines()]
    found = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
    return [(address, 53) for address in dict.fromkeys(found) if address not in own]


@dataclass(frozen=True, slots=True)
class _Cached:
    message: bytes
    offsets: tuple[int, ...]
    stored_s: float
    until_s: float


class Forwarder:
    """Asks the servers that `upstreams()` names. Owner of its cache: the event loop."""

    def __init__(self, upstreams: Callable[[], Sequence[Server]], clock: Clock, rng: random.Random) -> None:
        self._upstreams = upstreams
        self._clock = clock
        self._rng = rng
        self._supervisor = Supervisor("dns-forward", clock)
        self._cache: OrderedDict[bytes, _Cached] = OrderedDict()
        self._in_flight: dict[tuple[bytes, bool], asyncio.Task[bytes | None]] = {}
        self._failed_s: dict[Server, float] = {}
        self._probes: dict[str, Server] = {}
        self._loops: set[Server] = set()
        self._probed: set[Server] = set()

    async def stop(self) -> None:
        await self._supervisor.stop()

    async def ask(self, data: bytes, *, tcp: bool = False) -> bytes | None:
        """The answer to a client's whole message, under its id; None when nobody answers."""
        answer = self._from_cache(data[2:])
        if answer is None:
            answer = await self._shared(data, tcp)
        return None if answer is None else data[:2] + answer[2:]

    async def resolve(self, name: bytes, kind: int) -> wire.Parsed | None:
        """The records of a name (wire form) for our own use; None when nobody answers."""
        answer = await self.ask(wire.encode_query(0, name, kind))
        if answer is None:
            return None
        try:
            return wire.parse_reply(answer)
        except wire.FormatError:
            return None

    def noticed(self, name: str) -> bool:
        """Whether a question that came in is one that we sent out ourselves to find loops."""
        server = self._probes.get(name)
        if server is not None and server not in self._loops:
            log.warning("this resolver leads back to the cluster DNS and is left out", resolver=server[0])
            self._loops.add(server)
        return server is not None

    def _from_cache(self, question: bytes) -> bytes | None:
        entry = self._cache.get(question)
        if entry is None:
            return None
        now_s = self._clock.monotonic_s()
        if now_s >= entry.until_s:
            del self._cache[question]
            return None
        return wire.with_lives(entry.message, entry.offsets, int(now_s - entry.stored_s))

    async def _shared(self, data: bytes, tcp: bool) -> bytes | None:
        key = (data[2:], tcp)
        task = self._in_flight.get(key)
        if task is None:
            if len(self._in_flight) >= IN_FLIGHT_MAX:
                return None
            task = self._supervisor.spawn("ask", self._ask_all(data, tcp))
            self._in_flight[key] = task
            task.add_done_callback(lambda _: self._in_flight.pop(key, None))
        return await asyncio.shield(task)

    async def _ask_all(self, data: bytes, tcp: bool) -> bytes | None:
        """Ask one server after the other; an answer that only says no is kept as a last resort."""
        refusal: bytes | None = None
        for _ in range(ROUNDS):
            for server in self._in_order():
                answer = await self._ask_one(server, data, tcp)
                if answer is None:
                    self._failed_s[server] = self._clock.monotonic_s()
                elif answer[3] & 0xF in (wire.SERVFAIL, wire.REFUSED, wire.NOTIMP):
                    refusal = answer
                else:
                    self._failed_s.pop(server, None)
                    self._keep(data, answer)
                    return answer
            if refusal is not None:
                break
        return refusal

    async def _ask_one(self, server: Server, data: bytes, tcp: bool) -> bytes | None:
        identity = self._rng.getrandbits(16).to_bytes(2, "big")
        exchange = _exchange_tcp if tcp else _exchange_udp
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await exchange(server, identity + data[2:])
        except (OSError, TimeoutError, EOFError) as error:
            log.debug(
                "resolver does not answer", resolver=server[0], cause=str(error) or type(error).__name__
            )
            return None

    def _in_order(self) -> list[Server]:
        """The servers to ask, those that failed lately last."""
        servers = list(self._upstreams())
        for server in servers:
            if server not in self._probed:
                self._probed.add(server)
                self._supervisor.spawn("probe", self._probe(server))
        late_s = self._clock.monotonic_s() - FAILED_S
        usable = [server for server in servers if server not in self._loops]
        return sorted(usable, key=lambda server: self._failed_s.get(server, 0.0) > late_s)

    async def _probe(self, server: Server) -> None:
        name = f"{self._rng.getrandbits(64):016x}.{PROBE_ZONE}"
        self._probes[name] = server
        await self._ask_one(server, wire.encode_query(0, wire.encode_name(name), wire.A), False)

    def _keep(self, data: bytes, answer: bytes) -> None:
        """Remember an answer for as long as its records live, `CACHED_S_MAX` at most."""
        try:
            parsed = wire.parse_reply(answer)
        except wire.FormatError:
            return
        life_s = min(parsed.ttl_s, CACHED_S_MAX)
        if life_s <= 0 or parsed.flags & wire.TRUNCATED or parsed.rcode not in (wire.NOERROR, wire.NXDOMAIN):
            return
        now_s = self._clock.monotonic_s()
        self._cache[data[2:]] = _Cached(answer, parsed.ttl_offsets, now_s, now_s + life_s)
        if len(self._cache) > CACHED_MAX:
            self._cache.popitem(last=False)


class _Exchange(asyncio.DatagramProtocol):
    """One question over one UDP socket."""

    def __init__(self, message: bytes, answer: asyncio.Future[bytes]) -> None:
        self._message = message
        self._answer = answer

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        transport.sendto(self._message)

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self._answer.done() and _answers(self._message, data):
            self._answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc)


def _answers(message: bytes, data: bytes) -> bool:
    """Whether `data` is an answer to the question in `message`; an error may leave the question out."""
    if len(data) < 12 or data[:2] != message[:2] or not data[2] & 0x80:
        return False
    if data[4:6] == b"\0\0":
        return data[3] & 0xF != wire.NOERROR
    try:
        _, end = wire.read_name(message, 12)
    except wire.FormatError:
        return False
    return data[12 : end + 4].lower() == message[12 : end + 4].lower()


async def _exchange_udp(server: Server, message: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes] = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Exchange(message, answer), remote_addr=server)
    try:
        return await answer
    finally:
        transport.close()


async def _exchange_tcp(server: Server, message: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(len(message).to_bytes(2, "big") + message)
        data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        if not _answers(message, data):
            raise ConnectionError("answers another question")
        return data
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
