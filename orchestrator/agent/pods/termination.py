"""Ending containers: out of the Services, hooks, SIGTERM, SIGKILL after the grace period, sandbox, volumes.

All preStop hooks of a pod begin at once; then regular containers are signalled together and sidecars one after the
other, in reverse order, as long as grace is left. A shorter grace period that is asked for meanwhile takes effect
at once, also on the stop of a single container. Everything may run twice, also after a crash in the middle.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from orchestrator.agent import podspec
from orchestrator.agent.context import Context
from orchestrator.agent.pods import hooks
from orchestrator.agent.pods.observed import Observed
from orchestrator.api.item import Object
from orchestrator.runtime.interface import Container

GRACE_MIN_S = 1.0
SIGNAL_MIN_S = 2.0
"""What a container gets after its signal even when the grace period is used up."""


class Termination:
    """Termination of one pod and of its containers; owner of the pod's deadline."""

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
        ended = {container.id: asyncio.Event() for container in running}
        outcomes = await asyncio.gather(
            *(
                self._stop(pod, container, pod_ip, ended[container.id], [ended[cid] for cid in first])
                for container, first in in_turn(pod, running)
            ),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def stop_one(
        self, pod: Object, container: Container, why: str, pod_ip: str, grace_s: float
    ) -> None:
        """Stop one container of a pod that goes on."""
        own_s = self._context.clock.monotonic_s() + grace_s
        self._begin(pod, container, why)
        await self._hook(pod, container, pod_ip, own_s)
        await self._signal(container, own_s)

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

    async def _stop(
        self,
        pod: Object,
        container: Container,
        pod_ip: str,
        ended: asyncio.Event,
        first: list[asyncio.Event],
    ) -> None:
        """Stop one of all; its signal waits for the `first` ones to have ended, at most to the deadline."""
        try:
            self._begin(pod, container, f"Stopping container {container.name}")
            await self._hook(pod, container, pod_ip, float("inf"))
            for event in first:
                await self._wait(event)
            await self._signal(container, float("inf"))
        finally:
            ended.set()

    def _begin(self, pod: Object, container: Container, why: str) -> None:
        self._context.recorder.event(pod, "Normal", "Killing", why)
        self._context.prober.ease(container.id)

    async def _wait(self, event: asyncio.Event) -> None:
        waiting = self._context.supervisor.spawn("turn", event.wait())
        try:
            await self._within(waiting, float("inf"))
        finally:
            waiting.cancel()

    async def _hook(self, pod: Object, container: Container, pod_ip: str, own_s: float) -> None:
        """Run the preStop hook; it is given up at the deadline, which may come closer."""
        context, spec = self._context, podspec.find_container(pod, container.name) or {}
        hook = (spec.get("lifecycle") or {}).get("preStop")
        if hook is None:
            return
        work = context.supervisor.spawn(
            "preStop", hooks.run(context.runtime, context.clock, container, spec, hook, pod_ip)
        )
        try:
            if await self._within(work, own_s) and (problem := work.result()):
                hooks.tell(context.recorder, pod, container.name, "PreStop", problem)
        finally:
            work.cancel()

    async def _within(self, work: "asyncio.Task[Any]", own_s: float) -> bool:
        """Whether `work` is done before the deadline; the pod's own one may come closer meanwhile."""
        context = self._context
        while not work.done() and self._left_s(own_s) > 0:
            alarm = context.supervisor.spawn("deadline", context.clock.sleep(self._left_s(own_s)))
            hurried = context.supervisor.spawn("hurry", self._hurried.wait())
            try:
                await asyncio.wait((work, alarm, hurried), return_when=asyncio.FIRST_COMPLETED)
            finally:
                alarm.cancel()
                hurried.cancel()
        return work.done()

    async def _signal(self, container: Container, own_s: float) -> None:
        """Stop with the grace that is left; when it is cut short meanwhile, again with what is left then."""
        runtime, supervisor, known = self._context.runtime, self._context.supervisor, self._hurried
        grace_s = max(SIGNAL_MIN_S, self._left_s(own_s))
        stopping = supervisor.spawn("stop", runtime.stop_container(container.id, grace_s))
        while not stopping.done():
            hurried = supervisor.spawn("hurry", known.wait())
            try:
                await asyncio.wait((stopping, hurried), return_when=asyncio.FIRST_COMPLETED)
            finally:
                hurried.cancel()
            if not stopping.done():
                known = self._hurried
                await runtime.stop_container(container.id, self._left_s(own_s))
        await stopping

    def _left_s(self, own_s: float) -> float:
        return max(0.0, min(own_s, self._deadline_s) - self._context.clock.monotonic_s())


def in_turn(pod: Object, running: Iterable[Container]) -> list[tuple[Container, list[str]]]:
    """Each container with the ids of those that are signalled before it: a sidecar comes after everything that it
    was started before."""
    sidecars = [spec["name"] for spec in podspec.init_containers(pod) if podspec.is_sidecar(spec)]
    places = {name: place for place, name in enumerate(sidecars)}
    everyone = list(running)
    found = []
    for container in everyone:
        place = places.get(container.name, len(sidecars))
        first = [other.id for other in everyone if places.get(other.name, len(sidecars)) > place]
        found.append((container, first))
    return found
