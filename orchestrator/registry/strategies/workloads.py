"""Deployments, ReplicaSets and ControllerRevisions.

Rules:
1. A selector is required, matches the template's labels and never changes.
2. `metadata.generation` grows with the spec; for a Deployment with its annotations, too.
3. The template is a pod whose restart policy is Always.
"""

from typing import Any

from orchestrator.api import names
from orchestrator.api.errors import BadRequest, Cause
from orchestrator.api.item import Object
from orchestrator.api.selectors import from_label_selector
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy, filled
from orchestrator.registry.strategies.label_selectors import validate_label_selector
from orchestrator.registry.strategies.pod_defaults import default_template
from orchestrator.registry.strategies.pod_spec import validate_template
from orchestrator.registry.strategies.pod_warnings import pod_spec_warnings

_DEPLOYMENT: Object = {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600}
_ROLLING: Object = {"maxUnavailable": "25%", "maxSurge": "25%"}
_COUNTERS = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "observedGeneration")


class _WorkloadStrategy(BaseStrategy):
    """What Deployments and ReplicaSets share."""

    counts_generation = True
    status_keeps_labels = True

    def initial_status(self, obj: Object) -> Object:
        return {}

    def default(self, obj: Object) -> Object:
        spec = self.default_spec(obj.get("spec") or {})
        if isinstance(spec.get("template"), dict):
            spec["template"] = default_template(spec["template"])
        return {**obj, "spec": spec}

    def default_spec(self, spec: Object) -> Object:
        """A new spec with the kind's defaults, the template left as it is."""
        return {"replicas": 1, **spec}

    def validate_status(self, new: Object, old: Object) -> list[Cause]:
        status = new.get("status") or {}
        return [
            cause for name in _COUNTERS for cause in causes.non_negative(f"status.{name}", status.get(name))
        ]

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        if old is not None and new["spec"].get("template") == old["spec"].get("template"):
            return []
        return pod_spec_warnings(new["spec"]["template"]["spec"], "spec.template.spec")


class ReplicaSetStrategy(_WorkloadStrategy):
    def initial_status(self, obj: Object) -> Object:
        return {"replicas": 0}

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        if old is not None and new["spec"] == old["spec"]:
            return []
        spec = new["spec"]
        found = causes.non_negative("spec.replicas", spec.get("replicas"))
        found += causes.non_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
        return found + _validate_pods(spec, old, "ReplicaSet")


class DeploymentStrategy(_WorkloadStrategy):
    def default_spec(self, spec: Object) -> Object:
        strategy = filled(spec.get("strategy") or {}, {"type": "RollingUpdate"})
        if strategy["type"] == "RollingUpdate":
            strategy["rollingUpdate"] = {**_ROLLING, **(strategy.get("rollingUpdate") or {})}
        return {**_DEPLOYMENT, **spec, "strategy": strategy}

    def desired_changed(self, new: Object, old: Object) -> bool:
        annotations = new["metadata"].get("annotations") or {}
        changed = annotations != (old["metadata"].get("annotations") or {})
        return changed or super().desired_changed(new, old)

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        if old is not None and new["spec"] == old["spec"]:
            return []
        spec = new["spec"]
        found: list[Cause] = []
        for name in ("replicas", "minReadySeconds", "revisionHistoryLimit"):
            found += causes.non_negative(f"spec.{name}", spec.get(name))
        found += _validate_deadline(spec)
        found += _validate_strategy(spec["strategy"], "spec.strategy")
        return found + _validate_pods(spec, old, "Deployment")


class ControllerRevisionStrategy(BaseStrategy):
    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        found = causes.non_negative("revision", new.get("revision"))
        if new.get("data") is None:
            found.append(causes.required("data", "data is mandatory"))
        if old is not None:
            found += causes.immutable("data", new.get("data"), old.get("data"))
        return found


def _validate_pods(spec: Object, old: Object | None, kind: str) -> list[Cause]:
    """Selector and template."""
    selector = spec.get("selector")
    found: list[Cause] = []
    if selector is None:
        found.append(causes.required("spec.selector"))
    elif not selector.get("matchLabels") and not selector.get("matchExpressions"):
        text = f"empty selector is invalid for {kind.lower()}"
        found.append(causes.invalid_value("spec.selector", selector, text))
    else:
        found += validate_label_selector(selector, "spec.selector")
    template = spec.get("template")
    if not isinstance(template, dict):
        return [*found, causes.required("spec.template")]
    if not found:
        found += _validate_match(selector, template)
    found += validate_template(template, "spec.template")
    found += _validate_lasting(template.get("spec") or {}, kind)
    if old is not None:
        found += causes.immutable("spec.selector", selector, old["spec"].get("selector"))
    return found


def _validate_match(selector: Object | None, template: Object) -> list[Cause]:
    labels = (template.get("metadata") or {}).get("labels") or {}
    try:
        if from_label_selector(selector).matches(labels):
            return []
    except BadRequest as error:
        return [causes.invalid_value("spec.selector", selector, error.message)]
    text = "`selector` does not match template `labels`"
    return [causes.invalid_value("spec.template.metadata.labels", labels, text)]


def _validate_lasting(pod_spec: Object, kind: str) -> list[Cause]:
    """The pods of a workload that keeps running are always restarted and have no deadline."""
    found: list[Cause] = []
    policy = pod_spec.get("restartPolicy")
    if policy != "Always":
        found.append(causes.not_supported("spec.template.spec.restartPolicy", policy, ("Always",)))
    if pod_spec.get("activeDeadlineSeconds") is not None:
        text = "activeDeadlineSeconds in ReplicaSet is not Supported"
        found.append(causes.forbidden("spec.template.spec.activeDeadlineSeconds", text))
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
        return [causes.not_supported(f"{field}.type", kind, ("Recreate", "RollingUpdate"))]
    path = f"{field}.rollingUpdate"
    unavailable, surge = (rolling or {}).get("maxUnavailable"), (rolling or {}).get("maxSurge")
    found = validate_share(unavailable, f"{path}.maxUnavailable")
    found += validate_share(surge, f"{path}.maxSurge")
    if found:
        return found
    if _is_zero(unavailable) and _is_zero(surge):
        text = "may not be 0 when `maxSurge` is 0"
        found.append(causes.invalid_value(f"{path}.maxUnavailable", unavailable, text))
    if isinstance(unavailable, str) and int(unavailable[:-1]) > 100:
        found.append(
            causes.invalid_value(f"{path}.maxUnavailable", unavailable, "must not be greater than 100%")
        )
    return found


def validate_share(value: Any, field: str) -> list[Cause]:
    """A count of at least 0, or a percentage."""
    if isinstance(value, str):
        return causes.problems(field, value, names.is_percent(value))
    return causes.non_negative(field, value)


def _is_zero(value: Any) -> bool:
    return value in (0, None) or (isinstance(value, str) and int(value[:-1]) == 0)
