"""Rollback by itself: a Deployment that asks for it returns to its last complete revision when a rollout gets stuck.

1. Asked for by the annotation `orchestrator.internal/rollback: on-deadline` on the Deployment; a paused one waits.
2. A ReplicaSet whose rollout was complete carries the revision that it had then (`COMPLETED`).
3. When the rollout of the new set makes no progress for progressDeadlineSeconds, the set is marked with the revision
   that failed and where to return (`FAILED`, `RETURNED_TO`); then the Deployment gets the template of the set with the
   highest revision that was complete and has not failed since.
4. Each revision is left once: a set that failed is no aim until a rollout of it is complete again, so two bad ones
   never take turns. The one returned to has a deadline of its own, and goes to an earlier one if it fails too.
5. The condition `orchestrator.internal/RolledBack` tells it for as long as the Deployment stays there; it is False
   where there is nothing to return to.

Pure. Called by `orchestrator.controllers.deployment`; docs/rollback.md is for users.
"""

from orchestrator.api.item import Object
from orchestrator.controllers.objects import find_condition
from orchestrator.controllers.progress import condition, has_deadline, is_complete, put
from orchestrator.controllers.rollout import REVISION, annotated
from orchestrator.controllers.templates import without_hash

ROLLBACK = "orchestrator.internal/rollback"
ON_DEADLINE = "on-deadline"
COMPLETED = "orchestrator.internal/completed-revision"
FAILED = "orchestrator.internal/failed-revision"
RETURNED_TO = "orchestrator.internal/returned-to"
ROLLED_BACK = "orchestrator.internal/RolledBack"
CHANGE_CAUSE = "kubernetes.io/change-cause"


def is_asked(deployment: Object) -> bool:
    """Rule 1."""
    asked = (deployment["metadata"].get("annotations") or {}).get(ROLLBACK) == ON_DEADLINE
    return asked and has_deadline(deployment) and not deployment["spec"].get("paused")


def restarted(deployment: Object, new: Object | None) -> Object | None:
    """The Progressing condition that gives `new` a deadline of its own, where the present one judges another set."""
    if new is None or not is_asked(deployment):
        return None
    current = find_condition((deployment.get("status") or {}).get("conditions") or [], "Progressing")
    judged = current is not None and current.get("reason") in (
        "ProgressDeadlineExceeded",
        "NewReplicaSetAvailable",
    )
    name = new["metadata"]["name"]
    if not judged or current is None or f'"{name}"' in current.get("message", ""):
        return None
    return condition("Progressing", "True", "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.')


def marks(deployment: Object, new: Object | None, old: list[Object], status: Object) -> dict[str, str]:
    """Annotations that the new set shall have: rules 2 and 3."""
    if new is None or not is_asked(deployment):
        return {}
    if is_complete(deployment, status):
        return {COMPLETED: str(annotated(new, REVISION) or 0)}
    aim = _aim(old)
    if aim is None or not _is_stuck(new, status):
        return {}
    return {FAILED: str(annotated(new, REVISION) or 0), RETURNED_TO: aim["metadata"]["name"]}


def aim_of(deployment: Object, new: Object | None, old: list[Object], status: Object) -> Object | None:
    """The set whose template the Deployment shall have now: its new one is marked as failed at its present revision."""
    if new is None or not is_asked(deployment) or not _is_stuck(new, status):
        return None
    return _aim(old) if annotated(new, FAILED) == annotated(new, REVISION) else None


def returned(deployment: Object, aim: Object) -> Object:
    """The Deployment with the template of `aim`, and the cause of that change where one is told."""
    spec = {**deployment["spec"], "template": without_hash(aim["spec"]["template"])}
    annotations = dict(deployment["metadata"].get("annotations") or {})
    cause = (aim["metadata"].get("annotations") or {}).get(CHANGE_CAUSE)
    annotations.pop(CHANGE_CAUSE, None)
    if cause is not None:
        annotations[CHANGE_CAUSE] = cause
    return {**deployment, "metadata": {**deployment["metadata"], "annotations": annotations}, "spec": spec}


def reported(
    deployment: Object, new: Object | None, old: list[Object], status: Object, now_s: float
) -> Object:
    """`status` with the condition of rule 5."""
    conditions: list[Object] = status.get("conditions") or []
    told = _condition(deployment, new, old, status)
    if told is None:
        changed = [c for c in conditions if c["type"] != ROLLED_BACK]
    else:
        before = find_condition(conditions, ROLLED_BACK)
        other = before is not None and before.get("message") != told["message"]
        changed = put(conditions, told, now_s, refresh=other)
    return {**status, "conditions": changed} if changed != conditions else status


def _condition(deployment: Object, new: Object | None, old: list[Object], status: Object) -> Object | None:
    if new is None or not is_asked(deployment):
        return None
    name = new["metadata"]["name"]
    left = [s for s in old if _has_failed(s) and s["metadata"]["annotations"].get(RETURNED_TO) == name]
    if left:
        bad = max(left, key=lambda s: annotated(s, FAILED) or 0)
        text = (
            f'Revision {annotated(bad, FAILED)} (ReplicaSet "{bad["metadata"]["name"]}") made no progress within '
            f'{deployment["spec"]["progressDeadlineSeconds"]}s; returned to ReplicaSet "{name}".'
        )
        return condition(ROLLED_BACK, "True", "ProgressDeadlineExceeded", text)
    if _is_stuck(new, status) and _aim(old) is None:
        text = "The rollout is stuck and there is no complete revision to return to."
        return condition(ROLLED_BACK, "False", "NoCompleteRevision", text)
    return None


def _is_stuck(new: Object, status: Object) -> bool:
    current = find_condition(status.get("conditions") or [], "Progressing")
    if current is None or current.get("reason") != "ProgressDeadlineExceeded":
        return False
    return f'"{new["metadata"]["name"]}"' in current.get("message", "")


def _aim(old: list[Object]) -> Object | None:
    """The set with the highest revision at which it was complete, unless it failed after that."""
    good = [s for s in old if annotated(s, COMPLETED) and not _has_failed(s)]
    alive = [s for s in good if "deletionTimestamp" not in s["metadata"]]
    return max(alive, key=lambda s: annotated(s, COMPLETED) or 0, default=None)


def _has_failed(replica_set: Object) -> bool:
    """Whether its last rollout that ended was a failure."""
    return (annotated(replica_set, FAILED) or 0) > (annotated(replica_set, COMPLETED) or 0)
