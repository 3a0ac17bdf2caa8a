"""Validation of a Service's spec and status. Pure; called by `services`.

Source: core validation of Kubernetes v1.36. Addresses are given of one family only, so that a Service which
demands two is refused; a headless one without selector may name both, as its endpoints are somebody else's.
"""

import ipaddress
from typing import Any

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.addresses import validate_plain_address
from orchestrator.registry.strategies.meta import validate_labels
from orchestrator.registry.strategies.service_changes import (
    EXTERNAL,
    HEADLESS,
    family_of,
    needs_health_check_port,
)

_TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_POLICIES = ("Cluster", "Local")
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
_FAMILIES = ("IPv4", "IPv6")
_FAMILY_POLICIES = ("SingleStack", "PreferDualStack", "RequireDualStack")
_TIMEOUT_MAX_S = 86_400
_ONLY_BALANCERS = "may only be used when `type` is 'LoadBalancer'"
_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
TOPOLOGY_HINTS = "service.kubernetes.io/topology-aware-hints"
_TOPOLOGY_MODE = "service.kubernetes.io/topology-mode"


def validate_service(spec: Object, annotations: Object, own: str) -> list[Cause]:
    """`spec` with defaults applied; `own` is the family that this cluster gives addresses of."""
    kind = spec["type"]
    found = [] if kind in _TYPES else [causes.not_supported("spec.type", kind, _TYPES)]
    found += _validate_ports(spec)
    if spec.get("selector"):
        found += validate_labels(spec["selector"], "spec.selector")
    if kind == "ExternalName":
        found += _validate_external_name(spec)
    else:
        addresses = _validate_cluster_ips(spec) + _validate_family_names(spec)
        found += addresses or _validate_stack(spec, own)
    found += _validate_affinity(spec)
    for at, address in enumerate(spec.get("externalIPs") or ()):
        found += validate_plain_address(address, f"spec.externalIPs[{at}]")
    found += _validate_balancer(spec)
    found += _validate_source_ranges(spec, annotations)
    found += _validate_policies(spec)
    hints, mode = annotations.get(TOPOLOGY_HINTS), annotations.get(_TOPOLOGY_MODE)
    if None not in (hints, mode) and hints != mode:
        text = f"must match annotations[{TOPOLOGY_HINTS}] when both are specified"
        found.append(causes.invalid_value(f"metadata.annotations[{_TOPOLOGY_MODE}]", mode, text))
    return found


def validate_service_update(spec: Object, old: Object) -> list[Cause]:
    """What never changes; `old` is the previous spec."""
    found: list[Cause] = []
    if "ExternalName" not in (spec["type"], old.get("type")):
        found += _validate_kept_addresses(spec, old)
        found += _validate_kept_families(spec, old)
    if spec["type"] == old.get("type") == "LoadBalancer":
        name = spec.get("loadBalancerClass")
        if name != old.get("loadBalancerClass"):
            found.append(causes.invalid_value("spec.loadBalancerClass", name, "may not change once set"))
    checked = needs_health_check_port(spec) and needs_health_check_port(old)
    if checked and spec.get("healthCheckNodePort") != old.get("healthCheckNodePort"):
        found.append(causes.forbidden("spec.healthCheckNodePort", "field is immutable"))
    return found


# ── Ports ────────────────────────────────────────────────────────────────────────────────────────────────


def _validate_ports(spec: Object) -> list[Cause]:
    ports, kind = spec.get("ports") or [], spec["type"]
    if not ports and kind != "ExternalName" and spec.get("clusterIP") != HEADLESS:
        return [causes.required("spec.ports")]
    found: list[Cause] = []
    seen_names: set[str] = set()
    seen_ports: set[tuple[Any, Any]] = set()
    seen_node_ports: set[tuple[Any, Any]] = set()
    for at, port in enumerate(ports):
        field = f"spec.ports[{at}]"
        found += _validate_port(port, field, seen_names, name_needed=len(ports) > 1)
        key = (port.get("protocol"), port.get("port"))
        if key in seen_ports:
            found.append(causes.duplicate(field, {"protocol": key[0], "port": key[1]}))
        seen_ports.add(key)
        node_port = port.get("nodePort")
        if not node_port:
            continue
        if kind == "ClusterIP":
            found.append(causes.forbidden(f"{field}.nodePort", "may not be used when `type` is 'ClusterIP'"))
        if (key[0], node_port) in seen_node_ports:
            found.append(causes.duplicate(f"{field}.nodePort", node_port))
        seen_node_ports.add((key[0], node_port))
    return found


