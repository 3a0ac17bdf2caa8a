"""The rows of every kind but pods, and which kind has which."""

from typing import Any

from orchestrator.api.events import to_core
from orchestrator.api.item import Object
from orchestrator.api.printing import custom
from orchestrator.api.printing.columns import (
    AGE,
    CONTAINERS,
    CREATED_AT,
    IMAGES,
    NAME,
    NONE,
    SELECTOR,
    Column,
    Printer,
    age_of,
    joined,
    map_text,
    more,
    name_of,
    part,
    selector_text,
    template_cells,
    wide,
)
from orchestrator.api.printing.duration import UNKNOWN, age
from orchestrator.api.printing.extensions import PRINTERS as EXTENSIONS
from orchestrator.api.printing.networking import PRINTERS as NETWORKING
from orchestrator.api.printing.pods import PODS
from orchestrator.api.printing.policies import PRINTERS as POLICIES
from orchestrator.api.printing.storage import PRINTERS as STORAGE
from orchestrator.api.printing.workloads import PRINTERS as WORKLOADS
from orchestrator.api.resources import Resource

_SHOWN_MAX = 3
_ROLE_PREFIX = "node-role.kubernetes.io/"


def printer_of(resource: Resource) -> Printer:
    """The table of `resource`; name and creation time where the kind has none of its own."""
    if resource.columns is not None:
        return custom.printer(resource.columns)
    return _PRINTERS.get((resource.group, resource.plural), _DEFAULT)


def _default_cells(obj: Object, now_s: float) -> list[Any]:
    return [name_of(obj), obj["metadata"].get("creationTimestamp") or UNKNOWN]


_DEFAULT = Printer((NAME, CREATED_AT), _default_cells)


# ── Nodes and namespaces ─────────────────────────────────────────────────────────────────────────────────


