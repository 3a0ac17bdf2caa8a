"""NodeAffinity: node selector and required node affinity filter, preferred node affinity scores."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from orchestrator.api.item import Object
from orchestrator.api.selectors import Requirement
from orchestrator.scheduler.rules.columns import Columns, Mask, Rows, Vector
from orchestrator.scheduler.rules.infos import PodInfo
from orchestrator.scheduler.rules.interface import ClusterEvent, Rule, Scope, scaled_up
from orchestrator.scheduler.rules.selection import NAME, required_terms, requirements

MISMATCH = "node(s) didn't match Pod's node affinity/selector"
ADDED_MISMATCH = "node(s) didn't match scheduler-enforced node affinity"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_FEW = 8


class NodeAffinity(Rule):
    name = "NodeAffinity"
    scope = Scope.NODE
    helped_by = frozenset((ClusterEvent.NODE_ADDED, ClusterEvent.NODE_LABELS))

    def __init__(self, added: Object | None = None) -> None:
        """`added` is node affinity that every pod of the profile has besides its own."""
        self._added = required_terms(added or {})

    def applies(self, columns: Columns, pod: PodInfo) -> bool:
        return bool(self._added is not None or pod.node_selector or _required(pod) is not None)

    def filter(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Mask:
        fits = selected(columns, pod, rows)
        if self._added is not None:
            fits &= _any(columns, self._added, rows)
        return fits

    def reasons(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Counter[str]:
        if self._added is None:
            return Counter({MISMATCH: len(rows)})
        added = int((~_any(columns, self._added, rows)).sum())
        return +Counter({ADDED_MISMATCH: added, MISMATCH: len(rows) - added})


class PreferredNodeAffinity(Rule):
    """The sum of the weights of the matching terms."""

    name = "NodeAffinity"
    scope = Scope.NODE
    normalised = True

    def __init__(self, added: Object | None = None, weight: int = 2) -> None:
        self.weight = weight
        self._added = (added or {}).get(_PREFERRED) or []

    def applies(self, columns: Columns, pod: PodInfo) -> bool:
        return bool(self._added or pod.affinity.get(_PREFERRED))

    def score(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Vector:
        total = np.zeros(len(rows), np.int64)
        for entry in [*(pod.affinity.get(_PREFERRED) or ()), *self._added]:
            total += entry["weight"] * matches(columns, entry["preference"], rows)
        return total

    def normalise(self, columns: Columns, raw: Vector, rows: Rows, state: Any) -> Vector:
        return scaled_up(raw)


def selected(columns: Columns, pod: PodInfo, rows: Rows) -> Mask:
    """Which rows the pod's node selector and required node affinity admit."""
    chosen = [Requirement(key, "in", frozenset((value,))) for key, value in pod.node_selector.items()]
    fits = _all(columns, chosen, rows)
    terms = _required(pod)
    return fits if terms is None else fits & _any(columns, terms, rows)


def _any(columns: Columns, terms: Iterable[Object], rows: Rows) -> Mask:
    fits = np.zeros(len(rows), np.bool_)
    for term in terms:
        fits |= matches(columns, term, rows)
    return fits


def matches(columns: Columns, term: Object, rows: Rows) -> Mask:
    """Which rows a node selector term matches; an empty term matches none."""
    demanded = requirements(term)
    return _all(columns, demanded, rows) if demanded else np.zeros(len(rows), np.bool_)


def _required(pod: PodInfo) -> list[Object] | None:
    return required_terms(pod.affinity)


def _all(columns: Columns, requirements: Iterable[Requirement], rows: Rows) -> Mask:
    fits = np.ones(len(rows), np.bool_)
    for requirement in requirements:
        fits &= _one(columns, requirement, rows)
    return fits


def _one(columns: Columns, requirement: Requirement, rows: Rows) -> Mask:
    """Many rows: once per distinct value of the label; few rows: node by node; names: by their place."""
    key = requirement.key
    if key == NAME:
        return _named(columns, requirement, rows)
    if len(rows) <= _FEW:
        return np.array([_node(columns, requirement, row) for row in rows.tolist()], np.bool_)
    column = columns.label(key)
    # The last place stands for "absent", which is -1 in the column.
    table = np.empty(len(column.values) + 1, np.bool_)
    table[-1] = requirement.matches({})
    for number, value in enumerate(column.values):
        table[number] = requirement.matches({key: value})
    return table[column.ids[rows]]


def _named(columns: Columns, requirement: Requirement, rows: Rows) -> Mask:
    places = [row for row in map(columns.row, requirement.values) if row is not None]
    found = np.isin(rows, np.array(places, np.int64))
    return found if requirement.operator == "in" else ~found


def _node(columns: Columns, requirement: Requirement, row: int) -> bool:
    node = columns.nodes[row]
    return node is not None and requirement.matches(node.labels)
