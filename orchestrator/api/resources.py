"""The one table of resources: a row each, from which routing, discovery, RBAC and the client derive.

A custom resource adds a row at run time. Facts of verbs, short names, categories and subresources are those
of Kubernetes v1.36's discovery.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

READ_WRITE = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
STATUS_VERBS = ("get", "patch", "update")


@dataclass(frozen=True, slots=True)
class Subresource:
    """`pods/log` and its like. `kind` with its group and version is what the subresource answers."""

    name: str
    kind: str
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of one group and version."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = READ_WRITE
    subresources: tuple[Subresource, ...] = ()
    prefix: str = ""
    """First part of its keys below `/registry/`, where it is not the plural."""
    ttl_s: int = 0
    """Objects disappear this long after their last write; 0 keeps them."""
    selectable: tuple[str, ...] = field(default=())
    """Field selectors beyond `metadata.name` and `metadata.namespace`, as dotted paths."""

    @property
    def api_version(self) -> str:
        """`v1` or `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def singular_name(self) -> str:
        return self.singular or self.kind.lower()

    @property
    def qualified(self) -> str:
        """`deployments.apps`, as messages and RBAC name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def stored(self) -> bool:
        """Whether objects of it exist; reviews only answer a create."""
        return "get" in self.verbs

    def subresource(self, name: str) -> Subresource | None:
        return next((sub for sub in self.subresources if sub.name == name), None)

    def key(self, namespace: str, name: str) -> str:
        """The store key of one object. `namespace` is ignored where the resource has none."""
        return f"{self.key_prefix(namespace)}{name}"

    def key_prefix(self, namespace: str | None = None) -> str:
        """The prefix of all keys, or of those in `namespace`; ends with a slash."""
        base = f"/registry/{self.prefix or self.plural}/"
        return f"{base}{namespace}/" if self.namespaced and namespace else base


def _status(kind: str, group: str = "", version: str = "") -> Subresource:
    return Subresource("status", kind, STATUS_VERBS, group, version)


_SCALE = Subresource("scale", "Scale", STATUS_VERBS, "autoscaling", "v1")
_CONNECT = ("create", "get")

PODS = Resource(
    "", "v1", "Pod", "pods", short_names=("po",), categories=("all",),
    subresources=(
        Subresource("attach", "PodAttachOptions", _CONNECT),
        Subresource("binding", "Binding", ("create",)),
        Subresource("ephemeralcontainers", "Pod", STATUS_VERBS),
        Subresource("eviction", "Eviction", ("create",), "policy", "v1"),
        Subresource("exec", "PodExecOptions", _CONNECT),
        Subresource("log", "Pod", ("get",)),
        Subresource("portforward", "PodPortForwardOptions", _CONNECT),
        _status("Pod"),
    ),
    selectable=(
        "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
        "spec.hostNetwork", "status.phase", "status.podIP", "status.nominatedNodeName",
    ),
)  # fmt: skip
NAMESPACES = Resource(
    "", "v1", "Namespace", "namespaces", namespaced=False, short_names=("ns",),
    verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
    subresources=(Subresource("finalize", "Namespace", ("update",)), _status("Namespace")),
    selectable=("status.phase",),
)  # fmt: skip
NODES = Resource(
    "", "v1", "Node", "nodes", namespaced=False, short_names=("no",), prefix="minions",
    subresources=(
        Subresource("proxy", "NodeProxyOptions", ("create", "delete", "get", "patch", "update")),
        _status("Node"),
    ),
    selectable=("spec.unschedulable",),
)  # fmt: skip
SERVICES = Resource(
    "", "v1", "Service", "services", short_names=("svc",), categories=("all",), prefix="services/specs",
    subresources=(_status("Service"),), selectable=("spec.clusterIP", "spec.type"),
)  # fmt: skip
ENDPOINTS = Resource("", "v1", "Endpoints", "endpoints", short_names=("ep",), singular="endpoints",
                     prefix="services/endpoints")  # fmt: skip
CONFIGMAPS = Resource("", "v1", "ConfigMap", "configmaps", short_names=("cm",))
SECRETS = Resource("", "v1", "Secret", "secrets", selectable=("type",))
SERVICEACCOUNTS = Resource(
    "", "v1", "ServiceAccount", "serviceaccounts", short_names=("sa",),
    subresources=(Subresource("token", "TokenRequest", ("create",), "authentication.k8s.io", "v1"),),
)  # fmt: skip
EVENTS = Resource(
    "", "v1", "Event", "events", short_names=("ev",), ttl_s=3600,
    selectable=(
        "involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
        "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath",
        "reason", "reportingComponent", "source", "type",
    ),
)  # fmt: skip
BINDINGS = Resource("", "v1", "Binding", "bindings", verbs=("create",))
DEPLOYMENTS = Resource(
    "apps", "v1", "Deployment", "deployments", short_names=("deploy",), categories=("all",),
    subresources=(_SCALE, _status("Deployment")),
)  # fmt: skip
REPLICASETS = Resource(
    "apps", "v1", "ReplicaSet", "replicasets", short_names=("rs",), categories=("all",),
    subresources=(_SCALE, _status("ReplicaSet")), selectable=("status.replicas",),
)  # fmt: skip
CONTROLLERREVISIONS = Resource("apps", "v1", "ControllerRevision", "controllerrevisions")
ENDPOINTSLICES = Resource("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
LEASES = Resource("coordination.k8s.io", "v1", "Lease", "leases")
ROLES = Resource("rbac.authorization.k8s.io", "v1", "Role", "roles")
ROLEBINDINGS = Resource("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings")
CLUSTERROLES = Resource("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", namespaced=False)
CLUSTERROLEBINDINGS = Resource(
    "rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False
)
TOKENREVIEWS = Resource(
    "authentication.k8s.io", "v1", "TokenReview", "tokenreviews", namespaced=False, verbs=("create",)
)
SELFSUBJECTREVIEWS = Resource(
    "authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", namespaced=False,
    verbs=("create",),
)  # fmt: skip
SUBJECTACCESSREVIEWS = Resource(
    "authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", namespaced=False,
    verbs=("create",),
)  # fmt: skip
SELFSUBJECTACCESSREVIEWS = Resource(
    "authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False,
    verbs=("create",),
)  # fmt: skip
LOCALSUBJECTACCESSREVIEWS = Resource(
    "authorization.k8s.io", "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", verbs=("create",)
)
SELFSUBJECTRULESREVIEWS = Resource(
    "authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", namespaced=False,
    verbs=("create",),
)  # fmt: skip

BUILT_IN: tuple[Resource, ...] = (
    BINDINGS, CONFIGMAPS, ENDPOINTS, EVENTS, NAMESPACES, NODES, PODS, SECRETS, SERVICEACCOUNTS, SERVICES,
    CONTROLLERREVISIONS, DEPLOYMENTS, REPLICASETS,
    SELFSUBJECTREVIEWS, TOKENREVIEWS,
    LOCALSUBJECTACCESSREVIEWS, SELFSUBJECTACCESSREVIEWS, SELFSUBJECTRULESREVIEWS, SUBJECTACCESSREVIEWS,
    LEASES, ENDPOINTSLICES,
    CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES,
)  # fmt: skip


class ResourceTable:
    """Rows by (group, version, plural) and by (group, version, kind). Owner: the daemon."""

    def __init__(self, rows: Iterable[Resource] = BUILT_IN) -> None:
        self._by_plural: dict[tuple[str, str, str], Resource] = {}
        self._by_kind: dict[tuple[str, str, str], Resource] = {}
        for row in rows:
            self.add(row)

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._by_plural.values())

    def add(self, row: Resource) -> None:
        """Serve `row` from now on."""
        self._by_plural[row.group, row.version, row.plural] = row
        self._by_kind[row.group, row.version, row.kind] = row

    def remove(self, row: Resource) -> None:
        """Stop serving `row`; removing an absent one is fine."""
        self._by_plural.pop((row.group, row.version, row.plural), None)
        self._by_kind.pop((row.group, row.version, row.kind), None)

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        return self._by_plural.get((group, version, plural))

    def by_kind(self, api_version: str, kind: str) -> Resource | None:
        """The row for an object's `apiVersion` and `kind`."""
        group, _, version = api_version.rpartition("/")
        return self._by_kind.get((group, version, kind))
