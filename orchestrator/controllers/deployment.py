"""Deployment: moves pods from one template to the next through ReplicaSets.

1. A ReplicaSet belongs to the Deployment that its controller reference names; a matching one without a
   controller is adopted. The oldest one with the Deployment's template (pod-template-hash apart) is the new
   set, all others are old.
2. Paused, or its `replicas` just changed: no step of a rollout, only sizes are adapted (proportionally while
   two templates run).
3. RollingUpdate: the new set grows up to replicas + maxSurge pods in all; then old sets shrink as far as
   replicas - maxUnavailable pods stay available, unhealthy pods first. One or the other per reconcile.
4. Recreate: old sets go to 0; when their last pod has ended the new set gets all replicas.
5. A new set is called after a hash of the template; a collision with somebody else's raises collisionCount.
   It gets the next revision, which the Deployment's annotation repeats; a set used again gets a new one.
6. When the rollout is complete, or paused, empty old sets beyond revisionHistoryLimit go, lowest revision
   first.
7. Status sums up the sets; Progressing turns False when nothing moves for progressDeadlineSeconds.
8. A Deployment that asks for it then returns to its last complete revision (see `rollback`).

Sizes are in `rollout`, conditions in `progress`, what a ReplicaSet looks like in `replicasets`.
"""

from dataclasses import dataclass, field, replace

from orchestrator.api.errors import AlreadyExists, ApiError, Conflict, NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import DEPLOYMENTS, PODS, REPLICASETS
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers import rollback
from orchestrator.controllers.claim import claim
from orchestrator.controllers.freshness import LAG_S, Freshness
from orchestrator.controllers.objects import controller_index, controller_of
from orchestrator.controllers.pods import Failure
from orchestrator.controllers.progress import (
    calculate,
    condition,
    first_condition,
    is_complete,
    look_again_s,
    with_progressing,
)
from orchestrator.controllers.replicasets import (
    Family,
    SetWrite,
    find_new,
    new_set,
    revision_of,
    set_writes,
    surplus_history,
)
from orchestrator.controllers.rollout import (
    DESIRED,
    REVISION,
    annotated,
    bounds,
    new_set_size,
    old_set_sizes,
    scaled_sizes,
    size,
)
from orchestrator.controllers.selecting import (
    orphan_index,
    orphans_for,
    selecting,
    selecting_index,
    selector_of,
)
from orchestrator.controllers.statuses import write_status
from orchestrator.controllers.templates import same_template
from orchestrator.controllers.views import pod_view
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue


