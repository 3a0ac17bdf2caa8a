"""One pod's worker: look, plan, carry out one operation, tell the API; again until nothing is left to do.

Each worker is one task and the only one that touches its pod's sandbox, containers, volumes and status. Events
of the engine, probes, image pulls and changes of the pod only wake it. The status is written when the worker
comes to rest, or before something that may take long: a quick start is one write. Owner: `PodManager`.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable

import structlog

from orchestrator.agent import podspec
from orchestrator.agent.containers.env import ConfigError
from orchestrator.agent.context import Context
from orchestrator.agent.eviction.ranking import is_critical
from orchestrator.agent.pods import look, resizing
from orchestrator.agent.pods import plan as planning
from orchestrator.agent.pods.admitting import NodeRules, Rejection, Room
from orchestrator.agent.pods.conditions import FINAL
from orchestrator.agent.pods.containerstatus import Facts
from orchestrator.agent.pods.ending import Ending
from orchestrator.agent.pods.observed import Observed
from orchestrator.agent.pods.operations import Hold, Operations, shortened
from orchestrator.agent.pods.plan import FOREVER, Operation, Situation, StartContainer, StopPod, Wait, plan
from orchestrator.agent.pods.preempting import Preemption
from orchestrator.agent.pods.resizing import Resizing, Told
from orchestrator.agent.pods.status import DEADLINE, pod_status
from orchestrator.agent.pods.termination import Termination
from orchestrator.api.errors import ApiError, Conflict, NotFound
from orchestrator.api.item import Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import PODS
from orchestrator.base.backoff import Backoff
from orchestrator.base.clock import Clock
from orchestrator.network.dataplane.interface import NetworkError
from orchestrator.runtime.interface import Container, RuntimeEvent, RuntimeFailure, Sandbox

log = structlog.get_logger(__name__)

REFRESH_S = 30.0
"""How often written volumes are brought up to date."""
QUIET_S = 1.0
"""Longest time without a status write while operation follows operation."""
FAILURES = (RuntimeFailure, NetworkError, ConfigError, ApiError, TimeoutError, OSError)
"""What may go wrong in a step and is tried again."""


class PodWorker:
    """Brings one pod to what its spec says, and away when it is deleted."""

    def __init__(
        self,
        context: Context,
        pod: Object,
        seen: Observed,
        room: Room,
        rules: NodeRules,
        preemption: Preemption,
    ) -> None:
        self.context = context
        self.pod = pod
        self.seen = seen
        self.pod_ip = ""
        self.gone = False
        """The worker has nothing left to do and its pod is removed from the API."""
        self._removed = False
        self._wake = asyncio.Event()
        self._urgent = asyncio.Event()
        """Set with `_wake` for what also ends the wait after a failure: the pod itself was changed."""
        self._everything = True
        self._doubtful: set[str] = set()
        """Ids of containers and sandboxes that an event named since the last look."""
        self._leave = asyncio.Event()
        """Set once the pod is to end."""
        self._termination = Termination(context)
        self._starting = context.meters.start(adopted=bool(seen.sandboxes))
        self._operations = Operations(context, self._termination, self._leave)
        self._room = room
        self._rules = rules
        self._preemption = preemption
        self._rejection: Rejection | None = None
        self._verdict: Ending | None = None
        self._judged = True
        """The node's own rules were looked at; what was adopted has passed them once."""
        self._resizing = Resizing(pod, room, self.wake)
        self._holds: dict[str, Hold] = {}
        self._messages: dict[str, str] = {}
        self._failures = Backoff(1.0, 60.0)
        self._retry_s = 0.0
        """When the step that failed is tried again (seconds since the epoch); 0 after one that did not."""
        self._refresh_s = context.clock.now_s() + REFRESH_S
        self._told_s = context.clock.monotonic_s()

    @property
    def uid(self) -> str:
        return str(self.pod["metadata"]["uid"])

    @property
    def leaving(self) -> bool:
        """The pod is gone from the API, or about to be."""
        return self._removed or self.gone

    def admit(self) -> None:
        """Take the pod in if the node has the room: to be called once, in the order of arrival."""
        if podspec.is_finished(self.pod):
            return
        adopted = bool(self.seen.sandboxes or self.seen.containers)
        if adopted or not podspec.is_deleting(self.pod):
            spec = self._resizing.granted_pod(self.pod)["spec"]
            self._rejection = self._room.admit(self.pod, spec, adopted=adopted)
            self._judged = adopted

    # What wakes the worker

    def update(self, pod: Object) -> None:
        """A newer version of the pod from the API; one that was seen already is ignored."""
        if _revision(pod) > _revision(self.pod):
            self._take(pod)

    def _take(self, pod: Object) -> None:
        changed = _intent(pod) != _intent(self.pod)
        if _shown(pod) != _shown(self.pod):
            self._refresh_s = 0.0
        self.pod = pod
        if podspec.is_deleting(pod):
            self._termination.hurry(podspec.grace_period_s(pod))
            self._leave.set()
        if changed:
            self._holds.clear()
            self._urgent.set()
        self._wake.set()

    def removed(self) -> None:
        """The pod is gone from the API: stop it all the same."""
        self._removed = True
        self._leave.set()
        self._room.release(self.uid)
        self._urgent.set()
        self._wake.set()

    def end(self, ending: Ending) -> None:
        """The node ends the pod: its containers stop and it fails for this reason. The first one holds."""
        if self._verdict is None and not podspec.is_finished(self.pod):
            self._verdict = ending
            self._termination.hurry(ending.grace_s)
            self._leave.set()
            self._urgent.set()
            self._wake.set()

    @property
    def ending(self) -> bool:
        """The node has decided to end the pod."""
        return self._verdict is not None

    def volumes_changed(self) -> None:
        """Something that a written volume holds has changed: bring it up to date, or try again to set it up."""
        self._refresh_s = 0.0
        waiting = float("inf")
        self._holds = {n: hold for n, hold in self._holds.items() if hold.reason or hold.until_s == waiting}
        self._wake.set()

    def wake(self, *, look: bool = False) -> None:
        """Something may have changed; with `look` the engine is asked for everything anew."""
        self._everything = self._everything or look
        self._wake.set()

    def heard(self, event: RuntimeEvent) -> None:
        """The engine reported something; what is known already wakes nobody."""
        known = self.seen.find(event.container_id)
        sandbox = any(sandbox.id == event.container_id for sandbox in self.seen.sandboxes)
        if event.kind == "started" and (known is None or known.state == "running"):
            return
        if event.kind == "removed" and known is None and not sandbox:
            return
        self._doubtful.add(event.container_id)
        self._wake.set()

    def pulled(self) -> None:
        """An image pull that this pod waits for has ended, well or not."""
        self._holds = {name: shortened(hold) for name, hold in self._holds.items()}
        self._wake.set()

    def listed(self, sandboxes: Iterable[Sandbox], containers: Iterable[Container]) -> None:
        """What the periodic list of the engine has of this pod: when it differs, look for oneself."""
        fresh = Observed.of(sandboxes, containers)
        if _shape(fresh) == _shape(self.seen):
            return
        known = {sandbox.id for sandbox in self.seen.sandboxes}
        self.seen.sandboxes += [sandbox for sandbox in fresh.sandboxes if sandbox.id not in known]
        for container in fresh.all_containers():
            if self.seen.find(container.id) is None:
                self.seen.replace(container)
        self.wake(look=True)

    # The loop

    async def run(self) -> None:
        """Work until the pod is gone."""
        while not self.gone:
            self._wake.clear()
            self._urgent.clear()
            with self.context.meters.sync("kill" if self._leave.is_set() else self._starting.kind):
                wait = await self._step()
            if self.seen.running():
                self._starting.ran()
            if not self.gone:
                await self._rest(wait)

    async def _rest(self, wait: Wait) -> None:
        """Until something is due or wakes the worker; after a failure only a change of the pod does."""
        clock, event, due_s = self.context.clock, self._wake, min(wait.until_s, self._next_refresh_s())
        if self._retry_s:
            event, due_s = self._urgent, self._retry_s
        if due_s == float("inf"):
            await event.wait()
            return
        alarm = self.context.supervisor.spawn("alarm", _ring(clock, due_s, event))
        try:
            await event.wait()
        finally:
            alarm.cancel()

    async def _step(self) -> Wait:
        """Operations until one says wait, or fails."""
        try:
            await self._judge()
            while True:
                await self._look()
                self._ask_for_resources()
                operation = self._plan()
                if isinstance(operation, Wait):
                    await self._tell()
                    await self._refresh_volumes()
                    self._failures.reset()
                    self._retry_s = 0.0
                    return operation
                if self._may_take_long(operation):
                    await self._tell()
                await self._carry_out(operation)
                if self.gone:
                    return FOREVER
        except FAILURES as error:
            await self._failed(error)
            return FOREVER

    async def _failed(self, error: Exception) -> None:
        delay_s = self._failures.next_s()
        bound = log.bind(pod=self.pod["metadata"]["name"], retry_s=delay_s)
        bound.warning("pod step failed", error=str(error), kind=type(error).__name__)
        self._everything = True
        self._retry_s = self.context.clock.now_s() + delay_s
        with contextlib.suppress(*FAILURES):
            await self._tell()

    async def _judge(self) -> None:
        """Whether the node's rules let the pod in that the node has room for; asked once."""
        if self._judged:
            return
        self._judged = True
        critical = self._rejection is not None and is_critical(self.pod)
        if critical:
            # Others may go for it, if nothing else speaks against it.
            self._rejection = None
        for refuse in self.context.admission:
            self._rejection = self._rejection or refuse(self.pod)
        if self._rejection is None:
            self._rejection = await self._rules.refuse(self.pod)
        if critical and self._rejection is None and not podspec.is_deleting(self.pod):
            self._rejection = self._preemption.make_room(self.pod, self.pod["spec"], self.wake)
        if self._rejection is not None:
            self._room.release(self.uid)
            self._record(Told("Warning", self._rejection.reason, self._rejection.message))

    def _ask_for_resources(self) -> None:
        """Have a resize granted, and say how far it is."""
        if self._removed or self._rejection or podspec.is_deleting(self.pod) or podspec.is_finished(self.pod):
            return
        self._resizing.adopt(self.pod, self.seen)
        self._record(self._resizing.ask(self.pod, self.context.clock.now_s()))
        self._record(self._resizing.settle(self.pod, self.seen))

    def _record(self, told: Told | None) -> None:
        if told is not None:
            self.context.recorder.event(self.pod, told.type, told.reason, told.message)

    def _plan(self) -> Operation:
        if self._removed:
            return StopPod(remove=True)
        if self._rejection is not None and not podspec.is_deleting(self.pod):
            return FOREVER
        if self._verdict is not None and not podspec.is_deleting(self.pod):
            alive = self.seen.live_sandbox is not None or bool(self.seen.running())
            return StopPod(remove=False) if alive else FOREVER
        if self._room.waits(self.uid) and not podspec.is_deleting(self.pod):
            return FOREVER
        now_s, adjust = self.context.clock.now_s(), self._resizing.adjust
        return plan(Situation(self.pod, self.seen, now_s, self._probed(), self._due_s, adjust))

    def _probed(self) -> dict[str, planning.Probed]:
        return self.context.prober.verdicts([container.id for container in self.seen.running()])

    def _due_s(self, name: str) -> float:
        hold = self._holds.get(name)
        crash_s = self._operations.restart_due_s(self.pod, name, self.seen.newest(name))
        return max(hold.until_s if hold else 0.0, crash_s)

    def _may_take_long(self, operation: Operation) -> bool:
        if isinstance(operation, StartContainer) and (operation.container.get("lifecycle") or {}).get(
            "postStart"
        ):
            return True
        if isinstance(operation, planning.ResizeContainer):
            # What was granted is on record before it takes effect.
            return True
        return self.context.clock.monotonic_s() - self._told_s > QUIET_S

    async def _carry_out(self, operation: Operation) -> None:
        match operation:
            case planning.CreateSandbox(attempt):
                sandbox, self.pod_ip = await self._operations.create_sandbox(self.pod, attempt, self.seen)
                self.seen.sandboxes.insert(0, sandbox)
            case StartContainer():
                await self._start(operation)
            case planning.StopContainer():
                await self._operations.stop_container(self.pod, self.seen, operation, self.pod_ip)
                self._doubtful.add(operation.container_id)
                if operation.renew:
                    self.seen.renewed.add(operation.container_id)
            case planning.ResizeContainer(container_id):
                await self._resize(container_id)
            case StopPod(remove):
                self._tell_deadline()
                await self._stop(remove=remove)

    async def _start(self, operation: StartContainer) -> None:
        name = operation.container["name"]
        live = self.seen.live_sandbox
        assert live is not None
        pod = self._resizing.granted_pod(self.pod)
        spec = podspec.find_container(pod, name) or operation.container
        await resizing.make_room(self.context, self.pod, self._resizing)
        outcome = await self._operations.start_container(
            pod, spec, operation.attempt, live.id, self.pod_ip, self.seen
        )
        if isinstance(outcome, Hold):
            self._holds[name] = outcome
            # Perhaps the sandbox is what it failed for.
            self._everything = self._everything or bool(outcome.reason)
        else:
            self._holds.pop(name, None)
            self.seen.replace(outcome)

    async def _resize(self, container_id: str) -> None:
        container = self.seen.find(container_id)
        assert container is not None
        try:
            await resizing.actuate(self.context, self.pod, self._resizing, container)
        except (RuntimeFailure, OSError) as error:
            self._record(self._resizing.failed(self.pod, str(error)))
            raise
        self._resizing.done(container)

    def _tell_deadline(self) -> None:
        """The event of a pod whose time is over."""
        over = planning.deadline_passed(self.pod, self.context.clock.now_s())
        if over and not podspec.is_deleting(self.pod) and not podspec.is_finished(self.pod):
            self._record(Told("Normal", *DEADLINE))

    # Ending

    async def _stop(self, *, remove: bool) -> None:
        """Containers, the last status, sandbox; with `remove` everything that is left, and the object."""
        await self._stop_containers()
        await self._look()
        if remove:
            self._room.release(self.uid)
            await self._tell(stopped=True)
        await self._termination.release(self.seen)
        self._everything = True
        if remove:
            await self._termination.remove(self.pod, self.seen)
            await self._remove_object()
            self.gone = True
        else:
            await self.context.volumes.release(self.uid)

    async def _stop_containers(self) -> None:
        """Stop what runs; meanwhile the status follows what has ended already."""
        running = self.seen.running()
        if not running:
            return
        failures: list[Exception] = []
        work = self._termination.stop(self.pod, running, self.pod_ip)
        stopping = self.context.supervisor.spawn("stop containers", _collect(work, failures))
        stopping.add_done_callback(lambda _: self._wake.set())
        try:
            while not stopping.done():
                await self._wake.wait()
                self._wake.clear()
                if not stopping.done():
                    with contextlib.suppress(*FAILURES):
                        await self._look()
                        if self.seen.running():
                            await self._tell()
        finally:
            stopping.cancel()
        self._doubtful.update(container.id for container in running)
        if failures:
            raise failures[0]

    async def _remove_object(self) -> None:
        if self._removed:
            return
        metadata = self.pod["metadata"]
        with contextlib.suppress(NotFound, Conflict):
            await self.context.client.delete(
                PODS, metadata["name"], metadata["namespace"], DeleteOptions(grace_period_s=0, uid=self.uid)
            )

    # Looking

    async def _look(self) -> None:
        """Ask the engine where something may have changed, and probe what runs."""
        runtime = self.context.runtime
        doubtful, self._doubtful = self._doubtful, set()
        if self._everything:
            self._everything = False
            await look.everything(runtime, self.seen)
            await self._adopt_address()
        elif doubtful:
            await look.only(runtime, doubtful, self.seen)
        for container in self.seen.all_containers():
            if container.state == "exited":
                await self.context.prober.forget(container.id)
                if container.id not in self._messages:
                    await self._keep_last_words(container)
        if not podspec.is_deleting(self.pod):
            self._operations.probe(self.pod, self.seen, self.pod_ip)

    async def _keep_last_words(self, container: Container) -> None:
        text = await look.last_words(self.context, self.pod, container)
        known = {container.id for container in self.seen.all_containers()}
        kept = {cid: message for cid, message in self._messages.items() if cid in known}
        self._messages = {**kept, container.id: text}

    async def _adopt_address(self) -> None:
        live = self.seen.live_sandbox
        if live is None:
            return
        if podspec.is_host_network(self.pod):
            self.pod_ip = self.context.facts.ip
        elif not self.pod_ip:
            self.pod_ip = await self.context.network.attach(live.id, live.netns_path)

    def _next_refresh_s(self) -> float:
        return self._refresh_s if self._refreshes() else float("inf")

    def _refreshes(self) -> bool:
        going = podspec.is_deleting(self.pod) or podspec.is_finished(self.pod)
        return not going and self.context.volumes.ages(self.pod)

    async def _refresh_volumes(self) -> None:
        """Bring written volumes up to date; one that can't be stays as it is, with an event."""
        now_s = self.context.clock.now_s()
        if now_s < self._refresh_s or not self._refreshes():
            return
        self._refresh_s = now_s + REFRESH_S
        if self.seen.running():
            try:
                await self.context.volumes.refresh(self.pod, self.context.pod_facts(self.pod_ip))
            except (ConfigError, ApiError, OSError) as error:
                self.context.recorder.event(self.pod, "Warning", "FailedMount", str(error))

    # Telling

    def status(self, *, stopped: bool = False) -> Object:
        """The status as of now, conditions of others included."""
        context = self.context
        holds = self._shown_holds()
        facts = Facts(
            seen=self.seen,
            probed=self._probed(),
            waiting={name: (hold.reason, hold.message) for name, hold in holds.items() if hold.reason},
            node_ip=context.facts.ip,
            pod_ip=self.pod_ip,
            now_s=context.clock.now_s(),
            messages=self._messages,
            engine=context.runtime.name,
            stopped=stopped,
            allocated=self._resizing.granted,
            in_force=self._resizing.in_force,
            resize=self._resizing.conditions(),
            rejection=self._rejection,
            ending=self._verdict,
        )
        status = pod_status(self.pod, facts)
        if context.devices is not None:
            context.devices.add_health(self.uid, status)
        own = {*(condition["type"] for condition in status["conditions"]), *resizing.KINDS}
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

    async def _tell(self, *, stopped: bool = False) -> None:
        """Write the status if it differs from what the API has. A conflict is resolved by reading anew."""
        self._told_s = self.context.clock.monotonic_s()
        for _ in range(5):
            if self._removed:
                return
            status = self.status(stopped=stopped)
            if status == self.pod.get("status"):
                return
            if status["phase"] in FINAL:
                self._room.release(self.uid)
            try:
                self.pod = await self.context.client.update(
                    PODS, {**self.pod, "status": status}, subresource="status"
                )
                return
            except Conflict:
                await self._read_anew()
            except NotFound:
                self.removed()

    async def _read_anew(self) -> None:
        metadata = self.pod["metadata"]
        fresh = await self.context.client.get(PODS, metadata["name"], metadata["namespace"])
        if fresh["metadata"]["uid"] != self.uid:
            self.removed()
        else:
            self._take(fresh)


