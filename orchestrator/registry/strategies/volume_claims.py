"""PersistentVolumeClaims: a size that only grows, a class, and a spec that is otherwise fixed.

Rules:
1. `dataSource` and `dataSourceRef` say the same, unless the reference leads into another namespace.
2. After creation only the size of a bound claim, the name of its attributes class, and once the volume and the
   storage class may be set.
3. A size that was asked for in vain may be taken back down to just above what the claim has.
"""

from orchestrator.api import names, quantity
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy, filled, with_field
from orchestrator.registry.strategies.label_selectors import validate_label_selector
from orchestrator.registry.strategies.persistent_volumes import (
    BETA_CLASS,
    VOLUME_MODES,
    canonical_amounts,
    changes,
    validate_access_modes,
    validate_class_name,
    validate_positive,
)
from orchestrator.registry.strategies.pod_defaults import default_resources

_SNAPSHOTS = "snapshot.storage.k8s.io"
_RESIZE_STATES = (
    "ControllerResizeInProgress", "ControllerResizeInfeasible", "NodeResizePending", "NodeResizeInProgress",
    "NodeResizeInfeasible",
)  # fmt: skip


class PersistentVolumeClaimStrategy(BaseStrategy):
    def default(self, obj: Object) -> Object:
        return {**obj, "spec": default_claim_spec(obj.get("spec") or {})}

    def initial_status(self, obj: Object) -> Object:
        return {"phase": "Pending"}

    def prepare_create(self, obj: Object) -> Object:
        source = (obj.get("spec") or {}).get("dataSource")
        if source is not None and not _is_known_source(source):
            # What no provisioner understands is dropped in the old field; the new one keeps it.
            obj = {**obj, "spec": with_field(obj["spec"], "dataSource", None)}
        return super().prepare_create(obj)

    def status_update(self, new: Object, old: Object) -> Object:
        result = super().status_update(new, old)
        status = dict(result.get("status") or {})
        for name in ("capacity", "allocatedResources"):
            if status.get(name):
                status[name] = canonical_amounts(status[name])
        return with_field(result, "status", status)

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        found = validate_claim_spec(new["spec"], "spec")
        return found if old is None else found + _validate_update(new, old)

    def validate_status(self, new: Object, old: Object) -> list[Cause]:
        status = new.get("status") or {}
        found: list[Cause] = []
        for name, amount in (status.get("capacity") or {}).items():
            found += _validate_amount(amount, f"status.capacity[{name}]")
        for name, state in (status.get("allocatedResourceStatuses") or {}).items():
            found += _validate_key(name, "status.allocatedResourceStatus")
            if state not in _RESIZE_STATES:
                found.append(causes.not_supported("status.allocatedResourceStatus", name, _RESIZE_STATES))
        for name, amount in (status.get("allocatedResources") or {}).items():
            found += _validate_key(name, "status.allocatedResources") or _validate_amount(
                amount, f"status.allocatedResources[{name}]"
            )
        return found

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        found: list[str] = []
        if BETA_CLASS in (new["metadata"].get("annotations") or {}):
            text = 'deprecated since v1.8; use "storageClassName" attribute instead'
            found.append(f"metadata.annotations[{BETA_CLASS}]: {text}")
        amounts = new["spec"].get("resources") or {}
        for part in ("requests", "limits"):
            amount = (amounts.get(part) or {}).get("storage")
            if amount is not None and quantity.is_quantity(amount) and quantity.parse(amount) % 1:
                text = f'fractional byte value "{amount}" is invalid, must be an integer'
                found.append(f"spec.resources.{part}[storage]: {text}")
        return found


def default_claim_spec(spec: Object) -> Object:
    """A `PersistentVolumeClaimSpec` with its defaults, as in claims and in templates of them."""
    result = filled(spec, {"volumeMode": "Filesystem"})
    if result.get("resources"):
        result["resources"] = default_resources(result["resources"])
    source, reference = result.get("dataSource"), result.get("dataSourceRef")
    if source is not None and reference is None:
        result["dataSourceRef"] = dict(source)
    elif reference is not None and source is None and not reference.get("namespace"):
        result["dataSource"] = {name: value for name, value in reference.items() if name != "namespace"}
    return result


def validate_claim_spec(spec: Object, field: str) -> list[Cause]:
    """What is wrong with a `PersistentVolumeClaimSpec`."""
    found = validate_access_modes(spec, field, "at least 1 access mode is required")
    found += validate_label_selector(spec.get("selector"), f"{field}.selector")
    size = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    path = f"{field}.resources[storage]"
    if size is None:
        found.append(causes.required(path))
    else:
        found += validate_positive(size, path)
    found += validate_class_name(spec.get("storageClassName"), f"{field}.storageClassName")
    found += causes.one_of(f"{field}.volumeMode", spec.get("volumeMode"), VOLUME_MODES)
    found += _validate_sources(spec, field)
    attributes = spec.get("volumeAttributesClassName")
    return found + validate_class_name(attributes, f"{field}.volumeAttributesClassName")


