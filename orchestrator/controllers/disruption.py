"""Disruption: how many of a PodDisruptionBudget's pods may be evicted now.

1. Healthy is a pod that is ready, is not being deleted, and whose eviction was not granted within 2 minutes.
2. `maxUnavailable`, and `minAvailable` in percent, count from the scale of the pods' owners, each owner once, a
   Deployment instead of its ReplicaSets; `minAvailable` as a number counts from the pods that are there.
3. What is healthy beyond what must be is allowed; nothing where no pod is expected.
4. An eviction that was granted is forgotten when the pod goes, or when it has not gone within 2 minutes.
5. What can't be calculated allows nothing, and the condition DisruptionAllowed says why.
6. A pod that says that it is disrupted, but is not being deleted 2 minutes later, says so no more.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from orchestrator.api.errors import ApiError, Conflict, NotFound
from orchestrator.api.item import Item, Object, OwnerReference
from orchestrator.api.resources import (
    DEPLOYMENTS,
    PODDISRUPTIONBUDGETS,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    STATEFULSETS,
    ResourceTable,
)
from orchestrator.api.times import seconds, timestamp
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.backends import label_index
from orchestrator.controllers.freshness import LAG_S, Freshness
from orchestrator.controllers.objects import controller_of, split_key, with_condition, with_value, without
from orchestrator.controllers.selecting import selecting, selecting_index, selector_of
from orchestrator.controllers.spacing import Spacing
from orchestrator.controllers.views import pod_view
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

TIMEOUT_S = 120.0
FAILED_S = 30.0
"""When to try again what could not be calculated."""
_POD = "pod:"
_BY_KIND = {
    ("", "ReplicationController"): REPLICATIONCONTROLLERS,
    ("apps", "ReplicaSet"): REPLICASETS,
    ("apps", "StatefulSet"): STATEFULSETS,
}

Note = tuple[str, str, str]
"""An event: type, reason, message."""


class CannotCalculate(Exception):
    """Rule 5. The message is Kubernetes'."""


