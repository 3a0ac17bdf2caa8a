"""Which rules a scheduler runs, in which order, with which weights: the profiles. Pure but for loading plugins.

The default is that of Kubernetes v1.36: filters in the order in which they give their reasons, scores by weight. A
profile of the configuration turns plugins off, gives them other weights or arguments, and adds those that packages
offer under the entry point group `orchestrator.scheduler` (a callable from arguments to a list of rules).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from orchestrator.base.errors import OrchestratorError
from orchestrator.scheduler.rules.affinity import NodeAffinity, PreferredNodeAffinity
from orchestrator.scheduler.rules.images import ImageLocality
from orchestrator.scheduler.rules.infos import DEFAULT_SCHEDULER
from orchestrator.scheduler.rules.interface import ClusterEvent, Filter, Score
from orchestrator.scheduler.rules.interpod import InterPodFilter, InterPodScore
from orchestrator.scheduler.rules.nodes import NodeName, NodeUnschedulable
from orchestrator.scheduler.rules.ports import NodePorts
from orchestrator.scheduler.rules.resources import (
    BalancedAllocation,
    Fit,
    LeastAllocated,
    MostAllocated,
    RequestedToCapacityRatio,
)
from orchestrator.scheduler.rules.spread import DEFAULTS, SelectorOf, SpreadFilter, SpreadScore
from orchestrator.scheduler.rules.taints import PreferNoSchedule, TaintToleration
from orchestrator.scheduler.rules.volumerules import (
    NodeVolumeLimits,
    VolumeBinding,
    VolumeRestrictions,
    VolumeZone,
)

ENTRY_POINTS = "orchestrator.scheduler"
WEIGHTS = {
    "TaintToleration": 3, "NodeAffinity": 2, "NodeResourcesFit": 1, "PodTopologySpread": 2, "InterPodAffinity": 2,
    "NodeResourcesBalancedAllocation": 1, "ImageLocality": 1,
}  # fmt: skip
"""Default weights of the plugins that score."""
FILTERS = frozenset(
    (
        "NodeUnschedulable", "NodeName", "TaintToleration", "NodeAffinity", "NodePorts", "NodeResourcesFit",
        "VolumeRestrictions", "NodeVolumeLimits", "VolumeBinding", "VolumeZone", "PodTopologySpread",
        "InterPodAffinity",
    )
)  # fmt: skip
"""The plugins that filter."""
PREEMPTION = "DefaultPreemption"


class ProfileError(OrchestratorError):
    """A profile that can't be used; says which plugin and why."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One scheduler name and what differs from the default."""

    name: str = DEFAULT_SCHEDULER
    disabled: frozenset[str] = frozenset()
    unfiltered: frozenset[str] = frozenset()
    """Plugins that do not filter; their scores go by `weights`."""
    weights: Mapping[str, int] = field(default_factory=dict)
    args: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Arguments by plugin, named as in Kubernetes' KubeSchedulerConfiguration."""


@dataclass(frozen=True, slots=True)
class Plugins:
    """The rules of one profile."""

    filters: tuple[Filter, ...]
    scores: tuple[Score, ...]
    companions: SelectorOf | None = None
    """What default spreading goes by."""

    @property
    def helped_by(self) -> dict[str, frozenset[ClusterEvent]]:
        """Queueing hints by filter name."""
        return {rule.name: rule.helped_by for rule in self.filters}


def default_plugins(companions: SelectorOf | None = None) -> Plugins:
    """The default profile."""
    return plugins_of(Profile(), companions)


