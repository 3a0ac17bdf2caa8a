"""The one table of resources: a row each, from which routing, discovery, RBAC and the client derive.

A custom resource adds a row at run time. Facts of verbs, short names, categories and subresources are those
of Kubernetes v1.36's discovery.
"""

from collections.abc import Callable, Iterable, Iterator
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
    paths: tuple[str, str, str] | None = None
    """Of a custom kind's `scale`: where replicas are in spec and status and, or empty, the selector; such as
    `.spec.replicas`."""


@dataclass(frozen=True, slots=True)
class CustomColumn:
    """One of a custom kind's `additionalPrinterColumns`."""

    name: str
    type: str
    json_path: str
    format: str = ""
    description: str = ""
    priority: int = 0


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
    stored_as: tuple[str, str] | None = None
    """Group and version in whose form its objects are kept, where that is another row of the same plural."""
    virtual: bool = False
    """Whether nobody stores its objects: the process itself knows them."""
    columns: tuple[CustomColumn, ...] | None = None
    """What a table of a custom kind shows beside the name; None for built-in kinds."""
    listed_as: str = ""
    """Kind of its lists, where a custom kind names another than `<kind>List`."""

    @property
    def list_kind(self) -> str:
        return self.listed_as or f"{self.kind}List"

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
        """Whether objects of it are kept; reviews only answer a create."""
        return "get" in self.verbs and not self.virtual

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
_PROXY = ("create", "delete", "get", "patch", "update")

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
        Subresource("proxy", "PodProxyOptions", _PROXY),
        Subresource("resize", "Pod", STATUS_VERBS),
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
        Subresource("proxy", "NodeProxyOptions", _PROXY),
        _status("Node"),
    ),
    selectable=("spec.unschedulable",),
)  # fmt: skip
SERVICES = Resource(
    "", "v1", "Service", "services", short_names=("svc",), categories=("all",), prefix="services/specs",
    subresources=(Subresource("proxy", "ServiceProxyOptions", _PROXY), _status("Service")),
    selectable=("spec.clusterIP", "spec.type"),
)  # fmt: skip
ENDPOINTS = Resource("", "v1", "Endpoints", "endpoints", short_names=("ep",), singular="endpoints",
                     prefix="services/endpoints")  # fmt: skip
