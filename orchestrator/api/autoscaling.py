"""HorizontalPodAutoscalers between autoscaling/v1 and v2, the version in which they are kept.

v1 knows one metric, the share of the requested CPU. What else v2 says travels in annotations that a v1 client sees
and hands back, so that nothing is lost on the way through it; in v2 those annotations do not exist. The annotations'
contents are those of Kubernetes: metrics in v1's flat form, the behavior with the names of Go's fields.

Pure; the registry calls the two converters through `api.conversion`. A v1 object whose annotations can't be read is
converted without them.
"""

from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from orchestrator.api import quantity
from orchestrator.api.item import Object

V1, V2 = "autoscaling/v1", "autoscaling/v2"
_PREFIX = "autoscaling.alpha.kubernetes.io/"
_METRICS, _STATUSES = f"{_PREFIX}metrics", f"{_PREFIX}current-metrics"
_CONDITIONS, _BEHAVIOR = f"{_PREFIX}conditions", f"{_PREFIX}behavior"
_CARRIERS = frozenset((_METRICS, _STATUSES, _CONDITIONS, _BEHAVIOR))
_SPEC_FIELDS = ("scaleTargetRef", "minReplicas", "maxReplicas")
_STATUS_FIELDS = ("observedGeneration", "lastScaleTime", "currentReplicas", "desiredReplicas")

_encode = msgspec.json.Encoder().encode


def to_v1(obj: Object) -> Object:
    """The v1 form of a v2 autoscaler."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    metrics, currents = spec.get("metrics") or [], status.get("currentMetrics") or []
    shown = {**_picked(spec, _SPEC_FIELDS)}
    aim = next((share for share in map(_cpu_aim, metrics) if share is not None), None)
    if aim is not None:
        shown["targetCPUUtilizationPercentage"] = aim
    state = {"currentReplicas": 0, "desiredReplicas": 0, **_picked(status, _STATUS_FIELDS)}
    for current in currents:
        share = _cpu_share(current, "current")
        if share is not None:
            state["currentCPUUtilizationPercentage"] = share
    carried = {
        _METRICS: [_flat(metric, _FLAT_SPECS) for metric in metrics if _cpu_aim(metric) is None],
        _STATUSES: [_flat(current, _FLAT_STATUSES) for current in currents],
        _BEHAVIOR: _go_behavior(spec.get("behavior")),
        _CONDITIONS: status.get("conditions"),
    }
    metadata = _annotated(obj["metadata"], {name: value for name, value in carried.items() if value})
    return {**obj, "apiVersion": V1, "metadata": metadata, "spec": shown, "status": state}


def to_v2(obj: Object) -> Object:
    """The v2 form of a v1 autoscaler."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    annotations: dict[str, str] = obj["metadata"].get("annotations") or {}
    shown, state = _picked(spec, _SPEC_FIELDS), _picked(status, _STATUS_FIELDS)
    metrics = [_deep(metric, _FLAT_SPECS, "target") for metric in _metrics(annotations.get(_METRICS))]
    if spec.get("targetCPUUtilizationPercentage") is not None:
        metrics.append(_cpu("target", spec["targetCPUUtilizationPercentage"], {"type": "Utilization"}))
    if metrics:
        shown["metrics"] = metrics
    behavior = _from_go(_read(annotations.get(_BEHAVIOR), _Behavior))
    if behavior:
        shown["behavior"] = behavior
    currents = [_deep(current, _FLAT_STATUSES, "current") for current in _metrics(annotations.get(_STATUSES))]
    if not currents and status.get("currentCPUUtilizationPercentage") is not None:
        currents = [_cpu("current", status["currentCPUUtilizationPercentage"], {})]
    conditions = _read(annotations.get(_CONDITIONS), list[_Condition])
    for name, value in (("currentMetrics", currents), ("conditions", conditions)):
        if value:
            state[name] = value
    metadata = _annotated(obj["metadata"], {})
    result = {**obj, "apiVersion": V2, "metadata": metadata, "spec": shown}
    return {**result, "status": state} if state or "status" in obj else result


def _picked(obj: Object, names: tuple[str, ...]) -> Object:
    return {name: obj[name] for name in names if name in obj}


# ── The one metric of v1 ─────────────────────────────────────────────────────────────────────────────────


def _cpu_share(metric: Object, side: str) -> int | None:
    """The share of the requested CPU that a metric aims at (`target`) or has (`current`)."""
    source = metric.get("resource") or {}
    if metric.get("type") != "Resource" or source.get("name") != "cpu":
        return None
    share: int | None = (source.get(side) or {}).get("averageUtilization")
    return share


