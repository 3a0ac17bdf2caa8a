"""Claims: keys that only one object may hold (cluster IPs, node ports), decided by the store's transaction.

A strategy says which claims an object makes; the transaction that writes the object takes the new ones
(comparing that nobody has them) and releases those it no longer makes. So there is nothing to repair.

A cluster IP is also seen as an IPAddress: it comes and goes in the same transaction, and one that somebody else made
keeps the address from Services. The claim stays what decides when somebody deletes the IPAddress by hand.
"""

import ipaddress
from collections.abc import Callable

import msgspec

from orchestrator.api.item import Object, encode
from orchestrator.api.resources import IPADDRESSES, SERVICES
from orchestrator.store.interface import Compare, Delete, Put

PREFIX = "/registry/ranges/"
ADDRESSES = "serviceips/"
FAMILY_LABEL = "ipaddress.kubernetes.io/ip-family"
MANAGED_BY = "ipaddress.kubernetes.io/managed-by"
ALLOCATOR = "ipallocator.k8s.io"

NewMetadata = Callable[[], Object]
"""`uid` and `creationTimestamp` of an object that is made now."""


def keys(claim: str) -> tuple[str, ...]:
    """The store keys of which none may exist when the claim is taken."""
    if not claim.startswith(ADDRESSES):
        return (PREFIX + claim,)
    return (PREFIX + claim, IPADDRESSES.key("", claim.removeprefix(ADDRESSES)))


def changes(
    owner: str, before: frozenset[str], after: frozenset[str], new_metadata: NewMetadata
) -> tuple[tuple[Compare, ...], tuple[Put | Delete, ...]]:
    """Comparisons and operations that move `owner` (a store key) from one set of claims to another."""
    if before == after:
        return (), ()
    value = msgspec.json.encode({"metadata": {"name": owner}})
    compares: list[Compare] = []
    operations: list[Put | Delete] = []
    for claim in sorted(after - before):
        compares += [Compare(key, 0) for key in keys(claim)]
        operations.append(Put(PREFIX + claim, value))
        if claim.startswith(ADDRESSES):
            address = claim.removeprefix(ADDRESSES)
            obj = with_metadata(ip_address(address, *_service(owner)), new_metadata())
            operations.append(Put(IPADDRESSES.key("", address), encode(obj)))
    for claim in sorted(before - after):
        operations += [Delete(key) for key in keys(claim)]
    return tuple(compares), tuple(operations)


def ip_address(address: str, namespace: str, name: str) -> Object:
    """The IPAddress of a Service, as somebody would create it."""
    family = f"IPv{ipaddress.ip_address(address).version}"
    return {
        "apiVersion": IPADDRESSES.api_version,
        "kind": IPADDRESSES.kind,
        "metadata": {"name": address, "labels": {FAMILY_LABEL: family, MANAGED_BY: ALLOCATOR}},
        "spec": {"parentRef": {"resource": SERVICES.plural, "namespace": namespace, "name": name}},
    }


def with_metadata(obj: Object, more: Object) -> Object:
    return {**obj, "metadata": {**obj["metadata"], **more}}


def _service(owner: str) -> tuple[str, str]:
    """Namespace and name in the store key of a Service."""
    namespace, _, name = owner.removeprefix(SERVICES.key_prefix()).partition("/")
    return namespace, name
