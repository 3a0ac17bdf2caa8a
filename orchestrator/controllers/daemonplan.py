"""What a DaemonSet does next, from its nodes and pods. Pure; called by `daemonset`, whose rules 3 to 6 it states.

3. Each node that fits has one pod, each that does not may keep it as long as no taint drives it away. While a pod
   terminates the place is taken; with a surge it is not. Of several pods the oldest stays, scheduled ones first.
4. A pod that ended is deleted, a failed one not more often than its back-off allows.
5. RollingUpdate without surge deletes old pods: unavailable ones all, others as long as no more than maxUnavailable
   nodes are without an available pod. With surge it adds new pods beside old ones, for unavailable ones at once, for
   others at most maxSurge at a time, and deletes an old one when the new one is available.
6. Status counts nodes, by the oldest pod of each.
"""

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from orchestrator.api.item import Item, Object
from orchestrator.controllers.daemonnodes import Fit
from orchestrator.controllers.objects import without
from orchestrator.controllers.revisions import HASH_LABEL
from orchestrator.controllers.views import available_in_s, pod_view


class DaemonPod(NamedTuple):
    """A pod as far as it matters here; `new` is of the current template."""

    item: Item
    bound: bool
    created: str
    phase: str
    terminating: bool
    new: bool
    ready: bool
    wait_s: float
    """Until a ready pod is available."""

    @property
    def available(self) -> bool:
        return self.ready and self.wait_s == 0


@dataclass(frozen=True, slots=True)
class Seen:
    """Every node with its fit, pods by the node that they run on or name, and for how long a node is in back-off."""

    fits: Mapping[str, Fit]
    pods: Mapping[str, list[DaemonPod]]
    held: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Plan:
    """Nodes to make pods for, pods to delete; `failed` and `succeeded` are those deleted for rule 4, with their node.
    Mutable only while it is being made."""

    create: list[str] = field(default_factory=list)
    delete: list[Item] = field(default_factory=list)
    failed: list[tuple[str, Item]] = field(default_factory=list)
    succeeded: list[tuple[str, Item]] = field(default_factory=list)
    look_again_s: float | None = None


def daemon_pod(item: Item, digest: str, gone: Container[str], ready_s: int, now_s: float) -> DaemonPod:
    """`digest` names the current template; `gone` are uids deleted though the cache does not show it."""
    view, meta = pod_view(item), item.meta
    ready = view.ready
    return DaemonPod(
        item,
        bool(view.spec.node_name),
        view.metadata.creation_timestamp,
        view.status.phase,
        bool(meta.deletion_timestamp) or meta.uid in gone,
        item.labels.get(HASH_LABEL) == digest,
        ready,
        available_in_s(view, ready_s, now_s) if ready else 0.0,
    )


def plan(daemon_set: Object, seen: Seen) -> Plan:
    """Rules 3 to 5. A rollout goes on when everything else is as it should be."""
    steps = manage(seen, surge=_limits(daemon_set, 1)[0] > 0)
    if not steps.create and not steps.delete and _rolls(daemon_set):
        _roll(steps, daemon_set, seen)
    waits = [pod.wait_s for pods in seen.pods.values() for pod in pods if pod.ready and pod.wait_s > 0]
    steps.look_again_s = min([*waits, *seen.held.values()], default=None)
    return steps


def manage(seen: Seen, *, surge: bool) -> Plan:
    """Rules 3 and 4."""
    steps = Plan()
    for node, fit in seen.fits.items():
        pods = seen.pods.get(node)
        if not pods:
            if fit.run:
                steps.create.append(node)
        elif fit.stay:
            _manage_node(steps, node, fit, pods, seen, surge=surge)
        else:
            steps.delete += [pod.item for pod in pods if not pod.terminating]
    for node, pods in seen.pods.items():
        if node not in seen.fits:
            steps.delete += [pod.item for pod in pods if not pod.bound and not pod.terminating]
    return steps


def _manage_node(steps: Plan, node: str, fit: Fit, pods: list[DaemonPod], seen: Seen, *, surge: bool) -> None:
    running = []
    for pod in pods:
        if pod.terminating:
            continue
        if pod.phase == "Failed":
            if node not in seen.held:
                steps.failed.append((node, pod.item))
                steps.delete.append(pod.item)
        elif pod.phase == "Succeeded":
            steps.succeeded.append((node, pod.item))
            steps.delete.append(pod.item)
        else:
            running.append(pod)
    running.sort(key=_age)
    if not surge:
        steps.delete += [pod.item for pod in running[1:]]
    elif not running:
        if fit.run:
            steps.create.append(node)
    else:
        steps.delete += _surplus_of_surge(running)


def _surplus_of_surge(running: list[DaemonPod]) -> list[Item]:
    """Two may be there: a new one that is not available yet beside an old one that is ready."""
    new = [pod for pod in running if pod.new]
    old = [pod for pod in running if not pod.new]
    surplus = [*new[1:], *old[1:]]
    if new and old and (not old[0].ready or new[0].available):
        surplus.append(old[0])
    return [pod.item for pod in surplus]


