"""Rules of the kinds that clusters meet daily, besides pods and Services: what is taken, and the words of refusals."""

import base64
from typing import Any

from tests.contract.api_support import Cluster, Json
from tests.contract.rules_support import differs, judge

MISSING = "Required value"
CORE, CLUSTER = "/api/v1/namespaces/default", "/api/v1"
RBAC, APPS = "/apis/rbac.authorization.k8s.io/v1", "/apis/apps/v1/namespaces/default"
NET, STORAGE = "/apis/networking.k8s.io/v1", "/apis/storage.k8s.io/v1"
ROLE = "rbac.authorization.k8s.io"
Row = tuple[str, str, Json, list[str]]


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _secret(kind: str, **data: str) -> Json:
    return {"type": f"kubernetes.io/{kind}", "data": {key: _b64(text) for key, text in data.items()}}


def _binding(role: Json, *subjects: Json) -> Json:
    return {
        "roleRef": {"apiGroup": ROLE, "kind": "ClusterRole", "name": "r", **role},
        "subjects": list(subjects),
    }


def _endpoints(address: Json, *ports: Json) -> Json:
    return {"subsets": [{"addresses": [address], "ports": list(ports) or [{"port": 1}]}]}


def _slice(endpoint: Json, **fields: Any) -> Json:
    return {
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], **endpoint}],
        "ports": [],
        **fields,
    }


def _claim(**fields: Any) -> Json:
    return {
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **fields}
    }


