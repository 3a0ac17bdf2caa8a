"""Rows of volumes, claims, and the kinds of `storage.k8s.io`."""

from typing import Any

from orchestrator.api.item import Object
from orchestrator.api.printing.columns import AGE, NAME, Column, Printer, age_of, name_of, part, wide
from orchestrator.api.printing.duration import UNKNOWN

_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
_DEFAULT_MARKS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
_UNSET = "<unset>"
_MODES = (
    ("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP"),
)  # fmt: skip


def _modes(modes: list[str] | None) -> str:
    return ",".join(short for mode, short in _MODES if mode in (modes or ()))


def _class_of(obj: Object) -> str:
    annotations = obj["metadata"].get("annotations") or {}
    name: str = annotations.get(_BETA_CLASS) or part(obj, "spec").get("storageClassName") or ""
    return name


def _phase(obj: Object) -> str:
    phase: str = part(obj, "status").get("phase") or ""
    return "Terminating" if obj["metadata"].get("deletionTimestamp") else phase


def _volume_cells(volume: Object, now_s: float) -> list[Any]:
    spec, status = part(volume, "spec"), part(volume, "status")
    claim = spec.get("claimRef")
    attributes = spec.get("volumeAttributesClassName")
    return [
        name_of(volume),
        part(spec, "capacity").get("storage", ""),
        _modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""),
        _phase(volume),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        _class_of(volume),
        _UNSET if attributes is None else attributes,
        status.get("reason", ""),
        age_of(volume, now_s),
        spec.get("volumeMode") or _UNSET,
    ]


VOLUMES = Printer(
    (
        NAME,
        Column("Capacity", "Size of the volume"),
        Column("Access Modes", "Ways in which the volume can be mounted"),
        Column("Reclaim Policy", "What becomes of the volume when its claim goes"),
        Column("Status", "Phase of the volume"),
        Column("Claim", "Claim that the volume is bound to"),
        Column("StorageClass", "Class that the volume belongs to"),
        Column("VolumeAttributesClass", "Class of the volume's attributes"),
        Column("Reason", "Why the volume is in this state"),
        AGE,
        wide("VolumeMode", "Whether a file system or the raw device is handed out"),
    ),
    _volume_cells,
)


def _claim_cells(claim: Object, now_s: float) -> list[Any]:
    spec, status = part(claim, "spec"), part(claim, "status")
    bound = bool(spec.get("volumeName"))
    attributes = spec.get("volumeAttributesClassName")
    return [
        name_of(claim),
        _phase(claim),
        spec.get("volumeName", ""),
        part(status, "capacity").get("storage", "0") if bound else "",
        _modes(status.get("accessModes")) if bound else "",
        _class_of(claim),
        _UNSET if attributes is None else attributes,
        age_of(claim, now_s),
        spec.get("volumeMode") or _UNSET,
    ]


CLAIMS = Printer(
    (
        NAME,
        Column("Status", "Phase of the claim"),
        Column("Volume", "Volume that the claim is bound to"),
        Column("Capacity", "Size of that volume"),
        Column("Access Modes", "Ways in which the volume can be mounted"),
        Column("StorageClass", "Class that the claim asks for"),
        Column("VolumeAttributesClass", "Class of the volume's attributes"),
        AGE,
        wide("VolumeMode", "Whether a file system or the raw device is wanted"),
    ),
    _claim_cells,
)


def _class_cells(item: Object, now_s: float) -> list[Any]:
    annotations = item["metadata"].get("annotations") or {}
    is_default = any(annotations.get(mark) == "true" for mark in _DEFAULT_MARKS)
    return [
        name_of(item) + (" (default)" if is_default else ""),
        item.get("provisioner", ""),
        item.get("reclaimPolicy") or "Delete",
        item.get("volumeBindingMode") or _UNSET,
        bool(item.get("allowVolumeExpansion")),
        age_of(item, now_s),
    ]


