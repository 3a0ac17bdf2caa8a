"""What is accepted in a pod or template but deserves a `Warning` header. Pure, and cheap on ordinary ones.

Called by `pods` for new pods and by `workload_rules` for templates. Source: core warnings of Kubernetes v1.36.
"""

from collections.abc import Iterator
from typing import Any

from orchestrator.api import names, quantity
from orchestrator.api.item import Object
from orchestrator.registry.strategies.pod_annotations import APPARMOR, SECCOMP_CONTAINER, SECCOMP_POD

_DEPRECATED_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
}
_DEPRECATED_ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": (
        'non-functional in v1.16+; use the "priorityClassName" field instead'
    ),
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}
_DEPRECATED_VOLUMES = {
    "photonPersistentDisk": "photonPersistentDisk: deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
    "scaleIO": "scaleIO: deprecated in v1.16, non-functional in v1.22+",
    "flocker": "flocker: deprecated in v1.22, non-functional in v1.25+",
    "storageos": "storageOS: deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "quobyte: deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "glusterfs: deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "cephfs: deprecated in v1.28, non-functional in v1.31+",
    "rbd": "rbd: deprecated in v1.28, non-functional in v1.31+",
}
_HOST_NAME = (
    "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is"
    " recommended: "
)
_NO_SELECTOR = "a null labelSelector results in matching no pod"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_SHOWN_SOURCES = {"configMap": "configMap", "secret": "secrets", "downwardAPI": "downwardAPI"}
_FRACTIONS = ("memory", "ephemeral-storage")
_CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")


def pod_warnings(pod: Object) -> list[str]:
    """Of a new pod."""
    problems = names.is_dns1123_label(pod["metadata"].get("name") or "")
    found = [f"{_HOST_NAME}[{' '.join(problems)}]"] if problems else []
    return found + _warnings(pod["spec"], pod["metadata"].get("annotations"), "")


def template_warnings(template: Object | None, field: str) -> list[str]:
    """Of a `PodTemplateSpec` at `field`, such as `spec.template`."""
    if template is None:
        return []
    metadata, spec = template.get("metadata") or {}, template.get("spec") or {}
    return _warnings(spec, metadata.get("annotations"), f"{field}.")


def _warnings(spec: Object, annotations: Object | None, prefix: str) -> list[str]:
    field = f"{prefix}spec"
    found: list[str] = []
    if spec.get("nodeSelector"):
        found += [
            f"{field}.nodeSelector[{key}]: {_DEPRECATED_LABELS[key]}"
            for key in spec["nodeSelector"]
            if key in _DEPRECATED_LABELS
        ]
    if spec.get("affinity"):
        found += _node_affinity_warnings(spec["affinity"], f"{field}.affinity.nodeAffinity")
    if spec.get("topologySpreadConstraints"):
        found += _spread_warnings(spec["topologySpreadConstraints"], f"{field}.topologySpreadConstraints")
    if annotations:
        found += _annotation_warnings(annotations, spec, prefix)
    if spec.get("volumes"):
        found += _volume_warnings(spec["volumes"], f"{field}.volumes")
    if "hostAliases" in spec or "imagePullSecrets" in spec:
        found += _list_warnings(spec, field)
    if spec.get("overhead"):
        found += _fraction_warnings(spec["overhead"], f"{field}.overhead")
    ports: dict[tuple[int, str], list[tuple[str, Object]]] = {}
    of_ports: list[str] = []
    for path, container in _containers(spec, field):
        found += _container_warnings(container, path)
        for at, port in enumerate(container.get("ports") or ()):
            of_ports += _port_warnings(port, f"{path}.ports[{at}]", ports)
    found += of_ports
    grace_s = spec.get("terminationGracePeriodSeconds")
    if grace_s is not None and grace_s < 0:
        text = "must be >= 0; negative values are invalid and will be treated as 1"
        found.append(f"{field}.terminationGracePeriodSeconds: {text}")
    if spec.get("affinity"):
        found += _pod_affinity_warnings(spec["affinity"], f"{field}.affinity")
    return found


def _containers(spec: Object, field: str) -> Iterator[tuple[str, Object]]:
    for kind in _CONTAINER_LISTS:
        for at, container in enumerate(spec.get(kind, ())):
            yield f"{field}.{kind}[{at}]", container


# ── Placement ────────────────────────────────────────────────────────────────────────────────────────────


