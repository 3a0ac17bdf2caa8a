"""ReplicaSet: keeps as many pods of one template as `spec.replicas` says.

1. A pod belongs to the set that its controller reference names; a matching pod without one is adopted, one
   that no longer matches is released.
2. Pods that finished or are being deleted do not count.
3. Missing pods are created, at most 500 at a time (see `pods`).
4. Surplus pods are deleted, the least valuable first: unassigned, pending, not ready, low deletion cost,
   crowded nodes, ready for a short time, many restarts, young.
5. Status counts pods, fully labelled, ready, available (ready for minReadySeconds) and terminating ones; a
   failed create or delete stands in the condition ReplicaFailure.
6. Nothing is decided from a cache that lacks this controller's own writes: never a pod too many.
"""

import math
from collections import Counter
from dataclasses import dataclass

from orchestrator.api.errors import NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import PODS, REPLICASETS
from orchestrator.api.selectors import from_label_selector
from orchestrator.api.times import seconds, timestamp
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.claim import claim
from orchestrator.controllers.freshness import LAG_S, Freshness
from orchestrator.controllers.objects import (
    controller_index,
    controller_of,
    with_condition,
    with_value,
    without,
)
from orchestrator.controllers.pods import BURST_MAX, Failure, PodControl, new_pod
from orchestrator.controllers.views import PodView, available_in_s, pod_view
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASE_RANK = {"Pending": 0, "Unknown": 1, "Running": 2}


class ReplicaSetController:
    name = "replicaset"
    watches = (REPLICASETS, PODS)
    writes = (PODS, REPLICASETS)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client
        self._clock = clock
        self._recorder = recorder
        self._freshness = Freshness()

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._sets = informers.of(REPLICASETS)
        self._pods = informers.of(PODS)
        self._control = PodControl(self._client, self._recorder, self._freshness, self._pods)
        self._sets.add_index("controller", controller_index)
        self._pods.add_index("controller", controller_index)
        self._sets.on_change(lambda old, new: queue.add(key_of(new or old)))  # type: ignore[arg-type]
        self._pods.on_change(self._pod_changed)

    async def reconcile(self, key: str) -> float | None:
        item = self._sets.get(key)
        if item is None:
            self._freshness.forget(key)
            self._control.forget(key)
            return None
        if not self._freshness.fresh(key):
            return LAG_S
        replica_set, now_s = item.object, self._clock.now_s()
        pods = await self._claimed(key, item, replica_set)
        steps = plan(replica_set, pods, self._control.gone(key, pods), self._crowds(item), now_s)
        failure: Failure | None = None
        if "deletionTimestamp" not in replica_set["metadata"]:
            missing = [new_pod(REPLICASETS, replica_set, replica_set["spec"]["template"])] * steps.create
            failure = await self._control.create(key, replica_set, missing)
            failure = failure or await self._control.delete(key, replica_set, steps.delete)
        await self._write_status(key, replica_set, status(replica_set, steps, failure, now_s))
        if failure is not None and not failure.final:
            raise failure.error
        return steps.look_again_s

    def _pod_changed(self, old: Item | None, new: Item | None) -> None:
        for item in (old, new):
            if item is None:
                continue
            owner = controller_of(item.meta)
            if owner is not None:
                if owner.kind == "ReplicaSet":
                    self._queue.add(f"{item.meta.namespace}/{owner.name}")
            elif item is new:
                self._wake_adopters(item)

    def _wake_adopters(self, pod: Item) -> None:
        for candidate in self._sets.list(pod.meta.namespace):
            if from_label_selector(candidate.object["spec"]["selector"]).matches(pod.labels):
                self._queue.add(key_of(candidate))

    async def _claimed(self, key: str, item: Item, replica_set: Object) -> list[Item]:
        meta = item.meta
        orphans = self._pods.by_index("controller", f"orphan/{meta.namespace}")
        claims = await claim(
            self._client,
            REPLICASETS,
            replica_set,
            from_label_selector(replica_set["spec"]["selector"]),
            PODS,
            self._pods.by_index("controller", meta.uid),
            [pod for pod in orphans if not pod_view(pod).finished],
        )
        for written in claims.written:
            self._freshness.wrote(key, self._pods, written)
        return claims.owned

    def _crowds(self, item: Item) -> Counter[str]:
        """Active pods per node, of this set and of those with the same manager (a Deployment's others)."""
        owner = controller_of(item.meta)
        family = self._sets.by_index("controller", owner.uid) if owner is not None else [item]
        pods = [pod for member in family for pod in self._pods.by_index("controller", member.meta.uid)]
        return Counter(pod_view(pod).spec.node_name for pod in pods if _active(pod))

    async def _write_status(self, key: str, replica_set: Object, new: Object) -> None:
        if new == replica_set.get("status"):
            return
        try:
            changed = with_value(replica_set, ("status",), new)
            written = await self._client.update(REPLICASETS, changed, subresource="status")
        except NotFound:
            return
        self._freshness.wrote(key, self._sets, written)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, and the counts of now. `look_again_s` is when the next pod becomes available."""

    create: int
    delete: list[Item]
    counts: dict[str, int]
    look_again_s: float | None


def plan(replica_set: Object, pods: list[Item], gone: set[str], crowds: Counter[str], now_s: float) -> Plan:
    """Rules 2 to 5 for the set's own `pods`; `gone` are uids deleted already, `crowds` pods per node."""
    active = [pod for pod in pods if _active(pod) and pod.meta.uid not in gone]
    missing = replica_set["spec"].get("replicas", 1) - len(active)
    surplus: list[Item] = []
    if missing < 0:
        ranked = sorted(active, key=lambda pod: deletion_rank(pod, crowds, now_s))
        surplus = ranked[: min(-missing, BURST_MAX)]
    ready_s = replica_set["spec"].get("minReadySeconds", 0)
    labels = (replica_set["spec"]["template"]["metadata"].get("labels") or {}).items()
    ready = [pod for pod in active if pod_view(pod).ready]
    waits = [available_in_s(pod_view(pod), ready_s, now_s) for pod in ready]
    later = [wait for wait in waits if wait > 0]
    counts = {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(labels <= pod.labels.items() for pod in active),
        "readyReplicas": len(ready),
        "availableReplicas": len(waits) - len(later),
        "terminatingReplicas": sum(_terminating(pod, gone) for pod in pods),
    }
    return Plan(min(max(missing, 0), BURST_MAX), surplus, counts, min(later) if later else None)