class DeploymentController:
    name = "deployment"
    watches = (DEPLOYMENTS, REPLICASETS, PODS)
    writes = (REPLICASETS, DEPLOYMENTS)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client
        self._clock = clock
        self._recorder = recorder
        self._freshness = Freshness()

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._deployments = informers.of(DEPLOYMENTS)
        self._sets = informers.of(REPLICASETS)
        self._pods = informers.of(PODS)
        self._deployments.add_index("selecting", selecting_index(selector_of))
        self._sets.add_index("controller", controller_index)
        self._sets.add_index("orphan", orphan_index)
        self._pods.add_index("controller", controller_index)
        self._deployments.on_change(lambda old, new: queue.add(key_of(new or old)))  # type: ignore[arg-type]
        self._sets.on_change(self._set_changed)
        self._pods.on_change(self._pod_changed)

    async def reconcile(self, key: str) -> float | None:
        item = self._deployments.get(key)
        if item is None:
            self._freshness.forget(key)
            return None
        if not self._freshness.fresh(key):
            return LAG_S
        deployment, now_s = item.object, self._clock.now_s()
        sets = await self._claimed(key, item, deployment)
        steps = plan(deployment, sets, self._old_pods_run(deployment, sets), now_s)
        if steps.create is not None:
            await self._create(key, deployment, steps.create)
        for write in steps.writes:
            await self._write_set(key, deployment, write)
        for replica_set in steps.delete:
            await self._delete(replica_set)
        deployment = await self._report(key, deployment, steps.status, steps.revision)
        if steps.undo is not None:
            await self._undo(key, deployment, steps.undo)
        return look_again_s(deployment, steps.status, now_s)

    def _set_changed(self, old: Item | None, new: Item | None) -> None:
        for item in (old, new):
            owner = controller_of(item.meta) if item is not None else None
            if item is None:
                continue
            if owner is not None:
                if owner.kind == "Deployment":
                    self._queue.add(f"{item.meta.namespace}/{owner.name}")
            elif item is new:
                for candidate in selecting(self._deployments, item, selector_of):
                    self._queue.add(key_of(candidate))

    def _pod_changed(self, old: Item | None, new: Item | None) -> None:
        """Recreate waits for the end of old pods; nothing else here looks at pods."""
        if old is None or (new is not None and not pod_view(new).finished):
            return
        owner = controller_of(old.meta)
        parent = self._sets.get(f"{old.meta.namespace}/{owner.name}") if owner is not None else None
        deployment = controller_of(parent.meta) if parent is not None else None
        if deployment is not None and deployment.kind == "Deployment":
            self._queue.add(f"{old.meta.namespace}/{deployment.name}")

    async def _claimed(self, key: str, item: Item, deployment: Object) -> list[Object]:
        selector = selector_of(item)
        claims = await claim(
            self._client,
            DEPLOYMENTS,
            deployment,
            selector,
            REPLICASETS,
            self._sets.by_index("controller", item.meta.uid),
            orphans_for(self._sets, item.meta.namespace, selector),
        )
        for written in claims.written:
            self._freshness.wrote(key, self._sets, written)
        if claims.written:
            raise Conflict("ReplicaSets were adopted or released; deciding anew")
        return [owned.object for owned in claims.owned]

    def _old_pods_run(self, deployment: Object, sets: list[Object]) -> bool:
        if not _recreates(deployment):
            return False
        new = find_new(deployment, sets)
        return any(
            not pod_view(pod).finished
            for replica_set in sets
            if replica_set is not new
            for pod in self._pods.by_index("controller", replica_set["metadata"]["uid"])
        )

    async def _create(self, key: str, deployment: Object, wanted: Object) -> None:
        meta = deployment["metadata"]
        try:
            made = await self._client.create(REPLICASETS, wanted, meta["namespace"])
        except AlreadyExists:
            await self._resolve_collision(key, deployment, wanted)
            raise
        except Conflict:
            raise
        except ApiError as error:
            if not Failure("", error).final:
                await self._tell_refusal(key, deployment, wanted, error)
            raise
        self._freshness.wrote(key, self._sets, made)
        if size(made) > 0:
            self._scaled(deployment, made["metadata"]["name"], 0, size(made))

    async def _tell_refusal(self, key: str, deployment: Object, wanted: Object, error: ApiError) -> None:
        text = f'Failed to create new replica set "{wanted["metadata"]["name"]}": {error.message}'
        self._recorder.event(deployment, "Warning", "ReplicaSetCreateError", text)
        failed = condition("Progressing", "False", "ReplicaSetCreateError", text)
        await self._report(key, deployment, with_progressing(deployment, failed, self._clock.now_s()))

    async def _resolve_collision(self, key: str, deployment: Object, wanted: Object) -> None:
        """Somebody has the name. Ours, not yet in the cache: try again. Another template: another hash."""
        meta = wanted["metadata"]
        existing = await self._client.get(REPLICASETS, meta["name"], meta["namespace"])
        owners = existing["metadata"].get("ownerReferences") or []
        uid = deployment["metadata"]["uid"]
        if any(o["uid"] == uid and o.get("controller") for o in owners) and same_template(
            existing["spec"]["template"], deployment["spec"]["template"]
        ):
            raise Conflict(f"ReplicaSet {meta['name']} exists but is not in the cache yet")
        old = deployment.get("status") or {}
        await self._report(key, deployment, {**old, "collisionCount": old.get("collisionCount", 0) + 1})

    async def _write_set(self, key: str, deployment: Object, write: "SetWrite") -> None:
        try:
            written = await self._client.update(REPLICASETS, write.new)
        except NotFound:
            return
        self._freshness.wrote(key, self._sets, written)
        if size(write.old) != size(write.new):
            self._scaled(deployment, write.new["metadata"]["name"], size(write.old), size(write.new))

    def _scaled(self, deployment: Object, name: str, old: int, new: int) -> None:
        direction = "up" if new > old else "down"
        text = f"Scaled {direction} replica set {name} from {old} to {new}"
        self._recorder.event(deployment, "Normal", "ScalingReplicaSet", text)

    async def _delete(self, replica_set: Object) -> None:
        meta = replica_set["metadata"]
        options = DeleteOptions(uid=meta["uid"], resource_version=meta["resourceVersion"])
        try:
            await self._client.delete(REPLICASETS, meta["name"], meta["namespace"], options)
        except NotFound:
            return

    async def _report(self, key: str, deployment: Object, status: Object, revision: str = "") -> Object:
        annotations = {REVISION: revision} if revision else {}
        return await write_status(
            self._client,
            DEPLOYMENTS,
            deployment,
            status,
            key,
            self._freshness,
            self._deployments,
            annotations,
        )

    async def _undo(self, key: str, deployment: Object, aim: Object) -> None:
        """Rule 8. A Deployment that somebody changed meanwhile is decided upon anew."""
        try:
            written = await self._client.update(DEPLOYMENTS, rollback.returned(deployment, aim))
        except NotFound:
            return
        self._freshness.wrote(key, self._deployments, written)
        text = f'Rolled back deployment "{deployment["metadata"]["name"]}" to revision {annotated(aim, REVISION)}'
        self._recorder.event(deployment, "Warning", "DeploymentRollback", text)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in this order. `revision` is what the Deployment's annotation shall say; `undo` is the set whose
    template the Deployment shall have."""

    status: Object
    create: Object | None = None
    writes: list[SetWrite] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    revision: str = ""
    undo: Object | None = None


def plan(deployment: Object, sets: list[Object], old_pods_run: bool, now_s: float) -> Plan:
    """Rules 2 to 8 for the Deployment's own `sets`. `old_pods_run` matters for Recreate only."""
    limits = bounds(deployment)
    new = find_new(deployment, sets)
    old = [replica_set for replica_set in sets if replica_set is not new]
    started = first_condition(deployment, new) or rollback.restarted(deployment, new)
    status = calculate(deployment, limits, new, sets, now_s, started)
    status = rollback.reported(deployment, new, old, status, now_s)
    steps = Plan(status, revision=revision_of(new, old) if new is not None else "")
    if "deletionTimestamp" in deployment["metadata"]:
        return replace(steps, revision="")
    family = Family(deployment, limits, new, old, rollback.marks(deployment, new, old, status))
    aim = rollback.aim_of(deployment, new, old, status)
    if aim is not None:
        return replace(steps, undo=aim)
    paused = bool(deployment["spec"].get("paused"))
    if paused or _is_scaling(family):
        return _scale(steps, family, paused)
    if _recreates(deployment):
        return _recreate(steps, family, old_pods_run, now_s)
    return _roll(steps, family, now_s)


