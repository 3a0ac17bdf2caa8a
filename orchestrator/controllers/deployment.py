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
"""

import hashlib
from dataclasses import dataclass, field, replace

import msgspec

from orchestrator.api.errors import AlreadyExists, Conflict, NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import DEPLOYMENTS, PODS, REPLICASETS
from orchestrator.api.selectors import from_label_selector
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.claim import claim
from orchestrator.controllers.freshness import LAG_S, Freshness
from orchestrator.controllers.objects import (
    controller_index,
    controller_of,
    controller_reference,
    with_value,
    without,
)
from orchestrator.controllers.progress import (
    calculate,
    condition,
    is_complete,
    look_again_s,
    pause_condition,
)
from orchestrator.controllers.rollout import (
    DESIRED,
    MAXIMUM,
    REVISION,
    REVISION_HISTORY,
    Bounds,
    Sizes,
    age_order,
    annotated,
    bounds,
    new_set_size,
    old_set_sizes,
    scaled_sizes,
    size,
)
from orchestrator.controllers.views import pod_view
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

HASH_LABEL = "pod-template-hash"
_HASH_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_OWN_ANNOTATIONS = (
    "kubectl.kubernetes.io/last-applied-configuration", REVISION, REVISION_HISTORY, DESIRED, MAXIMUM,
)  # fmt: skip


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
        self._sets.add_index("controller", controller_index)
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
        deployment = await self._write_revision(key, deployment, steps.revision)
        await self._write_status(key, deployment, steps.status)
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
                for candidate in self._deployments.list(item.meta.namespace):
                    if from_label_selector(candidate.object["spec"]["selector"]).matches(item.labels):
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
        claims = await claim(
            self._client,
            DEPLOYMENTS,
            deployment,
            from_label_selector(deployment["spec"]["selector"]),
            REPLICASETS,
            self._sets.by_index("controller", item.meta.uid),
            self._sets.by_index("controller", f"orphan/{item.meta.namespace}"),
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
        self._freshness.wrote(key, self._sets, made)
        if size(made) > 0:
            self._scaled(deployment, made["metadata"]["name"], 0, size(made))

    async def _resolve_collision(self, key: str, deployment: Object, wanted: Object) -> None:
        """Somebody has the name. Ours, not yet in the cache: try again. Another template: another hash."""
        meta = wanted["metadata"]
        existing = await self._client.get(REPLICASETS, meta["name"], meta["namespace"])
        owners = existing["metadata"].get("ownerReferences") or []
        uid = deployment["metadata"]["uid"]
        if any(o["uid"] == uid and o.get("controller") for o in owners) and _same_template(
            existing["spec"]["template"], deployment["spec"]["template"]
        ):
            raise Conflict(f"ReplicaSet {meta['name']} exists but is not in the cache yet")
        old = deployment.get("status") or {}
        await self._write_status(key, deployment, {**old, "collisionCount": old.get("collisionCount", 0) + 1})

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

    async def _write_revision(self, key: str, deployment: Object, revision: str) -> Object:
        meta = deployment["metadata"]
        if not revision or (meta.get("annotations") or {}).get(REVISION) == revision:
            return deployment
        patch = {
            "metadata": {"resourceVersion": meta["resourceVersion"], "annotations": {REVISION: revision}}
        }
        try:
            # Through the status: annotations count as desired state, and this one must not raise the generation.
            written = await self._client.patch(
                DEPLOYMENTS, meta["name"], meta["namespace"], patch, subresource="status"
            )
        except NotFound:
            return deployment
        self._freshness.wrote(key, self._deployments, written)
        return written

    async def _write_status(self, key: str, deployment: Object, status: Object) -> None:
        if status == deployment.get("status"):
            return
        changed = with_value(deployment, ("status",), status)
        try:
            written = await self._client.update(DEPLOYMENTS, changed, subresource="status")
        except NotFound:
            return
        self._freshness.wrote(key, self._deployments, written)


@dataclass(frozen=True, slots=True)
class SetWrite:
    """A ReplicaSet before and after."""

    old: Object
    new: Object


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in this order. `revision` is what the Deployment's annotation shall say."""

    status: Object
    create: Object | None = None
    writes: list[SetWrite] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    revision: str = ""


