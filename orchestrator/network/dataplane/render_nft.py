"""Service rules as nftables text: pure functions, no kernel.

Cost per packet and per change does not grow with the number of Services. Two flat maps carry them all:

- `services` (address . protocol . port → goto a chain) and `node_services` (protocol . port → …) say how many
  endpoints there are, with or without affinity: the chain `svc-tcp-3` is shared by all TCP Services with three
  endpoints;
- `endpoints_tcp` (address . port . bucket → endpoint address . port), `node_endpoints_tcp` (port . bucket → …) and
  the like for UDP and SCTP give the endpoint of a bucket; the chain draws the bucket with `numgen`. They are apart
  by protocol because nft 1.0 can't refer to an existing map whose target port is of any protocol.

Chains differ by whom they masquerade (mark `MASQUERADE`, put right in postrouting): `svc` only sources outside
the pod range, `ext` and `node` everyone, so that answers come back through this host. A pod that reaches itself
through a Service is masqueraded by the set `hairpin`.

Affinity: `clients` remembers client . address . protocol . port → endpoint with a time-out in the kernel. It is
learned behind the translation, from the endpoint that the packet really got. It outlives rewrites of the rules;
`stale_clients` names what no longer leads to an endpoint.

Packets to a Service without endpoints, or to a port of the service range that nobody has, are rejected at once.
"""

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from orchestrator.network.dataplane.interface import Endpoint, ServicePort, ServiceRules

MASQUERADE = 0x4000
"""The packet mark that Kubernetes' own proxy uses for this, which other tools therefore leave alone."""
PROTOCOLS = ("tcp", "udp", "sctp")
CLIENTS_MAX = 262144
BUCKETS_MAX = 65536

_BUCKET = f"numgen random mod {BUCKETS_MAX}"
SHARED_MAPS = {
    "services": "type ipv4_addr . inet_proto . inet_service : verdict;",
    "node_services": "type inet_proto . inet_service : verdict;",
    **{
        f"endpoints_{p}": f"typeof ip daddr . {p} dport . {_BUCKET} : ip daddr . {p} dport;"
        for p in PROTOCOLS
    },
    **{f"node_endpoints_{p}": f"typeof {p} dport . {_BUCKET} : ip daddr . {p} dport;" for p in PROTOCOLS},
    "learning": "type ipv4_addr . inet_proto . inet_service : verdict;",
    "node_learning": "type inet_proto . inet_service : verdict;",
}
SHARED_SETS = {
    "unserved": "type ipv4_addr . inet_proto . inet_service;",
    "node_unserved": "type inet_proto . inet_service;",
    "hairpin": "type ipv4_addr . ipv4_addr;",
}
CLIENTS = (
    "type ipv4_addr . ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; "
    f"size {CLIENTS_MAX}; flags dynamic,timeout;"
)

Elements = dict[str, dict[str, str]]
"""Map or set name → key → value (empty in a set)."""
Client = tuple[str, str, str, int, Endpoint]
"""(client, service address, protocol, port, endpoint) of one remembered affinity."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One shared chain: `svc`, `ext` or `node`, protocol, number of endpoints, and whether clients stick."""

    role: str
    protocol: str
    endpoints: int
    sticky: bool

    @property
    def chain(self) -> str:
        return f"{self.role}-{self.protocol}-{self.endpoints}{'-sticky' if self.sticky else ''}"


@dataclass(frozen=True, slots=True)
class Front:
    """One address and port at which a Service answers: `prefix` of the maps, the keys in them, role of the chain."""

    prefix: str
    key: str
    bucket_key: str
    role: str


def _kind(role: str, port: ServicePort) -> Kind:
    return Kind(role, port.protocol, len(port.endpoints), port.affinity_s > 0)


