"""PodDisruptionBudgets.

Rules:
1. At most one of `minAvailable` and `maxUnavailable`; each a count or a percentage of at most 100.
2. `metadata.generation` grows with the spec.
"""

from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy
from orchestrator.registry.strategies.conditions import validate_conditions
from orchestrator.registry.strategies.label_selectors import validate_label_selector
from orchestrator.registry.strategies.workload_rules import (
    non_negatives,
    validate_at_most_all,
    validate_share,
)

_COUNTERS = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
_POLICIES = ("AlwaysAllow", "IfHealthyBudget")


class PodDisruptionBudgetStrategy(BaseStrategy):
    counts_generation = True

    def default(self, obj: Object) -> Object:
        return obj if "spec" in obj else {**obj, "spec": {}}

    def initial_status(self, obj: Object) -> Object:
        return dict.fromkeys(_COUNTERS, 0)

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        spec = new["spec"]
        found: list[Cause] = []
        if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
            text = "minAvailable and maxUnavailable cannot be both set"
            found.append(causes.invalid_value("spec", spec, text))
        for name in ("minAvailable", "maxUnavailable"):
            found += validate_share(spec.get(name), f"spec.{name}")
            found += validate_at_most_all(spec.get(name), f"spec.{name}")
        found += validate_label_selector(spec.get("selector"), "spec.selector")
        policy = spec.get("unhealthyPodEvictionPolicy")
        return found + causes.one_of("spec.unhealthyPodEvictionPolicy", policy, _POLICIES)

    def validate_status(self, new: Object, old: Object) -> list[Cause]:
        status = new.get("status") or {}
        found = validate_conditions(status.get("conditions") or (), "status.conditions")
        return found + non_negatives(status, _COUNTERS, "status")
