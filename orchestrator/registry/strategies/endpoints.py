"""Endpoints and EndpointSlices."""

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.addresses import validate_plain_address
from orchestrator.registry.strategies.base import BaseStrategy, filled

_PROTOCOLS = ("TCP", "UDP", "SCTP")
_ADDRESS_TYPES = ("IPv4", "IPv6", "FQDN")
_ENDPOINTS_MAX = 1000
_ADDRESSES_MAX = 100
_PORTS_MAX = 20_000


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
                    found += validate_plain_address(entry.get("ip", ""), f"{path}.{field}[{nth}].ip")
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


def _validate_port(port: Object, field: str, *, name_needed: bool) -> list[Cause]:
    found: list[Cause] = []
    name = port.get("name")
    if name:
        found += causes.problems(f"{field}.name", name, names.is_dns1123_label(name))
    elif name_needed:
        found.append(causes.required(f"{field}.name"))
    found += causes.problems(f"{field}.port", port.get("port", 0), names.is_port_number(port.get("port", 0)))
    return found + causes.one_of(f"{field}.protocol", port.get("protocol"), _PROTOCOLS)


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
            found += causes.problems(path, address, names.is_dns1123_subdomain(address))
            continue
        problems = validate_plain_address(address, path)
        found += problems
        if not problems and (":" in address) != (kind == "IPv6"):
            found.append(causes.invalid_value(path, address, f"must be an {kind} address"))
    if endpoint.get("hostname"):
        found += causes.problems(
            f"{field}.hostname", endpoint["hostname"], names.is_dns1123_label(endpoint["hostname"])
        )
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
    return found
