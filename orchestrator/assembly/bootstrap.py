"""Objects that every cluster has: namespaces, default roles, the system's priority classes, the storage class
`local-path`, the `kubernetes` and `kube-dns` Services.

Written by `daemon` at every start, as the admin; what exists and is right is left alone, so that a restart
writes nothing.
"""

import asyncio
import ipaddress
from collections.abc import Iterable

import structlog

from orchestrator.api.errors import AlreadyExists, Conflict, Invalid, NotFound
from orchestrator.api.item import Object
from orchestrator.api.priorities import SYSTEM
from orchestrator.api.resources import (
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    ENDPOINTS,
    ENDPOINTSLICES,
    NAMESPACES,
    PRIORITYCLASSES,
    SERVICECIDRS,
    SERVICES,
    STORAGECLASSES,
    Resource,
)
from orchestrator.api.volumes import LOCAL_PATH, LOCAL_PATH_CLASS
from orchestrator.auth import policy
from orchestrator.client.interface import Client

log = structlog.get_logger(__name__)

NAMESPACE_NAMES = ("default", "kube-system", "kube-public", "kube-node-lease")


def api_service_address(service_cidr: str) -> str:
    """The first address of the service range belongs to the API."""
    return str(next(ipaddress.ip_network(service_cidr).hosts()))


async def write(client: Client, *, service_cidr: str, dns_address: str) -> None:
    """Make the objects as they should be; several servers may do so at the same time."""
    await _all(_ensure(client, NAMESPACES, _namespace(name)) for name in NAMESPACE_NAMES)
    api = api_service_address(service_cidr)
    await _all((
        *(_ensure_role(client, role) for role in policy.cluster_roles()),
        *(_ensure_role(client, binding) for binding in policy.cluster_role_bindings()),
        *(_ensure(client, PRIORITYCLASSES, _priority_class(name, value)) for name, value in SYSTEM.items()),
        _ensure_range(client, service_cidr),
        _ensure(client, STORAGECLASSES, _LOCAL_PATH),
        _ensure(client, SERVICES, _service("kubernetes", "default", api, _API_PORTS, _API_LABELS)),
        _ensure(client, SERVICES, _service("kube-dns", "kube-system", dns_address, _DNS_PORTS, _DNS_LABELS)),
    ))  # fmt: skip


async def write_endpoints(client: Client, address: str, port: int) -> None:
    """Where pods reach the API of the only server; a loopback address, which leads nowhere from a pod, is left out."""
    api = [(address, port)] if not ipaddress.ip_address(address).is_loopback else []
    if not api:
        log.warning(
            "pods can't reach the API on a loopback address: see --advertise-address", address=address
        )
    await _all((
        keep(client, ENDPOINTS, endpoints(api), ("subsets",)),
        *(keep(client, ENDPOINTSLICES, slice, ("endpoints", "ports")) for slice in slices(api)),
    ))  # fmt: skip


