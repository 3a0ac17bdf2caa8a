"""The dataplane's contracts: the pod network of one node, and the renderer of Service rules."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from orchestrator.base.errors import OrchestratorError


class NetworkError(OrchestratorError):
    """A link, address, route or rule could not be set up; the message names it."""


class PodNetwork(Protocol):
    """Addresses and links of the pods on this node. Owner: the agent."""

    async def start(self) -> None:
        """Make bridge, forwarding and masquerade as they should be; keeps what exists. Raises `NetworkError`."""

    async def attach(self, sandbox_id: str, netns_path: str) -> str:
        """Give the sandbox its interface `eth0`, address and default route; returns the address.

        Running twice for one sandbox gives the same address.
        """

    async def detach(self, sandbox_id: str) -> None:
        """Take link and address back; an unknown sandbox is fine."""

    async def address(self, sandbox_id: str) -> str:
        """The sandbox's address, empty when it has none."""

    async def retain(self, sandbox_ids: Iterable[str]) -> None:
        """Detach whatever belongs to none of these: what a crash left behind."""

    async def close(self) -> None:
        """Release sockets; links, addresses and rules stay."""


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """Where a connection is sent."""

    address: str
    port: int


@dataclass(frozen=True, slots=True, order=True)
class ServicePort:
    """One port of one Service as the packet filter sees it: pure data, no objects.

    `addresses` are cluster, external and load-balancer addresses on which `port` answers. `node_port` of 0 means
    none. With `affinity_s` > 0 a client stays at its endpoint that long. Without endpoints packets are rejected.
    """

    name: str
    """`namespace/service:port`, for comments and diffs."""
    protocol: Literal["tcp", "udp", "sctp"]
    addresses: tuple[str, ...]
    port: int
    endpoints: tuple[Endpoint, ...]
    node_port: int = 0
    affinity_s: int = 0


@dataclass(frozen=True, slots=True)
class ServiceRules:
    """Everything a renderer needs; two equal values render to the same rules."""

    ports: tuple[ServicePort, ...]
    pod_cidr: str
    service_cidr: str
    node_addresses: tuple[str, ...]


class ServiceRenderer(Protocol):
    """Makes the kernel's rules equal to the desired ones, in one atomic transaction per change."""

    async def apply(self, rules: ServiceRules) -> None:
        """Bring the tables to `rules`, touching only what changed. Raises `NetworkError`."""

    async def check(self) -> bool:
        """Whether the tables are still there as applied; False makes the proxy apply anew."""

    async def remove(self) -> None:
        """Remove every table and rule of this instance."""
