"""PersistentVolumes: one source that never changes, a capacity, and the phase that their controller sets."""

from typing import Any

from orchestrator.api import names, quantity
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.api.resources import PERSISTENTVOLUMES, Resource
from orchestrator.api.times import timestamp
from orchestrator.base.clock import Clock
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy, filled
from orchestrator.registry.strategies.placement import validate_node_selector
from orchestrator.registry.strategies.pod_defaults import canonical_amount
from orchestrator.registry.strategies.volume_sources import REQUIRED, default_source, validate_source

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
VOLUME_MODES = ("Block", "Filesystem")
BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
_RECLAIM_POLICIES = ("Delete", "Recycle", "Retain")
_DEFAULTS = {"persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"}
_GONE = {
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
}


class PersistentVolumeStrategy(BaseStrategy):
    def __init__(self, clock: Clock, resource: Resource = PERSISTENTVOLUMES) -> None:
        """`clock` stamps when the phase changed."""
        super().__init__(resource)
        self._clock = clock

    def default(self, obj: Object) -> Object:
        spec = filled(default_source(obj.get("spec") or {}), _DEFAULTS)
        if spec.get("capacity"):
            spec["capacity"] = canonical_amounts(spec["capacity"])
        if spec.get("claimRef"):
            spec["claimRef"] = filled(spec["claimRef"], {"kind": "PersistentVolumeClaim", "apiVersion": "v1"})
        return {**obj, "spec": spec}

    def initial_status(self, obj: Object) -> Object:
        return {"phase": "Pending", "lastPhaseTransitionTime": timestamp(self._clock.now_s())}

    def status_update(self, new: Object, old: Object) -> Object:
        result = super().status_update(new, old)
        status, before = result.get("status") or {}, old.get("status") or {}
        stamp = status.get("lastPhaseTransitionTime")
        if status.get("phase") == before.get("phase") or stamp not in (
            None,
            before.get("lastPhaseTransitionTime"),
        ):
            return result
        return {**result, "status": {**status, "lastPhaseTransitionTime": timestamp(self._clock.now_s())}}

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        found = validate_volume_spec(new["spec"], "spec")
        return found if old is None else found + _validate_update(new["spec"], old.get("spec") or {})

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        spec = new["spec"]
        found = [f"spec.{kind}: {text}" for kind, text in _GONE.items() if spec.get(kind) is not None]
        if BETA_CLASS in (new["metadata"].get("annotations") or {}):
            text = 'deprecated since v1.8; use "storageClassName" attribute instead'
            found.append(f"metadata.annotations[{BETA_CLASS}]: {text}")
        if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
            found.append(
                "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the "
                "recommended approach is to use dynamic provisioning."
            )
        return found


def canonical_amounts(amounts: Object) -> Object:
    return {name: canonical_amount(amount) for name, amount in amounts.items()}


def validate_volume_spec(spec: Object, field: str) -> list[Cause]:
    """What is wrong with a `PersistentVolumeSpec`."""
    found = validate_access_modes(spec, field)
    found += _validate_capacity(spec.get("capacity") or {}, f"{field}.capacity")
    policy = spec.get("persistentVolumeReclaimPolicy")
    found += causes.one_of(f"{field}.persistentVolumeReclaimPolicy", policy, _RECLAIM_POLICIES)
    required = (spec.get("nodeAffinity") or {}).get("required")
    if spec.get("nodeAffinity") is not None:
        path = f"{field}.nodeAffinity.required"
        missing = [causes.required(path, "must specify required node constraints")]
        found += validate_node_selector(required, path) if required is not None else missing
    found += validate_source(spec, field)
    if spec.get("local") is not None and required is None:
        found.append(causes.required(f"{field}.nodeAffinity", "Local volume requires node affinity"))
    host = spec.get("hostPath")
    if host is not None and policy == "Recycle" and not (host.get("path") or "").strip("/."):
        text = "may not be 'recycle' for a hostPath mount of '/'"
        found.append(causes.forbidden(f"{field}.persistentVolumeReclaimPolicy", text))
    found += validate_class_name(spec.get("storageClassName"), f"{field}.storageClassName")
    found += causes.one_of(f"{field}.volumeMode", spec.get("volumeMode"), VOLUME_MODES)
    return found + _validate_attributes_class(spec, field)


