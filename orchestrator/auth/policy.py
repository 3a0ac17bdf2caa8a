"""The roles and bindings that every cluster starts with, as a table. Source: RBAC defaults of Kubernetes v1.36.

`daemon` writes them at start; rules that an operator added to a default role stay, missing ones come back
unless the object is annotated `rbac.authorization.kubernetes.io/autoupdate: "false"`.
"""

from orchestrator.api.item import Object

AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"
_LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_RBAC = "rbac.authorization.k8s.io"
READ = ("get", "list", "watch")
WRITE = ("create", "delete", "deletecollection", "patch", "update")
ALL = (*READ, *WRITE)

_VIEWABLE: dict[str, tuple[str, ...]] = {
    "": (
        "configmaps", "endpoints", "persistentvolumeclaims", "persistentvolumeclaims/status", "pods",
        "replicationcontrollers", "replicationcontrollers/scale", "serviceaccounts", "services", "services/status",
        "bindings", "events", "limitranges", "namespaces/status", "pods/log", "pods/status",
        "replicationcontrollers/status", "resourcequotas", "resourcequotas/status", "namespaces",
    ),
    "apps": (
        "controllerrevisions", "daemonsets", "daemonsets/status", "deployments", "deployments/scale",
        "deployments/status", "replicasets", "replicasets/scale", "replicasets/status", "statefulsets",
        "statefulsets/scale", "statefulsets/status",
    ),
    "autoscaling": ("horizontalpodautoscalers", "horizontalpodautoscalers/status"),
    "batch": ("cronjobs", "cronjobs/status", "jobs", "jobs/status"),
    "discovery.k8s.io": ("endpointslices",),
    "networking.k8s.io": ("ingresses", "ingresses/status", "networkpolicies"),
    "policy": ("poddisruptionbudgets", "poddisruptionbudgets/status"),
}  # fmt: skip
_EDITABLE: dict[str, tuple[str, ...]] = {
    "": (
        "configmaps", "endpoints", "events", "persistentvolumeclaims", "pods", "pods/attach", "pods/eviction",
        "pods/exec", "pods/portforward", "pods/proxy", "replicationcontrollers", "replicationcontrollers/scale",
        "secrets", "serviceaccounts", "services", "services/proxy",
    ),
    "apps": (
        "daemonsets", "deployments", "deployments/rollback", "deployments/scale", "replicasets",
        "replicasets/scale", "statefulsets", "statefulsets/scale",
    ),
    "autoscaling": ("horizontalpodautoscalers",),
    "batch": ("cronjobs", "jobs"),
    "coordination.k8s.io": ("leases",),
    "networking.k8s.io": ("ingresses", "networkpolicies"),
    "policy": ("poddisruptionbudgets",),
}  # fmt: skip


def _rule(groups: str | tuple[str, ...], resources: tuple[str, ...], verbs: tuple[str, ...]) -> Object:
    named = (groups,) if isinstance(groups, str) else groups
    return {"verbs": sorted(verbs), "apiGroups": list(named), "resources": list(resources)}


def _paths(*paths: str) -> Object:
    return {"verbs": ["get"], "nonResourceURLs": list(paths)}


def _rules(table: dict[str, tuple[str, ...]], verbs: tuple[str, ...]) -> list[Object]:
    return [_rule(group, resources, verbs) for group, resources in table.items()]


_EVENTS = _rule(("", "events.k8s.io"), ("events",), ("create", "patch", "update"))
_AGENT = ("configz", "healthz", "log", "metrics", "pods", "proxy", "stats")
"""What of a node's agent is granted by a name of its own."""
_REVIEWS = (
    _rule("authentication.k8s.io", ("tokenreviews",), ("create",)),
    _rule("authorization.k8s.io", ("subjectaccessreviews",), ("create",)),
)
_VIEW = _rules(_VIEWABLE, READ)
_EDIT_ONLY = [
    *_rules(_EDITABLE, WRITE),
    _rule(
        "", ("secrets", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "services/proxy"), READ
    ),
    _rule("coordination.k8s.io", ("leases",), READ),
    _rule("", ("serviceaccounts",), ("impersonate",)),
    _rule("", ("serviceaccounts/token",), ("create",)),
]
_ADMIN_ONLY = [
    _rule(_RBAC, ("rolebindings", "roles"), ALL),
    _rule("authorization.k8s.io", ("localsubjectaccessreviews",), ("create",)),
]
_EDIT = [*_EDIT_ONLY, *_VIEW]
_AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"
AGGREGATED: dict[str, str] = {
    "edit": "admin", "view": "edit",
    "system:aggregate-to-admin": "admin", "system:aggregate-to-edit": "edit", "system:aggregate-to-view": "view",
}  # fmt: skip
"""Role → the role that gathers its rules, as it does those of every other role with the same label."""

