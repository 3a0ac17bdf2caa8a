"""Validation of a pod's spec, shared by pods and by every kind with a pod template. Pure.

The template's extra rules (labels, restart policy) belong to the kinds. Source: core validation of
Kubernetes v1.36.
"""

from orchestrator.api import names, quantity
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.container_resources import validate_pod_resources
from orchestrator.registry.strategies.containers import validate_containers
from orchestrator.registry.strategies.meta import validate_annotations, validate_labels
from orchestrator.registry.strategies.placement import (
    validate_affinity,
    validate_spread,
    validate_tolerations,
)
from orchestrator.registry.strategies.security_contexts import (
    validate_host_users,
    validate_os,
    validate_pod_security,
)
from orchestrator.registry.strategies.volumes import validate_volumes

_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_ID_MAX = 2**31 - 1


def validate_pod_spec(spec: Object, field: str) -> list[Cause]:
    """`spec` with defaults applied; `field` is where it stands, such as `spec.template.spec`."""
    volumes = spec.get("volumes")
    found = validate_volumes(volumes, f"{field}.volumes") if volumes else []
    found += validate_containers(spec, field)
    found += _validate_policies(spec, field)
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
        found += _validate_host_aliases(spec["hostAliases"], f"{field}.hostAliases")
    if spec.get("resources"):
        found += validate_pod_resources(spec, f"{field}.resources")
    if "hostUsers" in spec:
        found += validate_host_users(spec, field)
    if spec.get("os") is not None:
        found += validate_os(spec, field)
    return found + _validate_overhead(spec, field)


def validate_template(template: Object, field: str) -> list[Cause]:
    """A `PodTemplateSpec` at `field`: its labels, annotations and spec."""
    metadata = template.get("metadata") or {}
    found = validate_labels(metadata.get("labels") or {}, f"{field}.labels")
    found += validate_annotations(metadata.get("annotations") or {}, f"{field}.annotations")
    spec = template.get("spec") or {}
    found += validate_pod_spec(spec, f"{field}.spec")
    if spec.get("ephemeralContainers"):
        found.append(
            causes.forbidden(
                f"{field}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template"
            )
        )
    return found


def _validate_policies(spec: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    for name, choices in (("restartPolicy", _RESTART_POLICIES), ("dnsPolicy", _DNS_POLICIES)):
        value = spec.get(name)
        if not value:
            found.append(causes.required(f"{field}.{name}"))
        elif value not in choices:
            found.append(causes.not_supported(f"{field}.{name}", value, choices))
    if spec.get("dnsPolicy") == "None" and not (spec.get("dnsConfig") or {}).get("nameservers"):
        found.append(
            causes.required(
                f"{field}.dnsConfig.nameservers",
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            )
        )
    deadline_s = spec.get("activeDeadlineSeconds")
    if deadline_s is not None and not 1 <= deadline_s <= _ID_MAX:
        found.append(
            causes.invalid_value(
                f"{field}.activeDeadlineSeconds", deadline_s, f"must be between 1 and {_ID_MAX}, inclusive"
            )
        )
    found += causes.one_of(
        f"{field}.preemptionPolicy", spec.get("preemptionPolicy"), ("Never", "PreemptLowerPriority")
    )
    return found


def _validate_names(spec: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    for name in ("serviceAccountName", "nodeName", "priorityClassName", "schedulerName", "runtimeClassName"):
        value = spec.get(name)
        if value:
            found += causes.problems(f"{field}.{name}", value, names.is_dns1123_subdomain(value))
    for name in ("hostname", "subdomain"):
        value = spec.get(name)
        if value:
            found += causes.problems(f"{field}.{name}", value, names.is_dns1123_label(value))
    seen: set[str] = set()
    for at, gate in enumerate(spec.get("schedulingGates") or ()):
        name = gate.get("name", "")
        found += causes.problems(f"{field}.schedulingGates[{at}]", name, names.is_qualified_name(name))
        if name in seen:
            found.append(causes.duplicate(f"{field}.schedulingGates[{at}]", name))
        seen.add(name)
    return found


def _validate_host_aliases(aliases: list[Object], field: str) -> list[Cause]:
    found: list[Cause] = []
    for at, alias in enumerate(aliases):
        address = alias.get("ip", "")
        found += causes.problems(f"{field}[{at}].ip", address, names.is_ip_address(address))
        for nth, name in enumerate(alias.get("hostnames") or ()):
            found += causes.problems(
                f"{field}[{at}].hostnames[{nth}]", name, names.is_dns1123_subdomain(name)
            )
    return found


def _validate_overhead(spec: Object, field: str) -> list[Cause]:
    return [
        causes.invalid_value(
            f"{field}.overhead[{name}]", amount, "must be a quantity greater than or equal to 0"
        )
        for name, amount in (spec.get("overhead") or {}).items()
        if not quantity.is_quantity(amount) or quantity.parse(amount) < 0
    ]
