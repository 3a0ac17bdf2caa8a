"""Validation of a pod's spec, shared by pods and by every kind with a pod template. Pure.

The template's extra rules (labels, restart policy) belong to the kinds. Source: core validation of
Kubernetes v1.36.
"""

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.container_resources import validate_resources
from orchestrator.registry.strategies.containers import validate_containers
from orchestrator.registry.strategies.meta import validate_annotations, validate_labels
from orchestrator.registry.strategies.placement import (
    validate_affinity,
    validate_spread,
    validate_tolerations,
)
from orchestrator.registry.strategies.pod_annotations import validate_annotations_of
from orchestrator.registry.strategies.pod_dns import (
    validate_dns,
    validate_host_aliases,
    validate_host_names,
)
from orchestrator.registry.strategies.pod_resources import validate_pod_resources
from orchestrator.registry.strategies.security_contexts import (
    validate_host_users,
    validate_os,
    validate_pod_security,
)
from orchestrator.registry.strategies.volumes import validate_volumes

_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_ID_MAX = 2**31 - 1
_NAMES = ("serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName")
_CLAIM_SOURCES = ("resourceClaimName", "resourceClaimTemplateName")


def validate_pod_spec(spec: Object, field: str, *, pod_name: str | None = None) -> list[Cause]:
    """`spec` with defaults applied; `field` is where it stands, such as `spec.template.spec`. `pod_name` is that
    of the pod, None for a template."""
    volumes = spec.get("volumes")
    found = validate_volumes(volumes, f"{field}.volumes", pod_name=pod_name) if volumes else []
    if spec.get("resourceClaims"):
        found += _validate_claims(spec["resourceClaims"], f"{field}.resourceClaims")
    found += validate_containers(spec, field, of_pod=pod_name is not None)
    found += _validate_policies(spec, field)
    found += validate_dns(spec, field)
    found += validate_host_names(spec, field)
    found += _validate_names(spec, field)
    if spec.get("nodeSelector"):
        found += validate_labels(spec["nodeSelector"], f"{field}.nodeSelector")
    if spec.get("tolerations"):
        found += validate_tolerations(spec["tolerations"], f"{field}.tolerations")
    if spec.get("affinity"):
        found += validate_affinity(spec["affinity"], f"{field}.affinity")
    if spec.get("topologySpreadConstraints"):
        found += validate_spread(spec["topologySpreadConstraints"], f"{field}.topologySpreadConstraints")
    if spec.get("securityContext"):
        found += validate_pod_security(spec["securityContext"], spec, f"{field}.securityContext")
    if spec.get("hostAliases"):
        found += validate_host_aliases(spec["hostAliases"], f"{field}.hostAliases")
    if spec.get("resources"):
        found += validate_pod_resources(spec, f"{field}.resources")
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        text = "ShareProcessNamespace and HostPID cannot both be enabled"
        path = f"{field}.securityContext.shareProcessNamespace"
        found.append(causes.invalid_value(path, True, text))
    if "hostUsers" in spec:
        found += validate_host_users(spec, field)
    if spec.get("os") is not None:
        found += validate_os(spec, field)
    if spec.get("overhead"):
        found += validate_resources({"limits": spec["overhead"]}, f"{field}.overhead")
    if pod_name is not None and volumes and not spec.get("serviceAccountName"):
        found += _without_account(volumes, f"{field}.volumes")
    return found


def validate_template(template: Object, field: str) -> list[Cause]:
    """A `PodTemplateSpec` at `field`: its labels, annotations and spec."""
    metadata = template.get("metadata") or {}
    found = validate_labels(metadata.get("labels") or {}, f"{field}.labels")
    spec, annotations = template.get("spec") or {}, metadata.get("annotations")
    if annotations:
        found += validate_annotations(annotations, f"{field}.annotations")
        found += validate_annotations_of(annotations, spec, f"{field}.annotations")
    found += validate_pod_spec(spec, f"{field}.spec")
    if spec.get("ephemeralContainers"):
        found.append(
            causes.forbidden(
                f"{field}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template"
            )
        )
    return found


def _validate_policies(spec: Object, field: str) -> list[Cause]:
    policy = spec.get("restartPolicy")
    found: list[Cause] = []
    if not policy:
        found.append(causes.required(f"{field}.restartPolicy"))
    elif policy not in _RESTART_POLICIES:
        found.append(causes.not_supported(f"{field}.restartPolicy", policy, _RESTART_POLICIES))
    deadline_s = spec.get("activeDeadlineSeconds")
    if deadline_s is not None and not 1 <= deadline_s <= _ID_MAX:
        text = f"must be between 1 and {_ID_MAX}, inclusive"
        found.append(causes.invalid_value(f"{field}.activeDeadlineSeconds", deadline_s, text))
    preemption = spec.get("preemptionPolicy")
    return found + causes.one_of(f"{field}.preemptionPolicy", preemption, ("Never", "PreemptLowerPriority"))


def _validate_names(spec: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    for name in _NAMES:
        value = spec.get(name)
        if value:
            found += causes.problems(f"{field}.{name}", value, names.is_dns1123_subdomain(value))
    for at, gate in enumerate(spec.get("readinessGates") or ()):
        kind = gate.get("conditionType") or ""
        path = f"{field}.readinessGates[{at}].conditionType"
        found += causes.problems(path, kind, names.is_qualified_name(kind))
    seen: set[str] = set()
    for at, gate in enumerate(spec.get("schedulingGates") or ()):
        name = gate.get("name", "")
        found += causes.problems(f"{field}.schedulingGates[{at}]", name, names.is_qualified_name(name))
        if name in seen:
            found.append(causes.duplicate(f"{field}.schedulingGates[{at}]", name))
        seen.add(name)
    return found


def _validate_claims(claims: list[Object], field: str) -> list[Cause]:
    """Each claim has a name of its own and says where it comes from."""
    found: list[Cause] = []
    seen: set[str] = set()
    for at, claim in enumerate(claims):
        path, name = f"{field}[{at}]", claim.get("name") or ""
        if not name:
            found.append(causes.required(f"{path}.name"))
        elif name in seen:
            found.append(causes.duplicate(f"{path}.name", name))
        else:
            found += causes.problems(f"{path}.name", name, names.is_dns1123_label(name))
        seen.add(name)
        given = [kind for kind in _CLAIM_SOURCES if claim.get(kind) is not None]
        if len(given) > 1:
            text = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            found.append(causes.invalid_value(path, claim, text))
        if not given:
            text = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            found.append(causes.invalid_value(path, claim, text))
        for kind in given:
            found += causes.problems(f"{path}.{kind}", claim[kind], names.is_dns1123_subdomain(claim[kind]))
    return found


def _without_account(volumes: list[Object], field: str) -> list[Cause]:
    """A token is some account's."""
    text = "must not be specified when serviceAccountName is not set"
    return [
        causes.forbidden(f"{field}[{at}].projected.sources[{nth}].serviceAccountToken", text)
        for at, volume in enumerate(volumes)
        for nth, source in enumerate((volume.get("projected") or {}).get("sources") or ())
        if source.get("serviceAccountToken") is not None
    ]
