"""Services: defaults, what a change of type releases, cluster IPs and node ports.

Rules:
1. Every type but ExternalName has a cluster IP, or `None` when headless; once set it stays.
2. NodePort and LoadBalancer ports have node ports; a port keeps its own over updates, and the same port
   over two protocols shares one.
3. What a new type does not need is dropped, unless the client changed it in the same write.
4. An address or port belongs to one Service; the store's transaction over `claims` decides who.
"""

import ipaddress
import random
from collections.abc import Iterable

from orchestrator.api.errors import Cause, Invalid, invalid
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import SERVICES, Resource
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy, filled
from orchestrator.registry.strategies.service_changes import (
    EXTERNAL,
    HEADLESS,
    draws_node_ports,
    needs_cluster_ip,
    needs_health_check_port,
    settled,
    with_families,
)
from orchestrator.registry.strategies.service_ranges import ip_pool, port_pool
from orchestrator.registry.strategies.service_rules import (
    service_warnings,
    validate_balancer_status,
    validate_service,
    validate_service_update,
)
from orchestrator.registry.strategy import IsTaken

_TIMEOUT_S = 10_800

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ServiceStrategy(BaseStrategy):
    """`service_cidr` and `node_ports` are the ranges to hand out from."""

    def __init__(
        self, service_cidr: str, node_ports: range, rng: random.Random, resource: Resource = SERVICES
    ) -> None:
        super().__init__(resource)
        self._network = ipaddress.ip_network(service_cidr)
        self._family = f"IPv{self._network.version}"
        self._ports = node_ports
        self._rng = rng
        self._ip_pool = ip_pool(self._network, rng)
        self._more: dict[str, list[Network]] = {}
        self._port_pool = port_pool(node_ports, rng)

    def range_changed(self, old: Item | None, new: Item | None) -> None:
        """A ServiceCIDR came, changed or went: its ranges of our family are handed out from, too, while it stays."""
        name = (new or old).meta.name  # type: ignore[union-attr]  # one of them is there
        self._more.pop(name, None)
        if new is None or new.meta.deletion_timestamp:
            return
        cidrs = (new.object.get("spec") or {}).get("cidrs") or ()
        found = [ipaddress.ip_network(cidr, strict=False) for cidr in cidrs]
        wanted = [n for n in found if n.version == self._network.version and n != self._network]
        if wanted:
            self._more[name] = wanted

    def _networks(self) -> list[Network]:
        return [self._network, *(network for networks in self._more.values() for network in networks)]

    def initial_status(self, obj: Object) -> Object:
        return {"loadBalancer": {}}

    def default(self, obj: Object) -> Object:
        return {**obj, "spec": _default_spec(obj.get("spec") or {})}

    def prepare_create(self, obj: Object) -> Object:
        obj = super().prepare_create(obj)
        spec = obj["spec"]
        if spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec = {**spec, "clusterIPs": [spec["clusterIP"]]}
        return {**obj, "spec": with_families(spec, None, self._family)}

    def settle_update(self, new: Object, old: Object) -> Object:
        """What the client left out stays, what the new type does not need goes."""
        before = old.get("spec") or {}
        spec = with_families(settled(new["spec"], before), before, self._family)
        new = {**new, "spec": spec}
        if spec["type"] != "LoadBalancer" and (new.get("status") or {}).get("loadBalancer"):
            new["status"] = {**new["status"], "loadBalancer": {}}
        return new

    def status_update(self, new: Object, old: Object) -> Object:
        result = super().status_update(new, old)
        status = result.get("status") or {}
        entries = (status.get("loadBalancer") or {}).get("ingress")
        if not entries:
            return result
        entries = [filled(entry, {"ipMode": "VIP"}) if entry.get("ip") else entry for entry in entries]
        balancer = {**status["loadBalancer"], "ingress": entries}
        return {**result, "status": {**status, "loadBalancer": balancer}}

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        spec, annotations = new["spec"], new["metadata"].get("annotations") or {}
        found = [] if old is None else validate_service_update(spec, old.get("spec") or {})
        return found + validate_service(spec, annotations, self._family)

    def validate_status(self, new: Object, old: Object) -> list[Cause]:
        balancer = (new.get("status") or {}).get("loadBalancer") or {}
        return validate_balancer_status(balancer, (new.get("spec") or {}).get("type") or "")

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        if "spec" not in new:
            return []
        return service_warnings(new["spec"], new["metadata"].get("annotations") or {})

    def claims(self, obj: Object) -> frozenset[str]:
        spec = obj.get("spec") or {}
        keys = [self._ip_pool.key(ip) for ip in _cluster_ips(spec) if ip]
        keys += [self._port_pool.key(str(port)) for port in _node_ports(spec)]
        return frozenset(keys)

    async def allocate(self, new: Object, old: Object | None, is_taken: IsTaken) -> Object:
        mine = set(self.claims(old)) if old is not None else set()
        spec = new["spec"]
        if needs_cluster_ip(spec):
            spec = await self._allocate_ip(new, spec, is_taken, mine)
        if spec["type"] in EXTERNAL:
            spec = await self._allocate_ports(new, spec, is_taken, mine)
        return new if spec is new["spec"] else {**new, "spec": spec}

    async def _allocate_ip(self, obj: Object, spec: Object, is_taken: IsTaken, mine: set[str]) -> Object:
        asked = spec.get("clusterIP")
        if asked == HEADLESS:
            return spec
        if asked:
            if self._ip_pool.key(asked) not in mine:
                await self._check_ip(obj, asked, is_taken)
            return spec
        for network in self._networks():
            pool = self._ip_pool if network is self._network else ip_pool(network, self._rng)
            address = await pool.draw(is_taken, set())
            if address is not None:
                return {**spec, "clusterIP": address, "clusterIPs": [address]}
        why = "failed to allocate a serviceIP: range is full"
        raise _refused(obj, causes.invalid_value("spec.clusterIPs", [], why))

    async def _check_ip(self, obj: Object, asked: str, is_taken: IsTaken) -> None:
        address = ipaddress.ip_address(asked)
        networks = self._networks()
        why = ""
        if not any(_is_usable(address, network) for network in networks):
            valid = ", ".join(map(str, networks))
            why = f"the provided IP ({asked}) is not in the valid range. The range of valid IPs is {valid}"
        elif await is_taken(self._ip_pool.key(asked)):
            why = "provided IP is already allocated"
        if why:
            text = f"failed to allocate IP {asked}: {why}"
            raise _refused(obj, causes.invalid_value("spec.clusterIPs", [asked], text))

    async def _allocate_ports(self, obj: Object, spec: Object, is_taken: IsTaken, mine: set[str]) -> Object:
        held: set[str] = set()
        result = dict(spec)
        await self._check_ports(obj, spec, is_taken, mine, held)
        if draws_node_ports(spec):
            shared = {
                port["port"]: port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")
            }
            ports = []
            for port in spec.get("ports") or ():
                node_port = port.get("nodePort") or shared.get(port["port"])
                if not node_port:
                    node_port = await self._draw_port(obj, is_taken, held, mine)
                shared[port["port"]] = node_port
                ports.append({**port, "nodePort": node_port})
            result["ports"] = ports
        if needs_health_check_port(spec) and not spec.get("healthCheckNodePort"):
            result["healthCheckNodePort"] = await self._draw_port(obj, is_taken, held, mine)
        return result

    async def _check_ports(
        self, obj: Object, spec: Object, is_taken: IsTaken, mine: set[str], held: set[str]
    ) -> None:
        """Ports asked for by number; adds them to `held`."""
        asked = [
            (f"spec.ports[{at}].nodePort", port["nodePort"])
            for at, port in enumerate(spec.get("ports") or ())
            if port.get("nodePort")
        ]
        if needs_health_check_port(spec) and spec.get("healthCheckNodePort"):
            asked.append(("spec.healthCheckNodePort", spec["healthCheckNodePort"]))
        for field, number in asked:
            key = self._port_pool.key(str(number))
            if key not in mine and key not in held:
                if number not in self._ports:
                    valid = f"{self._ports.start}-{self._ports.stop - 1}"
                    text = f"provided port is not in the valid range. The range of valid ports is {valid}"
                    raise _refused(obj, causes.invalid_value(field, number, text))
                if await is_taken(key):
                    text = "provided port is already allocated"
                    raise _refused(obj, causes.invalid_value(field, number, text))
            held.add(key)

    async def _draw_port(self, obj: Object, is_taken: IsTaken, held: set[str], mine: set[str]) -> int:
        text = await self._port_pool.draw(is_taken, held | mine)
        if text is None:
            why = "failed to allocate a nodePort: range is full"
            raise _refused(obj, causes.invalid_value("spec.ports", [], why))
        held.add(self._port_pool.key(text))
        return int(text)