def _validate_port(port: Object, field: str, seen: set[str], *, name_needed: bool) -> list[Cause]:
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
    protocol = port.get("appProtocol")
    if protocol is not None:
        found += causes.problems(f"{field}.appProtocol", protocol, names.is_qualified_name(protocol))
    return found


# ── Addresses ────────────────────────────────────────────────────────────────────────────────────────────


def _validate_external_name(spec: Object) -> list[Cause]:
    found = [
        causes.forbidden(f"spec.{shown}", "may not be set for ExternalName services")
        for name, shown in (
            ("clusterIP", "clusterIPs"),
            ("ipFamilies", "ipFamilies"),
            ("ipFamilyPolicy", "ipFamilyPolicy"),
        )
        if spec.get(name) or spec.get(shown)
    ]
    # A dot at the end marks a name as complete.
    name = (spec.get("externalName") or "").removesuffix(".")
    if not name:
        return [*found, causes.required("spec.externalName")]
    return found + causes.problems("spec.externalName", name, names.is_dns1123_subdomain(name))


def _validate_cluster_ips(spec: Object) -> list[Cause]:
    ip, ips, kind = spec.get("clusterIP") or "", spec.get("clusterIPs") or [], spec["type"]
    field = "spec.clusterIPs"
    found: list[Cause] = []
    if ips == [HEADLESS] and kind in EXTERNAL:
        text = f"may not be set to 'None' for {kind} services"
        found.append(causes.invalid_value(f"{field}[0]", HEADLESS, text))
    if ip and not ips:
        found.append(causes.required(field))
    elif ips and not ip:
        text = "must be empty when `clusterIP` is not specified"
        found.append(causes.invalid_value(field, ips, text))
    elif ips and ips[0] != ip:
        found.append(causes.invalid_value(field, ips, "first value must match `clusterIP`"))
    bad: list[Cause] = []
    for at, address in enumerate(ips):
        if at == 0 and address == HEADLESS:
            if len(ips) > 1:
                bad.append(causes.invalid_value(field, ips, "'None' must be the first and only value"))
            continue
        bad += causes.problems(f"{field}[{at}]", address, names.is_ip_address(address))
    if len(ips) > 2:
        found.append(causes.invalid_value(field, ips, "may only hold up to 2 values"))
    if bad:
        return found + bad
    return found + _validate_versions(ips, spec.get("ipFamilies") or [])


def _validate_versions(ips: list[str], families: list[str]) -> list[Cause]:
    """One address of each family, as `families` have it."""
    if ips == [HEADLESS]:
        return []
    found: list[Cause] = []
    versions = [f"IPv{ipaddress.ip_address(ip).version}" for ip in ips]
    if len(ips) > 1 and len(set(versions)) < 2:
        text = "may specify no more than one IP for each IP family"
        found.append(causes.invalid_value("spec.clusterIPs", ips, text))
    for at, (version, family) in enumerate(zip(versions, families, strict=False)):
        if version != family and family in _FAMILIES:
            text = f"expected an {family} value as indicated by `ipFamilies[{at}]`"
            found.append(causes.invalid_value(f"spec.clusterIPs[{at}]", ips[at], text))
    return found


