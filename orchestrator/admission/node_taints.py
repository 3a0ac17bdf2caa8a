"""TaintNodesByCondition: a node is born with the taint that says it is not ready.

So nothing is put on it before it reported once. The node lifecycle controller takes the taint away with the first
status that says Ready.
"""

from orchestrator.admission.chain import AdmissionRequest, Operation
from orchestrator.api.item import Object
from orchestrator.api.resources import NODES, Resource

NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}


class TaintNodesByCondition:
    """See the module."""

    def handles(self, operation: Operation, resource: Resource, subresource: str) -> bool:
        return operation == "CREATE" and resource == NODES and not subresource

    async def mutate(self, request: AdmissionRequest) -> Object | None:
        node = request.object or {}
        spec: Object = node.get("spec") or {}
        taints = spec.get("taints") or []
        if any((taint.get("key"), taint.get("effect")) == tuple(NOT_READY.values()) for taint in taints):
            return None
        return {**node, "spec": {**spec, "taints": [*taints, NOT_READY]}}

    async def validate(self, request: AdmissionRequest) -> None:
        return None
