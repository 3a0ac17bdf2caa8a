"""What a StatefulSet does next, from its pods and revisions. Pure; called by `statefulset`, whose rules it states.

2. Every ordinal from `ordinals.start` on has a pod. One that ended is deleted and made anew. OrderedReady goes up
   one by one and waits until each pod is available; Parallel makes all at once.
3. What a pod or its claims lack is put right.
4. Pods beyond are deleted, the highest first; OrderedReady waits for each to end, and for the others to be healthy.
5. Places below `partition` are made from the current revision, others from the update revision.
6. RollingUpdate deletes pods of another revision down to `partition`, the highest first, at most `maxUnavailable`
   at a time. Parallel first replaces those that are unavailable anyway, however many. OnDelete deletes none.
7. The update revision becomes the current one when all pods have it and are ready.
8. Status counts pods, ready, available (ready for minReadySeconds) and per revision.
"""

from collections.abc import Container
from dataclasses import dataclass
from typing import Literal, NamedTuple

from orchestrator.api.item import Item, Object
from orchestrator.controllers.objects import without
from orchestrator.controllers.revisions import HASH_LABEL
from orchestrator.controllers.statefulpods import ordinals, place_of, pod_name
from orchestrator.controllers.views import available_in_s, pod_view


@dataclass(frozen=True, slots=True)
class Revisions:
    """The two templates of a set: `ControllerRevision`s, and how often a name was taken."""

    current: Object
    update: Object
    collisions: int

    def by_name(self, name: str) -> Object:
        return self.current if name == self.names[0] else self.update

    @property
    def names(self) -> tuple[str, str]:
        return self.current["metadata"]["name"], self.update["metadata"]["name"]


class Member(NamedTuple):
    """One place of the set. Without a pod, `revision` is what it shall be made from."""

    ordinal: int
    name: str
    revision: str
    pod: Item | None = None
    terminating: bool = False
    ended: bool = False
    pending: bool = False
    ready: bool = False
    wait_s: float = 0.0
    """Until a ready pod is available."""

    @property
    def available(self) -> bool:
        return self.ready and self.wait_s == 0

    @property
    def usable(self) -> bool:
        """Available, and to stay."""
        return self.available and not self.terminating


@dataclass(frozen=True, slots=True)
class Places:
    """`replicas` in order, one per wanted ordinal; `condemned` pods beyond, the highest first."""

    replicas: list[Member]
    condemned: list[Member]

    @property
    def all(self) -> list[Member]:
        return [*self.replicas, *self.condemned]


@dataclass(frozen=True, slots=True)
class Observed:
    """Names of pods: `unkempt` lack what rule 3 says, `lacking` are pending without a claim, `blocked` must not be
    made because an earlier pod's claim has to go first."""

    unkempt: Container[str] = ()
    lacking: Container[str] = ()
    blocked: Container[str] = ()


class Step(NamedTuple):
    verb: Literal["create", "claims", "tidy", "own", "delete"]
    member: Member


def members(
    stateful_set: Object, revisions: Revisions, pods: list[Item], gone: Container[str], now_s: float
) -> Places:
    """The set's pods by place; `gone` are uids of pods that were deleted though the cache does not show it."""
    wanted, name = ordinals(stateful_set), stateful_set["metadata"]["name"]
    ready_s = stateful_set["spec"].get("minReadySeconds", 0)
    found, condemned = {}, []
    for pod in pods:
        owner, ordinal = place_of(pod.meta.name) or ("", -1)
        if owner != name:
            continue
        member = _member(ordinal, pod, gone, ready_s, now_s)
        if ordinal in wanted:
            found[ordinal] = member
        else:
            condemned.append(member)
    replicas = [
        found.get(ordinal) or _absent(stateful_set, revisions, ordinal, ordinal - wanted.start)
        for ordinal in wanted
    ]
    return Places(replicas, sorted(condemned, key=lambda member: -member.ordinal))


def _member(ordinal: int, pod: Item, gone: Container[str], ready_s: int, now_s: float) -> Member:
    view, meta = pod_view(pod), pod.meta
    phase, ready = view.status.phase, view.ready
    return Member(
        ordinal,
        meta.name,
        pod.labels.get(HASH_LABEL, ""),
        pod,
        terminating=bool(meta.deletion_timestamp) or meta.uid in gone,
        ended=view.finished,
        pending=phase == "Pending",
        ready=ready and phase == "Running",
        wait_s=available_in_s(view, ready_s, now_s) if ready else 0.0,
    )