def _is_known_source(source: Object) -> bool:
    kind, group = source.get("kind"), source.get("apiGroup") or ""
    return (kind == "PersistentVolumeClaim" and not group) or (
        kind == "VolumeSnapshot" and group == _SNAPSHOTS
    )


def _validate_sources(spec: Object, field: str) -> list[Cause]:
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    found: list[Cause] = []
    if source is not None:
        found += _validate_source(source, f"{field}.dataSource")
    if reference is None:
        return found
    found += _validate_source(reference, f"{field}.dataSourceRef")
    namespace = reference.get("namespace")
    if namespace:
        path = f"{field}.dataSourceRef.namespace"
        found += causes.problems(path, namespace, names.is_dns1123_label(namespace))
        if source is not None:
            text = "may not be specified when dataSourceRef.namespace is specified"
            found.append(causes.invalid_value(field, f"{field}.dataSource", text))
    elif source is not None and any(
        (source.get(name) or "") != (reference.get(name) or "") for name in ("apiGroup", "kind", "name")
    ):
        found.append(causes.invalid_value(field, f"{field}.dataSource", "must match dataSourceRef"))
    return found


def _validate_source(source: Object, field: str) -> list[Cause]:
    found = [causes.required(f"{field}.{name}") for name in ("name", "kind") if not source.get(name)]
    group, kind = source.get("apiGroup") or "", source.get("kind") or ""
    if not group and kind != "PersistentVolumeClaim":
        text = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        found.append(causes.invalid_value(field, kind, text))
    if group:
        found += causes.problems(f"{field}.apiGroup", group, names.is_dns1123_subdomain(group))
    return found


def _validate_amount(amount: object, field: str) -> list[Cause]:
    if quantity.is_quantity(amount) and quantity.parse(amount) >= 0:  # type: ignore[arg-type]  # it is a quantity
        return []
    return [causes.invalid_value(field, amount, "must be a valid resource quantity")]


def _validate_key(name: str, field: str) -> list[Cause]:
    found = causes.problems(field, name, names.is_qualified_name(name))
    if (
        not found
        and ("/" not in name or name.partition("/")[0].endswith("kubernetes.io"))
        and name != "storage"
    ):
        found.append(causes.not_supported(field, name, ("storage",)))
    return found


def _validate_update(new: Object, old: Object) -> list[Cause]:
    spec, before = new["spec"], old.get("spec") or {}
    found = _validate_annotation(new, old)
    wanted, held = _comparable(new, old)
    if wanted != held:
        text = (
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound "
            f"claims\n{changes(held, wanted)}"
        )
        found.append(causes.forbidden("spec", text))
    found += _validate_shrinking(spec, before, old)
    found += causes.immutable("volumeMode", spec.get("volumeMode"), before.get("volumeMode"))
    name = "volumeAttributesClassName"
    if before.get(name) is not None and not spec.get(name):
        what = "nil" if spec.get(name) is None else "an empty string"
        found.append(causes.forbidden(f"spec.{name}", f"update from non-nil value to {what} is forbidden"))
    return found


def _validate_annotation(new: Object, old: Object) -> list[Cause]:
    was = (old["metadata"].get("annotations") or {}).get(BETA_CLASS)
    now = (new["metadata"].get("annotations") or {}).get(BETA_CLASS)
    if was == now or (now is None and new["spec"].get("storageClassName") == was):
        return []
    path = f"metadata.annotations[{BETA_CLASS}]"
    return [causes.invalid_value(path, now or "", "field is immutable")]


def _comparable(new: Object, old: Object) -> tuple[Object, Object]:
    """Both specs without what may change."""
    free = ["volumeAttributesClassName"]
    before = old.get("spec") or {}
    if not before.get("volumeName"):
        free.append("volumeName")
    annotation = (old["metadata"].get("annotations") or {}).get(BETA_CLASS)
    name = new["spec"].get("storageClassName")
    if before.get("storageClassName") is None and name is not None and annotation in (None, name):
        free.append("storageClassName")
    bound = (new.get("status") or {}).get("phase") == "Bound"
    return _without(new["spec"], free, bound=bound), _without(before, free, bound=bound)


def _without(spec: Object, fields: list[str], *, bound: bool) -> Object:
    result = {name: value for name, value in spec.items() if name not in fields}
    requests = (spec.get("resources") or {}).get("requests")
    if bound and requests:
        others = {name: amount for name, amount in requests.items() if name != "storage"}
        result["resources"] = {**spec["resources"], "requests": others}
    return result


def _validate_shrinking(spec: Object, before: Object, old: Object) -> list[Cause]:
    now, was = _size(spec.get("resources"), "requests"), _size(before.get("resources"), "requests")
    has = _size(old.get("status"), "capacity")
    if now < was and now <= has:
        text = "field can not be less than status.capacity"
        return [causes.forbidden("spec.resources.requests.storage", text)]
    return []


def _size(holder: Object | None, name: str) -> quantity.Quantity:
    amount = ((holder or {}).get(name) or {}).get("storage", "0")
    return quantity.parse(amount) if quantity.is_quantity(amount) else quantity.parse("0")
