"""The rows of what scales, bounds and ranks workloads: autoscalers, budgets, quotas, priorities."""

from typing import Any

from orchestrator.api import autoscaling
from orchestrator.api.item import Object
from orchestrator.api.printing.columns import (
    AGE,
    NAME,
    NONE,
    Column,
    Printer,
    age_of,
    name_of,
    part,
)
from orchestrator.api.printing.duration import UNKNOWN

_METRICS_SHOWN_MAX = 2


# ── Autoscalers ──────────────────────────────────────────────────────────────────────────────────────────


def _autoscaler_cells(scaler: Object, now_s: float) -> list[Any]:
    if scaler.get("apiVersion") == autoscaling.V1:
        scaler = autoscaling.to_v2(scaler)
    spec, status = part(scaler, "spec"), part(scaler, "status")
    reference, low = part(spec, "scaleTargetRef"), spec.get("minReplicas")
    return [
        name_of(scaler),
        f"{reference.get('kind', '')}/{reference.get('name', '')}",
        _targets(spec.get("metrics") or [], status.get("currentMetrics") or []),
        "<unset>" if low is None else str(low),
        spec.get("maxReplicas", 0),
        status.get("currentReplicas", 0),
        age_of(scaler, now_s),
    ]


def _targets(metrics: list[Object], currents: list[Object]) -> str:
    """What each metric is, and should be."""
    if not metrics:
        return NONE
    states = [currents[at] if at < len(currents) else {} for at in range(len(metrics))]
    texts = [_target(metric, state) for metric, state in zip(metrics, states, strict=True)]
    shown = ", ".join(texts[:_METRICS_SHOWN_MAX])
    more = len(texts) - _METRICS_SHOWN_MAX
    return f"{shown} + {more} more..." if more > 0 else shown


_SOURCES = {
    "External": "external",
    "Pods": "pods",
    "Object": "object",
    "Resource": "resource",
    "ContainerResource": "containerResource",
}


def _target(metric: Object, state: Object) -> str:
    source = _SOURCES.get(metric.get("type", ""))
    if source is None:
        return "<unknown type>"
    wanted = part(part(metric, source), "target")
    current = part(part(state, source), "current")
    if source in ("resource", "containerResource"):
        return f"{part(metric, source).get('name', '')}: {_share_of_request(wanted, current)}"
    if wanted.get("averageValue") is None:
        return f"{current.get('value', UNKNOWN)}/{wanted.get('value', UNKNOWN)}"
    average = "" if source == "pods" else " (avg)"
    return f"{current.get('averageValue', UNKNOWN)}/{wanted['averageValue']}{average}"


def _share_of_request(wanted: Object, current: Object) -> str:
    if wanted.get("averageValue") is not None:
        return f"{current.get('averageValue', UNKNOWN)}/{wanted['averageValue']}"
    return f"{_percent(current, UNKNOWN)}/{_percent(wanted, '<auto>')}"


def _percent(amounts: Object, absent: str) -> str:
    share = amounts.get("averageUtilization")
    return absent if share is None else f"{share}%"


_AUTOSCALERS = Printer(
    (
        NAME,
        Column("Reference", "What is scaled"),
        Column("Targets", "What the metrics are, and what they should be"),
        Column("MinPods", "Fewest pods"),
        Column("MaxPods", "Most pods"),
        Column("Replicas", "Pods now"),
        AGE,
    ),
    _autoscaler_cells,
)


# ── Budgets, quotas, classes ─────────────────────────────────────────────────────────────────────────────


def _budget_cells(budget: Object, now_s: float) -> list[Any]:
    spec = part(budget, "spec")
    bounds = (spec.get(name) for name in ("minAvailable", "maxUnavailable"))
    return [
        name_of(budget),
        *("N/A" if bound is None else str(bound) for bound in bounds),
        part(budget, "status").get("disruptionsAllowed", 0),
        age_of(budget, now_s),
    ]


_BUDGETS = Printer(
    (
        NAME,
        Column("Min Available", "Pods that have to stay"),
        Column("Max Unavailable", "Pods that may be missing"),
        Column("Allowed Disruptions", "Pods that may be evicted now", type="integer"),
        AGE,
    ),
    _budget_cells,
)


def _quota_cells(quota: Object, now_s: float) -> list[Any]:
    status = part(quota, "status")
    hard, used = part(status, "hard"), part(status, "used")
    requests: list[str] = []
    limits: list[str] = []
    for name in sorted(hard):
        listed = limits if name.startswith("limits.") else requests
        listed.append(f"{name}: {used.get(name, '0')}/{hard[name]}")
    return [name_of(quota), age_of(quota, now_s), ", ".join(requests), ", ".join(limits)]


_QUOTAS = Printer(
    (
        NAME,
        AGE,
        Column("Request", "What is used and may be, of objects and requests"),
        Column("Limit", "What is used and may be, of limits"),
    ),
    _quota_cells,
)


def _class_cells(obj: Object, now_s: float) -> list[Any]:
    return [
        name_of(obj),
        obj.get("value", 0),
        bool(obj.get("globalDefault")),
        age_of(obj, now_s),
        obj.get("preemptionPolicy", ""),
    ]


_CLASSES = Printer(
    (
        NAME,
        Column("Value", "Priority of the class's pods", type="integer"),
        Column("Global-Default", "Whether pods without a class have this one", type="boolean"),
        AGE,
        Column("PreemptionPolicy", "Whether its pods take the place of lower ones"),
    ),
    _class_cells,
)

PRINTERS: dict[tuple[str, str], Printer] = {
    ("", "resourcequotas"): _QUOTAS,
    ("autoscaling", "horizontalpodautoscalers"): _AUTOSCALERS,
    ("policy", "poddisruptionbudgets"): _BUDGETS,
    ("scheduling.k8s.io", "priorityclasses"): _CLASSES,
}
