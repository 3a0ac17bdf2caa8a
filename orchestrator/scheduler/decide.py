"""The decision: which node for this pod, or why none. Pure; no clock, no API, no asyncio.

Pods of one signature share an evaluation: a mask of nodes that fit, and their scores. When nodes or pods
changed since, only those rows are computed again. Scores that depend on what else is feasible are kept raw
and normalised per decision. Equal best nodes are drawn from the random generator that is handed in.
"""

import random
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

import numpy as np

from orchestrator.scheduler.rules.affinity import NodeAffinity, PreferredNodeAffinity
from orchestrator.scheduler.rules.columns import Columns, Mask, Rows, Vector
from orchestrator.scheduler.rules.infos import PodInfo
from orchestrator.scheduler.rules.interface import SCORE_MAX, Filter, Score
from orchestrator.scheduler.rules.nodes import NodeName, NodeUnschedulable
from orchestrator.scheduler.rules.ports import NodePorts
from orchestrator.scheduler.rules.resources import Fit, LeastAllocated
from orchestrator.scheduler.rules.taints import PreferNoSchedule, TaintToleration

FILTERS: tuple[Filter, ...] = (
    NodeUnschedulable(), NodeName(), TaintToleration(), NodeAffinity(), NodePorts(), Fit(),
)  # fmt: skip
"""In this order; the first one that refuses a node gives the reason."""
SCORES: tuple[Score, ...] = (PreferNoSchedule(), PreferredNodeAffinity(), LeastAllocated())
EVALUATIONS_MAX = 256
INFEASIBLE = -1


@dataclass(frozen=True, slots=True)
class Decision:
    """`node` is empty when none fits; then `reasons` counts nodes per text, `refused_by` names the filters."""

    node: str
    node_count: int
    reasons: Counter[str] = field(default_factory=Counter)
    refused_by: frozenset[str] = frozenset()

    @property
    def message(self) -> str:
        """As users know it: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`"""
        if not self.node_count:
            return "no nodes available to schedule pods"
        texts = sorted(f"{count} {text}" for text, count in self.reasons.items())
        return f"0/{self.node_count} nodes are available: {', '.join(texts)}."


class Evaluation:
    """Fit and scores of all rows for one signature, as of one version of the columns."""

    __slots__ = ("base", "epoch", "fixed", "passes", "raw", "version")

    def __init__(self, capacity: int) -> None:
        self.passes: Mask = np.zeros(capacity, np.bool_)
        """What the filters that look only at the node say."""
        self.fixed: Vector = np.zeros(capacity, np.int64)
        """The part of the score that only the node decides."""
        self.base: Vector = np.zeros(capacity, np.int64)
        """The score without normalised parts; INFEASIBLE where the pod does not fit."""
        self.raw: dict[Score, Vector] = {}
        """Raw scores that are normalised per decision."""
        self.version = 0
        self.epoch = 0


