"""NodeAffinity: node selector and required node affinity filter, preferred node affinity scores."""

from collections import Counter
from collections.abc import Iterable
from typing import Literal

import numpy as np

from orchestrator.api.item import Object
from orchestrator.api.selectors import Requirement
from orchestrator.scheduler.rules.columns import Columns, Mask, Rows, Vector
from orchestrator.scheduler.rules.infos import PodInfo
from orchestrator.scheduler.rules.interface import ClusterEvent
from orchestrator.scheduler.rules.selection import NAME, required_terms, requirements

_FEW = 8


class NodeAffinity:
    name = "NodeAffinity"
    dynamic = False
    helped_by = frozenset((ClusterEvent.NODE_ADDED, ClusterEvent.NODE_LABELS))

    def applies(self, pod: PodInfo) -> bool:
        return bool(pod.node_selector or _required(pod) is not None)

    def filter(self, columns: Columns, pod: PodInfo, rows: Rows) -> Mask:
        chosen = [Requirement(key, "in", frozenset((value,))) for key, value in pod.node_selector.items()]
        fits = _all(columns, chosen, rows)
        terms = _required(pod)
        if terms is not None:
            any_term = np.zeros(len(rows), np.bool_)
            for term in terms:
                any_term |= matches(columns, term, rows)
            fits &= any_term
        return fits

    def reasons(self, columns: Columns, pod: PodInfo, rows: Rows) -> Counter[str]:
        return Counter({"node(s) didn't match Pod's node affinity/selector": len(rows)})


class PreferredNodeAffinity:
    """The sum of the weights of the matching terms."""

    name = "NodeAffinity"
    dynamic = False
    weight = 2
    normal: Literal["none", "up", "down"] = "up"

    def applies(self, columns: Columns, pod: PodInfo) -> bool:
        return bool(pod.affinity.get("preferredDuringSchedulingIgnoredDuringExecution"))

    def score(self, columns: Columns, pod: PodInfo, rows: Rows) -> Vector:
        total = np.zeros(len(rows), np.int64)
        for entry in pod.affinity["preferredDuringSchedulingIgnoredDuringExecution"]:
            if requirements(entry["preference"]):
                total += entry["weight"] * _all(columns, requirements(entry["preference"]), rows)
        return total


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
