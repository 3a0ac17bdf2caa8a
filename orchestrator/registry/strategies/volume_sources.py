"""Validation and defaults of what a PersistentVolume is made of: exactly one source. Pure.

A table says which fields each kind of source needs; those with more rules have a function. Called by
`persistent_volumes`, by `storage` for the inline volumes of a VolumeAttachment, and by `volumes` for those kinds that
pods can have without a PersistentVolume.
"""

import re
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
_OF_CLUSTER = {
    "csi": (
        "controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeStageSecretRef",
        "nodeExpandSecretRef",
    ),
    "cinder": ("secretRef",),
    "storageos": ("secretRef",),
}  # fmt: skip
"""Kind of source → its references to secrets, which volumes of the cluster give with their namespace."""
_INITIATORS = {
    "iqn": re.compile(r"iqn\.\d{4}-\d{2}\.[A-Za-z0-9\-.]+:[^,;*&$|\s]+").fullmatch,
    "eui": re.compile(r"eui.[A-Za-z0-9]{16}").fullmatch,
    "naa": re.compile(r"naa.[A-Za-z0-9]{32}").fullmatch,
}
_match_host_port = re.compile(r"(\[[^\]]*\]|[^:]*):[^:]*").fullmatch
_AZURE_MANAGED = (
    "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
)
_AZURE_BLOB = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"

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
    "storageos": ("volumeName",),
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
    found = validate_kind(kind, spec[kind], f"{field}.{kind}")
    for name in _OF_CLUSTER.get(kind, ()):
        found += _validate_secret(spec[kind].get(name), f"{field}.{kind}.{name}")
    return found + [
        causes.forbidden(f"{field}.{other}", "may not specify more than 1 volume type") for other in kinds[1:]
    ]


def validate_kind(kind: str, source: Object, field: str) -> list[Cause]:
    """What is wrong with one source of a kind that volumes of pods and of the cluster have in common."""
    found = [causes.required(f"{field}.{name}") for name in REQUIRED[kind] if not source.get(name)]
    rules = _RULES.get(kind)
    return found + rules(source, field) if rules is not None else found


def _validate_secret(reference: Object | None, field: str) -> list[Cause]:
    """A secret in a namespace of its own."""
    if reference is None:
        return []
    name, namespace = reference.get("name") or "", reference.get("namespace") or ""
    found = [causes.required(f"{field}.{part}") for part in ("name", "namespace") if not reference.get(part)]
    if name:
        found += causes.problems(f"{field}.name", name, names.is_dns1123_subdomain(name))
    if namespace:
        found += causes.problems(f"{field}.namespace", namespace, names.is_dns1123_label(namespace))
    return found


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
    if not path.startswith("/"):
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
    if source.get("iqn"):
        found += _validate_initiator(source["iqn"], f"{field}.iqn")
    lun = source.get("lun") or 0
    if not 0 <= lun <= 255:
        found.append(causes.invalid_value(f"{field}.lun", lun, "must be between 0 and 255, inclusive"))
    chap = source.get("chapAuthDiscovery") or source.get("chapAuthSession")
    if chap and not source.get("secretRef"):
        found.append(causes.required(f"{field}.secretRef"))
    if source.get("initiatorName") is not None:
        found += _validate_initiator(source["initiatorName"], f"{field}.initiatorname")
    return found


def _validate_initiator(name: str, field: str) -> list[Cause]:
    """A qualified name of iSCSI in one of its three forms."""
    match = _INITIATORS.get(name[:3])
    if match is None:
        text = "must be valid format starting with iqn, eui, or naa"
        return [causes.invalid_value(field, name, text)]
    return [] if match(name) else [causes.invalid_value(field, name, "must be valid format")]


def _partitioned(source: Object, field: str) -> list[Cause]:
    partition = source.get("partition") or 0
    if 0 <= partition <= 255:
        return []
    return [causes.invalid_value(f"{field}.partition", partition, "must be between 1 and 255, inclusive")]


def _quobyte(source: Object, field: str) -> list[Cause]:
    registry: str = source.get("registry") or ""
    if registry and any(not _match_host_port(pair) for pair in registry.split(",")):
        text = "must be a host:port pair or multiple pairs separated by commas"
        return [causes.invalid_value(f"{field}.registry", registry, text)]
    return []


def _flex(source: Object, field: str) -> list[Cause]:
    """Options are the driver's own."""
    found: list[Cause] = []
    for key in source.get("options") or ():
        domain = "." + key.partition("/")[0].lower()
        if domain.endswith((".kubernetes.io", ".k8s.io")):
            text = "kubernetes.io and k8s.io namespaces are reserved"
            found.append(causes.invalid_value(f"{field}.options[{key}]", key, text))
    return found


def _azure_disk(source: Object, field: str) -> list[Cause]:
    kind, uri = source.get("kind"), source.get("diskURI") or ""
    found = causes.one_of(
        f"{field}.cachingMode", source.get("cachingMode"), ("None", "ReadOnly", "ReadWrite")
    )
    found += causes.one_of(f"{field}.kind", kind, ("Dedicated", "Managed", "Shared"))
    form = _AZURE_MANAGED if kind == "Managed" else _AZURE_BLOB
    if kind is not None and not uri.startswith(form.partition("{")[0]):
        found.append(causes.not_supported(f"{field}.diskURI", uri, (form,)))
    return found


def _storageos(source: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    for name in ("volumeName", "volumeNamespace"):
        if source.get(name):
            found += causes.problems(f"{field}.{name}", source[name], names.is_dns1123_label(source[name]))
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
    return validate_csi_driver_name(source.get("driver") or "", f"{field}.driver")


_RULES: dict[str, Callable[[Any, str], list[Cause]]] = {
    "hostPath": _host_path,
    "gcePersistentDisk": _partitioned,
    "awsElasticBlockStore": _partitioned,
    "quobyte": _quobyte,
    "flexVolume": _flex,
    "azureDisk": _azure_disk,
    "storageos": _storageos,
    "local": _no_backsteps,
    "nfs": _nfs,
    "flocker": _flocker,
    "iscsi": _iscsi,
    "fc": _fc,
    "csi": _csi,
}
