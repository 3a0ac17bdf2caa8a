"""NodeAffinity: node selector and required node affinity filter, preferred node affinity scores."""

from collections import Counter
from collections.abc import Iterable
from typing import Literal

import numpy as np

from orchestrator.api.item import Object
from orchestrator.api.selectors import Requirement, from_node_selector_term
from orchestrator.scheduler.rules.columns import Columns, Mask, Rows, Vector
from orchestrator.scheduler.rules.infos import PodInfo
from orchestrator.scheduler.rules.interface import ClusterEvent

_NAME = "metadata.name"
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
            if _requirements(entry["preference"]):
                total += entry["weight"] * _all(columns, _requirements(entry["preference"]), rows)
        return total


def matches(columns: Columns, term: Object, rows: Rows) -> Mask:
    """Which rows a node selector term matches; an empty term matches none."""
    requirements = _requirements(term)
    return _all(columns, requirements, rows) if requirements else np.zeros(len(rows), np.bool_)


def _required(pod: PodInfo) -> list[Object] | None:
    required = pod.affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return required.get("nodeSelectorTerms") or [] if required is not None else None


def _requirements(term: Object) -> list[Requirement]:
    found = list(from_node_selector_term(term.get("matchExpressions") or []).requirements)
    for field in term.get("matchFields") or ():
        operator = "in" if field["operator"] == "In" else "notin"
        found.append(Requirement(_NAME, operator, frozenset(field.get("values") or ())))
    return found


def _all(columns: Columns, requirements: Iterable[Requirement], rows: Rows) -> Mask:
    fits = np.ones(len(rows), np.bool_)
    for requirement in requirements:
        fits &= _one(columns, requirement, rows)
    return fits


def _one(columns: Columns, requirement: Requirement, rows: Rows) -> Mask:
    """Many rows: once per distinct value of the label; few rows, or names: node by node."""
    key = requirement.key
    if key == _NAME or len(rows) <= _FEW:
        return np.array([_node(columns, requirement, row) for row in rows.tolist()], np.bool_)
    column = columns.label(key)
    # The last place stands for "absent", which is -1 in the column.
    table = np.empty(len(column.values) + 1, np.bool_)
    table[-1] = requirement.matches({})
    for number, value in enumerate(column.values):
        table[number] = requirement.matches({key: value})
    return table[column.ids[rows]]


def _node(columns: Columns, requirement: Requirement, row: int) -> bool:
    node = columns.nodes[row]
    if node is None:
        return False
    return requirement.matches({_NAME: node.name} if requirement.key == _NAME else node.labels)
