"""The arithmetic of a Deployment's rollout: which ReplicaSet gets how many pods. Pure; no clock, no API.

Invariants, as long as reported availability is true: never fewer available pods than
`replicas - maxUnavailable`, never more pods wanted than `replicas + maxSurge`.
Called by `orchestrator.controllers.deployment`.
"""

import math
import re
from typing import NamedTuple

from orchestrator.api.item import Object

REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"

_count = re.compile("[0-9]{1,18}").fullmatch

Sizes = dict[str, int]
"""New `spec.replicas` by ReplicaSet name; sets that keep their size may be left out."""


class Bounds(NamedTuple):
    """Of one Deployment, with percents resolved."""

    replicas: int
    surge: int
    unavailable: int

    @property
    def total_max(self) -> int:
        return self.replicas + self.surge

    @property
    def available_min(self) -> int:
        return self.replicas - self.unavailable


def bounds(deployment: Object) -> Bounds:
    """Percents round up for surge and down for unavailable; both 0 would never move, so one may be missing."""
    spec = deployment["spec"]
    replicas = spec.get("replicas", 1)
    strategy = spec.get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return Bounds(replicas, 0, 0)
    rolling = strategy.get("rollingUpdate") or {}
    surge = math.ceil(_portion(rolling.get("maxSurge", "25%"), replicas))
    unavailable = math.floor(_portion(rolling.get("maxUnavailable", "25%"), replicas))
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return Bounds(replicas, surge, min(unavailable, replicas))


def _portion(value: int | str, whole: int) -> float:
    """`3` as it is, `25%` of `whole`."""
    return whole * int(value[:-1]) / 100 if isinstance(value, str) else value


def size(replica_set: Object) -> int:
    """Wanted pods."""
    return int(replica_set["spec"].get("replicas", 1))


def available(replica_set: Object) -> int:
    """Available pods, as reported; never more than wanted, because a report may lag behind a scale-down."""
    return min(int((replica_set.get("status") or {}).get("availableReplicas", 0)), size(replica_set))


def annotated(replica_set: Object, name: str) -> int | None:
    """An annotation that holds a count of at most 18 digits, or None."""
    text = (replica_set["metadata"].get("annotations") or {}).get(name, "")
    return int(text) if _count(text) else None


def new_set_size(limits: Bounds, recreate: bool, new: Object | None, sets: list[Object]) -> int:
    """How many pods the new set shall have now; `sets` are all, the new one included when it exists."""
    now = size(new) if new is not None else 0
    if now >= limits.replicas or recreate:
        return limits.replicas
    room = limits.total_max - sum(map(size, sets))
    return now + max(0, min(room, limits.replicas - now))


def old_set_sizes(limits: Bounds, new: Object, old: list[Object]) -> Sizes:
    """Shrink old sets as far as availability allows: unhealthy pods first, then the oldest sets."""
    total = sum(map(size, old))
    new_unavailable = size(new) - available(new)
    spare = total + size(new) - limits.available_min - new_unavailable
    if total == 0 or spare <= 0:
        return {}
    by_age = sorted(old, key=age_order)
    sizes = {_name(replica_set): size(replica_set) for replica_set in by_age}
    for replica_set in by_age:
        sick = min(spare, size(replica_set) - available(replica_set))
        sizes[_name(replica_set)] -= sick
        spare -= sick
    healthy = sum(map(available, old)) + available(new) - limits.available_min
    for replica_set in by_age:
        cut = max(0, min(healthy, sizes[_name(replica_set)]))
        sizes[_name(replica_set)] -= cut
        healthy -= cut
    return sizes


def scaled_sizes(limits: Bounds, new: Object | None, old: list[Object], status_replicas: int) -> Sizes:
    """Sizes after `replicas` of the Deployment changed, without moving the rollout on.

    One active set takes everything; a complete new set empties the others; else each gets its share.
    """
    sets = [*old, new] if new is not None else old
    active = [replica_set for replica_set in sets if size(replica_set) > 0]
    if len(active) <= 1:
        latest = active[0] if active else new or max(old, key=age_order, default=None)
        return {_name(latest): limits.replicas} if latest is not None else {}
    if new is not None and _saturated(limits, new):
        return {_name(replica_set): 0 for replica_set in old}
    return _shares(limits, active, status_replicas)


def _saturated(limits: Bounds, new: Object) -> bool:
    return size(new) == limits.replicas == annotated(new, DESIRED) == available(new)


def _shares(limits: Bounds, active: list[Object], status_replicas: int) -> Sizes:
    """Proportional scaling: larger sets first; newer ones when growing, older ones when shrinking."""
    total = sum(map(size, active))
    allowed = limits.total_max if limits.replicas > 0 else 0
    change = allowed - total
    ordered = sorted(active, key=age_order, reverse=change > 0)
    ordered.sort(key=size, reverse=True)
    sizes, rest = {}, change
    for replica_set in ordered:
        share = _share(limits, replica_set, status_replicas)
        share = min(max(share, 0), rest) if change > 0 else max(min(share, 0), rest)
        sizes[_name(replica_set)] = size(replica_set) + share
        rest -= share
    first = _name(ordered[0])
    sizes[first] = max(0, sizes[first] + rest)
    return sizes


def _share(limits: Bounds, replica_set: Object, status_replicas: int) -> int:
    """How many pods the set gains when its part of the whole stays the same."""
    if limits.replicas == 0:
        return -size(replica_set)
    whole = annotated(replica_set, MAXIMUM) or status_replicas
    if not whole:
        return 0
    return math.floor(size(replica_set) * limits.total_max / whole + 0.5) - size(replica_set)


def age_order(replica_set: Object) -> tuple[str, str]:
    """Sorts the oldest first."""
    return replica_set["metadata"].get("creationTimestamp", ""), _name(replica_set)


def _name(replica_set: Object) -> str:
    name: str = replica_set["metadata"]["name"]
    return name
