"""Pending pods: active, waiting for their back-off, or unschedulable until something happens that can help.

Pure: time is handed in. A pod is in one part only; higher priority first, then who waits longest. An
unschedulable pod moves when a cluster event can help one of the filters that refused it, when its spec changes,
or after `STUCK_S`. Owner: the scheduler.
"""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestrator.scheduler.rules.infos import PodInfo
from orchestrator.scheduler.rules.interface import ClusterEvent

BACKOFF_INITIAL_S = 1.0
BACKOFF_MAX_S = 10.0
STUCK_S = 300.0
PARKED = "parked"
"""Stands for the filter of a pod that no cluster event helps."""


@dataclass(slots=True)
class Waiting:
    """A pod in the queue. `place` is `active`, `backoff` or `unschedulable`."""

    pod: PodInfo
    added_s: float
    order: int
    place: str = "active"
    attempts: int = 0
    until_s: float = 0.0
    """End of the back-off, or when an unschedulable pod is tried again anyway."""
    backoff_end_s: float = 0.0
    refused_by: frozenset[str] = frozenset()
    ticket: int = 0
    """Heap entries with another ticket are outdated."""


class SchedulingQueue:
    """Pods by uid in their three parts."""

    def __init__(self, helped_by: Mapping[str, frozenset[ClusterEvent]]) -> None:
        """`helped_by` per filter name; a pod that an unknown filter refused moves with every event."""
        self._helped_by = {**helped_by, PARKED: frozenset[ClusterEvent]()}
        self._pods: dict[str, Waiting] = {}
        self._active: list[tuple[int, float, int, int, str]] = []
        self._timed: list[tuple[float, int, str]] = []
        self._unschedulable: dict[str, None] = {}
        self._order = 0
        self._tickets = 0

    def __len__(self) -> int:
        """Pods in all parts."""
        return len(self._pods)

    def __contains__(self, uid: str) -> bool:
        return uid in self._pods

    @property
    def counts(self) -> dict[str, int]:
        """Pods per part."""
        counts = {"active": 0, "backoff": 0, "unschedulable": 0}
        for waiting in self._pods.values():
            counts[waiting.place] += 1
        return counts

    def update(self, pod: PodInfo, now_s: float) -> None:
        """A pending pod appeared or changed; one whose requirements changed is tried again at once."""
        waiting = self._pods.get(pod.uid)
        if waiting is None:
            self._order += 1
            waiting = self._pods[pod.uid] = Waiting(pod, now_s, self._order)
            self._activate(waiting)
            return
        known = waiting.pod
        same = (
            known.signature == pod.signature and known.priority == pod.priority and known.labels == pod.labels
        )
        waiting.pod = pod
        if not same and waiting.place != "backoff":
            self._activate(waiting)

    def remove(self, uid: str) -> None:
        """The pod is gone or bound; an unknown one is fine."""
        self._pods.pop(uid, None)
        self._unschedulable.pop(uid, None)

    def pop(self) -> Waiting | None:
        """The next active pod, which leaves the queue. Hand it back with `refuse` or `retry` when it fails."""
        while self._active:
            _, _, _, ticket, uid = heapq.heappop(self._active)
            waiting = self._pods.get(uid)
            if waiting is not None and waiting.ticket == ticket:
                del self._pods[uid]
                waiting.attempts += 1
                return waiting
        return None

    def take(self, uids: Iterable[str]) -> list[Waiting]:
        """Those of the pods that wait, wherever, out of turn: for groups that are placed together."""
        found = [self._pods[uid] for uid in uids if uid in self._pods]
        for waiting in found:
            self.remove(waiting.pod.uid)
            waiting.attempts += 1
        return found

    def refuse(self, waiting: Waiting, refused_by: frozenset[str], now_s: float) -> None:
        """No node fits: wait for an event that helps."""
        waiting.refused_by = refused_by
        waiting.backoff_end_s = now_s + self._backoff_s(waiting)
        waiting.place = "unschedulable"
        self._pods[waiting.pod.uid] = waiting
        self._unschedulable[waiting.pod.uid] = None
        self._wait(waiting, now_s + STUCK_S)

    def park(self, waiting: Waiting, now_s: float) -> None:
        """It was not even tried, for something must happen first: until `activate`, or for `STUCK_S`."""
        waiting.attempts -= 1
        self.refuse(waiting, frozenset((PARKED,)), now_s)

    def activate(self, uid: str) -> None:
        """Try a pod at once, whatever it waits for; an unknown one is fine."""
        waiting = self._pods.get(uid)
        if waiting is not None and waiting.place != "active":
            self._activate(waiting)

    def retry(self, waiting: Waiting, now_s: float) -> None:
        """Something failed that is not the pod's fault: try again after its back-off."""
        waiting.backoff_end_s = now_s + self._backoff_s(waiting)
        waiting.place = "backoff"
        self._pods[waiting.pod.uid] = waiting
        self._wait(waiting, waiting.backoff_end_s)

    def happened(self, event: ClusterEvent, now_s: float) -> None:
        """Move the unschedulable pods that `event` can help."""
        for uid in list(self._unschedulable):
            waiting = self._pods[uid]
            helped = (self._helped_by.get(name) for name in waiting.refused_by)
            if not waiting.refused_by or any(events is None or event in events for events in helped):
                self._move(waiting, now_s)

    def flush(self, now_s: float) -> None:
        """Activate what has waited long enough."""
        while self._timed and self._timed[0][0] <= now_s:
            _, ticket, uid = heapq.heappop(self._timed)
            waiting = self._pods.get(uid)
            if waiting is not None and waiting.ticket == ticket:
                self._activate(waiting)

    @property
    def due_s(self) -> float | None:
        """When `flush` has something to do next; None when nothing waits for time."""
        while self._timed:
            due_s, ticket, uid = self._timed[0]
            waiting = self._pods.get(uid)
            if waiting is not None and waiting.ticket == ticket:
                return due_s
            heapq.heappop(self._timed)
        return None

    def _move(self, waiting: Waiting, now_s: float) -> None:
        """Out of the unschedulable part: to active, or to back-off when that has not ended."""
        if waiting.backoff_end_s <= now_s:
            self._activate(waiting)
            return
        self._unschedulable.pop(waiting.pod.uid, None)
        waiting.place = "backoff"
        self._wait(waiting, waiting.backoff_end_s)

    def _activate(self, waiting: Waiting) -> None:
        self._unschedulable.pop(waiting.pod.uid, None)
        waiting.place = "active"
        self._tickets += 1
        waiting.ticket = self._tickets
        pod = waiting.pod
        entry = (-pod.priority, waiting.added_s, waiting.order, waiting.ticket, pod.uid)
        heapq.heappush(self._active, entry)

    def _wait(self, waiting: Waiting, until_s: float) -> None:
        self._tickets += 1
        waiting.ticket = self._tickets
        waiting.until_s = until_s
        heapq.heappush(self._timed, (until_s, waiting.ticket, waiting.pod.uid))
        if len(self._timed) > 1000 + 4 * len(self._pods):
            self._timed = [(w.until_s, w.ticket, uid) for uid, w in self._pods.items() if w.place != "active"]
            heapq.heapify(self._timed)

    def _backoff_s(self, waiting: Waiting) -> float:
        doublings = min(max(waiting.attempts - 1, 0), 10)
        return min(BACKOFF_MAX_S, BACKOFF_INITIAL_S * 2.0**doublings)
