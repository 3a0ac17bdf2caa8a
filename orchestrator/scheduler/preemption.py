"""Preemption: which pods must go so that a more urgent one fits. Pure; the scheduler writes what is decided.

1. A pod whose policy is `Never`, or whose victims are still ending on its nominated node, takes nobody's place.
2. Candidates are nodes that pass every filter which only looks at the node; of many, a hundred or a tenth, from a
   random place on. On each, all less urgent pods are taken away; if the pod fits then, they are given back one by one,
   the most important first (those whose disruption budget would be exceeded before the others), unless the pod would
   not fit any more. Who is not given back is a victim.
3. The best candidate exceeds the fewest budgets, then has the least urgent most urgent victim, the smallest sum of
   priorities, the fewest victims, the youngest most important victim.

Source: `preemption` and `defaultpreemption` of Kubernetes' scheduler. Pods that ask nothing of other pods, volumes
and ports are tried with plain numbers, and a row's result is kept until the row changes: all candidates that are
known already compete, and only as many rows are tried as are missing.
"""

import random
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.api.selectors import Selector
from orchestrator.scheduler.decide import Decider
from orchestrator.scheduler.rules.columns import Columns, Rows
from orchestrator.scheduler.rules.infos import PodInfo, Template

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
        return self.violations, first.priority, total, len(priorities), -first.started_s


@dataclass(slots=True)
class Outcome:
    """`node` is empty when preemption does not help, None when it was not tried and a nomination stays; `message` says
    why, as the pod's condition ends."""

    node: str | None = ""
    victims: Sequence[PodInfo] = ()
    message: str = ""


_UNKNOWN, _CANDIDATE, _HOPELESS = range(3)


class _Trials:
    """What trials of one kind of pod found per row, as of one version of the columns."""

    __slots__ = ("_columns", "_found", "_ranks", "_state", "_version", "budgets")

    def __init__(self, columns: Columns, budgets: Sequence[Budget]) -> None:
        self.budgets = budgets
        self._columns = columns
        self._version = columns.version
        self._state = np.zeros(columns.capacity, np.int8)
        self._ranks = np.zeros((5, columns.capacity), np.int64)
        self._found: dict[int, Candidate | str] = {}

    def repair(self) -> bool:
        """Forget the rows that changed; False when these can't be told any more."""
        changes = self._columns.since(self._version)
        if changes is None or self._columns.capacity != len(self._state):
            return False
        self._state[[max(change, ~change) for change in changes]] = _UNKNOWN
        self._version = self._columns.version
        return True

    def note(self, row: int, result: "Candidate | str") -> bool:
        """Keep what a trial found; True when it is a candidate."""
        self._found[row] = result
        candidate = isinstance(result, Candidate)
        self._state[row] = _CANDIDATE if candidate else _HOPELESS
        if isinstance(result, Candidate):
            self._ranks[:, row] = result.rank
        return candidate

    def split(self, rows: Rows) -> tuple[list[int], int]:
        """Rows that were not tried yet, in order, and the number of candidates."""
        states = self._state[rows]
        return rows[states == _UNKNOWN].tolist(), int(np.count_nonzero(states == _CANDIDATE))

    def best(self, rows: Rows) -> "Candidate | None":
        """Of the candidates among `rows` that of the smallest rank; the first of equals."""
        rows = rows[self._state[rows] == _CANDIDATE]
        for ranks in self._ranks:
            if len(rows) > 1:
                values = ranks[rows]
                rows = rows[values == values.min()]
        found = self._found[int(rows[0])] if len(rows) else None
        return found if isinstance(found, Candidate) else None

    def reasons(self, rows: Rows) -> Counter[str]:
        """Number of tried rows per text that says why they are no candidates."""
        tried = rows[self._state[rows] == _HOPELESS].tolist()
        return Counter(text for row in tried if isinstance(text := self._found[row], str))