def plugins_of(profile: Profile, companions: SelectorOf | None = None) -> Plugins:
    """The rules that a profile names. Raises `ProfileError`."""

    def args(name: str) -> Mapping[str, Any]:
        return profile.args.get(name) or {}

    def weight(name: str) -> int:
        return int(profile.weights.get(name, WEIGHTS.get(name, 1)))

    fit, added = args("NodeResourcesFit"), args("NodeAffinity").get("addedAffinity")
    filters: list[Filter] = [
        NodeUnschedulable(), NodeName(), TaintToleration(), NodeAffinity(added), NodePorts(),
        Fit(frozenset(fit.get("ignoredResources") or ()), frozenset(fit.get("ignoredResourceGroups") or ())),
        VolumeRestrictions(), NodeVolumeLimits(), VolumeBinding(), VolumeZone(), SpreadFilter(), InterPodFilter(),
    ]  # fmt: skip
    defaults = _spread_defaults(args("PodTopologySpread"))
    inter = args("InterPodAffinity")
    scores: list[Score] = [
        PreferNoSchedule(weight("TaintToleration")),
        PreferredNodeAffinity(added, weight("NodeAffinity")),
        _strategy(fit.get("scoringStrategy") or {}, weight("NodeResourcesFit")),
        SpreadScore(companions, defaults, weight("PodTopologySpread")),
        InterPodScore(
            int(inter.get("hardPodAffinityWeight", 1)), weight("InterPodAffinity"),
            bool(inter.get("ignorePreferredTermsOfExistingPods")),
        ),
        BalancedAllocation(
            _resources(args("NodeResourcesBalancedAllocation")), weight("NodeResourcesBalancedAllocation")
        ),
        ImageLocality(weight("ImageLocality")),
    ]  # fmt: skip
    for rule in _foreign(profile):
        (filters if hasattr(rule, "filter") else scores).append(rule)
    off = profile.disabled
    spread = companions if defaults and "PodTopologySpread" not in off else None
    return Plugins(
        tuple(rule for rule in filters if rule.name not in off | profile.unfiltered),
        tuple(rule for rule in scores if rule.name not in off and rule.weight),
        spread,
    )


def _resources(args: Mapping[str, Any]) -> list[tuple[str, int]]:
    given = args.get("resources") or ({"name": "cpu"}, {"name": "memory"})
    return [(entry["name"], int(entry.get("weight") or 1)) for entry in given]


_STRATEGIES: dict[str, Callable[[Mapping[str, Any], int], Score]] = {
    "LeastAllocated": lambda strategy, weight: LeastAllocated(_resources(strategy), weight),
    "MostAllocated": lambda strategy, weight: MostAllocated(_resources(strategy), weight),
    "RequestedToCapacityRatio": lambda strategy, weight: RequestedToCapacityRatio(
        [
            (int(point["utilization"]), int(point["score"]) * 10)
            for point in (strategy.get("requestedToCapacityRatio") or {}).get("shape") or ()
        ],
        _resources(strategy),
        weight,
    ),
}


def _strategy(strategy: Mapping[str, Any], weight: int) -> Score:
    kind = strategy.get("type") or "LeastAllocated"
    if kind not in _STRATEGIES:
        raise ProfileError(
            f"NodeResourcesFit: scoringStrategy.type: {kind!r} is none of {sorted(_STRATEGIES)}"
        )
    if kind == "RequestedToCapacityRatio" and not (strategy.get("requestedToCapacityRatio") or {}).get(
        "shape"
    ):
        raise ProfileError("NodeResourcesFit: requestedToCapacityRatio.shape must have at least one point")
    return _STRATEGIES[kind](strategy, weight)


def _spread_defaults(args: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """Default constraints; those of a list are scored, whatever they say when they can't be met."""
    if args.get("defaultingType", "System") == "System":
        return DEFAULTS
    return tuple(
        (entry["topologyKey"], int(entry.get("maxSkew") or 1))
        for entry in args.get("defaultConstraints") or ()
    )


def _foreign(profile: Profile) -> list[Any]:
    """Rules of other packages that the profile gives arguments or a weight, by entry point."""
    known = {*WEIGHTS, *_OWN}
    wanted = {name for name in (*profile.args, *profile.weights) if name not in known} - profile.disabled
    found: list[Any] = []
    for name in sorted(wanted):
        points = list(entry_points(group=ENTRY_POINTS, name=name))
        if not points:
            raise ProfileError(f"{name}: no such plugin, and no package offers it as {ENTRY_POINTS!r}")
        found += points[0].load()(dict(profile.args.get(name) or {}), int(profile.weights.get(name, 1)))
    return found


_OWN = frozenset(
    (
        "NodeUnschedulable", "NodeName", "NodePorts", "VolumeRestrictions", "NodeVolumeLimits", "VolumeBinding",
        "VolumeZone", "SchedulingGates", "PrioritySort", PREEMPTION, "DefaultBinder", "GangScheduling",
        "DynamicResources",
    )
)  # fmt: skip
