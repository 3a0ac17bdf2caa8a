"""Metrics of Jobs and CronJobs under the names that Kubernetes' controllers serve. Called by their controllers.

Everything is counted from what was written: a status that the API took is compared with the one before, so that a
round that fails and is repeated counts once.
"""

from collections.abc import Iterable

from prometheus_client import Counter, Histogram

from orchestrator.api import job_indexes
from orchestrator.api.item import Item, Object
from orchestrator.controllers.jobpods import MANAGER, TRACKING
from orchestrator.controllers.views import pod_view

_MODE = "completion_mode"
_SYNC = (_MODE, "result", "action")
_BUCKETS_S = [0.004 * 2**power for power in range(15)]
_SKEW_BUCKETS_S = [2.0**power for power in range(10)]

SYNC_S = Histogram("job_controller_job_sync_duration_seconds", "The time it took to sync a job", _SYNC,
                   buckets=_BUCKETS_S)  # fmt: skip
SYNCS = Counter("job_controller_job_syncs_total", "The number of job syncs", _SYNC)
FINISHED = Counter(
    "job_controller_jobs_finished_total", "The number of finished jobs", (_MODE, "result", "reason")
)
PODS_FINISHED = Counter(
    "job_controller_job_pods_finished_total",
    "The number of finished Pods that are fully tracked",
    (_MODE, "result"),
)
EXTERNAL = Counter(
    "job_controller_jobs_by_external_controller_total",
    "The number of Jobs managed by an external controller",
    ("controller_name",),
)
BY_POLICY = Counter(
    "job_controller_pod_failures_handled_by_failure_policy_total",
    "Failed Pods by the action of the failure policy's rule that matched: FailJob, FailIndex, Ignore or Count.",
    ("action",),
)
TRACKED = Counter(
    "job_controller_terminated_pods_tracking_finalizer_total",
    "Terminated pods that gained (add) or lost (delete) the finalizer batch.kubernetes.io/job-tracking.",
    ("event",),
)
INDEXES = Counter(
    "job_controller_job_finished_indexes_total",
    "Finished indexes by status and by whether the Job limits failures per index.",
    ("status", "backoffLimit"),
)
CREATED = Counter(
    "job_controller_job_pods_creation_total",
    "Pods that the Job controller created or tried to, and why.",
    ("reason", "status"),
)
SKEW_S = Histogram(
    "cronjob_controller_job_creation_skew_duration_seconds",
    "Time between when a cronjob is scheduled to be run, and when the corresponding job is created",
    buckets=_SKEW_BUCKETS_S,
)


def mode(spec: Object) -> str:
    return spec.get("completionMode") or "NonIndexed"


def synced(spec: Object, ok: bool, action: str, duration_s: float) -> None:
    """One look at a Job; `action` is `reconciling`, `tracking`, `pods_created` or `pods_deleted`."""
    labels = mode(spec), "success" if ok else "error", action
    SYNCS.labels(*labels).inc()
    SYNC_S.labels(*labels).observe(duration_s)


def created(spec: Object, status: Object, made: int, refused: int) -> None:
    """Pods of one round. Only after failures, or while pods end, do new ones replace others."""
    reason = "new"
    if spec.get("podReplacementPolicy") == "Failed":
        reason = "recreate_failed" if status.get("failed") else reason
    elif status.get("failed") or status.get("terminating"):
        reason = "recreate_terminating_or_failed"
    for result, number in (("succeeded", made), ("failed", refused)):
        if number:
            CREATED.labels(reason, result).inc(number)


def status_written(spec: Object, old: Object, new: Object) -> None:
    """What the new status counts and says that the old one did not."""
    for result in ("succeeded", "failed"):
        _add(PODS_FINISHED.labels(mode(spec), result), new.get(result, 0) - old.get(result, 0))
    if mode(spec) == "Indexed":
        _indexes(spec, old, new)
    before = {entry["type"] for entry in old.get("conditions") or () if entry["status"] == "True"}
    for entry in new.get("conditions") or ():
        kind = entry["type"]
        if kind in _RESULTS and entry["status"] == "True" and kind not in before:
            FINISHED.labels(mode(spec), _RESULTS[kind], entry.get("reason", "")).inc()


_RESULTS = {"Complete": "succeeded", "Failed": "failed"}


def _indexes(spec: Object, old: Object, new: Object) -> None:
    completions, limit = spec.get("completions") or 0, spec.get("backoffLimitPerIndex")
    scope = "global" if limit is None else "perIndex"
    for result, name in (("succeeded", "completedIndexes"), ("failed", "failedIndexes")):
        if new.get(name) != old.get(name):
            after, before = (
                job_indexes.count(job_indexes.known(status.get(name) or "", completions))
                for status in (new, old)
            )
            _add(INDEXES.labels(result, scope), after - before)


def _add(counter: Counter, number: int) -> None:
    """Counters that somebody lowered by hand are no news."""
    if number > 0:
        counter.inc(number)


def judged(actions: Iterable[str]) -> None:
    """Rules of a failure policy that decided about a failed pod; empty for none."""
    for action in actions:
        if action:
            BY_POLICY.labels(action).inc()


def job_seen(item: Item) -> None:
    """A Job appeared. Only one that names its manager is decoded."""
    if b'"managedBy"' in item.raw:
        manager = item.object["spec"].get("managedBy")
        if manager and manager != MANAGER:
            EXTERNAL.labels(manager).inc()


def pod_changed(old: Item | None, new: Item | None) -> None:
    was, now = _ended_and_tracked(old), _ended_and_tracked(new)
    if was != now:
        TRACKED.labels("add" if now else "delete").inc()


def _ended_and_tracked(pod: Item | None) -> bool:
    return pod is not None and TRACKING in pod.meta.finalizers and pod_view(pod).finished
