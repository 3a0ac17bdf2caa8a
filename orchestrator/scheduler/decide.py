"""The decision: which node for this pod, or why none. Pure; no clock, no API, no asyncio.

Pods of one signature share an evaluation: a mask of nodes that fit, and their scores, by the rules that look at one
node (scopes `NODE` and `ROW`). When nodes or pods changed since, only those rows are computed again. Rules of scope
`DOMAIN` are asked at each decision, for the rows that passed, and read counts that are kept up to date elsewhere.
Raw scores are kept and normalised per decision. Equal best nodes are drawn from the random generator handed in.

A nomination counts as a pod on its node (it holds what preemption made free) for every pod of at most its priority;
but who wants to be near other pods must fit without nominations too, for a nominated pod may never come.
"""

import random
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from orchestrator.scheduler.profiles import Plugins, default_plugins
from orchestrator.scheduler.rules.columns import Columns, Mask, Rows, Vector
from orchestrator.scheduler.rules.infos import PodInfo
from orchestrator.scheduler.rules.interface import Filter, Scope, Score

EVALUATIONS_MAX = 256
FEW = 8
"""Rows that are repaired one by one."""
INFEASIBLE = -1


@dataclass(frozen=True, slots=True)
class Decision:
    """`node` is empty when none fits; then `reasons` counts nodes per text, `refused_by` names the filters."""

    node: str
    node_count: int
    reasons: Counter[str] = field(default_factory=Counter)
    refused_by: frozenset[str] = frozenset()
    preempting: str = ""
    """What preemption found out, for the message."""

    @property
    def message(self) -> str:
        """As users know it: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`"""
        if not self.node_count:
            return "no nodes available to schedule pods"
        texts = sorted(f"{count} {text}" for text, count in self.reasons.items())
        more = f" preemption: {self.preempting}" if self.preempting else ""
        return f"0/{self.node_count} nodes are available: {', '.join(texts)}.{more}"


class Evaluation:
    """Fit and scores of all rows for one signature, as of one version of the columns."""

    __slots__ = (
        "base", "domain_filters", "domain_scores", "filters", "fixed", "node_filters", "node_scores", "passes",
        "raw", "row_filters", "row_scores", "single", "stamp", "states", "version",
    )  # fmt: skip

    def __init__(self, capacity: int) -> None:
        self.passes: Mask = np.zeros(capacity, np.bool_)
        """What the filters that look only at the node say."""
        self.fixed: Vector = np.zeros(capacity, np.int64)
        """The part of the score that only the node decides."""
        self.base: Vector = np.zeros(capacity, np.int64)
        """The score without normalised parts; INFEASIBLE where the pod does not fit."""
        self.raw: dict[Score, Vector] = {}
        """Raw scores that are normalised per decision."""
        self.states: dict[Any, Any] = {}
        """What each rule prepared."""
        self.filters: list[Filter] = []
        self.node_filters: list[Filter] = []
        self.row_filters: list[Filter] = []
        self.domain_filters: list[Filter] = []
        self.node_scores: list[Score] = []
        self.row_scores: list[Score] = []
        self.domain_scores: list[Score] = []
        self.single = False
        """Whether all rules of scope `ROW` can be asked for one row without arrays."""
        self.version = 0
        self.stamp: tuple[int, int, int] = (-1, -1, -1)