def plan(deployment: Object, sets: list[Object], old_pods_run: bool, now_s: float) -> Plan:
    """Rules 2 to 7 for the Deployment's own `sets`. `old_pods_run` matters for Recreate only."""
    limits = bounds(deployment)
    new = find_new(deployment, sets)
    old = [replica_set for replica_set in sets if replica_set is not new]
    started = pause_condition(deployment)
    status = calculate(deployment, limits, new, sets, now_s, started)
    steps = Plan(status, revision=_revision(deployment, new, old) if new is not None else "")
    if "deletionTimestamp" in deployment["metadata"]:
        return replace(steps, revision="")
    paused = bool(deployment["spec"].get("paused"))
    if paused or _is_scaling(limits, sets):
        replicas = (deployment.get("status") or {}).get("replicas", 0)
        sizes = scaled_sizes(limits, new, old, replicas)
        steps = replace(steps, writes=_writes(deployment, limits, new, old, sizes, annotate_old=True))
        return replace(steps, delete=surplus_history(deployment, old)) if paused else steps
    if _recreates(deployment):
        return _recreate(steps, deployment, limits, new, old, old_pods_run, now_s)
    return _roll(steps, deployment, limits, new, old, now_s)


def _roll(
    steps: Plan, deployment: Object, limits: Bounds, new: Object | None, old: list[Object], now_s: float
) -> Plan:
    """Rule 3."""
    if new is None:
        return _create_new(steps, deployment, limits, old, now_s)
    target = new_set_size(limits, False, new, [*old, new])
    if target != size(new):
        return replace(steps, writes=_writes(deployment, limits, new, old, {new["metadata"]["name"]: target}))
    shrunk = old_set_sizes(limits, new, old)
    writes = _writes(deployment, limits, new, old, shrunk)
    return _finish(replace(steps, writes=writes), deployment, old)


def _recreate(
    steps: Plan,
    deployment: Object,
    limits: Bounds,
    new: Object | None,
    old: list[Object],
    old_pods_run: bool,
    now_s: float,
) -> Plan:
    """Rule 4."""
    if any(size(replica_set) for replica_set in old):
        empty = {replica_set["metadata"]["name"]: 0 for replica_set in old}
        return replace(steps, writes=_writes(deployment, limits, new, old, empty))
    if old_pods_run:
        return steps
    if new is None:
        return _create_new(steps, deployment, limits, old, now_s)
    full = {new["metadata"]["name"]: limits.replicas}
    return _finish(replace(steps, writes=_writes(deployment, limits, new, old, full)), deployment, old)


def _create_new(steps: Plan, deployment: Object, limits: Bounds, old: list[Object], now_s: float) -> Plan:
    """Rule 5: the first set of this template."""
    replicas = new_set_size(limits, _recreates(deployment), None, old)
    made = new_set(deployment, limits, replicas, old)
    text = f'Created new replica set "{made["metadata"]["name"]}"'
    started = condition("Progressing", "True", "NewReplicaSetCreated", text)
    status = calculate(deployment, limits, None, old, now_s, started)
    return replace(steps, create=made, status=status, revision=made["metadata"]["annotations"][REVISION])


def _finish(steps: Plan, deployment: Object, old: list[Object]) -> Plan:
    """Rule 6."""
    if steps.writes or not is_complete(deployment, steps.status):
        return steps
    return replace(steps, delete=surplus_history(deployment, old))


def find_new(deployment: Object, sets: list[Object]) -> Object | None:
    """The oldest set with the Deployment's template."""
    template = deployment["spec"]["template"]
    same = [s for s in sets if _same_template(s["spec"]["template"], template)]
    return min(same, key=age_order, default=None)


def surplus_history(deployment: Object, old: list[Object]) -> list[Object]:
    """Empty old sets beyond the history limit, lowest revision first."""
    limit = deployment["spec"].get("revisionHistoryLimit")
    alive = [s for s in old if "deletionTimestamp" not in s["metadata"]]
    if limit is None or len(alive) <= limit:
        return []
    oldest = sorted(alive, key=lambda s: annotated(s, REVISION) or 0)[: len(alive) - limit]
    return [s for s in oldest if _is_empty(s)]


def _is_empty(replica_set: Object) -> bool:
    status = replica_set.get("status") or {}
    observed = status.get("observedGeneration", 0) >= replica_set["metadata"].get("generation", 0)
    return size(replica_set) == 0 and status.get("replicas", 0) == 0 and observed