def _absent(stateful_set: Object, revisions: Revisions, ordinal: int, index: int) -> Member:
    """Rule 5."""
    rolling = stateful_set["spec"]["updateStrategy"].get("rollingUpdate") or {}
    current, update = revisions.names
    revision = current if index < rolling.get("partition", 0) else update
    return Member(ordinal, pod_name(stateful_set["metadata"]["name"], ordinal), revision)


def plan(stateful_set: Object, revisions: Revisions, places: Places, seen: Observed) -> list[list[Step]]:
    """Rules 2 to 6: stages of steps; a stage follows only if the one before it went well."""
    ordered = stateful_set["spec"].get("podManagementPolicy") != "Parallel"
    steps, halted = _replica_steps(places.replicas, seen, ordered=ordered)
    stages = [steps]
    if halted:
        return stages
    stages.append([Step("own", m) for m in places.condemned if m.name in seen.unkempt])
    stages.append([Step("delete", m) for m in _scaled_down(places, ordered=ordered)])
    if ordered and places.condemned:
        return stages
    if stateful_set["spec"]["updateStrategy"].get("type") != "OnDelete":
        outdated = _outdated(stateful_set, revisions, places.replicas, ordered=ordered)
        stages.append([Step("delete", m) for m in outdated])
    return stages


def _replica_steps(replicas: list[Member], seen: Observed, *, ordered: bool) -> tuple[list[Step], bool]:
    """Rules 2 and 3; the second value is whether nothing else may happen yet."""
    steps: list[Step] = []
    for member in replicas:
        blocks = True
        if member.ended:
            if not member.terminating:
                steps.append(Step("delete", member))
        elif member.pod is None:
            if member.name not in seen.blocked:
                steps.append(Step("create", member))
        else:
            if member.name in seen.lacking:
                steps.append(Step("claims", member))
            blocks = not member.usable
            if member.name in seen.unkempt and not (ordered and blocks):
                steps.append(Step("tidy", member))
        if ordered and blocks:
            return steps, True
    return steps, False


def _scaled_down(places: Places, *, ordered: bool) -> list[Member]:
    """Rule 4."""
    if not ordered:
        return [member for member in places.condemned if not member.terminating]
    if not places.condemned:
        return []
    sick = [m for m in (*places.replicas, *reversed(places.condemned)) if not m.usable]
    member = places.condemned[0]
    if member.terminating or (not member.available and member is not sick[0]):
        return []
    return [member]


def _outdated(
    stateful_set: Object, revisions: Revisions, replicas: list[Member], *, ordered: bool
) -> list[Member]:
    """Rule 6: pods to delete for an update, the highest first."""
    rolling = stateful_set["spec"]["updateStrategy"].get("rollingUpdate") or {}
    budget = max_unavailable(rolling.get("maxUnavailable", 1), len(replicas))
    budget -= sum(not member.usable for member in replicas)
    update = revisions.names[1]
    old = [
        member
        for member in reversed(replicas[rolling.get("partition", 0) :])
        if member.revision != update and member.pod is not None and not member.terminating
    ]
    if ordered:
        return old[: max(budget, 0)]
    sick = [member for member in old if not member.available and not member.ended]
    return sick + [member for member in old if member.available][: max(budget, 0)]


def max_unavailable(value: int | str, replicas: int) -> int:
    """Percents round down, but at least one pod is replaced at a time."""
    share = replicas * int(value[:-1]) // 100 if isinstance(value, str) else value
    return max(share, 1)


def status(stateful_set: Object, revisions: Revisions, places: Places) -> Object:
    """Rules 7 and 8: the whole new status; what others wrote into it, conditions say, stays."""
    pods = [member for member in places.all if member.pod is not None]
    staying = [member.revision for member in pods if not member.terminating]
    current, update = revisions.names
    counts = {
        "replicas": len(pods),
        "readyReplicas": sum(member.ready for member in pods),
        "availableReplicas": sum(member.available for member in pods),
        "currentReplicas": staying.count(current),
        "updatedReplicas": staying.count(update),
    }
    if _complete(stateful_set, counts):
        current, counts["currentReplicas"] = update, counts["updatedReplicas"]
    old = stateful_set.get("status") or {}
    new = without(old, *counts)
    new |= {name: count for name, count in counts.items() if count or name in _ALWAYS}
    new["observedGeneration"] = stateful_set["metadata"].get("generation", 0)
    new["collisionCount"] = revisions.collisions
    return new | {"currentRevision": current, "updateRevision": update}


_ALWAYS = ("replicas", "availableReplicas")


def _complete(stateful_set: Object, counts: dict[str, int]) -> bool:
    if stateful_set["spec"]["updateStrategy"].get("type") == "OnDelete":
        return False
    wanted = stateful_set["spec"].get("replicas", 1)
    return all(counts[name] == wanted for name in ("replicas", "readyReplicas", "updatedReplicas"))
