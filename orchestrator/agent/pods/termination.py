"""Ending a pod: out of the Services, hooks, SIGTERM, SIGKILL after the grace period, sandbox, volumes.

Regular containers stop together, then sidecars in reverse order. A shorter grace period that is asked for
meanwhile takes effect at once. Everything may run twice, also after a crash in the middle.
"""

import asyncio

from orchestrator.agent import podspec
from orchestrator.agent.context import Context
from orchestrator.agent.pods import hooks
from orchestrator.agent.pods.observed import Observed
from orchestrator.api.item import Object
from orchestrator.runtime.interface import Container

GRACE_MIN_S = 1.0
AFTER_HOOK_MIN_S = 2.0
"""What a container still gets when its preStop hook used the whole grace period up."""


class Termination:
    """Termination of one pod; owner of its deadline."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._deadline_s = float("inf")
        self._hurried = asyncio.Event()

    def hurry(self, grace_s: int | None) -> None:
        """A grace period was asked for, counted from now; only an earlier end counts."""
        if grace_s is None:
            return
        deadline_s = self._context.clock.monotonic_s() + max(GRACE_MIN_S, grace_s)
        if deadline_s < self._deadline_s:
            self._deadline_s = deadline_s
            # Everyone who waits holds the event of the deadline that he knows.
            self._hurried, before = asyncio.Event(), self._hurried
            before.set()

    async def stop(self, pod: Object, running: list[Container], pod_ip: str) -> None:
        """Stop these containers; returns when all have ended. Raises the first failure, after all were tried."""
        self.hurry(podspec.grace_period_s(pod))
        if pod_ip and not podspec.is_host_network(pod):
            await self._context.before_stop(pod_ip)
        sidecars = [spec["name"] for spec in podspec.init_containers(pod) if podspec.is_sidecar(spec)]
        regular = [container for container in running if container.name not in sidecars]
        outcomes = await asyncio.gather(
            *(self._stop(pod, container, pod_ip) for container in regular), return_exceptions=True
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome
        for name in reversed(sidecars):
            for container in running:
                if container.name == name:
                    await self._stop(pod, container, pod_ip)

    async def release(self, seen: Observed) -> None:
        """Give address and namespaces back."""
        for sandbox in seen.sandboxes:
            await self._context.network.detach(sandbox.id)
            await self._context.runtime.stop_sandbox(sandbox.id)

    async def remove(self, pod: Object, seen: Observed) -> None:
        """Delete what the engine and the disk keep of a pod that has stopped."""
        context = self._context
        for container in seen.all_containers():
            await context.prober.forget(container.id)
        for sandbox in seen.sandboxes:
            await context.runtime.remove_sandbox(sandbox.id)
        for container in seen.all_containers():
            await context.runtime.remove_container(container.id)
        seen.sandboxes, seen.containers = [], {}
        await context.volumes.remove(pod["metadata"]["uid"])

    async def _stop(self, pod: Object, container: Container, pod_ip: str) -> None:
        context = self._context
        context.recorder.event(pod, "Normal", "Killing", f"Stopping container {container.name}")
        context.prober.ease(container.id)
        spec = podspec.find_container(pod, container.name) or {}
        hook = (spec.get("lifecycle") or {}).get("preStop")
        if hook is None:
            await self._signal(container, GRACE_MIN_S)
            return
        problem = await self._pre_stop(container, spec, hook, pod_ip)
        if problem:
            context.recorder.event(pod, "Warning", "FailedPreStopHook", f"PreStopHook failed: {problem}")
        await self._signal(container, AFTER_HOOK_MIN_S)

    async def _pre_stop(self, container: Container, spec: Object, hook: Object, pod_ip: str) -> str:
        """What went wrong with the hook; it is given up at the deadline, which may come closer."""
        context = self._context
        timeout_s = self._left_s() + 1.0
        work = context.supervisor.spawn(
            "preStop",
            hooks.run(context.runtime, context.clock, container, spec, hook, pod_ip, timeout_s),
        )
        try:
            while self._left_s() > 0:
                alarm = context.supervisor.spawn("deadline", context.clock.sleep(self._left_s()))
                hurried = context.supervisor.spawn("hurry", self._hurried.wait())
                try:
                    await asyncio.wait((work, alarm, hurried), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    alarm.cancel()
                    hurried.cancel()
                if work.done():
                    return str(work.result())
            return "the grace period is over"
        finally:
            work.cancel()

    async def _signal(self, container: Container, grace_min_s: float) -> None:
        """Stop with the grace that is left; when it is cut short meanwhile, again with what is left then."""
        runtime, supervisor, known = self._context.runtime, self._context.supervisor, self._hurried
        grace_s = max(grace_min_s, self._left_s())
        stopping = supervisor.spawn("stop", runtime.stop_container(container.id, grace_s))
        while not stopping.done():
            hurried = supervisor.spawn("hurry", known.wait())
            try:
                await asyncio.wait((stopping, hurried), return_when=asyncio.FIRST_COMPLETED)
            finally:
                hurried.cancel()
            if not stopping.done():
                known = self._hurried
                await runtime.stop_container(container.id, self._left_s())
        await stopping

    def _left_s(self) -> float:
        return max(0.0, self._deadline_s - self._context.clock.monotonic_s())
