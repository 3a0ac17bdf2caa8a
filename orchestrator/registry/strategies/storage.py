"""Kinds of `storage.k8s.io`: classes, attachments, CSI drivers and what nodes and topologies offer.

A StorageClass and a VolumeAttributesClass hardly change: volumes were made after them.
"""

from orchestrator.api import names, quantity
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy, filled, with_field, with_generation
from orchestrator.registry.strategies.label_selectors import validate_label_selector
from orchestrator.registry.strategies.persistent_volumes import validate_class_name, validate_inline_spec
from orchestrator.registry.strategies.pod_defaults import canonical_amount
from orchestrator.registry.strategies.volume_sources import validate_csi_driver_name

_PARAMETERS_MAX = 512
_PARAMETERS_BYTES_MAX = 256 * 1024
_ATTACHMENT_BYTES_MAX = 256 * 1024
_MESSAGE_BYTES_MAX = 1024
_NODE_ID_LENGTH_MAX = 256
_TOKEN_TTL_MIN_S, _TOKEN_TTL_MAX_S = 600, 1 << 32


class StorageClassStrategy(BaseStrategy):
    def default(self, obj: Object) -> Object:
        return filled(obj, {"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"})

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        if old is not None:
            return _validate_class_update(new, old)
        found = _validate_provisioner(new.get("provisioner") or "", "provisioner")
        found += _validate_parameters(new.get("parameters") or {}, empty_is_fine=True)
        found += causes.one_of("reclaimPolicy", new.get("reclaimPolicy"), ("Delete", "Retain"))
        modes = ("Immediate", "WaitForFirstConsumer")
        found += causes.one_of("volumeBindingMode", new.get("volumeBindingMode"), modes)
        return found + _validate_topologies(new.get("allowedTopologies") or [])


class VolumeAttributesClassStrategy(BaseStrategy):
    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        found: list[Cause] = []
        if old is not None:
            found += [
                causes.forbidden(name, f"updates to {name} are forbidden.")
                for name in ("driverName", "parameters")
                if (new.get(name) or "") != (old.get(name) or "")
            ]
        found += _validate_provisioner(new.get("driverName") or "", "driverName")
        return found + _validate_parameters(new.get("parameters") or {}, empty_is_fine=False)


class VolumeAttachmentStrategy(BaseStrategy):
    def initial_status(self, obj: Object) -> Object:
        return {"attached": False}

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        spec = new.get("spec") or {}
        found = _validate_attachment(spec)
        if old is not None and spec != old.get("spec"):
            found.append(causes.invalid_value("spec", spec, "field is immutable"))
        return found

    def validate_status(self, new: Object, old: Object) -> list[Cause]:
        status = new.get("status") or {}
        found: list[Cause] = []
        metadata = status.get("attachmentMetadata") or {}
        if sum(len(name) + len(value) for name, value in metadata.items()) > _ATTACHMENT_BYTES_MAX:
            found.append(causes.too_long("status.attachmentMetadata", _ATTACHMENT_BYTES_MAX))
        for name in ("attachError", "detachError"):
            error = status.get(name) or {}
            if len(error.get("message") or "") > _MESSAGE_BYTES_MAX:
                found.append(causes.too_long(f"status.{name}.message", _MESSAGE_BYTES_MAX))
            if (error.get("errorCode") or 0) < 0:
                text = "must be between 0 and 2147483647, inclusive"
                found.append(causes.invalid_value(f"status.{name}.errorCode", error["errorCode"], text))
        return found


