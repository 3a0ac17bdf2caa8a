"""Which pods are where, counted by selector and topology domain. Pure; owned by `Columns`.

Three kinds of counts, each kept up to date as pods are placed and displaced, so that a decision reads arrays:

- A `Group` is a set of placed pods that something selects: the conjunction of some `Target`s. It knows how many of
  its pods are on each row.
- A `Tally` is a group by the values of one label: the count matrix (domain × selector). One slot per value and a
  last one, always zero, for nodes without the label. It may look at some nodes only (`eligible`).
- `Owned` counts placed pods that have a term, by the values of its topology key: what placed pods ask of new ones.

Pods with the same namespace and labels are one `PodClass`, so a new group looks at classes, not at pods; likewise a
pod's groups are found once per class. When labels, taints or the set of nodes change, `version` grows and tallies
count their rows again when next read. Groups are dropped all at once when there are too many (`make_room`): whoever
holds tallies asks for them again when `epoch` differs.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.api.errors import BadRequest
from orchestrator.scheduler.rules.infos import PodInfo
from orchestrator.scheduler.rules.terms import Target, Term

Vector = NDArray[np.int64]
Mask = NDArray[np.bool_]

GROUPS_MAX = 4096
CLASSES_MAX = 16_384
ANTI, HARD, SOFT = "anti", "hard", "soft"
"""Kinds of terms that placed pods have: required anti-affinity, required affinity, preferred ones."""

ClassKey = tuple[str, frozenset[tuple[str, str]], bool]


class LabelColumn:
    """The value of one label per row, interned: `ids[row]` indexes `values`, -1 is absent."""

    __slots__ = ("_numbers", "ids", "values")

    def __init__(self, capacity: int) -> None:
        self.ids = np.full(capacity, -1, np.int32)
        self.values: list[str] = []
        self._numbers: dict[str, int] = {}

    def set(self, row: int, value: str | None) -> None:
        if value is None:
            self.ids[row] = -1
            return
        number = self._numbers.get(value)
        if number is None:
            number = self._numbers[value] = len(self.values)
            self.values.append(value)
        self.ids[row] = number


class PodClass:
    """Pods of one namespace with the same labels, all of them terminating or none."""

    __slots__ = ("groups", "labels", "matched", "matched_at", "namespace", "rows", "terminating")

    def __init__(self, key: ClassKey) -> None:
        self.namespace, labels, self.terminating = key
        self.labels = dict(labels)
        self.rows: dict[int, int] = {}
        self.groups: list[Group] = []
        self.matched: tuple[Owned, ...] = ()
        self.matched_at = -1


class Group:
    """Placed pods that all of some targets select; with `living`, only those that are not terminating."""

    __slots__ = ("living", "rows", "tallies", "targets")

    def __init__(self, targets: tuple[Target, ...], living: bool) -> None:
        self.targets = targets
        self.living = living
        self.rows: dict[int, int] = {}
        self.tallies: list[Tally] = []

    def add(self, row: int, count: int) -> None:
        total = self.rows.get(row, 0) + count
        if total:
            self.rows[row] = total
        else:
            self.rows.pop(row, None)
        for tally in self.tallies:
            tally.add(row, count)


class Tally:
    """Counts per value of a label. Read through `Counts.fresh`."""

    __slots__ = ("column", "eligible", "present", "rows", "totals", "version")

    def __init__(self, column: LabelColumn, rows: Mapping[int, int], eligible: Mask | None = None) -> None:
        """`rows` is the live count per row of whoever owns the tally."""
        self.column = column
        self.rows = rows
        self.eligible = eligible
        self.totals: Vector = np.zeros(1, np.int64)
        self.present: Mask = np.zeros(1, np.bool_)
        """Values that some node has."""
        self.version = -1

    def add(self, row: int, count: int) -> None:
        if self.eligible is not None and not self.eligible[row]:
            return
        number = self.column.ids[row]
        if number >= 0 and number < len(self.totals) - 1:
            self.totals[number] += count

    def rebuild(self, alive: Mask) -> None:
        """Count again from the rows that have pods."""
        rows = self.rows
        counted = alive if self.eligible is None else alive & self.eligible
        size = len(self.column.values) + 1
        self.totals = np.zeros(size, np.int64)
        self.present = np.zeros(size, np.bool_)
        self.present[self.column.ids[counted]] = True
        self.present[-1] = False
        if rows:
            at = np.fromiter(rows.keys(), np.intp, len(rows))
            counts = np.fromiter(rows.values(), np.int64, len(rows))
            keep = counted[at]
            np.add.at(self.totals, self.column.ids[at[keep]], counts[keep])
            self.totals[-1] = 0


class Owned:
    """Placed pods with one term: `rows` has their number, or the sum of their weights."""

    __slots__ = ("kind", "rows", "tally", "target", "topology", "users")

    def __init__(self, kind: str, target: Target, topology: str, column: LabelColumn) -> None:
        self.kind = kind
        self.target = target
        self.topology = topology
        self.rows: dict[int, int] = {}
        self.users = 0
        self.tally = Tally(column, self.rows)


class Counts:
    """All of them. `Columns` tells it of pods and nodes."""

    def __init__(self, label: Callable[[str], LabelColumn]) -> None:
        """`label` gives the column of a label."""
        self.version = 0
        """Grows when a label, taint or the presence of a node changes."""
        self.epoch = 0
        """Grows when groups were dropped."""
        self.namespaces: dict[str, dict[str, str]] = {}
        self.column = label
        self._classes: dict[ClassKey, PodClass] = {}
        self._groups: dict[tuple[tuple[Target, ...], bool], Group] = {}
        self._tallies: dict[tuple[Any, ...], Tally] = {}
        self._owned: dict[tuple[str, Target, str], Owned] = {}
        self._owned_version = 0

    # ── what columns tell ───────────────────────────────────────────────────────────────────────────────

    def place(self, row: int, pod: PodInfo, sign: int) -> None:
        """Count a pod on `row` (1), or no more (-1)."""
        kind = self.class_of(pod)
        total = kind.rows.get(row, 0) + sign
        if total:
            kind.rows[row] = total
        else:
            kind.rows.pop(row, None)
        for group in kind.groups:
            group.add(row, sign)
        for kind_name, term in _owned_terms(pod) if pod.template.pod_affinity else ():
            self._own(kind_name, term, row, sign)

    def set_namespace(self, name: str, labels: dict[str, str] | None) -> bool:
        """A namespace appeared, changed or went; False when nothing differs."""
        if self.namespaces.get(name) == labels:
            return False
        if labels is None:
            del self.namespaces[name]
        else:
            self.namespaces[name] = labels
        self._owned_version += 1
        if any(not target.local for group in self._groups.values() for target in group.targets):
            self.drop()
        return True

    def drop(self) -> None:
        """Forget every group; they are counted anew when asked for."""
        self._groups.clear()
        self._tallies.clear()
        for key, kind in list(self._classes.items()):
            kind.groups = []
            if not kind.rows:
                del self._classes[key]
        self.epoch += 1

    def make_room(self) -> None:
        """Called before an evaluation asks for its tallies."""
        if len(self._tallies) > GROUPS_MAX or len(self._groups) > GROUPS_MAX:
            self.drop()
        elif len(self._classes) > CLASSES_MAX and len(self._classes) > 2 * sum(
            bool(kind.rows) for kind in self._classes.values()
        ):
            self._classes = {key: kind for key, kind in self._classes.items() if kind.rows}

    # ── what rules ask ──────────────────────────────────────────────────────────────────────────────────

    def class_of(self, pod: PodInfo) -> PodClass:
        key = (pod.namespace, frozenset(pod.labels.items()), pod.terminating)
        kind = self._classes.get(key)
        if kind is None:
            kind = self._classes[key] = PodClass(key)
            kind.groups = [group for group in self._groups.values() if self._selects(group, kind)]
        return kind

    def owned(self, pod: PodInfo) -> tuple[Owned, ...]:
        """Terms of placed pods that select this one."""
        kind = self.class_of(pod)
        if kind.matched_at != self._owned_version:
            kind.matched = tuple(term for term in self._owned.values() if self._reaches(term.target, kind))
            kind.matched_at = self._owned_version
        return kind.matched

    @property
    def owned_version(self) -> int:
        """Grows when the set of terms that placed pods have changes."""
        return self._owned_version

    def matches(self, target: Target, pod: PodInfo) -> bool:
        return self._reaches(target, self.class_of(pod))

    def tally(
        self, targets: tuple[Target, ...], topology: str, *, living: bool = False,
        eligible: Mask | None = None, nodes: bytes = b"",
    ) -> Tally:  # fmt: skip
        """The counts of placed pods that `targets` select, by the values of the label `topology`. `nodes` names
        what makes nodes `eligible`, so that those who ask the same share."""
        key = (targets, topology, living, nodes)
        tally = self._tallies.get(key)
        if tally is None:
            group = self._group(targets, living)
            tally = self._tallies[key] = Tally(self.column(topology), group.rows, eligible)
            group.tallies.append(tally)
        if eligible is not None:
            tally.eligible = eligible
        return tally

    def fresh(self, tally: Tally, alive: Mask) -> Vector:
        """The totals of a tally, counted again when nodes changed."""
        if tally.version != self.version or len(tally.totals) <= len(tally.column.values):
            tally.rebuild(alive)
            tally.version = self.version
        return tally.totals

    def snapshot(self) -> dict[str, Any]:
        """Everything counted, for comparing two ways to the same state."""
        classes = {
            (k.namespace, frozenset(k.labels.items()), k.terminating): dict(k.rows)
            for k in self._classes.values()
            if k.rows
        }
        owned = {key: (dict(term.rows), term.users) for key, term in self._owned.items()}
        return {"classes": classes, "owned": owned}

    # ── inside ──────────────────────────────────────────────────────────────────────────────────────────

    def _group(self, targets: tuple[Target, ...], living: bool) -> Group:
        group = self._groups.get((targets, living))
        if group is None:
            group = self._groups[targets, living] = Group(targets, living)
            for kind in self._classes.values():
                if self._selects(group, kind):
                    kind.groups.append(group)
                    for row, count in kind.rows.items():
                        group.add(row, count)
        return group

    def _selects(self, group: Group, kind: PodClass) -> bool:
        if group.living and kind.terminating:
            return False
        return all(self._reaches(target, kind) for target in group.targets)

    def _reaches(self, target: Target, kind: PodClass) -> bool:
        if kind.namespace not in target.namespaces:
            labels = self.namespaces.get(kind.namespace, {})
            if target.others.nothing or not target.others.matches(labels):
                return False
        return target.selector.matches(kind.labels)

    def _own(self, kind: str, term: Term, row: int, sign: int) -> None:
        key = (kind, term.target, term.topology)
        owned = self._owned.get(key)
        if owned is None:
            owned = self._owned[key] = Owned(kind, term.target, term.topology, self.column(term.topology))
            self._owned_version += 1
        owned.users += sign
        amount = sign * (term.weight or 1)
        total = owned.rows.get(row, 0) + amount
        if total:
            owned.rows[row] = total
        else:
            owned.rows.pop(row, None)
        owned.tally.add(row, amount)
        if not owned.users:
            del self._owned[key]
            self._owned_version += 1


def _owned_terms(pod: PodInfo) -> Iterator[tuple[str, Term]]:
    """None of a pod whose selectors can't be read: it was placed by somebody who read them otherwise."""
    try:
        terms = pod.terms
    except BadRequest:
        return
    yield from ((ANTI, term) for term in terms.anti)
    yield from ((HARD, term) for term in terms.affinity)
    yield from ((SOFT, term) for term in terms.preferred)