class Preemption:
    """Trials over `columns`. Owner: the scheduler."""

    def __init__(self, columns: Columns, rng: random.Random) -> None:
        self._columns = columns
        self._rng = rng
        self._remembered: OrderedDict[tuple[bytes, int], _Trials] = OrderedDict()

    def find(self, decider: Decider, pod: PodInfo, budgets: Sequence[Budget]) -> Outcome:
        """Who must go, and from where. The columns are as before when this returns."""
        if not pod.preempts:
            return Outcome(None, message="not eligible due to preemptionPolicy=Never.")
        if self._is_waiting(pod):
            return Outcome(None, message="not eligible due to a terminating pod on the nominated node.")
        with decider.without_lesser(pod):
            return self._find(decider, pod, budgets)

    def _find(self, decider: Decider, pod: PodInfo, budgets: Sequence[Budget]) -> Outcome:
        columns, count = self._columns, self._columns.node_count
        possible = decider.possible(pod)
        plain = decider.asks_room_only(pod)
        trials = self._memory(pod, budgets) if plain else _Trials(columns, budgets)
        wanted = max(LEAST_CANDIDATES, count * SHARE_PERCENT // 100)
        rows = np.roll(possible, -self._rng.randrange(len(possible))) if len(possible) else possible
        untried, known = trials.split(rows)
        for row in untried:
            if known >= wanted:
                break
            known += trials.note(row, self._trial(decider, pod, row, budgets, plain))
        best = trials.best(rows)
        if best is None:
            reasons = trials.reasons(rows)
            reasons[NOT_HELPFUL] += count - len(possible)
            texts = sorted(f"{number} {text}" for text, number in (+reasons).items())
            return Outcome(message=f"0/{count} nodes are available: {', '.join(texts)}.")
        return Outcome(columns.name(best.row), best.victims)

    def _is_waiting(self, pod: PodInfo) -> bool:
        row = self._columns.row(pod.nominated) if pod.nominated else None
        there = self._columns.pods_on.get(row, {}).values() if row is not None else ()
        return any(other.terminating and other.priority < pod.priority for other in there)

    def _memory(self, pod: PodInfo, budgets: Sequence[Budget]) -> _Trials:
        key = pod.signature, pod.priority
        found = self._remembered.get(key)
        if found is None or found.budgets is not budgets or not found.repair():
            found = self._remembered[key] = _Trials(self._columns, budgets)
            if len(self._remembered) > REMEMBERED_MAX:
                self._remembered.popitem(last=False)
        self._remembered.move_to_end(key)
        return found

    def _trial(
        self, decider: Decider, pod: PodInfo, row: int, budgets: Sequence[Budget], plain: bool
    ) -> Candidate | str:
        there = self._columns.pods_on.get(row, {}).values()
        lesser = sorted((other for other in there if other.priority < pod.priority), key=_importance)
        if not lesser:
            return NO_VICTIMS
        trial = _Room(self._columns, pod, row) if plain else _Filters(self._columns, decider, pod, row)
        return _victims(trial, row, lesser, budgets)


class _Room:
    """What is left on a row in plain numbers."""

    def __init__(self, columns: Columns, pod: PodInfo, row: int) -> None:
        self._names = [name for name, _ in pod.requests]
        numbers = [(columns.resource(name), wanted) for name, wanted in pod.requests]
        self._spare = [
            (int(columns.allocatable[at, row] - columns.requested[at, row]) if at is not None else 0) - wanted
            for at, wanted in numbers
        ]
        """What is left of each resource once the pod is there; less than nothing: it does not fit."""
        self._amounts: dict[Template, list[int]] = {}

    def take(self, pod: PodInfo) -> None:
        """Take a pod away."""
        amounts = self._of(pod.template)
        self._spare = [spare + amount for spare, amount in zip(self._spare, amounts, strict=True)]

    def give_back(self, pod: PodInfo) -> bool:
        """Put it back, unless there is no room for it."""
        left = [spare - n for spare, n in zip(self._spare, self._of(pod.template), strict=True)]
        if min(left) < 0:
            return False
        self._spare = left
        return True

    def _of(self, template: Template) -> list[int]:
        amounts = self._amounts.get(template)
        if amounts is None:
            takes = dict(template.requests)
            amounts = self._amounts[template] = [takes.get(name, 0) for name in self._names]
        return amounts

    def fits(self) -> str:
        """Why the pod does not fit; empty when it does."""
        for name, spare in zip(self._names, self._spare, strict=True):
            if spare < 0:
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

    def take(self, pod: PodInfo) -> None:
        self._columns.displace(pod.uid)
        self._away[pod.uid] = pod

    def give_back(self, pod: PodInfo) -> bool:
        self._columns.place(self._away.pop(pod.uid), self._node)
        if not self.fits():
            return True
        self.take(pod)
        return False

    def fits(self) -> str:
        return "" if self._decider.fits_on(self._pod, self._row) else NOT_HELPFUL

    def restore(self) -> None:
        """Put everybody back."""
        for pod in list(self._away.values()):
            self._columns.place(pod, self._node)
        self._away.clear()


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
            if not trial.give_back(pod):
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


def _importance(pod: PodInfo) -> tuple[int, int, int, str]:
    """More urgent first, then who has run longer; of one second, who was written to last comes last."""
    return -pod.priority, pod.started_s, pod.revision, pod.uid
