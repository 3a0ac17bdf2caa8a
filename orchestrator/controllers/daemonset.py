"""DaemonSet: one pod on every node that fits.

1. A pod belongs to the set that its controller reference names; a matching one without is adopted, one that no longer
   matches is released.
2. The current template has a `ControllerRevision`, whose hash its pods carry. A template used before brings its
   revision back, and pods that still have it are not replaced. A second revision of one template goes.
3. Each node that fits (see `daemonnodes`) has one pod, each that does not may keep it as long as no taint drives it
   away. Pods name their node and are bound by the scheduler.
4. A pod that ended is deleted, a failed one with back-off per node (1 s, doubling to 15 minutes), anew per template.
5. RollingUpdate replaces pods of older templates within maxUnavailable and maxSurge, OnDelete none.
6. Status counts nodes: desired, current, misscheduled, ready, available (ready for minReadySeconds), updated.
7. Revisions that no pod has go, the oldest first, beyond revisionHistoryLimit.
8. A heartbeat of a node wakes nobody: only its labels and taints matter, and only to sets whose fit they change.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from orchestrator.api.errors import AlreadyExists, Conflict
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import CONTROLLERREVISIONS, DAEMONSETS, NODES, PODS
from orchestrator.base.backoff import Backoff
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.claim import claim
from orchestrator.controllers.daemonnodes import (
    NodeFacts,
    Placement,
    new_daemon_pods,
    node_facts,
    target_of,
)
from orchestrator.controllers.daemonplan import Plan, Seen, daemon_pod, plan, status
from orchestrator.controllers.freshness import LAG_S, Freshness
from orchestrator.controllers.objects import controller_index, controller_of
from orchestrator.controllers.pods import BURST_MAX, Failure, PodControl
from orchestrator.controllers.replicas import is_active
from orchestrator.controllers.revisions import (
    HASH_LABEL,
    History,
    new_revision,
    number_of,
    same,
    surplus,
)
from orchestrator.controllers.selecting import (
    orphan_index,
    orphans_for,
    selecting,
    selecting_index,
    selector_of,
)
from orchestrator.controllers.statuses import write_status
from orchestrator.controllers.views import pod_view
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

BACKOFF_INITIAL_S = 1.0
BACKOFF_MAX_S = 900.0


@dataclass(slots=True)
class _Known:
    """Of one set at one generation: where its pods fit, and the nodes that unbound pods of it name."""

    generation: tuple[str, int]
    placement: Placement
    targets: dict[str, str] = field(default_factory=dict)


class DaemonSetController:
    name = "daemonset"
    watches = (DAEMONSETS, NODES, PODS, CONTROLLERREVISIONS)
    writes = (PODS, CONTROLLERREVISIONS, DAEMONSETS)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client
        self._clock = clock
        self._recorder = recorder
        self._freshness = Freshness()
        self._failures = FailedPods()
        self._known: dict[str, _Known] = {}
        self._nodes: dict[str, NodeFacts] = {}

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._sets = informers.of(DAEMONSETS)
        self._pods = informers.of(PODS)
        self._history = History(self._client, DAEMONSETS, self._freshness, informers, queue.add)
        self._control = PodControl(self._client, self._recorder, self._freshness, self._pods)
        self._sets.add_index("selecting", selecting_index(selector_of))
        self._pods.add_index("controller", controller_index)
        self._pods.add_index("orphan", orphan_index)
        self._sets.on_change(lambda old, new: queue.add(key_of(new or old)))  # type: ignore[arg-type]
        self._pods.on_change(self._pod_changed)
        informers.of(NODES).on_change(self._node_changed)

    async def reconcile(self, key: str) -> float | None:
        item = self._sets.get(key)
        if item is None:
            self._forget(key)
            return None
        if item.meta.deletion_timestamp:
            return None
        if not self._freshness.fresh(key):
            return LAG_S
        daemon_set, now_s = item.object, self._clock.now_s()
        pods = await self._claimed(key, item)
        current, old = await self._revisions(key, item, pods)
        digest = current["metadata"]["labels"][HASH_LABEL]
        seen = self._seen(key, item, pods, digest, now_s)
        steps = plan(daemon_set, seen)
        failure = await self._act(key, daemon_set, digest, steps)
        for revision in _unused(daemon_set, old, pods):
            await self._history.delete(revision)
        new = status(daemon_set, seen)
        await write_status(self._client, DAEMONSETS, daemon_set, new, key, self._freshness, self._sets)
        if failure is not None and not failure.final:
            raise failure.error
        return steps.look_again_s

    def _forget(self, key: str) -> None:
        self._freshness.forget(key)
        self._control.forget(key)
        self._failures.forget(key)
        self._known.pop(key, None)

    def _pod_changed(self, old: Item | None, new: Item | None) -> None:
        for item in (old, new):
            if item is None:
                continue
            owner = controller_of(item.meta)
            if owner is not None:
                if owner.kind == DAEMONSETS.kind:
                    self._queue.add(f"{item.meta.namespace}/{owner.name}")
            elif item is new and is_active(item):
                for candidate in selecting(self._sets, item, selector_of):
                    self._queue.add(key_of(candidate))

    def _node_changed(self, old: Item | None, new: Item | None) -> None:
        """Rule 8. Facts that stay equal stay the same object, by which placements know them."""
        name = (new or old).meta.name  # type: ignore[union-attr]
        before, now = self._nodes.get(name), node_facts(new) if new is not None else None
        if now == before:
            return
        if now is not None:
            self._nodes[name] = now
        else:
            self._nodes.pop(name, None)
        for candidate in self._sets.list():
            key = key_of(candidate)
            placement = self._of(key, candidate).placement
            fits = [placement.ask(node) for node in (before, now) if node is not None]
            if any(fit.stay for fit in fits) and (len(fits) == 1 or fits[0] != fits[1]):
                self._queue.add(key)
            if now is None:
                placement.forget(name)

    def _of(self, key: str, item: Item) -> _Known:
        generation = (item.meta.uid, item.meta.generation)
        known = self._known.get(key)
        if known is None or known.generation != generation:
            self._failures.forget(key)
            targets = known.targets if known is not None else {}
            known = _Known(generation, Placement(item.object["spec"]["template"]), targets)
            self._known[key] = known
        return known

    async def _claimed(self, key: str, item: Item) -> list[Item]:
        selector = selector_of(item)
        orphans = orphans_for(self._pods, item.meta.namespace, selector)
        claims = await claim(
            self._client,
            DAEMONSETS,
            item.object,
            selector,
            PODS,
            self._pods.by_index("controller", item.meta.uid),
            [pod for pod in orphans if is_active(pod)],
        )
        for written in claims.written:
            self._freshness.wrote(key, self._pods, written)
        return claims.owned

    async def _revisions(self, key: str, item: Item, pods: list[Item]) -> tuple[Object, list[Object]]:
        """Rule 2: the revision of the current template, and the others, oldest first."""
        template = item.object["spec"]["template"]
        found = [await self._history.labelled(key, r) for r in await self._history.revisions(key, item)]
        current = [revision for revision in found if same(revision, template)]
        old = [revision for revision in found if not same(revision, template)]
        number = max(map(number_of, old), default=0) + 1
        if not current:
            return await self._new_revision(key, item.object, number), old
        kept = current.pop()
        if current:
            await self._relabel(key, pods, kept["metadata"]["labels"][HASH_LABEL])
            for revision in current:
                await self._history.delete(revision)
        if number_of(kept) < number:
            kept = await self._history.renumber(key, kept, number)
        return kept, old

    async def _new_revision(self, key: str, daemon_set: Object, number: int) -> Object:
        """A name that another template has taken is one more collision, by which the next try makes another name."""
        old = daemon_set.get("status") or {}
        collisions = old.get("collisionCount", 0)
        wanted = new_revision(DAEMONSETS, daemon_set, number, collisions, HASH_LABEL)
        try:
            return await self._history.create(key, wanted)
        except AlreadyExists:
            existing = await self._history.existing(wanted)
        if existing.get("data") == wanted["data"] and HASH_LABEL in (
            existing["metadata"].get("labels") or {}
        ):
            return existing
        new = {**old, "collisionCount": collisions + 1}
        await write_status(self._client, DAEMONSETS, daemon_set, new, key, self._freshness, self._sets)
        raise Conflict(
            f"ControllerRevision {wanted['metadata']['name']} is of another template; trying another name"
        )

    async def _relabel(self, key: str, pods: list[Item], digest: str) -> None:
        """Of two revisions of one template one goes: all pods of the set shall name the other, as in Kubernetes."""
        patch = {"metadata": {"labels": {HASH_LABEL: digest}}}
        for pod in pods:
            if pod.labels.get(HASH_LABEL) != digest:
                written = await self._client.patch(PODS, pod.meta.name, pod.meta.namespace, patch)
                self._freshness.wrote(key, self._pods, written)

    def _seen(self, key: str, item: Item, pods: list[Item], digest: str, now_s: float) -> Seen:
        known, gone = self._of(key, item), self._control.gone(key, pods)
        ready_s = item.object["spec"].get("minReadySeconds", 0)
        targets: dict[str, str] = {}
        by_node = defaultdict(list)
        for pod in pods:
            view = pod_view(pod)
            if view.finished and pod.meta.deletion_timestamp:
                continue
            node = view.spec.node_name
            if not node:
                node = targets[pod.meta.uid] = known.targets.get(pod.meta.uid) or target_of(pod)
            by_node[node].append(daemon_pod(pod, digest, gone, ready_s, now_s))
        known.targets = targets
        fits = {name: known.placement.fit(node) for name, node in self._nodes.items()}
        return Seen(fits, by_node, self._failures.held(key, now_s))

    async def _act(self, key: str, daemon_set: Object, digest: str, steps: Plan) -> Failure | None:
        for node, pod in steps.failed:
            self._failures.killed(key, node, self._clock.now_s())
            text = f"Found failed daemon pod {key_of(pod)} on node {node}, will try to kill it"
            self._recorder.event(daemon_set, "Warning", "FailedDaemonPod", text)
        for node, pod in steps.succeeded:
            text = f"Found succeeded daemon pod {key_of(pod)} on node {node}, will try to delete it"
            self._recorder.event(daemon_set, "Normal", "SucceededDaemonPod", text)
        failure = await self._control.delete(key, daemon_set, steps.delete[:BURST_MAX])
        missing = new_daemon_pods(daemon_set, digest, steps.create[:BURST_MAX])
        return await self._control.create(key, daemon_set, missing) or failure


def _unused(daemon_set: Object, old: list[Object], pods: list[Item]) -> list[Object]:
    """Rule 7."""
    hashes = {pod.labels.get(HASH_LABEL) for pod in pods}
    live = {r["metadata"]["name"] for r in old if r["metadata"]["labels"].get(HASH_LABEL) in hashes}
    return surplus(old, live, daemon_set["spec"].get("revisionHistoryLimit", 10), live_count=True)


class FailedPods:
    """Rule 4's back-off, by set and node. An entry ends when its node was quiet for twice the longest delay."""

    def __init__(self) -> None:
        self._backoff = Backoff(BACKOFF_INITIAL_S, BACKOFF_MAX_S)
        self._until: dict[str, dict[str, tuple[float, float]]] = {}
        """By set and node: when the delay ends, and when it is forgotten."""

    def killed(self, key: str, node: str, now_s: float) -> None:
        """A failed pod was deleted; the next one on the node waits longer."""
        delay_s = self._backoff.next_s(f"{key} {node}")
        self._until.setdefault(key, {})[node] = (now_s + delay_s, now_s + 2 * BACKOFF_MAX_S)

    def held(self, key: str, now_s: float) -> dict[str, float]:
        """Nodes whose failed pods must stay for now, and for how many seconds."""
        entries = self._until.get(key)
        if not entries:
            return {}
        for node in [node for node, (_, forget_s) in entries.items() if forget_s <= now_s]:
            del entries[node]
            self._backoff.reset(f"{key} {node}")
        return {node: until_s - now_s for node, (until_s, _) in entries.items() if until_s > now_s}

    def forget(self, key: str) -> None:
        """The set is no more."""
        for node in self._until.pop(key, {}):
            self._backoff.reset(f"{key} {node}")
