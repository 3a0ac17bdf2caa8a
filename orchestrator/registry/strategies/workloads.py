"""Deployments, ReplicaSets and ControllerRevisions.

Rules:
1. A selector is required, matches the template's labels and never changes.
2. `metadata.generation` grows with the spec; for a Deployment with its annotations, too.
3. The template is a pod whose restart policy is Always.
4. A status counts no more updated, ready or available pods than there are, and no collision twice.
"""

from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy, filled
from orchestrator.registry.strategies.workload_rules import (
    WorkloadStrategy,
    non_negatives,
    share_amount,
    validate_at_most_all,
    validate_pods,
    validate_share,
)

_DEPLOYMENT: Object = {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600}
_ROLLING: Object = {"maxUnavailable": "25%", "maxSurge": "25%"}


class ReplicaSetStrategy(WorkloadStrategy):
    zeros = ("replicas",)
    counters = (
        "replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "terminatingReplicas",
        "observedGeneration",
    )  # fmt: skip
    bounds = (
        ("fullyLabeledReplicas", "replicas", "status.replicas"),
        ("readyReplicas", "replicas", "status.replicas"),
        ("availableReplicas", "replicas", "status.replicas"),
        ("availableReplicas", "readyReplicas", "readyReplicas"),
    )
    names_pods = True

    def validate_spec(self, spec: Object, old: Object | None) -> list[Cause]:
        found = non_negatives(spec, ("replicas", "minReadySeconds"))
        # Kubernetes' message speaks of a deployment here, too.
        return found + validate_pods(spec, old, "ReplicaSet", "deployment")


class DeploymentStrategy(WorkloadStrategy):
    status_keeps_labels = True
    counters = (
        "observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas",
        "unavailableReplicas", "terminatingReplicas", "collisionCount",
    )  # fmt: skip
    bounds = (
        ("updatedReplicas", "replicas", "status.replicas"),
        ("readyReplicas", "replicas", "status.replicas"),
        ("availableReplicas", "replicas", "status.replicas"),
        ("availableReplicas", "readyReplicas", "readyReplicas"),
    )
    names_pods = True

    def default_spec(self, spec: Object) -> Object:
        strategy = filled(spec.get("strategy") or {}, {"type": "RollingUpdate"})
        if strategy["type"] == "RollingUpdate":
            strategy["rollingUpdate"] = {**_ROLLING, **(strategy.get("rollingUpdate") or {})}
        return {**_DEPLOYMENT, **spec, "strategy": strategy}

    def desired_changed(self, new: Object, old: Object) -> bool:
        annotations = new["metadata"].get("annotations") or {}
        changed = annotations != (old["metadata"].get("annotations") or {})
        return changed or super().desired_changed(new, old)

    def validate_spec(self, spec: Object, old: Object | None) -> list[Cause]:
        found = non_negatives(spec, ("replicas",))
        found += validate_pods(spec, old, "ReplicaSet", "deployment")
        found += _validate_strategy(spec["strategy"], "spec.strategy")
        found += non_negatives(spec, ("minReadySeconds", "revisionHistoryLimit"))
        return found + _validate_deadline(spec)


class ControllerRevisionStrategy(BaseStrategy):
    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        found: list[Cause] = []
        if new.get("data") is None:
            found.append(causes.required("data", "data is mandatory"))
        found += causes.non_negative("revision", new.get("revision"))
        if old is not None:
            found += causes.immutable("data", new.get("data"), old.get("data"))
        return found


def _validate_deadline(spec: Object) -> list[Cause]:
    deadline_s, ready_s = spec.get("progressDeadlineSeconds"), spec.get("minReadySeconds") or 0
    if deadline_s is None:
        return []
    found = causes.non_negative("spec.progressDeadlineSeconds", deadline_s)
    if deadline_s <= ready_s:
        text = "must be greater than minReadySeconds"
        found.append(causes.invalid_value("spec.progressDeadlineSeconds", deadline_s, text))
    return found


def _validate_strategy(strategy: Object, field: str) -> list[Cause]:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "Recreate":
        if rolling is None:
            return []
        text = "may not be specified when strategy `type` is 'Recreate'"
        return [causes.forbidden(f"{field}.rollingUpdate", text)]
    if kind != "RollingUpdate":
        return [causes.not_supported(field, strategy, ("Recreate", "RollingUpdate"))]
    return _validate_rolling(rolling or {}, f"{field}.rollingUpdate")


def _validate_rolling(rolling: Object, field: str) -> list[Cause]:
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    found = validate_share(unavailable, f"{field}.maxUnavailable")
    found += validate_share(surge, f"{field}.maxSurge")
    if not found and share_amount(unavailable) == 0 and share_amount(surge) == 0:
        text = "may not be 0 when `maxSurge` is 0"
        found.append(causes.invalid_value(f"{field}.maxUnavailable", unavailable, text))
    return found + validate_at_most_all(unavailable, f"{field}.maxUnavailable")
