"""Endpoints and EndpointSlices."""

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.addresses import validate_plain_address
from orchestrator.registry.strategies.base import BaseStrategy, filled
from orchestrator.registry.strategies.meta import validate_labels

_PROTOCOLS = ("TCP", "UDP", "SCTP")
_ADDRESS_TYPES = ("IPv4", "IPv6", "FQDN")
_ENDPOINTS_MAX = 1000
_ADDRESSES_MAX = 100
_PORTS_MAX = 20_000
_TOPOLOGY_MAX = 16
_ZONES_MAX = 8


class EndpointsStrategy(BaseStrategy):
    def default(self, obj: Object) -> Object:
        if not obj.get("subsets"):
            return obj
        return {**obj, "subsets": [_default_ports(subset) for subset in obj["subsets"]]}

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        if old is not None and new.get("subsets") == old.get("subsets"):
            return []
        found: list[Cause] = []
        for at, subset in enumerate(new.get("subsets") or ()):
            path = f"subsets[{at}]"
            if not subset.get("addresses") and not subset.get("notReadyAddresses"):
                found.append(causes.required(path, "must specify `addresses` or `notReadyAddresses`"))
            for field in ("addresses", "notReadyAddresses"):
                for nth, entry in enumerate(subset.get(field) or ()):
                    found += _validate_address(entry, f"{path}.{field}[{nth}]")
            ports = subset.get("ports") or ()
            for nth, port in enumerate(ports):
                found += _validate_port(port, f"{path}.ports[{nth}]", name_needed=len(ports) > 1)
        return found


class EndpointSliceStrategy(BaseStrategy):
    counts_generation = True

    def default(self, obj: Object) -> Object:
        if not obj.get("ports"):
            return obj
        ports = [filled(port, {"name": "", "protocol": "TCP"}) for port in obj["ports"]]
        return {**obj, "ports": ports}

    def desired_changed(self, new: Object, old: Object) -> bool:
        return any(new.get(field) != old.get(field) for field in ("endpoints", "ports", "addressType"))

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        kind = new.get("addressType")
        if not kind:
            found = [causes.required("addressType")]
        else:
            found = causes.one_of("addressType", kind, _ADDRESS_TYPES)
        if old is not None:
            found += causes.immutable("addressType", kind, old.get("addressType"))
            if new.get("endpoints") == old.get("endpoints") and new.get("ports") == old.get("ports"):
                return found
        endpoints = new.get("endpoints") or ()
        if len(endpoints) > _ENDPOINTS_MAX:
            return [*found, causes.too_many("endpoints", len(endpoints), _ENDPOINTS_MAX)]
        for at, endpoint in enumerate(endpoints):
            found += _validate_endpoint(endpoint, f"endpoints[{at}]", kind or "")
        return found + _validate_slice_ports(new.get("ports") or ())


def _default_ports(subset: Object) -> Object:
    if not subset.get("ports"):
        return subset
    return {**subset, "ports": [filled(port, {"protocol": "TCP"}) for port in subset["ports"]]}


def _validate_address(entry: Object, field: str) -> list[Cause]:
    found = validate_plain_address(entry.get("ip") or "", f"{field}.ip")
    host, node = entry.get("hostname"), entry.get("nodeName")
    if host:
        found += causes.problems(f"{field}.hostname", host, names.is_dns1123_label(host))
    if node is not None:
        found += causes.problems(f"{field}.nodeName", node, names.is_dns1123_subdomain(node))
    return found


def _validate_port(port: Object, field: str, *, name_needed: bool) -> list[Cause]:
    found: list[Cause] = []
    name = port.get("name")
    if name:
        found += causes.problems(f"{field}.name", name, names.is_dns1123_label(name))
    elif name_needed:
        found.append(causes.required(f"{field}.name"))
    found += causes.problems(f"{field}.port", port.get("port", 0), names.is_port_number(port.get("port", 0)))
    found += causes.one_of(f"{field}.protocol", port.get("protocol"), _PROTOCOLS)
    return found + _validate_app_protocol(port, field)


def _validate_app_protocol(port: Object, field: str) -> list[Cause]:
    name = port.get("appProtocol")
    if name is None:
        return []
    return causes.problems(f"{field}.appProtocol", name, names.is_qualified_name(name))


def _validate_endpoint(endpoint: Object, field: str, kind: str) -> list[Cause]:
    addresses = endpoint.get("addresses")
    if not addresses:
        return [causes.required(f"{field}.addresses", "must contain at least 1 address")]
    if len(addresses) > _ADDRESSES_MAX:
        return [causes.too_many(f"{field}.addresses", len(addresses), _ADDRESSES_MAX)]
    found: list[Cause] = []
    for at, address in enumerate(addresses):
        path = f"{field}.addresses[{at}]"
        if kind == "FQDN":
            found += _validate_domain(address, path)
            continue
        problems = validate_plain_address(address, path)
        found += problems
        if not problems and (":" in address) != (kind == "IPv6"):
            found.append(causes.invalid_value(path, address, f"must be an {kind} address"))
    host = endpoint.get("hostname")
    if host:
        found += causes.problems(f"{field}.hostname", host, names.is_dns1123_label(host))
    if endpoint.get("hints") or endpoint.get("deprecatedTopology"):
        found += _validate_topology(endpoint, field)
    return found


def _validate_domain(name: str, field: str) -> list[Cause]:
    if not name:
        return [causes.required(field)]
    found = causes.problems(field, name, names.is_dns1123_subdomain(name.removesuffix(".")))
    if not found and "." not in name.removesuffix("."):
        text = "should be a domain with at least two segments separated by dots"
        found.append(causes.invalid_value(field, name, text))
    return found


def _validate_topology(endpoint: Object, field: str) -> list[Cause]:
    """Where an endpoint is, in the old form, and for whom it is meant."""
    labels, zones = (
        endpoint.get("deprecatedTopology") or {},
        (endpoint.get("hints") or {}).get("forZones") or [],
    )
    found: list[Cause] = []
    if len(labels) > _TOPOLOGY_MAX:
        found.append(causes.too_many(f"{field}.deprecatedTopology", len(labels), _TOPOLOGY_MAX))
    found += validate_labels(labels, f"{field}.deprecatedTopology")
    path = f"{field}.hints.forZones"
    if len(zones) > _ZONES_MAX:
        found.append(causes.too_many(path, len(zones), _ZONES_MAX))
    seen: set[str] = set()
    for at, zone in enumerate(zones):
        name = zone.get("name") or ""
        if not name:
            found.append(causes.required(f"{path}[{at}].name"))
        elif name in seen:
            found.append(causes.duplicate(f"{path}[{at}].name", name))
        seen.add(name)
    return found


def _validate_slice_ports(ports: tuple[Object, ...] | list[Object]) -> list[Cause]:
    if len(ports) > _PORTS_MAX:
        return [causes.too_many("ports", len(ports), _PORTS_MAX)]
    found: list[Cause] = []
    seen: set[str] = set()
    for at, port in enumerate(ports):
        name = port.get("name") or ""
        if name:
            found += causes.problems(f"ports[{at}].name", name, names.is_dns1123_label(name))
        if name in seen:
            found.append(causes.duplicate(f"ports[{at}].name", name))
        seen.add(name)
        found += causes.one_of(f"ports[{at}].protocol", port.get("protocol"), _PROTOCOLS)
        if port.get("port") is not None:
            found += causes.problems(f"ports[{at}].port", port["port"], names.is_port_number(port["port"]))
        found += _validate_app_protocol(port, f"ports[{at}]")
    return found
