"""Validation of a container's environment, and of references to fields of its pod. Pure.

Called by `containers`; `volumes` shares the rules of field references. Source: core validation of Kubernetes
v1.36.
"""

from collections.abc import Callable
from typing import Any

from orchestrator.api import names, quantity
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes

ENV_FIELDS = frozenset(
    (
        "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
        "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
    )
)  # fmt: skip
VOLUME_FIELDS = frozenset(
    ("metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels", "metadata.annotations")
)
_KNOWN_FIELDS = ENV_FIELDS | VOLUME_FIELDS | {"spec.restartPolicy", "spec.schedulerName", "status.phase"}
_AMOUNTS = frozenset(
    f"{kind}.{name}" for kind in ("limits", "requests") for name in ("cpu", "memory", "ephemeral-storage")
)
_PAGES = ("limits.hugepages-", "requests.hugepages-")
_SIZES = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_SIZED = {"memory": "memory", "ephemeral-storage": "local ephemeral storage"}
_MISSING = (
    "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
)


def validate_env(env: list[Object], field: str, volumes: Any) -> list[Cause]:
    """`volumes` are those of the pod by name."""
    found: list[Cause] = []
    for at, variable in enumerate(env):
        name = variable.get("name")
        if not name:
            found.append(causes.required(f"{field}[{at}].name"))
        else:
            problems = names.is_env_var_name(name)
            if problems:
                found += causes.problems(f"{field}[{at}].name", name, problems)
        source = variable.get("valueFrom")
        if source is not None:
            found += _validate_source(source, variable, f"{field}[{at}].valueFrom", volumes)
    return found


def _validate_source(source: Object, variable: Object, field: str, volumes: Any) -> list[Cause]:
    given = [name for name in _SOURCES if source.get(name) is not None]
    found: list[Cause] = []
    for name in given:
        found += _SOURCES[name](source[name], f"{field}.{name}")
    if source.get("fileKeyRef") is not None and not found:
        found += _validate_file_volume(source["fileKeyRef"], f"{field}.fileKeyRef", volumes)
    if not given:
        found.append(causes.invalid_value(field, "", _MISSING))
    elif variable.get("value"):
        found.append(causes.invalid_value(field, "", "may not be specified when `value` is not empty"))
    elif len(given) > 1:
        found.append(causes.invalid_value(field, "", "may not have more than one field specified at a time"))
    return found


def validate_field_ref(reference: Object, field: str, allowed: frozenset[str]) -> list[Cause]:
    """An `ObjectFieldSelector` with its default version."""
    version, path = reference.get("apiVersion", "v1"), reference.get("fieldPath") or ""
    if path in allowed and version == "v1":
        return []
    inner = f"{field}.fieldPath"
    if not path:
        return [causes.required(inner)]
    name, bracket, key = path.partition("['")
    subscripted = bracket and key.endswith("']")
    if version != "v1":
        text = f"error converting fieldPath: unsupported pod version: {version}"
        return [causes.invalid_value(inner, path, text)]
    if subscripted and name in ("metadata.labels", "metadata.annotations"):
        key = key[:-2].lower() if name == "metadata.annotations" else key[:-2]
        return causes.problems(field, key, names.is_qualified_name(key))
    if path not in _KNOWN_FIELDS:
        shown = name if subscripted else path
        text = f"error converting fieldPath: field label not supported: {shown}"
        return [causes.invalid_value(inner, path, text)]
    return [causes.not_supported(inner, path, allowed)]


def validate_resource_ref(reference: Object, field: str, *, of_volume: bool = False) -> list[Cause]:
    """A `ResourceFieldSelector`; in a volume it names its container."""
    resource = reference.get("resource") or ""
    found: list[Cause] = []
    if of_volume and not reference.get("containerName"):
        found.append(causes.required(f"{field}.containerName"))
    elif not resource:
        found.append(causes.required(f"{field}.resource"))
    elif resource not in _AMOUNTS and not resource.startswith(_PAGES):
        found.append(causes.not_supported(f"{field}.resource", resource, _AMOUNTS))
    return found + _validate_divisor(resource, reference.get("divisor"), f"{field}.divisor")


