"""Preemption: which pods must go so that a more urgent one fits. Pure; the scheduler writes what is decided.

1. A pod whose policy is `Never`, or whose victims are still ending on its nominated node, takes nobody's place.
2. Candidates are nodes that pass every filter which only looks at the node; of many, a hundred or a tenth, from a
   random place on. On each, all less urgent pods are taken away; if the pod fits then, they are given back one by one,
   the most important first (those whose disruption budget would be exceeded before the others), unless the pod would
   not fit any more. Who is not given back is a victim.
3. The best candidate exceeds the fewest budgets, then has the least urgent most urgent victim, the smallest sum of
   priorities, the fewest victims, the youngest most important victim.

Source: `preemption` and `defaultpreemption` of Kubernetes' scheduler. Pods that ask nothing of other pods, volumes
and ports are tried with plain numbers, and a row's result is kept until the row changes.
"""

import random
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from orchestrator.api.selectors import Selector
from orchestrator.scheduler.decide import Decider
from orchestrator.scheduler.rules.columns import Columns
from orchestrator.scheduler.rules.infos import PodInfo

LEAST_CANDIDATES, SHARE_PERCENT = 100, 10
REMEMBERED_MAX = 64
NO_VICTIMS = "No preemption victims found for incoming pod"
NOT_HELPFUL = "Preemption is not helpful for scheduling"
PRIORITY_SHIFT = 2**31
"""Added to each priority in the sum, so that few victims beat many also where priorities are negative."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A disruption budget: how many more of the pods that it selects may go."""

    namespace: str
    selector: Selector
    allowed: int
    disrupted: frozenset[str] = frozenset()
    """Names of pods that are counted as gone already."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node and who must leave it, the most important first."""

    row: int
    victims: tuple[PodInfo, ...]
    violations: int

    @property
    def rank(self) -> tuple[Any, ...]:
        """The smallest is the best."""
        priorities = [pod.priority for pod in self.victims]
        first = self.victims[0]
        total = sum(priority + PRIORITY_SHIFT for priority in priorities)
        return self.violations, first.priority, total, len(priorities), -first.revision


@dataclass(slots=True)
class Outcome:
    """`node` is empty when preemption does not help, None when it was not tried and a nomination stays; `message` says
    why, as the pod's condition ends."""

    node: str | None = ""
    victims: Sequence[PodInfo] = ()
    message: str = ""


@dataclass(slots=True)
class _Remembered:
    """Trials of one kind of pod: (stamp of the row, outcome) per row."""

    budgets: Sequence[Budget]
    rows: dict[int, tuple[int, "Candidate | str"]] = field(default_factory=dict)


