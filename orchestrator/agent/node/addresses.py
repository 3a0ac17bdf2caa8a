"""The addresses under which this host is a node, as they are now. Called by the reporter.

An address that the operator named stays; one that was found follows the host's default route, so that a node whose
address was changed by DHCP is reachable again without a restart.
"""

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.api.item import Object

FAR = {4: "192.0.2.1", 6: "2001:db8::1"}
"""Nobody's addresses (RFC 5737, RFC 3849): the way there is the default route. Nothing is sent."""


@dataclass(frozen=True, slots=True)
class FollowedAddress:
    """Knows the node's address: the one it was started with until the default route's source is another one."""

    started_with: str
    find: Callable[[int], str] | None = None

    def now(self) -> str:
        if self.find is None:
            return self.started_with
        return self.find(ipaddress.ip_address(self.started_with).version) or self.started_with


def source_of_default_route(version: int) -> str:
    """The host's own address towards the world, or empty without such a route."""
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((FAR[version], 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def status(name: str, address: str) -> list[Object]:
    """As a node's status gives them."""
    return [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}]
