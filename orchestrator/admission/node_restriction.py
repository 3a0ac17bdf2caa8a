"""NodeRestriction: a node's agent writes about its own node, its own lease and its own pods only.

The authorizer decides by name; this looks at what is written. Others than agents pass.

1. nodes: its own; it may set its taints when it registers, not later, and no label under
   `node-restriction.kubernetes.io/`.
2. pods: create mirror pods of itself; delete, evict and report the status of those bound to it.
3. leases: the one of its name in `kube-node-lease`.
4. persistentvolumes: of those that lie on it, nothing but the finalizers.
"""

from collections.abc import Mapping

from orchestrator.admission.chain import AdmissionRequest, Operation
from orchestrator.admission.refusal import forbidden
from orchestrator.admission.service_account import MIRROR
from orchestrator.api.errors import Forbidden
from orchestrator.api.item import Object
from orchestrator.api.resources import Resource
from orchestrator.api.volumes import ON_NODE

_GROUP = "system:nodes"
_PREFIX = "system:node:"
_RESTRICTED_LABELS = "node-restriction.kubernetes.io/"
_LEASE_NAMESPACE = "kube-node-lease"
_RESOURCES = frozenset(
    {("", "nodes"), ("", "pods"), ("", "persistentvolumes"), ("coordination.k8s.io", "leases")}
)


class NodeRestriction:
    """See the module."""

    def handles(self, operation: Operation, resource: Resource, subresource: str) -> bool:
        return (resource.group, resource.plural) in _RESOURCES

    async def mutate(self, request: AdmissionRequest) -> Object | None:
        return None

    async def validate(self, request: AdmissionRequest) -> None:
        identity = request.identity
        if _GROUP not in identity.groups or not identity.name.startswith(_PREFIX):
            return
        node = identity.name.removeprefix(_PREFIX)
        match request.resource.plural:
            case "nodes":
                _check_node(request, node)
            case "pods":
                _check_pod(request, node)
            case "persistentvolumes":
                _check_volume(request, node)
            case _:
                _check_lease(request, node)


def _check_node(request: AdmissionRequest, node: str) -> None:
    if request.name != node:
        raise forbidden(request, f'node "{node}" is not allowed to modify node "{request.name}"')
    new, old = request.object or {}, request.old or {}
    if request.operation == "UPDATE" and _taints(new) != _taints(old):
        raise forbidden(request, f'node "{node}" is not allowed to modify taints')
    if request.operation != "DELETE" and _restricted(new) != _restricted(old):
        raise forbidden(
            request, f'node "{node}" is not allowed to modify labels with the prefix {_RESTRICTED_LABELS}'
        )


def _check_pod(request: AdmissionRequest, node: str) -> None:
    match request.operation, request.subresource:
        case "CREATE", "":
            _check_mirror(request, node)
        case "DELETE", "" | "eviction":
            if _node_of(request.old) != node:
                raise _not_its_own(request, node, "delete pods")
        case "UPDATE", "status":
            if _node_of(request.old) != node:
                raise _not_its_own(request, node, "update pod status for pods")
            if _labels(request.object) != _labels(request.old):
                raise forbidden(request, f'node "{node}" cannot update labels through pod status')
        case operation, subresource:
            raise forbidden(request, f'unexpected operation "{operation}" on pods/{subresource or "pod"}')


def _check_mirror(request: AdmissionRequest, node: str) -> None:
    pod = request.object or {}
    if MIRROR not in (pod["metadata"].get("annotations") or {}):
        raise forbidden(
            request, f'pod does not have "{MIRROR}" annotation, node "{node}" can only create mirror pods'
        )
    if _node_of(pod) != node:
        raise _not_its_own(request, node, "create pods")


def _check_volume(request: AdmissionRequest, node: str) -> None:
    new, old = request.object or {}, request.old or {}
    same = _settled(new) == _settled(old) and new.get("spec") == old.get("spec")
    mine = (old.get("metadata") or {}).get("annotations", {}).get(ON_NODE) == node
    if request.operation != "UPDATE" or not mine or not same:
        text = f'node "{node}" can only take finalizers from persistent volumes that lie on it'
        raise forbidden(request, text)


def _settled(volume: Object) -> Object:
    """Metadata that a node may not change."""
    free = ("finalizers", "managedFields", "resourceVersion", "generation")
    return {name: value for name, value in (volume.get("metadata") or {}).items() if name not in free}


def _check_lease(request: AdmissionRequest, node: str) -> None:
    if request.namespace != _LEASE_NAMESPACE:
        raise forbidden(request, f'can only access leases in the "{_LEASE_NAMESPACE}" system namespace')
    if request.name != node:
        raise forbidden(request, "can only access node lease with the same name as the requesting node")


def _not_its_own(request: AdmissionRequest, node: str, doing: str) -> Forbidden:
    return forbidden(request, f'node "{node}" can only {doing} with spec.nodeName set to itself')


def _node_of(pod: Object | None) -> str:
    return ((pod or {}).get("spec") or {}).get("nodeName") or ""


def _labels(obj: Object | None) -> Mapping[str, str]:
    return ((obj or {}).get("metadata") or {}).get("labels") or {}


def _taints(node: Object) -> list[Object]:
    return (node.get("spec") or {}).get("taints") or []


def _restricted(node: Object) -> dict[str, str]:
    return {key: value for key, value in _labels(node).items() if key.startswith(_RESTRICTED_LABELS)}
