"""Probes: one task per probe of a running container; a changed verdict wakes the pod's worker.

Thresholds, delays and periods are Kubernetes'. A startup probe holds back the other two until it succeeds.
Owner of the verdicts: the `Prober` of the node.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace

import aiohttp

from orchestrator import __version__
from orchestrator.agent.plan import Probed
from orchestrator.api.item import Object
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime.interface import Container, Runtime, RuntimeFailure

KINDS = ("startup", "liveness", "readiness")
BODY_MAX = 10 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """What a probe talks to."""

    pod_uid: str
    pod_ip: str
    container: Container
    spec: Object


class Prober:
    """Runs the probes of every container on the node and holds what they say."""

    def __init__(
        self,
        runtime: Runtime,
        clock: Clock,
        on_change: Callable[[str], None],
        on_failure: Callable[[Target, str, str], None],
        *,
        enabled: bool = True,
    ) -> None:
        """`on_change(pod_uid)` after a verdict changed; `on_failure(target, kind, text)` per failed probe.

        Not `enabled` (simulated nodes), every container counts as started and ready.
        """
        self._enabled = enabled
        self._runtime = runtime
        self._clock = clock
        self._on_change = on_change
        self._on_failure = on_failure
        self._supervisors: dict[str, Supervisor] = {}
        self._verdicts: dict[str, Probed] = {}
        self._session: aiohttp.ClientSession | None = None

    def verdicts(self, container_ids: list[str]) -> dict[str, Probed]:
        """What is known of these containers."""
        return {cid: self._verdicts[cid] for cid in container_ids if cid in self._verdicts}

    def watch(self, target: Target) -> None:
        """Probe a running container from now on; one that is watched already goes on as it is."""
        container_id, spec = target.container.id, target.spec
        if container_id in self._supervisors:
            return
        probes = {kind: spec[f"{kind}Probe"] for kind in KINDS if f"{kind}Probe" in spec}
        if not probes or not self._enabled:
            return
        self._verdicts[container_id] = Probed(
            started="startup" not in probes, ready="readiness" not in probes and "startup" not in probes
        )
        supervisor = self._supervisors[container_id] = Supervisor(f"probe/{spec['name']}", self._clock)
        for kind, probe in probes.items():
            supervisor.serve(kind, lambda kind=kind, probe=probe: self._run(target, kind, probe))  # type: ignore[misc]

    async def forget(self, container_id: str) -> None:
        """Stop probing; an unknown container is fine."""
        supervisor = self._supervisors.pop(container_id, None)
        self._verdicts.pop(container_id, None)
        if supervisor is not None:
            await supervisor.stop()

    async def close(self) -> None:
        """Stop all probes."""
        for container_id in list(self._supervisors):
            await self.forget(container_id)
        if self._session is not None:
            await self._session.close()

    async def _run(self, target: Target, kind: str, probe: Object) -> None:
        period_s = float(probe.get("periodSeconds", 10))
        await self._clock.sleep(float(probe.get("initialDelaySeconds", 0)))
        wanted, result = 0, None
        while True:
            if kind == "startup" or self._started(target):
                ok, text = await self._try(target, probe)
                wanted = wanted + 1 if ok == result else 1
                result = ok
                if not ok:
                    self._on_failure(target, kind, text)
                threshold = int(probe.get("successThreshold", 1) if ok else probe.get("failureThreshold", 3))
                if wanted >= threshold:
                    self._record(target, kind, ok, text)
                if kind == "startup" and ok and wanted >= threshold:
                    return
                await self._clock.sleep(period_s)
            else:
                await self._clock.sleep(min(period_s, 1.0))

    def _started(self, target: Target) -> bool:
        verdict = self._verdicts.get(target.container.id)
        return verdict is not None and verdict.started

    def _record(self, target: Target, kind: str, ok: bool, text: str) -> None:
        container_id = target.container.id
        old = self._verdicts.get(container_id)
        if old is None:
            return
        if kind == "readiness":
            new = replace(old, ready=ok)
        elif kind == "startup" and ok:
            new = replace(old, started=True, ready="readinessProbe" not in target.spec)
        else:
            why = f"Container {target.spec['name']} failed {kind} probe, will be restarted"
            new = replace(old, failed="" if ok else why)
        if new != old:
            self._verdicts[container_id] = new
            self._on_change(target.pod_uid)

    async def _try(self, target: Target, probe: Object) -> tuple[bool, str]:
        """Whether the probe succeeded, and if not the text for the event."""
        timeout_s = float(probe.get("timeoutSeconds", 1))
        try:
            async with asyncio.timeout(timeout_s + 0.5):
                if "httpGet" in probe:
                    return await self._http(target, probe["httpGet"], timeout_s)
                if "tcpSocket" in probe:
                    return await self._tcp(target, probe["tcpSocket"], timeout_s)
                if "exec" in probe:
                    command = probe["exec"].get("command") or ()
                    code, output = await self._runtime.exec_sync(target.container.id, command, timeout_s)
                    return code == 0, output.decode(errors="replace")
        except TimeoutError:
            return False, f"probe timed out after {timeout_s:g}s"
        except (OSError, aiohttp.ClientError, RuntimeFailure, ValueError) as error:
            return False, str(error) or type(error).__name__
        return False, f"probe has no handler that this node can run: {sorted(probe)}"

    async def _http(self, target: Target, action: Object, timeout_s: float) -> tuple[bool, str]:
        port = resolve_port(target.spec, action["port"])
        host = action.get("host") or target.pod_ip
        scheme = action.get("scheme", "HTTP").lower()
        headers = {"User-Agent": f"kube-probe/{__version__}", "Accept": "*/*"}
        headers.update({h["name"]: h.get("value", "") for h in action.get("httpHeaders") or ()})
        path = action.get("path", "/")
        url = f"{scheme}://{host}:{port}/{path.lstrip('/')}"
        async with self._http_session().get(
            url,
            headers=headers,
            ssl=_insecure() if scheme == "https" else True,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        ) as response:
            await response.content.read(BODY_MAX)
            good = 200 <= response.status < 400
            return good, f"HTTP probe failed with statuscode: {response.status}"

    async def _tcp(self, target: Target, action: Object, timeout_s: float) -> tuple[bool, str]:
        port = resolve_port(target.spec, action["port"])
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(action.get("host") or target.pod_ip, port)
        writer.close()
        return True, ""

    def _http_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(force_close=True, limit=0)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session


def resolve_port(spec: Object, port: int | str) -> int:
    """A port by number or by the name that the container gives it."""
    if isinstance(port, int):
        return port
    for known in spec.get("ports") or ():
        if known.get("name") == port:
            return int(known["containerPort"])
    if port.isdigit():
        return int(port)
    raise ValueError(f"couldn't find port: {port!r}")


def _insecure() -> ssl.SSLContext:
    """Probes do not check certificates, as documented."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