class CSIDriverStrategy(BaseStrategy):
    _FREE = ("tokenRequests", "requiresRepublish", "seLinuxMount", "nodeAllocatableUpdatePeriodSeconds")
    """Fields whose change counts a generation."""

    def default(self, obj: Object) -> Object:
        defaults = {
            "attachRequired": True, "podInfoOnMount": False, "storageCapacity": False,
            "fsGroupPolicy": "ReadWriteOnceWithFSType", "requiresRepublish": False, "seLinuxMount": False,
        }  # fmt: skip
        spec = filled(obj.get("spec") or {}, defaults)
        if not spec.get("volumeLifecycleModes"):
            spec["volumeLifecycleModes"] = ["Persistent"]
        return {**obj, "spec": spec}

    def settle_update(self, new: Object, old: Object) -> Object:
        before = old.get("spec") or {}
        generation: int = old["metadata"].get("generation", 0)
        if any(new["spec"].get(name) != before.get(name) for name in self._FREE):
            return with_generation(new, generation + 1)
        if generation:
            return with_generation(new, generation)
        return {**new, "metadata": with_field(new["metadata"], "generation", None)}

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        spec = new["spec"]
        found = validate_csi_driver_name(new["metadata"].get("name") or "", "metadata.name")
        policies = ("File", "None", "ReadWriteOnceWithFSType")
        found += causes.one_of("spec.fsGroupPolicy", spec.get("fsGroupPolicy"), policies)
        found += _validate_token_requests(spec.get("tokenRequests") or [])
        for mode in spec["volumeLifecycleModes"]:
            found += causes.one_of("spec.volumeLifecycleModes", mode, ("Ephemeral", "Persistent"))
        period_s = spec.get("nodeAllocatableUpdatePeriodSeconds")
        if period_s is not None and period_s < 10:
            text = "must be greater than or equal to 10 seconds"
            found.append(causes.invalid_value("spec.nodeAllocatableUpdatePeriodSeconds", period_s, text))
        if old is None:
            return found
        before = old.get("spec") or {}
        found += causes.immutable(
            "spec.attachedRequired", spec["attachRequired"], before.get("attachRequired")
        )
        modes = before.get("volumeLifecycleModes")
        return found + causes.immutable("spec.volumeLifecycleModes", spec["volumeLifecycleModes"], modes)


class CSINodeStrategy(BaseStrategy):
    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        found: list[Cause] = []
        seen: set[str] = set()
        drivers = (new.get("spec") or {}).get("drivers") or []
        for at, driver in enumerate(drivers):
            found += _validate_node_driver(driver, f"spec.drivers[{at}]", seen)
        if old is None:
            return found
        before = {driver.get("name"): driver for driver in (old.get("spec") or {}).get("drivers") or ()}
        for driver in drivers:
            was = before.get(driver.get("name"))
            # How many volumes fit may change; the rest of an entry is the driver's own registration.
            if was is not None and with_field(driver, "allocatable", None) != with_field(
                was, "allocatable", None
            ):
                found.append(causes.invalid_value("spec.drivers", driver, "field is immutable"))
        return found


class CSIStorageCapacityStrategy(BaseStrategy):
    def default(self, obj: Object) -> Object:
        amounts = {
            n: canonical_amount(obj[n]) for n in ("capacity", "maximumVolumeSize") if obj.get(n) is not None
        }
        return {**obj, **amounts} if amounts else obj

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        if old is not None:
            return [
                causes.invalid_value(name, new.get(name), "field is immutable")
                for name in ("nodeTopology", "storageClassName")
                if new.get(name) != old.get(name)
            ]
        found = validate_label_selector(new.get("nodeTopology"), "nodeTopology")
        name = new.get("storageClassName") or ""
        found += causes.problems("storageClassName", name, names.is_dns1123_subdomain(name))
        amount = new.get("capacity")
        if amount is not None and (not quantity.is_quantity(amount) or quantity.parse(amount) < 0):
            found.append(causes.invalid_value("capacity", amount, "must be greater than or equal to 0"))
        return found


def _validate_class_update(new: Object, old: Object) -> list[Cause]:
    found = [
        causes.forbidden(name, f"updates to {name} are forbidden.")
        for name in ("parameters", "provisioner", "reclaimPolicy")
        if (new.get(name) or "") != (old.get(name) or "")
    ]
    return found + causes.immutable(
        "volumeBindingMode", new["volumeBindingMode"], old.get("volumeBindingMode")
    )


def _validate_provisioner(name: str, field: str) -> list[Cause]:
    if not name:
        return [causes.required(field)]
    return causes.problems(field, name.lower(), names.is_qualified_name(name.lower()))


def _validate_parameters(parameters: Object, *, empty_is_fine: bool) -> list[Cause]:
    if len(parameters) > _PARAMETERS_MAX:
        return [causes.too_long("parameters", _PARAMETERS_MAX)]
    found: list[Cause] = []
    if "" in parameters:
        found.append(causes.invalid_value("parameters", "", "field can not be empty."))
    if sum(len(name) + len(value) for name, value in parameters.items()) > _PARAMETERS_BYTES_MAX:
        found.append(causes.too_long("parameters", _PARAMETERS_BYTES_MAX))
    if not parameters and not empty_is_fine:
        found.append(causes.required("parameters", "must contain at least one key/value pair"))
    return found