def _node_affinity_warnings(affinity: Object, field: str) -> list[str]:
    node = affinity.get("nodeAffinity") or {}
    found: list[str] = []
    for at, term in enumerate((node.get(_REQUIRED) or {}).get("nodeSelectorTerms") or ()):
        found += _node_term_warnings(term, f"{field}.{_REQUIRED}.nodeSelectorTerms[{at}]", of_values=False)
    for at, weighted in enumerate(node.get(_PREFERRED) or ()):
        path = f"{field}.{_PREFERRED}[{at}].preference"
        found += _node_term_warnings(weighted.get("preference") or {}, path, of_values=True)
    return found


def _node_term_warnings(term: Object, field: str, *, of_values: bool) -> list[str]:
    """`of_values` where a value that no label can have is not refused."""
    found: list[str] = []
    for at, expression in enumerate(term.get("matchExpressions") or ()):
        key, path = expression.get("key", ""), f"{field}.matchExpressions[{at}]"
        if key in _DEPRECATED_LABELS:
            found.append(f"{path}.key: {key} is {_DEPRECATED_LABELS[key]}")
        for nth, value in enumerate(expression.get("values") or ()) if of_values else ():
            problems = names.is_label_value(value)
            found += [f"{path}.values[{nth}]: {value} is invalid, {text}" for text in problems]
    return found


def _spread_warnings(constraints: list[Object], field: str) -> list[str]:
    found: list[str] = []
    for at, constraint in enumerate(constraints):
        key = constraint.get("topologyKey", "")
        if key in _DEPRECATED_LABELS:
            found.append(f"{field}[{at}].topologyKey: {key} is {_DEPRECATED_LABELS[key]}")
        if constraint.get("labelSelector") is None:
            found.append(f"{field}[{at}].labelSelector: {_NO_SELECTOR}")
    return found


def _pod_affinity_warnings(affinity: Object, field: str) -> list[str]:
    found: list[str] = []
    for kind in ("podAffinity", "podAntiAffinity"):
        terms = affinity.get(kind) or {}
        found += [
            f"{field}.{kind}.{_REQUIRED}[{at}].labelSelector: {_NO_SELECTOR}"
            for at, term in enumerate(terms.get(_REQUIRED) or ())
            if term.get("labelSelector") is None
        ]
        found += [
            f"{field}.{kind}.{_PREFERRED}[{at}].podAffinityTerm.labelSelector: {_NO_SELECTOR}"
            for at, weighted in enumerate(terms.get(_PREFERRED) or ())
            if (weighted.get("podAffinityTerm") or {}).get("labelSelector") is None
        ]
    return found


# ── Annotations, volumes, lists ──────────────────────────────────────────────────────────────────────────


def _annotation_warnings(annotations: Object, spec: Object, prefix: str) -> list[str]:
    field = f"{prefix}metadata.annotations"
    found = [f"{field}[{key}]: {text}" for key, text in _DEPRECATED_ANNOTATIONS.items() if key in annotations]
    gone = 'non-functional in v1.27+; use the "seccompProfile" field instead'
    context = spec.get("securityContext") or {}
    if SECCOMP_POD in annotations and not context.get("seccompProfile"):
        found.append(f"{field}[{SECCOMP_POD}]: {gone}")
    for _, container in _containers(spec, ""):
        own, name = container.get("securityContext") or {}, container.get("name", "")
        if SECCOMP_CONTAINER + name in annotations and not own.get("seccompProfile"):
            found.append(f"{field}[{SECCOMP_CONTAINER}{name}]: {gone}")
        profile = own.get("appArmorProfile") or context.get("appArmorProfile")
        if APPARMOR + name in annotations and not profile:
            text = 'deprecated since v1.30; use the "appArmorProfile" field instead'
            found.append(f"{field}[{APPARMOR}{name}]: {text}")
    return found


def _volume_warnings(volumes: list[Object], field: str) -> list[str]:
    found = [
        f"{field}[{at}].{_DEPRECATED_VOLUMES[kind]}"
        for at, volume in enumerate(volumes)
        for kind in volume
        if kind in _DEPRECATED_VOLUMES and volume[kind] is not None
    ]
    projected = [
        (f"{field}[{at}].projected.sources", source)
        for at, volume in enumerate(volumes)
        for source in (volume.get("projected") or {}).get("sources") or ()
    ]
    tokens = {
        source["serviceAccountToken"].get("path")
        for _, source in projected
        if source.get("serviceAccountToken")
    }
    if tokens:
        for path, source in projected:
            found += _token_warnings(source, path, tokens)
    return found


