"""DaemonSets.

Rules:
1. A selector matches the template's labels, selects something, and never changes.
2. A rolling update either takes pods away first (`maxUnavailable`) or adds them first (`maxSurge`), never both.
3. The number of the template stands in an annotation that only changes of the template move.
4. `metadata.generation` grows with the spec.
"""

from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import filled
from orchestrator.registry.strategies.label_selectors import validate_label_selector
from orchestrator.registry.strategies.pod_spec import validate_template
from orchestrator.registry.strategies.workload_rules import (
    WorkloadStrategy,
    non_negatives,
    share_amount,
    validate_at_most_all,
    validate_lasting,
    validate_match,
    validate_share,
)

TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
_ROLLING: Object = {"maxUnavailable": 1, "maxSurge": 0}


class DaemonSetStrategy(WorkloadStrategy):
    zeros = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
    counters = (
        "currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady",
        "observedGeneration", "updatedNumberScheduled", "numberAvailable", "numberUnavailable", "collisionCount",
    )  # fmt: skip

    def prepare_create(self, obj: Object) -> Object:
        created = super().prepare_create(obj)
        return _with_template_generation(created, max(_template_generation(created), 1))

    def settle_update(self, new: Object, old: Object) -> Object:
        generation = _template_generation(old)
        changed = new["spec"].get("template") != old["spec"].get("template")
        return _with_template_generation(new, generation + 1 if changed else generation)

    def default_spec(self, spec: Object) -> Object:
        strategy = filled(spec.get("updateStrategy") or {}, {"type": "RollingUpdate"})
        if strategy["type"] == "RollingUpdate":
            strategy["rollingUpdate"] = {**_ROLLING, **(strategy.get("rollingUpdate") or {})}
        return {"revisionHistoryLimit": 10, **spec, "updateStrategy": strategy}

    def validate_spec(self, spec: Object, old: Object | None) -> list[Cause]:
        selector, template = spec.get("selector"), spec.get("template") or {}
        found = validate_label_selector(selector, "spec.selector")
        found += validate_match(selector, template, "spec.template")
        if selector == {}:
            text = "empty selector is invalid for daemonset"
            found.append(causes.invalid_value("spec.selector", selector, text))
        found += validate_template(template, "spec.template")
        found += validate_lasting(template, "spec.template", "DaemonSet")
        found += non_negatives(spec, ("minReadySeconds",))
        found += _validate_strategy(spec["updateStrategy"], "spec.updateStrategy")
        found += non_negatives(spec, ("revisionHistoryLimit",))
        if old is not None:
            found += causes.immutable("spec.selector", selector, old.get("selector"))
        return found


def _template_generation(obj: Object) -> int:
    """What the annotation says; 0 when it is no number."""
    text = (obj["metadata"].get("annotations") or {}).get(TEMPLATE_GENERATION, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def _with_template_generation(obj: Object, generation: int) -> Object:
    metadata = obj["metadata"]
    annotations = metadata.get("annotations") or {}
    if annotations.get(TEMPLATE_GENERATION) == str(generation):
        return obj
    marked = {**annotations, TEMPLATE_GENERATION: str(generation)}
    return {**obj, "metadata": {**metadata, "annotations": marked}}


def _validate_strategy(strategy: Object, field: str) -> list[Cause]:
    kind, rolling = strategy["type"], strategy.get("rollingUpdate")
    if kind == "OnDelete":
        return []
    if kind != "RollingUpdate":
        return [causes.not_supported(field, strategy, ("RollingUpdate", "OnDelete"))]
    return _validate_rolling(rolling or {}, f"{field}.rollingUpdate")


def _validate_rolling(rolling: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    for rule in (validate_share, validate_at_most_all):
        for name in ("maxUnavailable", "maxSurge"):
            found += rule(rolling.get(name), f"{field}.{name}")
    unavailable, surge = share_amount(rolling.get("maxUnavailable")), share_amount(rolling.get("maxSurge"))
    if unavailable and surge:
        text = "may not be set when maxUnavailable is non-zero"
        found.append(causes.invalid_value(f"{field}.maxSurge", rolling.get("maxSurge"), text))
    elif not unavailable and not surge:
        found.append(causes.required(f"{field}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    return found
