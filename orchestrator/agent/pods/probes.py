"""Probes: one task per probe of a running container; a changed verdict wakes the pod's worker.

Thresholds, delays and periods are Kubernetes'. A startup probe holds back the other two until it succeeds.
Owner of the verdicts: the `Prober` of the node.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import aiohttp
from yarl import URL

from orchestrator import KUBERNETES_VERSION
from orchestrator.agent.pods.plan import Probed
from orchestrator.api.item import Object
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime.interface import Container, Runtime, RuntimeFailure

KINDS = ("startup", "liveness", "readiness")
BODY_MAX = 10 * 1024
REDIRECTS_MAX = 10
USER_AGENT = "kube-probe/" + ".".join(KUBERNETES_VERSION.removeprefix("v").split(".")[:2])


@dataclass(frozen=True, slots=True)
class Target:
    """What a probe talks to."""

    pod_uid: str
    pod_ip: str
    container: Container
    spec: Object


@dataclass(slots=True)
class _Watched:
    """The probes of one container. `started` is set once the startup probe holds nothing back."""

    supervisor: Supervisor
    verdict: Probed
    started: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)


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
        self._watched: dict[str, _Watched] = {}
        self._session: aiohttp.ClientSession | None = None

    def verdicts(self, container_ids: list[str]) -> dict[str, Probed]:
        """What is known of these containers."""
        return {cid: self._watched[cid].verdict for cid in container_ids if cid in self._watched}

    def watch(self, target: Target, adopted: Probed | None = None) -> None:
        """Probe a running container from now on; one that is watched already goes on as it is.

        `adopted` is what an earlier agent last said of it: the verdict starts from there.
        """
        container_id, spec = target.container.id, target.spec
        if container_id in self._watched:
            return
        probes = {kind: spec[f"{kind}Probe"] for kind in KINDS if f"{kind}Probe" in spec}
        if not probes or not self._enabled:
            return
        started = "startup" not in probes
        verdict = adopted or Probed(started=started, ready="readiness" not in probes and started)
        watched = self._watched[container_id] = _Watched(
            Supervisor(f"probe/{spec['name']}", self._clock), verdict
        )
        if verdict.started:
            watched.started.set()
            probes.pop("startup", None)
        for kind, probe in probes.items():
            watched.tasks[kind] = watched.supervisor.serve(kind, partial(self._run, target, kind, probe))

    def ease(self, container_id: str) -> None:
        """The container is about to be stopped: only its readiness matters from now on."""
        watched = self._watched.get(container_id)
        if watched is not None:
            for kind in ("startup", "liveness"):
                if kind in watched.tasks:
                    watched.tasks.pop(kind).cancel()

    async def forget(self, container_id: str) -> None:
        """Stop probing; an unknown container is fine."""
        watched = self._watched.pop(container_id, None)
        if watched is not None:
            await watched.supervisor.stop()

    async def close(self) -> None:
        """Stop all probes."""
        for container_id in list(self._watched):
            await self.forget(container_id)
        if self._session is not None:
            await self._session.close()

    async def _run(self, target: Target, kind: str, probe: Object) -> None:
        """Try, count, judge, sleep. The delay counts from the container's start, also after an adoption."""
        watched = self._watched[target.container.id]
        if kind != "startup":
            await watched.started.wait()
        begin_s = target.container.started_s + float(probe.get("initialDelaySeconds", 0))
        await self._clock.sleep(begin_s - self._clock.now_s())
        wanted, result = 0, None
        while True:
            ok, text = await self._try(target, probe)
            wanted = wanted + 1 if ok == result else 1
            result = ok
            if not ok:
                self._on_failure(target, kind, text)
            threshold = int(probe.get("successThreshold", 1) if ok else probe.get("failureThreshold", 3))
            if wanted >= threshold:
                self._record(watched, target, kind, ok)
                if kind == "startup" and ok:
                    return
            await self._clock.sleep(float(probe.get("periodSeconds", 10)))

    def _record(self, watched: _Watched, target: Target, kind: str, ok: bool) -> None:
        old = watched.verdict
        if kind == "readiness":
            new = replace(old, ready=ok)
        elif kind == "startup" and ok:
            new = replace(old, started=True, ready="readinessProbe" not in target.spec)
            watched.started.set()
        else:
            why = f"Container {target.spec['name']} failed {kind} probe, will be restarted"
            new = replace(old, failed="" if ok else why)
        if new != old:
            watched.verdict = new
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
        except aiohttp.ClientConnectorError as error:
            cause = os.strerror(error.os_error.errno or 0).lower()
            return False, f"dial tcp {error.host}:{error.port}: connect: {cause}"
        except (OSError, aiohttp.ClientError, RuntimeFailure, ValueError) as error:
            return False, str(error) or type(error).__name__
        return False, f"probe has no handler that this node can run: {sorted(probe)}"

    async def _http(self, target: Target, action: Object, timeout_s: float) -> tuple[bool, str]:
        port = resolve_port(target.spec, action["port"])
        host = action.get("host") or target.pod_ip
        scheme = action.get("scheme", "HTTP").lower()
        headers = {"User-Agent": USER_AGENT, "Accept": "*/*"}
        headers.update({h["name"]: h.get("value", "") for h in action.get("httpHeaders") or ()})
        path = action.get("path") or "/"
        url = URL(f"{scheme}://{_bracketed(host)}:{port}{path if path.startswith('/') else '/' + path}")
        for _ in range(REDIRECTS_MAX):
            status, target_url = await self._get(url, headers, timeout_s)
            if target_url is None or target_url.host != url.host:
                return 200 <= status < 400, f"HTTP probe failed with statuscode: {status}"
            url = target_url
        return False, f"stopped after {REDIRECTS_MAX} redirects"

    async def _get(self, url: URL, headers: dict[str, str], timeout_s: float) -> tuple[int, URL | None]:
        """Status, and where a redirect leads. Certificates are not checked, as documented."""
        async with self._http_session().get(
            url,
            headers=headers,
            ssl=False,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        ) as response:
            await response.content.read(BODY_MAX)
            location = response.headers.get("Location")
            redirected = 300 <= response.status < 400 and location is not None
            return response.status, url.join(URL(location)) if redirected and location else None

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
    if port.isdecimal():
        return int(port)
    raise ValueError(f"couldn't find port: {port!r}")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
