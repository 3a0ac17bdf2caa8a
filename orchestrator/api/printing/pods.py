"""A pod's row: how many containers are ready, one word for its state, restarts and when the last one was."""

from typing import Any

from orchestrator.api.item import Object
from orchestrator.api.printing.columns import AGE, NAME, NONE, Column, Printer, age_of, name_of, part, wide
from orchestrator.api.printing.duration import human_duration, seconds_of

_COLUMNS = (
    NAME,
    Column("Ready", "How many of the pod's containers are ready"),
    Column("Status", "State of the pod as a whole, or why it is not running"),
    Column("Restarts", "How often containers were restarted, and when last"),
    AGE,
    wide("IP", "Address of the pod"),
    wide("Node", "Node that the pod is assigned to"),
    wide("Nominated Node", "Node on which room is being made for the pod"),
    wide("Readiness Gates", "How many of the additional readiness conditions hold"),
)


class _Summary:
    """Counts over the container statuses of one pod."""

    __slots__ = ("last_restart_s", "ready", "reason", "restarts")

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.ready = 0
        self.restarts = 0
        self.last_restart_s = 0.0

    def count_restarts(self, status: Object) -> None:
        self.restarts += status.get("restartCount", 0)
        ended = (status.get("lastState") or {}).get("terminated") or {}
        self.last_restart_s = max(self.last_restart_s, seconds_of(ended.get("finishedAt")) or 0.0)

    def restarts_text(self, now_s: float) -> str:
        if not self.restarts or not self.last_restart_s:
            return str(self.restarts)
        return f"{self.restarts} ({human_duration(now_s - self.last_restart_s)} ago)"


def _cells(pod: Object, now_s: float) -> list[Any]:
    spec, status = part(pod, "spec"), part(pod, "status")
    summary = _summarize(pod, spec, status)
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    total = len(spec.get("containers") or ()) + len(sidecars)
    ips = status.get("podIPs") or [{"ip": status.get("podIP")}]
    return [
        name_of(pod),
        f"{summary.ready}/{total}",
        summary.reason,
        summary.restarts_text(now_s),
        age_of(pod, now_s),
        ips[0].get("ip") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _gates(spec, status),
    ]


def _summarize(pod: Object, spec: Object, status: Object) -> _Summary:
    phase = status.get("phase") or "Unknown"
    conditions = status.get("conditions") or ()
    gated = any(c.get("type") == "PodScheduled" and c.get("reason") == "SchedulingGated" for c in conditions)
    summary = _Summary("SchedulingGated" if gated else status.get("reason") or phase)
    sidecars = {c.get("name") for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"}
    initializing = _add_init_containers(summary, spec, status, sidecars)
    if not initializing or _holds(conditions, "Initialized"):
        _add_containers(summary, status, sidecars)
    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            summary.reason = "Unknown"
        elif phase not in ("Succeeded", "Failed"):
            summary.reason = "Terminating"
    return summary


def _add_init_containers(summary: _Summary, spec: Object, status: Object, sidecars: set[Any]) -> bool:
    """Count until the first init container that is not done; True if there is one."""
    for at, entry in enumerate(status.get("initContainerStatuses") or ()):
        summary.count_restarts(entry)
        state = entry.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting") or {}
        if ended and not ended.get("exitCode"):
            continue
        if entry.get("name") in sidecars and entry.get("started"):
            summary.ready += bool(entry.get("ready"))
            continue
        if ended:
            summary.reason = f"Init:{_end_reason(ended)}"
        elif waiting.get("reason") not in (None, "", "PodInitializing"):
            summary.reason = f"Init:{waiting['reason']}"
        else:
            summary.reason = f"Init:{at}/{len(spec.get('initContainers') or ())}"
        return True
    return False


def _add_containers(summary: _Summary, status: Object, sidecars: set[Any]) -> None:
    """Restarts of finished init containers no longer count once the main containers run."""
    summary.restarts, summary.last_restart_s = 0, 0.0
    for entry in status.get("initContainerStatuses") or ():
        if entry.get("name") in sidecars:
            summary.count_restarts(entry)
    running = False
    for entry in reversed(status.get("containerStatuses") or ()):
        summary.count_restarts(entry)
        state = entry.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting") or {}
        if waiting.get("reason"):
            summary.reason = waiting["reason"]
        elif ended:
            summary.reason = _end_reason(ended)
        elif entry.get("ready") and state.get("running") is not None:
            running = True
            summary.ready += 1
    if summary.reason == "Completed" and running:
        ready = _holds(status.get("conditions") or (), "Ready")
        summary.reason = "Running" if ready else "NotReady"


def _end_reason(ended: Object) -> str:
    if ended.get("reason"):
        reason: str = ended["reason"]
        return reason
    if ended.get("signal"):
        return f"Signal:{ended['signal']}"
    return f"ExitCode:{ended.get('exitCode', 0)}"


def _holds(conditions: Any, kind: str) -> bool:
    return any(c.get("type") == kind and c.get("status") == "True" for c in conditions)


def _gates(spec: Object, status: Object) -> str:
    gates = spec.get("readinessGates")
    if not gates:
        return NONE
    held = sum(_holds(status.get("conditions") or (), gate.get("conditionType", "")) for gate in gates)
    return f"{held}/{len(gates)}"


def _conditions(pod: Object) -> list[Object]:
    phase = part(pod, "status").get("phase")
    if phase == "Succeeded":
        message = "The pod has completed successfully."
    elif phase == "Failed":
        message = "The pod failed."
    else:
        return []
    return [{"type": "Completed", "status": "True", "reason": phase, "message": message}]


PODS = Printer(_COLUMNS, _cells, _conditions)