CLASSES = Printer(
    (
        NAME,
        Column("Provisioner", "Who makes volumes of the class"),
        Column("ReclaimPolicy", "What becomes of a volume when its claim goes"),
        Column("VolumeBindingMode", "When a claim gets its volume"),
        Column("AllowVolumeExpansion", "Whether claims may grow", type="boolean"),
        AGE,
    ),
    _class_cells,
)


def _attachment_cells(attachment: Object, now_s: float) -> list[Any]:
    spec = part(attachment, "spec")
    return [
        name_of(attachment),
        spec.get("attacher", ""),
        part(spec, "source").get("persistentVolumeName") or "",
        spec.get("nodeName", ""),
        bool(part(attachment, "status").get("attached")),
        age_of(attachment, now_s),
    ]


ATTACHMENTS = Printer(
    (
        NAME,
        Column("Attacher", "Driver that attaches the volume", format="name"),
        Column("PV", "Volume to attach"),
        Column("Node", "Node to attach it to"),
        Column("Attached", "Whether it is attached", type="boolean"),
        AGE,
    ),
    _attachment_cells,
)


def _driver_cells(driver: Object, now_s: float) -> list[Any]:
    spec = part(driver, "spec")
    audiences = [request.get("audience", "") for request in spec.get("tokenRequests") or ()]
    attach = spec.get("attachRequired")
    return [
        name_of(driver),
        True if attach is None else attach,
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        ",".join(audiences) if spec.get("tokenRequests") is not None else _UNSET,
        bool(spec.get("requiresRepublish")),
        ",".join(spec.get("volumeLifecycleModes") or ()) or "<none>",
        age_of(driver, now_s),
    ]


DRIVERS = Printer(
    (
        NAME,
        Column("AttachRequired", "Whether volumes must be attached before they are mounted", type="boolean"),
        Column("PodInfoOnMount", "Whether the driver is told about the pod", type="boolean"),
        Column("StorageCapacity", "Whether the driver says how much room is left", type="boolean"),
        Column("TokenRequests", "Audiences of the tokens that the driver gets"),
        Column("RequiresRepublish", "Whether mounts are renewed from time to time", type="boolean"),
        Column("Modes", "Kinds of volumes that the driver has"),
        AGE,
    ),
    _driver_cells,
)


def _node_cells(node: Object, now_s: float) -> list[Any]:
    return [name_of(node), len(part(node, "spec").get("drivers") or ()), age_of(node, now_s)]


NODES = Printer((NAME, Column("Drivers", "Number of drivers on the node", type="integer"), AGE), _node_cells)


def _capacity_cells(item: Object, now_s: float) -> list[Any]:
    return [name_of(item), item.get("storageClassName", ""), item.get("capacity") or _UNSET]


CAPACITIES = Printer(
    (
        NAME,
        Column("StorageClassName", "Class that the capacity is for"),
        Column("Capacity", "How much can still be made"),
    ),
    _capacity_cells,
)


def _attributes_cells(item: Object, now_s: float) -> list[Any]:
    return [name_of(item), item.get("driverName") or UNKNOWN, age_of(item, now_s)]


ATTRIBUTES_CLASSES = Printer(
    (NAME, Column("DriverName", "Driver that the class is for"), AGE), _attributes_cells
)

PRINTERS: dict[tuple[str, str], Printer] = {
    ("", "persistentvolumes"): VOLUMES,
    ("", "persistentvolumeclaims"): CLAIMS,
    ("storage.k8s.io", "storageclasses"): CLASSES,
    ("storage.k8s.io", "volumeattachments"): ATTACHMENTS,
    ("storage.k8s.io", "csidrivers"): DRIVERS,
    ("storage.k8s.io", "csinodes"): NODES,
    ("storage.k8s.io", "csistoragecapacities"): CAPACITIES,
    ("storage.k8s.io", "volumeattributesclasses"): ATTRIBUTES_CLASSES,
}