async def _ring(clock: Clock, due_s: float, event: asyncio.Event) -> None:
    await clock.sleep(due_s - clock.now_s())
    event.set()


async def _collect(work: Coroutine[None, None, None], failures: list[Exception]) -> None:
    try:
        await work
    except FAILURES as error:
        failures.append(error)


def _revision(pod: Object) -> int:
    return int(pod["metadata"].get("resourceVersion", 0))


def _intent(pod: Object) -> object:
    """What of a pod is asked of its worker; everything but status and labels."""
    metadata = pod["metadata"]
    fields = ("generation", "deletionTimestamp", "deletionGracePeriodSeconds")
    return tuple(metadata.get(field) for field in fields)


def _shown(pod: Object) -> object:
    """What of a running pod the downward API shows and others may change."""
    metadata = pod["metadata"]
    return metadata.get("labels"), metadata.get("annotations")


def _shape(seen: Observed) -> object:
    """What a list of the engine can tell: which there are, and in which state.

    The engine lists a container that could not be started as created; its inspection says that it ended.
    """
    return (
        {(sandbox.id, sandbox.running) for sandbox in seen.sandboxes},
        {
            (container.id, "created" if container.state == "exited" and unstarted else container.state)
            for container in seen.all_containers()
            for unstarted in [container.finished_s > 0 and container.started_s == 0]
        },
    )
