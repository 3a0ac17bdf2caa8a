"""One attempt of a probe: a request, a connection, a command or a gRPC health check, and what it says.

A check that could not be carried out says nothing (`unknown`) and is tried again by its caller. Texts are those of
a kubelet's events in Kubernetes v1.36. Called by `probes` and, for ports and addresses, by `hooks`.
"""

import asyncio
import os
import shlex
from collections.abc import Sequence
from typing import Literal, NamedTuple

import aiohttp
from yarl import URL

from orchestrator import KUBERNETES_VERSION
from orchestrator.api.item import Object
from orchestrator.base.errors import OrchestratorError
from orchestrator.runtime.interface import Container, Runtime, RuntimeFailure
from orchestrator.wire.grpc import GrpcClient, GrpcError, preload
from orchestrator.wire.raw import VARINT, bytes_field, fields

BODY_MAX = 10 * 1024
REDIRECTS_MAX = 10
SLACK_S = 0.5
"""What a check may take beyond its timeout: its own deadline speaks first, with better words."""
USER_AGENT = "kube-probe/" + ".".join(KUBERNETES_VERSION.removeprefix("v").split(".")[:2])
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
SERVING = 1
_SERVING_STATES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


class Outcome(NamedTuple):
    """What one attempt found. A warning counts as success; unknown counts as nothing."""

    result: Literal["success", "warning", "failure", "unknown"]
    text: str = ""

    @property
    def ok(self) -> bool:
        return self.result in ("success", "warning")


SUCCESS = Outcome("success")


class Unreachable(OrchestratorError):
    """A connection that did not come about, in the words of an event."""


class Checker:
    """Carries checks out. Owner of the connections' settings; close it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Let connections go."""
        if self._session is not None:
            await self._session.close()

    async def check(self, container: Container, spec: Object, pod_ip: str, probe: Object) -> Outcome:
        """One attempt of `probe` of the container that `spec` describes."""
        timeout_s = float(probe.get("timeoutSeconds", 1))
        try:
            async with asyncio.timeout(timeout_s + SLACK_S):
                if "httpGet" in probe:
                    return await self._http(spec, pod_ip, probe["httpGet"], timeout_s)
                if "tcpSocket" in probe:
                    return await _tcp(spec, pod_ip, probe["tcpSocket"], timeout_s)
                if "exec" in probe:
                    return await self._exec(container, probe["exec"].get("command") or (), timeout_s)
                if "grpc" in probe:
                    return await _grpc(pod_ip, probe["grpc"], timeout_s)
        except TimeoutError:
            return _timed_out(probe, timeout_s)
        except (ValueError, RuntimeFailure) as error:
            return Outcome("unknown", str(error))
        return Outcome("unknown", f"missing probe handler for {spec['name']}")

    async def _exec(self, container: Container, command: Sequence[str], timeout_s: float) -> Outcome:
        try:
            code, output = await self._runtime.exec_sync(container.id, command, timeout_s)
        except TimeoutError:
            return _timed_out({"exec": {"command": command}}, timeout_s)
        return Outcome("success" if code == 0 else "failure", output[:BODY_MAX].decode(errors="replace"))

    async def _http(self, spec: Object, pod_ip: str, action: Object, timeout_s: float) -> Outcome:
        first = url = action_url(spec, pod_ip, action)
        headers = action_headers(action)
        try:
            for _ in range(REDIRECTS_MAX):
                status, body, onward = await self._get(url, headers, timeout_s)
                if onward is None or onward.host != first.host:
                    return _judged(status, body)
                url = onward
        except TimeoutError:
            awaited = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            return Outcome("failure", f'Get "{url}": {awaited}')
        except (OSError, aiohttp.ClientError) as error:
            return Outcome("failure", f'Get "{url}": {connection_error(error)}')
        return Outcome("failure", f'Get "{url}": stopped after {REDIRECTS_MAX} redirects')

    async def _get(
        self, url: URL, headers: dict[str, str], timeout_s: float
    ) -> tuple[int, bytes, URL | None]:
        """Status, body, and where a redirect leads. Certificates are not checked, as documented."""
        async with self._http_session().get(
            url,
            headers=headers,
            ssl=False,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        ) as response:
            body = await response.content.read(BODY_MAX)
            location = response.headers.get("Location")
            redirected = 300 <= response.status < 400 and location is not None
            return response.status, body, url.join(URL(location)) if redirected and location else None

    def _http_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(force_close=True, limit=0)
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent", "Accept"),
            )
        return self._session


