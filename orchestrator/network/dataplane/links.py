"""Bridge, veth pairs, addresses and routes through pyroute2, synchronously: for the pod network's worker thread.

Every function makes the kernel's state as asked and may run twice. Kernel errors become `NetworkError` naming the
link. Here is the only import of pyroute2 in the project.
"""

import contextlib
import errno
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from orchestrator.network.dataplane import netns, sysctl
from orchestrator.network.dataplane.interface import NetworkError

SCOPE_LINK = 253
ONLINK = 4
POD_LINK = "eth0"
MTU_DEFAULT = 1500


@dataclass(frozen=True, slots=True)
class PodLink:
    """What one pod's interface needs."""

    host_name: str
    address: str
    gateway: str
    bridge: int
    mtu: int


@contextlib.contextmanager
def explained(subject: str) -> Iterator[None]:
    """Turn a kernel refusal into a `NetworkError` about `subject`."""
    try:
        yield
    except NetlinkError as error:
        raise NetworkError(f"{subject}: {error}.") from error
    except OSError as error:
        raise NetworkError(f"{subject}: {error.strerror or error}.") from error


@contextlib.contextmanager
def tolerated(*codes: int) -> Iterator[None]:
    """Ignore a kernel refusal with one of these error numbers."""
    try:
        yield
    except NetlinkError as error:
        if error.code not in codes:
            raise


class HostLinks:
    """Links, addresses and routes of the namespace in which it was made. Close it."""

    def __init__(self) -> None:
        with explained("netlink"):
            self._route: Any = IPRoute()

    def close(self) -> None:
        self._route.close()

    def index(self, name: str) -> int:
        """The link's index, 0 when there is none."""
        with explained(name):
            found = self._route.link_lookup(ifname=name)
        return int(found[0]) if found else 0

    def names(self, prefix: str) -> dict[str, int]:
        """Name → index of all links whose name starts with `prefix`."""
        with explained("listing links"):
            every = [(link.get("ifname"), link["index"]) for link in self._route.get_links()]
        return {name: index for name, index in every if name and name.startswith(prefix)}

    def ensure_bridge(self, name: str, mac: str, mtu: int) -> int:
        """A bridge that is up, without spanning tree; its MAC is set so that it stays when ports come and go."""
        with explained(f"bridge {name}"):
            index = self.index(name)
            if not index:
                self._route.link("add", ifname=name, kind="bridge", br_stp_state=0, br_forward_delay=0)
                index = self.index(name)
            self._route.link("set", index=index, address=mac, mtu=mtu, state="up")
        return index

    def delete(self, name: str) -> None:
        """Remove the link; an absent one is fine."""
        index = self.index(name)
        if index:
            with explained(name), tolerated(errno.ENODEV):
                self._route.link("del", index=index)

    def ensure_address(self, index: int, address: str, length: int, *, local: bool = False) -> None:
        """Put an address on the link. `local` ones are not chosen as a source beyond the link."""
        scope = SCOPE_LINK if local else 0
        with explained(f"address {address}/{length}"), tolerated(errno.EEXIST):
            self._route.addr("add", index=index, address=address, prefixlen=length, scope=scope)

    def ensure_route(self, destination: str, index: int, source: str) -> None:
        """A route to a range that lies on the link, with the address that the host then uses."""
        with explained(f"route {destination}"):
            self._route.route("replace", dst=destination, oif=index, scope=SCOPE_LINK, prefsrc=source)

    def has_address(self, index: int, address: str) -> bool:
        with explained(address):
            return any(found.get("address") == address for found in self._route.get_addr(index=index))

    def uplink_mtu(self) -> int:
        """MTU of the link of the default route, 1500 when there is none."""
        with explained("default route"):
            routes = [route.get("oif") for route in self._route.get_default_routes()]
            index = next((oif for oif in routes if oif), 0)
            link = next(iter(self._route.get_links(index)), None) if index else None
        return int(link.get("mtu")) if link is not None else MTU_DEFAULT

    def create_pair(self, pod: PodLink, namespace: int) -> bool:
        """A veth pair: one end on the bridge, the other as eth0 in the namespace; False when the name is taken."""
        peer = {"ifname": POD_LINK, "net_ns_fd": namespace, "mtu": pod.mtu, "address": mac_of(pod.address)}
        host_end = {"ifname": pod.host_name, "mtu": pod.mtu, "master": pod.bridge, "state": "up"}
        with explained(pod.host_name):
            try:
                self._route.link("add", kind="veth", peer=peer, **host_end)
            except NetlinkError as error:
                if error.code == errno.EEXIST and self.index(pod.host_name):
                    return False
                raise
            self._hairpin(self.index(pod.host_name))
        return True

    def join(self, index: int, bridge: int) -> None:
        """Make an existing link a port of the bridge."""
        with explained(f"link {index}"):
            self._route.link("set", index=index, master=bridge, state="up")
            self._hairpin(index)

    def _hairpin(self, index: int) -> None:
        """Let a frame leave by the port it came in on.

        With `bridge-nf-call-iptables` a pod's packet to its own Service is translated and sent on within the
        bridge, back to the same port.
        """
        self._route.brport("set", index=index, mode=1)


def configure_pod(pod: PodLink, namespace: int) -> None:
    """Address and routes inside the pod's namespace.

    The address is a /32 and everything goes through the bridge's address, also to pods beside it: an answer that
    went straight over the bridge would miss the host's connection tracking and keep the endpoint's address.
    For the same reason the pod ignores redirects.
    """
    with netns.inside(namespace):
        for scope in ("all", "default"):
            sysctl.write(f"ipv4/conf/{scope}/accept_redirects", "0")
        links = HostLinks()
    try:
        _configure(links._route, pod)
    finally:
        links.close()


def _configure(route: Any, pod: PodLink) -> None:
    with explained(f"{POD_LINK} of {pod.address}"):
        index = route.link_lookup(ifname=POD_LINK)[0]
        route.link("set", index=1, state="up")
        with tolerated(errno.EEXIST):
            route.addr("add", index=index, address=pod.address, prefixlen=32)
        route.link("set", index=index, state="up")
        route.route("replace", dst=f"{pod.gateway}/32", oif=index, scope=SCOPE_LINK)
        route.route("replace", dst="default", gateway=pod.gateway, oif=index, flags=ONLINK)


def is_configured(pod: PodLink, namespace: int) -> bool:
    """Whether the namespace has its eth0 with the address."""
    with netns.inside(namespace):
        links = HostLinks()
    try:
        index = links.index(POD_LINK)
        return bool(index) and links.has_address(index, pod.address)
    finally:
        links.close()


def mac_of(address: str) -> str:
    """A locally administered MAC that carries the IPv4 address, so that it never doubles on a bridge."""
    return "0a:58:" + ":".join(f"{part:02x}" for part in ipaddress.IPv4Address(address).packed)
