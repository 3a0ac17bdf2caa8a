"""ReplicationController: what a ReplicaSet is, from before there were Deployments.

The rules of `replicaset` hold for it, with two differences:

1. Its selector is a plain map of labels.
2. Its status does not count terminating pods.
"""

from orchestrator.api.resources import PODS, REPLICATIONCONTROLLERS
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.replicating import Kind, Replicator
from orchestrator.controllers.selecting import plain_selector_of
from orchestrator.informer.cache import Informers
from orchestrator.informer.queue import WorkQueue


class ReplicationControllerController:
    name = "replicationcontroller"
    watches = (REPLICATIONCONTROLLERS, PODS)
    writes = (PODS, REPLICATIONCONTROLLERS)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        kind = Kind(REPLICATIONCONTROLLERS, plain_selector_of, uncounted=("terminatingReplicas",))
        self._replicator = Replicator(kind, client, clock, recorder)

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._replicator.setup(informers, queue)

    async def reconcile(self, key: str) -> float | None:
        return await self._replicator.replicate(key)
