"""Node authorizer: a node reads what its pods need and writes about itself and its pods, nothing else.

Source of the rules: Kubernetes' Node authorizer. Which pods a node has is read from an informer's index, so a
decision holds for the state of this moment. NodeRestriction (admission) guards the contents of what is written.
"""

from collections.abc import Iterator
from typing import Protocol

from orchestrator.api.access import Attributes, Identity
from orchestrator.api.item import Item, Object
from orchestrator.api.volumes import claim_index, pod_claims

GROUP = "system:nodes"
PREFIX = "system:node:"
_READ = frozenset({"get", "list", "watch"})
_WIDE_READ = frozenset(
    {("", "services"), ("", "endpoints"), ("discovery.k8s.io", "endpointslices"), ("", "nodes")}
)
_POD_WRITE = frozenset({("create", ""), ("delete", ""), ("update", "status"), ("patch", "status")})
_NODE_WRITE = frozenset(
    {("create", ""), ("update", ""), ("patch", ""), ("update", "status"), ("patch", "status")}
)
_REVIEWS = frozenset({
    ("authentication.k8s.io", "tokenreviews"), ("authorization.k8s.io", "subjectaccessreviews"),
})  # fmt: skip


class Indexed(Protocol):
    """Objects from memory, by an index of their informer: pods by `node`, volumes by `node` and `claim`."""

    def by_index(self, name: str, value: str) -> list[Item]: ...


class NodeAuthorizer:
    """Says yes to what a node needs; what it does not cover goes on to RBAC."""

    def __init__(self, pods: Indexed, volumes: Indexed | None = None) -> None:
        """Without `volumes` a node may read none."""
        self._pods = pods
        self._volumes = volumes

    def allows(self, identity: Identity, request: Attributes) -> bool:
        """Whether `identity` is a node and the request belongs to its work."""
        if GROUP not in identity.groups or not identity.name.startswith(PREFIX) or request.path:
            return False
        node = identity.name.removeprefix(PREFIX)
        kind = (request.group, request.resource)
        if kind in _WIDE_READ and request.verb in _READ and not request.subresource:
            return True  # but not `proxy` of them, which reaches every other node's agent with the server's rights
        if kind in _REVIEWS:
            return request.verb == "create"
        match kind:
            case ("", "nodes"):
                return (request.verb, request.subresource) in _NODE_WRITE and request.name in (node, "")
            case ("", "pods"):
                return self._pod(request)
            case ("", "events"):
                return request.verb in ("create", "update", "patch")
            case ("coordination.k8s.io", "leases"):
                return _lease(request, node)
            case ("node.k8s.io", "runtimeclasses"):
                return request.verb in _READ
            case ("", "configmaps" | "secrets"):
                return request.verb in _READ and self._references(node, request)
            case ("", "persistentvolumeclaims"):
                return request.verb == "get" and not request.subresource and self._references(node, request)
            case ("", "persistentvolumes"):
                return not request.subresource and self._volume(node, request)
            case ("", "serviceaccounts"):
                return self._account(node, request)
        return False

    def _pod(self, request: Attributes) -> bool:
        if not request.subresource and request.verb in _READ:
            return True
        return (request.verb, request.subresource) in _POD_WRITE

    def _references(self, node: str, request: Attributes) -> bool:
        if not request.name:
            return False  # all of a namespace; a pod may hold a reference without a name
        pods = self._pods.by_index("node", node)
        wanted = (request.resource, request.name)
        return any(
            item.meta.namespace == request.namespace and wanted in set(references(item.object))
            for item in pods
        )

    def _volume(self, node: str, request: Attributes) -> bool:
        """It reads the volumes of its pods' claims, and writes those whose directories it has."""
        if self._volumes is None or request.verb not in ("get", "patch"):
            return False
        own = self._volumes.by_index("node", node)
        if any(item.meta.name == request.name for item in own):
            return True
        if request.verb == "patch":
            return False
        claims = {key for pod in self._pods.by_index("node", node) for key in claim_index(pod)}
        return any(
            item.meta.name == request.name for key in claims for item in self._volumes.by_index("claim", key)
        )

    def _account(self, node: str, request: Attributes) -> bool:
        creates_token = request.verb == "create" and request.subresource == "token"
        reads = request.verb == "get" and not request.subresource
        return (creates_token or reads) and any(
            item.meta.namespace == request.namespace
            and item.object["spec"].get("serviceAccountName") == request.name
            for item in self._pods.by_index("node", node)
        )


def references(pod: Object) -> Iterator[tuple[str, str]]:
    """(plural, name) of config maps, secrets and claims that the pod's volumes, env and pull secrets name."""
    spec = pod["spec"]
    for secret in spec.get("imagePullSecrets") or ():
        yield "secrets", secret.get("name", "")
    for volume in spec.get("volumes") or ():
        yield from _volume_references(volume)
    for _, claim in pod_claims(pod):
        yield "persistentvolumeclaims", claim
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(field) or ():
            yield from _env_references(container)


def _volume_references(volume: Object) -> Iterator[tuple[str, str]]:
    if "configMap" in volume:
        yield "configmaps", volume["configMap"].get("name", "")
    if "secret" in volume:
        yield "secrets", volume["secret"].get("secretName", "")
    for source in (volume.get("projected") or {}).get("sources") or ():
        if "configMap" in source:
            yield "configmaps", source["configMap"].get("name", "")
        if "secret" in source:
            yield "secrets", source["secret"].get("name", "")


def _env_references(container: Object) -> Iterator[tuple[str, str]]:
    for source in container.get("envFrom") or ():
        if "configMapRef" in source:
            yield "configmaps", source["configMapRef"].get("name", "")
        if "secretRef" in source:
            yield "secrets", source["secretRef"].get("name", "")
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        if "configMapKeyRef" in source:
            yield "configmaps", source["configMapKeyRef"].get("name", "")
        if "secretKeyRef" in source:
            yield "secrets", source["secretKeyRef"].get("name", "")


def _lease(request: Attributes, node: str) -> bool:
    return (
        request.namespace == "kube-node-lease"
        and request.verb in ("get", "create", "update", "patch", "delete")
        and request.name in (node, "")
    )
