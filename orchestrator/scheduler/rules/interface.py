"""What a rule is: a filter over columns, a score over columns, and the events that can change its answer.

A rule is pure and keeps nothing between decisions. `rows` is always an array of row numbers of nodes; answers are
aligned with it. What a rule works out once per scheduling signature (parsed selectors, which counts it reads) it
returns from `prepare`, and gets back as `state`; that is thrown away when labels or taints of any node change.

`scope` says whose change alters an answer, and so how often the rule is asked:

- `NODE`: only the node itself. Asked for a row again when its node changed.
- `ROW`: the node and the pods on it. Asked for a row again when either changed: this is the repair that makes
  placing one pod cost one row.
- `DOMAIN`: anything, such as pods on other nodes (spread, affinity) or objects that are no nodes (volumes). Asked at
  each decision, with the rows that passed everything else: keep what it reads as counts (`rules/counts.py`).

A rule of scope `ROW` may also have `one(columns, pod, row, state)`, the same answer for one row as a plain value.

Adding a rule: a module in `rules/`, an instance in the table of `profiles.py`, its rules in the oracle of the tests.
"""

from collections import Counter
from enum import Enum
from typing import Any, Protocol

from orchestrator.scheduler.rules.columns import Columns, Mask, Rows, Vector
from orchestrator.scheduler.rules.infos import PodInfo

SCORE_MAX = 100


class Scope(Enum):
    NODE = "node"
    ROW = "row"
    DOMAIN = "domain"


class ClusterEvent(Enum):
    """What can make an unschedulable pod fit."""

    NODE_ADDED = "node added"
    NODE_ALLOCATABLE = "node allocatable"
    NODE_LABELS = "node labels"
    NODE_TAINTS = "node taints"
    NODE_SCHEDULABLE = "node schedulable"
    POD_ADDED = "pod added"
    """A pod got a node, from whomever: required affinity may be met now, or a spread be evener."""
    POD_REMOVED = "pod removed"
    POD_LABELS = "pod labels"
    NAMESPACE_LABELS = "namespace labels"
    VOLUME = "volume"
    """A volume, claim, class, or what a node's drivers can attach."""
    CLAIM = "claim"
    GROUP = "group"
    """A member of a pod group appeared."""


NODE_EVENTS = frozenset(
    (
        ClusterEvent.NODE_ADDED,
        ClusterEvent.NODE_LABELS,
        ClusterEvent.NODE_TAINTS,
    )
)
"""After which domains, and who may be in them, can differ."""


class Filter(Protocol):
    """Says which nodes a pod can run on."""

    @property
    def name(self) -> str:
        """The plugin's name in Kubernetes."""

    @property
    def scope(self) -> Scope: ...

    @property
    def helped_by(self) -> frozenset[ClusterEvent]:
        """Queueing hints: a pod that this filter refused is tried again only after one of these."""

    def applies(self, columns: Columns, pod: PodInfo) -> bool:
        """False when the filter passes every node for this pod, now and until a signature changes."""

    def prepare(self, columns: Columns, pod: PodInfo) -> Any: ...

    def filter(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Mask: ...

    def reasons(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Counter[str]:
        """Why `rows`, all of which fail, do: number of nodes per text. A node may have several reasons."""


class Score(Protocol):
    """Says how good nodes are."""

    @property
    def name(self) -> str: ...

    @property
    def scope(self) -> Scope: ...

    @property
    def weight(self) -> int: ...

    @property
    def normalised(self) -> bool:
        """False: `score` answers 0 to 100. True: it answers anything, and `normalise` is asked per decision."""

    def applies(self, columns: Columns, pod: PodInfo) -> bool:
        """False when every node scores the same."""

    def prepare(self, columns: Columns, pod: PodInfo) -> Any: ...

    def score(self, columns: Columns, pod: PodInfo, rows: Rows, state: Any) -> Vector:
        """Raw scores. In scope `DOMAIN`, `rows` are exactly the nodes that the pod fits."""

    def normalise(self, columns: Columns, raw: Vector, rows: Rows, state: Any) -> Vector:
        """0 to 100 from the raw scores of the nodes that the pod fits, which are `rows`."""


class Rule:
    """What most rules have in common; a base for convenience, not needed by the protocols."""

    normalised = False
    helped_by: frozenset[ClusterEvent] = frozenset()

    def prepare(self, columns: Columns, pod: PodInfo) -> Any:
        return None

    def normalise(self, columns: Columns, raw: Vector, rows: Rows, state: Any) -> Vector:
        return raw


def scaled_up(raw: Vector) -> Vector:
    """0 to 100 in proportion to the largest, as Kubernetes' default normalisation."""
    most = int(raw.max()) if len(raw) else 0
    return raw * SCORE_MAX // most if most else raw


def scaled_down(raw: Vector) -> Vector:
    """The same, reversed: less is better."""
    most = int(raw.max()) if len(raw) else 0
    return SCORE_MAX - raw * SCORE_MAX // most if most else raw + SCORE_MAX
