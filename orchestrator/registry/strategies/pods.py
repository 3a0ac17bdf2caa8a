"""Pods: defaults, what may change after creation, status, grace periods.

Rules:
1. A new pod is Pending and carries its quality of service class; a client's status is dropped. What else only
   creation does is in `pod_creation`.
2. Of the spec only images, activeDeadlineSeconds (downwards), tolerations (added), scheduling gates
   (removed) and a negative grace period may change; `spec.nodeName` is set by the binding subresource.
3. The status subresource leaves the spec alone, `ephemeralcontainers` changes nothing but its list, `resize` only
   the cpu and memory of containers.
4. Deletion takes the requested or the pod's own grace period; pods that never ran or have finished go at once.
"""

from orchestrator.api import quantity
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy, with_field
from orchestrator.registry.strategies.meta import validate_meta
from orchestrator.registry.strategies.pod_annotations import (
    validate_annotation_update,
    validate_annotations_of,
)
from orchestrator.registry.strategies.pod_creation import gated_condition, with_label_keys
from orchestrator.registry.strategies.pod_defaults import default_container, default_pod_spec
from orchestrator.registry.strategies.pod_resize import resized, validate_resize
from orchestrator.registry.strategies.pod_spec import validate_pod_spec
from orchestrator.registry.strategies.pod_status import validate_pod_status
from orchestrator.registry.strategies.pod_updates import validate_ephemeral_update, validate_spec_update
from orchestrator.registry.strategies.pod_warnings import pod_warnings
from orchestrator.registry.strategy import IsTaken

_FINISHED = ("Succeeded", "Failed")


class PodStrategy(BaseStrategy):
    counts_generation = True

    def default(self, obj: Object) -> Object:
        spec = obj.get("spec")
        return {**obj, "spec": default_pod_spec(spec or {}, template=False)}

    def initial_status(self, obj: Object) -> Object:
        spec = obj["spec"]
        status: Object = {"phase": "Pending", "qosClass": qos_class(spec)}
        if spec.get("schedulingGates"):
            status["conditions"] = [gated_condition(obj["metadata"].get("creationTimestamp") or "")]
        return status

    def prepare_create(self, obj: Object) -> Object:
        obj = super().prepare_create(obj)
        spec = obj["spec"]
        if not spec.get("affinity") and not spec.get("topologySpreadConstraints"):
            return obj
        return {**obj, "spec": with_label_keys(spec, obj["metadata"].get("labels") or {})}

    async def allocate(self, new: Object, old: Object | None, is_taken: IsTaken) -> Object:
        """The class of service of a new pod is decided last: admission may have added requests and limits."""
        if old is not None:
            return new
        found, status = qos_class(new["spec"]), new["status"]
        if status["qosClass"] == found:
            return new
        return with_field(new, "status", {**status, "qosClass": found})

    def prepare_update(self, new: Object, old: Object, subresource: str) -> Object:
        if subresource == "ephemeralcontainers":
            added = (new.get("spec") or {}).get("ephemeralContainers") or ()
            spec = {**old["spec"], "ephemeralContainers": [default_container(c) for c in added]}
            new = {**old, "metadata": new["metadata"], "spec": spec}
        elif subresource == "resize":
            spec = resized(new.get("spec") or {}, old["spec"])
            new = {**old, "metadata": _without_wishes(new["metadata"], old["metadata"]), "spec": spec}
        elif new.get("spec") is old.get("spec"):
            # Nothing of the spec was touched: the defaults are in it already.
            return self.status_update(new, old) if subresource == "status" else self._same_spec(new, old)
        return super().prepare_update(new, old, "status" if subresource == "status" else "")

    def _same_spec(self, new: Object, old: Object) -> Object:
        metadata = with_field(new["metadata"], "generation", old["metadata"].get("generation"))
        return with_field({**new, "metadata": metadata}, "status", old.get("status"))

    def status_update(self, new: Object, old: Object) -> Object:
        """Also mirrors podIP into podIPs, and keeps the class of service that creation decided."""
        result = super().status_update(new, old)
        status = result.get("status") or {}
        if status.get("podIP") and not status.get("podIPs"):
            status = {**status, "podIPs": [{"ip": status["podIP"]}]}
        if not status.get("qosClass"):
            status = {**status, "qosClass": qos_class(old["spec"])}
        return with_field(result, "status", status)

    def validate(self, new: Object, old: Object | None, subresource: str) -> list[Cause]:
        if old is None or subresource == "status":
            return super().validate(new, old, subresource)
        found = validate_meta(new, self.resource)
        annotations, before = (obj["metadata"].get("annotations") or {} for obj in (new, old))
        if annotations != before:
            found += validate_annotation_update(new["metadata"], old["metadata"])
            found += validate_annotations_of(annotations, new["spec"], "metadata.annotations")
        if subresource == "ephemeralcontainers":
            return found + _validate_spec(new) + validate_ephemeral_update(new, old)
        if subresource == "resize":
            classes = (
                qos_class(new["spec"]),
                (old.get("status") or {}).get("qosClass") or qos_class(old["spec"]),
            )
            return found + _validate_spec(new) + validate_resize(new, old, *classes)
        return found + self.validate_object(new, old)

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        spec = new["spec"]
        if old is None:
            return _validate_spec(new) + _validate_new(new)
        if spec is old["spec"] or spec == old["spec"]:
            return []
        return _validate_spec(new) + validate_spec_update(spec, old["spec"])

    def validate_status(self, new: Object, old: Object) -> list[Cause]:
        return validate_annotation_update(new["metadata"], old["metadata"]) + validate_pod_status(new, old)

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        """Only of new pods: updates of pods are frequent, and none of a person's."""
        return pod_warnings(new) if old is None else []

    def grace_period_s(self, obj: Object, requested_s: int | None) -> int:
        spec, phase = obj.get("spec") or {}, (obj.get("status") or {}).get("phase")
        if not spec.get("nodeName") or phase in _FINISHED:
            return 0
        period_s: int = spec.get("terminationGracePeriodSeconds", 0) if requested_s is None else requested_s
        return 1 if period_s < 0 else period_s


