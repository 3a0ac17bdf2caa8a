"""The shell around `replicas`: reads pods, adopts, creates, deletes and reports, for one kind of owner.

Owner of what was written and not yet seen, per key. Used by the controllers of ReplicaSets and ReplicationControllers,
which say what they are in a `Kind`.
"""

import math
from collections import Counter
from dataclasses import dataclass
from functools import partial

from orchestrator.api.item import Item, Object
from orchestrator.api.resources import PODS, Resource
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.claim import claim
from orchestrator.controllers.freshness import LAG_S, Freshness
from orchestrator.controllers.objects import controller_index, controller_of
from orchestrator.controllers.pods import Failure, PodControl, new_pod
from orchestrator.controllers.replicas import Plan, is_active, plan, status
from orchestrator.controllers.selecting import (
    SelectorOf,
    orphan_index,
    orphans_for,
    selecting,
    selecting_index,
)
from orchestrator.controllers.statuses import write_status
from orchestrator.controllers.views import pod_view
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

FEW = 20
STATUS_S = 0.02
"""The status of an owner of more than a few pods is not written more often."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What differs between owners. `uncounted` are counters that the kind's status lacks."""

    resource: Resource
    selector_of: SelectorOf
    uncounted: tuple[str, ...] = ()


class Replicator:
    """One controller's work. `setup` once, then `replicate` per key."""

    def __init__(self, kind: Kind, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._kind = kind
        self._client = client
        self._clock = clock
        self._recorder = recorder
        self._freshness = Freshness()
        self._reported: dict[str, float] = {}
        """When a status was last written, of keys that had something to tell at their last turn."""

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._owners = informers.of(self._kind.resource)
        self._pods = informers.of(PODS)
        self._control = PodControl(self._client, self._recorder, self._freshness, self._pods)
        self._owners.add_index("controller", controller_index)
        self._owners.add_index("selecting", selecting_index(self._kind.selector_of))
        self._pods.add_index("controller", controller_index)
        self._pods.add_index("orphan", orphan_index)
        self._owners.on_change(lambda old, new: queue.add(key_of(new or old)))  # type: ignore[arg-type]
        self._pods.on_change(self._pod_changed)

    async def replicate(self, key: str) -> float | None:
        item = self._owners.get(key)
        if item is None:
            self._freshness.forget(key)
            self._control.forget(key)
            self._reported.pop(key, None)
            return None
        if not self._freshness.fresh(key):
            return LAG_S
        owner, now_s = item.object, self._clock.now_s()
        pods = await self._claimed(key, item, owner)
        gone = self._control.gone(key, pods)
        steps = plan(owner, pods, gone, partial(self._crowds, item), now_s)
        failure = None if item.meta.deletion_timestamp else await self._act(key, owner, steps)
        counts = {name: count for name, count in steps.counts.items() if name not in self._kind.uncounted}
        wait_s = await self._report(key, owner, status(owner, counts, failure, now_s))
        if failure is not None and not failure.final:
            raise failure.error
        return wait_s or steps.look_again_s

    async def _report(self, key: str, owner: Object, new: Object) -> float | None:
        """Write the status, or return how many seconds to wait: pods that start by the hundred are told together."""
        now_s = self._clock.monotonic_s()
        wait_s = self._reported.get(key, -math.inf) + STATUS_S - now_s
        if wait_s > 0 and new["replicas"] > FEW and new != owner.get("status"):
            return wait_s
        kind = self._kind.resource
        if (
            await write_status(self._client, kind, owner, new, key, self._freshness, self._owners)
            is not owner
        ):
            self._reported[key] = now_s
        elif wait_s <= 0:
            self._reported.pop(key, None)
        return None

    async def _act(self, key: str, owner: Object, steps: Plan) -> Failure | None:
        missing = [new_pod(self._kind.resource, owner, owner["spec"]["template"])] * steps.create
        failure = await self._control.create(key, owner, missing)
        return failure or await self._control.delete(key, owner, steps.delete)

    def _pod_changed(self, old: Item | None, new: Item | None) -> None:
        for item in (old, new):
            if item is None:
                continue
            owner = controller_of(item.meta)
            if owner is not None:
                if owner.kind == self._kind.resource.kind:
                    self._queue.add(f"{item.meta.namespace}/{owner.name}")
            elif item is new and is_active(item):
                for candidate in selecting(self._owners, item, self._kind.selector_of):
                    self._queue.add(key_of(candidate))

    async def _claimed(self, key: str, item: Item, owner: Object) -> list[Item]:
        selector = self._kind.selector_of(item)
        orphans = orphans_for(self._pods, item.meta.namespace, selector)
        claims = await claim(
            self._client,
            self._kind.resource,
            owner,
            selector,
            PODS,
            self._pods.by_index("controller", item.meta.uid),
            [pod for pod in orphans if is_active(pod)],
        )
        for written in claims.written:
            self._freshness.wrote(key, self._pods, written)
        return claims.owned

    def _crowds(self, item: Item) -> Counter[str]:
        """Active pods per node, of this owner and of those with the same manager (a Deployment's other sets)."""
        manager = controller_of(item.meta)
        family = self._owners.by_index("controller", manager.uid) if manager is not None else [item]
        pods = [pod for member in family for pod in self._pods.by_index("controller", member.meta.uid)]
        return Counter(pod_view(pod).spec.node_name for pod in pods if is_active(pod))
