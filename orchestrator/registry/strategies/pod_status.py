"""Validation of a pod's status. Pure; called by `pods` for writes to the status subresource.

A container's own restart policy counts before the pod's. Source: core validation of Kubernetes v1.36.
"""

import ipaddress
from typing import Any

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes

_SYSTEM_CONDITIONS = ("PodScheduled", "Ready", "Initialized")
_STATUSES = (
    ("containerStatuses", "containers"),
    ("initContainerStatuses", "initContainers"),
    ("ephemeralContainerStatuses", ""),
)


def validate_pod_status(new: Object, old: Object) -> list[Cause]:
    """`new` and `old` are pods with the same spec."""
    status, before = new.get("status") or {}, old.get("status") or {}
    found: list[Cause] = []
    for at, condition in enumerate(status.get("conditions") or ()):
        kind = condition.get("type") or ""
        if kind not in _SYSTEM_CONDITIONS:
            found += causes.problems(f"metadata.conditions[{at}].Type", kind, names.is_qualified_name(kind))
    nominated = status.get("nominatedNodeName")
    if nominated and nominated != before.get("nominatedNodeName"):
        found += causes.problems("status.nominatedNodeName", nominated, names.is_dns1123_subdomain(nominated))
    if before.get("qosClass"):
        found += causes.immutable("status.qosClass", status.get("qosClass"), before["qosClass"])
    for field, containers in _STATUSES:
        if before.get(field):
            found += _validate_transitions(status, before, field, old["spec"], containers)
    if status.get("resourceClaimStatuses"):
        found += _validate_claims(status["resourceClaimStatuses"], old["spec"])
    return found + _validate_addresses(status)


def _validate_transitions(
    status: Object, before: Object, field: str, spec: Object, containers: str
) -> list[Cause]:
    """Where no policy restarts a container, terminated stays terminated; a rule may restart all of them."""
    if containers and _may_restart_all(spec):
        return []
    now = {entry.get("name"): entry.get("state") or {} for entry in status.get(field) or ()}
    held = {container.get("name"): container for container in spec.get(containers) or ()}
    found = []
    for at, entry in enumerate(before[field]):
        ended, state = (entry.get("state") or {}).get("terminated"), now.get(entry.get("name"))
        if not ended or state is None or state.get("terminated"):
            continue
        if containers and _restarts(held.get(entry.get("name")) or {}, spec, ended):
            continue
        text = "may not be transitioned to non-terminated state"
        found.append(causes.forbidden(f"status.{field}[{at}].state", text))
    return found


def _may_restart_all(spec: Object) -> bool:
    everyone = (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
    rules = (rule for container in everyone for rule in container.get("restartPolicyRules") or ())
    return any(rule.get("action") == "RestartAllContainers" for rule in rules)


def _restarts(container: Object, spec: Object, ended: Object) -> bool:
    if container.get("restartPolicyRules"):
        return True
    policy = container.get("restartPolicy") or spec.get("restartPolicy")
    return policy == "Always" or (policy == "OnFailure" and bool(ended.get("exitCode")))


def _validate_claims(statuses: list[Object], spec: Object) -> list[Cause]:
    known = {claim.get("name") for claim in spec.get("resourceClaims") or ()}
    seen: set[Any] = set()
    found = []
    for at, entry in enumerate(statuses):
        name, field = entry.get("name"), f"status.resourceClaimStatuses[{at}].name"
        if name not in known:
            text = "must match the name of an entry in `spec.resourceClaims`"
            found.append(causes.invalid_value(field, name, text))
        if name in seen:
            found.append(causes.duplicate(field, name))
        seen.add(name)
        claim = entry.get("resourceClaimName")
        if claim is not None:
            found += causes.problems(field, claim, names.is_dns1123_subdomain(claim))
    return found


def _validate_addresses(status: Object) -> list[Cause]:
    found = _validate_ips(status.get("podIPs") or (), "status.podIPs")
    host_ips = status.get("hostIPs") or ()
    if host_ips and host_ips[0].get("ip") != (status.get("hostIP") or ""):
        text = "must be equal to `hostIP`"
        found.append(causes.invalid_value("status.hostIPs[0].ip", host_ips[0].get("ip"), text))
    return found + _validate_ips(host_ips, "status.hostIPs")


def _validate_ips(entries: Any, field: str) -> list[Cause]:
    """Valid addresses, at most one of each family."""
    found: list[Cause] = []
    for at, entry in enumerate(entries):
        address = entry.get("ip") or ""
        found += causes.problems(f"{field}[{at}]", address, names.is_ip_address(address))
    if len(entries) < 2 or found:
        return found
    versions = {ipaddress.ip_address(entry["ip"]).version for entry in entries}
    if len(entries) > 2 or len(versions) < 2:
        text = "may specify no more than one IP for each IP family"
        found.append(causes.invalid_value(field, entries, text))
    seen: set[str] = set()
    for at, entry in enumerate(entries):
        if entry["ip"] in seen:
            found.append(causes.duplicate(f"{field}[{at}]", entry))
        seen.add(entry["ip"])
    return found
