"""Storage in admission: what protects volumes in use, and which claims may grow.

1. `StorageProtection`: a new volume, claim or attributes class gets the finalizer that a controller takes away once
   nobody uses it.
2. `ClaimResize`: only a bound claim of a class that allows expansion may ask for more.
3. `DefaultStorageClass`: a claim that names no class gets the newest one that is marked as default.
4. `DefaultIngressClass`: the same for Ingresses.
"""

from typing import Protocol

from orchestrator.admission.chain import AdmissionRequest, Operation, Reader
from orchestrator.admission.refusal import forbidden
from orchestrator.api import quantity
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import (
    INGRESSCLASSES,
    INGRESSES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    STORAGECLASSES,
    VOLUMEATTRIBUTESCLASSES,
    Resource,
)

_FINALIZERS = {
    PERSISTENTVOLUMECLAIMS.plural: "kubernetes.io/pvc-protection",
    PERSISTENTVOLUMES.plural: "kubernetes.io/pv-protection",
    VOLUMEATTRIBUTESCLASSES.plural: "kubernetes.io/vac-protection",
}
_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
_DEFAULT_CLASS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
_DEFAULT_INGRESS_CLASS = "ingressclass.kubernetes.io/is-default-class"
_INGRESS_ANNOTATION = "kubernetes.io/ingress.class"


class Lister(Reader, Protocol):
    """A reader that also knows every object of a resource."""

    async def all(self, resource: Resource) -> list[Item]:
        """The newest state of the resource's objects; for resources with a handful of them."""

    async def within(self, resource: Resource, namespace: str) -> list[Item]:
        """Those of one namespace; for resources that have a handful there."""


class StorageProtection:
    """See the module."""

    def handles(self, operation: Operation, resource: Resource, subresource: str) -> bool:
        return operation == "CREATE" and resource.plural in _FINALIZERS and not subresource

    async def mutate(self, request: AdmissionRequest) -> Object | None:
        obj = request.object or {}
        metadata = obj["metadata"]
        finalizers, wanted = metadata.get("finalizers") or [], _FINALIZERS[request.resource.plural]
        if wanted in finalizers:
            return None
        return {**obj, "metadata": {**metadata, "finalizers": [*finalizers, wanted]}}

    async def validate(self, request: AdmissionRequest) -> None:
        return


class ClaimResize:
    """See the module."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, operation: Operation, resource: Resource, subresource: str) -> bool:
        return operation == "UPDATE" and _is(resource, PERSISTENTVOLUMECLAIMS) and not subresource

    async def mutate(self, request: AdmissionRequest) -> Object | None:
        return None

    async def validate(self, request: AdmissionRequest) -> None:
        new, old = request.object or {}, request.old or {}
        if _size(new) <= _size(old):
            return
        if (old.get("status") or {}).get("phase") != "Bound":
            raise forbidden(request, "Only bound persistent volume claims can be expanded")
        name = _class_of(new)
        found = await self._reader.find(STORAGECLASSES, "", name) if name and name == _class_of(old) else None
        if found is None or not found.object.get("allowVolumeExpansion"):
            text = (
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must"
                " support resize"
            )
            raise forbidden(request, text)


class DefaultStorageClass:
    """See the module."""

    def __init__(self, lister: Lister) -> None:
        self._lister = lister

    def handles(self, operation: Operation, resource: Resource, subresource: str) -> bool:
        return operation == "CREATE" and _is(resource, PERSISTENTVOLUMECLAIMS)

    async def mutate(self, request: AdmissionRequest) -> Object | None:
        claim = request.object or {}
        spec = claim.get("spec") or {}
        if spec.get("storageClassName") is not None or _BETA_CLASS in _annotations(claim):
            return None
        name = _newest_default(await self._lister.all(STORAGECLASSES), *_DEFAULT_CLASS)
        return {**claim, "spec": {**spec, "storageClassName": name}} if name else None

    async def validate(self, request: AdmissionRequest) -> None:
        return


class DefaultIngressClass:
    """See the module."""

    def __init__(self, lister: Lister) -> None:
        self._lister = lister

    def handles(self, operation: Operation, resource: Resource, subresource: str) -> bool:
        return operation == "CREATE" and _is(resource, INGRESSES)

    async def mutate(self, request: AdmissionRequest) -> Object | None:
        ingress = request.object or {}
        spec = ingress.get("spec") or {}
        if spec.get("ingressClassName") is not None or _INGRESS_ANNOTATION in _annotations(ingress):
            return None
        name = _newest_default(await self._lister.all(INGRESSCLASSES), _DEFAULT_INGRESS_CLASS)
        return {**ingress, "spec": {**spec, "ingressClassName": name}} if name else None

    async def validate(self, request: AdmissionRequest) -> None:
        return


def _is(resource: Resource, wanted: Resource) -> bool:
    return (resource.group, resource.plural) == (wanted.group, wanted.plural)


def _annotations(obj: Object) -> Object:
    return obj["metadata"].get("annotations") or {}


def _newest_default(classes: list[Item], *marks: str) -> str:
    """Name of the newest class that one of `marks` makes the default, the first by name among those of one second;
    empty without any."""
    marked = [
        item for item in classes if any(_annotations(item.object).get(mark) == "true" for mark in marks)
    ]
    marked.sort(key=lambda item: item.meta.name)
    newest = max(
        marked, key=lambda item: item.object["metadata"].get("creationTimestamp") or "", default=None
    )
    return newest.meta.name if newest is not None else ""


def _class_of(claim: Object) -> str:
    name = _annotations(claim).get(_BETA_CLASS) or (claim.get("spec") or {}).get("storageClassName")
    return str(name or "")


def _size(claim: Object) -> quantity.Quantity:
    requests = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    amount = requests.get("storage", "0")
    return quantity.parse(amount if quantity.is_quantity(amount) else "0")
