"""`proxy` of pods, Services and nodes: a request to an application inside the cluster, by way of the API server.

Bodies stream both ways with bounded buffers; an upgrade is relayed unread. Redirects are not followed: a
`Location`, and the links of an HTML page, get the prefix under which the client reaches the application. The
client's credentials go no further. Errors on the way are a `Status` (503). Source of the rules: Kubernetes'
upgrade-aware proxy handler.
"""

import asyncio
import os
import posixpath
import random
import re
import socket
import ssl
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import structlog
from multidict import CIMultiDict
from yarl import URL

from orchestrator.api.errors import BadRequest, ServiceUnavailable
from orchestrator.server.paths import RequestInfo
from orchestrator.server.proxy_html import LinkRewriter, PageRewriter
from orchestrator.server.proxy_targets import Objects, Target, check_address, of_pod, of_service, split_name
from orchestrator.server.relay import BEARER_PROTOCOL, Relay
from orchestrator.web.answer import Answer, Request, Response, header
from orchestrator.web.listener import when_lost
from orchestrator.web.streaming import relayed
from orchestrator.web.upgrade import RawStream, TakenOver, connect, relay, take_over

log = structlog.get_logger(__name__)

DIAL_TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 600.0
"""Until the head of the answer; a body may take as long as it likes, while somebody reads it."""
HEAD_BYTES_MAX = 64 * 1024
REFUSAL_BYTES_MAX = 256 * 1024
CHUNK_BYTES = 64 * 1024
_HOP_BY_HOP = frozenset((
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
))  # fmt: skip
_CREDENTIALS = ("authorization", "impersonate-user", "impersonate-uid", "impersonate-group")
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_CHUNK = re.compile(rb"0*([1-9a-fA-F][0-9a-fA-F]{0,7})[^\r]*\r\n")
_LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class _Forward:
    """One request on its way. `prefix` is the path up to `proxy`, `path` what follows, as the application sees it."""

    request: Request
    target: Target
    prefix: str
    path: str
    query: str

    @property
    def url(self) -> str:
        query = f"?{self.query}" if self.query else ""
        return f"{self.target.scheme}://{self.target.netloc}{self.path or '/'}{query}"

    @property
    def links(self) -> LinkRewriter:
        return LinkRewriter(self.target.netloc, self.request.headers.get("Host", ""), self.prefix)