class Decider:
    """Decisions over `columns`. Owner: the scheduler, which also places what was decided."""

    def __init__(
        self,
        columns: Columns,
        rng: random.Random,
        plugins: Plugins | None = None,
        nominated: dict[str, PodInfo] | None = None,
    ) -> None:
        """`nominated` has pods by uid that `columns` counts although they are not placed; the owner changes it."""
        self.columns = columns
        self.nominated = nominated if nominated is not None else {}
        self._rng = rng
        self._plugins = plugins or default_plugins()
        self._evaluations: OrderedDict[Any, Evaluation] = OrderedDict()

    def decide(self, pod: PodInfo) -> Decision:
        """The best node for `pod` as things stand. Raises `BadRequest` for selectors that can't be read."""
        if not self.nominated:
            return self._decide(pod)
        with self.without_lesser(pod):
            if not pod.template.pod_affinity and not pod.template.spread:
                return self._decide(pod)
            with self._without(self.nominated.values()):
                alone = self._feasible(self._evaluation(pod), pod)
                if not len(alone):
                    return self._refusal(pod, self._evaluation(pod))
            return self._decide(pod, alone)

    def _decide(self, pod: PodInfo, allowed: Rows | None = None) -> Decision:
        """Among `allowed` rows: those that fit without nominated pods too, for these may never come."""
        evaluation = self._evaluation(pod)
        if allowed is not None:
            rows = np.intersect1d(self._feasible(evaluation, pod), allowed, assume_unique=True)
            return self._best(evaluation, pod, rows)
        if not evaluation.domain_filters and not evaluation.domain_scores and not evaluation.raw:
            total = evaluation.base
            best = total.max()
            if best == INFEASIBLE:
                return self._refusal(pod, evaluation)
            ties = np.flatnonzero(total == best)
            return self._draw(ties)
        return self._best(evaluation, pod, self._feasible(evaluation, pod))

    def _best(self, evaluation: Evaluation, pod: PodInfo, rows: Rows) -> Decision:
        if not len(rows):
            return self._refusal(pod, evaluation)
        if len(rows) == 1:
            return self._draw(rows)
        total = self._total(evaluation, pod, rows)
        return self._draw(rows[total == total.max()])

    def scores(self, pod: PodInfo) -> dict[str, int]:
        """The final score per feasible node."""
        evaluation = self._evaluation(pod)
        rows = self._feasible(evaluation, pod)
        total = self._total(evaluation, pod, rows) if len(rows) else rows
        return {self.columns.name(row): int(score) for row, score in zip(rows.tolist(), total, strict=True)}

    def fits_on(self, pod: PodInfo, row: int) -> bool:
        """Whether the pod fits one node now, asked of every filter: for preemption's trials."""
        at = np.array([row])
        evaluation = self._prepared(pod)
        return bool(self.columns.alive[row]) and all(
            rule.filter(self.columns, pod, at, evaluation.states[rule])[0] for rule in evaluation.filters
        )

    def possible(self, pod: PodInfo) -> Rows:
        """Rows that pass every filter which only looks at the node: where taking pods away could help."""
        return np.flatnonzero(self._evaluation(pod).passes)

    def asks_room_only(self, pod: PodInfo) -> bool:
        """Whether of all that placed pods decide only `NodeResourcesFit` concerns the pod."""
        evaluation = self._prepared(pod)
        rules = (*evaluation.row_filters, *evaluation.domain_filters)
        return all(rule.name == "NodeResourcesFit" for rule in rules)

    def explain(self, pod: PodInfo) -> dict[str, dict[str, Any]]:
        """Per node the filter that refuses and its reasons, or the weighted score by plugin."""
        evaluation = self._evaluation(pod)
        found: dict[str, dict[str, Any]] = {}
        rows = np.flatnonzero(self.columns.alive)
        for rule in evaluation.filters:
            fits = rule.filter(self.columns, pod, rows, evaluation.states[rule])
            for row in rows[~fits].tolist():
                reasons = rule.reasons(self.columns, pod, np.array([row]), evaluation.states[rule])
                found[self.columns.name(row)] = {"filter": rule.name, "reasons": sorted(reasons)}
            rows = rows[fits]
        scores: dict[str, dict[str, int]] = {self.columns.name(row): {} for row in rows.tolist()}
        for score in self._scores_of(evaluation) if len(rows) else ():
            raw = score.score(self.columns, pod, rows, evaluation.states[score])
            if score.normalised:
                raw = score.normalise(self.columns, raw, rows, evaluation.states[score])
            for row, value in zip(rows.tolist(), raw.tolist(), strict=True):
                entry = scores[self.columns.name(row)]
                entry[score.name] = entry.get(score.name, 0) + score.weight * int(value)
        found |= {name: {"scores": parts, "total": sum(parts.values())} for name, parts in scores.items()}
        return found

    # ── evaluations ─────────────────────────────────────────────────────────────────────────────────────

    def _evaluation(self, pod: PodInfo) -> Evaluation:
        columns = self.columns
        evaluation = self._prepared(pod)
        changes = columns.since(evaluation.version) if evaluation.version >= 0 else None
        if changes is None:
            rows = np.arange(columns.capacity)
            self._fix(evaluation, pod, rows)
            self._refresh(evaluation, pod, rows)
        elif changes:
            self._repair(evaluation, pod, changes)
        evaluation.version = columns.version
        return evaluation

    def _prepared(self, pod: PodInfo) -> Evaluation:
        """The pod's evaluation with its rules prepared; `version` is -1 where nothing is computed yet."""
        columns, counts = self.columns, self.columns.counts
        key = self._key(pod)
        evaluation = self._evaluations.get(key)
        if evaluation is not None and evaluation.stamp == (columns.epoch, counts.epoch, counts.version):
            self._evaluations.move_to_end(key)
            return evaluation
        counts.make_room()
        stamp = (columns.epoch, counts.epoch, counts.version)
        if evaluation is not None and evaluation.stamp[:2] == stamp[:2]:
            self._prepare(evaluation, pod)
        else:
            evaluation = Evaluation(columns.capacity)
            evaluation.version = -1
            self._choose(evaluation, pod)
            self._prepare(evaluation, pod)
        evaluation.stamp = stamp
        self._evaluations[key] = evaluation
        self._evaluations.move_to_end(key)
        if len(self._evaluations) > EVALUATIONS_MAX:
            self._evaluations.popitem(last=False)
        return evaluation

    def _key(self, pod: PodInfo) -> Any:
        """What pods must have in common to share an evaluation: their template, and whom they match."""
        owned = self.columns.counts.owned(pod)
        template = pod.template
        if template.claims:
            return pod.uid, owned
        if template.pod_affinity or template.spread:
            return template.signature, pod.namespace, pod.terms, owned, self._own_matches(pod)
        if owned or self._plugins.companions is not None:
            selector = self._plugins.companions(pod) if self._plugins.companions is not None else None
            return template.signature, owned, pod.namespace if selector else "", selector
        return template.signature

    def _own_matches(self, pod: PodInfo) -> tuple[bool, ...]:
        return tuple(self.columns.counts.matches(term.target, pod) for term in pod.terms.affinity)

    def _choose(self, evaluation: Evaluation, pod: PodInfo) -> None:
        """The rules that have something to say about the pod, by scope."""
        for rule in self._plugins.filters:
            if rule.applies(self.columns, pod):
                evaluation.filters.append(rule)
        by_scope = {scope: [f for f in evaluation.filters if f.scope is scope] for scope in Scope}
        evaluation.node_filters = by_scope[Scope.NODE]
        evaluation.row_filters = by_scope[Scope.ROW]
        evaluation.domain_filters = by_scope[Scope.DOMAIN]
        for score in self._plugins.scores:
            if not score.applies(self.columns, pod):
                continue
            if score.scope is Scope.DOMAIN:
                evaluation.domain_scores.append(score)
            elif score.normalised:
                evaluation.raw[score] = np.zeros(self.columns.capacity, np.int64)
            elif score.scope is Scope.NODE:
                evaluation.node_scores.append(score)
            else:
                evaluation.row_scores.append(score)
        rules = (*evaluation.row_filters, *evaluation.row_scores)
        evaluation.single = all(hasattr(rule, "one") for rule in rules) and not any(
            score.scope is Scope.ROW for score in evaluation.raw
        )

    def _scores_of(self, evaluation: Evaluation) -> list[Score]:
        return [
            *evaluation.node_scores, *evaluation.row_scores, *evaluation.raw, *evaluation.domain_scores,
        ]  # fmt: skip

    def _prepare(self, evaluation: Evaluation, pod: PodInfo) -> None:
        for rule in evaluation.filters:
            evaluation.states[rule] = rule.prepare(self.columns, pod)
        for score in self._scores_of(evaluation):
            evaluation.states[score] = score.prepare(self.columns, pod)

    def _repair(self, evaluation: Evaluation, pod: PodInfo, changes: list[int]) -> None:
        if len(changes) <= FEW and evaluation.single and min(changes) >= 0:
            for row in set(changes):
                self._refresh_one(evaluation, pod, row)
            return
        nodes = {~change for change in changes if change < 0}
        if nodes:
            self._fix(evaluation, pod, np.array(sorted(nodes)))
        rows = nodes.union(change for change in changes if change >= 0)
        self._refresh(evaluation, pod, np.array(sorted(rows)))

    def _fix(self, evaluation: Evaluation, pod: PodInfo, rows: Rows) -> None:
        """What only the nodes decide, for `rows`."""
        columns, states = self.columns, evaluation.states
        passes = columns.alive[rows]
        for rule in evaluation.node_filters:
            passes &= rule.filter(columns, pod, rows, states[rule])
        evaluation.passes[rows] = passes
        fixed = np.zeros(len(rows), np.int64)
        for score in evaluation.node_scores:
            fixed += score.weight * score.score(columns, pod, rows, states[score])
        for score, raw in evaluation.raw.items():
            if score.scope is Scope.NODE:
                raw[rows] = score.score(columns, pod, rows, states[score])
        evaluation.fixed[rows] = fixed

    def _refresh(self, evaluation: Evaluation, pod: PodInfo, rows: Rows) -> None:
        """What placed pods decide too, for `rows`."""
        columns, states = self.columns, evaluation.states
        fits = evaluation.passes[rows]
        for rule in evaluation.row_filters:
            fits &= rule.filter(columns, pod, rows, states[rule])
        total = evaluation.fixed[rows]
        for score in evaluation.row_scores:
            total += score.weight * score.score(columns, pod, rows, states[score])
        for score, raw in evaluation.raw.items():
            if score.scope is Scope.ROW:
                raw[rows] = score.score(columns, pod, rows, states[score])
        evaluation.base[rows] = np.where(fits, total, INFEASIBLE)

    def _refresh_one(self, evaluation: Evaluation, pod: PodInfo, row: int) -> None:
        """The same for one row, without arrays: placing a pod is what happens most."""
        columns, states, base = self.columns, evaluation.states, evaluation.base
        if not evaluation.passes[row]:
            base[row] = INFEASIBLE
            return
        for rule in evaluation.row_filters:
            if not rule.one(columns, pod, row, states[rule]):  # type: ignore[attr-defined]  # `single` says so
                base[row] = INFEASIBLE
                return
        total = evaluation.fixed.item(row)
        for score in evaluation.row_scores:
            total += score.weight * score.one(columns, pod, row, states[score])  # type: ignore[attr-defined]
        base[row] = total

    # ── one decision ────────────────────────────────────────────────────────────────────────────────────

    def _feasible(self, evaluation: Evaluation, pod: PodInfo) -> Rows:
        rows = np.flatnonzero(evaluation.base != INFEASIBLE)
        for rule in evaluation.domain_filters:
            if not len(rows):
                break
            rows = rows[rule.filter(self.columns, pod, rows, evaluation.states[rule])]
        return rows

    def _total(self, evaluation: Evaluation, pod: PodInfo, rows: Rows) -> Vector:
        columns, states = self.columns, evaluation.states
        total = evaluation.base[rows]
        for score, raw in evaluation.raw.items():
            total += score.weight * score.normalise(columns, raw[rows], rows, states[score])
        for score in evaluation.domain_scores:
            raw = score.score(columns, pod, rows, states[score])
            if score.normalised:
                raw = score.normalise(columns, raw, rows, states[score])
            total += score.weight * raw
        return total

    def _draw(self, ties: Rows) -> Decision:
        row = int(ties[self._rng.randrange(len(ties))] if len(ties) > 1 else ties[0])
        return Decision(self.columns.name(row), self.columns.node_count)

    def _refusal(self, pod: PodInfo, evaluation: Evaluation) -> Decision:
        """Every node, counted by the first filter that refuses it."""
        rows = np.flatnonzero(self.columns.alive)
        count = len(rows)
        reasons: Counter[str] = Counter()
        refused_by = set()
        for rule in evaluation.filters:
            if not len(rows):
                break
            fits = rule.filter(self.columns, pod, rows, evaluation.states[rule])
            refused = rows[~fits]
            if len(refused):
                reasons += rule.reasons(self.columns, pod, refused, evaluation.states[rule])
                refused_by.add(rule.name)
            rows = rows[fits]
        return Decision("", count, reasons, frozenset(refused_by))

    # ── nominations ─────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def without_lesser(self, pod: PodInfo) -> Iterator[None]:
        """Its own nomination, and those of less urgent pods, hold no room against a pod."""
        lesser = [
            other
            for other in self.nominated.values()
            if other.priority < pod.priority or other.uid == pod.uid
        ]
        with self._without(lesser):
            yield

    @contextmanager
    def _without(self, pods: Iterable[PodInfo]) -> Iterator[None]:
        """As if these were on no node."""
        placed, name = self.columns.placed, self.columns.name
        places = [(other, name(placed[other.uid][0])) for other in pods if other.uid in placed]
        for other, _ in places:
            self.columns.displace(other.uid)
        try:
            yield
        finally:
            for other, node in places:
                self.columns.place(other, node)
