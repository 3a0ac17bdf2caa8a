"""Why the node ends a pod by itself: eviction, shutdown. Given to `PodWorker.end`; shown by the status."""

from dataclasses import dataclass

from orchestrator.api.item import Object

TERMINATED_BY_KUBELET = "TerminationByKubelet"


@dataclass(frozen=True, slots=True)
class Ending:
    """Reason and message of the failed pod. `grace_s` bounds what its containers get, None leaves the pod's own;
    `disruption` becomes the message of the condition DisruptionTarget, empty sets none."""

    reason: str
    message: str
    grace_s: int | None = None
    disruption: str = ""


def disruption(pod: Object, ending: Ending, now: str) -> Object:
    """The condition DisruptionTarget; `now` is RFC 3339."""
    old = next(
        (c for c in (pod.get("status") or {}).get("conditions") or () if c["type"] == "DisruptionTarget"),
        None,
    )
    same = old is not None and old.get("status") == "True"
    return {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": TERMINATED_BY_KUBELET,
        "message": ending.disruption,
        "lastTransitionTime": old["lastTransitionTime"] if same and old else now,
        "observedGeneration": pod["metadata"].get("generation", 1),
    }
