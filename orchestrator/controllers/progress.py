"""A Deployment's status: counters and the conditions Available, Progressing and ReplicaFailure. Pure.

Called by `orchestrator.controllers.deployment`. Reasons and messages are those users know from Kubernetes.
"""

from collections.abc import Iterable

from orchestrator.api.item import Object
from orchestrator.api.times import seconds, timestamp
from orchestrator.controllers.objects import find_condition
from orchestrator.controllers.rollout import Bounds, size

NO_DEADLINE = 2**31 - 1
_COUNTERS = {
    "replicas": "replicas",
    "readyReplicas": "readyReplicas",
    "availableReplicas": "availableReplicas",
    "terminatingReplicas": "terminatingReplicas",
}


def calculate(
    deployment: Object,
    limits: Bounds,
    new: Object | None,
    sets: list[Object],
    now_s: float,
    started: Object | None = None,
) -> Object:
    """The whole new status. `started` is a Progressing condition that this reconcile's actions ask for."""
    old = deployment.get("status") or {}
    status = _counters(deployment, old, new, sets)
    conditions = [_timed(condition, now_s) for condition in old.get("conditions") or ()]
    conditions = put(conditions, _availability(limits, status), now_s)
    conditions = _failures(conditions, new, sets)
    if not has_deadline(deployment):
        conditions = [c for c in conditions if c["type"] != "Progressing"]
    elif started is not None:
        conditions = put(conditions, started, now_s)
    elif not deployment["spec"].get("paused"):
        conditions = _progress(conditions, deployment, new, status, now_s)
    if conditions:
        status["conditions"] = conditions
    return status


def _timed(condition: Object, now_s: float) -> Object:
    """The condition; one of ours that somebody wrote without its times begins now, so that a deadline can pass."""
    if condition["type"] not in ("Available", "Progressing"):
        return condition
    lacking = [name for name in ("lastUpdateTime", "lastTransitionTime") if not condition.get(name)]
    return {**condition, **dict.fromkeys(lacking, timestamp(now_s))} if lacking else condition


def _counters(deployment: Object, old: Object, new: Object | None, sets: list[Object]) -> Object:
    counts = {
        name: sum((s.get("status") or {}).get(source, 0) for s in sets) for name, source in _COUNTERS.items()
    }
    counts["updatedReplicas"] = ((new or {}).get("status") or {}).get("replicas", 0)
    counts["unavailableReplicas"] = max(0, sum(map(size, sets)) - counts["availableReplicas"])
    status = {name: count for name, count in counts.items() if count or name == "terminatingReplicas"}
    status["observedGeneration"] = deployment["metadata"].get("generation", 0)
    if "collisionCount" in old:
        status["collisionCount"] = old["collisionCount"]
    return status


def _availability(limits: Bounds, status: Object) -> Object:
    if status.get("availableReplicas", 0) >= limits.available_min:
        return condition(
            "Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability."
        )
    return condition(
        "Available", "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability."
    )


def _failures(conditions: list[Object], new: Object | None, sets: Iterable[Object]) -> list[Object]:
    """ReplicaFailure as the new set has it, else as any other has it."""
    others = [c for c in conditions if c["type"] != "ReplicaFailure"]
    for replica_set in ([new] if new is not None else []) + [s for s in sets if s is not new]:
        failed = find_condition((replica_set.get("status") or {}).get("conditions") or [], "ReplicaFailure")
        if failed is not None:
            since = failed.get("lastTransitionTime")
            return [*others, {**failed, "lastUpdateTime": since} if since else failed]
    return others


def _progress(
    conditions: list[Object], deployment: Object, new: Object | None, status: Object, now_s: float
) -> list[Object]:
    """Complete, else progressing, else out of time; a finished rollout stays as it was reported."""
    current = find_condition(conditions, "Progressing")
    whole = status.get("replicas", 0) == status.get("updatedReplicas", 0)
    if whole and current is not None and current.get("reason") == "NewReplicaSetAvailable":
        return conditions
    subject = (
        f'ReplicaSet "{new["metadata"]["name"]}"' if new else f'Deployment "{deployment["metadata"]["name"]}"'
    )
    if is_complete(deployment, status):
        text = f"{subject} has successfully progressed."
        return put(conditions, condition("Progressing", "True", "NewReplicaSetAvailable", text), now_s)
    if _moves(deployment.get("status") or {}, status):
        text = f"{subject} is progressing."
        changed = condition("Progressing", "True", "ReplicaSetUpdated", text)
        return put(conditions, changed, now_s, refresh=True)
    if timed_out(deployment, current, now_s):
        text = f"{subject} has timed out progressing."
        return put(conditions, condition("Progressing", "False", "ProgressDeadlineExceeded", text), now_s)
    return conditions