def new_set(deployment: Object, limits: Bounds, replicas: int, old: list[Object]) -> Object:
    """The ReplicaSet for the Deployment's template, labelled and named after its hash."""
    spec, meta = deployment["spec"], deployment["metadata"]
    digest = template_hash(spec["template"], (deployment.get("status") or {}).get("collisionCount", 0))
    template = with_value(spec["template"], ("metadata", "labels", HASH_LABEL), digest)
    selector = with_value(spec["selector"], ("matchLabels", HASH_LABEL), digest)
    annotations = without(meta.get("annotations") or {}, *_OWN_ANNOTATIONS)
    annotations |= _size_annotations(limits) | {REVISION: _revision(deployment, None, old)}
    set_spec = {"replicas": replicas, "selector": selector, "template": template}
    if spec.get("minReadySeconds"):
        set_spec["minReadySeconds"] = spec["minReadySeconds"]
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{meta['name']}-{digest}",
            "namespace": meta["namespace"],
            "labels": dict(template["metadata"]["labels"]),
            "annotations": annotations,
            "ownerReferences": [controller_reference(DEPLOYMENTS, deployment)],
        },
        "spec": set_spec,
    }


def template_hash(template: Object, collisions: int) -> str:
    """Ten letters that depend on the template's content, not on the order of its keys."""
    text = msgspec.json.encode([template, collisions], order="deterministic")
    number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
    letters = []
    for _ in range(10):
        number, letter = divmod(number, len(_HASH_LETTERS))
        letters.append(_HASH_LETTERS[letter])
    return "".join(letters)


def _same_template(one: Object, other: Object) -> bool:
    return _without_hash(one) == _without_hash(other)


def _without_hash(template: Object) -> Object:
    metadata = template.get("metadata") or {}
    labels = without(metadata.get("labels") or {}, HASH_LABEL)
    return {**template, "metadata": {**without(metadata, "creationTimestamp"), "labels": labels}}


def _recreates(deployment: Object) -> bool:
    return bool((deployment["spec"].get("strategy") or {}).get("type") == "Recreate")


def _is_scaling(limits: Bounds, sets: list[Object]) -> bool:
    """Whether an active set was last sized for another number of replicas."""
    wanted = [annotated(replica_set, DESIRED) for replica_set in sets if size(replica_set) > 0]
    return any(desired is not None and desired != limits.replicas for desired in wanted)


def _revision(deployment: Object, new: Object | None, old: list[Object]) -> str:
    """One more than any old set's; a new set that has more keeps it."""
    following = max((annotated(s, REVISION) or 0 for s in old), default=0) + 1
    current = (annotated(new, REVISION) or 0) if new is not None else 0
    return str(max(following, current))


def _size_annotations(limits: Bounds) -> dict[str, str]:
    return {DESIRED: str(limits.replicas), MAXIMUM: str(limits.total_max)}


def _writes(
    deployment: Object,
    limits: Bounds,
    new: Object | None,
    old: list[Object],
    sizes: Sizes,
    *,
    annotate_old: bool = False,
) -> list[SetWrite]:
    """Sets that must be written: resized ones, the new one with its annotations, and with `annotate_old`
    the active old ones too (so that a change of replicas is dealt with once)."""
    writes = []
    for before in ([new] if new is not None else []) + old:
        target = sizes.get(before["metadata"]["name"], size(before))
        resized = target != size(before)
        after = with_value(before, ("spec", "replicas"), target) if resized else before
        if before is new:
            after = _updated_new(after, deployment, limits, old)
        elif resized or (annotate_old and size(before) > 0):
            after = _annotate(after, _size_annotations(limits))
        if after != before:
            writes.append(SetWrite(before, after))
    return writes


def _updated_new(new: Object, deployment: Object, limits: Bounds, old: list[Object]) -> Object:
    """The new set repeats the Deployment's annotations and minReadySeconds, and has the highest revision."""
    annotations = without(deployment["metadata"].get("annotations") or {}, *_OWN_ANNOTATIONS)
    annotations |= _size_annotations(limits)
    revision = _revision(deployment, new, old)
    current = (new["metadata"].get("annotations") or {}).get(REVISION, "")
    if revision != current:
        history = (new["metadata"].get("annotations") or {}).get(REVISION_HISTORY, "")
        annotations[REVISION] = revision
        if current:
            annotations[REVISION_HISTORY] = f"{history},{current}" if history else current
    min_ready_s = deployment["spec"].get("minReadySeconds", 0)
    if new["spec"].get("minReadySeconds", 0) != min_ready_s:
        new = with_value(new, ("spec", "minReadySeconds"), min_ready_s)
    return _annotate(new, annotations)


def _annotate(replica_set: Object, annotations: dict[str, str]) -> Object:
    current = replica_set["metadata"].get("annotations") or {}
    if annotations.items() <= current.items():
        return replica_set
    return with_value(replica_set, ("metadata", "annotations"), {**current, **annotations})
