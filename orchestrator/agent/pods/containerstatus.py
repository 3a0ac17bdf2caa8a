"""Statuses of a pod's containers from what was observed. Pure; called by `status`.

A container that the engine lost keeps what the API knows of it; what ended by itself is told from what has
vanished. Source of fields and reasons: the container states of Kubernetes v1.36.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.agent import podspec
from orchestrator.agent.pods.admitting import Rejection
from orchestrator.agent.pods.conditions import Verdict
from orchestrator.agent.pods.ending import Ending
from orchestrator.agent.pods.history import inits_done, restarts
from orchestrator.agent.pods.observed import IMAGE, Observed
from orchestrator.agent.pods.plan import Probed
from orchestrator.api.item import Object
from orchestrator.runtime.interface import Container

KILLED = 137
MESSAGE_MAX = 4096
MESSAGES_MAX = 12 * 1024
"""Bytes of termination message per container, and of all containers of a pod together."""
NEVER_RAN = "The container could not be located when the pod was "


@dataclass(frozen=True, slots=True)
class Facts:
    """What the worker knows besides the pod. `waiting` is (reason, message) per container name."""

    seen: Observed
    probed: Mapping[str, Probed]
    waiting: Mapping[str, tuple[str, str]]
    node_ip: str
    pod_ip: str
    now_s: float
    messages: Mapping[str, str] = field(default_factory=dict)
    """Termination message per container id."""
    engine: str = "docker"
    """Name of the engine, which prefixes the ids of its containers."""
    stopped: bool = False
    """The pod was deleted and everything in it has ended: the phase becomes final."""
    allocated: Mapping[str, Object] = field(default_factory=dict)
    """Resources that the node granted, per container name; the spec's where none are named."""
    in_force: Mapping[str, Object] = field(default_factory=dict)
    """Resources that a running container has, per container id; the granted ones where none are named."""
    resize: tuple[tuple[str, Verdict], ...] = ()
    """Conditions of a resize that is waiting or under way."""
    rejection: Rejection | None = None
    """Why the node does not take the pod."""
    ending: Ending | None = None
    """Why the node ends the pod by itself."""


def container_statuses(pod: Object, specs: list[Object], facts: Facts, *, init: bool) -> list[Object]:
    """One status per container: init containers in order, the others by name."""
    made = [_container_status(pod, spec, facts, init=init) for spec in specs]
    return made if init else sorted(made, key=lambda status: str(status["name"]))


def _container_status(pod: Object, spec: Object, facts: Facts, *, init: bool) -> Object:
    container = facts.seen.newest(spec["name"])
    if container is None and podspec.written_status(pod, spec["name"]).get("containerID"):
        return _lost(pod, spec, facts)
    running = container is not None and container.state == "running"
    probe = facts.probed.get(container.id, Probed()) if container is not None and running else Probed()
    state, last = _states(pod, spec, facts, container, init=init)
    once = init and not podspec.is_sidecar(spec)
    counts = not podspec.is_ephemeral(pod, spec["name"])
    status: Object = {
        "name": spec["name"],
        "image": spec["image"],
        "imageID": (container.annotations.get(IMAGE) or container.image_id) if container else "",
        "restartCount": container.attempt if container else 0,
        "ready": counts and _ready(container, probe, once=once),
        "started": counts and running and probe.started and not once,
        "state": state,
        "lastState": last,
    }
    if container is not None:
        status["containerID"] = _id(container, facts)
        status.update(_resources(spec, container, facts))
    return {**status, **_settings(spec)}


def _resources(spec: Object, container: Container, facts: Facts) -> Object:
    """`resources` are those in force, `allocatedResources` the requests that the node granted."""
    granted = facts.allocated.get(spec["name"]) or spec.get("resources") or {}
    in_force = granted
    if container.state == "running":
        in_force = facts.in_force.get(container.id) or granted
    found: Object = {"resources": {k: v for k, v in in_force.items() if k != "claims"}}
    if granted.get("requests"):
        found["allocatedResources"] = granted["requests"]
    return found


def _settings(spec: Object) -> Object:
    """What the status repeats of the spec."""
    found: Object = {}
    if mounts := [_mount(mount) for mount in spec.get("volumeMounts") or ()]:
        found["volumeMounts"] = mounts
    if signal := (spec.get("lifecycle") or {}).get("stopSignal"):
        found["stopSignal"] = signal
    return found


