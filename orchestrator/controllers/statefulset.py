"""StatefulSet: pods that keep their names and claims, `<set>-<ordinal>`, one of each at most.

1. A pod belongs to the set that its controller reference names; one with a name of the set that matches and has no
   controller is adopted. A place is taken until its pod is really gone.
2. Every ordinal from `ordinals.start` on has a pod. One that ended is deleted and made anew. OrderedReady goes up
   one by one and waits until each pod is available; Parallel makes all at once.
3. What a pod or its claims lack (labels, claims, their owners) is put right.
4. Pods beyond are deleted, the highest first; OrderedReady waits for each to end, and for the others to be healthy.
5. The template now is the update revision, the one before it the current revision. Places below `partition` are
   made from the current one, others from the update. A template used before brings its revision back.
6. RollingUpdate deletes pods of another revision down to `partition`, the highest first, at most `maxUnavailable`
   at a time. Parallel first replaces those that are unavailable anyway, however many. OnDelete deletes none.
7. The update revision becomes the current one when all pods have it and are ready. Revisions that neither a pod
   nor the status names go, the oldest first, beyond revisionHistoryLimit.
8. Status counts pods, ready, available (ready for minReadySeconds) and per revision.
"""

from functools import partial

from orchestrator.api.errors import AlreadyExists, ApiError, NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import CONTROLLERREVISIONS, PERSISTENTVOLUMECLAIMS, PODS, STATEFULSETS
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.claim import claim
from orchestrator.controllers.freshness import LAG_S, Freshness
from orchestrator.controllers.objects import controller_index, controller_of, with_value
from orchestrator.controllers.pods import Failure, PodControl, Texts, slow_start
from orchestrator.controllers.revisions import (
    HASH_LABEL,
    History,
    new_revision,
    number_of,
    same,
    surplus,
    template_of,
)
from orchestrator.controllers.selecting import orphan_index, orphans_for, selector_of
from orchestrator.controllers.statefulclaims import Claims
from orchestrator.controllers.statefulplan import (
    Member,
    Observed,
    Places,
    Revisions,
    members,
    plan,
    status,
)
from orchestrator.controllers.statefulpods import (
    claim_names,
    claims_index,
    has_claims,
    identity_labels,
    new_stateful_pod,
    place_of,
    with_claims,
)
from orchestrator.controllers.statuses import write_status
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

REVISION_HASH_LABEL = "controller.kubernetes.io/hash"
_TEXTS = Texts(
    "create Pod {pod} in StatefulSet {owner} successful",
    "delete Pod {pod} in StatefulSet {owner} successful",
    "create Pod {pod} in StatefulSet {owner} failed error: {error}",
    "delete Pod {pod} in StatefulSet {owner} failed error: {error}",
)


