"""Ending a pod: out of the Services, hooks, SIGTERM, SIGKILL after the grace period, sandbox, volumes.

Regular containers stop together, then sidecars in reverse order. A shorter grace period that is asked for
meanwhile takes effect at once. Everything may run twice, also after a crash in the middle.
"""

import asyncio
from collections.abc import Awaitable, Callable

from orchestrator.agent import hooks, podspec
from orchestrator.agent.context import Context
from orchestrator.agent.observed import Observed
from orchestrator.api.item import Object
from orchestrator.runtime.interface import Container

Tell = Callable[[], Awaitable[None]]


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
        deadline_s = self._context.clock.monotonic_s() + grace_s
        if deadline_s < self._deadline_s:
            self._deadline_s = deadline_s
            self._hurried.set()

    async def run(self, pod: Object, seen: Observed, pod_ip: str, *, remove: bool, tell: Tell) -> None:
        """Stop everything; with `remove` also delete what the engine and the disk keep."""
        self.hurry(podspec.grace_period_s(pod))
        running = seen.running()
        if running:
            await self._stop_containers(pod, running, pod_ip)
            await tell()
        await self._release(seen)
        if remove:
            await self._remove(pod, seen)

    async def _stop_containers(self, pod: Object, running: list[Container], pod_ip: str) -> None:
        if pod_ip and not podspec.is_host_network(pod):
            await self._context.before_stop(pod_ip)
        sidecars = {spec["name"] for spec in podspec.init_containers(pod) if podspec.is_sidecar(spec)}
        regular = [container for container in running if container.name not in sidecars]
        await asyncio.gather(*(self._stop(pod, container, pod_ip) for container in regular))
        for spec in reversed(podspec.init_containers(pod)):
            for container in running:
                if container.name == spec["name"] and container.name in sidecars:
                    await self._stop(pod, container, pod_ip)

    async def _stop(self, pod: Object, container: Container, pod_ip: str) -> None:
        context = self._context
        context.recorder.event(pod, "Normal", "Killing", f"Stopping container {container.name}")
        await context.prober.forget(container.id)
        spec = podspec.find_container(pod, container.name) or {}
        hook = (spec.get("lifecycle") or {}).get("preStop")
        if hook and self._left_s() > 0:
            timeout_s = self._left_s()
            problem = await hooks.run(context.runtime, container, spec, hook, pod_ip, timeout_s=timeout_s)
            if problem:
                context.recorder.event(pod, "Warning", "FailedPreStopHook", f"PreStopHook failed: {problem}")
        await self._signal(container)

    async def _signal(self, container: Container) -> None:
        """Stop with the grace that is left; when it is cut short meanwhile, again with what is left then."""
        runtime, supervisor = self._context.runtime, self._context.supervisor
        self._hurried.clear()
        stopping = supervisor.spawn("stop", runtime.stop_container(container.id, self._left_s()))
        while not stopping.done():
            hurried = supervisor.spawn("hurry", self._hurried.wait())
            try:
                await asyncio.wait((stopping, hurried), return_when=asyncio.FIRST_COMPLETED)
            finally:
                hurried.cancel()
            if not stopping.done():
                self._hurried.clear()
                await runtime.stop_container(container.id, self._left_s())
        await stopping

    def _left_s(self) -> float:
        return max(0.0, self._deadline_s - self._context.clock.monotonic_s())

    async def _release(self, seen: Observed) -> None:
        """Give address and namespaces back."""
        for sandbox in seen.sandboxes:
            await self._context.network.detach(sandbox.id)
            await self._context.runtime.stop_sandbox(sandbox.id)

    async def _remove(self, pod: Object, seen: Observed) -> None:
        context, uid = self._context, pod["metadata"]["uid"]
        for container in seen.all_containers():
            await context.prober.forget(container.id)
        for sandbox in seen.sandboxes:
            await context.runtime.remove_sandbox(sandbox.id)
        for container in seen.all_containers():
            await context.runtime.remove_container(container.id)
        seen.sandboxes, seen.containers = [], {}
        await context.volumes.remove(uid)
