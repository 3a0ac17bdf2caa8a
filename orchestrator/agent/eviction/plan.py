"""From what is left of the node's resources to the thresholds that act and the pressures that show. Pure.

Rules:
1. A threshold is met below its value; one that acts stays met until its amount to reclaim is free on top.
2. A soft threshold acts when it was met without a break for its grace period; a hard one at once.
3. A pressure shows from the first threshold met, and for the transition period after the last was.
4. Memory goes before everything else; hard thresholds go before soft ones.
Called by the manager, which keeps the `State`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.agent.eviction.thresholds import CONDITIONS, MEMORY, Observation, Threshold, met


@dataclass(frozen=True, slots=True)
class State:
    """What the last look left behind; times in seconds of one clock."""

    first_s: Mapping[Threshold, float] = field(default_factory=dict)
    """Since when each threshold is met."""
    acting: tuple[Threshold, ...] = ()
    observed_s: Mapping[str, float] = field(default_factory=dict)
    """When each pressure was last seen."""
    pressures: frozenset[str] = frozenset()


def advance(
    state: State,
    thresholds: Sequence[Threshold],
    seen: Mapping[str, Observation],
    now_s: float,
    transition_s: float,
) -> State:
    """The state after a look; its `acting` thresholds are in the order in which to reclaim."""
    below = [
        threshold
        for threshold in thresholds
        if met(threshold, seen.get(threshold.signal), with_reclaim=threshold in state.acting)
    ]
    first_s = {threshold: state.first_s.get(threshold, now_s) for threshold in below}
    observed_s = {**state.observed_s, **{CONDITIONS[each.signal]: now_s for each in below}}
    shown = frozenset(
        kind for kind, last_s in observed_s.items() if last_s == now_s or now_s - last_s < transition_s
    )
    acting = [threshold for threshold in below if now_s - first_s[threshold] >= threshold.grace_s]
    acting.sort(key=lambda threshold: (threshold.signal != MEMORY, not threshold.hard))
    kept_s = {kind: last_s for kind, last_s in observed_s.items() if kind in shown}
    return State(first_s, tuple(acting), kept_s, shown)


def still_low(thresholds: Sequence[Threshold], seen: Mapping[str, Observation]) -> bool:
    """Whether anything is to be reclaimed after a reclaim, the least amounts included."""
    return any(met(threshold, seen.get(threshold.signal), with_reclaim=True) for threshold in thresholds)
