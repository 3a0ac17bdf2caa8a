"""One pod's worker: look, plan, carry out one operation, tell the API; again until nothing is left to do.

Each worker is one task and the only one that touches its pod's sandbox, containers, volumes and status. Events
of the engine, probes, image pulls and changes of the pod only wake it. Owner: `PodManager`.
"""

import asyncio
import contextlib
from collections.abc import Iterable

import structlog

from orchestrator.agent import plan as planning
from orchestrator.agent import podspec
from orchestrator.agent.context import Context
from orchestrator.agent.env import ConfigError
from orchestrator.agent.observed import Observed
from orchestrator.agent.operations import Hold, Operations, shortened
from orchestrator.agent.plan import FOREVER, Operation, Situation, StartContainer, StopPod, Wait, plan
from orchestrator.agent.status import Facts, pod_status
from orchestrator.agent.termination import Termination
from orchestrator.api.errors import ApiError, Conflict, NotFound
from orchestrator.api.item import Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import PODS
from orchestrator.base.backoff import Backoff
from orchestrator.network.dataplane.interface import NetworkError
from orchestrator.runtime.interface import Container, RuntimeFailure, Sandbox

log = structlog.get_logger(__name__)

REFRESH_S = 30.0
"""How often written volumes are brought up to date."""


class PodWorker:
    """Brings one pod to what its spec says, and away when it is deleted."""

    def __init__(self, context: Context, pod: Object, seen: Observed) -> None:
        self.context = context
        self.pod = pod
        self.seen = seen
        self.pod_ip = ""
        self.gone = False
        """The worker has nothing left to do and its pod is removed from the API."""
        self._removed = False
        self._wake = asyncio.Event()
        self._look_again = True
        self._operations = Operations(context)
        self._termination = Termination(context)
        self._holds: dict[str, Hold] = {}
        self._failures = Backoff(1.0, 60.0)
        self._refresh_s = 0.0

    @property
    def uid(self) -> str:
        return str(self.pod["metadata"]["uid"])

    def update(self, pod: Object) -> None:
        """A newer version of the pod from the API; one that was seen already is ignored."""
        if _revision(pod) > _revision(self.pod):
            self.pod = pod
            self._termination.hurry(podspec.grace_period_s(pod) if podspec.is_deleting(pod) else None)
            self._wake.set()

    def removed(self) -> None:
        """The pod is gone from the API: stop it all the same."""
        self._removed = True
        self._wake.set()

    def wake(self, *, look: bool = False) -> None:
        """Something may have changed; with `look` the engine is asked anew."""
        self._look_again = self._look_again or look
        self._wake.set()

    def pulled(self) -> None:
        """An image pull that this pod waits for has ended, well or not."""
        self._holds = {name: shortened(hold) for name, hold in self._holds.items()}
        self._wake.set()

    def listed(self, sandboxes: Iterable[Sandbox], containers: Iterable[Container]) -> None:
        """What the periodic list of the engine has of this pod: when it differs, look for oneself."""
        fresh = Observed.of(sandboxes, containers)
        if _shape(fresh) != _shape(self.seen):
            self.wake(look=True)

    async def run(self) -> None:
        """Work until the pod is gone."""
        while not self.gone:
            self._wake.clear()
            wait = await self._step()
            if not self.gone:
                await self._until(wait.until_s)

    async def _until(self, due_s: float) -> None:
        timeout_s = min(due_s, self._refresh_s) - self.context.clock.now_s()
        if timeout_s <= 0:
            return
        sleeper = self.context.supervisor.spawn("pause", self.context.clock.sleep(timeout_s))
        waker = self.context.supervisor.spawn("wake", self._wake.wait())
        try:
            await asyncio.wait((sleeper, waker), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            waker.cancel()

    async def _step(self) -> Wait:
        """Operations until one says wait, or fails."""
        try:
            while True:
                await self._look()
                operation = self._plan()
                if isinstance(operation, Wait):
                    await self._refresh_volumes()
                    await self._tell()
                    self._failures.reset()
                    return operation
                if await self._carry_out(operation):
                    return FOREVER
                await self._tell()
        except (RuntimeFailure, NetworkError, ConfigError, ApiError, TimeoutError, OSError) as error:
            return await self._failed(error)

    async def _failed(self, error: Exception) -> Wait:
        delay_s = self._failures.next_s()
        bound = log.bind(pod=self.pod["metadata"]["name"], retry_s=delay_s)
        bound.warning("pod step failed", error=str(error), kind=type(error).__name__)
        self._look_again = True
        with contextlib.suppress(ApiError):
            await self._tell()
        return Wait(self.context.clock.now_s() + delay_s)

    def _plan(self) -> Operation:
        if self._removed:
            return StopPod(remove=True)
        probed = self.context.prober.verdicts([c.id for c in self.seen.running()])
        return plan(Situation(self.pod, self.seen, self.context.clock.now_s(), probed, self._due_s))

    def _due_s(self, name: str) -> float:
        hold = self._holds.get(name)
        return max(
            hold.until_s if hold else 0.0, self._operations.restart_due_s(name, self.seen.newest(name))
        )

    async def _carry_out(self, operation: Operation) -> bool:
        """True when the pod is gone and the worker is done."""
        match operation:
            case planning.CreateSandbox(attempt):
                sandbox, self.pod_ip = await self._operations.create_sandbox(self.pod, attempt, self.seen)
                self.seen.sandboxes.insert(0, sandbox)
            case StartContainer():
                await self._start(operation)
            case planning.StopContainer():
                await self._operations.stop_container(self.pod, self.seen, operation)
                self._look_again = True
            case StopPod(remove):
                await self._stop(remove=remove)
                return self.gone
        return False

    async def _start(self, operation: StartContainer) -> None:
        name = operation.container["name"]
        live = self.seen.live_sandbox
        assert live is not None
        outcome = await self._operations.start_container(
            self.pod, operation.container, operation.attempt, live.id, self.pod_ip, self.seen
        )
        if isinstance(outcome, Hold):
            self._holds[name] = outcome
        else:
            self._holds.pop(name, None)
            self.seen.replace(outcome)

    async def _stop(self, *, remove: bool) -> None:
        await self._termination.run(
            self.pod, self.seen, self.pod_ip, remove=remove, tell=self._observe_and_tell
        )
        self._look_again = True
        if remove:
            await self._remove_object()
            self.gone = True

    async def _observe_and_tell(self) -> None:
        self._look_again = True
        await self._look()
        await self._tell()

    async def _remove_object(self) -> None:
        if self._removed:
            return
        metadata = self.pod["metadata"]
        with contextlib.suppress(NotFound, Conflict):
            await self.context.client.delete(
                PODS, metadata["name"], metadata["namespace"], DeleteOptions(grace_period_s=0, uid=self.uid)
            )

    async def _look(self) -> None:
        """Ask the engine where something may have changed, and probe what runs."""
        if self._look_again:
            self._look_again = False
            await self._operations.look(self.pod, self.seen)
            await self._adopt_address()
        for container in self.seen.all_containers():
            if container.state != "running":
                await self.context.prober.forget(container.id)
        if not podspec.is_deleting(self.pod):
            self._operations.probe(self.pod, self.seen, self.pod_ip)

    async def _adopt_address(self) -> None:
        live = self.seen.live_sandbox
        if live is None:
            return
        if podspec.is_host_network(self.pod):
            self.pod_ip = self.context.facts.ip
        elif not self.pod_ip:
            self.pod_ip = await self.context.network.attach(live.id, live.netns_path)

    async def _refresh_volumes(self) -> None:
        now_s = self.context.clock.now_s()
        if now_s < self._refresh_s:
            return
        first, self._refresh_s = self._refresh_s == 0.0, now_s + REFRESH_S
        if not first and self.seen.running() and not podspec.is_deleting(self.pod):
            await self.context.volumes.refresh(self.pod, self.context.pod_facts(self.pod_ip))

    def status(self) -> Object:
        """The status as of now, conditions of others included."""
        context = self.context
        ended = [c for c in self.seen.all_containers() if c.state == "exited"]
        facts = Facts(
            seen=self.seen,
            probed=context.prober.verdicts([c.id for c in self.seen.running()]),
            waiting={
                name: (hold.reason, hold.message) for name, hold in self._shown_holds().items() if hold.reason
            },
            node_ip=context.facts.ip,
            pod_ip=self.pod_ip,
            now_s=context.clock.now_s(),
            messages={container.id: context.volumes.last_words(container) for container in ended},
        )
        status = pod_status(self.pod, facts)
        own = {condition["type"] for condition in status["conditions"]}
        others = (self.pod.get("status") or {}).get("conditions") or ()
        status["conditions"] += [condition for condition in others if condition["type"] not in own]
        return status

    def _shown_holds(self) -> dict[str, Hold]:
        now_s = self.context.clock.now_s()
        crashing = {
            name: hold
            for name in self.seen.containers
            if (hold := self._operations.crash_hold(self.pod, name, self.seen.newest(name), now_s))
        }
        return {**crashing, **self._holds}

    async def _tell(self) -> None:
        """Write the status if it differs from what the API has. A conflict is resolved by reading anew."""
        if self._removed or (podspec.is_deleting(self.pod) and not self.seen.containers):
            return
        for _ in range(5):
            status = self.status()
            if status == self.pod.get("status"):
                return
            try:
                self.pod = await self.context.client.update(
                    PODS, {**self.pod, "status": status}, subresource="status"
                )
                return
            except Conflict:
                metadata = self.pod["metadata"]
                fresh = await self.context.client.get(PODS, metadata["name"], metadata["namespace"])
                if fresh["metadata"]["uid"] != self.uid:
                    raise
                self.pod = fresh
            except NotFound:
                self._removed = True
                self._wake.set()
                return


def _revision(pod: Object) -> int:
    return int(pod["metadata"].get("resourceVersion", 0))


def _shape(seen: Observed) -> object:
    """What a list of the engine can tell: which there are, and in which state."""
    return (
        {(sandbox.id, sandbox.running) for sandbox in seen.sandboxes},
        {(container.id, container.state) for container in seen.all_containers()},
    )