def _validate_topologies(terms: list[Object]) -> list[Cause]:
    found: list[Cause] = []
    seen: list[dict[str, frozenset[str]]] = []
    for at, term in enumerate(terms):
        path = f"allowedTopologies[{at}].matchLabelExpressions"
        keys: dict[str, frozenset[str]] = {}
        for place, expression in enumerate(term.get("matchLabelExpressions") or ()):
            found += _validate_topology(expression, f"{path}[{place}]", keys)
        if keys and keys in seen:
            found.append(causes.duplicate(path, ""))
        seen.append(keys)
    return found


def _validate_topology(expression: Object, field: str, keys: dict[str, frozenset[str]]) -> list[Cause]:
    """Adds the expression's values to `keys`."""
    key, values = expression.get("key") or "", expression.get("values") or []
    found = causes.problems(f"{field}.key", key, names.is_qualified_name(key))
    if key in keys:
        found.append(causes.duplicate(f"{field}.key", key))
    if not values:
        found.append(causes.required(f"{field}.values"))
    for at, value in enumerate(values):
        if value in values[:at]:
            found.append(causes.duplicate(f"{field}.values[{at}]", value))
    keys[key] = frozenset(values)
    return found


def _validate_attachment(spec: Object) -> list[Cause]:
    attacher: str = spec.get("attacher") or ""
    found = [] if attacher else [causes.required("spec.attacher")]
    source = spec.get("source") or {}
    inline, name = source.get("inlineVolumeSpec"), source.get("persistentVolumeName")
    exactly_one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
    if inline is None and name is None:
        found.append(causes.required("spec.source", exactly_one))
    elif inline is not None and name is not None:
        found.append(causes.forbidden("spec.source", exactly_one))
    elif inline is not None:
        found += validate_inline_spec(inline, "spec.source.inlineVolumeSpec")
    elif not name:
        text = "must specify non empty persistentVolumeName"
        found.append(causes.required("spec.source.persistentVolumeName", text))
    else:
        found += validate_class_name(name, "spec.source.persistentVolumeName")
    node: str = spec.get("nodeName") or ""
    found += causes.problems("spec.nodeName", node, names.is_dns1123_subdomain(node))
    return found + validate_csi_driver_name(attacher, "spec.attacher")


def _validate_token_requests(requests: list[Object]) -> list[Cause]:
    found: list[Cause] = []
    seen: set[str] = set()
    for at, request in enumerate(requests):
        path, audience = f"spec.tokenRequests[{at}]", request.get("audience") or ""
        if audience in seen:
            found.append(causes.duplicate(f"{path}.audience", audience))
            continue
        seen.add(audience)
        ttl_s = request.get("expirationSeconds")
        if ttl_s is not None and ttl_s < _TOKEN_TTL_MIN_S:
            text = "may not specify a duration less than 10 minutes"
            found.append(causes.invalid_value(f"{path}.expirationSeconds", ttl_s, text))
        if ttl_s is not None and ttl_s > _TOKEN_TTL_MAX_S:
            text = "may not specify a duration larger than 2^32 seconds"
            found.append(causes.invalid_value(f"{path}.expirationSeconds", ttl_s, text))
    return found


def _validate_node_driver(driver: Object, field: str, seen: set[str]) -> list[Cause]:
    """Adds the driver's name to `seen`."""
    name, node_id = driver.get("name") or "", driver.get("nodeID") or ""
    found = validate_csi_driver_name(name, f"{field}.name")
    if not node_id:
        found.append(causes.required(f"{field}.nodeID"))
    if len(node_id) > _NODE_ID_LENGTH_MAX:
        text = f"must be {_NODE_ID_LENGTH_MAX} characters or less"
        found.append(causes.invalid_value(f"{field}.nodeID", node_id, text))
    count = (driver.get("allocatable") or {}).get("count")
    found += causes.non_negative(f"{field}.allocatable.count", count)
    if name in seen:
        found.append(causes.duplicate(f"{field}.name", name))
    seen.add(name)
    keys: list[str] = driver.get("topologyKeys") or []
    for at, key in enumerate(keys):
        if key in keys[:at]:
            found.append(causes.duplicate(field, key))
        found += (
            causes.problems(field, key, names.is_qualified_name(key)) if key else [causes.required(field)]
        )
    return found
