"""Job: runs pods until enough of them succeeded, or until it may not go on.

1. A Job that is finished, or that another controller manages, is left alone; so are its counters.
2. A pod is the Job's by its controller reference; a matching one without is adopted, with the finalizer by which
   pods are counted; one that no longer matches is released.
3. It ends by a rule of its policies, by more failures than allowed, by its deadline, by failed indexes or by
   enough successes: it says so, deletes what still runs, counts, and then is Failed or Complete.
4. Else as many pods run as it may have at once and still needs; after failures new ones wait (see `jobpolicies`).
   A suspended Job has none, and starts its time anew when it is resumed.
5. Pods are counted exactly once (see `jobcount`).
6. Pods with that finalizer whose Job is gone or finished lose it.
7. Nothing is decided from a cache that lacks this controller's own writes; many changes of a Job's pods become
   one look at it.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

from orchestrator.api.errors import ApiError, NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.resources import JOBS, PODS
from orchestrator.api.selectors import from_label_selector
from orchestrator.api.times import timestamp
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers import jobmetrics
from orchestrator.controllers.claim import claim
from orchestrator.controllers.freshness import LAG_S, Freshness
from orchestrator.controllers.jobcount import (
    Tally,
    account,
    condition,
    finished,
    is_finished,
    released,
    tally,
    with_job_condition,
)
from orchestrator.controllers.jobplan import Steps, complete, deadline_s, ending, plan
from orchestrator.controllers.jobpods import (
    MANAGER,
    TRACKING,
    UID_LABEL,
    JobPod,
    indexed_pods,
    job_index,
    job_pod,
    orphan_index,
    plain_pod,
    wanted,
)
from orchestrator.controllers.jobpolicies import Failures
from orchestrator.controllers.objects import controller_index, controller_of, split_key, with_value
from orchestrator.controllers.pods import Failure, PodControl, slow_start
from orchestrator.controllers.spacing import Spacing
from orchestrator.controllers.views import pod_view
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

_LOOSE = "pod:"
"""Keys of pods without a manager that carry the finalizer."""


@dataclass(slots=True)
class Changes:
    """What this round did to the pods."""

    made: int = 0
    removed: frozenset[str] = frozenset()
    """Uids of those that were deleted and shall not count."""
    failure: Failure | None = None
    action: str = "tracking"
    """As the metrics name it."""


class JobController:
    name = "job"
    watches = (JOBS, PODS)
    writes = (PODS, JOBS)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client
        self._clock = clock
        self._recorder = recorder
        self._freshness = Freshness()
        self._failures: dict[str, Failures] = {}

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._spacing = Spacing(queue, self._clock)
        self._jobs = informers.of(JOBS)
        self._pods = informers.of(PODS)
        self._control = PodControl(self._client, self._recorder, self._freshness, self._pods)
        self._jobs.add_index("uid", lambda item: (item.meta.uid,))
        self._jobs.add_index("manual", manual_index)
        self._pods.add_index("controller", controller_index)
        self._pods.add_index("job", job_index)
        self._pods.add_index("job-orphan", orphan_index)
        self._jobs.on_change(self._job_changed)
        self._pods.on_change(self._pod_changed)

    async def reconcile(self, key: str) -> float | None:
        if key.startswith(_LOOSE):
            return await self._loosen(key.removeprefix(_LOOSE))
        item = self._jobs.get(key)
        if not self._freshness.fresh(key):
            return LAG_S
        strangers = [pod for pod in self._pods.by_index("job", key) if _stranger(pod, item)]
        if strangers:
            await self._release_strangers(key, strangers, item)
        if item is None or is_finished(item.object.get("status") or {}):
            self._forget(key)
            return None
        if (item.object["spec"].get("managedBy") or MANAGER) != MANAGER:
            return None
        self._spacing.looked(key)
        try:
            pods = await self._claimed(key, item)
            return LAG_S if pods is None else await self._timed_look(key, item.object, pods)
        except NotFound:
            return None  # The Job went meanwhile.

    # ── Waking ──────────────────────────────────────────────────────────────────────────────────────────

    def _job_changed(self, old: Item | None, new: Item | None) -> None:
        if old is None and new is not None:
            jobmetrics.job_seen(new)
        self._spacing.wake(key_of(new or old))  # type: ignore[arg-type]

    def _pod_changed(self, old: Item | None, new: Item | None) -> None:
        jobmetrics.pod_changed(old, new)
        for item in (old, new):
            if item is None or (item is old and old is new):
                continue
            owner = controller_of(item.meta)
            if owner is not None:
                if owner.kind == "Job":
                    self._spacing.wake(f"{item.meta.namespace}/{owner.name}")
            elif item is new:
                self._orphan_changed(item)

    def _orphan_changed(self, pod: Item) -> None:
        if TRACKING in pod.meta.finalizers:
            self._queue.add(_LOOSE + key_of(pod))
        for job in self._adopters(pod):
            self._spacing.wake(key_of(job))

    def _adopters(self, pod: Item) -> list[Item]:
        """Jobs that may take a pod that nobody manages."""
        named = self._jobs.by_index("uid", pod.labels.get(UID_LABEL, ""))
        chosen = [
            job
            for job in self._jobs.by_index("manual", pod.meta.namespace)
            if from_label_selector(job.object["spec"]["selector"]).matches(pod.labels)
        ]
        return [job for job in named + chosen if not is_finished(job.object.get("status") or {})]

    def _forget(self, key: str) -> None:
        self._failures.pop(key, None)
        self._spacing.forget(key)
        self._freshness.forget(key)
        self._control.forget(key)

    # ── Whose pods ──────────────────────────────────────────────────────────────────────────────────────

    async def _claimed(self, key: str, item: Item) -> list[Item] | None:
        """The Job's pods; None when some were adopted or released, and the cache does not show it yet."""
        meta, spec = item.meta, item.object["spec"]
        orphans = self._pods.by_index("job-orphan", meta.uid)
        if spec.get("manualSelector"):
            orphans = self._pods.by_index("controller", f"orphan/{meta.namespace}")
        claims = await claim(
            self._client,
            JOBS,
            item.object,
            from_label_selector(spec["selector"]),
            PODS,
            self._pods.by_index("job", meta.uid),
            [pod for pod in orphans if not pod_view(pod).finished],
            finalizer=TRACKING,
        )
        for written in claims.written:
            self._freshness.wrote(key, self._pods, written)
        return None if claims.written else claims.owned

    async def _loosen(self, key: str) -> float | None:
        """Rule 6 for a pod that nobody manages, unless a Job is about to adopt it."""
        pod = self._pods.get(key)
        if pod is None or TRACKING not in pod.meta.finalizers or controller_of(pod.meta) is not None:
            return None
        if any("deletionTimestamp" not in job.object["metadata"] for job in self._adopters(pod)):
            return None
        await self._release(f"{_LOOSE}{key}", [pod])
        self._freshness.forget(f"{_LOOSE}{key}")
        return None

    async def _release_strangers(self, key: str, pods: list[Item], job: Item | None) -> None:
        """Rule 6 for pods whose Job is gone, was replaced by one of the same name, or has finished."""
        job_uid = job.meta.uid if job is not None else ""
        loose = [pod for pod in pods if _owner_uid(pod) == job_uid]
        if len(loose) < len(pods):
            # The cache may not show a Job yet that its pods name already.
            live_uid = await self._live_uid(key)
            loose = [pod for pod in pods if _owner_uid(pod) == job_uid or _owner_uid(pod) != live_uid]
        await self._release(key, loose)

    async def _live_uid(self, key: str) -> str:
        namespace, name = split_key(key)
        try:
            uid: str = (await self._client.get(JOBS, name, namespace))["metadata"]["uid"]
        except NotFound:
            return ""
        return uid

    async def _release(self, key: str, pods: Iterable[Item]) -> None:
        """Take the finalizer off `pods`, all at once. Raises the first failure when every attempt was made."""
        results = await asyncio.gather(*(self._untrack(key, pod) for pod in pods))
        for error in results:
            if error is not None:
                raise error

    async def _untrack(self, key: str, pod: Item) -> ApiError | None:
        meta = pod.meta
        patch = {"metadata": {"uid": meta.uid, "$deleteFromPrimitiveList/finalizers": [TRACKING]}}
        try:
            written = await self._client.patch(PODS, meta.name, meta.namespace, patch, type="strategic")
        except NotFound:
            return None
        except ApiError as error:
            return error
        self._freshness.wrote(key, self._pods, written)
        return None

    # ── One round ───────────────────────────────────────────────────────────────────────────────────────

    async def _timed_look(self, key: str, job: Object, items: list[Item]) -> float | None:
        changes, since_s, ok = Changes(), self._clock.monotonic_s(), False
        try:
            again_s = await self._look(key, job, items, changes)
            ok = True
            return again_s
        finally:
            jobmetrics.synced(job["spec"], ok, changes.action, self._clock.monotonic_s() - since_s)

    async def _look(self, key: str, job: Object, items: list[Item], changes: Changes) -> float | None:
        now_s = self._clock.now_s()
        want = wanted(job["spec"])
        gone = self._control.gone(key, items)
        pods = [job_pod(item, want, gone) for item in items]
        count = tally(job.get("status") or {}, want, pods, self._failures.get(key, Failures()))
        target, steps = ending(job, count, now_s), Steps()
        goes_on = target is None and "deletionTimestamp" not in job["metadata"]
        if goes_on:
            steps = plan(count, now_s)
            await self._change(key, job, count, steps, changes)
        if target is None:
            target = complete(count, len(count.active) + changes.made - len(changes.removed))
        await self._count(key, job, count, target, changes, goes_on)
        if changes.failure is not None and not changes.failure.final:
            raise changes.failure.error
        left_s = deadline_s(job, now_s) if target is None else None
        return min((wait_s for wait_s in (steps.look_again_s, left_s) if wait_s is not None), default=None)

    async def _change(self, key: str, job: Object, count: Tally, steps: Steps, changes: Changes) -> None:
        """Make and delete pods."""
        if steps.delete:
            await self._remove(key, job, steps.delete, changes)
            return
        new: list[Object] = []
        if steps.number:
            new = [plain_pod(job)] * steps.number
        elif steps.indexes:
            new = indexed_pods(job, steps.indexes, replaced_counts(count, steps.indexes))
        refused = 0

        async def make(pod: Object) -> ApiError | None:
            nonlocal refused
            error = await self._control.create_one(key, job, pod)
            changes.made += error is None
            refused += error is not None
            return error

        if new:
            changes.action = "pods_created"
        error = await slow_start([partial(make, pod) for pod in new])
        changes.failure = Failure("FailedCreate", error) if error is not None else None
        jobmetrics.created(job["spec"], job.get("status") or {}, changes.made, refused)

    async def _remove(self, key: str, job: Object, pods: list[JobPod], changes: Changes) -> None:
        """Delete pods that shall not count: their finalizer goes first."""
        changes.action = "pods_deleted"
        await self._release(key, [pod.item for pod in pods if pod.tracked])
        changes.failure = await self._control.delete(key, job, [pod.item for pod in pods])
        changes.removed = frozenset(self._control.gone(key, [pod.item for pod in pods]))

    async def _count(
        self, key: str, job: Object, count: Tally, target: Object | None, changes: Changes, goes_on: bool
    ) -> None:
        """Rule 5, and the status: what is decided, then the finalizers, then what they allow."""
        now = timestamp(self._clock.now_s())
        status = started(job, target, now, goes_on)
        numbers = counters(count, target, changes)
        kept = [pod for pod in count.pods if pod.uid not in changes.removed]
        first = account(status, job, replace(count, pods=kept), target, numbers)
        job = await self._write_status(key, job, first.status)
        jobmetrics.judged(handled(count, first.release))
        self._failures[key] = count.failures
        if target is not None:
            await self._stop(key, job, count.active)
        await self._release(key, [pod.item for pod in first.release])
        second = released(first.status, first.release)
        if target is not None and first.whole:
            second = finished(second, target, now)
        await self._write_status(key, job, second)

    async def _stop(self, key: str, job: Object, pods: list[JobPod]) -> None:
        """Delete what still runs; it keeps its finalizer until it is counted."""
        failure = await self._control.delete(key, job, [pod.item for pod in pods])
        if failure is not None:
            raise failure.error

    async def _write_status(self, key: str, job: Object, new: Object) -> Object:
        """The Job with the status `new`; told in events what that means. Raises `NotFound`, `Conflict`."""
        old = job.get("status") or {}
        if new == old:
            return job
        written = await self._client.update(JOBS, with_value(job, ("status",), new), subresource="status")
        self._freshness.wrote(key, self._jobs, written)
        jobmetrics.status_written(job["spec"], old, new)
        for kind, reason, message in news(job["spec"], old, new):
            self._recorder.event(job, kind, reason, message)
        return written


