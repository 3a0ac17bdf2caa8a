"""ReplicaSet: keeps as many pods of one template as `spec.replicas` says.

1. A pod belongs to the set that its controller reference names; a matching pod without one is adopted, one
   that no longer matches is released.
2. Pods that finished or are being deleted do not count.
3. Missing pods are created, at most 500 at a time (see `pods`).
4. Surplus pods are deleted, the least valuable first: unassigned, pending, not ready, low deletion cost,
   crowded nodes, ready for a short time, many restarts, young.
5. Status counts pods, fully labelled, ready, available (ready for minReadySeconds) and terminating ones; a
   failed create or delete stands in the condition ReplicaFailure.
6. Nothing is decided from a cache that lacks this controller's own writes: never a pod too many.

The rules are in `replicas`, the way of a reconcile in `replicating`.
"""

from orchestrator.api.resources import PODS, REPLICASETS
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.replicating import Kind, Replicator
from orchestrator.controllers.selecting import selector_of
from orchestrator.informer.cache import Informers
from orchestrator.informer.queue import WorkQueue


class ReplicaSetController:
    name = "replicaset"
    watches = (REPLICASETS, PODS)
    writes = (PODS, REPLICASETS)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._replicator = Replicator(Kind(REPLICASETS, selector_of), client, clock, recorder)

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._replicator.setup(informers, queue)

    async def reconcile(self, key: str) -> float | None:
        return await self._replicator.replicate(key)
