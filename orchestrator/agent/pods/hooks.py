"""Lifecycle hooks of containers: exec, httpGet, tcpSocket and sleep. Called by operations and termination."""

import asyncio

import aiohttp
from yarl import URL

from orchestrator.agent.pods.probes import resolve_port
from orchestrator.api.item import Object
from orchestrator.base.clock import Clock
from orchestrator.runtime.interface import Container, Runtime, RuntimeFailure

POST_START_TIMEOUT_S = 300.0


async def run(
    runtime: Runtime,
    clock: Clock,
    container: Container,
    spec: Object,
    hook: Object,
    pod_ip: str,
    timeout_s: float = POST_START_TIMEOUT_S,
) -> str:
    """Run one hook; empty on success, else what went wrong. What an HTTP server answers does not matter."""
    try:
        async with asyncio.timeout(timeout_s):
            if "exec" in hook:
                command = hook["exec"].get("command") or ()
                code, output = await runtime.exec_sync(container.id, command, timeout_s)
                return "" if code == 0 else f"exit code {code}: {output.decode(errors='replace')}"
            if "httpGet" in hook:
                return await _http(spec, hook["httpGet"], pod_ip)
            if "sleep" in hook:
                await clock.sleep(float(hook["sleep"]["seconds"]))
            elif "tcpSocket" in hook:
                port = resolve_port(spec, hook["tcpSocket"]["port"])
                _, writer = await asyncio.open_connection(hook["tcpSocket"].get("host") or pod_ip, port)
                writer.close()
            return ""
    except TimeoutError:
        return f"timed out after {timeout_s:g}s"
    except (RuntimeFailure, OSError, ValueError, aiohttp.ClientError) as error:
        return str(error) or type(error).__name__


async def _http(spec: Object, action: Object, pod_ip: str) -> str:
    port = resolve_port(spec, action["port"])
    scheme, host = action.get("scheme", "HTTP").lower(), action.get("host") or pod_ip
    path = action.get("path") or "/"
    url = URL(f"{scheme}://{host}:{port}{path if path.startswith('/') else '/' + path}")
    headers = {h["name"]: h.get("value", "") for h in action.get("httpHeaders") or ()}
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers=headers, ssl=False, allow_redirects=False),
    ):
        return ""
