"""Pod groups: pods that run together or not at all. Pure; owner: the scheduler.

A pod names its group and how many of it are needed by the labels of the coscheduling plugin,
`pod-group.scheduling.sigs.k8s.io/name` and `…/min-available`. While fewer than that have a node, the scheduler
decides about all of the group's pending pods in one go: if enough of them fit all at once they are placed, else none.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.scheduler.rules.infos import PodInfo

NAME = "GangScheduling"
GROUP, LEAST = "pod-group.scheduling.sigs.k8s.io/name", "pod-group.scheduling.sigs.k8s.io/min-available"
_DIGITS_MAX = 6


@dataclass(frozen=True, slots=True)
class Group:
    """What a pod says of its group."""

    key: str
    least: int


def group_of(namespace: str, labels: Mapping[str, str]) -> Group | None:
    """None for a pod without one, or whose number can't be read: it is scheduled by itself."""
    name, least = labels.get(GROUP), labels.get(LEAST, "")
    if not name or not (least.isascii() and least.isdigit() and len(least) <= _DIGITS_MAX):
        return None
    return Group(f"{namespace}/{name}", int(least)) if int(least) > 1 else None


class Groups:
    """The pods of each group, and which of them have a node."""

    def __init__(self) -> None:
        self._members: dict[str, dict[str, bool]] = {}
        self._group: dict[str, str] = {}

    def note(self, pod: PodInfo, placed: bool) -> bool:
        """A pod exists, or was placed, or is no more placed; True when its group gained a member."""
        group = group_of(pod.namespace, pod.labels)
        if group is None:
            return False
        members = self._members.setdefault(group.key, {})
        new = pod.uid not in members
        members[pod.uid] = placed
        self._group[pod.uid] = group.key
        return new

    def forget(self, uid: str) -> None:
        """The pod is gone or has ended; one of no group is fine."""
        key = self._group.pop(uid, None)
        if key is None:
            return
        members = self._members[key]
        del members[uid]
        if not members:
            del self._members[key]

    def placed(self, group: Group) -> int:
        """Members that have a node."""
        return sum(self._members.get(group.key, {}).values())

    def pending(self, group: Group) -> list[str]:
        """Uids of members without a node."""
        return [uid for uid, placed in self._members.get(group.key, {}).items() if not placed]