class Decider:
    """Decisions over `columns`. Owner: the scheduler, which also places what was decided."""

    def __init__(
        self,
        columns: Columns,
        rng: random.Random,
        filters: tuple[Filter, ...] = FILTERS,
        scores: tuple[Score, ...] = SCORES,
    ) -> None:
        self.columns = columns
        self._rng = rng
        self._filters = filters
        self._scores = scores
        self._evaluations: OrderedDict[bytes, Evaluation] = OrderedDict()

    def decide(self, pod: PodInfo) -> Decision:
        """The best node for `pod` as things stand. Raises `BadRequest` for selectors that can't be read."""
        evaluation = self._evaluation(pod)
        total = evaluation.base
        if evaluation.raw:
            total = self._normalised(evaluation)
        best = total.max()
        if best == INFEASIBLE:
            return self._refusal(pod)
        ties = np.flatnonzero(total == best)
        row = int(ties[self._rng.randrange(len(ties))] if len(ties) > 1 else ties[0])
        return Decision(self.columns.name(row), self.columns.node_count)

    def scores(self, pod: PodInfo) -> dict[str, int]:
        """The final score per feasible node."""
        evaluation = self._evaluation(pod)
        total = self._normalised(evaluation)
        return {
            self.columns.name(row): int(total[row]) for row in np.flatnonzero(total != INFEASIBLE).tolist()
        }

    def _evaluation(self, pod: PodInfo) -> Evaluation:
        columns = self.columns
        evaluation = self._evaluations.get(pod.signature)
        changes = columns.since(evaluation.version) if evaluation is not None else None
        if evaluation is None or changes is None or evaluation.epoch != columns.epoch:
            evaluation = self._evaluated(pod)
        elif changes:
            self._repair(evaluation, pod, changes)
        self._evaluations[pod.signature] = evaluation
        self._evaluations.move_to_end(pod.signature)
        if len(self._evaluations) > EVALUATIONS_MAX:
            self._evaluations.popitem(last=False)
        evaluation.version = columns.version
        return evaluation

    def _evaluated(self, pod: PodInfo) -> Evaluation:
        evaluation = Evaluation(self.columns.capacity)
        evaluation.epoch = self.columns.epoch
        for score in self._scores:
            if score.normal != "none" and score.applies(self.columns, pod):
                evaluation.raw[score] = np.zeros(self.columns.capacity, np.int64)
        rows = np.arange(self.columns.capacity)
        self._fix(evaluation, pod, rows)
        self._refresh(evaluation, pod, rows)
        return evaluation

    def _repair(self, evaluation: Evaluation, pod: PodInfo, changes: list[int]) -> None:
        nodes = {~change for change in changes if change < 0}
        if nodes:
            self._fix(evaluation, pod, np.array(sorted(nodes)))
        rows = nodes.union(change for change in changes if change >= 0)
        self._refresh(evaluation, pod, np.array(sorted(rows)))

    def _fix(self, evaluation: Evaluation, pod: PodInfo, rows: Rows) -> None:
        """What only the nodes decide, for `rows`."""
        passes = self.columns.alive[rows]
        for rule in self._filters:
            if not rule.dynamic and rule.applies(pod):
                passes &= rule.filter(self.columns, pod, rows)
        evaluation.passes[rows] = passes
        fixed = np.zeros(len(rows), np.int64)
        for score in self._scores:
            if score in evaluation.raw:
                evaluation.raw[score][rows] = score.score(self.columns, pod, rows)
            elif not score.dynamic and score.normal == "none" and score.applies(self.columns, pod):
                fixed += score.weight * score.score(self.columns, pod, rows)
        evaluation.fixed[rows] = fixed

    def _refresh(self, evaluation: Evaluation, pod: PodInfo, rows: Rows) -> None:
        """What placed pods decide too, for `rows`."""
        fits = evaluation.passes[rows]
        for rule in self._filters:
            if rule.dynamic and rule.applies(pod):
                fits &= rule.filter(self.columns, pod, rows)
        total = evaluation.fixed[rows]
        for score in self._scores:
            if not score.dynamic or not score.applies(self.columns, pod):
                continue
            if score in evaluation.raw:
                evaluation.raw[score][rows] = score.score(self.columns, pod, rows)
            else:
                total += score.weight * score.score(self.columns, pod, rows)
        evaluation.base[rows] = np.where(fits, total, INFEASIBLE)

    def _normalised(self, evaluation: Evaluation) -> Vector:
        feasible = evaluation.base != INFEASIBLE
        total = evaluation.base.copy()
        for score, raw in evaluation.raw.items():
            most = int(raw[feasible].max()) if feasible.any() else 0
            scaled = raw * SCORE_MAX // most if most else np.zeros_like(raw)
            total += score.weight * (SCORE_MAX - scaled if score.normal == "down" else scaled)
        return np.where(feasible, total, INFEASIBLE)

    def _refusal(self, pod: PodInfo) -> Decision:
        """Every node, counted by the first filter that refuses it."""
        rows = np.flatnonzero(self.columns.alive)
        count = len(rows)
        reasons: Counter[str] = Counter()
        refused_by = set()
        for rule in self._filters:
            if not len(rows) or not rule.applies(pod):
                continue
            fits = rule.filter(self.columns, pod, rows)
            refused = rows[~fits]
            if len(refused):
                reasons += rule.reasons(self.columns, pod, refused)
                refused_by.add(rule.name)
            rows = rows[fits]
        return Decision("", count, reasons, frozenset(refused_by))


HELPED_BY = {rule.name: rule.helped_by for rule in FILTERS}
