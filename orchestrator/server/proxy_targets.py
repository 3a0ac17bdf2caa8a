"""Which address a proxy request means: of a pod, of a Service's endpoint, or of a node. Only API objects are asked.

A name is `name`, `name:port` or `scheme:name:port`. Endpoints that are no pods are not proxied to, and addresses
that only this host has are refused where they are connected to (`check_address`): nobody reaches through the API
server what is not his cluster's.
"""

import ipaddress
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from orchestrator.api.errors import BadRequest, NotFound, ServiceUnavailable
from orchestrator.api.item import Item, Object
from orchestrator.api.options import ListOptions
from orchestrator.api.resources import ENDPOINTSLICES, PODS, SERVICES, Resource
from orchestrator.api.results import ItemList

_METADATA = frozenset(map(ipaddress.ip_address, ("169.254.169.254", "fd00:ec2::254", "100.100.100.200")))
"""Where clouds serve credentials to a host."""


class Objects(Protocol):
    """What is read to find a target; the registry is one."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Item: ...

    async def list(self, resource: Resource, namespace: str | None, options: ListOptions) -> ItemList: ...


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect. An empty `port` is the scheme's own; `agent` marks a node's agent, which we trust."""

    scheme: str
    host: str
    port: str = ""
    agent: bool = False

    @property
    def netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else host

    @property
    def port_number(self) -> int:
        return int(self.port) if self.port else 443 if self.scheme == "https" else 80


def check_address(text: str) -> None:
    """Raises `BadRequest` for an address that nobody may be sent to."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        raise BadRequest("address not allowed") from None
    mapped = getattr(address, "ipv4_mapped", None) or address
    if (
        mapped.is_loopback
        or mapped.is_link_local
        or mapped.is_multicast
        or mapped.is_unspecified
        or mapped in _METADATA
        or mapped == ipaddress.ip_address("255.255.255.255")
    ):
        raise BadRequest("address not allowed")


def split_name(text: str, kind: str) -> tuple[str, str, str]:
    """Scheme, name and port of `text`. Raises `BadRequest`."""
    parts = text.split(":")
    if len(parts) == 1:
        return "http", text, ""
    scheme, name, port = ("", *parts) if len(parts) == 2 else parts if len(parts) == 3 else ("x", "", "")
    if scheme not in ("", "http", "https") or not name:
        raise BadRequest(f'invalid {kind} request "{text}"')
    return scheme or "http", name, port


async def of_pod(objects: Objects, namespace: str, text: str) -> Target:
    """The pod `text` names; without a port the first one that its containers declare."""
    scheme, name, port = split_name(text, "pod")
    pod = (await objects.get(PODS, namespace, name)).object
    address = (pod.get("status") or {}).get("podIP") or ""
    check_address(address)
    return Target(scheme, address, _pod_port(pod, port, text))


def _pod_port(pod: Object, wanted: str, text: str) -> str:
    ports = [
        port
        for container in (pod.get("spec") or {}).get("containers") or ()
        for port in container.get("ports") or ()
    ]
    if not wanted:
        return str(ports[0]["containerPort"]) if ports else ""
    if wanted.isdecimal():
        return _port_number(wanted, "pod", text)
    for port in ports:
        if port.get("name") == wanted:
            return str(port["containerPort"])
    raise BadRequest(f'invalid pod request "{text}"')


def _port_number(wanted: str, kind: str, text: str) -> str:
    if not 0 < int(wanted[:6]) < 65536:
        raise BadRequest(f'invalid {kind} request "{text}"')
    return wanted


async def of_service(objects: Objects, rng: random.Random, namespace: str, text: str) -> Target:
    """A ready endpoint of the Service `text` names. Raises `ServiceUnavailable` where there is none."""
    scheme, name, wanted = split_name(text, "service")
    service = (await objects.get(SERVICES, namespace, name)).object
    port_name = _port_name(service, wanted)
    selection = ListOptions(label_selector=f"kubernetes.io/service-name={name}")
    slices = (await objects.list(ENDPOINTSLICES, namespace, selection)).items
    found = [pair for item in slices for pair in _endpoints(item.object, port_name)]
    rng.shuffle(found)
    for endpoint, port in found:
        address = await _pod_address(objects, namespace, endpoint)
        if address:
            return Target(scheme, address, str(port))
    raise ServiceUnavailable(f'no endpoints available for service "{text}"')


def _port_name(service: Object, wanted: str) -> str:
    """The name of the service port that is meant: a number means the port of that number."""
    if not wanted.isdecimal():
        return wanted
    for port in (service.get("spec") or {}).get("ports") or ():
        if str(port["port"]) == wanted:
            return str(port.get("name") or "")
    name = service["metadata"]["name"]
    raise ServiceUnavailable(f'no service port {wanted} found for service "{name}"')


def _endpoints(slice: Object, port_name: str) -> Iterator[tuple[Object, int]]:
    """Ready endpoints of a slice that have the port, and its number."""
    for port in slice.get("ports") or ():
        if (port.get("name") or "") == port_name and port.get("port"):
            for endpoint in slice.get("endpoints") or ():
                if (endpoint.get("conditions") or {}).get("ready") is not False:
                    yield endpoint, port["port"]


async def _pod_address(objects: Objects, namespace: str, endpoint: Object) -> str:
    """The endpoint's address if it is that of the pod it names; else empty."""
    reference = endpoint.get("targetRef") or {}
    address = str((endpoint.get("addresses") or [""])[0])
    if reference.get("kind") != "Pod" or reference.get("namespace", namespace) != namespace:
        return ""
    try:
        pod = (await objects.get(PODS, namespace, reference.get("name") or "")).object
    except NotFound:
        return ""
    status = pod.get("status") or {}
    known = {status.get("podIP"), *(entry.get("ip") for entry in status.get("podIPs") or ())}
    return address if address in known else ""
