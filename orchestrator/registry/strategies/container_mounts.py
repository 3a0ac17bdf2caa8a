"""Validation of what a container mounts: file systems and block devices. Pure; called by `containers`.

Source: core validation of Kubernetes v1.36.
"""

from typing import Any

from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.container_env import no_backsteps, validate_inner_path

_PROPAGATION = ("None", "HostToContainer", "Bidirectional")
_RECURSIVE = ("Disabled", "IfPossible", "Enabled")
_BLOCK = ("persistentVolumeClaim", "ephemeral")


def validate_mounts(container: Object, field: str, volumes: dict[str, Any]) -> list[Cause]:
    """`volumeMounts` at `field`; `volumes` are those of the pod by name."""
    found: list[Cause] = []
    seen: set[str] = set()
    for at, mount in enumerate(container["volumeMounts"]):
        path = f"{field}[{at}]"
        name, where = mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            found.append(causes.required(f"{path}.name"))
        if name not in volumes:
            found.append(causes.not_found(f"{path}.name", name))
        if not where:
            found.append(causes.required(f"{path}.mountPath"))
        if where in seen:
            found.append(causes.invalid_value(f"{path}.mountPath", where, "must be unique"))
        seen.add(where)
        if mount.keys() - _SIMPLE:
            found += _validate_sub_path(mount, path)
            found += _validate_propagation(mount, container, path)
    if container.get("volumeDevices"):
        found += _validate_overlap(container, field)
    return found


_SIMPLE = frozenset(("name", "mountPath", "readOnly"))


def _validate_overlap(container: Object, field: str) -> list[Cause]:
    devices = container["volumeDevices"]
    taken_names = {device.get("name") for device in devices}
    taken_paths = {device.get("devicePath") for device in devices}
    found: list[Cause] = []
    for at, mount in enumerate(container["volumeMounts"]):
        name, where = mount.get("name") or "", mount.get("mountPath") or ""
        if name in taken_names:
            text = "must not already exist in volumeDevices"
            found.append(causes.invalid_value(f"{field}[{at}].name", name, text))
        if where in taken_paths:
            text = "must not already exist as a path in volumeDevices"
            found.append(causes.invalid_value(f"{field}[{at}].mountPath", where, text))
    return found


def _validate_sub_path(mount: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    if mount.get("subPath"):
        found += validate_inner_path(mount["subPath"], f"{field}.subPath")
    if mount.get("subPathExpr"):
        if mount.get("subPath"):
            text = "subPathExpr and subPath are mutually exclusive"
            found.append(causes.invalid_value(f"{field}.subPathExpr", mount["subPathExpr"], text))
        found += validate_inner_path(mount["subPathExpr"], f"{field}.subPathExpr")
    return found


def _validate_propagation(mount: Object, container: Object, field: str) -> list[Cause]:
    propagation, recursive = mount.get("mountPropagation"), mount.get("recursiveReadOnly")
    found = causes.one_of(f"{field}.mountPropagation", propagation, _PROPAGATION)
    privileged = (container.get("securityContext") or {}).get("privileged")
    if propagation == "Bidirectional" and not privileged:
        text = "Bidirectional mount propagation is available only to privileged containers"
        found.append(causes.forbidden(f"{field}.mountPropagation", text))
    if recursive is None or recursive == "Disabled":
        return found
    field = f"{field}.recursiveReadOnly"
    if recursive not in _RECURSIVE:
        return [*found, causes.not_supported(field, recursive, _RECURSIVE)]
    if not mount.get("readOnly"):
        found.append(causes.forbidden(field, "may only be specified when readOnly is true"))
    if propagation not in (None, "None"):
        text = "may only be specified when mountPropagation is None or not specified"
        found.append(causes.forbidden(field, text))
    return found


def validate_devices(container: Object, field: str, volumes: dict[str, Any]) -> list[Cause]:
    """`volumeDevices` at `field`: claims, each once, at paths of their own."""
    mounts = container.get("volumeMounts") or ()
    mounted, paths = {mount.get("name") for mount in mounts}, {mount.get("mountPath") for mount in mounts}
    found: list[Cause] = []
    seen_names: set[str] = set()
    seen_paths: set[str] = set()
    for at, device in enumerate(container["volumeDevices"]):
        path = f"{field}[{at}]"
        name, where = device.get("name") or "", device.get("devicePath") or ""
        found += _validate_device_name(name, f"{path}.name", volumes, seen_names, mounted)
        if not where:
            found.append(causes.required(f"{path}.devicePath"))
        if where in seen_paths:
            found.append(causes.invalid_value(f"{path}.devicePath", where, "must be unique"))
        if no_backsteps(where, path):
            text = "can not contain backsteps ('..')"
            found.append(causes.invalid_value(f"{path}.devicePath", where, text))
        if where in paths:
            text = "must not already exist as a path in volumeMounts"
            found.append(causes.invalid_value(f"{path}.devicePath", where, text))
        seen_paths.add(where)
    return found


def _validate_device_name(
    name: str, field: str, volumes: dict[str, Any], seen: set[str], mounted: set[Any]
) -> list[Cause]:
    found: list[Cause] = []
    if not name:
        found.append(causes.required(field))
    if name in seen:
        found.append(causes.invalid_value(field, name, "must be unique"))
    volume = volumes.get(name)
    if volume is None:
        found.append(causes.not_found(field, name))
    elif not any(volume.get(kind) is not None for kind in _BLOCK):
        text = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
        found.append(causes.invalid_value(field, name, text))
    if name in mounted:
        text = "must not already exist in volumeMounts"
        found.append(causes.invalid_value(field, name, text))
    if name:
        seen.add(name)
    return found