def is_complete(deployment: Object, status: Object) -> bool:
    """Every wanted pod is of the new template and available, and nothing else runs."""
    wanted = deployment["spec"].get("replicas", 1)
    counts = (status.get(name, 0) for name in ("updatedReplicas", "replicas", "availableReplicas"))
    observed = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    return bool(observed) and all(count == wanted for count in counts)


def _moves(old: Object, new: Object) -> bool:
    def stale(status: Object) -> int:
        return int(status.get("replicas", 0)) - int(status.get("updatedReplicas", 0))

    grown = ("updatedReplicas", "readyReplicas", "availableReplicas")
    return stale(new) < stale(old) or any(new.get(name, 0) > old.get(name, 0) for name in grown)


def has_deadline(deployment: Object) -> bool:
    return bool(deployment["spec"].get("progressDeadlineSeconds", NO_DEADLINE) != NO_DEADLINE)


def timed_out(deployment: Object, progressing: Object | None, now_s: float) -> bool:
    """Whether the rollout made no step for longer than the progress deadline."""
    if progressing is None or progressing.get("reason") == "NewReplicaSetAvailable":
        return False
    if progressing.get("reason") == "ProgressDeadlineExceeded":
        return True
    return deadline_in_s(deployment, progressing, now_s) < 0


def deadline_in_s(deployment: Object, progressing: Object, now_s: float) -> float:
    """Seconds until the rollout is out of time; negative when it is."""
    return float(
        seconds(progressing["lastUpdateTime"]) + deployment["spec"]["progressDeadlineSeconds"] - now_s
    )


def look_again_s(deployment: Object, status: Object, now_s: float) -> float | None:
    """When a stuck rollout must be judged; None when it is complete, out of time or has no deadline."""
    current = find_condition(status.get("conditions") or [], "Progressing")
    if current is None or not has_deadline(deployment) or deployment["spec"].get("paused"):
        return None
    if current.get("reason") in ("NewReplicaSetAvailable", "ProgressDeadlineExceeded"):
        return None
    return max(0.0, deadline_in_s(deployment, current, now_s)) + 1.0


def pause_condition(deployment: Object) -> Object | None:
    """The Progressing condition that pausing or resuming sets, once."""
    current = find_condition((deployment.get("status") or {}).get("conditions") or [], "Progressing")
    reason = current.get("reason", "") if current is not None else ""
    if reason == "ProgressDeadlineExceeded":
        return None
    if deployment["spec"].get("paused"):
        if reason == "DeploymentPaused":
            return None
        return condition("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused")
    if reason == "DeploymentPaused":
        return condition("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed")
    return None


def first_condition(deployment: Object, new: Object | None) -> Object | None:
    """The Progressing condition of a pause, of its end, or of a set that was there before progress was asked for."""
    conditions = (deployment.get("status") or {}).get("conditions") or []
    if (
        new is None
        or find_condition(conditions, "Progressing") is not None
        or deployment["spec"].get("paused")
    ):
        return pause_condition(deployment)
    text = f'Found new replica set "{new["metadata"]["name"]}"'
    return condition("Progressing", "True", "FoundNewReplicaSet", text)


def with_progressing(deployment: Object, progressing: Object, now_s: float) -> Object:
    """The Deployment's present status, with another Progressing condition if it is asked for progress."""
    status: Object = deployment.get("status") or {}
    if not has_deadline(deployment):
        return status
    return {**status, "conditions": put(status.get("conditions") or [], progressing, now_s)}


def condition(kind: str, status: str, reason: str, message: str) -> Object:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def put(conditions: list[Object], new: Object, now_s: float, *, refresh: bool = False) -> list[Object]:
    """Set a condition; one with the same status and reason stays untouched unless `refresh`."""
    old = find_condition(conditions, new["type"])
    same_status = old is not None and old["status"] == new["status"]
    if old is not None and same_status and old.get("reason", "") == new["reason"] and not refresh:
        return conditions
    now = timestamp(now_s)
    since = (old.get("lastTransitionTime") or now) if old is not None and same_status else now
    entry = {**new, "lastUpdateTime": now, "lastTransitionTime": since}
    return [*(c for c in conditions if c is not old), entry]