_FREE = ("labels", "annotations", "finalizers", "ownerReferences")
"""Metadata that only a write to the pod itself changes."""


def _without_wishes(new: Object, old: Object) -> Object:
    for name in _FREE:
        new = with_field(new, name, old.get(name))
    return new


def _validate_spec(pod: Object) -> list[Cause]:
    return validate_pod_spec(pod["spec"], "spec", pod_name=pod["metadata"].get("name") or "")


def _validate_new(pod: Object) -> list[Cause]:
    """What only holds when a pod is created."""
    spec, annotations = pod["spec"], pod["metadata"].get("annotations")
    found: list[Cause] = []
    if spec.get("ephemeralContainers"):
        found.append(causes.forbidden("spec.ephemeralContainers", "cannot be set on create"))
    if spec.get("nodeName") and spec.get("schedulingGates"):
        text = "cannot be set until all schedulingGates have been cleared"
        found.append(causes.forbidden("spec.nodeName", text))
    if annotations:
        found += validate_annotations_of(annotations, spec, "metadata.annotations")
    return found


# ── Quality of service ───────────────────────────────────────────────────────────────────────────────────


def qos_class(spec: Object) -> str:
    """`Guaranteed`, `Burstable` or `BestEffort`, from cpu and memory of all containers."""
    if spec.get("resources"):
        holders = [spec["resources"]]
    else:
        holders = [
            container.get("resources") or {}
            for field in ("containers", "initContainers")
            for container in spec.get(field) or ()
        ]
    guaranteed, anything = True, False
    for resources in holders:
        requests, limits = _compute(resources.get("requests")), _compute(resources.get("limits"))
        anything = anything or bool(requests or limits)
        guaranteed = guaranteed and len(limits) == 2 and limits == {**limits, **requests}
    if not anything:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _compute(amounts: Object | None) -> dict[str, quantity.Quantity]:
    """Cpu and memory that are asked for and not zero; what is no quantity is validation's business."""
    if not amounts:
        return {}
    return {
        name: quantity.parse(amounts[name])
        for name in ("cpu", "memory")
        if name in amounts and quantity.is_quantity(amounts[name]) and quantity.parse(amounts[name]) > 0
    }