class Proxy:
    """Owner of the connections to applications. `close` drops idle ones."""

    def __init__(self, objects: Objects, agents: Relay, rng: random.Random) -> None:
        self._objects = objects
        self._agents = agents
        self._rng = rng
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._unverified: ssl.SSLContext | None = None

    async def close(self) -> None:
        """Drop idle connections."""
        while self._sessions:
            _, session = self._sessions.popitem()
            await session.close()

    async def answer(self, request: Request, info: RequestInfo, query_text: str) -> Response:
        """Pass the request on. Raises `BadRequest`, `NotFound`, `ServiceUnavailable`."""
        target = await self._target(info)
        prefix = info.path[: len(info.path) - len(info.rest)]
        forward = _Forward(request, target, prefix, _cleaned(info.rest), query_text)
        if _wants_upgrade(request):
            return await self._upgrade(forward)
        if not forward.path and request.method in ("GET", "HEAD"):
            query = f"?{query_text}" if query_text else ""
            return Answer(301, b"", header("Location", f"{info.path}/{query}"))
        return await self._forward(forward)

    async def _target(self, info: RequestInfo) -> Target:
        if info.resource == "pods":
            return await of_pod(self._objects, info.namespace, info.name)
        if info.resource == "services":
            return await of_service(self._objects, self._rng, info.namespace, info.name)
        scheme, name, port = split_name(info.name, "node")
        agent = await self._agents.agent(name)
        if not port or port == str(agent.port):
            return Target("https", agent.host, str(agent.port), agent=True)
        if not port.isdecimal() or not 0 < int(port[:6]) < 65536:
            raise BadRequest(f'invalid node request "{info.name}"')
        return Target(scheme, agent.host, port)

    # plain requests

    async def _forward(self, forward: _Forward) -> Response:
        request = forward.request
        headers = _headers(forward)
        headers.popall("Sec-WebSocket-Protocol", None)  # It may carry a token, and means nothing here.
        has_body = request.body_exists and request.can_read_body
        work = self._session(forward.target).request(
            request.method,
            URL(forward.url, encoded=True),
            headers=headers,
            data=_body(request) if has_body else None,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=DIAL_TIMEOUT_S),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S) as deadline:
                when_lost(request, lambda: deadline.reschedule(loop.time()))
                try:
                    answer = await work
                finally:
                    when_lost(request, None)
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
            raise _unreachable(forward.target, error) from error
        async with answer:
            return await self._passed_on(forward, answer)

    async def _passed_on(self, forward: _Forward, answer: aiohttp.ClientResponse) -> Response:
        headers = CIMultiDict(
            (name, value) for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP
        )
        for name in _listed(answer.headers.get("Connection", "")):
            headers.popall(name, None)
        body: AsyncIterator[bytes] = answer.content.iter_any()
        if "Location" in headers:
            headers["Location"] = forward.links.link(headers["Location"])
        elif _is_page(headers) and forward.request.method != "HEAD":
            encoding = headers.popall("Content-Encoding", ["identity"])[0].lower()
            headers.popall("Content-Length", None)
            body = _pages(_decoded(body, encoding), PageRewriter(forward.links))
        response = Response(status=answer.status, reason=answer.reason, headers=headers)
        if forward.request.method == "HEAD" or answer.status in (204, 304):
            return response
        return await relayed(forward.request, response, body)

    def _session(self, target: Target) -> aiohttp.ClientSession:
        session = self._sessions.get(target.agent)
        if session is None:
            connector = aiohttp.TCPConnector(
                ssl=self._agents.tls if target.agent else self._any_certificate(),
                limit=0,
                socket_factory=None if target.agent else _guarded_socket,
            )
            session = self._sessions[target.agent] = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                max_line_size=HEAD_BYTES_MAX,
                max_field_size=HEAD_BYTES_MAX,
            )
        return session

    def _any_certificate(self) -> ssl.SSLContext:
        """An application in a pod has no certificate that anybody could check."""
        if self._unverified is None:
            context = self._unverified = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return self._unverified

    # upgrades

    async def _upgrade(self, forward: _Forward) -> Response:
        backend = await self._dial(forward.target)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                backend.write(_upgrade_head(forward))
                await backend.drain()
                head = await backend.read_until(b"\r\n\r\n", HEAD_BYTES_MAX)
                found = _STATUS.match(head)
                if found is None:
                    raise ConnectionError("malformed HTTP response")
                if int(found[1]) != 101:
                    return await _refusal(backend, head, int(found[1]))
            client = await take_over(forward.request, head)
        except (ConnectionError, TimeoutError) as error:
            backend.abort()
            raise _unreachable(forward.target, error) from error
        except BaseException:
            backend.abort()
            raise
        await relay(client, backend)
        return TakenOver()

    async def _dial(self, target: Target) -> RawStream:
        tls = None
        if target.scheme == "https":
            tls = self._agents.tls if target.agent else self._any_certificate()
        port, name = target.port_number, target.host
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                loop = asyncio.get_running_loop()
                found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
            address = str(found[0][4][0])
            if not target.agent:
                check_address(address)
            return await connect(address, port, tls=tls, server_hostname=name, timeout_s=DIAL_TIMEOUT_S)
        except (OSError, TimeoutError) as error:
            raise _unreachable(target, error) from error


