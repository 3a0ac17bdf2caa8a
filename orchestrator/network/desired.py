"""From Services and EndpointSlices to the rules that the packet filter shall have. Pure.

Rules:

1. Headless Services and those of type ExternalName have no rules; nor have those whose label names another proxy.
2. A Service answers at its IPv4 cluster, external and load-balancer addresses, and at its node port. Addresses that
   this node serves itself (the cluster DNS) are left out.
3. Endpoints of a port are those of the slices' ports of the same name and protocol that are ready; where none is,
   those that still serve while they terminate; where none does, the port has none and is refused.
"""

import ipaddress
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from orchestrator.api.item import Object
from orchestrator.network.dataplane.interface import Endpoint, ServicePort

SERVICE_LABEL = "kubernetes.io/service-name"
PROXY_LABEL = "service.kubernetes.io/service-proxy-name"
AFFINITY_S = 10800
PROTOCOLS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}


@dataclass(frozen=True, slots=True)
class Served:
    """One Service's ports, and the addresses in them that are there as ready endpoints (not as a last resort)."""

    ports: tuple[ServicePort, ...] = ()
    ready: frozenset[str] = frozenset()


def served(service: Object, slices: Sequence[Object], local_addresses: Collection[str] = ()) -> Served:
    """What one Service asks of the packet filter, given its slices."""
    spec = service.get("spec") or {}
    if not _has_rules(service, spec):
        return Served()
    meta = service["metadata"]
    owner = f"{meta.get('namespace', '')}/{meta['name']}"
    addresses = tuple(a for a in _addresses(service, spec) if a not in local_addresses)
    ports: list[ServicePort] = []
    ready: set[str] = set()
    for port in spec.get("ports") or ():
        protocol = PROTOCOLS.get(port.get("protocol") or "TCP")
        if protocol is None:
            continue
        endpoints, regular = _endpoints(slices, port.get("name") or "", protocol)
        if regular:
            ready.update(endpoint.address for endpoint in endpoints)
        entry = _entry(owner, port, protocol, addresses, endpoints, affinity_s(spec), _node_port(spec, port))
        if entry.addresses or entry.node_port:
            ports.append(entry)
    return Served(tuple(ports), frozenset(ready))


def affinity_s(spec: Object) -> int:
    """Seconds that a client stays at its endpoint; 0 without session affinity."""
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return int(config.get("timeoutSeconds") or AFFINITY_S)


def _entry(
    owner: str,
    port: Mapping[str, object],
    protocol: str,
    addresses: tuple[str, ...],
    endpoints: tuple[Endpoint, ...],
    sticky_s: int,
    node_port: int,
) -> ServicePort:
    return ServicePort(
        name=f"{owner}:{port.get('name') or ''}",
        protocol=cast("Literal['tcp', 'udp', 'sctp']", protocol),
        addresses=addresses,
        port=cast("int", port["port"]),
        endpoints=endpoints,
        node_port=node_port,
        affinity_s=sticky_s,
    )


def _has_rules(service: Object, spec: Object) -> bool:
    if spec.get("type") == "ExternalName" or spec.get("clusterIP") in (None, "", "None"):
        return False
    return PROXY_LABEL not in (service["metadata"].get("labels") or {})


def _addresses(service: Object, spec: Object) -> Iterator[str]:
    """Each IPv4 address once, cluster addresses first."""
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    every = [
        *(spec.get("clusterIPs") or (spec["clusterIP"],)),
        *(spec.get("externalIPs") or ()),
        *(entry.get("ip", "") for entry in ingress if entry.get("ipMode", "VIP") == "VIP"),
    ]
    yield from (address for address in dict.fromkeys(every) if is_ipv4(address))


def _node_port(spec: Object, port: Mapping[str, object]) -> int:
    if spec.get("type") not in ("NodePort", "LoadBalancer"):
        return 0
    return cast("int", port.get("nodePort") or 0)


def _endpoints(slices: Sequence[Object], name: str, protocol: str) -> tuple[tuple[Endpoint, ...], bool]:
    """(endpoints of a port, whether they are ready ones rather than the last resort), sorted."""
    ready: set[Endpoint] = set()
    leaving: set[Endpoint] = set()
    for endpoint_slice in slices:
        if endpoint_slice.get("addressType") != "IPv4":
            continue
        for number in _numbers(endpoint_slice, name, protocol):
            for endpoint in endpoint_slice.get("endpoints") or ():
                target = _target_set(endpoint.get("conditions") or {}, ready, leaving)
                if target is not None:
                    target.update(Endpoint(a, number) for a in endpoint.get("addresses") or () if is_ipv4(a))
    return tuple(sorted(ready or leaving)), bool(ready)


def _numbers(endpoint_slice: Object, name: str, protocol: str) -> Iterator[int]:
    for port in endpoint_slice.get("ports") or ():
        same = (port.get("name") or "") == name and PROTOCOLS.get(port.get("protocol") or "TCP") == protocol
        if same and port.get("port"):
            yield port["port"]


def _target_set(
    conditions: Mapping[str, bool | None], ready: set[Endpoint], leaving: set[Endpoint]
) -> set[Endpoint] | None:
    """Where an endpoint of these conditions belongs; an absent `ready` means ready."""
    if conditions.get("ready") is not False:
        return ready
    if conditions.get("terminating") and conditions.get("serving"):
        return leaving
    return None


def is_ipv4(text: str) -> bool:
    """Whether `text` is an IPv4 address in its usual notation."""
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
