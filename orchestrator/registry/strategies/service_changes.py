"""What an update of a Service leaves unsaid: what stays of before, and what a new type no longer needs. Pure.

Rules:
1. `clusterIP` and `clusterIPs` say the same; a client may know only the first.
2. Addresses and ports that were given out stay with a client that does not name them; a node port goes by the
   name of its port.
3. What a new type does not need is dropped, unless the client changed it in the same write: then it is refused.

Called by `services`. Source: core/v1's service storage of Kubernetes v1.36.
"""

from orchestrator.api.item import Object
from orchestrator.registry.strategies.base import with_field

EXTERNAL = ("NodePort", "LoadBalancer")
HEADLESS = "None"
_WITH_ADDRESS = ("ClusterIP", "NodePort", "LoadBalancer")
_OF_TYPES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("externalTrafficPolicy", EXTERNAL),
    ("allocateLoadBalancerNodePorts", ("LoadBalancer",)),
    ("loadBalancerClass", ("LoadBalancer",)),
    ("ipFamilies", _WITH_ADDRESS),
    ("ipFamilyPolicy", _WITH_ADDRESS),
)


def needs_cluster_ip(spec: Object) -> bool:
    return spec.get("type") != "ExternalName"


def draws_node_ports(spec: Object) -> bool:
    """Whether ports without a node port are given one."""
    return spec.get("type") == "NodePort" or (
        spec.get("type") == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False
    )


def needs_health_check_port(spec: Object) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def settled(spec: Object, before: Object) -> Object:
    """`spec` with what it leaves unsaid; both with defaults, families apart."""
    spec = _with_addresses(spec, before)
    spec = _with_node_ports(spec, before)
    check = before.get("healthCheckNodePort")
    if needs_health_check_port(before) and check:
        if needs_health_check_port(spec):
            spec = spec if spec.get("healthCheckNodePort") else {**spec, "healthCheckNodePort": check}
        elif spec.get("healthCheckNodePort") == check:
            spec = with_field(spec, "healthCheckNodePort", None)
    for field, types in _OF_TYPES:
        if before.get("type") in types and spec["type"] not in types and spec.get(field) == before.get(field):
            spec = with_field(spec, field, None)
    return spec


def _with_addresses(spec: Object, before: Object) -> Object:
    was, were = before.get("clusterIP") or "", before.get("clusterIPs") or []
    now, all_now = spec.get("clusterIP") or "", spec.get("clusterIPs") or []
    if were and not all_now and now == was:
        all_now = were
    elif now != was and all_now in ([], were):
        all_now = [now] if now else []
    if needs_cluster_ip(spec) and needs_cluster_ip(before):
        now, all_now = now or was, all_now or were
    elif needs_cluster_ip(before) and (now, all_now) == (was, were):
        now, all_now = "", []
    spec = with_field(spec, "clusterIP", now or None)
    return with_field(spec, "clusterIPs", all_now or None)


def _with_node_ports(spec: Object, before: Object) -> Object:
    if before.get("type") not in EXTERNAL or not spec.get("ports"):
        return spec
    held = {port.get("name") or "": port.get("nodePort") for port in before.get("ports") or ()}
    kept = {port.get("nodePort") for port in spec["ports"] if port.get("nodePort")}
    if spec["type"] in EXTERNAL:
        used = kept & set(held.values())
        ports = [
            port
            if port.get("nodePort") or held.get(port.get("name") or "") in used
            else with_field(port, "nodePort", held.get(port.get("name") or ""))
            for port in spec["ports"]
        ]
        return {**spec, "ports": ports}
    if kept and kept <= set(held.values()):
        return {**spec, "ports": [with_field(port, "nodePort", None) for port in spec["ports"]]}
    return spec


def with_families(spec: Object, before: Object | None, own: str) -> Object:
    """`spec` with its policy and families; `own` is the one family that addresses are given of."""
    if not needs_cluster_ip(spec):
        return spec
    bare = spec.get("clusterIP") == HEADLESS and not spec.get("selector")
    policy = spec.get("ipFamilyPolicy") or (before or {}).get("ipFamilyPolicy")
    if not policy:
        # Who resolves a name without pods of ours behind it is told of both families.
        policy = "RequireDualStack" if bare else "SingleStack"
    families = list(spec.get("ipFamilies") or (before or {}).get("ipFamilies") or ())
    if policy == "SingleStack" and before is not None and families == before.get("ipFamilies"):
        families = families[:1]
    if not families and family_of((spec.get("clusterIPs") or [HEADLESS])[0]) in ("", own):
        families = [own]
    if bare and len(families) == 1 and policy != "SingleStack":
        families.append("IPv6" if families[0] == "IPv4" else "IPv4")
    return {**spec, "ipFamilyPolicy": policy, "ipFamilies": families}


def family_of(address: str) -> str:
    """The family of an address; empty for what is none."""
    if not address or address == HEADLESS:
        return ""
    return "IPv6" if ":" in address else "IPv4"
