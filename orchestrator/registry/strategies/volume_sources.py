"""Validation and defaults of what a PersistentVolume is made of: exactly one source. Pure.

A table says which fields each kind of source needs; the few with more rules have a function. Called by
`persistent_volumes` and, for inline volumes of a VolumeAttachment, by `storage`.
"""

from collections.abc import Callable
from typing import Any

from orchestrator.api import names
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import with_defaults

CSI_DRIVER_LENGTH_MAX = 63
_HOST_PATH_TYPES = (
    "", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice",
)  # fmt: skip
_SECRETS = (
    "controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeStageSecretRef",
    "nodeExpandSecretRef",
)  # fmt: skip

REQUIRED: dict[str, tuple[str, ...]] = {
    "hostPath": ("path",),
    "gcePersistentDisk": ("pdName",),
    "awsElasticBlockStore": ("volumeID",),
    "glusterfs": ("endpoints", "path"),
    "flocker": (),
    "nfs": ("server", "path"),
    "rbd": ("monitors", "image"),
    "quobyte": ("registry", "volume"),
    "cephfs": ("monitors",),
    "iscsi": ("targetPortal", "iqn"),
    "cinder": ("volumeID",),
    "fc": (),
    "flexVolume": ("driver",),
    "azureFile": ("secretName", "shareName"),
    "vsphereVolume": ("volumePath",),
    "photonPersistentDisk": ("pdID",),
    "portworxVolume": ("volumeID",),
    "azureDisk": ("diskName", "diskURI"),
    "scaleIO": ("gateway", "system", "volumeName"),
    "local": ("path",),
    "storageos": (),
    "csi": ("volumeHandle",),
}
"""Kind of source → fields that it needs."""

_DEFAULTS: dict[str, Object] = {
    "iscsi": {"iscsiInterface": "default"},
    "rbd": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"},
    "azureDisk": {"cachingMode": "ReadWrite", "kind": "Shared", "fsType": "ext4", "readOnly": False},
    "scaleIO": {"storageMode": "ThinProvisioned", "fsType": "xfs"},
}


def sources_of(spec: Object) -> list[str]:
    """Which kinds of source `spec` has."""
    return [kind for kind in REQUIRED if spec.get(kind) is not None]


def default_source(spec: Object) -> Object:
    """`spec` with the defaults of its source."""
    for kind in sources_of(spec):
        source = spec[kind]
        if kind == "hostPath" and source.get("type") is None:
            spec = {**spec, kind: {**source, "type": ""}}
        elif kind in _DEFAULTS:
            spec = {**spec, kind: with_defaults(source, _DEFAULTS[kind])}
    return spec


def validate_source(spec: Object, field: str) -> list[Cause]:
    """Exactly one source, with what it needs."""
    kinds = sources_of(spec)
    if not kinds:
        return [causes.required(field, "must specify a volume type")]
    kind = kinds[0]
    source, path = spec[kind], f"{field}.{kind}"
    found = [causes.required(f"{path}.{name}") for name in REQUIRED[kind] if not source.get(name)]
    rules = _RULES.get(kind)
    if rules is not None:
        found += rules(source, path)
    return found + [
        causes.forbidden(f"{field}.{other}", "may not specify more than 1 volume type") for other in kinds[1:]
    ]


def validate_csi_driver_name(name: str, field: str) -> list[Cause]:
    """A DNS name in any case, at most 63 characters."""
    if not name:
        return [causes.required(field)]
    found = []
    if len(name) > CSI_DRIVER_LENGTH_MAX:
        found.append(causes.too_long(field, CSI_DRIVER_LENGTH_MAX))
    return found + causes.problems(field, name, names.is_dns1123_subdomain(name.lower()))


def _no_backsteps(source: Object, field: str) -> list[Cause]:
    path: str = source.get("path") or ""
    if ".." in path.split("/"):
        return [causes.invalid_value(f"{field}.path", path, "must not contain '..'")]
    return []


def _host_path(source: Object, field: str) -> list[Cause]:
    found = _no_backsteps(source, field)
    return found + causes.one_of(f"{field}.type", source.get("type"), _HOST_PATH_TYPES)


def _nfs(source: Object, field: str) -> list[Cause]:
    path: str = source.get("path") or ""
    if path and not path.startswith("/"):
        return [causes.invalid_value(f"{field}.path", path, "must be an absolute path")]
    return []


def _flocker(source: Object, field: str) -> list[Cause]:
    name, uuid = source.get("datasetName"), source.get("datasetUUID")
    if not name and not uuid:
        return [causes.required(field, "one of datasetName and datasetUUID is required")]
    if name and uuid:
        return [
            causes.invalid_value(
                field, "resource", "datasetName and datasetUUID can not be specified simultaneously"
            )
        ]
    if name and "/" in name:
        return [causes.invalid_value(f"{field}.datasetName", name, "must not contain '/'")]
    return []


def _iscsi(source: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    iqn: str = source.get("iqn") or ""
    if iqn and not iqn.startswith(("iqn", "eui", "naa")):
        found.append(
            causes.invalid_value(f"{field}.iqn", iqn, "must be valid format starting with iqn, eui, or naa")
        )
    lun = source.get("lun") or 0
    if not 0 <= lun <= 255:
        found.append(causes.invalid_value(f"{field}.lun", lun, "must be between 0 and 255, inclusive"))
    chap = source.get("chapAuthDiscovery") or source.get("chapAuthSession")
    if chap and not source.get("secretRef"):
        found.append(causes.required(f"{field}.secretRef"))
    return found


def _fc(source: Object, field: str) -> list[Cause]:
    names_, wwids = source.get("targetWWNs"), source.get("wwids")
    path = f"{field}.targetWWNs"
    if not names_ and not wwids:
        return [causes.required(path, "must specify either targetWWNs or wwids, but not both")]
    if names_ and wwids:
        return [
            causes.invalid_value(path, names_, "targetWWNs and wwids can not be specified simultaneously")
        ]
    if not names_:
        return []
    lun = source.get("lun")
    if lun is None:
        return [causes.required(f"{field}.lun", "lun is required if targetWWNs is specified")]
    if not 0 <= lun <= 255:
        return [causes.invalid_value(f"{field}.lun", lun, "must be between 0 and 255, inclusive")]
    return []


def _csi(source: Object, field: str) -> list[Cause]:
    found = validate_csi_driver_name(source.get("driver") or "", f"{field}.driver")
    for name in _SECRETS:
        reference = source.get(name)
        if reference is not None:
            found += [
                causes.required(f"{field}.{name}.{part}")
                for part in ("name", "namespace")
                if not reference.get(part)
            ]
    return found


_RULES: dict[str, Callable[[Any, str], list[Cause]]] = {
    "hostPath": _host_path,
    "local": _no_backsteps,
    "nfs": _nfs,
    "flocker": _flocker,
    "iscsi": _iscsi,
    "fc": _fc,
    "csi": _csi,
}
