"""NetworkPolicies, and the kinds that say which addresses Services have: IPAddress and ServiceCIDR."""

import ipaddress

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy
from orchestrator.registry.strategies.label_selectors import validate_label_selector

_PROTOCOLS = ("SCTP", "TCP", "UDP")
_TYPES = ("Egress", "Ingress")


class NetworkPolicyStrategy(BaseStrategy):
    counts_generation = True

    def default(self, obj: Object) -> Object:
        spec = {"podSelector": {}, **(obj.get("spec") or {})}
        if not spec.get("policyTypes"):
            spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
        for side in ("ingress", "egress"):
            if spec.get(side):
                spec[side] = [_default_rule(rule) for rule in spec[side]]
        return {**obj, "spec": spec}

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        spec = new["spec"]
        found = validate_label_selector(spec.get("podSelector"), "spec.podSelector")
        for side, peers in (("ingress", "from"), ("egress", "to")):
            for at, rule in enumerate(spec.get(side) or ()):
                path = f"spec.{side}[{at}]"
                for place, port in enumerate(rule.get("ports") or ()):
                    found += _validate_port(port, f"{path}.ports[{place}]")
                for place, peer in enumerate(rule.get(peers) or ()):
                    found += _validate_peer(peer, f"{path}.{peers}[{place}]")
        return found + _validate_types(spec["policyTypes"])


class IPAddressStrategy(BaseStrategy):
    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        parent = (new.get("spec") or {}).get("parentRef")
        field = "spec.parentRef"
        if old is not None:
            return causes.immutable(field, parent, (old.get("spec") or {}).get("parentRef"))
        if parent is None:
            return [causes.required(field)]
        found: list[Cause] = []
        if parent.get("group"):
            found += causes.problems(
                f"{field}.group", parent["group"], names.is_dns1123_subdomain(parent["group"])
            )
        for name in ("resource", "name", "namespace"):
            value = parent.get(name) or ""
            if value:
                found += causes.problems(f"{field}.{name}", value, names.is_path_segment(value))
            elif name != "namespace":
                found.append(causes.required(f"{field}.{name}"))
        return found


class ServiceCIDRStrategy(BaseStrategy):
    """Ranges stay as they are; one of the other family may be added."""

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        cidrs: list[str] = (new.get("spec") or {}).get("cidrs") or []
        if old is None:
            return _validate_cidrs(cidrs)
        before: list[str] = (old.get("spec") or {}).get("cidrs") or []
        if len(before) == 1 and len(cidrs) == 2:
            found = causes.immutable("spec.cidrs[0]", cidrs[0], before[0])
            return found + _validate_cidrs(cidrs)
        if len(before) != len(cidrs):
            return [causes.invalid_value("spec.cidrs", cidrs, "field is immutable")]
        pairs = enumerate(zip(cidrs, before, strict=True))
        return [
            cause for at, (now, was) in pairs for cause in causes.immutable(f"spec.cidrs[{at}]", now, was)
        ]


def _default_rule(rule: Object) -> Object:
    ports = rule.get("ports")
    if not ports or all(port.get("protocol") for port in ports):
        return rule
    return {**rule, "ports": [{"protocol": "TCP", **port} for port in ports]}


def _validate_port(port: Object, field: str) -> list[Cause]:
    number, end = port.get("port"), port.get("endPort")
    found = causes.one_of(f"{field}.protocol", port.get("protocol"), _PROTOCOLS)
    if isinstance(number, int):
        found += causes.problems(f"{field}.port", number, names.is_port_number(number))
        if end is not None:
            if end < number:
                text = "must be greater than or equal to `port`"
                found.append(causes.invalid_value(f"{field}.endPort", end, text))
            found += causes.problems(f"{field}.endPort", end, names.is_port_number(end))
        return found
    if end is not None:
        state = "not specified" if number is None else "non-numeric"
        text = f"may not be specified when `port` is {state}"
        found.append(causes.invalid_value(f"{field}.endPort", end, text))
    if number is not None:
        found += causes.problems(f"{field}.port", number, names.is_port_name(number))
    return found


def _validate_peer(peer: Object, field: str) -> list[Cause]:
    kinds = [kind for kind in ("podSelector", "namespaceSelector", "ipBlock") if peer.get(kind) is not None]
    found: list[Cause] = []
    for kind in kinds:
        if kind == "ipBlock":
            found += _validate_block(peer[kind], f"{field}.ipBlock")
        else:
            found += validate_label_selector(peer[kind], f"{field}.{kind}")
    if not kinds:
        found.append(causes.required(field, "must specify a peer"))
    elif len(kinds) > 1 and "ipBlock" in kinds:
        found.append(causes.forbidden(field, "may not specify both ipBlock and another peer"))
    return found


def _validate_block(block: Object, field: str) -> list[Cause]:
    cidr: str = block.get("cidr") or ""
    if not cidr:
        return [causes.required(f"{field}.cidr")]
    found = causes.problems(f"{field}.cidr", cidr, names.is_cidr(cidr))
    if found:
        return found
    outer = ipaddress.ip_interface(cidr).network
    for at, text in enumerate(block.get("except") or ()):
        path, problems = f"{field}.except[{at}]", names.is_cidr(text)
        found += causes.problems(path, text, problems)
        if not problems:
            inner = ipaddress.ip_interface(text).network
            inside = inner.version == outer.version and inner.network_address in outer
            if not inside or outer.prefixlen >= inner.prefixlen:
                found.append(causes.invalid_value(path, text, "must be a strict subset of `cidr`"))
    return found


def _validate_types(types: list[str]) -> list[Cause]:
    if len(types) > len(_TYPES):
        return [causes.invalid_value("spec.policyTypes", types, "may not specify more than two policyTypes")]
    return [
        causes.not_supported(f"spec.policyTypes[{at}]", kind, _TYPES)
        for at, kind in enumerate(types)
        if kind not in _TYPES
    ]


def _validate_cidrs(cidrs: list[str]) -> list[Cause]:
    if not cidrs:
        return [causes.required("spec.cidrs", "at least one CIDR required")]
    if len(cidrs) > 2:
        return [causes.invalid_value("spec.cidrs", {"cidrs": cidrs}, "may only hold up to 2 values")]
    found: list[Cause] = []
    for at, cidr in enumerate(cidrs):
        found += causes.problems(f"spec.cidrs[{at}]", cidr, names.is_strict_cidr(cidr))
    if not found and len({ipaddress.ip_network(cidr).version for cidr in cidrs}) != len(cidrs):
        text = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        found.append(causes.invalid_value("spec.cidrs", cidrs, text))
    return found
