"""Defaults of a pod's spec, shared by pods and by every kind with a pod template. Pure.

Each function returns its argument where nothing is missing, else a new object along the changed path.
Source: the defaulting of core/v1 in Kubernetes v1.36; some defaults hold for pods and not for templates.
"""

from collections.abc import Callable
from typing import Any

from orchestrator.api import quantity
from orchestrator.api.item import Object
from orchestrator.registry.strategies.base import filled, with_defaults
from orchestrator.registry.strategies.pod_resources import default_pod_resources

_SPEC: Object = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "securityContext": {},
    "schedulerName": "default-scheduler",
}
_POD_SPEC: Object = {**_SPEC, "enableServiceLinks": True}
_CONTAINER: Object = {
    "resources": {},
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}
_PROBE: Object = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_HTTP_GET: Object = {"path": "/", "scheme": "HTTP"}
_CONTAINER_LISTS = ("containers", "initContainers", "ephemeralContainers")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PROTOCOL: Object = {"protocol": "TCP"}
_MODE: Object = {"defaultMode": 0o644}


def default_pod_spec(spec: Object, *, template: bool) -> Object:
    """`spec` with defaults; `template` leaves out what Kubernetes sets only on pods themselves."""
    result = filled(spec, _SPEC if template else _POD_SPEC)
    for field in _CONTAINER_LISTS:
        containers = spec.get(field)
        if containers:
            result[field] = [default_container(container) for container in containers]
    if spec.get("volumes"):
        result["volumes"] = [_default_volume(volume) for volume in spec["volumes"]]
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        result["serviceAccountName"] = result["serviceAccount"] = account
    if spec.get("overhead"):
        result["overhead"] = _canonical_list(spec["overhead"])
    if spec.get("resources"):
        result["resources"] = default_resources(spec["resources"])
    if not template:
        _default_for_pods(result)
    return result


def default_template(template: Object) -> Object:
    """A `PodTemplateSpec` with defaults and a `metadata` to hang labels on."""
    spec = template.get("spec")
    result = {"metadata": {}, **template}
    if isinstance(spec, dict):
        result["spec"] = default_pod_spec(spec, template=True)
    return result


def _default_for_pods(spec: Object) -> None:
    """Defaults of pods only; `spec` is ours to change, its lists were just built."""
    host_network = spec.get("hostNetwork", False)
    for field in ("containers", "initContainers"):
        for at, container in enumerate(spec.get(field) or ()):
            resources = container["resources"]
            if resources.get("limits"):
                container = {**container, "resources": _requests_from_limits(resources)}
            if host_network and container.get("ports"):
                ports = [
                    with_defaults(port, {"hostPort": port.get("containerPort", 0)})
                    for port in container["ports"]
                ]
                container = {**container, "ports": ports}
            spec[field][at] = container
    if spec.get("resources"):
        spec["resources"] = default_pod_resources(spec)


def _requests_from_limits(resources: Object) -> Object:
    limits, requests = resources["limits"], resources.get("requests") or {}
    return (
        resources if limits.keys() <= requests.keys() else {**resources, "requests": {**limits, **requests}}
    )


def default_container(container: Object) -> Object:
    """A container, init container or ephemeral container with defaults."""
    result = filled(container, _CONTAINER)
    if not container.get("imagePullPolicy"):
        result["imagePullPolicy"] = _pull_policy(container.get("image") or "")
    if result["resources"]:
        result["resources"] = default_resources(result["resources"])
    if container.get("ports"):
        result["ports"] = [with_defaults(port, _PROTOCOL) for port in container["ports"]]
    if container.get("env"):
        result["env"] = [
            _default_env(variable) if "valueFrom" in variable else variable for variable in container["env"]
        ]
    for field in _PROBES:
        if container.get(field) is not None:
            result[field] = _default_probe(container[field])
    if container.get("lifecycle"):
        result["lifecycle"] = {
            name: _default_handler(handler) if isinstance(handler, dict) else handler
            for name, handler in container["lifecycle"].items()
        }
    return result


def _pull_policy(image: str) -> str:
    """`Always` for the tag `latest`, written or implied."""
    if "@" in image:
        return "IfNotPresent"
    name = image.rpartition("/")[2]
    return "Always" if name.partition(":")[2] in ("", "latest") else "IfNotPresent"


def default_resources(resources: Object) -> Object:
    """`ResourceRequirements` with quantities in canonical form."""
    result = dict(resources)
    for field in ("limits", "requests"):
        if result.get(field):
            result[field] = _canonical_list(result[field])
    return result


