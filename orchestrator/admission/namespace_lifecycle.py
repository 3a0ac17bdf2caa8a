"""NamespaceLifecycle: nothing is created in a namespace that is absent or going, and some never go.

1. The namespaces that the system needs can't be deleted.
2. A create in a namespace that does not exist is `NotFound`.
3. A create in a terminating namespace is `Forbidden`, with a cause that controllers test for.
"""

from orchestrator.admission.chain import AdmissionRequest, Operation, Reader
from orchestrator.admission.refusal import forbidden
from orchestrator.api.errors import Cause, not_found
from orchestrator.api.item import Object
from orchestrator.api.resources import NAMESPACES, Resource

IMMORTAL = frozenset({"default", "kube-system", "kube-public", "kube-node-lease"})


class NamespaceLifecycle:
    """See the module."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, operation: Operation, resource: Resource, subresource: str) -> bool:
        if operation == "DELETE":
            return resource.group == "" and resource.plural == "namespaces"
        return operation == "CREATE" and resource.namespaced and not subresource

    async def mutate(self, request: AdmissionRequest) -> Object | None:
        """Decides here, before other plugins look for things in a namespace that is not there."""
        if request.operation == "DELETE":
            if request.name in IMMORTAL:
                raise forbidden(request, "this namespace may not be deleted")
            return None
        namespace = await self._reader.find(NAMESPACES, "", request.namespace)
        if namespace is None:
            raise not_found("", "namespaces", request.namespace)
        if namespace.meta.deletion_timestamp:
            name = request.namespace
            cause = Cause(
                "NamespaceTerminating", f"namespace {name} is being terminated", "metadata.namespace"
            )
            why = f"unable to create new content in namespace {name} because it is being terminated"
            raise forbidden(request, why, (cause,))
        return None

    async def validate(self, request: AdmissionRequest) -> None:
        return