def _node_cells(node: Object, now_s: float) -> list[Any]:
    status = part(node, "status")
    info = part(status, "nodeInfo")
    return [
        name_of(node),
        _node_state(node),
        joined(_roles(node["metadata"].get("labels") or {})),
        age_of(node, now_s),
        info.get("kubeletVersion", ""),
        _address(status, "InternalIP"),
        _address(status, "ExternalIP"),
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _node_state(node: Object) -> str:
    ready = [c for c in part(node, "status").get("conditions") or () if c.get("type") == "Ready"]
    if not ready:
        words = ["Unknown"]
    else:
        words = ["Ready" if ready[-1].get("status") == "True" else "NotReady"]
    if part(node, "spec").get("unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _roles(labels: dict[str, str]) -> list[str]:
    roles = {key.removeprefix(_ROLE_PREFIX) for key in labels if key.startswith(_ROLE_PREFIX)}
    roles.add(labels.get("kubernetes.io/role", ""))
    return sorted(roles - {""})


def _address(status: Object, kind: str) -> str:
    found = (a.get("address") for a in status.get("addresses") or () if a.get("type") == kind)
    return next(found, None) or NONE


_NODES = Printer(
    (
        NAME,
        Column("Status", "Whether the node is ready, and whether new pods may be placed on it"),
        Column("Roles", "Roles of the node, from its labels"),
        AGE,
        Column("Version", "Version that the node's agent reports"),
        wide("Internal-IP", "Address of the node inside the cluster"),
        wide("External-IP", "Address of the node for the outside"),
        wide("OS-Image", "Operating system of the node"),
        wide("Kernel-Version", "Kernel of the node"),
        wide("Container-Runtime", "Container runtime and its version"),
    ),
    _node_cells,
)


def _namespace_cells(namespace: Object, now_s: float) -> list[Any]:
    return [name_of(namespace), part(namespace, "status").get("phase", ""), age_of(namespace, now_s)]


_NAMESPACES = Printer((NAME, Column("Status", "Phase of the namespace"), AGE), _namespace_cells)


# ── Services and endpoints ───────────────────────────────────────────────────────────────────────────────


def _service_cells(service: Object, now_s: float) -> list[Any]:
    spec = part(service, "spec")
    ips = spec.get("clusterIPs") or [spec.get("clusterIP")]
    return [
        name_of(service),
        spec.get("type", ""),
        ips[0] or NONE,
        _external_ip(service, spec),
        joined(_service_port(port) for port in spec.get("ports") or ()),
        age_of(service, now_s),
        map_text(spec.get("selector")),
    ]


def _external_ip(service: Object, spec: Object) -> str:
    kind, fixed = spec.get("type"), list(spec.get("externalIPs") or ())
    if kind == "ExternalName":
        return spec.get("externalName") or NONE
    if kind != "LoadBalancer":
        return joined(fixed)
    ingress = part(part(service, "status"), "loadBalancer").get("ingress") or ()
    given = [entry.get("ip") or entry.get("hostname") or "" for entry in ingress]
    return ",".join([text for text in given if text] + fixed) or "<pending>"


def _service_port(port: Object) -> str:
    middle = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port')}{middle}/{port.get('protocol', 'TCP')}"


_SERVICES = Printer(
    (
        NAME,
        Column("Type", "How the Service is reached"),
        Column("Cluster-IP", "Address of the Service inside the cluster"),
        Column("External-IP", "Addresses of the Service for the outside"),
        Column("Port(s)", "Ports of the Service, with node ports and protocols"),
        AGE,
        SELECTOR,
    ),
    _service_cells,
)


def _endpoints_cells(endpoints: Object, now_s: float) -> list[Any]:
    found: list[str] = []
    for subset in endpoints.get("subsets") or ():
        ips = [address.get("ip", "") for address in subset.get("addresses") or ()]
        ports = [port.get("port") for port in subset.get("ports") or ()]
        found += [f"{ip}:{port}" for port in ports for ip in ips] if ports else ips
    return [name_of(endpoints), more(found[:_SHOWN_MAX], len(found)), age_of(endpoints, now_s)]


_ENDPOINTS = Printer((NAME, Column("Endpoints", "Addresses and ports that are ready"), AGE), _endpoints_cells)


def _slice_cells(item: Object, now_s: float) -> list[Any]:
    ports = item.get("ports") or ()
    texts = [str(port["port"]) if port.get("port") is not None else "*" for port in ports]
    addresses = [ip for endpoint in item.get("endpoints") or () for ip in endpoint.get("addresses") or ()]
    return [
        name_of(item),
        item.get("addressType", ""),
        more(texts[:_SHOWN_MAX], len(texts)) if texts else "<unset>",
        more(addresses[:_SHOWN_MAX], len(addresses)) if addresses else "<unset>",
        age_of(item, now_s),
    ]


_ENDPOINTSLICES = Printer(
    (
        NAME,
        Column("AddressType", "What the addresses are: IPv4, IPv6 or FQDN"),
        Column("Ports", "Ports of every endpoint in the slice"),
        Column("Endpoints", "Addresses in the slice"),
        AGE,
    ),
    _slice_cells,
)


# ── Workloads ────────────────────────────────────────────────────────────────────────────────────────────


def _deployment_cells(deployment: Object, now_s: float) -> list[Any]:
    spec, status = part(deployment, "spec"), part(deployment, "status")
    return [
        name_of(deployment),
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        age_of(deployment, now_s),
        *template_cells(spec),
        selector_text(spec.get("selector")),
    ]


_DEPLOYMENTS = Printer(
    (
        NAME,
        Column("Ready", "Ready pods out of those wanted"),
        Column("Up-to-date", "Pods that have the newest template", type="integer"),
        Column("Available", "Pods that have been ready for long enough", type="integer"),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ),
    _deployment_cells,
)


def _replicaset_cells(replicaset: Object, now_s: float) -> list[Any]:
    spec, status = part(replicaset, "spec"), part(replicaset, "status")
    return [
        name_of(replicaset),
        spec.get("replicas", 0),
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        age_of(replicaset, now_s),
        *template_cells(spec),
        selector_text(spec.get("selector")),
    ]


_REPLICASETS = Printer(
    (
        NAME,
        Column("Desired", "Pods wanted", type="integer"),
        Column("Current", "Pods that exist", type="integer"),
        Column("Ready", "Pods that are ready", type="integer"),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ),
    _replicaset_cells,
)


def _revision_cells(revision: Object, now_s: float) -> list[Any]:
    owners = revision["metadata"].get("ownerReferences") or ()
    owner = next((o for o in owners if o.get("controller")), None)
    text = NONE
    if owner is not None:
        group = owner["apiVersion"].rpartition("/")[0]
        text = f"{owner['kind'].lower()}{'.' if group else ''}{group}/{owner['name']}"
    return [name_of(revision), text, revision.get("revision", 0), age_of(revision, now_s)]


_REVISIONS = Printer(
    (
        NAME,
        Column("Controller", "Object that the revision belongs to"),
        Column("Revision", "Number of the revision", type="integer"),
        AGE,
    ),
    _revision_cells,
)


# ── Configuration and small kinds ────────────────────────────────────────────────────────────────────────


def _configmap_cells(configmap: Object, now_s: float) -> list[Any]:
    count = len(configmap.get("data") or ()) + len(configmap.get("binaryData") or ())
    return [name_of(configmap), count, age_of(configmap, now_s)]


def _secret_cells(secret: Object, now_s: float) -> list[Any]:
    return [name_of(secret), secret.get("type", ""), len(secret.get("data") or ()), age_of(secret, now_s)]


def _account_cells(account: Object, now_s: float) -> list[Any]:
    return [name_of(account), len(account.get("secrets") or ()), age_of(account, now_s)]


def _lease_cells(lease: Object, now_s: float) -> list[Any]:
    return [name_of(lease), part(lease, "spec").get("holderIdentity", ""), age_of(lease, now_s)]


_DATA = Column("Data", "Number of entries", type="integer")
_CONFIGMAPS = Printer((NAME, _DATA, AGE), _configmap_cells)
_SECRETS = Printer((NAME, Column("Type", "What the secret is for"), _DATA, AGE), _secret_cells)
_ACCOUNTS = Printer((NAME, Column("Secrets", "Number of secrets", type="integer"), AGE), _account_cells)
_LEASES = Printer((NAME, Column("Holder", "Who holds the lease"), AGE), _lease_cells)


def _event_cells(event: Object, now_s: float) -> list[Any]:
    about, series = part(event, "involvedObject"), part(event, "series")
    first = event.get("firstTimestamp") or event.get("eventTime")
    last = series.get("lastObservedTime") or event.get("lastTimestamp") or first
    target = about.get("kind", "").lower()
    if about.get("name"):
        target += f"/{about['name']}"
    source = part(event, "source")
    return [
        age(last, now_s),
        event.get("type", ""),
        event.get("reason", ""),
        target,
        about.get("fieldPath", ""),
        ", ".join(
            text
            for text in (
                source.get("component") or event.get("reportingComponent"),
                source.get("host") or event.get("reportingInstance"),
            )
            if text
        ),
        (event.get("message") or "").strip(),
        age(first, now_s),
        series.get("count") or event.get("count") or 1,
        name_of(event),
    ]


_EVENTS = Printer(
    (
        Column("Last Seen", "Time since it happened last"),
        Column("Type", "Normal or Warning"),
        Column("Reason", "Short word for why it happened"),
        Column("Object", "Object that the event is about"),
        wide("Subobject", "Part of the object that the event is about"),
        wide("Source", "Component that reported it"),
        Column("Message", "What happened"),
        wide("First Seen", "Time since it happened first"),
        wide("Count", "How often it happened", "integer"),
        Column("Name", "Name of the event", format="name", priority=1),
    ),
    _event_cells,
)
_NEW_EVENTS = Printer(_EVENTS.columns, lambda event, now_s: _event_cells(to_core(event), now_s))


# ── Access ───────────────────────────────────────────────────────────────────────────────────────────────


def _binding_cells(binding: Object, now_s: float) -> list[Any]:
    role, subjects = part(binding, "roleRef"), binding.get("subjects") or ()
    named = {
        kind: [s.get("name", "") for s in subjects if s.get("kind") == kind] for kind in ("User", "Group")
    }
    accounts = [
        f"{s.get('namespace', '')}/{s.get('name', '')}" for s in subjects if s.get("kind") == "ServiceAccount"
    ]
    return [
        name_of(binding),
        f"{role.get('kind', '')}/{role.get('name', '')}",
        age_of(binding, now_s),
        ", ".join(named["User"]),
        ", ".join(named["Group"]),
        ", ".join(accounts),
    ]


_BINDINGS = Printer(
    (
        NAME,
        Column("Role", "Role that is granted"),
        AGE,
        wide("Users", "Users who get the role"),
        wide("Groups", "Groups that get the role"),
        wide("ServiceAccounts", "Service accounts that get the role"),
    ),
    _binding_cells,
)

_PRINTERS: dict[tuple[str, str], Printer] = {
    ("", "pods"): PODS,
    ("", "nodes"): _NODES,
    ("", "namespaces"): _NAMESPACES,
    ("", "services"): _SERVICES,
    ("", "endpoints"): _ENDPOINTS,
    ("", "configmaps"): _CONFIGMAPS,
    ("", "secrets"): _SECRETS,
    ("", "serviceaccounts"): _ACCOUNTS,
    ("", "events"): _EVENTS,
    ("events.k8s.io", "events"): _NEW_EVENTS,
    ("apps", "deployments"): _DEPLOYMENTS,
    ("apps", "replicasets"): _REPLICASETS,
    ("apps", "controllerrevisions"): _REVISIONS,
    ("coordination.k8s.io", "leases"): _LEASES,
    ("discovery.k8s.io", "endpointslices"): _ENDPOINTSLICES,
    ("rbac.authorization.k8s.io", "rolebindings"): _BINDINGS,
    ("rbac.authorization.k8s.io", "clusterrolebindings"): _BINDINGS,
    **POLICIES,
    **STORAGE,
    **WORKLOADS,
    **NETWORKING,
    **EXTENSIONS,
}
