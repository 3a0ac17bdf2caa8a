"""StatefulSets.

Rules:
1. A selector is required and matches the template's labels.
2. Of the spec only replicas, ordinals, template, update strategy, history limit, claim retention and ready
   seconds may change.
3. Volume claim templates are claims with their defaults; each is a volume that the template's containers may mount.
4. `metadata.generation` grows with the spec.
"""

from typing import Any

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import filled
from orchestrator.registry.strategies.pod_defaults import default_resources
from orchestrator.registry.strategies.pod_spec import validate_template
from orchestrator.registry.strategies.workload_rules import (
    WorkloadStrategy,
    non_negatives,
    share_amount,
    validate_at_most_all,
    validate_lasting,
    validate_match,
    validate_selector,
    validate_share,
)

_SPEC: Object = {"podManagementPolicy": "OrderedReady", "replicas": 1, "revisionHistoryLimit": 10}
_ROLLING: Object = {"partition": 0, "maxUnavailable": 1}
_RETENTION: Object = {"whenDeleted": "Retain", "whenScaled": "Retain"}
_RETENTIONS = ("Retain", "Delete")
_MANAGEMENT = ("OrderedReady", "Parallel")
_MUTABLE = frozenset(
    (
        "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
    )
)  # fmt: skip
_FORBIDDEN = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy',"
    " 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)
_ENDLESS_HISTORY = (
    "spec.revisionHistoryLimit: a negative value retains all historical revisions;"
    " a value >= 0 is recommended"
)


class StatefulSetStrategy(WorkloadStrategy):
    zeros = ("replicas", "availableReplicas")
    counters = (
        "replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas",
        "observedGeneration", "collisionCount",
    )  # fmt: skip
    bounds = (
        ("readyReplicas", "replicas", "status.replicas"),
        ("currentReplicas", "replicas", "status.replicas"),
        ("updatedReplicas", "replicas", "status.replicas"),
        ("availableReplicas", "replicas", "status.replicas"),
        ("availableReplicas", "readyReplicas", "status.readyReplicas"),
    )

    def default_spec(self, spec: Object) -> Object:
        strategy = filled(spec.get("updateStrategy") or {}, {"type": "RollingUpdate"})
        if strategy["type"] == "RollingUpdate":
            strategy["rollingUpdate"] = {**_ROLLING, **(strategy.get("rollingUpdate") or {})}
        result = filled(spec, _SPEC)
        result["updateStrategy"] = strategy
        retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
        result["persistentVolumeClaimRetentionPolicy"] = filled(retention, _RETENTION)
        if spec.get("volumeClaimTemplates"):
            result["volumeClaimTemplates"] = [_default_claim(claim) for claim in spec["volumeClaimTemplates"]]
        return result

    def validate_spec(self, spec: Object, old: Object | None) -> list[Cause]:
        found = _validate_policies(spec)
        found += non_negatives(spec, ("replicas", "minReadySeconds"))
        found += causes.non_negative("spec.ordinals.start", (spec.get("ordinals") or {}).get("start"))
        found += _validate_service(spec.get("serviceName"))
        found += _validate_pods(spec, old)
        if old is not None and _fixed(spec) != _fixed(old):
            found.append(causes.forbidden("spec", _FORBIDDEN))
        return found

    def spec_warnings(self, spec: Object) -> list[str]:
        found = super().spec_warnings(spec)
        if spec.get("revisionHistoryLimit", 0) < 0:
            found.append(_ENDLESS_HISTORY)
        return found


def _default_claim(claim: Object) -> Object:
    """A claim of a template, as a claim of its own would be defaulted."""
    spec = filled(claim.get("spec") or {}, {"volumeMode": "Filesystem"})
    if spec.get("resources"):
        spec["resources"] = default_resources(spec["resources"])
    status = filled(claim.get("status") or {}, {"phase": "Pending"})
    kind = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
    return {**kind, "metadata": {}, **claim, **kind, "spec": spec, "status": status}


def _fixed(spec: Object) -> Object:
    return {name: value for name, value in spec.items() if name not in _MUTABLE}


def _validate_policies(spec: Object) -> list[Cause]:
    management = spec["podManagementPolicy"]
    found: list[Cause] = []
    if management not in _MANAGEMENT:
        text = "must be 'OrderedReady' or 'Parallel'"
        found.append(causes.invalid_value("spec.podManagementPolicy", management, text))
    found += _validate_strategy(spec["updateStrategy"], "spec.updateStrategy")
    retention: dict[str, Any] = spec["persistentVolumeClaimRetentionPolicy"]
    for name in ("whenDeleted", "whenScaled"):
        field = f"spec.persistentVolumeClaimRetentionPolicy.{name}"
        found += causes.one_of(field, retention[name], _RETENTIONS)
    return found


def _validate_strategy(strategy: Object, field: str) -> list[Cause]:
    kind, rolling = strategy["type"], strategy.get("rollingUpdate") or {}
    if kind == "OnDelete":
        if "rollingUpdate" not in strategy:
            return []
        text = "only allowed for updateStrategy 'RollingUpdate'"
        return [causes.invalid_value(f"{field}.rollingUpdate", rolling, text)]
    if kind != "RollingUpdate":
        return [causes.invalid_value(field, strategy, "must be 'RollingUpdate' or 'OnDelete'")]
    found = causes.non_negative(f"{field}.rollingUpdate.partition", rolling["partition"])
    unavailable, path = rolling["maxUnavailable"], f"{field}.rollingUpdate.maxUnavailable"
    found += validate_share(unavailable, path)
    if share_amount(unavailable) == 0:
        found.append(causes.invalid_value(path, unavailable, "cannot be 0"))
    return found + validate_at_most_all(unavailable, path)


def _validate_service(name: str | None) -> list[Cause]:
    return causes.problems("spec.serviceName", name, names.is_dns1123_label(name)) if name else []


def _validate_pods(spec: Object, old: Object | None) -> list[Cause]:
    """Selector and template. A template that an update leaves alone stays as it is, however old its rules."""
    selector, template = spec.get("selector"), spec.get("template") or {}
    found = validate_selector(selector, "spec.selector", "statefulset")
    if selector is not None and not found:
        found += validate_match(selector, template, "spec.template")
    if old is None or template != old.get("template"):
        found += validate_template(_with_claims(template, spec), "spec.template")
    return found + validate_lasting(template, "spec.template", "StatefulSet")


def _with_claims(template: Object, spec: Object) -> Object:
    """The template with a volume for every claim template: what its pods will have. A claim template takes the
    place of a volume of its name."""
    claims = [
        (claim.get("metadata") or {}).get("name", "") for claim in spec.get("volumeClaimTemplates") or ()
    ]
    pod = template.get("spec")
    if not claims or not pod:
        return template
    kept = [volume for volume in pod.get("volumes") or () if volume.get("name") not in claims]
    added = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims]
    return {**template, "spec": {**pod, "volumes": kept + added}}
