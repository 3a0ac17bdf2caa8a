"""desired × observed → the next operation for one pod. Pure.

Rules, in order:
1. A pod that is being deleted, past its deadline or finished stops: containers with grace, then the sandbox.
2. Containers need a running sandbox; a dead one is followed by a fresh one, in which everything starts anew.
3. Init containers run one after the other, each to success; a sidecar only has to have started.
4. A running container whose liveness or startup probe failed, or whose image changed, is stopped; one that was
   granted other resources gets them, in place or by a restart.
5. A container that is not there is started; one that has ended is started again as the restart policy says,
   after its back-off.
6. Ephemeral containers start at once and once. An end that a rule answers with RestartAllContainers makes all
   others be made anew, in the same sandbox.
7. When no regular container will run again, sidecars stop, then the sandbox; dead containers stay for their
   logs and exit codes until the pod is deleted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from orchestrator.agent import podspec
from orchestrator.agent.pods.history import current, is_done, is_final, is_past, restarts_after, succeeded
from orchestrator.agent.pods.observed import HASH, Observed
from orchestrator.api.item import Object
from orchestrator.runtime.interface import Container


@dataclass(frozen=True, slots=True)
class CreateSandbox:
    """Make the pod's namespaces; `attempt` counts from 0."""

    attempt: int


@dataclass(frozen=True, slots=True)
class StartContainer:
    """Create and start the next incarnation of `container`, an element of the pod's spec."""

    container: Object
    attempt: int


@dataclass(frozen=True, slots=True)
class StopContainer:
    """Stop one incarnation, with a word why for the event. `grace_s` is the failed probe's own, if it has one."""

    container_id: str
    name: str
    why: str
    grace_s: int | None = None
    renew: bool = False
    """Start it again whatever the restart policy says: the container was asked to be another one."""


@dataclass(frozen=True, slots=True)
class ResizeContainer:
    """Give one running incarnation the resources that its pod was granted."""

    container_id: str
    name: str


@dataclass(frozen=True, slots=True)
class StopPod:
    """Stop everything and take the network away. `remove` also removes what the engine keeps."""

    remove: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before this time (seconds since the epoch); infinity means until something happens."""

    until_s: float


Operation = CreateSandbox | StartContainer | StopContainer | ResizeContainer | StopPod | Wait
Adjust = Literal["", "update", "restart"]
"""What a resize asks of a running container."""
FOREVER = Wait(float("inf"))
KILLED = 137
"""The exit code to be expected of what is stopped for a failed probe."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What the probes say of one running container. Without a probe all is well."""

    started: bool = True
    ready: bool = True
    failed: str = ""
    """Which probe gave up, `liveness` or `startup`: the container must be stopped. Empty otherwise."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that decides. `due_s(name)` is when a container may start again (0: at once)."""

    pod: Object
    seen: Observed
    now_s: float
    probed: Mapping[str, Probed]
    due_s: Callable[[str], float]
    adjust: Callable[[Object, Container], Adjust] = lambda spec, container: ""

    def current(self, name: str) -> Container | None:
        return current(self.pod, self.seen, name)

    def probe(self, container: Container) -> Probed:
        return self.probed.get(container.id, Probed())


def plan(now: Situation) -> Operation:
    """The one next operation. The caller carries it out, looks again and asks again."""
    pod, seen = now.pod, now.seen
    if podspec.is_deleting(pod):
        return StopPod(remove=True)
    if deadline_passed(pod, now.now_s) or podspec.is_finished(pod):
        return StopPod(remove=False) if _anything_alive(seen) else FOREVER
    if is_done(pod, seen):
        return _end(pod, seen)
    if seen.live_sandbox is None:
        newest = seen.sandbox
        return CreateSandbox(newest.attempt + 1 if newest else 0)
    operation = _clear_past(now) or _next_ephemeral(now) or _next_init(now) or _next_regular(now)
    if isinstance(operation, Wait):
        held_s = [now.due_s(spec["name"]) for spec in pod["spec"].get("ephemeralContainers") or ()]
        dues_s = [due_s for due_s in held_s if due_s > now.now_s]
        return Wait(min(operation.until_s, _deadline_s(pod, now.now_s), *dues_s))
    return operation


def deadline_passed(pod: Object, now_s: float) -> bool:
    """Whether `activeDeadlineSeconds` is over; it counts from the status's start time."""
    return now_s >= _deadline_s(pod, now_s)


def _deadline_s(pod: Object, now_s: float) -> float:
    """When the pod's time is over; of a pod that has no start time yet, as if it started now."""
    allowed_s = pod["spec"].get("activeDeadlineSeconds")
    if allowed_s is None:
        return float("inf")
    started = (pod.get("status") or {}).get("startTime")
    return (podspec.seconds(started) if started else now_s) + float(allowed_s)


def _anything_alive(seen: Observed) -> bool:
    return seen.live_sandbox is not None or bool(seen.running())


def _end(pod: Object, seen: Observed) -> Operation:
    return StopPod(remove=False) if _anything_alive(seen) else FOREVER


