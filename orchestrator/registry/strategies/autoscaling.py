"""HorizontalPodAutoscalers, in the form of autoscaling/v2.

Rules:
1. Without metrics the aim is 80 % of the requested CPU; at least one replica.
2. A behavior that is given is given whole: what it leaves out has Kubernetes' values, but for the time that a
   scale-down looks back, which is the controller's business.
3. Every metric has one source, that of its type, with a target that the source can have.
4. Zero replicas are only kept where they have been before, and need a metric that does not come from pods.
"""

from orchestrator.api import quantity
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy
from orchestrator.registry.strategies.metric_rules import validate_metric, validate_reference
from orchestrator.registry.strategies.workload_rules import non_negatives

_PERIOD_S_MAX = 1800
_WINDOW_S_MAX = 3600
_CPU: Object = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
}
_DOWN: Object = {
    "selectPolicy": "Max",
    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
}
_UP: Object = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ],
}
_SELECTIONS = ("Disabled", "Max", "Min")
_POLICIES = ("Percent", "Pods")
_NOT_FROM_PODS = ("Object", "External")


class HorizontalPodAutoscalerStrategy(BaseStrategy):
    def initial_status(self, obj: Object) -> Object:
        return {"desiredReplicas": 0}

    def default(self, obj: Object) -> Object:
        spec = {"minReplicas": 1, **(obj.get("spec") or {})}
        if not spec.get("metrics"):
            spec["metrics"] = [_CPU]
        behavior = spec.get("behavior")
        if behavior is not None:
            spec["behavior"] = {
                **behavior,
                "scaleUp": {**_UP, **(behavior.get("scaleUp") or {})},
                "scaleDown": {**_DOWN, **(behavior.get("scaleDown") or {})},
            }
        return {**obj, "spec": spec}

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        spec = new["spec"]
        if old is not None and spec == old["spec"]:
            return []
        scales_to_zero = old is not None and old["spec"].get("minReplicas") == 0
        found = _validate_bounds(spec, 0 if scales_to_zero else 1)
        found += validate_reference(spec.get("scaleTargetRef") or {}, "spec.scaleTargetRef")
        for at, metric in enumerate(spec["metrics"]):
            found += validate_metric(metric, f"spec.metrics[{at}]")
        if spec["minReplicas"] == 0 and not any(m.get("type") in _NOT_FROM_PODS for m in spec["metrics"]):
            text = "must specify at least one Object or External metric to support scaling to zero replicas"
            found.append(causes.forbidden("spec.metrics", text))
        for name, rules in (spec.get("behavior") or {}).items():
            found += _validate_rules(rules, f"spec.behavior.{name}")
        return found

    def validate_status(self, new: Object, old: Object) -> list[Cause]:
        return non_negatives(new.get("status") or {}, ("currentReplicas", "desiredReplicas"), "status")


def _validate_bounds(spec: Object, at_least: int) -> list[Cause]:
    low, high = spec["minReplicas"], spec.get("maxReplicas") or 0
    found: list[Cause] = []
    if low < at_least:
        text = f"must be greater than or equal to {at_least}"
        found.append(causes.invalid_value("spec.minReplicas", low, text))
    if high < 1:
        found.append(causes.invalid_value("spec.maxReplicas", high, "must be greater than 0"))
    if high < low:
        text = "must be greater than or equal to `minReplicas`"
        found.append(causes.invalid_value("spec.maxReplicas", high, text))
    return found


def _validate_rules(rules: Object, field: str) -> list[Cause]:
    window_s, path = rules.get("stabilizationWindowSeconds") or 0, f"{field}.stabilizationWindowSeconds"
    found: list[Cause] = []
    if window_s < 0:
        found.append(causes.invalid_value(path, window_s, "must be greater than or equal to zero"))
    if window_s > _WINDOW_S_MAX:
        text = f"must be less than or equal to {_WINDOW_S_MAX}"
        found.append(causes.invalid_value(path, window_s, text))
    found += causes.one_of(f"{field}.selectPolicy", rules.get("selectPolicy"), _SELECTIONS)
    if not rules["policies"]:
        found.append(causes.required(f"{field}.policies", "must specify at least one Policy"))
    for at, policy in enumerate(rules["policies"]):
        found += _validate_policy(policy, f"{field}.policies[{at}]")
    tolerance = rules.get("tolerance")
    if tolerance is not None and quantity.parse(tolerance) < 0:
        text = "must be greater than or equal to 0"
        found.append(causes.invalid_value(f"{field}.tolerance", tolerance, text))
    return found


def _validate_policy(policy: Object, field: str) -> list[Cause]:
    kind, found = policy.get("type") or "", []
    if kind not in _POLICIES:
        found.append(causes.not_supported(f"{field}.type", kind, _POLICIES))
    for name in ("value", "periodSeconds"):
        if (policy.get(name) or 0) <= 0:
            text = "must be greater than zero"
            found.append(causes.invalid_value(f"{field}.{name}", policy.get(name) or 0, text))
    period_s = policy.get("periodSeconds") or 0
    if period_s > _PERIOD_S_MAX:
        text = f"must be less than or equal to {_PERIOD_S_MAX}"
        found.append(causes.invalid_value(f"{field}.periodSeconds", period_s, text))
    return found