def _validate_divisor(resource: str, divisor: Any, field: str) -> list[Cause]:
    if divisor in (None, "", "0", "1", 1):
        return []
    if not quantity.is_quantity(divisor):
        return [causes.invalid_value(field, divisor, "must be a quantity such as 1 or 1Mi")]
    text, name = quantity.canonical_milli(divisor), resource.partition(".")[2]
    if text in ("0", "1"):
        return []
    if name == "cpu" and text != "1m":
        why = "only divisor's values 1m and 1 are supported with the cpu resource"
        return [causes.invalid_value(field, resource, why)]
    kind = "hugepages" if name.startswith("hugepages-") else _SIZED.get(name)
    if kind and text not in _SIZES:
        why = f"only divisor's values {', '.join(_SIZES)} are supported with the {kind} resource"
        return [causes.invalid_value(field, resource, why)]
    return []


def _validate_key_ref(reference: Object, field: str) -> list[Cause]:
    """A key of a ConfigMap or Secret."""
    name, key = reference.get("name") or "", reference.get("key")
    found = causes.problems(f"{field}.name", name, names.is_dns1123_subdomain(name))
    if not key:
        return [*found, causes.required(f"{field}.key")]
    return found + causes.problems(f"{field}.key", key, names.is_config_map_key(key))


def _validate_file_ref(reference: Object, field: str) -> list[Cause]:
    """A key of an environment file in a volume."""
    found: list[Cause] = []
    volume, path, key = (reference.get(name) for name in ("volumeName", "path", "key"))
    if not volume:
        found.append(causes.required(f"{field}.volumeName"))
    else:
        found += causes.problems(f"{field}.volumeName", volume, names.is_dns1123_label(volume))
    if not key:
        found.append(causes.required(f"{field}.key"))
    else:
        found += causes.problems(f"{field}.key", key, names.is_env_var_name(key))
    if not path:
        return [*found, causes.required(f"{field}.path")]
    return found + validate_local_path(path, f"{field}.path")


def _validate_file_volume(reference: Object, field: str, volumes: Any) -> list[Cause]:
    volume = volumes.get(reference["volumeName"])
    if volume is None:
        return [causes.not_found(f"{field}.volumeName", reference["volumeName"])]
    if volume.get("emptyDir") is None:
        text = "referenced volume must be of type emptyDir"
        return [causes.invalid_value(f"{field}.volumeName", reference["volumeName"], text)]
    return []


_SOURCES: dict[str, Callable[[Object, str], list[Cause]]] = {
    "fieldRef": lambda reference, field: validate_field_ref(reference, field, ENV_FIELDS),
    "resourceFieldRef": validate_resource_ref,
    "configMapKeyRef": _validate_key_ref,
    "secretKeyRef": _validate_key_ref,
    "fileKeyRef": _validate_file_ref,
}


def validate_env_from(sources: list[Object], field: str) -> list[Cause]:
    found: list[Cause] = []
    for at, source in enumerate(sources):
        path = f"{field}[{at}]"
        if source.get("prefix"):
            found += causes.problems(
                f"{path}.prefix", source["prefix"], names.is_env_var_name(source["prefix"])
            )
        given = [name for name in ("configMapRef", "secretRef") if source.get(name) is not None]
        for kind in given:
            name = source[kind].get("name")
            if not name:
                found.append(causes.required(f"{path}.{kind}.name"))
            else:
                found += causes.problems(f"{path}.{kind}.name", name, names.is_dns1123_subdomain(name))
        if not given:
            text = "must specify one of: `configMapRef` or `secretRef`"
            found.append(causes.invalid_value(field, "", text))
        elif len(given) > 1:
            text = "may not have more than one field specified at a time"
            found.append(causes.invalid_value(field, "", text))
    return found


def validate_inner_path(path: str, field: str) -> list[Cause]:
    """A relative path that never climbs out."""
    found = []
    if path.startswith("/"):
        found.append(causes.invalid_value(field, path, "must be a relative path"))
    return found + no_backsteps(path, field)


def no_backsteps(path: str, field: str) -> list[Cause]:
    if ".." in path and ".." in path.split("/"):
        return [causes.invalid_value(field, path, "must not contain '..'")]
    return []


def validate_local_path(path: str, field: str) -> list[Cause]:
    """A relative path that never climbs out, nor begins as the links do that the kubelet keeps."""
    found = validate_inner_path(path, field)
    if path.startswith("..") and path != ".." and not path.startswith("../"):
        found.append(causes.invalid_value(field, path, "must not start with '..'"))
    return found