def _canonical_list(amounts: Object) -> Object:
    return {name: canonical_amount(amount) for name, amount in amounts.items()}


def canonical_amount(amount: Any) -> Any:
    """The canonical text of a quantity; what is none is left for validation to refuse."""
    try:
        return quantity.canonical_milli(amount)
    except quantity.QuantityError:
        return amount


def _default_env(variable: Object) -> Object:
    source = variable["valueFrom"]
    reference = source.get("fieldRef")
    if reference:
        return {
            **variable,
            "valueFrom": {**source, "fieldRef": with_defaults(reference, {"apiVersion": "v1"})},
        }
    resource = source.get("resourceFieldRef")
    if resource:
        return {**variable, "valueFrom": {**source, "resourceFieldRef": _default_resource_ref(resource)}}
    return variable


def _default_resource_ref(reference: Object) -> Object:
    divisor = reference.get("divisor")
    return {**reference, "divisor": "0" if divisor is None else canonical_amount(divisor)}


def _default_probe(probe: Object) -> Object:
    result = _default_handler({**_PROBE, **probe})
    # Kubernetes treats an explicit 0 as unset here.
    for field, value in _PROBE.items():
        if result[field] == 0:
            result[field] = value
    return result


def _default_handler(handler: Object) -> Object:
    if handler.get("httpGet") is not None:
        return {**handler, "httpGet": filled(handler["httpGet"], _HTTP_GET)}
    if handler.get("grpc") is not None:
        return {**handler, "grpc": {"service": "", **handler["grpc"]}}
    return handler


# ── Volumes ──────────────────────────────────────────────────────────────────────────────────────────────


def _default_volume(volume: Object) -> Object:
    sources = [field for field in volume if field != "name"]
    if not sources:
        return {**volume, "emptyDir": {}}
    result = volume
    for field in sources:
        default = _VOLUME_DEFAULTS.get(field)
        if default and isinstance(volume[field], dict):
            result = {**result, field: default(volume[field])}
    return result


def _default_items(source: Object) -> Object:
    """Downward API files, whose field references have a version."""
    if not source.get("items"):
        return source
    return {**source, "items": [_default_downward_file(item) for item in source["items"]]}


def _default_downward_file(item: Object) -> Object:
    if item.get("fieldRef"):
        return {**item, "fieldRef": with_defaults(item["fieldRef"], {"apiVersion": "v1"})}
    if item.get("resourceFieldRef"):
        return {**item, "resourceFieldRef": _default_resource_ref(item["resourceFieldRef"])}
    return item


def _default_projected(source: Object) -> Object:
    result = {**_MODE, **source}
    if source.get("sources"):
        result["sources"] = [_default_projection(projection) for projection in source["sources"]]
    return result


def _default_projection(projection: Object) -> Object:
    if projection.get("serviceAccountToken"):
        token = with_defaults(projection["serviceAccountToken"], {"expirationSeconds": 3600})
        return {**projection, "serviceAccountToken": token}
    if projection.get("downwardAPI"):
        return {**projection, "downwardAPI": _default_items(projection["downwardAPI"])}
    return projection


def _default_empty_dir(source: Object) -> Object:
    if "sizeLimit" not in source:
        return source
    return {**source, "sizeLimit": canonical_amount(source["sizeLimit"])}


def _default_ephemeral(source: Object) -> Object:
    template = source.get("volumeClaimTemplate")
    if not template or not template.get("spec"):
        return source
    spec = with_defaults(template["spec"], {"volumeMode": "Filesystem"})
    return {**source, "volumeClaimTemplate": {**template, "spec": spec}}


def _default_image(source: Object) -> Object:
    if source.get("pullPolicy"):
        return source
    return {**source, "pullPolicy": _pull_policy(source.get("reference") or "")}


def _from(defaults: Object) -> Callable[[Object], Object]:
    return lambda source: with_defaults(source, defaults)


_VOLUME_DEFAULTS: dict[str, Callable[[Object], Object]] = {
    "secret": _from(_MODE),
    "configMap": _from(_MODE),
    "downwardAPI": lambda source: {**_MODE, **_default_items(source)},
    "projected": _default_projected,
    "image": _default_image,
    "hostPath": _from({"type": ""}),
    "emptyDir": _default_empty_dir,
    "ephemeral": _default_ephemeral,
    "iscsi": _from({"iscsiInterface": "default"}),
    "rbd": _from({"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"}),
    "azureDisk": _from({"cachingMode": "ReadWrite", "fsType": "ext4", "readOnly": False, "kind": "Shared"}),
    "scaleIO": _from({"storageMode": "ThinProvisioned", "fsType": "xfs"}),
}
