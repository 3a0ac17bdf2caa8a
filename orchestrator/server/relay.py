"""exec, attach, port-forward and logs: handed on to the node's agent.

Bytes of an upgraded connection are relayed unread; the agent ends the protocols. Here it is decided which agent
and which container are meant, and answers that are no upgrade become a `Status`.
"""

import asyncio
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

from orchestrator.api.errors import ApiError, BadRequest, InternalError, NotFound
from orchestrator.api.item import Object
from orchestrator.api.resources import NODES, PODS
from orchestrator.server.interfaces import Reader
from orchestrator.server.logs import log_query
from orchestrator.server.query import Query
from orchestrator.web.answer import Answer, Request, Response
from orchestrator.web.body import BodyError, read_body
from orchestrator.web.streaming import stream_to
from orchestrator.web.upgrade import RawStream, TakenOver, connect, relay, take_over

DIAL_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 30.0
HEAD_BYTES_MAX = 64 * 1024
REFUSAL_BYTES_MAX = 64 * 1024
_PASSED_ON = ("upgrade", "connection", "x-stream-protocol-version", "origin", "user-agent", "content-length")
BEARER_PROTOCOL = "base64url.bearer.authorization.k8s.io."
_EXEC_FLAGS = (("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty"))


@dataclass(frozen=True, slots=True)
class Agent:
    """Where a node's agent listens."""

    node: str
    host: str
    port: int