class Layout:
    """What is the same for all Services of one cluster on one node."""

    def __init__(self, table: str, local_pods: str, rules: ServiceRules) -> None:
        self.table = table
        self.pod_cidr = rules.pod_cidr
        self.service_cidr = rules.service_cidr
        self.node_addresses = rules.node_addresses
        self._is_local = _member(local_pods)
        self._is_cluster = _member(rules.service_cidr)

    def kinds(self, port: ServicePort) -> set[Kind]:
        """The shared chains that `port` goes to."""
        if not port.endpoints:
            return set()
        roles = {self._role(address) for address in port.addresses}
        if port.node_port:
            roles.add("node")
        return {_kind(role, port) for role in roles}

    def fronts(self, port: ServicePort) -> Iterator[Front]:
        """Where `port` answers. Two ports that claim one front: the first by name has it."""
        for address in port.addresses:
            key = f"{address} . {port.protocol} . {port.port}"
            yield Front("", key, f"{address} . {port.port}", self._role(address))
        if port.node_port:
            yield Front("node_", f"{port.protocol} . {port.node_port}", f"{port.node_port}", "node")

    def elements(self, port: ServicePort, front: Front) -> Iterator[tuple[str, str, str]]:
        """(map, key, value) of everything that serves `port` at `front`."""
        prefix, key = front.prefix, front.key
        if not port.endpoints:
            yield f"{prefix}unserved", key, ""
            return
        yield f"{prefix}services", key, f"goto {_kind(front.role, port).chain}"
        if port.affinity_s > 0:
            yield f"{prefix}learning", key, f"goto learn-{port.affinity_s}"
        name, key = f"{prefix}endpoints_{port.protocol}", front.bucket_key
        for bucket, endpoint in enumerate(port.endpoints):
            yield name, f"{key} . {bucket}", f"{endpoint.address} . {endpoint.port}"

    def hairpins(self, port: ServicePort) -> Iterator[str]:
        """Keys in `hairpin`: endpoints on this node. Several Services may share one."""
        for address in {endpoint.address for endpoint in port.endpoints}:
            if self._is_local(address):
                yield f"{address} . {address}"

    def _role(self, address: str) -> str:
        return "svc" if self._is_cluster(address) else "ext"


def _member(cidr: str) -> Callable[[str], bool]:
    """A fast test whether an IPv4 address in its usual notation lies in `cidr`."""
    network = ipaddress.IPv4Network(cidr)
    mask, base = int(network.netmask), int(network.network_address)

    def contains(address: str) -> bool:
        a, b, c, d = address.split(".")
        return (int(a) << 24 | int(b) << 16 | int(c) << 8 | int(d)) & mask == base

    return contains


def skeleton(layout: Layout) -> str:
    """The table with its maps, sets and empty chains kept as they are if they exist, its rules anew, its shared
    elements gone; remembered clients stay."""
    table = layout.table
    lines = [f"add table ip {table}"]
    lines += [f"add map ip {table} {name} {{ {spec} }}" for name, spec in SHARED_MAPS.items()]
    lines += [f"add set ip {table} {name} {{ {spec} }}" for name, spec in SHARED_SETS.items()]
    lines += [f"add map ip {table} clients {{ {CLIENTS} }}", f"flush table ip {table}"]
    lines += [f"flush map ip {table} {name}" for name in SHARED_MAPS]
    lines += [f"flush set ip {table} {name}" for name in SHARED_SETS]
    lines.append(f"table ip {table} {{\n{_base_chains(layout)}}}")
    return "\n".join(lines) + "\n"


def _base_chains(layout: Layout) -> str:
    local = _node_addresses(layout)
    chains = {
        "dispatch": (
            "ip daddr . meta l4proto . th dport vmap @services",
            f"{local} meta l4proto . th dport vmap @node_services",
        ),
        "refuse": ("meta l4proto tcp reject with tcp reset", "reject with icmp type port-unreachable"),
        "learn": tuple(_learning_rules()),
        "unserved-check": ("ip daddr . meta l4proto . th dport @unserved goto refuse",),
        "prerouting": (_hook("nat", "prerouting", -100), "goto dispatch"),
        "output": (_hook("nat", "output", -100), "goto dispatch"),
        "postrouting": (
            _hook("nat", "postrouting", 100),
            f"meta mark & {MASQUERADE:#x} == {MASQUERADE:#x} meta mark set meta mark ^ {MASQUERADE:#x} masquerade",
            "ct status dnat ip saddr . ip daddr @hairpin masquerade",
        ),
        "learn-prerouting": (_hook("filter", "prerouting", -90), "ct state new ct status dnat goto learn"),
        "learn-output": (_hook("filter", "output", -90), "ct state new ct status dnat goto learn"),
        "refuse-input": (
            _hook("filter", "input", -10),
            "ct state new jump unserved-check",
            f"ct state new {local} meta l4proto . th dport @node_unserved goto refuse",
        ),
        "refuse-forward": (
            _hook("filter", "forward", -10),
            f"ct state new ip daddr {layout.service_cidr} goto refuse",
            "ct state new jump unserved-check",
        ),
        "refuse-output": (
            _hook("filter", "output", -80),
            f'oif != "lo" ct state new ip daddr {layout.service_cidr} goto refuse',
            "ct state new jump unserved-check",
        ),
    }
    return "".join(_chain(name, rules) for name, rules in chains.items())