def status(replica_set: Object, steps: Plan, failure: Failure | None, now_s: float) -> Object:
    """The whole new status; counters of 0 are left out except `replicas`, as the API stores them."""
    old = replica_set.get("status") or {}
    conditions = [c for c in old.get("conditions") or () if c["type"] != "ReplicaFailure"]
    if failure is not None:
        condition = {
            "type": "ReplicaFailure",
            "status": "True",
            "reason": failure.reason,
            "message": failure.error.message,
        }
        conditions = with_condition(old.get("conditions") or [], condition, timestamp(now_s))
    new = without(old, *steps.counts, "conditions", "observedGeneration")
    new |= {name: count for name, count in steps.counts.items() if count or name in _ALWAYS}
    new["observedGeneration"] = replica_set["metadata"].get("generation", 0)
    if conditions:
        new["conditions"] = conditions
    return new


_ALWAYS = ("replicas", "terminatingReplicas")


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


def _active(pod: Item) -> bool:
    return not pod.meta.deletion_timestamp and not pod_view(pod).finished


def _terminating(pod: Item, gone: set[str]) -> bool:
    return (bool(pod.meta.deletion_timestamp) or pod.meta.uid in gone) and not pod_view(pod).finished


def _deletion_cost(view: PodView) -> int:
    try:
        return int((view.metadata.annotations or {}).get(DELETION_COST, "0"))
    except ValueError:
        return 0


def _age_rank(since: str | None, now_s: float) -> int:
    age_s = now_s - seconds(since) if since else 0.0
    return int(math.log2(age_s)) + 1 if age_s >= 1 else 0