class Refused(ApiError):
    """The agent's own answer, in place of an upgrade or a stream."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code if 400 <= code <= 599 else 500  # type: ignore[misc]
        self.reason = _REASONS.get(self.code, "InternalError")  # type: ignore[misc]


_REASONS = {
    400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 405: "MethodNotAllowed",
    409: "Conflict", 429: "TooManyRequests", 503: "ServiceUnavailable", 504: "Timeout",
}  # fmt: skip


class Relay:
    """Connections to agents. Owner of the client session for logs."""

    def __init__(self, reader: Reader, tls: ssl.SSLContext) -> None:
        """`tls` shows the API server's client certificate and trusts the CA of the agents' certificates."""
        self._reader = reader
        self.tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Drop idle connections to agents."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def connect(
        self, request: Request, namespace: str, name: str, subresource: str, query: Query
    ) -> Response:
        """exec, attach or portforward: check, dial, pass the upgrade on, relay until it ends."""
        pod = (await self._reader.get(PODS, namespace, name)).object
        agent = await self._agent_of(pod)
        path = _agent_path(pod, subresource, query)
        if "upgrade" not in request.headers.get("Connection", "").lower():
            raise BadRequest("Upgrade request required")
        backend = await self._dial(agent)
        try:
            head = await self._handshake(request, backend, agent, path)
            client = await take_over(request, head)
        except BaseException:
            backend.abort()
            raise
        await relay(client, backend)
        return TakenOver()

    async def log(self, request: Request, namespace: str, name: str, query: Query) -> Response:
        """A container's log, followed when asked to."""
        parameters = log_query(name, query)
        pod = (await self._reader.get(PODS, namespace, name)).object
        container = container_of(pod, query.text("container"))
        if not (pod.get("spec") or {}).get("nodeName"):
            return Answer(200, b"", b"Content-Type: text/plain\r\n")
        agent = await self._agent_of(pod)
        path = f"/containerLogs/{quote(namespace)}/{quote(name)}/{quote(container)}"
        return await self._stream(request, agent, "GET", f"{path}?{urlencode(parameters)}")

    async def _stream(self, request: Request, agent: Agent, method: str, path: str) -> Response:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self.tls, limit=0)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=DIAL_TIMEOUT_S)
        headers = {"Content-Type": request.headers.get("Content-Type", "application/octet-stream")}
        url = f"https://{_netloc(agent)}{path}"
        try:
            data = await read_body(request)
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                answer = await self._session.request(
                    method, URL(url, encoded=True), data=data or None, headers=headers, timeout=timeout
                )
            async with answer:
                if answer.status >= 400:
                    text = await answer.content.read(REFUSAL_BYTES_MAX)
                    raise Refused(answer.status, text.decode(errors="replace").strip())
                content_type = answer.headers.get("Content-Type", "text/plain")
                return await stream_to(request, answer.status, content_type, answer.content)
        except BodyError as error:
            raise BadRequest(error.message) from error
        except aiohttp.ClientConnectorError as error:
            raise InternalError(_dialing(agent, error.os_error)) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise InternalError(f"error talking to node {agent.node}: {error or 'no answer'}") from error

    async def _agent_of(self, pod: Object) -> Agent:
        node = (pod.get("spec") or {}).get("nodeName")
        if not node:
            raise BadRequest(f"pod {pod['metadata']['name']} does not have a host assigned")
        return await self.agent(node)

    async def agent(self, name: str) -> Agent:
        """The agent of node `name`. Raises `NotFound`."""
        node = (await self._reader.get(NODES, "", name)).object
        status = node.get("status") or {}
        addresses = {entry["type"]: entry["address"] for entry in reversed(status.get("addresses") or [])}
        host = addresses.get("InternalIP") or addresses.get("Hostname") or addresses.get("ExternalIP")
        port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or 0
        if not host or not port:
            raise NotFound(f'no address of the agent on node "{name}" is known', kind="nodes", name=name)
        return Agent(name, host, port)

    async def _dial(self, agent: Agent) -> RawStream:
        try:
            return await connect(
                agent.host, agent.port, tls=self.tls, server_hostname=agent.host, timeout_s=DIAL_TIMEOUT_S
            )
        except (OSError, TimeoutError) as error:
            raise InternalError(_dialing(agent, error)) from error

    async def _handshake(self, request: Request, backend: RawStream, agent: Agent, path: str) -> bytes:
        """Send the upgrade request; the agent's 101 head, or `Refused` with what it said."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                backend.write(_upgrade_head(request, agent, path))
                await backend.drain()
                head = await backend.read_until(b"\r\n\r\n", HEAD_BYTES_MAX)
                code = _status_code(head)
                if code == 101:
                    return head
                message = await _refusal(backend, head)
        except (ConnectionError, TimeoutError) as error:
            raise InternalError(f"error talking to node {agent.node}: {error or 'no answer'}") from error
        raise Refused(code, f"unable to upgrade connection: {message}")


def container_of(pod: Object, wanted: str) -> str:
    """The container that is meant. Raises `BadRequest` when it does not exist or is not clear."""
    spec = pod.get("spec") or {}
    name = pod["metadata"]["name"]
    containers = [c["name"] for c in spec.get("containers") or []]
    init = [c["name"] for c in spec.get("initContainers") or []]
    if wanted:
        ephemeral = [c["name"] for c in spec.get("ephemeralContainers") or []]
        if wanted not in (*containers, *init, *ephemeral):
            raise BadRequest(f"container {wanted} is not valid for pod {name}")
        return wanted
    if len(containers) == 1:
        return str(containers[0])
    choices = f"[{' '.join(containers)}]"
    if init:
        choices += f" or one of the init containers: [{' '.join(init)}]"
    raise BadRequest(f"a container name must be specified for pod {name}, choose one of: {choices}")


def _agent_path(pod: Object, subresource: str, query: Query) -> str:
    """Path and query at the agent, as a kubelet has them."""
    metadata = pod["metadata"]
    where = f"{quote(metadata['namespace'])}/{quote(metadata['name'])}"
    if subresource == "portforward":
        parameters = [("port", port) for port in query.all("ports")]
        return _with_query(f"/portForward/{where}", parameters)
    phase = (pod.get("status") or {}).get("phase")
    if phase in ("Succeeded", "Failed"):
        raise BadRequest(
            f"cannot {subresource} into a container in a completed pod; current phase is {phase}"
        )
    container = container_of(pod, query.text("container"))
    parameters = [(theirs, "1") for ours, theirs in _EXEC_FLAGS if query.flag(ours)]
    parameters += [("command", part) for part in query.all("command")]
    if subresource == "exec" and not query.all("command"):
        raise BadRequest("you must specify at least 1 command for the container")
    if not parameters or not any(query.flag(flag) for flag in ("stdin", "stdout", "stderr")):
        raise BadRequest("you must specify at least one of stdin, stdout, stderr")
    return _with_query(f"/{subresource}/{where}/{quote(container)}", parameters)


def _with_query(path: str, parameters: Iterable[tuple[str, str]]) -> str:
    text = urlencode(list(parameters))
    return f"{path}?{text}" if text else path


def _netloc(agent: Agent) -> str:
    host = f"[{agent.host}]" if ":" in agent.host else agent.host
    return f"{host}:{agent.port}"


def _upgrade_head(request: Request, agent: Agent, path: str) -> bytes:
    """The client's upgrade request, addressed to the agent, without the client's credentials."""
    lines = [f"{request.method} {path} HTTP/1.1", f"Host: {_netloc(agent)}"]
    for name, value in request.headers.items():
        lower = name.lower()
        if lower == "sec-websocket-protocol":
            offered = [p.strip() for p in value.split(",")]
            value = ", ".join(p for p in offered if not p.startswith(BEARER_PROTOCOL))
        elif lower not in _PASSED_ON and not lower.startswith("sec-websocket-"):
            continue
        if value:
            lines.append(f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _status_code(head: bytes) -> int:
    parts = head.split(b" ", 2)
    if len(parts) < 2 or not head.startswith(b"HTTP/1.") or not parts[1][:3].isdigit():
        raise ConnectionError("the agent does not speak HTTP")
    return int(parts[1][:3])


async def _refusal(backend: RawStream, head: bytes) -> str:
    """The text of an answer that is no 101, as far as it comes with a length or the connection's end."""
    length = REFUSAL_BYTES_MAX
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and value.strip().isdigit():
            length = min(length, int(value))
    body = b""
    while len(body) < length and (data := await backend.read(length - len(body))):
        body += data
    return body.decode(errors="replace").strip()


def _dialing(agent: Agent, error: BaseException) -> str:
    return f"error dialing backend: dial tcp {_netloc(agent)}: {str(error) or 'timed out'}"