def _node_addresses(layout: Layout) -> str:
    """Matches the addresses on which node ports answer: those given, else all of this host but loopback's."""
    if layout.node_addresses:
        return f"ip daddr {{ {', '.join(sorted(set(layout.node_addresses)))} }}"
    return f"ip daddr != {{ 127.0.0.0/8, {layout.service_cidr} }} fib daddr type local"


def _learning_rules() -> Iterator[str]:
    """nft knows the type of a tracked port only beside a protocol, hence a rule for each."""
    for protocol in PROTOCOLS:
        yield f"meta l4proto {protocol} ct original ip daddr . meta l4proto . ct original proto-dst vmap @learning"
        yield f"meta l4proto {protocol} meta l4proto . ct original proto-dst vmap @node_learning"


def _hook(kind: str, hook: str, priority: int) -> str:
    return f"type {kind} hook {hook} priority {priority}; policy accept;"


def _chain(name: str, rules: Iterable[str]) -> str:
    body = "".join(f"    {rule}\n" for rule in rules)
    return f"  chain {name} {{\n{body}  }}\n"


def kind_chain(layout: Layout, kind: Kind) -> str:
    """The shared chain of `kind`: mark for masquerade, remembered clients first, then by lot."""
    outsiders = f"ip saddr != {layout.pod_cidr} " if kind.role == "svc" else ""
    prefix, address = ("node_", "") if kind.role == "node" else ("", "ip daddr . ")
    rules = [f"{outsiders}meta mark set meta mark | {MASQUERADE:#x}"]
    if kind.sticky:
        rules.append("dnat ip addr . port to ip saddr . ip daddr . meta l4proto . th dport map @clients")
    bucket = f"{address}{kind.protocol} dport . numgen random mod {kind.endpoints}"
    rules.append(f"dnat ip addr . port to {bucket} map @{prefix}endpoints_{kind.protocol}")
    return _chain(kind.chain, rules)


def learn_chain(timeout_s: int) -> str:
    """The chain that remembers, for `timeout_s`, which endpoint a client got."""
    key = "ip saddr . ct original ip daddr . meta l4proto . ct original proto-dst"
    return _chain(
        f"learn-{timeout_s}",
        [
            f"meta l4proto {protocol} update @clients {{ {key} timeout {timeout_s}s : ip daddr . {protocol} dport }}"
            for protocol in PROTOCOLS
        ],
    )


def chains_block(layout: Layout, kinds: Iterable[Kind], timeouts_s: Iterable[int]) -> str:
    """The given shared chains as one `table` block; empty when there is none."""
    body = "".join(kind_chain(layout, kind) for kind in sorted(kinds, key=lambda kind: kind.chain))
    body += "".join(learn_chain(timeout_s) for timeout_s in sorted(timeouts_s))
    return f"table ip {layout.table} {{\n{body}}}\n" if body else ""


def element_lines(table: str, verb: str, elements: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """One `add element` or `delete element` per map; a deletion names keys only."""
    for name in sorted(elements):
        entries = elements[name]
        if not entries:
            continue
        texts = [f"{key} : {value}" if value and verb == "add" else key for key, value in entries.items()]
        yield f"{verb} element ip {table} {name} {{ {', '.join(texts)} }}\n"


def stale_clients(clients: Iterable[Client], ports: Iterable[ServicePort]) -> list[Client]:
    """The remembered clients whose endpoint no longer serves what they asked for."""
    valid: dict[tuple[str, str, int], set[Endpoint]] = {}
    for port in ports:
        if port.affinity_s <= 0:
            continue
        for address in port.addresses:
            valid.setdefault((address, port.protocol, port.port), set()).update(port.endpoints)
        if port.node_port:
            valid.setdefault(("", port.protocol, port.node_port), set()).update(port.endpoints)
    return [
        (client, address, protocol, number, endpoint)
        for client, address, protocol, number, endpoint in clients
        if endpoint not in valid.get((address, protocol, number), valid.get(("", protocol, number), ()))
    ]


def client_key(client: Client) -> str:
    """The key of one remembered client in `clients`."""
    source, address, protocol, number, _ = client
    return f"{source} . {address} . {protocol} . {number}"
