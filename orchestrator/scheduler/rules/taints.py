"""TaintToleration: NoSchedule and NoExecute taints keep pods off; PreferNoSchedule ones cost score."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.api.item import Object
from orchestrator.scheduler.rules.columns import Columns, Mask, Rows, Vector
from orchestrator.scheduler.rules.infos import PodInfo
from orchestrator.scheduler.rules.interface import ClusterEvent, Rule, Scope, scaled_down
from orchestrator.scheduler.rules.tolerations import tolerates, untolerated

_HARD = ("NoSchedule", "NoExecute")
_SOFT = "PreferNoSchedule"


class TaintToleration(Rule):
    name = "TaintToleration"
    scope = Scope.NODE
    helped_by = frozenset((ClusterEvent.NODE_ADDED, ClusterEvent.NODE_TAINTS))

    def applies(self, columns: Columns, pod: PodInfo) -> bool:
        return True

    def filter(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Mask:
        return tolerated(columns, pod, rows)

    def reasons(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Counter[str]:
        found: Counter[str] = Counter()
        for number, count in Counter(columns.taint_set[rows].tolist()).items():
            taint = untolerated(columns.taint_sets[number], pod.tolerations, _HARD)
            if taint is not None:
                found[f"node(s) had untolerated taint {{{taint['key']}: {taint['value']}}}"] += count
        return found


class PreferNoSchedule(Rule):
    name = "TaintToleration"
    scope = Scope.NODE
    normalised = True

    def __init__(self, weight: int = 3) -> None:
        self.weight = weight

    def applies(self, columns: Columns, pod: PodInfo) -> bool:
        return columns.soft_taints

    def score(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Vector:
        soft = [t for t in pod.tolerations if t.get("effect") in (None, "", _SOFT)]

        def bad(taints: tuple[Object, ...]) -> int:
            return sum(t["effect"] == _SOFT and not any(tolerates(s, t) for s in soft) for t in taints)

        return _per_set(columns, rows, bad)

    def normalise(self, columns: Columns, raw: Vector, rows: Rows, state: Any) -> Vector:
        return scaled_down(raw)


def tolerated(columns: Columns, pod: PodInfo, rows: Rows) -> Mask:
    """Which rows have no taint that keeps the pod off."""

    def fits(taints: tuple[Object, ...]) -> bool:
        return untolerated(taints, pod.tolerations, _HARD) is None

    return _per_set(columns, rows, fits).astype(np.bool_)


def _per_set(columns: Columns, rows: Rows, of: Callable[[tuple[Object, ...]], int]) -> NDArray[Any]:
    """Evaluate `of` once per taint set that occurs in `rows`."""
    numbers = columns.taint_set[rows]
    present = np.unique(numbers)
    values = np.array([of(columns.taint_sets[number]) for number in present.tolist()], np.int64)
    spread: NDArray[Any] = values[np.searchsorted(present, numbers)] if len(rows) else values
    return spread
