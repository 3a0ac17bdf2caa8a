"""What a rule is: a filter over columns, a score over columns, and the events that can change its answer.

A rule is pure and keeps nothing. `rows` is always an array of row numbers; answers are aligned with it. Rows
that are no nodes may get any answer. Adding a rule (spread, affinity, volumes) means adding it to the list
in `orchestrator.scheduler.decide`.
"""

from collections import Counter
from enum import Enum
from typing import Literal, Protocol

from orchestrator.scheduler.rules.columns import Columns, Mask, Rows, Vector
from orchestrator.scheduler.rules.infos import PodInfo

SCORE_MAX = 100


class ClusterEvent(Enum):
    """What can make an unschedulable pod fit."""

    NODE_ADDED = "node added"
    NODE_ALLOCATABLE = "node allocatable"
    NODE_LABELS = "node labels"
    NODE_TAINTS = "node taints"
    NODE_SCHEDULABLE = "node schedulable"
    POD_REMOVED = "pod removed"


class Filter(Protocol):
    """Says which nodes a pod can run on."""

    @property
    def name(self) -> str:
        """The plugin's name in Kubernetes."""

    @property
    def dynamic(self) -> bool:
        """Whether placing pods changes the answer; else only the node itself does."""

    @property
    def helped_by(self) -> frozenset[ClusterEvent]: ...

    def applies(self, pod: PodInfo) -> bool:
        """False when the filter passes every node for this pod."""

    def filter(self, columns: Columns, pod: PodInfo, rows: Rows) -> Mask: ...

    def reasons(self, columns: Columns, pod: PodInfo, rows: Rows) -> Counter[str]:
        """Why `rows`, all of which fail, do: number of nodes per text. A node may have several reasons."""


class Score(Protocol):
    """Says how good nodes are, 0 to 100 after normalising."""

    @property
    def name(self) -> str: ...

    @property
    def dynamic(self) -> bool: ...

    @property
    def weight(self) -> int: ...

    @property
    def normal(self) -> Literal["none", "up", "down"]:
        """`none`: raw scores are 0 to 100. Else scaled by the best feasible node; `down`: less is better."""

    def applies(self, columns: Columns, pod: PodInfo) -> bool:
        """False when every node scores the same."""

    def score(self, columns: Columns, pod: PodInfo, rows: Rows) -> Vector: ...
