"""ReplicationControllers and PodTemplates: the workloads of the core group.

Rules:
1. A controller without labels or selector of its own takes those of its template.
2. Its selector is a plain map that is not empty and matches the template's labels; it may change.
3. A PodTemplate's generation grows with its template.
"""

from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.api.selectors import from_set
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy, with_field
from orchestrator.registry.strategies.pod_defaults import default_template
from orchestrator.registry.strategies.pod_spec import validate_template
from orchestrator.registry.strategies.pod_warnings import template_warnings
from orchestrator.registry.strategies.workload_rules import (
    WorkloadStrategy,
    non_negatives,
    template_labels,
    validate_labels_match,
    validate_lasting,
)
from orchestrator.registry.strategies.workloads import ReplicaSetStrategy


class ReplicationControllerStrategy(WorkloadStrategy):
    zeros = ("replicas",)
    counters = ReplicaSetStrategy.counters
    bounds = ReplicaSetStrategy.bounds
    needs_template = False
    names_pods = True

    def default(self, obj: Object) -> Object:
        obj = super().default(obj)
        labels = template_labels(obj["spec"].get("template"))
        if labels and not obj["spec"].get("selector"):
            obj["spec"]["selector"] = labels  # The spec was just built, it is ours.
        if labels and not obj["metadata"].get("labels"):
            obj = {**obj, "metadata": with_field(obj["metadata"], "labels", labels)}
        return obj

    def validate_spec(self, spec: Object, old: Object | None) -> list[Cause]:
        found = non_negatives(spec, ("minReadySeconds",))
        selector, template = spec.get("selector"), spec.get("template")
        if not selector:
            found.append(causes.required("spec.selector"))
        found += non_negatives(spec, ("replicas",))
        if template is None:
            return [*found, causes.required("spec.template")]
        if selector:
            found += validate_labels_match(from_set(selector), template, "spec.template")
        found += validate_template(template, "spec.template")
        return found + validate_lasting(template, "spec.template", "ReplicationController")


class PodTemplateStrategy(BaseStrategy):
    counts_generation = True

    def default(self, obj: Object) -> Object:
        return {**obj, "template": default_template({"spec": {}, **(obj.get("template") or {})})}

    def desired_changed(self, new: Object, old: Object) -> bool:
        return bool(new.get("template") != old.get("template"))

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        if old is not None and new["template"] == old.get("template"):
            return []
        return validate_template(new["template"], "template")

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        if old is not None and new["template"] == old.get("template"):
            return []
        return template_warnings(new["template"], "template")
