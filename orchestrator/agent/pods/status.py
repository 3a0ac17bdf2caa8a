"""A pod's status from what was observed. Pure. Source of reasons and conditions: the Pod lifecycle of v1.36."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.agent import podspec
from orchestrator.agent.pods.observed import Observed
from orchestrator.agent.pods.plan import Probed, deadline_passed, failed_init, inits_done, is_done, restarts
from orchestrator.api.item import Object
from orchestrator.runtime.interface import Container

SIGNAL_BASE = 128
MESSAGE_MAX = 4096


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


def pod_status(pod: Object, facts: Facts) -> Object:
    """The whole status that the agent owns; times of unchanged conditions are kept."""
    old = pod.get("status") or {}
    init_statuses = [_container_status(pod, spec, facts, init=True) for spec in podspec.init_containers(pod)]
    statuses = [_container_status(pod, spec, facts, init=False) for spec in podspec.containers(pod)]
    ephemeral = [
        _container_status(pod, spec, facts, init=False)
        for spec in pod["spec"].get("ephemeralContainers") or ()
    ]
    phase = _phase(pod, facts)
    status: Object = {
        "phase": phase,
        "hostIP": facts.node_ip,
        "hostIPs": [{"ip": facts.node_ip}],
        "startTime": old.get("startTime") or podspec.timestamp(facts.now_s),
        "qosClass": old.get("qosClass") or podspec.qos_class(pod),
        "containerStatuses": statuses,
        "observedGeneration": pod["metadata"].get("generation", 1),
    }
    # What was the pod's address stays on record after its end.
    address = facts.pod_ip or old.get("podIP", "")
    if address:
        status["podIP"] = address
        status["podIPs"] = [{"ip": address}]
    if init_statuses:
        status["initContainerStatuses"] = init_statuses
    if ephemeral:
        status["ephemeralContainerStatuses"] = ephemeral
    _explain(status, pod, facts)
    status["conditions"] = _conditions(pod, facts, phase, init_statuses, statuses)
    return status


def _explain(status: Object, pod: Object, facts: Facts) -> None:
    old = pod.get("status") or {}
    if podspec.is_finished(pod):
        status.update({field: old[field] for field in ("reason", "message") if field in old})
    elif deadline_passed(pod, facts.now_s):
        status["reason"] = "DeadlineExceeded"
        status["message"] = "Pod was active on the node longer than the specified deadline"


def _phase(pod: Object, facts: Facts) -> str:
    written = (pod.get("status") or {}).get("phase")
    if written in ("Succeeded", "Failed"):
        return str(written)
    if deadline_passed(pod, facts.now_s):
        return "Failed"
    if failed_init(pod, facts.seen) is not None:
        return "Failed"
    newest = [facts.seen.newest(spec["name"]) for spec in podspec.containers(pod)]
    if facts.stopped or is_done(pod, facts.seen):
        well = all(c is not None and c.state == "exited" and c.exit_code == 0 for c in newest)
        return "Succeeded" if well else "Failed"
    if not inits_done(pod, facts.seen) or any(c is None or c.state == "created" for c in newest):
        return "Pending"
    return "Running"


def _container_status(pod: Object, spec: Object, facts: Facts, *, init: bool) -> Object:
    name = spec["name"]
    container = facts.seen.newest(name)
    if container is None and podspec.written_status(pod, name).get("containerID"):
        return _lost(pod, spec, facts)
    running = container is not None and container.state == "running"
    probe = facts.probed.get(container.id, Probed()) if container is not None and running else Probed()
    state, last = _states(pod, spec, facts, container)
    status: Object = {
        "name": name,
        "image": spec["image"],
        "imageID": container.image_id if container else "",
        "restartCount": container.attempt if container else 0,
        "ready": _ready(spec, container, probe, init=init),
        "started": running and probe.started,
        "state": state,
        "lastState": last,
    }
    if container is not None:
        status["containerID"] = _id(container, facts)
    return status


def _id(container: Container, facts: Facts) -> str:
    return f"{facts.engine}://{container.id}"


def _lost(pod: Object, spec: Object, facts: Facts) -> Object:
    """A container that the API knows and the engine has lost: what had ended stays as it was."""
    old = podspec.written_status(pod, spec["name"])
    if podspec.is_finished(pod) or "terminated" in (old.get("state") or {}):
        return old
    text = "The container could not be located when the pod was "
    text += "terminated" if facts.stopped else "looked at. The container used to be Running"
    ended: Object = {
        "exitCode": SIGNAL_BASE + 9,
        "reason": "ContainerStatusUnknown",
        "message": text,
        "containerID": old["containerID"],
    }
    end = {"terminated": ended}
    status = {**old, "ready": False, "started": False}
    if facts.stopped:
        return {**status, "state": end}
    last = end if "running" in (old.get("state") or {}) else old.get("lastState") or {}
    return {**status, "state": {"waiting": _waiting(pod, spec["name"], facts)}, "lastState": last}


def _ready(spec: Object, container: Container | None, probe: Probed, *, init: bool) -> bool:
    if container is None:
        return False
    if init and not podspec.is_sidecar(spec):
        return container.state == "exited" and container.exit_code == 0
    return container.state == "running" and probe.started and probe.ready


def _states(pod: Object, spec: Object, facts: Facts, container: Container | None) -> tuple[Object, Object]:
    """`state` and `lastState`: a container that waits for its next start shows its end as the last state."""
    name = spec["name"]
    previous = facts.seen.previous(name)
    last = _terminated(previous, facts) if previous is not None else _kept_last(pod, container, facts, name)
    if container is None or container.state == "created":
        return {"waiting": _waiting(pod, name, facts)}, last
    if container.state == "running":
        return {"running": {"startedAt": podspec.timestamp(container.started_s)}}, last
    ended = _terminated(container, facts)
    if name in facts.waiting and not podspec.is_deleting(pod) and restarts(pod, spec, container):
        return {"waiting": _waiting(pod, name, facts)}, ended
    return ended, last


def _kept_last(pod: Object, container: Container | None, facts: Facts, name: str) -> Object:
    """The last state on record, of a container whose earlier incarnation the engine no longer has."""
    old = podspec.written_status(pod, name)
    same = container is not None and old.get("containerID") == _id(container, facts)
    return (old.get("lastState") or {}) if same else {}


def _waiting(pod: Object, name: str, facts: Facts) -> Object:
    reason, message = facts.waiting.get(name, ("", ""))
    if not reason:
        initialising = bool(podspec.init_containers(pod)) and not inits_done(pod, facts.seen)
        reason = "PodInitializing" if initialising else "ContainerCreating"
    return {"reason": reason, "message": message} if message else {"reason": reason}


def _terminated(container: Container, facts: Facts) -> Object:
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
        ended["message"] = message[:MESSAGE_MAX]
    return {"terminated": ended}


def _conditions(
    pod: Object, facts: Facts, phase: str, inits: list[Object], statuses: list[Object]
) -> list[Object]:
    ended = phase in ("Succeeded", "Failed")
    containers_ready = _containers_ready(phase, inits, statuses, pod)
    wanted = [
        ("PodReadyToStartContainers", *_yes(facts.seen.live_sandbox is not None and bool(facts.pod_ip))),
        ("Initialized", *_initialized(pod, facts, phase)),
        ("Ready", *_with_gates(pod, containers_ready)),
        ("ContainersReady", *containers_ready),
        ("PodScheduled", *_yes(True)),
    ]
    if ended and phase == "Succeeded":
        wanted[1] = ("Initialized", "True", "PodCompleted", "")
    old = {c["type"]: c for c in (pod.get("status") or {}).get("conditions") or ()}
    return [
        _condition(old.get(kind), kind, value, why, text, pod, facts) for kind, value, why, text in wanted
    ]


def _yes(value: bool) -> tuple[str, str, str]:
    return ("True" if value else "False", "", "")


def _initialized(pod: Object, facts: Facts, phase: str) -> tuple[str, str, str]:
    if inits_done(pod, facts.seen) or phase == "Running":
        return _yes(True)
    missing = [
        spec["name"]
        for spec in podspec.init_containers(pod)
        if (c := facts.seen.newest(spec["name"])) is None or c.state != "exited" or c.exit_code != 0
    ]
    return "False", "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(missing)}]"


def _containers_ready(
    phase: str, inits: list[Object], statuses: list[Object], pod: Object
) -> tuple[str, str, str]:
    if phase == "Succeeded":
        return "False", "PodCompleted", ""
    if phase == "Failed":
        return "False", "PodFailed", ""
    sidecars = {spec["name"] for spec in podspec.init_containers(pod) if podspec.is_sidecar(spec)}
    watched = [s for s in inits if s["name"] in sidecars] + statuses
    unready = [status["name"] for status in watched if not status["ready"]]
    if not unready:
        return _yes(True)
    return "False", "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"


def _with_gates(pod: Object, containers_ready: tuple[str, str, str]) -> tuple[str, str, str]:
    if containers_ready[0] != "True":
        return containers_ready
    old = {c["type"]: c["status"] for c in (pod.get("status") or {}).get("conditions") or ()}
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates") or ()]
    missing = [gate for gate in gates if old.get(gate) != "True"]
    if not missing:
        return containers_ready
    text = "; ".join(f'the status of pod readiness gate "{gate}" is not "True"' for gate in missing)
    return "False", "ReadinessGatesNotReady", text


def _condition(
    old: Object | None, kind: str, value: str, reason: str, message: str, pod: Object, facts: Facts
) -> Object:
    condition: dict[str, Any] = {
        "type": kind,
        "status": value,
        "lastTransitionTime": podspec.timestamp(facts.now_s),
        "observedGeneration": pod["metadata"].get("generation", 1),
    }
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    if old is not None and old.get("status") == value and old.get("lastTransitionTime"):
        condition["lastTransitionTime"] = old["lastTransitionTime"]
    return condition
