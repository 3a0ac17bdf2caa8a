"""Probes: one task per probe of a running container; a changed verdict wakes the pod's worker.

Thresholds, delays and periods are Kubernetes'. A startup probe holds back the other two until it succeeds.
Owner of the verdicts: the `Prober` of the node.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from orchestrator.agent.pods.checks import Checker, Outcome
from orchestrator.agent.pods.plan import Probed
from orchestrator.api.item import Object
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime.interface import Container, Runtime

KINDS = ("startup", "liveness", "readiness")
ATTEMPTS = 3
"""How often a check is tried that could not be carried out."""


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
    adopted: bool
    started: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)


class Prober:
    """Runs the probes of every container on the node and holds what they say."""

    def __init__(
        self,
        runtime: Runtime,
        clock: Clock,
        on_change: Callable[[str], None],
        on_event: Callable[[Target, str, str], None],
        rng: random.Random,
        *,
        enabled: bool = True,
        tally: Callable[[Target, str, str], None] = lambda target, kind, result: None,
    ) -> None:
        """`on_change(pod_uid)` after a verdict changed; `on_event(target, reason, message)` per failure or warning.
        `tally(target, kind, result)` counts every check: `successful`, `failed` or `unknown`.

        Not `enabled` (simulated nodes), every container counts as started and ready.
        """
        self._enabled = enabled
        self._clock = clock
        self._on_change = on_change
        self._on_event = on_event
        self._rng = rng
        self._tally = tally
        self._checker = Checker(runtime)
        self._watched: dict[str, _Watched] = {}

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
            Supervisor(f"probe/{spec['name']}", self._clock), verdict, adopted is not None
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
        await self._checker.close()

    async def _run(self, target: Target, kind: str, probe: Object) -> None:
        """Try, count, judge, sleep. The delay counts from the container's start, also after an adoption."""
        watched = self._watched[target.container.id]
        if kind != "startup":
            await watched.started.wait()
        begin_s = target.container.started_s + float(probe.get("initialDelaySeconds", 0))
        period_s = float(probe.get("periodSeconds", 10))
        # All containers of the node are adopted at once: their probes are spread over the period.
        spread_s = self._rng.random() * period_s if watched.adopted else 0.0
        await self._clock.sleep(max(begin_s - self._clock.now_s(), spread_s))
        count, last = 0, None
        while True:
            outcome = await self._attempt(target, kind, probe)
            unknown = outcome.result == "unknown"
            self._tally(target, kind, "unknown" if unknown else "successful" if outcome.ok else "failed")
            if outcome.result != "unknown":
                count, last = count + 1 if outcome.ok == last else 1, outcome.ok
                threshold = probe.get("successThreshold", 1) if last else probe.get("failureThreshold", 3)
                if count >= int(threshold):
                    self._record(watched, target, kind, last)
                    if kind == "startup" or (kind == "liveness" and not last):
                        return
            await self._clock.sleep(period_s)

    async def _attempt(self, target: Target, kind: str, probe: Object) -> Outcome:
        """One check, with the event that it calls for. One that can't be carried out decides nothing."""
        outcome = Outcome("unknown")
        for _ in range(ATTEMPTS):
            outcome = await self._checker.check(target.container, target.spec, target.pod_ip, probe)
            if outcome.result != "unknown":
                break
        name = kind.capitalize()
        match outcome.result:
            case "failure":
                self._on_event(target, "Unhealthy", f"{name} probe failed: {outcome.text}")
            case "warning":
                self._on_event(target, "ProbeWarning", f"{name} probe warning: {outcome.text}")
            case "unknown":
                text = f"{name} probe errored and resulted in unknown state: {outcome.text}"
                self._on_event(target, "Unhealthy", text)
        return outcome

    def _record(self, watched: _Watched, target: Target, kind: str, ok: bool) -> None:
        old = watched.verdict
        if kind == "readiness":
            new = replace(old, ready=ok)
        elif kind == "startup" and ok:
            new = replace(old, started=True, ready="readinessProbe" not in target.spec)
            watched.started.set()
        else:
            new = replace(old, failed="" if ok else kind)
        if new != old:
            watched.verdict = new
            self._on_change(target.pod_uid)
