"""Validation of the metrics that an autoscaler follows. Pure; called by `autoscaling`.

Source: autoscaling validation of Kubernetes v1.36.
"""

from collections.abc import Callable

from orchestrator.api import names, quantity
from orchestrator.api.errors import Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.resource_names import validate_container_name

_TARGETS = ("Utilization", "Value", "AverageValue")
_RAW_OR_UTILIZATION = "must set either a target raw value or a target utilization"
_NOT_BOTH = "may not set both a target raw value and a target utilization"


def validate_metric(metric: Object, field: str) -> list[Cause]:
    """One entry of `spec.metrics`."""
    kind = metric.get("type") or ""
    found: list[Cause] = []
    if not kind:
        found.append(causes.required(f"{field}.type", "must specify a metric source type"))
    wanted = _FIELDS.get(kind)
    if wanted is None:
        found.append(causes.not_supported(f"{field}.type", kind, _FIELDS))
    present = [name for name in _SOURCES if metric.get(name) is not None]
    for name in present[:1]:
        found += _SOURCES[name](metric[name], f"{field}.{name}")
    if wanted and wanted not in present:
        text = "must populate information for the given metric source"
        found.append(causes.required(f"{field}.{wanted}", text))
    if len(present) != 1:
        text = "must populate the given metric source only"
        found += [causes.forbidden(f"{field}.{name}", text) for name in present if name != wanted]
    return found


def validate_reference(reference: Object, field: str) -> list[Cause]:
    """An object by kind and name."""
    found: list[Cause] = []
    for name in ("kind", "name"):
        value = reference.get(name) or ""
        if not value:
            found.append(causes.required(f"{field}.{name}"))
        else:
            found += causes.problems(f"{field}.{name}", value, names.is_path_segment(value))
    return found


def _validate_object(source: Object, field: str) -> list[Cause]:
    target = source.get("target") or {}
    found = validate_reference(source.get("describedObject") or {}, f"{field}.describedObject")
    found += _validate_identifier(source.get("metric") or {}, f"{field}.metric")
    found += _validate_target(target, f"{field}.target")
    if target.get("value") is None and target.get("averageValue") is None:
        text = "must set either a target value or averageValue"
        found.append(causes.required(f"{field}.target.averageValue", text))
    return found


def _validate_external(source: Object, field: str) -> list[Cause]:
    target = source.get("target") or {}
    found = _validate_identifier(source.get("metric") or {}, f"{field}.metric")
    found += _validate_target(target, f"{field}.target")
    given = [name for name in ("value", "averageValue") if target.get(name) is not None]
    if not given:
        text = "must set either a target value for metric or a per-pod target"
        found.append(causes.required(f"{field}.target.averageValue", text))
    if len(given) == 2:
        text = "may not set both a target value for metric and a per-pod target"
        found.append(causes.forbidden(f"{field}.target.value", text))
    return found


def _validate_pods(source: Object, field: str) -> list[Cause]:
    target = source.get("target") or {}
    found = _validate_identifier(source.get("metric") or {}, f"{field}.metric")
    found += _validate_target(target, f"{field}.target")
    if target.get("averageValue") is None:
        text = "must specify a positive target averageValue"
        found.append(causes.required(f"{field}.target.averageValue", text))
    return found


def _validate_container_resource(source: Object, field: str) -> list[Cause]:
    name, container = source.get("name") or "", source.get("container") or ""
    found: list[Cause] = []
    if not name:
        found.append(causes.required(f"{field}.name", "must specify a resource name"))
    else:
        found += validate_container_name(name, f"{field}.name")
    if not container:
        found.append(causes.required(f"{field}.container", "must specify a container"))
    else:
        found += causes.problems(f"{field}.container", container, names.is_dns1123_label(container))
    return found + _validate_resource_target(source.get("target") or {}, f"{field}.target")


def _validate_resource(source: Object, field: str) -> list[Cause]:
    found: list[Cause] = []
    if not source.get("name"):
        found.append(causes.required(f"{field}.name", "must specify a resource name"))
    return found + _validate_resource_target(source.get("target") or {}, f"{field}.target")


def _validate_resource_target(target: Object, field: str) -> list[Cause]:
    found = _validate_target(target, field)
    given = [name for name in ("averageUtilization", "averageValue") if target.get(name) is not None]
    if not given:
        found.append(causes.required(f"{field}.averageUtilization", _RAW_OR_UTILIZATION))
    if len(given) == 2:
        found.append(causes.forbidden(f"{field}.averageValue", _NOT_BOTH))
    return found


def _validate_target(target: Object, field: str) -> list[Cause]:
    kind = target.get("type") or ""
    found: list[Cause] = []
    if not kind:
        found.append(causes.required(f"{field}.type", "must specify a metric target type"))
    if kind not in _TARGETS:
        text = "must be either Utilization, Value, or AverageValue"
        found.append(causes.invalid_value(f"{field}.type", kind, text))
    for name in ("value", "averageValue"):
        if target.get(name) is not None and quantity.parse(target[name]) <= 0:
            found.append(causes.invalid_value(f"{field}.{name}", target[name], "must be positive"))
    share = target.get("averageUtilization")
    if share is not None and share < 1:
        found.append(causes.invalid_value(f"{field}.averageUtilization", share, "must be greater than 0"))
    return found


def _validate_identifier(metric: Object, field: str) -> list[Cause]:
    name = metric.get("name") or ""
    if not name:
        return [causes.required(f"{field}.name", "must specify a metric name")]
    return causes.problems(f"{field}.name", name, names.is_path_segment(name))


_SOURCES: dict[str, Callable[[Object, str], list[Cause]]] = {
    "object": _validate_object,
    "external": _validate_external,
    "pods": _validate_pods,
    "resource": _validate_resource,
    "containerResource": _validate_container_resource,
}
_FIELDS = {name[0].upper() + name[1:]: name for name in _SOURCES}
"""Type of a metric → the field that holds its source."""
