"""A pod's conditions from its statuses. Pure; called by `status`.

What somebody else wrote (readiness gates, DisruptionTarget) is never touched here; times of what did not change
are kept. Source: the Pod lifecycle of Kubernetes v1.36.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from orchestrator.agent import podspec
from orchestrator.api.item import Object

FINAL = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}
"""Reason of the readiness conditions in a final phase."""


class Verdict(NamedTuple):
    """What one condition says."""

    status: str
    reason: str = ""
    message: str = ""


TRUE, FALSE = Verdict("True"), Verdict("False")


def conditions(
    pod: Object,
    phase: str,
    inits: list[Object],
    statuses: list[Object],
    *,
    network: bool,
    resize: Iterable[tuple[str, Verdict]],
    now_s: float,
) -> list[Object]:
    """The agent's own conditions. `network` says that a sandbox runs and has its address."""
    containers_ready = _containers_ready(pod, phase, inits, statuses)
    wanted = [
        ("PodReadyToStartContainers", TRUE if network else FALSE),
        ("Initialized", _initialized(pod, phase, inits, statuses)),
        ("Ready", _with_gates(pod, containers_ready)),
        ("ContainersReady", containers_ready),
        ("PodScheduled", TRUE),
        *resize,
    ]
    old = {c["type"]: c for c in (pod.get("status") or {}).get("conditions") or ()}
    return [_condition(old.get(kind), kind, verdict, pod, now_s) for kind, verdict in wanted]


def rejected(pod: Object, now_s: float) -> list[Object]:
    """Conditions of a pod that was never let in."""
    old = {c["type"]: c for c in (pod.get("status") or {}).get("conditions") or ()}
    verdict = Verdict("False", FINAL["Failed"])
    wanted = [("Ready", verdict), ("ContainersReady", verdict), ("PodScheduled", TRUE)]
    return [_condition(old.get(kind), kind, found, pod, now_s) for kind, found in wanted]


def _initialized(pod: Object, phase: str, inits: list[Object], statuses: list[Object]) -> Verdict:
    if phase == "Succeeded":
        return Verdict("True", "PodCompleted")
    if any(_has_started(status) for status in statuses):
        return TRUE
    sidecars = _sidecars(pod)
    missing = [
        status["name"] for status in inits if not status["started" if status["name"] in sidecars else "ready"]
    ]
    if not missing:
        return TRUE
    text = f"containers with incomplete status: [{' '.join(missing)}]"
    return Verdict("False", "ContainersNotInitialized", text)


def _has_started(status: Object) -> bool:
    return "running" in status["state"] or "terminated" in status["state"] or bool(status["lastState"])


def _containers_ready(pod: Object, phase: str, inits: list[Object], statuses: list[Object]) -> Verdict:
    if phase in FINAL:
        return Verdict("False", FINAL[phase])
    sidecars = _sidecars(pod)
    ready = {status["name"]: status["ready"] for status in (*inits, *statuses)}
    watched = [spec["name"] for spec in podspec.init_containers(pod) if spec["name"] in sidecars]
    watched += [spec["name"] for spec in podspec.containers(pod)]
    unready = [name for name in watched if not ready[name]]
    if not unready:
        return TRUE
    return Verdict("False", "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")


def _sidecars(pod: Object) -> set[str]:
    return {spec["name"] for spec in podspec.init_containers(pod) if podspec.is_sidecar(spec)}


def _with_gates(pod: Object, containers_ready: Verdict) -> Verdict:
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates") or ()]
    if not gates or containers_ready.status != "True":
        return containers_ready
    old = {c["type"]: c["status"] for c in (pod.get("status") or {}).get("conditions") or ()}
    missing = []
    for gate in gates:
        if gate not in old:
            missing.append(f'corresponding condition of pod readiness gate "{gate}" does not exist.')
        elif old[gate] != "True":
            missing.append(f'the status of pod readiness gate "{gate}" is not "True", but {old[gate]}')
    return Verdict("False", "ReadinessGatesNotReady", ", ".join(missing)) if missing else containers_ready


def _condition(old: Object | None, kind: str, verdict: Verdict, pod: Object, now_s: float) -> Object:
    condition: dict[str, Any] = {
        "type": kind,
        "status": verdict.status,
        "lastTransitionTime": podspec.timestamp(now_s),
        "observedGeneration": pod["metadata"].get("generation", 1),
    }
    if verdict.reason:
        condition["reason"] = verdict.reason
    if verdict.message:
        condition["message"] = verdict.message
    if old is not None and old.get("status") == verdict.status and old.get("lastTransitionTime"):
        condition["lastTransitionTime"] = old["lastTransitionTime"]
    return condition