class StatefulSetController:
    name = "statefulset"
    watches = (STATEFULSETS, PODS, PERSISTENTVOLUMECLAIMS, CONTROLLERREVISIONS)
    writes = (PODS, PERSISTENTVOLUMECLAIMS, CONTROLLERREVISIONS, STATEFULSETS)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client
        self._clock = clock
        self._recorder = recorder
        self._freshness = Freshness()
        self._fitting: dict[str, set[str]] = {}
        """Uids of pods, per key, whose volumes were found to be the claims of their place: they never change."""

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._sets = informers.of(STATEFULSETS)
        self._pods = informers.of(PODS)
        self._history = History(self._client, STATEFULSETS, self._freshness, informers, queue.add)
        claims = informers.of(PERSISTENTVOLUMECLAIMS)
        self._control = PodControl(self._client, self._recorder, self._freshness, self._pods, _TEXTS)
        self._claims = Claims(self._client, self._recorder, self._freshness, claims)
        self._sets.add_index("claims", claims_index)
        self._pods.add_index("controller", controller_index)
        self._pods.add_index("orphan", orphan_index)
        self._sets.on_change(lambda old, new: queue.add(key_of(new or old)))  # type: ignore[arg-type]
        self._pods.on_change(self._pod_changed)
        claims.on_change(self._claim_changed)

    async def reconcile(self, key: str) -> float | None:
        item = self._sets.get(key)
        if item is None:
            self._forget(key)
            return None
        if not self._freshness.fresh(key):
            return LAG_S
        stateful_set, now_s = item.object, self._clock.now_s()
        pods = await self._claimed(key, item, stateful_set)
        history = await self._history.revisions(key, item)
        revisions = await self._revisions(key, stateful_set, history)
        places = members(stateful_set, revisions, pods, self._control.gone(key, pods), now_s)
        failure = await self._act(key, stateful_set, revisions, places)
        if self._control.gone(key, pods):
            places = members(stateful_set, revisions, pods, self._control.gone(key, pods), now_s)
        new = status(stateful_set, revisions, places)
        await write_status(self._client, STATEFULSETS, stateful_set, new, key, self._freshness, self._sets)
        for revision in _unused(stateful_set, new, history, pods):
            await self._history.delete(revision)
        if failure is not None and not failure.final:
            raise failure.error
        return _look_again_s(stateful_set, places)

    def _forget(self, key: str) -> None:
        self._freshness.forget(key)
        self._control.forget(key)
        self._fitting.pop(key, None)

    def _pod_changed(self, old: Item | None, new: Item | None) -> None:
        """Wakes the pod's set, and the one that its name belongs to: it may adopt it or wait for its end."""
        for item in (old, new):
            if item is None:
                continue
            owner = controller_of(item.meta)
            if owner is not None and owner.kind == STATEFULSETS.kind:
                self._queue.add(f"{item.meta.namespace}/{owner.name}")
            elif (place := place_of(item.meta.name)) is not None:
                key = f"{item.meta.namespace}/{place[0]}"
                if self._sets.get(key) is not None:
                    self._queue.add(key)

    def _claim_changed(self, old: Item | None, new: Item | None) -> None:
        """A claim that is gone may have kept a pod from being made."""
        if old is None or new is not None:
            return
        place = place_of(old.meta.name)
        if place is not None:
            for candidate in self._sets.by_index("claims", f"{old.meta.namespace}/{place[0]}"):
                self._queue.add(key_of(candidate))

    async def _claimed(self, key: str, item: Item, stateful_set: Object) -> list[Item]:
        selector, meta = selector_of(item), item.meta
        orphans = orphans_for(self._pods, meta.namespace, selector)
        claims = await claim(
            self._client,
            STATEFULSETS,
            stateful_set,
            selector,
            PODS,
            self._pods.by_index("controller", meta.uid),
            [pod for pod in orphans if (place_of(pod.meta.name) or ("",))[0] == meta.name],
        )
        for written in claims.written:
            self._freshness.wrote(key, self._pods, written)
        return claims.owned

    async def _revisions(self, key: str, stateful_set: Object, history: list[Object]) -> Revisions:
        """Rule 5. A set that is being deleted makes no history."""
        old, template = stateful_set.get("status") or {}, stateful_set["spec"]["template"]
        collisions = old.get("collisionCount", 0)
        equal = [revision for revision in history if same(revision, template)]
        if "deletionTimestamp" in stateful_set["metadata"]:
            update = equal[-1] if equal else {"metadata": {"name": old.get("updateRevision", "")}}
        elif not equal:
            number = number_of(history[-1]) + 1 if history else 1
            update, collisions = await self._new_revision(key, stateful_set, number, collisions)
        elif equal[-1] is not history[-1]:
            update = await self._history.renumber(key, equal[-1], number_of(history[-1]) + 1)
        else:
            update = equal[-1]
        current = [r for r in history if r["metadata"]["name"] == old.get("currentRevision")]
        return Revisions(current[0] if current else update, update, collisions)

    async def _new_revision(
        self, key: str, stateful_set: Object, number: int, collisions: int
    ) -> tuple[Object, int]:
        """A name that another template has taken is one more collision."""
        while True:
            wanted = new_revision(STATEFULSETS, stateful_set, number, collisions, REVISION_HASH_LABEL)
            try:
                return await self._history.create(key, wanted), collisions
            except AlreadyExists:
                existing = await self._history.existing(wanted)
                if existing.get("data") == wanted["data"]:
                    return existing, collisions
                collisions += 1

    def _observed(self, key: str, stateful_set: Object, places: Places) -> Observed:
        """What plans need to know of claims and labels."""
        fitting = self._fitting.setdefault(key, set())
        uids = {m.pod.meta.uid for m in places.all if m.pod is not None}
        fitting &= uids
        unkempt = set()
        for away, group in ((False, places.replicas), (True, places.condemned)):
            for member in group:
                if member.pod is not None and self._unkempt(stateful_set, member, fitting, away=away):
                    unkempt.add(member.name)
        lacking, blocked = set(), set()
        if stateful_set["spec"].get("volumeClaimTemplates"):
            for m in places.replicas:
                if m.pending and self._claims.lack(stateful_set, m.ordinal):
                    lacking.add(m.name)
                if m.pod is None and self._claims.block(stateful_set, m.ordinal):
                    blocked.add(m.name)
        return Observed(unkempt, lacking, blocked)

    def _unkempt(self, stateful_set: Object, member: Member, fitting: set[str], *, away: bool) -> bool:
        pod = member.pod
        assert pod is not None
        if not stateful_set["spec"].get("volumeClaimTemplates"):
            return not away and not _labelled(member)
        if not away and pod.meta.uid not in fitting:
            if not has_claims(pod, claim_names(stateful_set, member.ordinal)):
                return True
            fitting.add(pod.meta.uid)
        mislabelled = not away and not _labelled(member)
        return mislabelled or self._claims.misowned(stateful_set, member.ordinal, pod, away=away)

    async def _act(
        self, key: str, stateful_set: Object, revisions: Revisions, places: Places
    ) -> Failure | None:
        """Stage by stage; what fails ends it."""
        if "deletionTimestamp" in stateful_set["metadata"]:
            return None
        handlers = {
            "create": self._create, "claims": self._make_claims, "tidy": self._tidy,
            "own": self._own_claims, "delete": self._delete,
        }  # fmt: skip
        for stage in plan(stateful_set, revisions, places, self._observed(key, stateful_set, places)):
            attempts = [
                partial(handlers[step.verb], key, stateful_set, revisions, step.member) for step in stage
            ]
            error = await slow_start(attempts)
            if error is not None:
                return Failure("Failed", error)
        return None

    async def _create(
        self, key: str, stateful_set: Object, revisions: Revisions, member: Member
    ) -> ApiError | None:
        error = await self._claims.make(key, stateful_set, member.ordinal)
        if error is not None:
            name = stateful_set["metadata"]["name"]
            text = _TEXTS.not_created.format(pod=member.name, owner=name, error=error.message)
            self._recorder.event(stateful_set, "Warning", "FailedCreate", text)
            return error
        template = template_of(revisions.by_name(member.revision))
        pod = new_stateful_pod(stateful_set, template, member.ordinal, member.revision)
        return await self._control.create_one(key, stateful_set, pod)

    async def _make_claims(
        self, key: str, stateful_set: Object, revisions: Revisions, member: Member
    ) -> ApiError | None:
        return await self._claims.make(key, stateful_set, member.ordinal)

    async def _own_claims(
        self, key: str, stateful_set: Object, revisions: Revisions, member: Member
    ) -> ApiError | None:
        assert member.pod is not None
        return await self._claims.own(key, stateful_set, member.ordinal, member.pod, away=True)

    async def _delete(
        self, key: str, stateful_set: Object, revisions: Revisions, member: Member
    ) -> ApiError | None:
        assert member.pod is not None
        failure = await self._control.delete(key, stateful_set, [member.pod])
        return failure.error if failure is not None else None

    async def _tidy(
        self, key: str, stateful_set: Object, revisions: Revisions, member: Member
    ) -> ApiError | None:
        """Rule 3, told as one event."""
        pod, owner = member.pod, stateful_set["metadata"]["name"]
        assert pod is not None
        error = await self._claims.own(key, stateful_set, member.ordinal, pod, away=False)
        if error is None:
            error = await self._rewrite(key, stateful_set, member)
        outcome = "successful" if error is None else f"failed error: {error.message}"
        text = f"update Pod {member.name} in StatefulSet {owner} {outcome}"
        kind, reason = ("Normal", "SuccessfulUpdate") if error is None else ("Warning", "FailedUpdate")
        self._recorder.event(stateful_set, kind, reason, text)
        return error

    async def _rewrite(self, key: str, stateful_set: Object, member: Member) -> ApiError | None:
        """Labels and volumes as they shall be; the API refuses other volumes, which tells why the pod is stuck."""
        assert member.pod is not None
        old = member.pod.object
        labels = {**(old["metadata"].get("labels") or {}), **identity_labels(member.name, member.ordinal)}
        new = with_value(old, ("metadata", "labels"), labels)
        volumes = old["spec"].get("volumes") or []
        if not has_claims(member.pod, claim_names(stateful_set, member.ordinal)):
            error = await self._claims.make(key, stateful_set, member.ordinal)
            if error is not None:
                return error
            new = with_value(new, ("spec", "volumes"), with_claims(stateful_set, member.ordinal, volumes))
        if new == old:
            return None
        try:
            written = await self._client.update(PODS, new)
        except NotFound:
            return None
        except ApiError as error:
            return error
        self._freshness.wrote(key, self._pods, written)
        return None


def _unused(stateful_set: Object, new: Object, history: list[Object], pods: list[Item]) -> list[Object]:
    """Rule 7, for a set that is to stay."""
    if "deletionTimestamp" in stateful_set["metadata"]:
        return []
    live = {pod.labels.get(HASH_LABEL, "") for pod in pods}
    live |= {new["currentRevision"], new["updateRevision"]}
    limit = stateful_set["spec"].get("revisionHistoryLimit", 10)
    return surplus(history, live, limit, live_count=False)


def _look_again_s(stateful_set: Object, places: Places) -> float | None:
    waits = [member.wait_s for member in places.all if member.ready and member.wait_s > 0]
    return min(waits, default=None)


def _labelled(member: Member) -> bool:
    assert member.pod is not None
    return identity_labels(member.name, member.ordinal).items() <= member.pod.labels.items()
