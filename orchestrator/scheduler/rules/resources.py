"""NodeResourcesFit: enough of everything the pod requests, and the least allocated node first."""

from collections import Counter
from typing import Literal

import numpy as np

from orchestrator.scheduler.rules.columns import CPU, MEMORY, Columns, Mask, Rows, Vector
from orchestrator.scheduler.rules.infos import PodInfo
from orchestrator.scheduler.rules.interface import SCORE_MAX, ClusterEvent


class Fit:
    name = "NodeResourcesFit"
    dynamic = True
    helped_by = frozenset((ClusterEvent.NODE_ADDED, ClusterEvent.NODE_ALLOCATABLE, ClusterEvent.POD_REMOVED))

    def applies(self, pod: PodInfo) -> bool:
        return True

    def filter(self, columns: Columns, pod: PodInfo, rows: Rows) -> Mask:
        numbers = []
        wanted = []
        for name, value in pod.requests:
            number = columns.resource(name)
            if number is None:  # no node has ever offered it
                return np.zeros(len(rows), np.bool_)
            numbers.append(number)
            wanted.append(value)
        at = np.array(numbers)[:, None]
        free = columns.allocatable[at, rows] - columns.requested[at, rows]
        fits: Mask = (free >= np.array(wanted)[:, None]).all(axis=0)
        return fits

    def reasons(self, columns: Columns, pod: PodInfo, rows: Rows) -> Counter[str]:
        found: Counter[str] = Counter()
        for name, value in pod.requests:
            number = columns.resource(name)
            short = len(rows)
            if number is not None:
                free = columns.allocatable[number, rows] - columns.requested[number, rows]
                short = int((free < value).sum())
            if short:
                found["Too many pods" if name == "pods" else f"Insufficient {name}"] += short
        return found


class LeastAllocated:
    """The mean of the free parts of CPU and memory, in whole percents as Kubernetes counts."""

    name = "NodeResourcesFit"
    dynamic = True
    weight = 1
    normal: Literal["none", "up", "down"] = "none"

    def applies(self, columns: Columns, pod: PodInfo) -> bool:
        return True

    def score(self, columns: Columns, pod: PodInfo, rows: Rows) -> Vector:
        total = np.zeros(len(rows), np.int64)
        count = np.zeros(len(rows), np.int64)
        for number, wanted in ((CPU, pod.scored[0]), (MEMORY, pod.scored[1])):
            allocatable = columns.allocatable[number, rows]
            free = allocatable - columns.scored[number, rows] - wanted
            counted = allocatable > 0
            part = np.maximum(free, 0) * SCORE_MAX // np.maximum(allocatable, 1)
            total += np.where(counted, part, 0)
            count += counted
        mean: Vector = total // np.maximum(count, 1)
        return mean