def _validate_family_names(spec: Object) -> list[Cause]:
    families = spec.get("ipFamilies") or []
    found = causes.one_of("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), _FAMILY_POLICIES)
    for at, family in enumerate(families):
        if family not in _FAMILIES:
            found.append(causes.not_supported(f"spec.ipFamilies[{at}]", family, _FAMILIES))
        if family in families[:at]:
            found.append(causes.duplicate(f"spec.ipFamilies[{at}]", family))
    return found


def _validate_stack(spec: Object, own: str) -> list[Cause]:
    """That there are the families which are asked for."""
    policy, families = spec.get("ipFamilyPolicy"), spec.get("ipFamilies") or []
    ips: list[str] = spec.get("clusterIPs") or []
    field, found = "spec.ipFamilyPolicy", list[Cause]()
    several = "must be 'RequireDualStack' or 'PreferDualStack' when multiple {} are specified"
    if policy == "SingleStack" and len(ips) == 2:
        found.append(causes.invalid_value(field, policy, several.format("cluster IPs")))
    if policy == "SingleStack" and len(families) == 2:
        found.append(causes.invalid_value(field, policy, several.format("IP families")))
    for at, address in enumerate(ips[len(families) :], len(families)):
        if family_of(address) not in ("", own):
            text = f"{family_of(address)} is not configured on this cluster"
            found.append(causes.invalid_value(f"spec.clusterIPs[{at}]", ips, text))
    if found or (spec.get("clusterIP") == HEADLESS and not spec.get("selector")):
        return found
    if policy == "RequireDualStack":
        text = "this cluster is not configured for dual-stack services"
        found.append(causes.invalid_value(field, policy, text))
    return found + [
        causes.invalid_value(f"spec.ipFamilies[{at}]", family, "not configured on this cluster")
        for at, family in enumerate(families)
        if family != own
    ]


def _validate_kept_addresses(spec: Object, old: Object) -> list[Cause]:
    now, was = spec.get("clusterIPs") or [], old.get("clusterIPs") or []
    text = "may not change once set"
    if len(now) == len(was):
        return [
            causes.invalid_value(f"spec.clusterIPs[{at}]", now, text)
            for at, address in enumerate(was)
            if address != now[at]
        ]
    if not was:
        return []
    if not now:
        return [causes.invalid_value("spec.clusterIPs[0]", now, "primary clusterIP can not be unset")]
    found = [] if now[0] == was[0] else [causes.invalid_value("spec.clusterIPs[0]", now, text)]
    policy = spec.get("ipFamilyPolicy")
    if len(now) < len(was) and policy != "SingleStack":
        text = "must be set to 'SingleStack' when releasing the secondary clusterIP"
        found.append(causes.invalid_value("spec.ipFamilyPolicy", policy, text))
    return found


def _validate_kept_families(spec: Object, old: Object) -> list[Cause]:
    """The first family stays; a headless Service may change its mind."""
    headless = spec.get("clusterIP") == HEADLESS
    if headless or headless != (old.get("clusterIP") == HEADLESS):
        return []
    now, was = spec.get("ipFamilies") or [], old.get("ipFamilies") or []
    text = "may not change once set"
    if len(now) == len(was):
        return [
            causes.invalid_value("spec.ipFamilies[0]", now, text)
            for at, family in enumerate(was)
            if family != now[at]
        ]
    if was and now and now[0] != was[0]:
        return [causes.invalid_value("spec.ipFamilies[0]", spec.get("clusterIPs"), text)]
    return []


# ── The rest ─────────────────────────────────────────────────────────────────────────────────────────────


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


def _validate_balancer(spec: Object) -> list[Cause]:
    name = spec.get("loadBalancerClass")
    if spec["type"] == "LoadBalancer":
        if name is None:
            return []
        return causes.problems("spec.loadBalancerClass", name, names.is_qualified_name(name))
    return [
        causes.forbidden(f"spec.{field}", _ONLY_BALANCERS)
        for field in ("allocateLoadBalancerNodePorts", "loadBalancerClass")
        if spec.get(field) is not None
    ]


def _validate_source_ranges(spec: Object, annotations: Object) -> list[Cause]:
    """In the field, else in the annotation that came before it; blanks around a range are fine."""
    ranges, text = spec.get("loadBalancerSourceRanges"), annotations.get(_RANGES)
    if ranges:
        field = "spec.LoadBalancerSourceRanges"
        entries = [(f"{field}[{at}]", cidr.strip()) for at, cidr in enumerate(ranges)]
    elif text is not None:
        field = f"metadata.annotations[{_RANGES}]"
        entries = [(field, cidr.strip()) for cidr in text.split(",")] if text.strip() else []
    else:
        return []
    found = [] if spec["type"] == "LoadBalancer" else [causes.forbidden(field, _ONLY_BALANCERS)]
    for path, cidr in entries:
        found += causes.problems(path, cidr, names.is_cidr(cidr))
    return found


def _validate_policies(spec: Object) -> list[Cause]:
    kind, policy = spec["type"], spec.get("externalTrafficPolicy")
    found: list[Cause] = []
    if kind in EXTERNAL or (kind == "ClusterIP" and spec.get("externalIPs")):
        found += causes.one_of("spec.externalTrafficPolicy", policy, _POLICIES)
    elif policy:
        text = "may only be set for externally-accessible services"
        found.append(causes.invalid_value("spec.externalTrafficPolicy", policy, text))
    check = spec.get("healthCheckNodePort")
    if check and not needs_health_check_port(spec):
        text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        found.append(causes.invalid_value("spec.healthCheckNodePort", check, text))
    elif check:
        found += causes.problems("spec.healthCheckNodePort", check, names.is_port_number(check))
    found += causes.one_of("spec.internalTrafficPolicy", spec.get("internalTrafficPolicy"), _POLICIES)
    return found + causes.one_of("spec.trafficDistribution", spec.get("trafficDistribution"), _DISTRIBUTIONS)


def validate_balancer_status(status: Object, kind: str) -> list[Cause]:
    """`status.loadBalancer` of a Service of type `kind`."""
    field = "status.loadBalancer.ingress"
    entries = status.get("ingress") or ()
    if entries and kind != "LoadBalancer":
        return [causes.forbidden(field, "may only be used when `spec.type` is 'LoadBalancer'")]
    found: list[Cause] = []
    for at, entry in enumerate(entries):
        path, ip, mode = f"{field}[{at}]", entry.get("ip"), entry.get("ipMode")
        if ip:
            found += causes.problems(f"{path}.ip", ip, names.is_ip_address(ip))
        if mode is not None and not ip:
            found.append(causes.forbidden(f"{path}.ipMode", "may not be specified when `ip` is not set"))
        else:
            found += causes.one_of(f"{path}.ipMode", mode, ("Proxy", "VIP"))
        host = entry.get("hostname")
        if host:
            found += causes.problems(f"{path}.hostname", host, names.is_dns1123_subdomain(host))
            if not names.is_ip_address(host):
                text = "must be a DNS name, not an IP address"
                found.append(causes.invalid_value(f"{path}.hostname", host, text))
    return found


# ── Warnings ─────────────────────────────────────────────────────────────────────────────────────────────


def service_warnings(spec: Object, annotations: Object) -> list[str]:
    found: list[str] = []
    if TOPOLOGY_HINTS in annotations:
        found.append(f"annotation {TOPOLOGY_HINTS} is deprecated, please use {_TOPOLOGY_MODE} instead")
    kind, external = spec["type"], spec.get("externalIPs")
    headless = kind == "ClusterIP" and spec.get("clusterIP") == HEADLESS
    if headless:
        ignored = {
            "loadBalancerIP": spec.get("loadBalancerIP"),
            "externalIPs": external,
            "SessionAffinity": spec.get("sessionAffinity") != "None",
        }
        found += [f"spec.{name} is ignored for headless services" for name, given in ignored.items() if given]
    if external and kind == "ExternalName":
        found.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    elif external and not headless:
        found.append("spec.externalIPs is deprecated and may no longer be implemented in some clusters")
    if kind != "ExternalName" and spec.get("externalName"):
        found.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if spec.get("trafficDistribution") == "PreferClose":
        found.append('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"')
    return found