CLUSTER_ROLES: dict[str, list[Object]] = {
    "cluster-admin": [
        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
        {"verbs": ["*"], "nonResourceURLs": ["*"]},
    ],
    "admin": [*_EDIT, *_ADMIN_ONLY],
    "edit": _EDIT,
    "view": _VIEW,
    "system:aggregate-to-admin": _ADMIN_ONLY,
    "system:aggregate-to-edit": _EDIT_ONLY,
    "system:aggregate-to-view": _VIEW,
    "system:discovery": [
        _paths("/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz",
               "/version", "/version/"),
    ],
    "system:public-info-viewer": [_paths("/healthz", "/livez", "/readyz", "/version", "/version/")],
    "system:monitoring": [_paths("/metrics", "/metrics/slis", "/livez", "/livez/*", "/readyz", "/readyz/*",
                                 "/healthz", "/healthz/*")],
    "system:basic-user": [
        _rule("authorization.k8s.io", ("selfsubjectaccessreviews", "selfsubjectrulesreviews"), ("create",)),
        _rule("authentication.k8s.io", ("selfsubjectreviews",), ("create",)),
    ],
    "system:auth-delegator": [*_REVIEWS],
    "system:kubelet-api-admin": [
        _rule("", ("nodes",), ("get", "list", "watch", "proxy")),
        _rule("", tuple(f"nodes/{name}" for name in _AGENT), ("*",)),
    ],
    "system:node-proxier": [
        _rule("", ("services", "endpoints", "nodes"), READ),
        _rule("discovery.k8s.io", ("endpointslices",), READ),
        _EVENTS,
    ],
    "system:kube-dns": [
        _rule("", ("services", "endpoints", "namespaces", "pods"), READ),
        _rule("discovery.k8s.io", ("endpointslices",), READ),
    ],
    "system:kube-scheduler": [
        _rule("", ("nodes", "pods", "namespaces", "replicationcontrollers", "services"), READ),
        _rule("", ("pods",), ("delete",)),
        _rule("", ("bindings", "pods/binding"), ("create",)),
        _rule("", ("pods/status",), ("patch", "update")),
        _rule("", ("persistentvolumeclaims", "persistentvolumes"), READ),
        _rule("apps", ("replicasets", "statefulsets"), READ),
        _rule("policy", ("poddisruptionbudgets",), READ),
        _rule("storage.k8s.io", ("csidrivers", "csinodes", "csistoragecapacities", "volumeattachments"), READ),
        _rule("coordination.k8s.io", ("leases",), ("create", "get", "list", "update", "watch")),
        _EVENTS,
        *_REVIEWS,
    ],
    "system:volume-scheduler": [
        _rule("", ("persistentvolumeclaims", "persistentvolumes"), (*READ, "patch", "update")),
        _rule("storage.k8s.io", ("storageclasses",), READ),
    ],
    "system:kube-controller-manager": [
        {"verbs": list(READ), "apiGroups": ["*"], "resources": ["*"]},
        {"verbs": ["delete", "deletecollection", "patch", "update"], "apiGroups": ["*"], "resources": ["*"]},
        _rule("", ("configmaps", "endpoints", "pods", "secrets", "serviceaccounts", "serviceaccounts/token"),
              ("create",)),
        _rule("apiregistration.k8s.io", ("apiservices",), ("create",)),
        _rule("", ("persistentvolumeclaims", "persistentvolumes"), ("create",)),
        _rule("storage.k8s.io", ("volumeattachments",), ("create",)),
        _rule("apps", ("controllerrevisions", "replicasets"), ("create",)),
        _rule("batch", ("jobs",), ("create",)),
        _rule("discovery.k8s.io", ("endpointslices",), ("create",)),
        _rule("networking.k8s.io", ("ipaddresses", "servicecidrs"), ("create",)),
        _rule("certificates.k8s.io", ("signers",), ("approve", "sign")),
        _rule(_RBAC, ("clusterroles",), ("escalate",)),
        _rule("coordination.k8s.io", ("leases",), ("create",)),
        _EVENTS,
        *_REVIEWS,
    ],
}  # fmt: skip

CLUSTER_ROLE_BINDINGS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "cluster-admin": ("cluster-admin", (("Group", "system:masters"),)),
    "system:discovery": ("system:discovery", (("Group", "system:authenticated"),)),
    "system:basic-user": ("system:basic-user", (("Group", "system:authenticated"),)),
    "system:public-info-viewer": (
        "system:public-info-viewer",
        (("Group", "system:authenticated"), ("Group", "system:unauthenticated")),
    ),
    "system:monitoring": ("system:monitoring", (("Group", "system:monitoring"),)),
    "system:node-proxier": ("system:node-proxier", (("User", "system:kube-proxy"),)),
    "system:kube-dns": ("system:kube-dns", (("User", "system:kube-dns"),)),
    "system:kube-scheduler": ("system:kube-scheduler", (("User", "system:kube-scheduler"),)),
    "system:volume-scheduler": ("system:volume-scheduler", (("User", "system:kube-scheduler"),)),
    "system:kube-controller-manager": (
        "system:kube-controller-manager",
        (("User", "system:kube-controller-manager"),),
    ),
}


def cluster_roles() -> list[Object]:
    """Every default ClusterRole as an object."""
    return [_cluster_role(name, rules) for name, rules in CLUSTER_ROLES.items()]


def _cluster_role(name: str, rules: list[Object]) -> Object:
    """What it gathers stands in it from the start; its controller keeps it so."""
    role = {**_head("ClusterRole", name), "rules": rules}
    if name in AGGREGATED:
        role["metadata"]["labels"][f"{_AGGREGATE}{AGGREGATED[name]}"] = "true"
    if name in AGGREGATED.values():
        selector = {"matchLabels": {f"{_AGGREGATE}{name}": "true"}}
        role["aggregationRule"] = {"clusterRoleSelectors": [selector]}
    return role


def cluster_role_bindings() -> list[Object]:
    """Every default ClusterRoleBinding as an object."""
    return [
        {
            **_head("ClusterRoleBinding", name),
            "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": _RBAC, "kind": kind, "name": who} for kind, who in subjects],
        }
        for name, (role, subjects) in CLUSTER_ROLE_BINDINGS.items()
    ]


def _head(kind: str, name: str) -> Object:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": kind,
        "metadata": {"name": name, "labels": dict(_LABELS), "annotations": {AUTOUPDATE: "true"}},
    }
