"""PodTopologySpread: pods of one kind spread evenly over zones, nodes or whatever a label names.

A constraint counts pods of the pod's namespace that its selector selects, per value of its topology key, on nodes
that have the keys of all constraints and that its policies admit. `DoNotSchedule` filters by the difference to the
emptiest domain, `ScheduleAnyway` scores. Pods that say nothing and that a Service or a controller selects are spread
by the default constraints. Source of the rules: `podtopologyspread` of Kubernetes' scheduler.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.api.selectors import Selector
from orchestrator.scheduler.rules.affinity import selected
from orchestrator.scheduler.rules.columns import Columns, Mask, Rows, Vector
from orchestrator.scheduler.rules.counts import LabelColumn, Tally
from orchestrator.scheduler.rules.infos import PodInfo
from orchestrator.scheduler.rules.interface import NODE_EVENTS, SCORE_MAX, ClusterEvent, Rule, Scope
from orchestrator.scheduler.rules.taints import tolerated
from orchestrator.scheduler.rules.terms import HOSTNAME, ZONE, Spread, spread_of

MISMATCH = "node(s) didn't match pod topology spread constraints"
UNLABELED = "node(s) didn't match pod topology spread constraints (missing required label)"
DEFAULTS = ((HOSTNAME, 3), (ZONE, 5))
"""Topology key and greatest skew of the system's default constraints."""

SelectorOf = Callable[[PodInfo], Selector | None]
"""What selects a pod's companions: its Services and its controller; None where nothing does."""


@dataclass(slots=True)
class _Counted:
    """One constraint with its counts."""

    spread: Spread
    tally: Tally
    column: LabelColumn


@dataclass(slots=True)
class _Prepared:
    counted: list[_Counted]
    required: bool
    """Whether nodes that lack a key are out of it."""


class SpreadFilter(Rule):
    name = "PodTopologySpread"
    scope = Scope.DOMAIN
    helped_by = NODE_EVENTS | {ClusterEvent.POD_ADDED, ClusterEvent.POD_REMOVED, ClusterEvent.POD_LABELS}

    def applies(self, columns: Columns, pod: PodInfo) -> bool:
        return bool(pod.template.spread) and any(spread.hard for spread in pod.terms.spread)

    def prepare(self, columns: Columns, pod: PodInfo) -> _Prepared:
        return _prepared(columns, pod, [spread for spread in pod.terms.spread if spread.hard], True)

    def filter(self, columns: Columns, pod: PodInfo, rows: Rows, state: _Prepared) -> Mask:
        fits = np.ones(len(rows), np.bool_)
        for counted in state.counted:
            ids = counted.column.ids[rows]
            fits &= (ids >= 0) & _within(columns, counted)[ids]
        return fits

    def reasons(self, columns: Columns, pod: PodInfo, rows: Rows, state: _Prepared) -> Counter[str]:
        """The first constraint that refuses a node says why."""
        found: Counter[str] = Counter()
        for counted in state.counted:
            ids = counted.column.ids[rows]
            unlabeled = ids < 0
            refused = ~unlabeled & ~_within(columns, counted)[ids]
            found[UNLABELED] += int(unlabeled.sum())
            found[MISMATCH] += int(refused.sum())
            rows = rows[~(unlabeled | refused)]
        return +found


