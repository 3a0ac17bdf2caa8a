"""The names that one Service has in the cluster zone. Pure; the rules are those of Kubernetes' DNS specification 1.1.

1. `svc.ns.svc.zone`: the cluster addresses; headless: the ready endpoints (all with publishNotReadyAddresses).
2. `_port._proto.svc.ns.svc.zone` SRV for each named port; asked at the Service's own name, SRV tells all ports.
3. Headless: `host.svc.ns.svc.zone` per endpoint, host being its hostname, else its address with dashes.
4. ExternalName: CNAME at the Service's name.
5. PTR of cluster addresses to the Service, of headless endpoints to their own names.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from orchestrator.api.item import Object
from orchestrator.network.desired import is_ipv4
from orchestrator.network.dns import wire


@dataclass(slots=True)
class Names:
    """Name → type → data, in lower case text without the last dot."""

    records: dict[str, dict[int, list[bytes]]] = field(default_factory=dict)
    pointers: dict[str, list[bytes]] = field(default_factory=dict)
    """Reverse name → data of PTR; several Services may share one address."""

    def add(self, name: str, kind: int, data: bytes) -> None:
        datas = self.records.setdefault(name, {}).setdefault(kind, [])
        if data not in datas:
            datas.append(data)

    def point(self, address: str, name: str) -> None:
        datas = self.pointers.setdefault(reverse_name(address), [])
        if (data := wire.encode_name(name)) not in datas:
            datas.append(data)


def service_names(service: Object, slices: Sequence[Object], domain: str) -> Names:
    """All names of one Service. What can't be a DNS name is left out."""
    names = Names()
    meta, spec = service["metadata"], service.get("spec") or {}
    base = f"{meta['name']}.{meta.get('namespace', '')}.svc.{domain}".lower()
    if spec.get("type") == "ExternalName":
        _external(names, base, spec.get("externalName") or "")
    elif spec.get("clusterIP") == "None":
        _headless(names, base, spec, slices)
    elif spec.get("clusterIP"):
        _cluster(names, base, spec)
    return names


def reverse_name(address: str) -> str:
    """`10.42.0.5` → `5.0.42.10.in-addr.arpa`."""
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa"


def address_of_reverse(name: str) -> str:
    """The address of a reverse name, empty when it is none."""
    if not name.endswith(".in-addr.arpa"):
        return ""
    address = ".".join(reversed(name.removesuffix(".in-addr.arpa").split(".")))
    return address if is_ipv4(address) else ""


def _external(names: Names, base: str, target: str) -> None:
    try:
        names.add(base, wire.CNAME, wire.encode_name(target.rstrip(".").lower()))
    except wire.FormatError:
        return


def _cluster(names: Names, base: str, spec: Object) -> None:
    names.records[base] = {}
    for address in spec.get("clusterIPs") or (spec["clusterIP"],):
        if is_ipv4(address):
            names.add(base, wire.A, wire.a_data(address))
            names.point(address, base)
    for port in spec.get("ports") or ():
        _service_port(names, base, port.get("name"), port.get("protocol"), port["port"], base)


def _headless(names: Names, base: str, spec: Object, slices: Sequence[Object]) -> None:
    names.records[base] = {}
    everyone = bool(spec.get("publishNotReadyAddresses"))
    for endpoint_slice in slices:
        if endpoint_slice.get("addressType") != "IPv4":
            continue
        for address, hostname in _hosts(endpoint_slice, everyone):
            host = f"{hostname or address.replace('.', '-')}.{base}".lower()
            names.add(base, wire.A, wire.a_data(address))
            names.add(host, wire.A, wire.a_data(address))
            names.point(address, host)
            for port in endpoint_slice.get("ports") or ():
                if port.get("port"):
                    _service_port(names, base, port.get("name"), port.get("protocol"), port["port"], host)


def _hosts(endpoint_slice: Object, everyone: bool) -> Iterator[tuple[str, str]]:
    """(address, hostname or empty) of the endpoints to publish."""
    for endpoint in endpoint_slice.get("endpoints") or ():
        ready = (endpoint.get("conditions") or {}).get("ready") is not False
        if ready or everyone:
            for address in endpoint.get("addresses") or ():
                if is_ipv4(address):
                    yield address, endpoint.get("hostname") or ""


def _service_port(
    names: Names, base: str, port_name: str | None, protocol: str | None, port: int, target: str
) -> None:
    data = wire.srv_data(port, target)
    names.add(base, wire.SRV, data)
    if port_name:
        names.add(f"_{port_name}._{protocol or 'TCP'}.{base}".lower(), wire.SRV, data)