COMPONENTSTATUSES = Resource(
    "", "v1", "ComponentStatus", "componentstatuses", namespaced=False, short_names=("cs",),
    verbs=("get", "list"), virtual=True,
)  # fmt: skip
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
NEW_EVENTS = Resource(
    "events.k8s.io", "v1", "Event", "events", short_names=("ev",), ttl_s=3600, stored_as=("", "v1"),
    selectable=(
        "regarding.kind", "regarding.namespace", "regarding.name", "regarding.uid", "regarding.apiVersion",
        "regarding.resourceVersion", "regarding.fieldPath", "reason", "reportingController", "type",
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
LIMITRANGES = Resource("", "v1", "LimitRange", "limitranges", short_names=("limits",))
RESOURCEQUOTAS = Resource(
    "",
    "v1",
    "ResourceQuota",
    "resourcequotas",
    short_names=("quota",),
    subresources=(_status("ResourceQuota"),),
)
PERSISTENTVOLUMES = Resource(
    "", "v1", "PersistentVolume", "persistentvolumes", namespaced=False, short_names=("pv",),
    subresources=(_status("PersistentVolume"),),
)  # fmt: skip
PERSISTENTVOLUMECLAIMS = Resource(
    "", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", short_names=("pvc",),
    subresources=(_status("PersistentVolumeClaim"),),
)  # fmt: skip
PODTEMPLATES = Resource("", "v1", "PodTemplate", "podtemplates")
REPLICATIONCONTROLLERS = Resource(
    "", "v1", "ReplicationController", "replicationcontrollers", short_names=("rc",), categories=("all",),
    prefix="controllers", subresources=(_SCALE, _status("ReplicationController")),
    selectable=("status.replicas",),
)  # fmt: skip
DAEMONSETS = Resource(
    "apps", "v1", "DaemonSet", "daemonsets", short_names=("ds",), categories=("all",),
    subresources=(_status("DaemonSet"),),
)  # fmt: skip
STATEFULSETS = Resource(
    "apps", "v1", "StatefulSet", "statefulsets", short_names=("sts",), categories=("all",),
    subresources=(_SCALE, _status("StatefulSet")),
)  # fmt: skip
JOBS = Resource(
    "batch", "v1", "Job", "jobs", categories=("all",), subresources=(_status("Job"),),
    selectable=("status.successful",),
)  # fmt: skip
CRONJOBS = Resource(
    "batch", "v1", "CronJob", "cronjobs", short_names=("cj",), categories=("all",),
    subresources=(_status("CronJob"),),
)  # fmt: skip
HORIZONTALPODAUTOSCALERS = Resource(
    "autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", short_names=("hpa",),
    categories=("all",), subresources=(_status("HorizontalPodAutoscaler"),),
)  # fmt: skip
HORIZONTALPODAUTOSCALERS_V1 = Resource(
    "autoscaling", "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers", short_names=("hpa",),
    categories=("all",), subresources=(_status("HorizontalPodAutoscaler"),), stored_as=("autoscaling", "v2"),
)  # fmt: skip
PODDISRUPTIONBUDGETS = Resource(
    "policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", short_names=("pdb",),
    subresources=(_status("PodDisruptionBudget"),),
)  # fmt: skip
PRIORITYCLASSES = Resource(
    "scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", namespaced=False, short_names=("pc",)
)
RUNTIMECLASSES = Resource("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", namespaced=False)
INGRESSES = Resource(
    "networking.k8s.io", "v1", "Ingress", "ingresses", short_names=("ing",), prefix="ingress",
    subresources=(_status("Ingress"),),
)  # fmt: skip
INGRESSCLASSES = Resource("networking.k8s.io", "v1", "IngressClass", "ingressclasses", namespaced=False)
NETWORKPOLICIES = Resource(
    "networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", short_names=("netpol",)
)
IPADDRESSES = Resource(
    "networking.k8s.io", "v1", "IPAddress", "ipaddresses", namespaced=False, short_names=("ip",),
    selectable=("spec.parentRef.group", "spec.parentRef.resource", "spec.parentRef.namespace",
                "spec.parentRef.name"),
)  # fmt: skip
SERVICECIDRS = Resource(
    "networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs", namespaced=False,
    subresources=(_status("ServiceCIDR"),),
)  # fmt: skip
STORAGECLASSES = Resource(
    "storage.k8s.io", "v1", "StorageClass", "storageclasses", namespaced=False, short_names=("sc",)
)
VOLUMEATTACHMENTS = Resource(
    "storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments", namespaced=False,
    subresources=(_status("VolumeAttachment"),),
)  # fmt: skip
CSIDRIVERS = Resource("storage.k8s.io", "v1", "CSIDriver", "csidrivers", namespaced=False)
CSINODES = Resource("storage.k8s.io", "v1", "CSINode", "csinodes", namespaced=False)
CSISTORAGECAPACITIES = Resource("storage.k8s.io", "v1", "CSIStorageCapacity", "csistoragecapacities")
VOLUMEATTRIBUTESCLASSES = Resource(
    "storage.k8s.io", "v1", "VolumeAttributesClass", "volumeattributesclasses", namespaced=False,
    short_names=("vac",),
)  # fmt: skip
CERTIFICATESIGNINGREQUESTS = Resource(
    "certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests", namespaced=False,
    short_names=("csr",), selectable=("spec.signerName",),
    subresources=(
        Subresource("approval", "CertificateSigningRequest", STATUS_VERBS),
        _status("CertificateSigningRequest"),
    ),
)  # fmt: skip
_EXTENSIONS = ("api-extensions",)
VALIDATINGWEBHOOKCONFIGURATIONS = Resource(
    "admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations",
    namespaced=False, categories=_EXTENSIONS,
)  # fmt: skip
MUTATINGWEBHOOKCONFIGURATIONS = Resource(
    "admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations",
    namespaced=False, categories=_EXTENSIONS,
)  # fmt: skip
VALIDATINGADMISSIONPOLICIES = Resource(
    "admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies",
    namespaced=False, categories=_EXTENSIONS, subresources=(_status("ValidatingAdmissionPolicy"),),
)  # fmt: skip
VALIDATINGADMISSIONPOLICYBINDINGS = Resource(
    "admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding",
    "validatingadmissionpolicybindings", namespaced=False, categories=_EXTENSIONS,
)  # fmt: skip
MUTATINGADMISSIONPOLICIES = Resource(
    "admissionregistration.k8s.io", "v1", "MutatingAdmissionPolicy", "mutatingadmissionpolicies",
    namespaced=False, categories=_EXTENSIONS,
)  # fmt: skip
MUTATINGADMISSIONPOLICYBINDINGS = Resource(
    "admissionregistration.k8s.io", "v1", "MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings",
    namespaced=False, categories=_EXTENSIONS,
)  # fmt: skip
CUSTOMRESOURCEDEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False,
    short_names=("crd", "crds"), categories=_EXTENSIONS,
    prefix="apiextensions.k8s.io/customresourcedefinitions", subresources=(_status("CustomResourceDefinition"),),
)  # fmt: skip
APISERVICES = Resource(
    "apiregistration.k8s.io", "v1", "APIService", "apiservices", namespaced=False, categories=_EXTENSIONS,
    prefix="apiregistration.k8s.io/apiservices", subresources=(_status("APIService"),),
)  # fmt: skip
FLOWSCHEMAS = Resource(
    "flowcontrol.apiserver.k8s.io", "v1", "FlowSchema", "flowschemas", namespaced=False,
    subresources=(_status("FlowSchema"),),
)  # fmt: skip
PRIORITYLEVELCONFIGURATIONS = Resource(
    "flowcontrol.apiserver.k8s.io", "v1", "PriorityLevelConfiguration", "prioritylevelconfigurations",
    namespaced=False, subresources=(_status("PriorityLevelConfiguration"),),
)  # fmt: skip
DEVICECLASSES = Resource("resource.k8s.io", "v1", "DeviceClass", "deviceclasses", namespaced=False)
RESOURCECLAIMS = Resource(
    "resource.k8s.io", "v1", "ResourceClaim", "resourceclaims", subresources=(_status("ResourceClaim"),)
)
RESOURCECLAIMTEMPLATES = Resource("resource.k8s.io", "v1", "ResourceClaimTemplate", "resourceclaimtemplates")
RESOURCESLICES = Resource(
    "resource.k8s.io", "v1", "ResourceSlice", "resourceslices", namespaced=False,
    selectable=("spec.driver", "spec.nodeName"),
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
    BINDINGS, COMPONENTSTATUSES, CONFIGMAPS, ENDPOINTS, EVENTS, LIMITRANGES, NAMESPACES, NODES, PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES, PODS, PODTEMPLATES, REPLICATIONCONTROLLERS, RESOURCEQUOTAS, SECRETS, SERVICEACCOUNTS,
    SERVICES,
    APISERVICES,
    CONTROLLERREVISIONS, DAEMONSETS, DEPLOYMENTS, REPLICASETS, STATEFULSETS,
    NEW_EVENTS,
    SELFSUBJECTREVIEWS, TOKENREVIEWS,
    LOCALSUBJECTACCESSREVIEWS, SELFSUBJECTACCESSREVIEWS, SELFSUBJECTRULESREVIEWS, SUBJECTACCESSREVIEWS,
    HORIZONTALPODAUTOSCALERS, HORIZONTALPODAUTOSCALERS_V1,
    CRONJOBS, JOBS,
    CERTIFICATESIGNINGREQUESTS,
    INGRESSCLASSES, INGRESSES, IPADDRESSES, NETWORKPOLICIES, SERVICECIDRS,
    PODDISRUPTIONBUDGETS,
    CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES,
    CSIDRIVERS, CSINODES, CSISTORAGECAPACITIES, STORAGECLASSES, VOLUMEATTACHMENTS, VOLUMEATTRIBUTESCLASSES,
    MUTATINGADMISSIONPOLICIES, MUTATINGADMISSIONPOLICYBINDINGS, MUTATINGWEBHOOKCONFIGURATIONS,
    VALIDATINGADMISSIONPOLICIES, VALIDATINGADMISSIONPOLICYBINDINGS, VALIDATINGWEBHOOKCONFIGURATIONS,
    CUSTOMRESOURCEDEFINITIONS,
    PRIORITYCLASSES,
    LEASES,
    RUNTIMECLASSES,
    ENDPOINTSLICES,
    DEVICECLASSES, RESOURCECLAIMS, RESOURCECLAIMTEMPLATES, RESOURCESLICES,
    FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS,
)  # fmt: skip


TableHandler = Callable[[list[Resource], list[Resource]], None]


SCALES = Resource("autoscaling", "v1", "Scale", "scales", verbs=())
"""What `scale` subresources answer; nothing is served under this name."""


class ResourceTable:
    """Rows by (group, version, plural) and by (group, version, kind). Owner: the daemon.

    Custom rows come and go at run time; whoever keeps something per row asks to be told with `on_change`.
    """

    def __init__(self, rows: Iterable[Resource] = BUILT_IN) -> None:
        self._by_plural: dict[tuple[str, str, str], Resource] = {}
        self._by_kind: dict[tuple[str, str, str], Resource] = {}
        self._handlers: list[TableHandler] = []
        for row in rows:
            self._put(row)

    def __iter__(self) -> Iterator[Resource]:
        return iter(tuple(self._by_plural.values()))  # Other threads look through it while rows come and go.

    def add(self, row: Resource) -> None:
        """Serve `row` from now on."""
        self.replace([], [row])

    def remove(self, row: Resource) -> None:
        """Stop serving `row`; removing an absent one is fine."""
        self.replace([row], [])

    def replace(self, gone: Iterable[Resource], rows: Iterable[Resource]) -> None:
        """Stop serving `gone` and serve `rows`, in one step; then tell who asked."""
        gone, rows = list(gone), list(rows)
        for row in gone:
            self._by_plural.pop((row.group, row.version, row.plural), None)
            self._by_kind.pop((row.group, row.version, row.kind), None)
        for row in rows:
            self._put(row)
        for handler in list(self._handlers):
            handler(gone, rows)

    def on_change(self, handler: "TableHandler") -> Callable[[], None]:
        """Call `handler(gone, rows)` after each change, at once and on the changer's task; what is returned ends it.

        A row that is served otherwise than before is among `rows` only.
        """
        self._handlers.append(handler)

        def forget() -> None:
            if handler in self._handlers:
                self._handlers.remove(handler)

        return forget

    def _put(self, row: Resource) -> None:
        self._by_plural[row.group, row.version, row.plural] = row
        self._by_kind[row.group, row.version, row.kind] = row

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        return self._by_plural.get((group, version, plural))

    def by_kind(self, api_version: str, kind: str) -> Resource | None:
        """The row for an object's `apiVersion` and `kind`."""
        group, _, version = api_version.rpartition("/")
        return self._by_kind.get((group, version, kind))
