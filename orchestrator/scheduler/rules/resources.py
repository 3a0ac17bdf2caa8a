"""NodeResourcesFit and NodeResourcesBalancedAllocation: enough of everything that a pod requests, and how full or
even that leaves a node.

Filters take what is requested; the strategies of Fit compare with defaults for containers that request no CPU or
memory, balanced allocation with what is requested. Whole percents, rounded down, as Kubernetes counts.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from orchestrator.scheduler.rules.columns import CPU, MEMORY, Columns, Mask, Rows, Vector
from orchestrator.scheduler.rules.infos import PodInfo
from orchestrator.scheduler.rules.interface import SCORE_MAX, ClusterEvent, Rule, Scope

Weights = Sequence[tuple[str, int]]
CPU_AND_MEMORY: Weights = (("cpu", 1), ("memory", 1))
Shape = Sequence[tuple[int, int]]
"""Points of (utilisation in percent, score of 0 to 100), the first ascending."""
_SCORED = {"cpu": CPU, "memory": MEMORY}


class Fit(Rule):
    name = "NodeResourcesFit"
    scope = Scope.ROW
    helped_by = frozenset((ClusterEvent.NODE_ADDED, ClusterEvent.NODE_ALLOCATABLE, ClusterEvent.POD_REMOVED))

    def __init__(
        self, ignored: frozenset[str] = frozenset(), ignored_groups: frozenset[str] = frozenset()
    ) -> None:
        """Extended resources, and groups of them (what is before the slash), that somebody else looks after."""
        self._ignored = ignored
        self._groups = ignored_groups

    def applies(self, columns: Columns, pod: PodInfo) -> bool:
        return True

    def prepare(self, columns: Columns, pod: PodInfo) -> tuple[tuple[str, int], ...]:
        return tuple((name, value) for name, value in pod.requests if not self._is_ignored(name))

    def filter(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Mask:
        fits = np.ones(len(rows), np.bool_)
        for name, wanted in state:
            number = columns.resource(name)
            if number is None:  # no node has ever offered it
                return np.zeros(len(rows), np.bool_)
            fits &= columns.allocatable[number, rows] - columns.requested[number, rows] >= wanted
        return fits

    def one(self, columns: Columns, pod: PodInfo, row: int, state: Any) -> bool:
        resources, allocatable, requested = columns.resources, columns.allocatable, columns.requested
        for name, wanted in state:
            number = resources.get(name)
            if number is None or allocatable.item(number, row) - requested.item(number, row) < wanted:
                return False
        return True

    def reasons(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Counter[str]:
        found: Counter[str] = Counter()
        for name, value in state:
            number = columns.resource(name)
            short = len(rows)
            if number is not None:
                free = columns.allocatable[number, rows] - columns.requested[number, rows]
                short = int((free < value).sum())
            if short:
                found["Too many pods" if name == "pods" else f"Insufficient {name}"] += short
        return found

    def _is_ignored(self, name: str) -> bool:
        return name in self._ignored or ("/" in name and name.partition("/")[0] in self._groups)


class _Allocated(Rule):
    """The weighted mean, over resources, of what `_part` says of a node's free and whole amount."""

    name = "NodeResourcesFit"
    scope = Scope.ROW

    def __init__(self, resources: Weights = CPU_AND_MEMORY, weight: int = 1) -> None:
        self.weight = weight
        self._resources = resources

    def applies(self, columns: Columns, pod: PodInfo) -> bool:
        return True

    def prepare(self, columns: Columns, pod: PodInfo) -> list[tuple[str, int, int]]:
        """(resource, wanted, weight) of what counts for the pod."""
        wanted = {**dict(pod.requests), "cpu": pod.scored[0], "memory": pod.scored[1]}
        return [
            (name, wanted.get(name, 0), weight)
            for name, weight in self._resources
            if name in wanted or "/" not in name
        ]

    def score(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Vector:
        total = np.zeros(len(rows), np.int64)
        weights = np.zeros(len(rows), np.int64)
        for name, wanted, weight in state:
            found = _amounts(columns, name, rows)
            if found is None:
                continue
            allocatable, used = found
            counted = allocatable > 0
            part = self._part(used + wanted, np.maximum(allocatable, 1))
            total += np.where(counted, part * weight, 0)
            weights += counted * weight
        return self._mean(total, weights)

    def _part(self, used: Vector, allocatable: Vector) -> Vector:
        raise NotImplementedError

    def _mean(self, total: Vector, weights: Vector) -> Vector:
        mean: Vector = total // np.maximum(weights, 1)
        return mean


class LeastAllocated(_Allocated):
    def one(self, columns: Columns, pod: PodInfo, row: int, state: Any) -> int:
        total = weights = 0
        for name, wanted, weight in state:
            number = columns.resources.get(name, -1)
            whole = columns.allocatable.item(number, row) if number >= 0 else 0
            if whole > 0:
                scored = _SCORED.get(name)
                used = (
                    columns.requested.item(number, row)
                    if scored is None
                    else columns.scored.item(scored, row)
                )
                total += max(whole - used - wanted, 0) * SCORE_MAX // whole * weight
                weights += weight
        return int(total // weights) if weights else 0

    def _part(self, used: Vector, allocatable: Vector) -> Vector:
        part: Vector = np.maximum(allocatable - used, 0) * SCORE_MAX // allocatable
        return part


class MostAllocated(_Allocated):
    """What is over-used counts as full."""

    def _part(self, used: Vector, allocatable: Vector) -> Vector:
        part: Vector = np.minimum(used, allocatable) * SCORE_MAX // allocatable
        return part


class RequestedToCapacityRatio(_Allocated):
    """A broken line over utilisation."""

    def __init__(self, shape: Shape, resources: Weights = CPU_AND_MEMORY, weight: int = 1) -> None:
        super().__init__(resources, weight)
        self._line = broken_line(shape)

    def _part(self, used: Vector, allocatable: Vector) -> Vector:
        return self._line(np.where(used > allocatable, SCORE_MAX, used * SCORE_MAX // allocatable))

    def score(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Vector:
        """A resource that scores nothing is left out of the mean, which is rounded."""
        total = np.zeros(len(rows), np.int64)
        weights = np.zeros(len(rows), np.int64)
        for name, wanted, weight in state:
            found = _amounts(columns, name, rows)
            if found is None:
                continue
            allocatable, used = found
            part = np.where(allocatable > 0, self._part(used + wanted, np.maximum(allocatable, 1)), 0)
            total += part * weight
            weights += (part > 0) * weight
        mean: Vector = np.floor(total / np.maximum(weights, 1) + 0.5).astype(np.int64)
        return mean


class BalancedAllocation(Rule):
    """How even the used shares of resources are: 100 less their standard deviation, in percent."""

    name = "NodeResourcesBalancedAllocation"
    scope = Scope.ROW

    def __init__(self, resources: Weights = CPU_AND_MEMORY, weight: int = 1) -> None:
        self.weight = weight
        self._resources = resources

    def applies(self, columns: Columns, pod: PodInfo) -> bool:
        """Pods that request none of the resources would all go to one node."""
        wanted = dict(pod.requests)
        return any(wanted.get(name) for name, _ in self._resources)

    def prepare(self, columns: Columns, pod: PodInfo) -> list[tuple[str, int]]:
        wanted = dict(pod.requests)
        return [
            (name, wanted.get(name, 0)) for name, _ in self._resources if name in wanted or "/" not in name
        ]

    def score(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Vector:
        fractions, counted = [], []
        for name, wanted in state:
            number = columns.resource(name)
            if number is None:
                continue
            allocatable = columns.allocatable[number, rows]
            share = (columns.requested[number, rows] + wanted) / np.maximum(allocatable, 1)
            fractions.append(np.minimum(share, 1.0))
            counted.append(allocatable > 0)
        scores: Vector = ((1 - _deviation(fractions, counted)) * SCORE_MAX).astype(np.int64)
        return scores

    def one(self, columns: Columns, pod: PodInfo, row: int, state: Any) -> int:
        shares = []
        for name, wanted in state:
            number = columns.resources.get(name, -1)
            whole = columns.allocatable.item(number, row) if number >= 0 else 0
            if whole > 0:
                shares.append(min((columns.requested.item(number, row) + wanted) / whole, 1.0))
        if len(shares) < 2:
            return SCORE_MAX
        if len(shares) == 2:
            return int((1 - abs((shares[0] - shares[1]) / 2)) * SCORE_MAX)
        at = np.array([row])
        return int(self.score(columns, pod, at, state)[0])


def _deviation(fractions: list[Any], counted: list[Any]) -> Any:
    """Per node, of the resources that it has; two of them are half their difference apart, fewer none."""
    if len(fractions) == 2:
        return np.where(counted[0] & counted[1], np.abs((fractions[0] - fractions[1]) / 2), 0.0)
    if not fractions:
        return np.zeros(1)
    shares, there = np.array(fractions), np.array(counted)
    number = there.sum(axis=0)
    mean = np.where(there, shares, 0).sum(axis=0) / np.maximum(number, 1)
    squares = np.where(there, (shares - mean) ** 2, 0).sum(axis=0) / np.maximum(number, 1)
    return np.where(number >= 2, np.sqrt(squares), 0.0)


def _amounts(columns: Columns, name: str, rows: Rows) -> tuple[Vector, Vector] | None:
    """What nodes have of a resource and what of it counts as used; None when no node has ever had it."""
    number = columns.resource(name)
    if number is None:
        return None
    scored = _SCORED.get(name)
    used = columns.requested[number, rows] if scored is None else columns.scored[scored, rows]
    return columns.allocatable[number, rows], used


def broken_line(shape: Shape) -> Callable[[Vector], Vector]:
    """The function through the points, flat outside of them, in whole numbers rounded towards zero."""

    def value(at: Vector) -> Vector:
        found = np.full_like(at, shape[-1][1])
        for number in range(len(shape) - 1, -1, -1):
            x, y = shape[number]
            if number == 0:
                found = np.where(at <= x, y, found)
                break
            x0, y0 = shape[number - 1]
            step = (y - y0) * (at - x0)
            line = y0 + np.sign(step) * (np.abs(step) // (x - x0))
            found = np.where(at <= x, line, found)
        return found

    return value