def _token_warnings(source: Object, field: str, tokens: set[Any]) -> list[str]:
    """Files that stand where a token stands."""
    same = 'has duplicated path with ServiceAccountToken "{}"'
    found: list[str] = []
    for kind in source:
        shown = _SHOWN_SOURCES.get(kind)
        if shown is not None and source[kind]:
            found += [
                f"{field}.{shown}[{at}]: {same.format(item['path'])}"
                for at, item in enumerate(source[kind].get("items") or ())
                if item.get("path") in tokens
            ]
    bundle = source.get("clusterTrustBundle")
    if bundle and bundle.get("path") in tokens:
        found.append(f"{field}.ClusterTrustBundle: {same.format(bundle['path'])}")
    return found


def _list_warnings(spec: Object, field: str) -> list[str]:
    """Entries of lists that are keyed by what these have in common."""
    found: list[str] = []
    for name, key in (("hostAliases", "ip"), ("imagePullSecrets", "name")):
        seen: set[str] = set()
        for at, entry in enumerate(spec.get(name) or ()):
            value = entry.get(key) or ""
            if value in seen:
                found.append(f'{field}.{name}[{at}].{key}: duplicate {key} "{value}"')
            seen.add(value)
            if not value and name == "imagePullSecrets":
                found.append(f'{field}.{name}[{at}].{key}: invalid empty name ""')
    return found


# ── Containers ───────────────────────────────────────────────────────────────────────────────────────────


def _container_warnings(container: Object, field: str) -> list[str]:
    found: list[str] = []
    resources = container.get("resources")
    if resources:
        for name in ("limits", "requests"):
            found += _fraction_warnings(resources.get(name) or {}, f"{field}.resources.{name}")
    env = container.get("env")
    if not env or len(env) < 2:
        return found
    seen: set[str] = set()
    for at, variable in enumerate(env):
        name = variable.get("name", "")
        # A value that builds on the former one is meant.
        grows = f"$({name})" in variable.get("value", "") and variable.get("value") != f"$({name})"
        if name in seen and (variable.get("valueFrom") is not None or not grows):
            text = f'hides previous definition of "{name}", which may be dropped when using apply'
            found.append(f"{field}.env[{at}]: {text}")
        seen.add(name)
    return found


def _fraction_warnings(amounts: Object, field: str) -> list[str]:
    return [
        f'{field}[{name}]: fractional byte value "{amounts[name]}" is invalid, must be an integer'
        for name in _FRACTIONS
        if name in amounts and _is_fraction(amounts[name])
    ]


def _is_fraction(amount: Any) -> bool:
    text = str(amount)
    # Most amounts show at a glance that they are whole.
    if text.endswith("i") and text[:-2].isdigit():
        return False
    return quantity.is_quantity(amount) and bool(quantity.parse(amount) % 1)


def _port_warnings(
    port: Object, field: str, known: dict[tuple[int, str], list[tuple[str, Object]]]
) -> list[str]:
    """Adds `port` to the `known` ones of all containers."""
    found: list[str] = []
    number, ip = port.get("hostPort") or 0, port.get("hostIP") or ""
    if ip and not number:
        found.append(f"{field}: hostIP set without hostPort: {_shown(port)}")
    others = known.setdefault((port.get("containerPort", 0), port.get("protocol", "TCP")), [])
    for path, other in others:
        other_number, other_ip = other.get("hostPort") or 0, other.get("hostIP") or ""
        if (ip, number) == (other_ip, other_number):
            found.append(f"{field}: duplicate port definition with {path}")
        elif not number or not other_number:
            found.append(f"{field}: overlapping port definition with {path}")
        elif number == other_number and bool(ip) != bool(other_ip):
            found.append(f"{field}: dangerously ambiguous port definition with {path}")
    others.append((field, port))
    return found


def _shown(port: Object) -> str:
    """A port as Go prints the structure of it."""
    return (
        f"{{Name:{port.get('name', '')} HostPort:{port.get('hostPort', 0)} ContainerPort:"
        f"{port.get('containerPort', 0)} Protocol:{port.get('protocol', 'TCP')} HostIP:{port.get('hostIP', '')}}}"
    )