def _next_init(now: Situation) -> Operation | None:
    """The operation that init containers and sidecars call for; None when regular containers may go on."""
    passed = any(now.current(spec["name"]) for spec in podspec.containers(now.pod))
    for spec in podspec.init_containers(now.pod):
        container = now.current(spec["name"])
        if podspec.is_sidecar(spec):
            operation = _keep_running(now, spec, container)
            if operation is not None and not (passed and isinstance(operation, Wait)):
                return operation
        elif not passed and not succeeded(container):
            return _run_once(now, spec, container)
    return None


def _waits_of_sidecars(now: Situation) -> list[Wait]:
    """When sidecars that have ended are due again, of a pod whose regular containers have begun."""
    found = [
        _keep_running(now, spec, now.current(spec["name"]))
        for spec in podspec.init_containers(now.pod)
        if podspec.is_sidecar(spec)
    ]
    return [operation for operation in found if isinstance(operation, Wait)]


def _clear_past(now: Situation) -> StopContainer | None:
    """The next running container that a rule wants made anew with all others."""
    for container in now.seen.running():
        spec = podspec.find_container(now.pod, container.name)
        if spec is None or podspec.is_ephemeral(now.pod, container.name):
            continue
        if is_past(now.pod, now.seen, container):
            why = f"Container {container.name} will be restarted with all containers of the pod"
            return StopContainer(container.id, container.name, why)
    return None


def _run_once(now: Situation, spec: Object, container: Container | None) -> Operation:
    if container is not None and container.state == "running":
        return _failed(now, spec, container) or FOREVER
    return _start(now, spec)


def _failed(now: Situation, spec: Object, container: Container) -> StopContainer | None:
    """The operation that a failed liveness or startup probe calls for."""
    probe = now.probe(container)
    if not probe.failed:
        return None
    told = spec.get("livenessProbe" if probe.started else "startupProbe") or {}
    why = f"Container {spec['name']} failed {probe.failed} probe"
    if restarts_after(now.pod, spec, KILLED):
        why += ", will be restarted"
    return StopContainer(container.id, spec["name"], why, told.get("terminationGracePeriodSeconds"))


def _keep_running(now: Situation, spec: Object, container: Container | None) -> Operation | None:
    if container is None or container.state != "running":
        return _start(now, spec)
    if operation := _failed(now, spec, container) or _adjusted(now, spec, container):
        return operation
    return None if now.probe(container).started else FOREVER


def _next_ephemeral(now: Situation) -> StartContainer | None:
    """Ephemeral containers start at once, also beside init containers, and only ever once."""
    for spec in now.pod["spec"].get("ephemeralContainers") or ():
        name = spec["name"]
        begun = now.seen.newest(name)
        if begun is not None and begun.state != "created":
            continue
        if begun is None and podspec.written_status(now.pod, name).get("containerID"):
            continue
        if now.due_s(name) <= now.now_s:
            return StartContainer(spec, 0)
    return None


def _next_regular(now: Situation) -> Operation:
    waits = [FOREVER, *_waits_of_sidecars(now)]
    for spec in podspec.containers(now.pod):
        operation = _regular(now, spec)
        if isinstance(operation, Wait):
            waits.append(operation)
        else:
            return operation
    return min(waits, key=lambda wait: wait.until_s)


def _regular(now: Situation, spec: Object) -> Operation:
    container = now.current(spec["name"])
    if container is None:
        return FOREVER if is_final(now.pod, now.seen, spec) else _start(now, spec)
    if container.state == "running":
        return _running(now, spec, container)
    return FOREVER if is_final(now.pod, now.seen, spec) else _start(now, spec)


def _running(now: Situation, spec: Object, container: Container) -> Operation:
    made_from = container.annotations.get(HASH)
    if made_from and made_from != podspec.container_hash(spec):
        why = f"Container {spec['name']} definition changed, will be restarted"
        return StopContainer(container.id, spec["name"], why, renew=True)
    return _failed(now, spec, container) or _adjusted(now, spec, container) or FOREVER


def _adjusted(now: Situation, spec: Object, container: Container) -> Operation | None:
    """The operation that a resize calls for."""
    match now.adjust(spec, container):
        case "update":
            return ResizeContainer(container.id, spec["name"])
        case "restart":
            why = f"Container {spec['name']} resize requires restart"
            return StopContainer(container.id, spec["name"], why, renew=True)
    return None


def _start(now: Situation, spec: Object) -> Operation:
    due_s = now.due_s(spec["name"])
    if due_s > now.now_s:
        return Wait(due_s)
    newest = now.seen.newest(spec["name"])
    if newest is None:
        return StartContainer(spec, _lost_attempts(now.pod, spec["name"]))
    return StartContainer(spec, newest.attempt if newest.state == "created" else newest.attempt + 1)


def _lost_attempts(pod: Object, name: str) -> int:
    """Where counting goes on when somebody removed the container from the engine."""
    written = podspec.written_status(pod, name)
    return int(written.get("restartCount", 0)) + 1 if written.get("containerID") else 0