def _cpu_aim(metric: Object) -> int | None:
    return _cpu_share(metric, "target")


def _cpu(side: str, share: int, kind: Object) -> Object:
    amounts = {**kind, "averageUtilization": share}
    return {"type": "Resource", "resource": {"name": "cpu", side: amounts}}


# ── Annotations ──────────────────────────────────────────────────────────────────────────────────────────


def _annotated(metadata: Object, carried: Object) -> Object:
    """Metadata with these carriers and no others."""
    annotations = metadata.get("annotations") or {}
    if not carried and not _CARRIERS & annotations.keys():
        return metadata
    kept = {name: value for name, value in annotations.items() if name not in _CARRIERS}
    kept |= {name: _encode(value).decode() for name, value in carried.items()}
    rest = {name: value for name, value in metadata.items() if name != "annotations"}
    return {**rest, "annotations": kept} if kept else rest


def _read(text: str | None, kind: Any) -> Any:
    """What an annotation says, as plain dictionaries; None when it is not of that kind."""
    try:
        value = msgspec.json.decode(text, type=kind) if text else None
    except (msgspec.DecodeError, UnicodeError):
        return None
    return msgspec.to_builtins(value)


def _metrics(text: str | None) -> list[Object]:
    """Metrics in v1's form whose amounts are quantities; empty for anything else."""
    metrics: list[Object] = _read(text, list[_Metric]) or []
    amounts = (
        amount
        for metric in metrics
        for source in metric.values()
        if isinstance(source, dict)
        for name, amount in source.items()
        if name.endswith("Value")
    )
    return metrics if all(map(quantity.is_quantity, amounts)) else []


# ── What annotations may hold: they come from clients, and past the schema ──────────────────────────────

_Int = Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)]
_Amount = str | int | float | None


def _go_name(name: str) -> str:
    return name[0].upper() + name[1:]


class _Part(msgspec.Struct, omit_defaults=True):
    """What is not set is left out again."""


class _Expression(_Part):
    key: str = ""
    operator: str = ""
    values: list[str] | None = None


class _Selector(_Part):
    matchLabels: dict[str, str] | None = None
    matchExpressions: list[_Expression] | None = None


class _Reference(_Part):
    kind: str = ""
    name: str = ""
    apiVersion: str | None = None


class _Source(_Part):
    """Any source of a metric or its status."""

    target: _Reference | None = None
    metricName: str | None = None
    selector: _Selector | None = None
    metricSelector: _Selector | None = None
    name: str | None = None
    container: str | None = None
    targetValue: _Amount = None
    averageValue: _Amount = None
    targetAverageValue: _Amount = None
    currentValue: _Amount = None
    currentAverageValue: _Amount = None
    targetAverageUtilization: _Int | None = None
    currentAverageUtilization: _Int | None = None


class _Metric(_Part):
    type: str = ""
    object: _Source | None = None
    pods: _Source | None = None
    resource: _Source | None = None
    containerResource: _Source | None = None
    external: _Source | None = None


class _Condition(_Part):
    type: str = ""
    status: str = ""
    lastTransitionTime: str | None = None
    reason: str | None = None
    message: str | None = None


class _Policy(_Part, rename=_go_name):
    type: str = ""
    value: _Int = 0
    periodSeconds: _Int = 0


class _ScalingRules(_Part, rename=_go_name):
    stabilizationWindowSeconds: _Int | None = None
    selectPolicy: str | None = None
    policies: list[_Policy] | None = None
    tolerance: _Amount = None


class _Behavior(_Part, rename=_go_name):
    scaleUp: _ScalingRules | None = None
    scaleDown: _ScalingRules | None = None


# ── Metrics in v1's form ─────────────────────────────────────────────────────────────────────────────────

_Paths = tuple[tuple[str, str, str | None], ...]
"""Name in v1's flat source, dotted path in v2's, and what v1 writes for an absent amount (None: nothing)."""

