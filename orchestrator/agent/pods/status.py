"""A pod's status from what was observed. Pure. Source of phases and reasons: the Pod lifecycle of v1.36.

The phase becomes final only when nothing of the pod runs any more: who counts on the end (Jobs, quotas, the
scheduler) must find the node's room free.
"""

from orchestrator.agent import podspec
from orchestrator.agent.pods.conditions import FINAL, conditions, rejected
from orchestrator.agent.pods.containerstatus import Facts, container_statuses
from orchestrator.agent.pods.ending import disruption
from orchestrator.agent.pods.history import failed_init, inits_done, is_done, lost_exit_code
from orchestrator.agent.pods.observed import Observed
from orchestrator.agent.pods.plan import deadline_passed
from orchestrator.api.item import Object

DEADLINE = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
_OTHERS = ("nominatedNodeName", "resourceClaimStatuses", "extendedResourceClaimStatus")
"""Fields of the status that the agent carries on as others wrote them."""
STATUSES = (
    ("initContainers", "initContainerStatuses"),
    ("containers", "containerStatuses"),
    ("ephemeralContainers", "ephemeralContainerStatuses"),
)


def pod_status(pod: Object, facts: Facts) -> Object:
    """The whole status that the agent owns; times of unchanged conditions are kept."""
    if podspec.is_finished(pod) and not (facts.seen.sandboxes or facts.seen.containers):
        # What is final, and of what nothing is left, stays as it is on record.
        return {**pod["status"], "observedGeneration": pod["metadata"].get("generation", 1)}
    status = _head(pod, facts)
    if facts.rejection is not None:
        return {**status, **_rejected(pod, facts)}
    found = {
        written: container_statuses(
            pod, list(pod["spec"].get(wanted) or ()), facts, init=wanted == "initContainers"
        )
        for wanted, written in STATUSES
    }
    phase = _phase(pod, facts)
    status["phase"] = phase
    # What was the pod's address stays on record after its end.
    address = facts.pod_ip or (pod.get("status") or {}).get("podIP", "")
    if address:
        status["podIP"] = address
        status["podIPs"] = [{"ip": address}]
    status.update({field: made for field, made in found.items() if made or field == "containerStatuses"})
    _explain(status, pod, facts)
    status["conditions"] = conditions(
        pod,
        phase,
        found["initContainerStatuses"],
        found["containerStatuses"],
        network=facts.seen.live_sandbox is not None and bool(facts.pod_ip),
        resize=() if phase in FINAL else facts.resize,
        now_s=facts.now_s,
    )
    if facts.ending is not None and facts.ending.disruption:
        now = podspec.timestamp(facts.now_s)
        status["conditions"].append(disruption(pod, facts.ending, now))
    return status


def _head(pod: Object, facts: Facts) -> Object:
    old = pod.get("status") or {}
    return {
        "hostIP": facts.node_ip,
        "hostIPs": [{"ip": facts.node_ip}],
        "startTime": old.get("startTime") or podspec.timestamp(facts.now_s),
        "qosClass": old.get("qosClass") or podspec.qos_class(pod),
        "observedGeneration": pod["metadata"].get("generation", 1),
        **{field: old[field] for field in _OTHERS if field in old},
    }


def _rejected(pod: Object, facts: Facts) -> Object:
    assert facts.rejection is not None
    return {
        "phase": "Failed",
        "reason": facts.rejection.reason,
        "message": f"Pod was rejected: {facts.rejection.message}",
        "conditions": rejected(pod, facts.now_s),
    }


def _explain(status: Object, pod: Object, facts: Facts) -> None:
    old = pod.get("status") or {}
    if podspec.is_finished(pod):
        status.update({field: old[field] for field in ("reason", "message") if field in old})
    elif facts.ending is not None:
        status["reason"], status["message"] = facts.ending.reason, facts.ending.message
    elif status["phase"] == "Failed" and deadline_passed(pod, facts.now_s):
        status["reason"], status["message"] = DEADLINE


def _phase(pod: Object, facts: Facts) -> str:
    written = (pod.get("status") or {}).get("phase")
    if written in FINAL:
        return str(written)
    phase = _computed(pod, facts)
    if phase in FINAL and facts.seen.running():
        return str(written or "Pending")
    return phase


def _computed(pod: Object, facts: Facts) -> str:
    seen = facts.seen
    if facts.ending is not None or deadline_passed(pod, facts.now_s) or failed_init(pod, seen) is not None:
        return "Failed"
    names = [spec["name"] for spec in podspec.containers(pod)]
    if facts.stopped or is_done(pod, seen):
        return "Succeeded" if all(_ended_well(pod, seen, name) for name in names) else "Failed"
    if not inits_done(pod, seen) or not all(_has_run(pod, seen, name) for name in names):
        return "Pending"
    return "Running"


def _ended_well(pod: Object, seen: Observed, name: str) -> bool:
    container = seen.newest(name)
    if container is None:
        return lost_exit_code(pod, name) == 0
    return container.state == "exited" and container.exit_code == 0


def _has_run(pod: Object, seen: Observed, name: str) -> bool:
    """Whether a container has ever been started, also one that the engine has lost since."""
    container = seen.newest(name)
    if container is not None and (container.state != "created" or seen.previous(name) is not None):
        return True
    written = podspec.written_status(pod, name)
    states = (written.get("state") or {}, written.get("lastState") or {})
    return any("terminated" in state or "running" in state for state in states)