def manual_index(item: Item) -> tuple[str, ...]:
    """Index function `manual`: the namespace of a Job that chose its selector itself."""
    return (item.meta.namespace,) if item.object["spec"].get("manualSelector") else ()


def _owner_uid(pod: Item) -> str:
    owner = controller_of(pod.meta)
    return owner.uid if owner is not None else ""


def _stranger(pod: Item, job: Item | None) -> bool:
    """Whether the pod carries the finalizer, but no Job will count it."""
    if TRACKING not in pod.meta.finalizers:
        return False
    if job is None or _owner_uid(pod) != job.meta.uid:
        return True
    managed = (job.object["spec"].get("managedBy") or MANAGER) == MANAGER
    return managed and is_finished(job.object.get("status") or {})


def replaced_counts(count: Tally, indexes: list[int]) -> dict[int, tuple[int, int]] | None:
    """For each index with a failed pod the failures that its next one carries on: counted, ignored."""
    if count.want.index_limit is None:
        return None
    found = {}
    for index in indexes:
        pod = count.delayed.get(index)
        if pod is not None:
            counts = count.verdicts[pod.uid].counts
            found[index] = (pod.index_failures + counts, pod.index_ignored + (not counts))
    return found


def handled(count: Tally, released: Iterable[JobPod]) -> list[str]:
    """Actions of the rules that decided about failed pods, each pod once: not those that were noted before."""
    noted = count.uncounted["failed"]
    failed = (pod for pod in released if pod.failed and pod.uid not in noted)
    return [count.verdicts[pod.uid].action for pod in failed if pod.uid in count.verdicts]