_API_PORTS: list[Object] = [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}]
_DNS_PORTS: list[Object] = [
    {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
    {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
]
_LOCAL_PATH: Object = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {
        "name": LOCAL_PATH_CLASS,
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    },
    "provisioner": LOCAL_PATH,
    "reclaimPolicy": "Delete",
    "volumeBindingMode": "WaitForFirstConsumer",
    "allowVolumeExpansion": True,
}
_CRITICAL = {
    "system-cluster-critical": "For pods that the cluster needs, but that may run on another node.",
    "system-node-critical": "For pods that their node needs.",
}
_API_LABELS = {"component": "apiserver", "provider": "kubernetes"}
_DNS_LABELS = {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}


async def _all(tasks: Iterable[object]) -> None:
    await asyncio.gather(*tasks)  # type: ignore[call-overload]


async def _ensure(client: Client, resource: Resource, obj: Object) -> None:
    metadata = obj["metadata"]
    name, namespace = metadata["name"], metadata.get("namespace", "")
    try:
        await client.get(resource, name, namespace)
    except NotFound:
        try:
            await client.create(resource, obj, namespace)
        except (AlreadyExists, Invalid) as error:
            if not await _exists(client, resource, name, namespace):
                raise error from None


async def _exists(client: Client, resource: Resource, name: str, namespace: str) -> bool:
    """Whether another server was faster, and with it took the address of a Service, say."""
    try:
        await client.get(resource, name, namespace)
    except NotFound:
        return False
    return True


async def keep(client: Client, resource: Resource, obj: Object, fields: tuple[str, ...]) -> None:
    """Create, or bring `fields` back to what they should be."""
    metadata = obj["metadata"]
    try:
        found = await client.get(resource, metadata["name"], metadata.get("namespace", ""))
    except NotFound:
        await client.create(resource, obj, metadata.get("namespace", ""))
        return
    if any(found.get(field) != obj.get(field) for field in fields):
        await client.update(resource, {**found, **{field: obj[field] for field in fields}})


async def _ensure_range(client: Client, service_cidr: str) -> None:
    """The range that Services get addresses from, and that it is in use."""
    spec = {"cidrs": [service_cidr]}
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"}}
    await _ensure(client, SERVICECIDRS, {**kind, "spec": spec})
    found = await client.get(SERVICECIDRS, "kubernetes")
    if (found.get("status") or {}).get("conditions"):
        return
    ready = {
        "type": "Ready",
        "status": "True",
        "lastTransitionTime": found["metadata"]["creationTimestamp"],
        "reason": "",
        "message": "Kubernetes Service CIDR is ready",
    }
    try:
        await client.update(SERVICECIDRS, {**found, "status": {"conditions": [ready]}}, subresource="status")
    except Conflict:  # Another server said so at the same time.
        return


async def _ensure_role(client: Client, wanted: Object) -> None:
    """Create, or add rules and subjects that are missing; what an operator added stays."""
    try:
        await _complete_role(client, wanted)
    except Conflict:  # Another server completes it at the same time.
        await _complete_role(client, wanted)


async def _complete_role(client: Client, wanted: Object) -> None:
    resource = CLUSTERROLES if wanted["kind"] == "ClusterRole" else CLUSTERROLEBINDINGS
    try:
        found = await client.get(resource, wanted["metadata"]["name"])
    except NotFound:
        await _ensure(client, resource, wanted)
        return
    if (found["metadata"].get("annotations") or {}).get(policy.AUTOUPDATE) == "false":
        return
    field = "rules" if resource is CLUSTERROLES else "subjects"
    have = found.get(field) or []
    completed = {**found, field: [*have, *(entry for entry in wanted[field] if entry not in have)]}
    labels = {**(found["metadata"].get("labels") or {}), **wanted["metadata"]["labels"]}
    completed["metadata"] = {**found["metadata"], "labels": labels}
    if "aggregationRule" in wanted:
        completed.setdefault("aggregationRule", wanted["aggregationRule"])
    if completed != {**found, field: have}:
        await client.update(resource, completed)


def _namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _priority_class(name: str, value: int) -> Object:
    kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}}
    return {
        **kind,
        "value": value,
        "preemptionPolicy": "PreemptLowerPriority",
        "description": _CRITICAL[name],
    }


def _service(name: str, namespace: str, address: str, ports: list[Object], labels: dict[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"type": "ClusterIP", "clusterIP": address, "ports": ports},
    }


def endpoints(addresses: Iterable[tuple[str, int]]) -> Object:
    """The Endpoints of the API for these addresses and ports."""
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [
            {"addresses": [{"ip": ip} for ip in ips], "ports": [_https(port)]}
            for port, ips in _by_port(addresses).items()
        ],
    }


def slices(addresses: Iterable[tuple[str, int]]) -> list[Object]:
    """The same as EndpointSlices: `kubernetes`, and further ones where servers have several ports."""
    return [
        _slice("kubernetes" if number == 0 else f"kubernetes-{port}", ips, port)
        for number, (port, ips) in enumerate(_by_port(addresses).items())
    ]


def _by_port(addresses: Iterable[tuple[str, int]]) -> dict[int, list[str]]:
    ports: dict[int, list[str]] = {}
    for port, ip in sorted((port, ip) for ip, port in addresses):
        ports.setdefault(port, []).append(ip)
    return ports


def _https(port: int) -> Object:
    return {"name": "https", "port": port, "protocol": "TCP"}


def _slice(name: str, ips: list[str], port: int) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [ip], "conditions": {"ready": True}} for ip in ips],
        "ports": [_https(port)],
    }