class Preemption:
    """Trials over `columns`. Owner: the scheduler."""

    def __init__(self, columns: Columns, rng: random.Random) -> None:
        self._columns = columns
        self._rng = rng
        self._remembered: OrderedDict[tuple[bytes, int], _Remembered] = OrderedDict()

    def find(self, decider: Decider, pod: PodInfo, budgets: Sequence[Budget]) -> Outcome:
        """Who must go, and from where. The columns are as before when this returns."""
        if not pod.preempts:
            return Outcome(None, message="not eligible due to preemptionPolicy=Never.")
        if self._is_waiting(pod):
            return Outcome(None, message="not eligible due to a terminating pod on the nominated node.")
        with decider.without_lesser(pod):
            return self._find(decider, pod, budgets)

    def _find(self, decider: Decider, pod: PodInfo, budgets: Sequence[Budget]) -> Outcome:
        columns = self._columns
        possible = decider.possible(pod)
        count = columns.node_count
        plain = decider.asks_room_only(pod)
        remembered = self._memory(pod, budgets) if plain else _Remembered(budgets)
        wanted = max(LEAST_CANDIDATES, count * SHARE_PERCENT // 100)
        reasons: Counter[str] = Counter({NOT_HELPFUL: count - len(possible)})
        found: list[Candidate] = []
        start = self._rng.randrange(len(possible)) if len(possible) else 0
        for row in np.roll(possible, -start).tolist():
            result = self._trial(decider, pod, row, remembered, plain)
            if isinstance(result, str):
                reasons[result] += 1
            else:
                found.append(result)
                if len(found) >= wanted:
                    break
        if not found:
            texts = sorted(f"{number} {text}" for text, number in (+reasons).items())
            return Outcome(message=f"0/{count} nodes are available: {', '.join(texts)}.")
        best = min(found, key=lambda candidate: candidate.rank)
        return Outcome(columns.name(best.row), best.victims)

    def _is_waiting(self, pod: PodInfo) -> bool:
        row = self._columns.row(pod.nominated) if pod.nominated else None
        there = self._columns.pods_on.get(row, {}).values() if row is not None else ()
        return any(other.terminating and other.priority < pod.priority for other in there)

    def _memory(self, pod: PodInfo, budgets: Sequence[Budget]) -> _Remembered:
        key = pod.signature, pod.priority
        found = self._remembered.get(key)
        if found is None or found.budgets is not budgets:
            found = self._remembered[key] = _Remembered(budgets)
            if len(self._remembered) > REMEMBERED_MAX:
                self._remembered.popitem(last=False)
        return found

    def _trial(
        self, decider: Decider, pod: PodInfo, row: int, remembered: _Remembered, plain: bool
    ) -> "Candidate | str":
        stamp = self._columns.row_stamps[row]
        known = remembered.rows.get(row)
        if known is not None and known[0] == stamp:
            return known[1]
        there = self._columns.pods_on.get(row, {}).values()
        lesser = sorted((other for other in there if other.priority < pod.priority), key=_importance)
        result: Candidate | str = NO_VICTIMS
        if lesser:
            trial = _Room(self._columns, pod, row) if plain else _Filters(self._columns, decider, pod, row)
            result = _victims(trial, row, lesser, remembered.budgets)
        remembered.rows[row] = (self._columns.row_stamps[row], result)
        return result


class _Room:
    """What is left on a row in plain numbers."""

    def __init__(self, columns: Columns, pod: PodInfo, row: int) -> None:
        self._wanted = pod.requests
        numbers = {name: columns.resource(name) for name, _ in pod.requests}
        self._free = {
            name: int(columns.allocatable[number, row] - columns.requested[number, row])
            if number is not None
            else 0
            for name, number in numbers.items()
        }

    def take(self, pod: PodInfo, sign: int = 1) -> None:
        """Take a pod away, or give it back (-1)."""
        free = self._free
        for name, amount in pod.requests:
            if name in free:
                free[name] += sign * amount

    def fits(self) -> str:
        """Why the pod does not fit; empty when it does."""
        free = self._free
        for name, amount in self._wanted:
            if free[name] < amount:
                return "Too many pods" if name == "pods" else f"Insufficient {name}"
        return ""

    def restore(self) -> None:
        """Nothing was touched."""


class _Filters:
    """The same, asked of every filter."""

    def __init__(self, columns: Columns, decider: Decider, pod: PodInfo, row: int) -> None:
        self._columns = columns
        self._decider = decider
        self._pod = pod
        self._row = row
        self._node = columns.name(row)
        self._away: dict[str, PodInfo] = {}

    def take(self, pod: PodInfo, sign: int = 1) -> None:
        if sign > 0:
            self._columns.displace(pod.uid)
            self._away[pod.uid] = pod
        else:
            self._columns.place(self._away.pop(pod.uid), self._node)

    def fits(self) -> str:
        return "" if self._decider.fits_on(self._pod, self._row) else NOT_HELPFUL

    def restore(self) -> None:
        """Put everybody back."""
        for pod in list(self._away.values()):
            self.take(pod, -1)


def _victims(
    trial: "_Room | _Filters", row: int, lesser: list[PodInfo], budgets: Sequence[Budget]
) -> Candidate | str:
    """Rule 2 for one node; a text when the pod would not even fit without all of them."""
    try:
        for pod in lesser:
            trial.take(pod)
        problem = trial.fits()
        if problem:
            return problem
        exceeding = exceeds(lesser, budgets) if budgets else set()
        victims, violations = [], 0
        ordered = [pod for pod in lesser if pod.uid in exceeding] + [
            p for p in lesser if p.uid not in exceeding
        ]
        for pod in ordered:
            trial.take(pod, -1)
            if trial.fits():
                trial.take(pod)
                victims.append(pod)
                violations += pod.uid in exceeding
        if not victims:
            return NO_VICTIMS
        return Candidate(row, tuple(sorted(victims, key=_importance)), violations)
    finally:
        trial.restore()


def exceeds(pods: Iterable[PodInfo], budgets: Sequence[Budget]) -> set[str]:
    """Uids of those whose budgets do not allow them to go after the ones before them."""
    left = [budget.allowed for budget in budgets]
    found = set()
    for pod in pods:
        for at, budget in enumerate(budgets):
            if pod.namespace != budget.namespace or pod.name in budget.disrupted or not pod.labels:
                continue
            if budget.selector.requirements and budget.selector.matches(pod.labels):
                left[at] -= 1
                if left[at] < 0:
                    found.add(pod.uid)
    return found


def _importance(pod: PodInfo) -> tuple[int, int, str]:
    """More urgent first, then who has run longer."""
    return -pod.priority, pod.revision, pod.uid