def validate_inline_spec(spec: Object, field: str) -> list[Cause]:
    """What is wrong with the `PersistentVolumeSpec` inside a VolumeAttachment."""
    why = "may not be specified in the context of inline volumes"
    found = [
        causes.forbidden(f"{field}.{name}", why)
        for name in ("claimRef", "capacity", "nodeAffinity", "storageClassName")
        if spec.get(name)
    ]
    if spec.get("csi") is None:
        found.append(causes.required(f"{field}.csi", "has to be specified in the context of inline volumes"))
    found += validate_access_modes(spec, field)
    if spec.get("persistentVolumeReclaimPolicy") not in (None, "", "Retain"):
        text = "may only be Retain in the context of inline volumes"
        found.append(causes.forbidden(f"{field}.persistentVolumeReclaimPolicy", text))
    if spec.get("volumeMode") not in (None, "Filesystem"):
        text = "may not specify volumeMode other than Filesystem in the context of inline volumes"
        found.append(causes.forbidden(f"{field}.volumeMode", text))
    return found + validate_source(spec, field)


def validate_access_modes(spec: Object, field: str, detail: str = "") -> list[Cause]:
    """At least one known mode; ReadWriteOncePod only alone."""
    modes = spec.get("accessModes") or []
    path = f"{field}.accessModes"
    if not modes:
        return [causes.required(path, detail)]
    found = [causes.not_supported(path, mode, ACCESS_MODES) for mode in modes if mode not in ACCESS_MODES]
    known = {mode for mode in modes if mode in ACCESS_MODES}
    if "ReadWriteOncePod" in known and len(known) > 1:
        found.append(causes.forbidden(path, "may not use ReadWriteOncePod with other access modes"))
    return found


def validate_class_name(name: str | None, field: str) -> list[Cause]:
    """Empty, or the name of a class."""
    return causes.problems(field, name, names.is_dns1123_subdomain(name)) if name else []


def validate_positive(amount: Any, field: str) -> list[Cause]:
    """A quantity above zero."""
    if not quantity.is_quantity(amount) or quantity.parse(amount) < 0:
        return [causes.invalid_value(field, amount, "must be a valid resource quantity")]
    if quantity.parse(amount) == 0:
        return [causes.invalid_value(field, amount, "must be greater than zero")]
    return []


def _validate_capacity(capacity: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    if not capacity:
        found.append(causes.required(field))
    if set(capacity) != {"storage"}:
        found.append(causes.not_supported(field, capacity, ("storage",)))
    for name, amount in capacity.items():
        found += validate_positive(amount, f"{field}[{name}]")
    return found


def _validate_attributes_class(spec: Object, field: str) -> list[Cause]:
    name = spec.get("volumeAttributesClassName")
    if name is None:
        return []
    path = f"{field}.volumeAttributesClassName"
    found = (
        validate_class_name(name, path) if name else [causes.required(path, "an empty string is disallowed")]
    )
    if spec.get("csi") is None:
        text = "has to be specified when using volumeAttributesClassName"
        found.append(causes.required(f"{field}.csi", text))
    return found


def _validate_update(spec: Object, before: Object) -> list[Cause]:
    found: list[Cause] = []
    was, now = _source(before), _source(spec)
    if "csi" in was and "csi" in now and not was["csi"].get("controllerExpandSecretRef"):
        # It may be added later.
        now["csi"] = {
            name: value for name, value in now["csi"].items() if name != "controllerExpandSecretRef"
        }
    if now != was:
        text = f"spec.persistentvolumesource is immutable after creation\n{changes(was, now)}"
        found.append(causes.forbidden("spec.persistentvolumesource", text))
    found += causes.immutable("volumeMode", spec.get("volumeMode"), before.get("volumeMode"))
    if before.get("nodeAffinity") is not None:
        found += causes.immutable("nodeAffinity", spec.get("nodeAffinity"), before["nodeAffinity"])
    if before.get("volumeAttributesClassName") is not None and spec.get("volumeAttributesClassName") is None:
        text = "update from non-nil value to nil is forbidden"
        found.append(causes.forbidden("spec.volumeAttributesClassName", text))
    return found


def _source(spec: Object) -> Object:
    return {kind: spec[kind] for kind in REQUIRED if spec.get(kind) is not None}


def changes(before: Object, after: Object) -> str:
    """The fields that differ, one per line, with what was and what is asked for."""
    lines: list[str] = []
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was != now:
            lines += [f"- {name}: {causes.quoted(was)}"] if was is not None else []
            lines += [f"+ {name}: {causes.quoted(now)}"] if now is not None else []
    return "\n".join(lines)