def _scale(steps: Plan, family: Family, paused: bool) -> Plan:
    """Rule 2."""
    replicas = (family.deployment.get("status") or {}).get("replicas", 0)
    sizes = scaled_sizes(family.limits, family.new, family.old, replicas)
    steps = replace(steps, writes=set_writes(family, sizes, annotate_old=True))
    return replace(steps, delete=surplus_history(family.deployment, family.old)) if paused else steps


def _roll(steps: Plan, family: Family, now_s: float) -> Plan:
    """Rule 3."""
    new = family.new
    if new is None:
        return _create_new(steps, family, now_s)
    target = new_set_size(family.limits, False, new, family.sets)
    if target != size(new):
        return replace(steps, writes=set_writes(family, {new["metadata"]["name"]: target}))
    shrunk = old_set_sizes(family.limits, new, family.old)
    return _finish(replace(steps, writes=set_writes(family, shrunk)), family)


def _recreate(steps: Plan, family: Family, old_pods_run: bool, now_s: float) -> Plan:
    """Rule 4. What old sets report counts beside the pods that are seen: their controller may be making some."""
    new, old = family.new, family.old
    if any(size(replica_set) for replica_set in old):
        empty = {replica_set["metadata"]["name"]: 0 for replica_set in old}
        return replace(steps, writes=set_writes(family, empty))
    if old_pods_run or any((s.get("status") or {}).get("replicas", 0) for s in old):
        return steps
    if new is None:
        return _create_new(steps, family, now_s)
    full = {new["metadata"]["name"]: family.limits.replicas}
    return _finish(replace(steps, writes=set_writes(family, full)), family)


def _create_new(steps: Plan, family: Family, now_s: float) -> Plan:
    """Rule 5: the first set of this template."""
    deployment = family.deployment
    replicas = new_set_size(family.limits, _recreates(deployment), None, family.old)
    made = new_set(family, replicas)
    text = f'Created new replica set "{made["metadata"]["name"]}"'
    started = condition("Progressing", "True", "NewReplicaSetCreated", text)
    status = calculate(deployment, family.limits, None, family.old, now_s, started)
    return replace(steps, create=made, status=status, revision=made["metadata"]["annotations"][REVISION])


def _finish(steps: Plan, family: Family) -> Plan:
    """Rule 6."""
    if steps.writes or not is_complete(family.deployment, steps.status):
        return steps
    return replace(steps, delete=surplus_history(family.deployment, family.old))


def _recreates(deployment: Object) -> bool:
    return bool((deployment["spec"].get("strategy") or {}).get("type") == "Recreate")


def _is_scaling(family: Family) -> bool:
    """Whether an active set was last sized for another number of replicas."""
    wanted = [annotated(replica_set, DESIRED) for replica_set in family.sets if size(replica_set) > 0]
    return any(desired is not None and desired != family.limits.replicas for desired in wanted)
