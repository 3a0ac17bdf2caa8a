"""Room for critical pods: when only resources are missing, others are ended that can be spared.

1. A pod is spared for a critical one when it is not critical itself, or has a lower priority.
2. As few Guaranteed pods go as possible, then as few Burstable ones, then BestEffort ones; of each class those whose
   requests come nearest to what is missing, and of equals the smaller one.
3. The critical pod starts once their room is free. Without enough to spare it is refused and nobody is ended.

Called by pod workers. Source of order, reasons and texts: a kubelet's preemption in Kubernetes v1.36.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.agent import podspec
from orchestrator.agent.context import Recorder
from orchestrator.agent.eviction.ranking import is_critical
from orchestrator.agent.pods.admitting import Rejection, Room
from orchestrator.agent.pods.ending import Ending
from orchestrator.api.item import Object

MESSAGE = "Preempted in order to admit critical pod"
ENDING = Ending(
    "Preempting", MESSAGE, disruption="Pod was preempted by Kubelet to accommodate a critical pod."
)
_FAILED = (
    "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of"
)
_CLASSES = ("BestEffort", "Burstable", "Guaranteed")
Amounts = Mapping[str, int]


class Worker(Protocol):
    """What is needed of a `PodWorker`."""

    pod: Object

    @property
    def ending(self) -> bool: ...

    def end(self, ending: Ending) -> None: ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pod that may be ended, with what that would free."""

    uid: str
    qos: str
    requests: Amounts


class Preemption:
    """Ends pods of one node for critical ones."""

    def __init__(self, room: Room, workers: Callable[[], Iterable[Worker]], recorder: Recorder) -> None:
        self._room = room
        self._workers = workers
        self._recorder = recorder

    def make_room(self, pod: Object, spec: Object, wake: Callable[[], None]) -> Rejection | None:
        """Count the critical pod, if need be at others' cost; `wake` is called when these have gone."""
        refused = self._room.admit(pod, spec)
        if refused is None or not refused.reason.startswith("OutOf"):
            return refused
        spared = {w.pod["metadata"]["uid"]: w for w in self._workers() if _preemptable(pod, w.pod)}
        lacking = self._room.lacking(spec)
        chosen = choose([self._candidate(uid, worker.pod) for uid, worker in spared.items()], lacking)
        if chosen is None:
            missing = "".join(f"(res: {name}, q: {value}), " for name, value in lacking.items())
            text = (
                f"{_FAILED} pods to preempt: no set of running pods found to reclaim resources: [{missing}]"
            )
            return Rejection("UnexpectedAdmissionError", text)
        if refused := self._room.admit_beyond(pod, spec, [candidate.uid for candidate in chosen], wake):
            return refused
        for candidate in chosen:
            worker = spared[candidate.uid]
            if not worker.ending:
                self._recorder.event(worker.pod, "Warning", ENDING.reason, MESSAGE)
                worker.end(ENDING)
        return None

    def _candidate(self, uid: str, pod: Object) -> Candidate:
        return Candidate(uid, podspec.qos_class(pod), self._room.requests(uid))


def choose(candidates: Sequence[Candidate], lacking: Amounts) -> list[Candidate] | None:
    """Whom to end so that nothing is missing any more; None if that can't be done."""
    if _left(lacking, candidates):
        return None
    light, middle, heavy = ([c for c in candidates if c.qos == name] for name in _CLASSES)
    first = _nearest(heavy, _left(lacking, light + middle))
    second = _nearest(middle, _left(lacking, light + first))
    return [*_nearest(light, _left(lacking, first + second)), *second, *first]


def _preemptable(pod: Object, other: Object) -> bool:
    """Rule 1; `pod` is a critical one."""
    lower = int(other["spec"].get("priority") or 0) < int(pod["spec"].get("priority") or 0)
    return not is_critical(other) or lower


def _nearest(candidates: Iterable[Candidate], lacking: Amounts) -> list[Candidate]:
    found, rest = [], list(candidates)
    while lacking and rest:
        best = min(rest, key=lambda candidate: _order(candidate, lacking))
        rest.remove(best)
        found.append(best)
        lacking = _left(lacking, (best,))
    return found


def _order(candidate: Candidate, lacking: Amounts) -> tuple[float, int, int]:
    """Distance from what is missing, each resource as a share of it; then memory and CPU."""
    held = candidate.requests
    far = sum((max(need - held.get(name, 0), 0) / need) ** 2 for name, need in lacking.items())
    return far, held.get("memory", 0), held.get("cpu", 0)


def _left(lacking: Amounts, candidates: Iterable[Candidate]) -> Amounts:
    """What is still missing once these have gone."""
    gone = list(candidates)
    left = {name: need - sum(c.requests.get(name, 0) for c in gone) for name, need in lacking.items()}
    return {name: need for name, need in left.items() if need > 0}