def counters(count: Tally, target: Object | None, changes: Changes) -> dict[str, int]:
    """The numbers of pods as they are after this round; a Job that ends has deleted the active ones."""
    kept = [pod for pod in count.active if pod.uid not in changes.removed]
    gone = len(count.active) - len(kept)
    if target is not None:
        return {"active": 0, "ready": 0, "terminating": count.terminating + len(count.active)}
    ready = sum(pod.view.ready for pod in kept)
    return {"active": len(kept) + changes.made, "ready": ready, "terminating": count.terminating + gone}


def started(job: Object, target: Object | None, now: str, goes_on: bool) -> Object:
    """The status with the start time and the conditions of a Job that ends as `target` says, or `goes_on`."""
    status, suspended = dict(job.get("status") or {}), bool(job["spec"].get("suspend"))
    conditions = status.get("conditions") or []
    if "startTime" not in status and not suspended:
        status["startTime"] = now
    if target is not None:
        conditions = with_job_condition(conditions, target, now)
    elif goes_on:
        state = (
            ("True", "JobSuspended", "Job suspended") if suspended else ("False", "JobResumed", "Job resumed")
        )
        changed = with_job_condition(conditions, condition("Suspended", *state[1:], state[0]), now)
        if changed is not conditions and not suspended:
            status["startTime"] = now
        conditions = changed
    return {**status, "conditions": conditions} if conditions else status


def news(spec: Object, old: Object, new: Object) -> list[tuple[str, str, str]]:
    """Events (type, reason, message) about what the new status says for the first time."""
    before = {entry["type"]: entry["status"] for entry in old.get("conditions") or ()}
    found = []
    for entry in new.get("conditions") or ():
        kind, status = entry["type"], entry["status"]
        if before.get(kind) == status:
            continue
        if kind == "Suspended":
            found.append(("Normal", "Suspended" if status == "True" else "Resumed", entry["message"]))
        elif kind == "Failed":
            found.append(("Warning", entry["reason"], entry["message"]))
        elif kind == "Complete":
            if new.get("succeeded", 0) > (spec.get("completions") or new.get("succeeded", 0)):
                text = "Too many succeeded pods running after completion count reached"
                found.append(("Warning", "TooManySucceededPods", text))
            found.append(("Normal", "Completed", "Job completed"))
    return found
