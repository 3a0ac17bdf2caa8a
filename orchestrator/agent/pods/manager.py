"""The pods of a node: one worker each, fed by the API's changes, the engine's events and a periodic list.

Whatever the engine has and the API does not know is removed. Owner of the workers.
"""

import contextlib
from functools import partial

import structlog

from orchestrator.agent.context import Context
from orchestrator.agent.pods.admitting import NodeRules, Room
from orchestrator.agent.pods.feed import PodFeed
from orchestrator.agent.pods.observed import Observed
from orchestrator.agent.pods.preempting import Preemption
from orchestrator.agent.pods.worker import PodWorker
from orchestrator.api.item import Item, Object
from orchestrator.network.dataplane.interface import NetworkError
from orchestrator.runtime.interface import Container, RuntimeFailure, Sandbox

log = structlog.get_logger(__name__)

RELIST_S = 10.0


class PodManager:
    """Workers by pod uid."""

    def __init__(self, context: Context, feed: PodFeed) -> None:
        self._context = context
        self._feed = feed
        self._workers: dict[str, PodWorker] = {}
        self._listed: dict[str, Observed] = {}
        self._room = Room(lambda: context.facts.allocatable)
        self._rules = NodeRules(context.client, context.facts.name, context.clock)
        self._preemption = Preemption(self._room, self._workers.values, context.recorder)

    def worker(self, uid: str) -> PodWorker | None:
        return self._workers.get(uid)

    def workers(self) -> list[PodWorker]:
        return list(self._workers.values())

    def find(self, namespace: str, name: str) -> PodWorker | None:
        """The worker of a pod by its name."""
        found = None
        for worker in self._workers.values():
            metadata = worker.pod["metadata"]
            if metadata["name"] == name and metadata["namespace"] == namespace:
                # One that was replaced under its name may still be ending.
                found = worker if found is None or found.leaving else found
        return found

    def pods(self) -> list[Object]:
        """Every pod on the node as its worker knows it."""
        return [worker.pod for worker in self._workers.values()]

    async def start(self) -> None:
        """Adopt what runs, begin to work on every pod of the node, remove what belongs to none."""
        await self._list()
        listed = [sandbox.id for seen in self._listed.values() for sandbox in seen.sandboxes]
        await self._context.network.retain(listed)
        self._feed.on_change(self._changed)
        for item in sorted(self._feed.list(), key=self._turn):
            self._ensure(item.object)
        self._remove_strangers()
        await self._context.volumes.retain(self._workers.keys())
        self._context.supervisor.serve("relist", self._relist)
        self._context.supervisor.serve("engine events", self._events)

    def pulled(self, uid: str) -> None:
        """An image that this pod waited for is here, or could not be had."""
        if worker := self._workers.get(uid):
            worker.pulled()

    def probed(self, uid: str) -> None:
        """A probe's verdict changed."""
        if worker := self._workers.get(uid):
            worker.wake()

    def _changed(self, old: Item | None, new: Item | None) -> None:
        if new is None:
            assert old is not None
            if worker := self._workers.get(old.meta.uid):
                worker.removed()
            return
        if old is not None and old.meta.uid != new.meta.uid and (worker := self._workers.get(old.meta.uid)):
            worker.removed()
        self._ensure(new.object)

    def _turn(self, item: Item) -> tuple[bool, str]:
        """The order in which pods are let in: those that run here already, then by age."""
        return item.meta.uid not in self._listed, item.object["metadata"].get("creationTimestamp", "")

    def _ensure(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        worker = self._workers.get(uid)
        if worker is not None:
            worker.update(pod)
            return
        seen = self._listed.pop(uid, None) or Observed()
        worker = self._workers[uid] = self._worker(pod, seen)
        worker.admit()
        name = f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}"
        self._context.supervisor.serve(name, partial(self._work, uid, worker))

    def _worker(self, pod: Object, seen: Observed) -> PodWorker:
        return PodWorker(self._context, pod, seen, self._room, self._rules, self._preemption)

    async def _work(self, uid: str, worker: PodWorker) -> None:
        await worker.run()
        self._workers.pop(uid, None)
        self._context.meters.forget(uid)

    async def _events(self) -> None:
        """Tell workers what the engine reports; ends with the engine and is begun again.

        What happened in between is found by the periodic list.
        """
        async for event in self._context.runtime.events():
            if worker := self._workers.get(event.pod_uid):
                worker.heard(event)
        raise RuntimeFailure("the engine ended the stream of events")

    async def _relist(self) -> None:
        while True:
            await self._context.clock.sleep(RELIST_S)
            with contextlib.suppress(RuntimeFailure, NetworkError):
                await self._list()
                for uid, worker in self._workers.items():
                    seen = self._listed.pop(uid, None) or Observed()
                    worker.listed(seen.sandboxes, seen.all_containers())
                self._remove_strangers()

    async def _list(self) -> None:
        sandboxes: dict[str, list[Sandbox]] = {}
        containers: dict[str, list[Container]] = {}
        with self._context.meters.listing():
            for sandbox in await self._context.runtime.list_sandboxes():
                sandboxes.setdefault(sandbox.pod_uid, []).append(sandbox)
            for container in await self._context.runtime.list_containers():
                containers.setdefault(container.pod_uid, []).append(container)
        self._listed = {
            uid: Observed.of(sandboxes.get(uid, ()), containers.get(uid, ()))
            for uid in sandboxes.keys() | containers.keys()
        }

    def _remove_strangers(self) -> None:
        """End pods that nobody works on: they were deleted while the agent was away."""
        for uid, seen in list(self._listed.items()):
            if uid in self._workers:
                continue
            log.info("removing a pod that the API does not know", uid=uid)
            pod = _stranger(uid, seen)
            worker = self._workers[uid] = self._worker(pod, seen)
            worker.removed()
            self._context.supervisor.serve(f"stranger {uid}", partial(self._work, uid, worker))
        self._listed = {}


def _stranger(uid: str, seen: Observed) -> Object:
    """As much of a pod as is known from its sandbox or containers."""
    known = seen.sandbox or seen.all_containers()[0]
    return {
        "metadata": {"name": known.pod_name, "namespace": known.pod_namespace, "uid": uid},
        "spec": {"containers": [], "terminationGracePeriodSeconds": 30},
        "status": {},
    }