def _is_usable(address: ipaddress.IPv4Address | ipaddress.IPv6Address, network: Network) -> bool:
    """The network's own address and, in IPv4, the broadcast address are nobody's."""
    last = address.version == 4 and address == network.broadcast_address
    return address in network and address != network.network_address and not last


def _refused(obj: Object, cause: Cause) -> Invalid:
    return invalid("", "Service", obj["metadata"].get("name", ""), (cause,))


def _cluster_ips(spec: Object) -> list[str]:
    """The addresses a Service holds."""
    if not needs_cluster_ip(spec):
        return []
    ips: Iterable[str] = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else ())
    return [ip for ip in ips if ip != HEADLESS]


def _node_ports(spec: Object) -> list[int]:
    """The node ports a Service holds, that of its health check included."""
    if spec.get("type") not in EXTERNAL:
        return []
    ports = [port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")]
    check = spec.get("healthCheckNodePort")
    return [*ports, check] if check else ports


# ── Defaults and updates ─────────────────────────────────────────────────────────────────────────────────


def _default_spec(spec: Object) -> Object:
    result = filled(spec, {"type": "ClusterIP", "sessionAffinity": "None"})
    if result["sessionAffinity"] == "None":
        result.pop("sessionAffinityConfig", None)
    elif result["sessionAffinity"] == "ClientIP":
        client = ((result.get("sessionAffinityConfig") or {}).get("clientIP")) or {}
        result["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": _TIMEOUT_S, **client}}
    if spec.get("ports"):
        result["ports"] = [_default_port(port) for port in spec["ports"]]
    kind = result["type"]
    if kind in EXTERNAL or (kind == "ClusterIP" and result.get("externalIPs")):
        result.setdefault("externalTrafficPolicy", "Cluster")
    if kind != "ExternalName":
        result.setdefault("internalTrafficPolicy", "Cluster")
    if kind == "LoadBalancer":
        result.setdefault("allocateLoadBalancerNodePorts", True)
    return result


def _default_port(port: Object) -> Object:
    result = filled(port, {"protocol": "TCP"})
    if not result.get("targetPort"):
        result["targetPort"] = port.get("port")
    return result