def _roll(steps: Plan, daemon_set: Object, seen: Seen) -> None:
    """Rule 5."""
    desired = sum(fit.run for fit in seen.fits.values())
    surge, unavailable = _limits(daemon_set, desired)
    nodes = {
        node: seen.pods.get(node) or [] for node, fit in seen.fits.items() if fit.run or node in seen.pods
    }
    pairs = {node: _pair(pods) for node, pods in nodes.items()}
    if surge:
        _roll_with_surge(steps, seen, pairs, surge, desired)
    else:
        _roll_in_place(steps, pairs, unavailable)


class _Pair(NamedTuple):
    """The new and the old pod of a node; not `clear` while there are more of a kind."""

    new: DaemonPod | None
    old: DaemonPod | None
    clear: bool = True


def _pair(pods: list[DaemonPod]) -> _Pair:
    new = [pod for pod in pods if pod.new and not pod.terminating]
    old = [pod for pod in pods if not pod.new and not pod.terminating]
    if len(new) > 1 or len(old) > 1:
        return _Pair(None, None, clear=False)
    return _Pair(new[0] if new else None, old[0] if old else None)


def _roll_in_place(steps: Plan, pairs: Mapping[str, _Pair], limit: int) -> None:
    unavailable, candidates = 0, []
    for pair in pairs.values():
        if pair.old is not None and pair.new is None:
            if pair.old.available:
                candidates.append(pair.old.item)
                continue
            steps.delete.append(pair.old.item)
        elif pair.new is not None and pair.old is None and pair.new.available:
            continue
        unavailable += 1
    steps.delete += candidates[: max(limit - unavailable, 0)]


def _roll_with_surge(steps: Plan, seen: Seen, pairs: Mapping[str, _Pair], limit: int, desired: int) -> None:
    surging, available = 0, 0
    candidates: list[str] = []
    leaving: list[Item] = []
    for node, (new, old, clear) in pairs.items():
        if not clear:
            surging += 1
            continue
        shown = old or new
        available += shown is not None and shown.available
        if old is None:
            continue
        if new is not None:
            if new.available:
                steps.delete.append(old.item)
            else:
                surging += 1
        elif seen.fits[node].run:
            (candidates if old.available else steps.create).append(node)
        elif old.available:
            leaving.append(old.item)
        else:
            steps.delete.append(old.item)
    steps.delete += leaving[: max(available - desired, 0)]
    steps.create += candidates[: max(limit - surging, 0)]


def counts(seen: Seen) -> dict[str, int]:
    """Rule 6."""
    found = dict.fromkeys(_COUNTERS, 0)
    for node, fit in seen.fits.items():
        pods = seen.pods.get(node)
        if not fit.run:
            found["numberMisscheduled"] += bool(pods)
            continue
        found["desiredNumberScheduled"] += 1
        if pods:
            oldest = min(pods, key=_age)
            found["currentNumberScheduled"] += 1
            found["numberReady"] += oldest.ready
            found["numberAvailable"] += oldest.available
            found["updatedNumberScheduled"] += oldest.new
    found["numberUnavailable"] = found["desiredNumberScheduled"] - found["numberAvailable"]
    return found


_ALWAYS = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
_COUNTERS = (*_ALWAYS, "updatedNumberScheduled", "numberAvailable", "numberUnavailable")


def status(daemon_set: Object, seen: Seen) -> Object:
    """The whole new status; what others wrote into it, conditions say, stays."""
    new = without(daemon_set.get("status") or {}, *_COUNTERS)
    new |= {name: count for name, count in counts(seen).items() if count or name in _ALWAYS}
    new["observedGeneration"] = daemon_set["metadata"].get("generation", 0)
    return new


def _age(pod: DaemonPod) -> tuple[bool, str, str]:
    """Sorts the pod to keep first."""
    return not pod.bound, pod.created, pod.item.meta.name


def _rolls(daemon_set: Object) -> bool:
    return bool(daemon_set["spec"]["updateStrategy"].get("type") != "OnDelete")


def _limits(daemon_set: Object, desired: int) -> tuple[int, int]:
    """maxSurge and maxUnavailable among `desired` nodes; both 0 would never move."""
    if not _rolls(daemon_set):
        return 0, 0
    rolling = daemon_set["spec"]["updateStrategy"].get("rollingUpdate") or {}
    surge, unavailable = (_portion(rolling.get(name, 0), desired) for name in ("maxSurge", "maxUnavailable"))
    return surge, unavailable if surge or unavailable else 1


def _portion(value: int | str, whole: int) -> int:
    """`3` as it is, `25%` of `whole` rounded up."""
    return math.ceil(whole * int(value[:-1]) / 100) if isinstance(value, str) else value
