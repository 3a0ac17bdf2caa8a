"""Validation of a Service's spec. Pure; called by `services`. Source: core validation of Kubernetes v1.36."""

from typing import Any

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.meta import validate_labels

_TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
_EXTERNAL = ("NodePort", "LoadBalancer")
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_POLICIES = ("Cluster", "Local")
_TIMEOUT_MAX_S = 86_400


def validate_service(spec: Object, old: Object | None) -> list[Cause]:
    """`spec` with defaults applied; `old` is the previous spec, None on create."""
    kind = spec["type"]
    if kind not in _TYPES:
        return [causes.not_supported("spec.type", kind, _TYPES)]
    found = _validate_ports(spec)
    if spec.get("selector"):
        found += validate_labels(spec["selector"], "spec.selector")
    found += _validate_cluster_ips(spec, old)
    found += _validate_affinity(spec)
    found += _validate_external(spec)
    if kind == "ExternalName":
        found += _validate_external_name(spec.get("externalName"))
    found += causes.one_of("spec.internalTrafficPolicy", spec.get("internalTrafficPolicy"), _POLICIES)
    return found


def _validate_ports(spec: Object) -> list[Cause]:
    ports, kind = spec.get("ports") or [], spec["type"]
    if not ports and kind != "ExternalName" and spec.get("clusterIP") != "None":
        return [causes.required("spec.ports")]
    found: list[Cause] = []
    seen_names: set[str] = set()
    seen_ports: set[tuple[Any, Any]] = set()
    seen_node_ports: set[tuple[Any, Any]] = set()
    for at, port in enumerate(ports):
        field = f"spec.ports[{at}]"
        found += _validate_port(port, field, kind, seen_names, name_needed=len(ports) > 1)
        key = (port.get("protocol"), port.get("port"))
        if key in seen_ports:
            found.append(causes.duplicate(field, {"protocol": key[0], "port": key[1]}))
        seen_ports.add(key)
        node_port = port.get("nodePort")
        if node_port:
            if (key[0], node_port) in seen_node_ports:
                found.append(causes.duplicate(f"{field}.nodePort", node_port))
            seen_node_ports.add((key[0], node_port))
    return found


def _validate_port(port: Object, field: str, kind: str, seen: set[str], *, name_needed: bool) -> list[Cause]:
    found: list[Cause] = []
    name = port.get("name")
    if name:
        found += causes.problems(f"{field}.name", name, names.is_dns1123_label(name))
        if name in seen:
            found.append(causes.duplicate(f"{field}.name", name))
        seen.add(name)
    elif name_needed:
        found.append(causes.required(f"{field}.name"))
    number, target = port.get("port") or 0, port.get("targetPort")
    found += causes.problems(f"{field}.port", number, names.is_port_number(number))
    found += causes.one_of(f"{field}.protocol", port.get("protocol"), _PROTOCOLS)
    if isinstance(target, str):
        found += causes.problems(f"{field}.targetPort", target, names.is_port_name(target))
    elif target is not None:
        found += causes.problems(f"{field}.targetPort", target, names.is_port_number(target))
    if port.get("nodePort") and kind not in _EXTERNAL:
        found.append(causes.forbidden(f"{field}.nodePort", f"may not be used when `type` is '{kind}'"))
    if port.get("appProtocol"):
        found += causes.problems(
            f"{field}.appProtocol", port["appProtocol"], names.is_qualified_name(port["appProtocol"])
        )
    return found


def _validate_cluster_ips(spec: Object, old: Object | None) -> list[Cause]:
    ip, ips, kind = spec.get("clusterIP") or "", spec.get("clusterIPs") or [], spec["type"]
    if kind == "ExternalName":
        return (
            [causes.forbidden("spec.clusterIPs", "may not be set for ExternalName services")]
            if ip or ips
            else []
        )
    if ips and not ip:
        return [
            causes.invalid_value("spec.clusterIPs", ips, "must be empty when `clusterIP` is not specified")
        ]
    if ips and ips[0] != ip:
        return [causes.invalid_value("spec.clusterIPs", ips, "first value must match `clusterIP`")]
    found: list[Cause] = []
    for at, address in enumerate(ips):
        field = f"spec.clusterIPs[{at}]"
        if address != "None":
            found += causes.problems(field, address, names.is_ip_address(address))
        elif kind in _EXTERNAL:
            found.append(
                causes.invalid_value(field, address, f"may not be set to 'None' for {kind} services")
            )
        elif len(ips) > 1:
            found.append(causes.invalid_value(field, address, "'None' must be the first and only value"))
    if len(ips) > 1:
        text = "may only hold one value on a single-stack cluster"
        found.append(causes.invalid_value("spec.clusterIPs", ips, text))
    before = (old or {}).get("clusterIP")
    if old and old.get("type") != "ExternalName" and before and before != ip:
        found.append(causes.invalid_value("spec.clusterIPs[0]", ips, "may not change once set"))
    return found


def _validate_affinity(spec: Object) -> list[Cause]:
    affinity = spec.get("sessionAffinity")
    found = causes.one_of("spec.sessionAffinity", affinity, ("ClientIP", "None"))
    if affinity == "ClientIP":
        timeout_s = spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"]
        if not 0 < timeout_s <= _TIMEOUT_MAX_S:
            field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
            text = f"must be greater than 0 and less than {_TIMEOUT_MAX_S}"
            found.append(causes.invalid_value(field, timeout_s, text))
    return found


def _validate_external(spec: Object) -> list[Cause]:
    kind, policy = spec["type"], spec.get("externalTrafficPolicy")
    found: list[Cause] = []
    for at, address in enumerate(spec.get("externalIPs") or ()):
        found += causes.problems(f"spec.externalIPs[{at}]", address, names.is_ip_address(address))
    if policy is not None:
        if kind not in _EXTERNAL and not spec.get("externalIPs"):
            text = "may only be set for externally-accessible services"
            found.append(causes.invalid_value("spec.externalTrafficPolicy", policy, text))
        found += causes.one_of("spec.externalTrafficPolicy", policy, _POLICIES)
    check = spec.get("healthCheckNodePort")
    if check and (kind != "LoadBalancer" or policy != "Local"):
        text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        found.append(causes.invalid_value("spec.healthCheckNodePort", check, text))
    for field in ("loadBalancerClass", "allocateLoadBalancerNodePorts"):
        if spec.get(field) is not None and kind != "LoadBalancer":
            found.append(causes.forbidden(f"spec.{field}", "may only be used when `type` is 'LoadBalancer'"))
    for at, cidr in enumerate(spec.get("loadBalancerSourceRanges") or ()):
        found += causes.problems(f"spec.loadBalancerSourceRanges[{at}]", cidr, names.is_cidr(cidr.strip()))
    return found


def _validate_external_name(name: str | None) -> list[Cause]:
    if not name:
        return [causes.required("spec.externalName")]
    return causes.problems("spec.externalName", name, names.is_dns1123_subdomain(name.removesuffix(".")))
