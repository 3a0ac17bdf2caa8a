"""NodePorts: no two pods of a node ask for the same host port on the same address."""

from collections import Counter
from typing import Any

import numpy as np

from orchestrator.scheduler.rules.columns import Columns, Mask, Rows
from orchestrator.scheduler.rules.infos import PodInfo
from orchestrator.scheduler.rules.interface import ClusterEvent, Rule, Scope

_EVERY = "0.0.0.0"


class NodePorts(Rule):
    name = "NodePorts"
    scope = Scope.ROW
    helped_by = frozenset((ClusterEvent.NODE_ADDED, ClusterEvent.POD_REMOVED))

    def applies(self, columns: Columns, pod: PodInfo) -> bool:
        return bool(pod.host_ports)

    def filter(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Mask:
        free = np.ones(columns.capacity, np.bool_)
        for address, protocol, port in pod.host_ports:
            for row, addresses in columns.ports.get((protocol, port), {}).items():
                if address == _EVERY or _EVERY in addresses or address in addresses:
                    free[row] = False
        return free[rows]

    def reasons(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Counter[str]:
        return Counter({"node(s) didn't have free ports for the requested pod ports": len(rows)})