def _timed_out(probe: Object, timeout_s: float) -> Outcome:
    if "exec" in probe:
        said = shlex.join(probe["exec"].get("command") or ())
        return Outcome("failure", f'command timed out: "{said}" timed out after {timeout_s:g}s')
    return Outcome("failure", f"probe timed out after {timeout_s:g}s")


def _judged(status: int, body: bytes) -> Outcome:
    if 200 <= status < 300:
        return Outcome("success", body.decode(errors="replace"))
    if 300 <= status < 400:
        text = f"Probe terminated redirects, Response body: {body.decode(errors='replace')}"
        return Outcome("warning", text)
    return Outcome("failure", f"HTTP probe failed with statuscode: {status}")


def action_url(spec: Object, pod_ip: str, action: Object) -> URL:
    """Where an `httpGet` leads. Raises `ValueError` for a port that has no such name."""
    port, host = resolve_port(spec, action["port"]), action.get("host") or pod_ip
    path = action.get("path") or "/"
    scheme = action.get("scheme", "HTTP").lower()
    return URL(f"{scheme}://{bracketed(host)}:{port}{path if path.startswith('/') else '/' + path}")


def action_headers(action: Object) -> dict[str, str]:
    """Headers of an `httpGet`; an empty `Accept` or `User-Agent` sends none."""
    headers = {"User-Agent": USER_AGENT, "Accept": "*/*"}
    for header in action.get("httpHeaders") or ():
        name = next((known for known in headers if known.lower() == header["name"].lower()), header["name"])
        headers[name] = header.get("value", "")
    return {name: value for name, value in headers.items() if value or name not in ("User-Agent", "Accept")}


async def _tcp(spec: Object, pod_ip: str, action: Object, timeout_s: float) -> Outcome:
    port, host = resolve_port(spec, action["port"]), action.get("host") or pod_ip
    try:
        await dial(host, port, timeout_s)
    except Unreachable as error:
        return Outcome("failure", str(error))
    return SUCCESS


async def dial(host: str, port: int, timeout_s: float) -> None:
    """Open a connection and close it. Raises `Unreachable`."""
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        raise Unreachable(f"dial tcp {bracketed(host)}:{port}: i/o timeout") from None
    except OSError as error:
        raise Unreachable(f"dial tcp {bracketed(host)}:{port}: connect: {_cause(error)}") from None
    writer.close()


async def _grpc(pod_ip: str, action: Object, timeout_s: float) -> Outcome:
    await asyncio.to_thread(preload)
    address = f"{bracketed(pod_ip)}:{action['port']}"
    service = (action.get("service") or "").encode()
    client = GrpcClient([f"http://{address}"], user_agent=USER_AGENT)
    try:
        request = bytes_field(1, service) if service else b""
        answer = await client.unary(HEALTH_CHECK, request, timeout_s=timeout_s)
    except GrpcError as error:
        return Outcome("failure", _grpc_problem(error, address, timeout_s))
    finally:
        await client.close()
    found = (v for n, kind, v in fields(memoryview(answer)) if n == 1 and kind == VARINT)
    status = next((value for value in found if isinstance(value, int)), 0)
    if status == SERVING:
        return Outcome("success", "service healthy")
    return Outcome("failure", f'service unhealthy (responded with "{_SERVING_STATES.get(status, status)}")')


def _grpc_problem(error: GrpcError, address: str, timeout_s: float) -> str:
    if not error.sent:
        cause = error.details.partition(": ")[2] or error.details
        within = f"within {timeout_s:g}s: {cause or 'context deadline exceeded'}"
        return f'timeout: failed to connect service "{address}" {within}'
    if error.code == "UNIMPLEMENTED":
        text = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
        return f"{text}: {error.details}"
    if error.code == "DEADLINE_EXCEEDED":
        return f"timeout: health rpc did not complete within {timeout_s:g}s"
    return f"error: health rpc probe failed: {error.details}"


def connection_error(error: Exception) -> str:
    """What became of an HTTP request, as Go words it."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"dial tcp {bracketed(error.host)}:{error.port}: connect: {_cause(error.os_error)}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "EOF"
    return str(error) or type(error).__name__


def _cause(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)


def resolve_port(spec: Object, port: int | str) -> int:
    """A port by number or by the name that the container gives it."""
    if isinstance(port, int):
        return port
    for known in spec.get("ports") or ():
        if known.get("name") == port:
            return int(known["containerPort"])
    if port.isdecimal():
        return int(port)
    raise ValueError(f"couldn't find port: {port!r}")


def bracketed(host: str) -> str:
    """An address as it stands before a port."""
    return f"[{host}]" if ":" in host else host