def _mount(mount: Object) -> Object:
    status: Object = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if mount.get("readOnly"):
        status["readOnly"] = True
        enabled = mount.get("recursiveReadOnly") == "Enabled"
        status["recursiveReadOnly"] = "Enabled" if enabled else "Disabled"
    return status


def _id(container: Container, facts: Facts) -> str:
    return f"{facts.engine}://{container.id}"


def _lost(pod: Object, spec: Object, facts: Facts) -> Object:
    """A container that the API knows and the engine has lost: what had ended stays as it was."""
    old = podspec.written_status(pod, spec["name"])
    if podspec.is_finished(pod) or "terminated" in (old.get("state") or {}):
        return old
    text = NEVER_RAN + ("terminated" if facts.stopped else "looked at. The container used to be Running")
    end = _unknown(text)
    end["terminated"]["containerID"] = old["containerID"]
    status = {**old, "ready": False, "started": False}
    if facts.stopped:
        return {**status, "state": end}
    last = end if "running" in (old.get("state") or {}) else old.get("lastState") or {}
    return {**status, "state": {"waiting": _waiting(pod, spec["name"], facts)}, "lastState": last}


def _unknown(text: str) -> Object:
    return {"terminated": {"exitCode": KILLED, "reason": "ContainerStatusUnknown", "message": text}}


def _ready(container: Container | None, probe: Probed, *, once: bool) -> bool:
    """`once`: an init container that runs to its end."""
    if container is None:
        return False
    if once:
        return container.state == "exited" and container.exit_code == 0
    return container.state == "running" and probe.started and probe.ready


def _states(
    pod: Object, spec: Object, facts: Facts, container: Container | None, *, init: bool
) -> tuple[Object, Object]:
    """`state` and `lastState`: a container that waits for its next start shows its end as the last state."""
    name = spec["name"]
    previous = facts.seen.previous(name)
    last = (
        _terminated(pod, previous, facts) if previous is not None else _kept_last(pod, container, facts, name)
    )
    if container is None or container.state == "created":
        if facts.stopped and not init and inits_done(pod, facts.seen):
            return _unknown(NEVER_RAN + "terminated"), last
        return {"waiting": _waiting(pod, name, facts)}, last
    if container.state == "running":
        return {"running": {"startedAt": podspec.timestamp(container.started_s)}}, last
    ended = _terminated(pod, container, facts)
    if name in facts.waiting and not podspec.is_deleting(pod) and restarts(pod, spec, container):
        return {"waiting": _waiting(pod, name, facts)}, ended
    return ended, last


def _kept_last(pod: Object, container: Container | None, facts: Facts, name: str) -> Object:
    """The last state on record, of a container whose earlier incarnation the engine no longer has."""
    old = podspec.written_status(pod, name)
    if container is None or not old:
        return {}
    if old.get("containerID") == _id(container, facts):
        return old.get("lastState") or {}
    ended = old.get("state") or {}
    return ended if container.attempt and "terminated" in ended else old.get("lastState") or {}


def _waiting(pod: Object, name: str, facts: Facts) -> Object:
    reason, message = facts.waiting.get(name, ("", ""))
    if not reason:
        initialising = bool(podspec.init_containers(pod)) and not inits_done(pod, facts.seen)
        reason = "PodInitializing" if initialising else "ContainerCreating"
    return {"reason": reason, "message": message} if message else {"reason": reason}


def _terminated(pod: Object, container: Container, facts: Facts) -> Object:
    reason = container.reason or ("Completed" if container.exit_code == 0 else "Error")
    ended: Object = {
        "exitCode": container.exit_code,
        "reason": reason,
        "startedAt": podspec.timestamp(container.started_s),
        "finishedAt": podspec.timestamp(container.finished_s),
        "containerID": _id(container, facts),
    }
    message = facts.messages.get(container.id) or container.message
    if message:
        ended["message"] = _cut(pod, message)
    return {"terminated": ended}


def _cut(pod: Object, message: str) -> str:
    """The container's part of what a pod may say, in bytes."""
    share = min(MESSAGE_MAX, MESSAGES_MAX // sum(1 for _ in podspec.all_containers(pod)))
    return message.encode()[:share].decode(errors="ignore")
