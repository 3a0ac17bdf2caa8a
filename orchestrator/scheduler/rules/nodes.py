"""NodeName and NodeUnschedulable: a pod that names its node, and nodes that are cordoned."""

from collections import Counter
from typing import Any

import numpy as np

from orchestrator.scheduler.rules.columns import Columns, Mask, Rows
from orchestrator.scheduler.rules.infos import PodInfo
from orchestrator.scheduler.rules.interface import ClusterEvent, Rule, Scope
from orchestrator.scheduler.rules.tolerations import UNSCHEDULABLE, untolerated

_CORDONED = {"key": UNSCHEDULABLE, "effect": "NoSchedule"}


class NodeUnschedulable(Rule):
    name = "NodeUnschedulable"
    scope = Scope.NODE
    helped_by = frozenset((ClusterEvent.NODE_ADDED, ClusterEvent.NODE_SCHEDULABLE))

    def applies(self, columns: Columns, pod: PodInfo) -> bool:
        return untolerated((_CORDONED,), pod.tolerations, ("NoSchedule",)) is not None

    def filter(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Mask:
        fits: Mask = ~columns.unschedulable[rows]
        return fits

    def reasons(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Counter[str]:
        return Counter({"node(s) were unschedulable": len(rows)})


class NodeName(Rule):
    name = "NodeName"
    scope = Scope.NODE
    helped_by = frozenset((ClusterEvent.NODE_ADDED,))

    def applies(self, columns: Columns, pod: PodInfo) -> bool:
        return bool(pod.node_name)

    def filter(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Mask:
        row = columns.row(pod.node_name)
        fits: Mask = rows == (-1 if row is None else row)
        return np.asarray(fits)

    def reasons(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Counter[str]:
        return Counter({"node(s) didn't match the requested node name": len(rows)})