class DisruptionController:
    name = "disruption"
    watches = (
        PODDISRUPTIONBUDGETS, PODS, REPLICATIONCONTROLLERS, REPLICASETS, DEPLOYMENTS, STATEFULSETS,
    )  # fmt: skip
    writes = (PODDISRUPTIONBUDGETS, PODS)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder, table: ResourceTable) -> None:
        self._client = client
        self._clock = clock
        self._recorder = recorder
        self._table = table
        self._freshness = Freshness()
        self._told: dict[str, set[Note]] = {}

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._spacing = Spacing(queue, self._clock)
        self._budgets = informers.of(PODDISRUPTIONBUDGETS)
        self._pods = informers.of(PODS)
        self._owners = {row: informers.of(row) for row in (*_BY_KIND.values(), DEPLOYMENTS)}
        self._filed = selecting_index(selector_of)
        self._budgets.add_index("selecting", self._filed)
        self._pods.add_index("label", label_index)
        self._budgets.on_change(lambda old, new: queue.add(key_of(new or old)))  # type: ignore[arg-type]
        self._pods.on_change(self._pod_changed)

    async def reconcile(self, key: str) -> float | None:
        if key.startswith(_POD):
            return await self._undisrupt(key.removeprefix(_POD))
        item = self._budgets.get(key)
        if item is None:
            self._forget(key)
            return None
        if not self._freshness.fresh(key):
            return LAG_S
        self._spacing.looked(key)
        budget, pods, now_s = item.object, self._pods_of(item), self._clock.now_s()
        try:
            steps = plan(budget, pods, await self._expected(budget["spec"], pods), now_s)
        except CannotCalculate as error:
            steps = failed(budget, str(error), now_s)
        self._tell(key, budget, steps)
        await self._write_status(key, budget, steps.status)
        return steps.look_again_s

    def _forget(self, key: str) -> None:
        self._told.pop(key, None)
        self._freshness.forget(key)
        self._spacing.forget(key)

    # ── Waking ──────────────────────────────────────────────────────────────────────────────────────────

    def _pod_changed(self, old: Item | None, new: Item | None) -> None:
        if new is not None and stale_in_s(new, 0.0) is not None:
            self._queue.add(f"{_POD}{key_of(new)}")
        if not len(self._budgets):
            return
        if old is not None and new is not None and old is not new and _facts(old) == _facts(new):
            return
        for pod in (old, new):
            for budget in selecting(self._budgets, pod, selector_of) if pod is not None else ():
                self._spacing.wake(key_of(budget))

    def _pods_of(self, budget: Item) -> list[Item]:
        namespace, selector = budget.meta.namespace, selector_of(budget)
        found: list[Item] = []
        for value in self._filed(budget):
            everything = value == f"{namespace}/"
            found += self._pods.list(namespace) if everything else self._pods.by_index("label", value)
        return [pod for pod in found if selector.matches(pod.labels)]

    def _tell(self, key: str, budget: Object, steps: "Plan") -> None:
        """Events that were not told in the round before."""
        for note in steps.notes:
            if note not in self._told.get(key, ()):
                self._recorder.event(budget, *note)
        for pod in steps.not_deleted:
            meta = budget["metadata"]
            text = f"Pod was expected by PDB {meta['namespace']}/{meta['name']} to be deleted but it wasn't"
            self._recorder.event(pod.object, "Warning", "NotDeleted", text)
        self._told[key] = set(steps.notes)

    # ── Rule 2 ──────────────────────────────────────────────────────────────────────────────────────────

    async def _expected(self, spec: Object, pods: list[Item]) -> dict[str, int] | None:
        """Pods wanted, by the uid of each owner; None where the owners do not matter."""
        if spec.get("maxUnavailable") is None and not isinstance(spec.get("minAvailable"), str):
            return None
        scales: dict[str, int] = {}
        seen: set[str] = set()
        for pod in pods:
            owner = controller_of(pod.meta)
            if owner is None or owner.uid in seen:
                continue
            seen.add(owner.uid)
            scale = self._known_scale(owner, pod.meta.namespace)
            scale = scale or await self._asked_scale(owner, pod.meta.namespace)
            if scale is None:
                raise CannotCalculate(f'found no controllers for pod "{pod.meta.name}"')
            scales[scale[0]] = scale[1]
        return scales

    def _known_scale(self, owner: OwnerReference, namespace: str) -> tuple[str, int] | None:
        """Uid and replicas of a built-in owner."""
        row = _BY_KIND.get((owner.api_version.rpartition("/")[0], owner.kind))
        item = self._owners[row].get(f"{namespace}/{owner.name}") if row is not None else None
        if item is None or item.meta.uid != owner.uid:
            return None
        manager = controller_of(item.meta)
        if row is REPLICASETS and manager is not None and manager.kind == "Deployment":
            item = self._owners[DEPLOYMENTS].get(f"{namespace}/{manager.name}")
            if item is None or item.meta.uid != manager.uid:
                return None
        return item.meta.uid, int(item.object["spec"].get("replicas", 1))

    async def _asked_scale(self, owner: OwnerReference, namespace: str) -> tuple[str, int] | None:
        """The same of any other owner that has a scale."""
        row = self._table.by_kind(owner.api_version, owner.kind)
        if row is None:
            text = f'no matches for kind "{owner.kind}" in version "{owner.api_version}"'
            raise CannotCalculate(text)
        scale = row.subresource("scale")
        if scale is None:
            raise CannotCalculate(f"{row.qualified} does not implement the scale subresource")
        try:
            obj = await self._client.get(row, owner.name, namespace)
        except NotFound:
            return None
        except ApiError as error:
            raise CannotCalculate(error.message) from error
        path = scale.paths[0] if scale.paths is not None else ".spec.replicas"
        replicas = _at(obj, path)
        if not isinstance(replicas, int):
            raise CannotCalculate(f'the spec replicas field "{path}" does not exist')
        return (owner.uid, replicas) if obj["metadata"]["uid"] == owner.uid else None

    # ── Writes ──────────────────────────────────────────────────────────────────────────────────────────

    async def _write_status(self, key: str, budget: Object, new: Object) -> None:
        if new == (budget.get("status") or {}):
            return
        changed = with_value(budget, ("status",), new)
        try:
            written = await self._client.update(PODDISRUPTIONBUDGETS, changed, subresource="status")
        except NotFound:
            return
        self._freshness.wrote(key, self._budgets, written)

    async def _undisrupt(self, key: str) -> float | None:
        """Rule 6."""
        pod = self._pods.get(key)
        left_s = stale_in_s(pod, self._clock.now_s()) if pod is not None else None
        if pod is None or left_s is None or left_s > 0:
            return left_s
        since = timestamp(self._clock.now_s())
        entry = {"type": "DisruptionTarget", "status": "False", "lastTransitionTime": since}
        entry |= {"reason": None, "message": None}  # type: ignore[dict-item]  # removes them
        namespace, name = split_key(key)
        metadata = {"uid": pod.meta.uid, "resourceVersion": str(pod.revision)}
        patch = {"metadata": metadata, "status": {"conditions": [entry]}}
        try:
            await self._client.patch(PODS, name, namespace, patch, type="strategic", subresource="status")
        except NotFound:
            return None
        except Conflict:
            return LAG_S
        return None


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole new status, events on the budget, pods that should be gone by now."""

    status: Object
    notes: list[Note]
    not_deleted: list[Item] = field(default_factory=list)
    look_again_s: float | None = None


def plan(budget: Object, pods: list[Item], scales: dict[str, int] | None, now_s: float) -> Plan:
    """Rules 1 to 4. `scales`: pods wanted per owner, None where they do not matter."""
    status, generation = budget.get("status") or {}, budget["metadata"].get("generation", 0)
    granted, late = _granted(status.get("disruptedPods") or {}, pods, now_s)
    healthy = sum(
        pod_view(pod).ready
        for pod in pods
        if not pod.meta.deletion_timestamp and pod.meta.name not in granted
    )
    expected = len(pods) if scales is None else sum(scales.values())
    desired = desired_healthy(budget["spec"], expected)
    allowed = max(0, healthy - desired) if expected > 0 else 0
    new = without(status, "disruptedPods", "conditions")
    new |= {
        "disruptionsAllowed": allowed,
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "observedGeneration": generation,
        "conditions": _with_allowed(status, _allowed(allowed), generation, now_s),
    }
    if granted:
        new["disruptedPods"] = granted
    waits = [seconds(when) + TIMEOUT_S - now_s for when in granted.values()]
    notes = _notes(budget["spec"], pods, scales)
    return Plan(new, notes, late, max(min(waits), 1.0) if waits else None)


def failed(budget: Object, why: str, now_s: float) -> Plan:
    """Rule 5."""
    status = budget.get("status") or {}
    entry = {"status": "False", "reason": "SyncFailed", "message": why}
    conditions = _with_allowed(status, entry, status.get("observedGeneration", 0), now_s)
    text = f"Failed to calculate the number of expected pods: {why}"
    note = ("Warning", "CalculateExpectedPodCountFailed", text)
    new = {**status, "disruptionsAllowed": 0, "conditions": conditions}
    return Plan(new, [note], look_again_s=FAILED_S)


def desired_healthy(spec: Object, expected: int) -> int:
    """How many of the `expected` pods must be healthy; percents round up."""
    if spec.get("maxUnavailable") is not None:
        return max(0, expected - _share(spec["maxUnavailable"], expected))
    return _share(spec["minAvailable"], expected) if spec.get("minAvailable") is not None else 0


def _share(value: int | str, whole: int) -> int:
    return math.ceil(whole * int(value.removesuffix("%")) / 100) if isinstance(value, str) else value


def _granted(known: dict[str, str], pods: list[Item], now_s: float) -> tuple[dict[str, str], list[Item]]:
    """Rule 4: evictions whose pods are still to go, and pods that should be gone."""
    granted: dict[str, str] = {}
    late = []
    for pod in pods:
        when = known.get(pod.meta.name)
        if when is None or pod.meta.deletion_timestamp:
            continue
        if seconds(when) + TIMEOUT_S < now_s:
            late.append(pod)
        else:
            granted[pod.meta.name] = when
    return granted, late


def _allowed(number: int) -> Object:
    if number > 0:
        return {"status": "True", "reason": "SufficientPods", "message": ""}
    return {"status": "False", "reason": "InsufficientPods", "message": ""}


def _with_allowed(status: Object, entry: Object, generation: int, now_s: float) -> list[Object]:
    new = {"type": "DisruptionAllowed", **entry, "observedGeneration": generation}
    return with_condition(status.get("conditions") or [], new, timestamp(now_s))


def _notes(spec: Object, pods: list[Item], scales: dict[str, int] | None) -> list[Note]:
    notes: list[Note] = [] if pods else [("Normal", "NoPods", "No matching pods found")]
    if scales is not None and any(controller_of(pod.meta) is None for pod in pods):
        text = (
            f"Pods selected by this PodDisruptionBudget (selector: {_selector_text(spec.get('selector') or {})})"
            " were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which"
            ' may result in undefined behavior. To account for these pods please set ".spec.minAvailable" field of'
            " the PDB to an integer value."
        )
        notes.append(("Warning", "UnmanagedPods", text))
    return notes


def _selector_text(selector: Object) -> str:
    """As Kubernetes shows one in this event."""
    labels = "".join(f"{key}: {value}," for key, value in sorted((selector.get("matchLabels") or {}).items()))
    demands = "".join(
        f"LabelSelectorRequirement{{Key:{each['key']},Operator:{each['operator']},"
        f"Values:[{' '.join(each.get('values') or ())}],}},"
        for each in selector.get("matchExpressions") or ()
    )
    expressions = f"[]LabelSelectorRequirement{{{demands}}}"
    return f"&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:{expressions},}}"


def stale_in_s(pod: Item, now_s: float) -> float | None:
    """Seconds until the pod's DisruptionTarget is stale; None where it is not, or may last."""
    if pod.meta.deletion_timestamp:
        return None
    view = pod_view(pod)
    condition = view.condition("DisruptionTarget")
    if condition is None or condition.status != "True" or view.finished:
        return None
    if condition.reason == "TerminationByKubelet":
        return None
    since_s = seconds(condition.last_transition_time) if condition.last_transition_time else 0.0
    return max(0.0, since_s + TIMEOUT_S - now_s)


def _facts(pod: Item) -> tuple[object, ...]:
    """What a budget looks at."""
    meta = pod.meta
    return pod_view(pod).ready, bool(meta.deletion_timestamp), meta.labels, meta.owner_references


def _at(obj: Any, path: str) -> Any:
    for part in path.lstrip(".").split("."):
        obj = obj.get(part) if isinstance(obj, dict) else None
    return obj
