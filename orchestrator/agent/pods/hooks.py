"""Lifecycle hooks of containers: exec, httpGet, tcpSocket and sleep. Called by operations and termination.

A hook has no time limit of its own: whoever runs it gives it up when it must.
"""

import aiohttp
import structlog
from yarl import URL

from orchestrator.agent.context import Recorder
from orchestrator.agent.pods.checks import (
    Unreachable,
    action_headers,
    action_url,
    connection_error,
    dial,
    resolve_port,
)
from orchestrator.api.item import Object
from orchestrator.base.clock import Clock
from orchestrator.runtime.interface import Container, Runtime, RuntimeFailure

log = structlog.get_logger(__name__)

DIAL_TIMEOUT_S = 30.0
EXEC_TIMEOUT_S = 86_400.0
"""The longest that a command may run whose container nobody ends."""


async def run(
    runtime: Runtime, clock: Clock, container: Container, spec: Object, hook: Object, pod_ip: str
) -> str:
    """Run one hook; empty on success, else what went wrong. What an HTTP server answers does not matter."""
    try:
        if "exec" in hook:
            command = hook["exec"].get("command") or ()
            code, output = await runtime.exec_sync(container.id, command, EXEC_TIMEOUT_S)
            return "" if code == 0 else f"exit code {code}: {output.decode(errors='replace')}"
        if "httpGet" in hook:
            return await _http(spec, hook["httpGet"], pod_ip)
        if "sleep" in hook:
            await clock.sleep(float(hook["sleep"]["seconds"]))
        elif "tcpSocket" in hook:
            port = resolve_port(spec, hook["tcpSocket"]["port"])
            await dial(hook["tcpSocket"].get("host") or pod_ip, port, DIAL_TIMEOUT_S)
        return ""
    except TimeoutError:
        return "timed out"
    except (RuntimeFailure, Unreachable, OSError, ValueError) as error:
        return str(error) or type(error).__name__


def tell(recorder: Recorder, pod: Object, name: str, kind: str, problem: str) -> None:
    """The event of a failed hook. What it said may be confidential: that stands in the log only."""
    metadata = pod["metadata"]
    log.warning(f"{kind} hook failed", pod=metadata["name"], container=name, problem=problem)
    recorder.event(pod, "Warning", f"Failed{kind}Hook", f"{kind}Hook failed")


async def _http(spec: Object, action: Object, pod_ip: str) -> str:
    url, headers = action_url(spec, pod_ip, action), action_headers(action)
    async with aiohttp.ClientSession(skip_auto_headers=("User-Agent", "Accept")) as session:
        try:
            await _get(session, url, headers)
        except aiohttp.ClientConnectorSSLError as error:
            # Servers that answer without TLS were served in the past, and still are.
            if url.scheme != "https":
                return f'Get "{url}": {connection_error(error)}'
            return await _plain(session, url.with_scheme("http"), headers)
        except (OSError, aiohttp.ClientError) as error:
            return f'Get "{url}": {connection_error(error)}'
    return ""


async def _plain(session: aiohttp.ClientSession, url: URL, headers: dict[str, str]) -> str:
    try:
        await _get(session, url, headers)
    except (OSError, aiohttp.ClientError) as error:
        return f'Get "{url}": {connection_error(error)}'
    return ""


async def _get(session: aiohttp.ClientSession, url: URL, headers: dict[str, str]) -> None:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=DIAL_TIMEOUT_S)
    async with session.get(url, headers=headers, ssl=False, allow_redirects=True, timeout=timeout):
        return