class SpreadScore(Rule):
    name = "PodTopologySpread"
    scope = Scope.DOMAIN
    normalised = True

    def __init__(
        self,
        selector_of: SelectorOf | None = None,
        defaults: tuple[tuple[str, int], ...] = DEFAULTS,
        weight: int = 2,
    ) -> None:
        self.weight = weight
        self._selector_of = selector_of
        self._defaults = defaults

    def applies(self, columns: Columns, pod: PodInfo) -> bool:
        if pod.template.spread:
            return any(not spread.hard for spread in pod.terms.spread)
        return self._selector(pod) is not None

    def prepare(self, columns: Columns, pod: PodInfo) -> _Prepared:
        if pod.template.spread:
            return _prepared(columns, pod, [spread for spread in pod.terms.spread if not spread.hard], True)
        selector = self._selector(pod) or Selector()
        spreads = [spread_of(pod.namespace, pod.labels, selector, *default) for default in self._defaults]
        return _prepared(columns, pod, spreads, False)

    def score(self, columns: Columns, pod: PodInfo, rows: Rows, state: _Prepared) -> Vector:
        """Fewer companions in a node's domains is better; -1 where a key is missing that all must have."""
        total = np.zeros(len(rows))
        ignored = _ignored(state, rows)
        for counted in state.counted:
            ids = counted.column.ids[rows]
            weight = math.log(_size(counted, ids[~ignored]) + 2)
            counts = columns.counts.fresh(counted.tally, columns.alive)[ids] * weight + (
                counted.spread.max_skew - 1
            )
            total += np.where(ids >= 0, counts, 0)
        raw = np.floor(total + 0.5).astype(np.int64)
        return np.where(ignored, -1, raw)

    def normalise(self, columns: Columns, raw: Vector, rows: Rows, state: _Prepared) -> Vector:
        ignored = raw < 0
        if ignored.all():
            return np.zeros_like(raw)
        least, most = int(raw[~ignored].min()), int(raw.max())
        scores = SCORE_MAX * (most + least - raw) // most if most else np.full_like(raw, SCORE_MAX)
        return np.where(ignored, 0, scores)

    def _selector(self, pod: PodInfo) -> Selector | None:
        return self._selector_of(pod) if self._selector_of is not None and self._defaults else None


def _prepared(columns: Columns, pod: PodInfo, spreads: list[Spread], required: bool) -> _Prepared:
    keys = [spread.topology for spread in spreads]
    counted = []
    for spread in spreads:
        eligible, name = _eligible(columns, pod, spread, keys if required else [])
        tally = columns.counts.tally(
            (spread.target,), spread.topology, living=True, eligible=eligible, nodes=name
        )
        counted.append(_Counted(spread, tally, columns.label(spread.topology)))
    return _Prepared(counted, required)


def _eligible(columns: Columns, pod: PodInfo, spread: Spread, keys: list[str]) -> tuple[Mask | None, bytes]:
    """Which rows a constraint counts, and a name for them; None: all that have its key."""
    demands = spread.honor_affinity and bool(pod.node_selector or pod.affinity)
    if not demands and not spread.honor_taints and len(keys) < 2:
        return None, b""
    rows = np.arange(columns.capacity)
    mask = columns.alive.copy()
    for key in keys:
        mask &= columns.label(key).ids >= 0
    if demands:
        mask &= selected(columns, pod, rows)
    if spread.honor_taints:
        mask &= tolerated(columns, pod, rows)
    return mask, b"%s|%d%d|%s" % (pod.signature, demands, spread.honor_taints, ",".join(keys).encode())


def _within(columns: Columns, counted: _Counted) -> Mask:
    """Per domain, whether one more pod keeps the skew."""
    totals = columns.counts.fresh(counted.tally, columns.alive)
    present = counted.tally.present
    domains = int(np.count_nonzero(present))
    least = int(totals[present].min()) if domains and domains >= counted.spread.min_domains else 0
    within: Mask = totals + counted.spread.self_match - least <= counted.spread.max_skew
    return within


def _ignored(state: _Prepared, rows: Rows) -> Mask:
    ignored = np.zeros(len(rows), np.bool_)
    if state.required:
        for counted in state.counted:
            ignored |= counted.column.ids[rows] < 0
    return ignored


def _size(counted: _Counted, ids: Any) -> int:
    """Number of domains among the nodes that the pod fits; nodes without the label are one, as in Kubernetes."""
    return len(ids) if counted.spread.topology == HOSTNAME else len(np.unique(ids))
