"""Validation of a pod's volumes. Pure; called by `pod_spec`."""

from orchestrator.api import names, quantity
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.container_env import validate_inner_path

_HOST_PATH_TYPES = (
    "", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice",
)  # fmt: skip
_REQUIRED = {
    "secret": "secretName",
    "configMap": "name",
    "hostPath": "path",
    "persistentVolumeClaim": "claimName",
    "csi": "driver",
}
_PROJECTIONS = (
    "secret",
    "configMap",
    "downwardAPI",
    "serviceAccountToken",
    "clusterTrustBundle",
    "podCertificate",
)


def validate_volumes(volumes: list[Object], field: str) -> list[Cause]:
    """Unique names and exactly one source each."""
    found: list[Cause] = []
    seen: set[str] = set()
    for at, volume in enumerate(volumes):
        path = f"{field}[{at}]"
        name = volume.get("name")
        if not name:
            found.append(causes.required(f"{path}.name"))
        else:
            found += causes.problems(f"{path}.name", name, names.is_dns1123_label(name))
            if name in seen:
                found.append(causes.duplicate(f"{path}.name", name))
            seen.add(name)
        found += _validate_source(volume, path)
    return found


def _validate_source(volume: Object, field: str) -> list[Cause]:
    kinds = [kind for kind in volume if kind != "name" and volume[kind] is not None]
    if not kinds:
        return [causes.required(field, "must specify a volume type")]
    found = [
        causes.forbidden(f"{field}.{kind}", "may not specify more than 1 volume type") for kind in kinds[1:]
    ]
    kind, source = kinds[0], volume[kinds[0]]
    path = f"{field}.{kind}"
    needed = _REQUIRED.get(kind)
    if needed and not source.get(needed):
        found.append(causes.required(f"{path}.{needed}"))
    if kind in ("secret", "configMap", "downwardAPI"):
        found += _validate_mode(source.get("defaultMode"), f"{path}.defaultMode")
        found += _validate_items(source, path, needs_key=kind != "downwardAPI")
    elif kind == "projected":
        found += _validate_projected(source, path)
    elif kind == "hostPath":
        found += causes.one_of(f"{path}.type", source.get("type"), _HOST_PATH_TYPES)
        if ".." in (source.get("path") or "").split("/"):
            found.append(causes.invalid_value(f"{path}.path", source["path"], "must not contain '..'"))
    elif kind == "emptyDir":
        found += _validate_size(source.get("sizeLimit"), f"{path}.sizeLimit")
    return found


def _validate_mode(mode: int | None, field: str) -> list[Cause]:
    if mode is None or 0 <= mode <= 0o777:
        return []
    return [causes.invalid_value(field, mode, "must be a number between 0 and 0777 (octal), both inclusive")]


def _validate_size(size: str | None, field: str) -> list[Cause]:
    if size is None:
        return []
    if not quantity.is_quantity(size):
        return [causes.invalid_value(field, size, "must be a quantity such as 64Mi")]
    if quantity.parse(size) < 0:
        return [causes.forbidden(field, "SizeLimit field must be a valid resource quantity")]
    return []


def _validate_items(source: Object, field: str, *, needs_key: bool) -> list[Cause]:
    found: list[Cause] = []
    for at, item in enumerate(source.get("items") or ()):
        path = f"{field}.items[{at}]"
        if needs_key and not item.get("key"):
            found.append(causes.required(f"{path}.key"))
        if not item.get("path"):
            found.append(causes.required(f"{path}.path"))
        else:
            found += validate_inner_path(item["path"], f"{path}.path")
        found += _validate_mode(item.get("mode"), f"{path}.mode")
        if not needs_key and (item.get("fieldRef") is None) == (item.get("resourceFieldRef") is None):
            found.append(causes.required(path, "one of fieldRef and resourceFieldRef is required"))
    return found


def _validate_projected(source: Object, field: str) -> list[Cause]:
    found = _validate_mode(source.get("defaultMode"), f"{field}.defaultMode")
    for at, projection in enumerate(source.get("sources") or ()):
        path = f"{field}.sources[{at}]"
        kinds = [kind for kind in _PROJECTIONS if projection.get(kind) is not None]
        if not kinds:
            found.append(causes.required(path, "must specify a projected volume type"))
            continue
        found += [
            causes.forbidden(f"{path}.{kind}", "may not specify more than 1 volume type")
            for kind in kinds[1:]
        ]
        found += _validate_projection(kinds[0], projection[kinds[0]], f"{path}.{kinds[0]}")
    return found


def _validate_projection(kind: str, source: Object, field: str) -> list[Cause]:
    if kind in ("secret", "configMap"):
        found = [] if source.get("name") else [causes.required(f"{field}.name")]
        return found + _validate_items(source, field, needs_key=True)
    if kind == "downwardAPI":
        return _validate_items(source, field, needs_key=False)
    if kind != "serviceAccountToken":
        return []
    found = [] if source.get("path") else [causes.required(f"{field}.path")]
    lifetime_s = source.get("expirationSeconds")
    if lifetime_s is not None and lifetime_s < 600:
        found.append(
            causes.invalid_value(
                f"{field}.expirationSeconds", lifetime_s, "may not specify a duration less than 10 minutes"
            )
        )
    if lifetime_s is not None and lifetime_s > 1 << 32:
        found.append(
            causes.invalid_value(
                f"{field}.expirationSeconds",
                lifetime_s,
                "may not specify a duration larger than 2^32 seconds",
            )
        )
    return found