def _guarded_socket(info: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
    """A socket for the address that will really be connected to, whatever a name resolved to."""
    family, kind, protocol, _, address = info
    check_address(str(address[0]))
    return socket.socket(family, kind, protocol)


def _cleaned(rest: str) -> str:
    """The path at the application: without dot segments and doubled slashes, a final slash kept."""
    if not rest or rest == "/":
        return rest
    path = posixpath.normpath("/" + rest.lstrip("/"))
    return f"{path}/" if rest.endswith("/") and path != "/" else path


def _headers(forward: _Forward) -> CIMultiDict[str]:
    """The client's headers as the application may see them."""
    request = forward.request
    dropped = {*_HOP_BY_HOP, *_listed(request.headers.get("Connection", "")), "host", "expect"}
    headers = CIMultiDict(
        (name, value)
        for name, value in request.headers.items()
        if (lower := name.lower()) not in dropped and not _is_credential(lower)
    )
    headers["X-Forwarded-Uri"] = forward.prefix + (forward.path or "")
    before = request.headers.get("X-Forwarded-For")
    remote = request.remote or ""
    if remote:
        headers["X-Forwarded-For"] = f"{before}, {remote}" if before else remote
    return headers


def _is_credential(lower: str) -> bool:
    return lower in _CREDENTIALS or lower.startswith("impersonate-extra-")


def _listed(value: str) -> list[str]:
    return [name.strip().lower() for name in value.split(",") if name.strip()]


def _upgrade_head(forward: _Forward) -> bytes:
    headers = _headers(forward)
    asked = forward.request.headers
    target = forward.url.split("://", 1)[1]
    path = target[target.index("/") :]
    lines = [f"{forward.request.method} {path} HTTP/1.1", f"Host: {forward.target.netloc}"]
    lines += [f"Connection: {asked.get('Connection', 'Upgrade')}", f"Upgrade: {asked.get('Upgrade', '')}"]
    for name, value in headers.items():
        if name.lower() == "sec-websocket-protocol":
            value = ", ".join(
                p for p in map(str.strip, value.split(",")) if not p.startswith(BEARER_PROTOCOL)
            )
        if value:
            lines.append(f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode(errors="surrogateescape")


def _wants_upgrade(request: Request) -> bool:
    return "upgrade" in _listed(request.headers.get("Connection", "")) and "Upgrade" in request.headers


async def _body(request: Request) -> AsyncIterator[bytes]:
    while data := await request.content.read(CHUNK_BYTES):
        yield data


async def _refusal(backend: RawStream, head: bytes, code: int) -> Response:
    """The application's answer in place of an upgrade."""
    length, kind, chunked = REFUSAL_BYTES_MAX, "text/plain; charset=utf-8", False
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        value = value.strip()
        if name.lower() == b"content-length" and value.isdigit() and len(value) < 20:
            length = min(length, int(value))
        elif name.lower() == b"content-type":
            kind = value.decode("latin-1")
        elif name.lower() == b"transfer-encoding":
            chunked = value.lower() == b"chunked"
    if code < 200 or code in (204, 304):
        length = 0
    body = b""
    while len(body) < length and not (chunked and body.endswith(_LAST_CHUNK)):
        data = await backend.read(length - len(body))
        if not data:
            break
        body += data
    backend.abort()
    return Answer(code, _unchunked(body) if chunked else body, header("Content-Type", kind), close=True)


def _unchunked(data: bytes) -> bytes:
    """The body in a chunked one, as far as it is complete."""
    parts: list[bytes] = []
    while match := _CHUNK.match(data):
        size = int(match[1], 16)
        parts.append(data[match.end() : match.end() + size])
        data = data[match.end() + size + 2 :]
    return b"".join(parts)


def _is_page(headers: "CIMultiDict[str]") -> bool:
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return kind == "text/html" and headers.get("Content-Encoding", "identity").lower() in ("identity", "gzip")


async def _decoded(body: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    """`body` in plain, in parts of bounded size."""
    if encoding != "gzip":
        async for data in body:
            yield data
        return
    decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)
    async for data in body:
        while data:
            yield decoder.decompress(data, CHUNK_BYTES)
            data = decoder.unconsumed_tail
    yield decoder.flush()


async def _pages(body: AsyncIterator[bytes], page: PageRewriter) -> AsyncIterator[bytes]:
    async for data in body:
        for start in range(0, len(data), CHUNK_BYTES):
            if rewritten := page.feed(data[start : start + CHUNK_BYTES]):
                yield rewritten
            await asyncio.sleep(0)
    if rest := page.end():
        yield rest


def _unreachable(target: Target, error: BaseException) -> ServiceUnavailable:
    """What a client is told: in the words of Go's network errors, which people search for."""
    where = f"dial tcp {target.host}:{target.port_number}" if ":" not in target.host else target.netloc
    cause = getattr(error, "os_error", error)
    if isinstance(error, aiohttp.ConnectionTimeoutError | TimeoutError):
        text = f"{where}: i/o timeout"
    elif isinstance(cause, OSError) and cause.errno and cause.errno > 0:
        text = f"{where}: connect: {os.strerror(cause.errno).lower()}"
    else:
        text = str(error) or type(error).__name__
    return ServiceUnavailable(f"error trying to reach service: {text}")
