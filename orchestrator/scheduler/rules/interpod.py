"""InterPodAffinity: pods near or far from other pods, by topology domain; also what placed pods ask of a new one.

Required affinity wants, for each term, a pod that all terms select in the node's domain of that term's key; when no
such pod exists anywhere and the pod is its own companion, any node with the keys will do. Required anti-affinity of
the pod, and that of placed pods which select it, forbid domains. Preferred terms of both sides add their weights, and
required affinity of placed pods adds `hard_weight`. Source: `interpodaffinity` of Kubernetes' scheduler.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from orchestrator.scheduler.rules.columns import Columns, Mask, Rows, Vector
from orchestrator.scheduler.rules.counts import ANTI, HARD, SOFT, LabelColumn, Tally
from orchestrator.scheduler.rules.infos import PodInfo
from orchestrator.scheduler.rules.interface import NODE_EVENTS, SCORE_MAX, ClusterEvent, Rule, Scope

AFFINITY = "node(s) didn't match pod affinity rules"
ANTI_AFFINITY = "node(s) didn't match pod anti-affinity rules"
EXISTING = "node(s) didn't satisfy existing pods anti-affinity rules"


@dataclass(slots=True)
class _Asked:
    """Pods counted by one topology key."""

    tally: Tally
    column: LabelColumn
    weight: int = 1


@dataclass(slots=True)
class _Demands:
    affinity: list[_Asked]
    lonely: bool
    """Whether the pod is its own companion, so the first of its kind may go anywhere."""
    anti: list[_Asked]
    existing: list[_Asked]


class InterPodFilter(Rule):
    name = "InterPodAffinity"
    scope = Scope.DOMAIN
    helped_by = NODE_EVENTS | {
        ClusterEvent.POD_ADDED, ClusterEvent.POD_REMOVED, ClusterEvent.POD_LABELS, ClusterEvent.NAMESPACE_LABELS,
    }  # fmt: skip

    def applies(self, columns: Columns, pod: PodInfo) -> bool:
        if pod.template.pod_affinity and (pod.terms.affinity or pod.terms.anti):
            return True
        return any(owned.kind == ANTI for owned in columns.counts.owned(pod))

    def prepare(self, columns: Columns, pod: PodInfo) -> _Demands:
        counts, terms = columns.counts, pod.terms
        together = tuple(term.target for term in terms.affinity)
        return _Demands(
            [_asked(columns, together, term.topology) for term in terms.affinity],
            all(counts.matches(target, pod) for target in together),
            [_asked(columns, (term.target,), term.topology) for term in terms.anti],
            [
                _Asked(owned.tally, columns.label(owned.topology))
                for owned in counts.owned(pod)
                if owned.kind == ANTI
            ],
        )

    def filter(self, columns: Columns, pod: PodInfo, rows: Rows, state: _Demands) -> Mask:
        fits = _near(columns, state, rows)
        for asked in (*state.anti, *state.existing):
            fits &= _totals(columns, asked)[asked.column.ids[rows]] <= 0
        return fits

    def reasons(self, columns: Columns, pod: PodInfo, rows: Rows, state: _Demands) -> Counter[str]:
        near = _near(columns, state, rows)
        found = Counter({AFFINITY: int((~near).sum())})
        rows = rows[near]
        hit = np.zeros(len(rows), np.bool_)
        for asked in state.anti:
            hit |= _totals(columns, asked)[asked.column.ids[rows]] > 0
        found[ANTI_AFFINITY] = int(hit.sum())
        found[EXISTING] = int((~hit).sum())
        return +found


class InterPodScore(Rule):
    name = "InterPodAffinity"
    scope = Scope.DOMAIN
    normalised = True

    def __init__(
        self, hard_weight: int = 1, weight: int = 2, ignore_preferred_of_existing: bool = False
    ) -> None:
        self.weight = weight
        self._weights = {HARD: hard_weight, SOFT: 1}
        self._ignore = ignore_preferred_of_existing

    def applies(self, columns: Columns, pod: PodInfo) -> bool:
        own = bool(pod.template.pod_affinity and pod.terms.preferred)
        if own or self._ignore:
            return own
        return any(self._weights.get(owned.kind) for owned in columns.counts.owned(pod))

    def prepare(self, columns: Columns, pod: PodInfo) -> list[_Asked]:
        own = [_asked(columns, (term.target,), term.topology, term.weight) for term in pod.terms.preferred]
        others = [
            _Asked(owned.tally, columns.label(owned.topology), self._weights[owned.kind])
            for owned in columns.counts.owned(pod)
            if self._weights.get(owned.kind)
        ]
        return own + others

    def score(self, columns: Columns, pod: PodInfo, rows: Rows, state: list[_Asked]) -> Vector:
        total = np.zeros(len(rows), np.int64)
        for asked in state:
            total += asked.weight * _totals(columns, asked)[asked.column.ids[rows]]
        return total

    def normalise(self, columns: Columns, raw: Vector, rows: Rows, state: list[_Asked]) -> Vector:
        least, most = int(raw.min()), int(raw.max())
        if most == least:
            return np.zeros_like(raw)
        return (SCORE_MAX * ((raw - least) / (most - least))).astype(np.int64)


def _asked(columns: Columns, targets: tuple, topology: str, weight: int = 1) -> _Asked:  # type: ignore[type-arg]
    return _Asked(columns.counts.tally(targets, topology), columns.label(topology), weight)


def _totals(columns: Columns, asked: _Asked) -> Vector:
    """Per domain; the last place, for nodes without the label, is zero."""
    return columns.counts.fresh(asked.tally, columns.alive)


def _near(columns: Columns, state: _Demands, rows: Rows) -> Mask:
    near = np.ones(len(rows), np.bool_)
    if not state.affinity:
        return near
    labeled = np.ones(len(rows), np.bool_)
    exists = False
    for asked in state.affinity:
        ids, totals = asked.column.ids[rows], _totals(columns, asked)
        labeled &= ids >= 0
        near &= totals[ids] > 0
        exists = exists or bool(totals.any())
    return labeled if not exists and state.lonely else near