def _volume(**fields: Any) -> Json:
    return {"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, **fields}}


def _ingress(**fields: Any) -> Json:
    path = {
        "path": "/",
        "pathType": "Prefix",
        "backend": {"service": {"name": "s", "port": {"number": 80}}},
        **fields,
    }
    return {"spec": {"rules": [{"http": {"paths": [path]}}]}}


def _policy(port: Json) -> Json:
    return {"spec": {"podSelector": {}, "ingress": [{"ports": [port]}]}}


SECRETS, MAPS = f"{CORE}/secrets Secret", f"{CORE}/configmaps ConfigMap"
ENDPOINTS = f"{CORE}/endpoints Endpoints"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices EndpointSlice"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases Lease"
ROLES, CLUSTER_ROLES = f"{RBAC}/namespaces/default/roles Role", f"{RBAC}/clusterroles ClusterRole"
BINDINGS = f"{RBAC}/namespaces/default/rolebindings RoleBinding"
CLUSTER_BINDINGS = f"{RBAC}/clusterrolebindings ClusterRoleBinding"
CLAIMS, VOLUMES = (
    f"{CORE}/persistentvolumeclaims PersistentVolumeClaim",
    f"{CLUSTER}/persistentvolumes PersistentVolume",
)
QUOTAS, LIMITS = f"{CORE}/resourcequotas ResourceQuota", f"{CORE}/limitranges LimitRange"
NODES = f"{CLUSTER}/nodes Node"
INGRESSES, POLICIES = (
    f"{NET}/namespaces/default/ingresses Ingress",
    f"{NET}/namespaces/default/networkpolicies NetworkPolicy",
)
CLASSES = f"{NET}/ingressclasses IngressClass"
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets PodDisruptionBudget"
PRIORITIES = "/apis/scheduling.k8s.io/v1/priorityclasses PriorityClass"
RUNTIMES = "/apis/node.k8s.io/v1/runtimeclasses RuntimeClass"
SCALERS = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers HorizontalPodAutoscaler"
STORAGES = f"{STORAGE}/storageclasses StorageClass"

NEW: list[Row] = [
    ("map key", MAPS, {"data": {"a b": "c"}}, ['data[a b]: Invalid value: "a b": a valid config key must consist']),
    ("map key twice", MAPS, {"data": {"a": "b"}, "binaryData": {"a": _b64("b")}},
     ['data[a]: Invalid value: "a": duplicate of key present in binaryData']),
    ("tls", SECRETS, _secret("tls", **{"tls.crt": "c"}), [f"data[tls.key]: {MISSING}"]),
    ("ssh", SECRETS, _secret("ssh-auth", **{"ssh-privatekey": "k"}), []),
    ("empty ssh", SECRETS, _secret("ssh-auth", **{"ssh-privatekey": ""}), [f"data[ssh-privatekey]: {MISSING}"]),
    ("basic", SECRETS, _secret("basic-auth"), [f"data[username]: {MISSING}", f"data[password]: {MISSING}"]),
    ("docker", SECRETS, _secret("dockerconfigjson", **{".dockerconfigjson": "x"}),
     ['data[.dockerconfigjson]: Invalid value: "<secret contents redacted>"']),
    ("account token", SECRETS, _secret("service-account-token"),
     [f"metadata.annotations[kubernetes.io/service-account.name]: {MISSING}"]),
    ("endpoints", ENDPOINTS, _endpoints({"ip": "10.0.0.1", "hostname": "a", "nodeName": "n"}), []),
    ("endpoints' address", ENDPOINTS, _endpoints({"ip": "0.0.0.0"}),
     ['subsets[0].addresses[0].ip: Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0)']),
    ("endpoints' host", ENDPOINTS, _endpoints({"ip": "10.0.0.1", "hostname": "a.b"}),
     ['subsets[0].addresses[0].hostname: Invalid value: "a.b"']),
    ("endpoints' node", ENDPOINTS, _endpoints({"ip": "10.0.0.1", "nodeName": "A"}),
     ['subsets[0].addresses[0].nodeName: Invalid value: "A"']),
    ("endpoints' ports", ENDPOINTS, _endpoints({"ip": "10.0.0.1"}, {"port": 1}, {"port": 2, "name": "b"}),
     [f"subsets[0].ports[0].name: {MISSING}"]),
    ("endpoints of a group", ENDPOINTS, _endpoints({"ip": "224.0.1.5"}), []),
    ("slice", SLICES, _slice({"hints": {"forZones": [{"name": "a"}]}}), []),
    ("slice of a kind", SLICES, _slice({}, addressType="X"), ['addressType: Unsupported value: "X"']),
    ("slice family", SLICES, _slice({"addresses": ["fd00::1"]}),
     ['endpoints[0].addresses[0]: Invalid value: "fd00::1": must be an IPv4 address']),
    ("slice hints", SLICES, _slice({"hints": {"forZones": [{"name": "a"}, {"name": "a"}]}}),
     ['endpoints[0].hints.forZones[1].name: Duplicate value: "a"']),
    ("slice domain", SLICES, _slice({"addresses": ["a"]}, addressType="FQDN"),
     ['endpoints[0].addresses[0]: Invalid value: "a": should be a domain with at least two segments']),
    ("slice ports", SLICES, _slice({}, ports=[{"name": "a", "port": 1}, {"name": "a", "port": 2}]),
     ['ports[1].name: Duplicate value: "a"']),
    ("slice app", SLICES, _slice({}, ports=[{"port": 1, "appProtocol": "a b"}]),
     ['ports[0].appProtocol: Invalid value: "a b"']),
    ("lease", LEASES, {"spec": {"holderIdentity": "", "leaseDurationSeconds": 1}}, []),
    ("lease for nothing", LEASES, {"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}},
     ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
      "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0"]),
    ("rule", ROLES, {"rules": [{}]},
     [f"rules[0].verbs: {MISSING}: verbs must contain at least one value",
      f"rules[0].apiGroups: {MISSING}: resource rules must supply at least one api group",
      f"rules[0].resources: {MISSING}: resource rules must supply at least one resource"]),
    ("rule of URLs", ROLES, {"rules": [{"verbs": ["get"], "nonResourceURLs": ["/a"]}]},
     ['rules[0].nonResourceURLs: Invalid value: ["/a"]: namespaced rules cannot apply to non-resource URLs']),
    ("aggregation", CLUSTER_ROLES, {"aggregationRule": {"clusterRoleSelectors": []}},
     [f"aggregationRule.clusterRoleSelectors: {MISSING}: at least one clusterRoleSelector required if aggregationRul"]),
    ("binding", BINDINGS, _binding({}, {"kind": "ServiceAccount", "name": "a"}, {"kind": "User", "name": "system:x"}),
     []),
    ("binding of a cluster", CLUSTER_BINDINGS, _binding({}, {"kind": "ServiceAccount", "name": "a"}),
     [f"subjects[0].namespace: {MISSING}"]),
    ("binding to a role", CLUSTER_BINDINGS, _binding({"kind": "Role"}), ['roleRef.kind: Unsupported value: "Role"']),
    ("binding to a path", BINDINGS, _binding({"name": "a/b"}),
     ["roleRef.name: Invalid value: \"a/b\": may not contain '/'"]),
    ("binding of nobody", BINDINGS, _binding({}, {"kind": "User", "name": ""}),
     [f"subjects[0].name: {MISSING}", 'subjects[0].name: Invalid value: "": user name cannot be empty']),
    ("binding of a thing", BINDINGS, _binding({}, {"kind": "X", "name": "a"}),
     ['subjects[0].kind: Unsupported value: "X": supported values: "Group", "ServiceAccount", "User"']),
    ("claim", CLAIMS, _claim(), []),
    ("claim of nothing", CLAIMS, {"spec": {}},
     [f"spec.accessModes: {MISSING}: at least 1 access mode is required", f"spec.resources[storage]: {MISSING}"]),
    ("claim for one pod and more", CLAIMS, _claim(accessModes=["ReadWriteOncePod", "ReadWriteOnce"]),
     ["spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"]),
    ("claim from a source", CLAIMS, _claim(dataSourceRef={"kind": "X", "name": "a"}),
     [f"spec.{field}: Invalid value: \"X\": must be 'PersistentVolumeClaim' when referencing the default apiGroup"
      for field in ("dataSource", "dataSourceRef")]),
    ("volume", VOLUMES, _volume(hostPath={"path": "/a"}), []),
    ("volume of nothing", VOLUMES, _volume(), [f"spec: {MISSING}: must specify a volume type"]),
    ("volume of two", VOLUMES, _volume(hostPath={"path": "/a"}, nfs={"server": "s", "path": "/p"}),
     ["spec.nfs: Forbidden: may not specify more than 1 volume type"]),
    ("local volume", VOLUMES, _volume(local={"path": "/a"}),
     [f"spec.nodeAffinity: {MISSING}: Local volume requires node"]),
    ("volume's secret", VOLUMES, _volume(csi={
        "driver": "d.ex", "volumeHandle": "h", "nodePublishSecretRef": {"name": "A", "namespace": "n"}}),
     ['spec.csi.nodePublishSecretRef.name: Invalid value: "A"']),
    ("quota", QUOTAS, {"spec": {"hard": {"x": "1"}}},
     ['spec.hard[x]: Invalid value: "x": must be a standard resource type or fully qualified',
      'spec.hard[x]: Invalid value: "x": must be a standard resource for quota']),
    ("quota of half a pod", QUOTAS, {"spec": {"hard": {"pods": "500m"}}},
     ['spec.hard[pods]: Invalid value: "500m": must be an integer']),
    ("quota scopes", QUOTAS, {"spec": {"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotBestEffort"]}},
     ['spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: conflicting scopes']),
    ("limits", LIMITS, {"spec": {"limits": [{"type": "Pod", "default": {"cpu": "1"}}]}},
     ["spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'"]),
    ("limits in order", LIMITS, {"spec": {"limits": [{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]}},
     ['spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1',
      'spec.limits[0].default[cpu]: Invalid value: "2": min value 2 is greater than default value 1',
      'spec.limits[0].defaultRequest[cpu]: Invalid value: "1": min value 2 is greater than default request value 1']),
    ("node ranges", NODES, {"spec": {"podCIDRs": ["10.0.0.0/24", "10.0.1.0/24"]}},
     ["spec.podCIDRs: Invalid value: "]),
    ("node taint", NODES, {"spec": {"taints": [{"key": "a", "effect": "X"}]}},
     ['spec.taints[0].effect: Unsupported value: "X"']),
    ("ingress", INGRESSES, _ingress(), []),
    ("ingress path", INGRESSES, _ingress(path="a"),
     ['spec.rules[0].http.paths[0].path: Invalid value: "a": must be an absolute path']),
    ("ingress path type", INGRESSES, _ingress(pathType=None),
     [f"spec.rules[0].http.paths[0].pathType: {MISSING}: pathType must be specified"]),
    ("ingress class", CLASSES, {"spec": {"controller": "a"}},
     ['spec.controller: Invalid value: "a": must be a domain-prefixed path (such as "acme.io/foo")']),
    ("policy", POLICIES, _policy({"port": 80, "endPort": 90}), []),
    ("policy ports", POLICIES, _policy({"port": "web", "endPort": 90}),
     ["spec.ingress[0].ports[0].endPort: Invalid value: 90: may not be specified when `port` is non-numeric"]),
    ("budget", BUDGETS, {"spec": {"minAvailable": 1, "maxUnavailable": 1}},
     ["spec: Invalid value: "]),
    ("budget of more than all", BUDGETS, {"spec": {"minAvailable": "101%"}},
     ['spec.minAvailable: Invalid value: "101%": must not be greater than 100%']),
    ("priority", PRIORITIES, {"value": 1000000001},
     ["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"]),
    ("runtime", RUNTIMES, {"handler": "A"}, ['handler: Invalid value: "A": a lowercase RFC 1123 label']),
    ("scaler", SCALERS, {"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 0}},
     ["spec.maxReplicas: Invalid value: 0: must be greater than 0",
      "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`"]),
    ("class", STORAGES, {"provisioner": ""}, [f"provisioner: {MISSING}"]),
]  # fmt: skip


async def test_new_objects(ready: Cluster) -> None:
    wrong = []
    for name, where, obj, expected in NEW:
        path, kind = where.split()
        found = await judge(ready, "POST", path, {"metadata": {"name": "x"}, **obj}, kind)
        if differs(found, expected):
            wrong.append((name, expected, found))
    assert not wrong


CHANGES: list[tuple[str, str, Json, Json, list[str]]] = [
    ("frozen map", MAPS, {"data": {"a": "b"}, "immutable": True}, {"data": {"a": "c"}},
     ["data: Forbidden: field is immutable when `immutable` is set"]),
    ("thawed map", MAPS, {"data": {"a": "b"}, "immutable": True}, {"immutable": False},
     ["immutable: Forbidden: field is immutable when `immutable` is set"]),
    ("frozen secret", SECRETS, {"data": {"a": "Yg=="}, "immutable": True}, {"data": {"a": "Yw=="}},
     ["data: Forbidden: field is immutable when `immutable` is set"]),
    ("secret type", SECRETS, {"type": "a"}, {"type": "b"}, ['type: Invalid value: "b": field is immutable']),
    ("role", BINDINGS, _binding({}), _binding({"name": "s"}), ["roleRef: Invalid value: "]),
    ("slice", SLICES, {"addressType": "IPv4", "endpoints": [], "ports": []}, {"addressType": "IPv6"},
     ['addressType: Invalid value: "IPv6": field is immutable']),
    ("claim", CLAIMS, _claim(), _claim(accessModes=["ReadWriteMany"]),
     ["spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for"]),
    ("volume", VOLUMES, _volume(hostPath={"path": "/a"}), _volume(hostPath={"path": "/b", "type": ""}),
     ["spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"]),
    ("larger volume", VOLUMES, _volume(hostPath={"path": "/a"}),
     _volume(hostPath={"path": "/a", "type": ""}, capacity={"storage": "2Gi"}), []),
    ("node", NODES, {"spec": {"podCIDR": "10.0.0.0/24", "providerID": "a"}},
     {"spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"], "providerID": "b"}},
     ['spec.providerID: Forbidden: node updates may not change providerID except from "" to valid']),
    ("quota scopes", QUOTAS, {"spec": {"hard": {"pods": "1"}, "scopes": ["BestEffort"]}},
     {"spec": {"hard": {"pods": "1"}}},
     ["spec.scopes: Invalid value: null: field is immutable"]),
    ("priority", PRIORITIES, {"value": 5}, {"value": 6}, ["value: Forbidden: may not be changed in an update."]),
    ("runtime", RUNTIMES, {"handler": "a"}, {"handler": "b"}, ['handler: Invalid value: "b": field is immutable']),
    ("class", STORAGES, {"provisioner": "a.b/c"}, {"parameters": {"a": "b"}},
     ["parameters: Forbidden: updates to parameters are forbidden."]),
    ("class's policy", STORAGES, {"provisioner": "a.b/c"}, {"allowVolumeExpansion": True}, []),
    ("ingress class", CLASSES, {"spec": {"controller": "a.b/c"}}, {"spec": {"controller": "a.b/d"}},
     ['spec.controller: Invalid value: "a.b/d": field is immutable']),
]  # fmt: skip