_OBJECT = (
    ("target", "describedObject", None),
    ("metricName", "metric.name", None),
    ("selector", "metric.selector", None),
)
_PODS = (("metricName", "metric.name", None), ("selector", "metric.selector", None))
_EXTERNAL = (("metricName", "metric.name", None), ("metricSelector", "metric.selector", None))
_FLAT_SPECS: dict[str, _Paths] = {
    "object": (*_OBJECT, ("targetValue", "target.value", "0"), ("averageValue", "target.averageValue", None)),
    "pods": (*_PODS, ("targetAverageValue", "target.averageValue", "0")),
    "resource": (
        ("name", "name", None),
        ("targetAverageUtilization", "target.averageUtilization", None),
        ("targetAverageValue", "target.averageValue", None),
    ),
    "containerResource": (
        ("name", "name", None),
        ("targetAverageUtilization", "target.averageUtilization", None),
        ("targetAverageValue", "target.averageValue", None),
        ("container", "container", None),
    ),
    "external": (
        *_EXTERNAL,
        ("targetValue", "target.value", None),
        ("targetAverageValue", "target.averageValue", None),
    ),
}
_FLAT_STATUSES: dict[str, _Paths] = {
    "object": (
        *_OBJECT,
        ("currentValue", "current.value", "0"),
        ("averageValue", "current.averageValue", None),
    ),
    "pods": (*_PODS, ("currentAverageValue", "current.averageValue", "0")),
    "resource": (
        ("name", "name", None),
        ("currentAverageUtilization", "current.averageUtilization", None),
        ("currentAverageValue", "current.averageValue", "0"),
    ),
    "containerResource": (
        ("name", "name", None),
        ("currentAverageUtilization", "current.averageUtilization", None),
        ("currentAverageValue", "current.averageValue", "0"),
        ("container", "container", None),
    ),
    "external": (
        *_EXTERNAL,
        ("currentValue", "current.value", "0"),
        ("currentAverageValue", "current.averageValue", None),
    ),
}


def _flat(metric: Object, table: dict[str, _Paths]) -> Object:
    """A metric of v2, or its status, as v1 writes it."""
    result: Object = {"type": metric.get("type", "")}
    for source, paths in table.items():
        if isinstance(metric.get(source), dict):
            flat = {name: _at(metric[source], path, default) for name, path, default in paths}
            result[source] = {name: value for name, value in flat.items() if value is not None}
    return result


def _at(obj: Object, path: str, default: str | None) -> Any:
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return default if value is None else value


def _deep(metric: Object, table: dict[str, _Paths], side: str) -> Object:
    """What `_flat` was made from. `side` is where v2 has the amounts: `target` or `current`."""
    result: Object = {"type": metric.get("type", "")}
    for source, paths in table.items():
        flat = metric.get(source)
        if not isinstance(flat, dict):
            continue
        deep: Object = {side: {}}
        for name, path, _ in paths:
            if flat.get(name) is not None:
                outer, _, inner = path.partition(".")
                if inner:
                    deep.setdefault(outer, {})[inner] = flat[name]
                else:
                    deep[outer] = flat[name]
        if side == "target":
            deep[side] = {"type": _TARGET_TYPES[source](deep[side]), **deep[side]}
        result[source] = deep
    return result


def _of_utilization(target: Object) -> str:
    return "AverageValue" if "averageUtilization" not in target else "Utilization"


_TARGET_TYPES: dict[str, Callable[[Object], str]] = {
    "object": lambda target: "AverageValue" if "averageValue" in target else "Value",
    "pods": lambda target: "AverageValue",
    "resource": _of_utilization,
    "containerResource": _of_utilization,
    "external": lambda target: "Value" if "value" in target else "AverageValue",
}

# ── Behavior with the names of Go's fields ───────────────────────────────────────────────────────────────

_SIDES = {"scaleUp": "ScaleUp", "scaleDown": "ScaleDown"}
_RULES = {
    "stabilizationWindowSeconds": "StabilizationWindowSeconds",
    "selectPolicy": "SelectPolicy",
    "policies": "Policies",
    "tolerance": "Tolerance",
}
_POLICY = {"type": "Type", "value": "Value", "periodSeconds": "PeriodSeconds"}


def _go_behavior(behavior: Object | None) -> Object | None:
    """What is not set is null, as Go writes it."""
    if behavior is None:
        return None
    return {go: _go_rules(behavior.get(name)) for name, go in _SIDES.items()}


def _go_rules(rules: Object | None) -> Object | None:
    if rules is None:
        return None
    result = {go: rules.get(name) for name, go in _RULES.items()}
    if rules.get("policies") is not None:
        result["Policies"] = [
            {go: policy.get(name) for name, go in _POLICY.items()} for policy in rules["policies"]
        ]
    return result


def _from_go(value: Object | None) -> Object:
    """The behavior of an annotation; empty when there is none."""
    behavior = _renamed(value or {}, _SIDES)
    for side, rules in behavior.items():
        behavior[side] = _renamed(rules, _RULES)
        if "policies" in behavior[side]:
            behavior[side]["policies"] = [_renamed(policy, _POLICY) for policy in rules["Policies"]]
    return behavior


def _renamed(value: Object, names: dict[str, str]) -> Object:
    """Fields by their own names again."""
    return {name: value[go] for name, go in names.items() if value.get(go) is not None}
