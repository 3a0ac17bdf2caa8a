"""How many pods of one template, and which: the rules that ReplicaSets and ReplicationControllers share. Pure.

Called by `orchestrator.controllers.replicating`.
"""

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.api.item import Item, Object
from orchestrator.api.times import seconds, timestamp
from orchestrator.controllers.objects import find_condition, with_condition, without
from orchestrator.controllers.pods import BURST_MAX, Failure
from orchestrator.controllers.views import PodView, available_in_s, pod_view

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_integer = re.compile(r"-?[0-9]{1,10}").fullmatch
_PHASE_RANK = {"Pending": 0, "Unknown": 1, "Running": 2}
_ALWAYS = ("replicas", "terminatingReplicas")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, and the counts of now. `look_again_s` is when the next pod becomes available."""

    create: int
    delete: list[Item]
    counts: dict[str, int]
    look_again_s: float | None


def plan(
    owner: Object, pods: list[Item], gone: set[str], crowds: Callable[[], Counter[str]], now_s: float
) -> Plan:
    """For the owner's own `pods`; `gone` are uids deleted already, `crowds` (asked when pods are in surplus) gives
    active pods per node."""
    spec = owner["spec"]
    active, ready, terminating = _living(pods, gone)
    missing = spec.get("replicas", 1) - len(active)
    surplus = _surplus(active, -missing, crowds, now_s) if missing < 0 else []
    ready_s = spec.get("minReadySeconds", 0)
    labels = (spec["template"]["metadata"].get("labels") or {}).items()
    later = [wait for view in ready if (wait := available_in_s(view, ready_s, now_s)) > 0] if ready_s else []
    counts = {
        "replicas": len(active),
        "fullyLabeledReplicas": sum([labels <= pod.labels.items() for pod in active]),
        "readyReplicas": len(ready),
        "availableReplicas": len(ready) - len(later),
        "terminatingReplicas": terminating,
    }
    return Plan(min(max(missing, 0), BURST_MAX), surplus, counts, min(later) if later else None)


def _living(pods: list[Item], gone: set[str]) -> tuple[list[Item], list[PodView], int]:
    """Pods that will stay, those of them that are ready, and how many others still run."""
    active, ready, terminating = [], [], 0
    for pod in pods:
        view = pod_view(pod)
        if view.finished:
            continue
        meta = pod.meta
        if meta.deletion_timestamp or meta.uid in gone:
            terminating += 1
            continue
        active.append(pod)
        if view.ready:
            ready.append(view)
    return active, ready, terminating


def _surplus(active: list[Item], count: int, crowds: Callable[[], Counter[str]], now_s: float) -> list[Item]:
    """The least valuable pods; where none will stay their order does not matter."""
    if count >= len(active):
        return active[:BURST_MAX]
    per_node = crowds()
    ranked = sorted(active, key=lambda pod: deletion_rank(pod, per_node, now_s))
    return ranked[: min(count, BURST_MAX)]


def status(owner: Object, counts: dict[str, int], failure: Failure | None, now_s: float) -> Object:
    """The whole new status; counters of 0 are left out except some, as the API stores them.

    A failure that stands there already stays as it is: its message holds a pod's random name, and a status that
    changes with every attempt would start the next attempt at once.
    """
    old = owner.get("status") or {}
    conditions = old.get("conditions") or []
    if failure is None or failure.final:
        conditions = [c for c in conditions if c["type"] != "ReplicaFailure"]
    elif find_condition(conditions, "ReplicaFailure") is None:
        failed = {"type": "ReplicaFailure", "status": "True", "reason": failure.reason}
        conditions = with_condition(
            conditions, {**failed, "message": failure.error.message}, timestamp(now_s)
        )
    new = without(old, *counts, "conditions", "observedGeneration")
    new |= {name: count for name, count in counts.items() if count or name in _ALWAYS}
    new["observedGeneration"] = owner["metadata"].get("generation", 0)
    if conditions:
        new["conditions"] = conditions
    return new


def deletion_rank(pod: Item, crowds: Counter[str], now_s: float) -> tuple[int | str, ...]:
    """Sorts the pod to delete first to the front; ages compare by powers of two, then by uid, so that
    pods of one start are not always deleted youngest first."""
    view = pod_view(pod)
    ready = view.condition("Ready")
    since = ready.last_transition_time if ready is not None and ready.status == "True" else None
    restarts = max((c.restart_count for c in view.status.container_statuses or ()), default=0)
    return (
        bool(view.spec.node_name),
        _PHASE_RANK.get(view.status.phase, 1),
        view.ready,
        _deletion_cost(view),
        -crowds[view.spec.node_name],
        _age_rank(since, now_s),
        -restarts,
        _age_rank(view.metadata.creation_timestamp, now_s),
        pod.meta.uid,
    )


def is_active(pod: Item) -> bool:
    """Whether the pod will stay."""
    return not pod.meta.deletion_timestamp and not pod_view(pod).finished


def _deletion_cost(view: PodView) -> int:
    text = (view.metadata.annotations or {}).get(DELETION_COST, "0")
    return int(text) if _integer(text) else 0


def _age_rank(since: str | None, now_s: float) -> int:
    age_s = now_s - seconds(since) if since else 0.0
    return int(math.log2(age_s)) + 1 if age_s >= 1 else 0