async def test_changes(ready: Cluster) -> None:
    wrong = []
    for at, (name, where, before, changes, expected) in enumerate(CHANGES):
        path, kind = where.split()
        status, made, _ = await ready.call("POST", path, {"metadata": {"name": f"x{at}"}, **before})
        assert status == 201, (name, made)
        found = await judge(ready, "PUT", f"{path}/x{at}", {**made, **changes}, kind)
        if differs(found, expected):
            wrong.append((name, expected, found))
    assert not wrong


async def test_the_phase_of_a_namespace_follows_its_deletion(ready: Cluster) -> None:
    _, held, _ = await ready.call("GET", "/api/v1/namespaces/default")
    path = "/api/v1/namespaces/default/status"
    found = await judge(ready, "PUT", path, {**held, "status": {"phase": "Terminating"}}, "Namespace")
    assert found == [
        "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"
    ]
    status, _, _ = await ready.call("DELETE", "/api/v1/namespaces/default")
    assert status == 200
    _, ending, _ = await ready.call("GET", "/api/v1/namespaces/default")
    found = await judge(ready, "PUT", path, {**ending, "status": {"phase": "Active"}}, "Namespace")
    assert found == [
        "status.Phase: Invalid value: \"Active\": may only be 'Terminating' if `deletionTimestamp` is not empty"
    ]


