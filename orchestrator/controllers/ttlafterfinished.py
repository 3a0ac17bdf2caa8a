"""TTL after finished: a Job is deleted some time after it finished.

1. Only Jobs with `spec.ttlSecondsAfterFinished` that are Complete or Failed, counted from that condition's last change.
2. Before it is deleted the Job is read live: its time may have been prolonged.
3. Its pods go first (foreground). A clock that jumps is noticed within ten minutes.
"""

from orchestrator.api.errors import NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import JOBS
from orchestrator.api.times import seconds
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.objects import split_key
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

LOOK_S_MAX = 600.0


class TtlAfterFinishedController:
    name = "ttlafterfinished"
    watches = (JOBS,)
    writes = (JOBS,)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client
        self._clock = clock

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._jobs = informers.of(JOBS)
        self._jobs.on_change(self._changed)

    async def reconcile(self, key: str) -> float | None:
        item = self._jobs.get(key)
        left_s = remaining_s(item.object, self._clock.now_s()) if item is not None else None
        if left_s is None or left_s > 0:
            return left_s if left_s is None else min(left_s, LOOK_S_MAX)
        namespace, name = split_key(key)
        try:
            live = await self._client.get(JOBS, name, namespace)
            left_s = remaining_s(live, self._clock.now_s())
            if left_s is not None and left_s <= 0:
                options = DeleteOptions(propagation_policy="Foreground", uid=live["metadata"]["uid"])
                await self._client.delete(JOBS, name, namespace, options)
        except NotFound:
            return None
        return None

    def _changed(self, old: Item | None, new: Item | None) -> None:
        if new is not None and remaining_s(new.object, 0.0) is not None:
            self._queue.add(key_of(new))


def remaining_s(job: Object, now_s: float) -> float | None:
    """Seconds that a finished Job has left; None for one that is not to go, or is going."""
    ttl_s = job["spec"].get("ttlSecondsAfterFinished")
    if ttl_s is None or "deletionTimestamp" in job["metadata"]:
        return None
    for entry in (job.get("status") or {}).get("conditions") or ():
        ended = entry["type"] in ("Complete", "Failed") and entry["status"] == "True"
        if ended and entry.get("lastTransitionTime"):
            return float(seconds(entry["lastTransitionTime"]) + ttl_s - now_s)
    return None
