"""What the scheduler tells: events, the `PodScheduled` condition, nominations, and the end of victims."""

import asyncio

import structlog

from orchestrator.api.errors import ApiError, NotFound
from orchestrator.api.item import Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import PODS
from orchestrator.api.times import timestamp
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.informer.cache import Informer
from orchestrator.scheduler.rules.infos import PodInfo

log = structlog.get_logger(__name__)

WRITE_TIMEOUT_S = 30.0


class Reports:
    """Writes; failures are noted and left, for the pod is tried again anyway."""

    def __init__(self, client: Client, pods: Informer, recorder: EventRecorder, clock: Clock) -> None:
        self._client = client
        self._pods = pods
        self._recorder = recorder
        self._clock = clock

    async def unschedulable(self, pod: PodInfo, message: str, nominated: str | None = None) -> None:
        """Event and condition that say why; the condition only when it says something new. `nominated` is the node
        that the pod waits for, empty when there is none any more, None to leave that as it is."""
        self._recorder.event(pod.reference, "Warning", "FailedScheduling", message)
        item = self._pods.get(pod.key)
        if item is None or item.meta.uid != pod.uid:
            return
        patch = unschedulable_patch(item.object, message, timestamp(self._clock.now_s()), nominated)
        if patch is not None:
            await self._patch(pod, patch)

    async def preempt(self, victim: PodInfo, pod: PodInfo, node: str) -> bool:
        """Ask a pod to go: the condition that says why, then deletion with its own grace period. False when it could
        not be asked; True also when it is going, or gone, already."""
        item = self._pods.get(victim.key)
        if item is None or item.meta.uid != victim.uid or item.meta.deletion_timestamp:
            return True
        now = timestamp(self._clock.now_s())
        await self._patch(victim, disruption_patch(item.object, pod.scheduler_name, now))
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self._client.delete(PODS, victim.name, victim.namespace, DeleteOptions(uid=victim.uid))
        except NotFound:
            return True
        except (ApiError, OSError, TimeoutError) as error:
            log.debug("victim not deleted", pod=victim.key, error=str(error))
            return False
        text = f"Preempted by pod {pod.uid} on node {node}"
        self._recorder.event(victim.reference, "Normal", "Preempted", text)
        return True

    async def _patch(self, pod: PodInfo, patch: Object) -> None:
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self._client.patch(
                    PODS, pod.name, pod.namespace, patch, type="strategic", subresource="status"
                )
        except (ApiError, OSError, TimeoutError) as error:
            log.debug("condition not written", pod=pod.key, error=str(error))


def unschedulable_patch(pod: Object, message: str, now: str, nominated: str | None = None) -> Object | None:
    """The status patch that sets PodScheduled to False, or None when it says the same already."""
    wanted = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    old_status = pod.get("status") or {}
    conditions = old_status.get("conditions") or []
    old: Object = next((c for c in conditions if c["type"] == "PodScheduled"), {})
    status: Object = {}
    if not all(old.get(key) == value for key, value in wanted.items()):
        since = old.get("lastTransitionTime", now) if old.get("status") == "False" else now
        status["conditions"] = [{**wanted, "lastTransitionTime": since}]
    if nominated is not None and (old_status.get("nominatedNodeName") or "") != nominated:
        status["nominatedNodeName"] = nominated or None
    return {"metadata": {"uid": pod["metadata"]["uid"]}, "status": status} if status else None


def disruption_patch(pod: Object, scheduler: str, now: str) -> Object:
    """The status patch that says that the pod ends for a more urgent one."""
    condition: Object = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "message": f"{scheduler}: preempting to accommodate a higher priority pod",
        "lastTransitionTime": now,
    }
    if pod["metadata"].get("generation"):
        condition["observedGeneration"] = pod["metadata"]["generation"]
    return {"metadata": {"uid": pod["metadata"]["uid"]}, "status": {"conditions": [condition]}}
