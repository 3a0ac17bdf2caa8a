"""Objects that every cluster has: namespaces, default roles, the `kubernetes` and `kube-dns` Services.

Written by `daemon` at every start, as the admin; what exists and is right is left alone, so that a restart
writes nothing.
"""

import asyncio
import ipaddress
from collections.abc import Iterable

from orchestrator.api.errors import AlreadyExists, NotFound
from orchestrator.api.item import Object
from orchestrator.api.resources import (
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    ENDPOINTS,
    ENDPOINTSLICES,
    NAMESPACES,
    SERVICES,
    Resource,
)
from orchestrator.auth import policy
from orchestrator.client.interface import Client

NAMESPACE_NAMES = ("default", "kube-system", "kube-public", "kube-node-lease")


def api_service_address(service_cidr: str) -> str:
    """The first address of the service range belongs to the API."""
    return str(next(ipaddress.ip_network(service_cidr).hosts()))


async def write(
    client: Client, *, service_cidr: str, dns_address: str, api_address: str, api_port: int
) -> None:
    """Make the objects as they should be. `api_address` and `api_port` are where pods reach the API."""
    await _all(_ensure(client, NAMESPACES, _namespace(name)) for name in NAMESPACE_NAMES)
    api = api_service_address(service_cidr)
    await _all((
        *(_ensure_role(client, role) for role in policy.cluster_roles()),
        *(_ensure_role(client, binding) for binding in policy.cluster_role_bindings()),
        _ensure(client, SERVICES, _service("kubernetes", "default", api, _API_PORTS, _API_LABELS)),
        _ensure(client, SERVICES, _service("kube-dns", "kube-system", dns_address, _DNS_PORTS, _DNS_LABELS)),
        _keep(client, ENDPOINTS, _endpoints(api_address, api_port), ("subsets",)),
        _keep(client, ENDPOINTSLICES, _slice(api_address, api_port), ("endpoints", "ports")),
    ))  # fmt: skip


_API_PORTS: list[Object] = [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}]
_DNS_PORTS: list[Object] = [
    {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
    {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
]
_API_LABELS = {"component": "apiserver", "provider": "kubernetes"}
_DNS_LABELS = {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}


async def _all(tasks: Iterable[object]) -> None:
    await asyncio.gather(*tasks)  # type: ignore[call-overload]


async def _ensure(client: Client, resource: Resource, obj: Object) -> None:
    metadata = obj["metadata"]
    try:
        await client.get(resource, metadata["name"], metadata.get("namespace", ""))
    except NotFound:
        try:
            await client.create(resource, obj, metadata.get("namespace", ""))
        except AlreadyExists:
            return


async def _keep(client: Client, resource: Resource, obj: Object, fields: tuple[str, ...]) -> None:
    """Create, or bring `fields` back to what they should be."""
    metadata = obj["metadata"]
    try:
        found = await client.get(resource, metadata["name"], metadata.get("namespace", ""))
    except NotFound:
        await client.create(resource, obj, metadata.get("namespace", ""))
        return
    if any(found.get(field) != obj.get(field) for field in fields):
        await client.update(resource, {**found, **{field: obj[field] for field in fields}})


async def _ensure_role(client: Client, wanted: Object) -> None:
    """Create, or add rules and subjects that are missing; what an operator added stays."""
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
    missing = [entry for entry in wanted[field] if entry not in have]
    if missing:
        await client.update(resource, {**found, field: [*have, *missing]})


def _namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _service(name: str, namespace: str, address: str, ports: list[Object], labels: dict[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"type": "ClusterIP", "clusterIP": address, "ports": ports},
    }


def _endpoints(address: str, port: int) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [
            {
                "addresses": [{"ip": address}],
                "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
            }
        ],
    }


def _slice(address: str, port: int) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