DEPLOYMENT = {"selector": {"matchLabels": {"a": "b"}}, "template": {
    "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}  # fmt: skip
T = "spec.template.spec"
TEMPLATES: list[tuple[str, Json, list[str]]] = [
    ("fine", {}, []),
    ("image", {"containers": [{"name": "c", "image": ""}]}, [f"{T}.containers[0].image: {MISSING}"]),
    ("blank image", {"containers": [{"name": "c", "image": " "}]}, []),
    ("restart", {"restartPolicy": "Never"},
     [f'{T}.restartPolicy: Unsupported value: "Never": supported values: "Always"']),
    ("deadline", {"activeDeadlineSeconds": 1},
     [f"{T}.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported"]),
    ("ephemeral", {"ephemeralContainers": [{"name": "e", "image": "i"}]},
     [f"{T}.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod template"]),
    ("image volume to be filled in", {"volumes": [{"name": "v", "image": {}}]}, []),
    ("host network", {
        "hostNetwork": True, "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 1}]}]}, []),
    ("dns", {"dnsConfig": {"options": [{}]}}, [f"{T}.dnsConfig.options[0]: {MISSING}: must not be empty"]),
]  # fmt: skip


async def test_templates_of_pods(ready: Cluster) -> None:
    for name, changes, expected in TEMPLATES:
        template = {**DEPLOYMENT["template"], "spec": {**DEPLOYMENT["template"]["spec"], **changes}}
        body = {"metadata": {"name": "d"}, "spec": {**DEPLOYMENT, "template": template}}
        found = await judge(ready, "POST", f"{APPS}/deployments", body, "Deployment")
        assert not differs(found, expected), (name, found)
