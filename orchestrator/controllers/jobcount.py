"""How a Job's pods are counted, exactly once each, whatever fails in between. Pure; called by the Job controller.

1. A pod that ended is first noted in `status.uncountedTerminatedPods` (an indexed Job notes its index instead),
   then loses its finalizer, and only then moves into the counters. Each step can be repeated.
2. At most 500 pods are underway, so that the status stays small.
3. A Job that is to end first says so (FailureTarget, SuccessCriteriaMet); Failed or Complete follow when every
   pod is counted and none is terminating.
4. When a Job failed, every pod that had not ended counts as failed; when it succeeded, those are not counted.
5. With a limit per index a failed pod keeps its finalizer until its replacement, which carries its count, is there.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from orchestrator.api import job_indexes
from orchestrator.api.item import Object
from orchestrator.api.job_indexes import Interval
from orchestrator.controllers.jobpods import JobPod, Wanted, finished_s
from orchestrator.controllers.jobpolicies import Failures, Verdict, failures_after, judge
from orchestrator.controllers.objects import find_condition, without

UNCOUNTED_MAX = 500
_SUCCESS, _FAILURE = "SuccessCriteriaMet", "FailureTarget"
_FINAL = {_SUCCESS: "Complete", _FAILURE: "Failed"}
_ALWAYS = ("ready", "terminating")


@dataclass(frozen=True, slots=True)
class Tally:
    """What the pods and the status say together. `succeeded` and `failed` include pods that are not counted yet."""

    want: Wanted
    pods: list[JobPod]
    active: list[JobPod]
    terminating: int
    uncounted: dict[str, list[str]]
    """Uids per `succeeded` and `failed`, as in the status."""
    verdicts: dict[str, Verdict]
    """By the uid of a pod that failed and is tracked."""
    succeeded: int
    failed: int
    completed_before: list[Interval]
    completed: list[Interval]
    failed_indexes: list[Interval] | None
    """None without a limit per index."""
    delayed: dict[int, JobPod]
    """Rule 5: the pod that is kept, by index."""
    failures: Failures


def tally(status: Object, want: Wanted, pods: list[JobPod], before: Failures) -> Tally:
    """`before` are the failures in a row that are known from earlier."""
    uncounted = _uncounted(status)
    fresh = [pod for pod in pods if pod.tracked and want.valid(pod)]
    noted = {*uncounted["succeeded"], *uncounted["failed"]}
    new_succeeded = [pod for pod in fresh if pod.succeeded and pod.uid not in noted]
    new_failed = [pod for pod in fresh if pod.failed and pod.uid not in noted]
    verdicts = {pod.uid: judge(want.failure_policy, pod) for pod in pods if pod.failed and pod.tracked}
    completed_before = job_indexes.known(status.get("completedIndexes") or "", want.completions or 0)
    new_indexes = job_indexes.of(pod.index for pod in fresh if want.indexed and pod.succeeded)
    completed = job_indexes.merged(completed_before, new_indexes)
    succeeded = status.get("succeeded", 0) + len(new_succeeded) + len(uncounted["succeeded"])
    failed = status.get("failed", 0) + len(uncounted["failed"])
    active = [pod for pod in pods if pod.active]
    failed_indexes = _failed_indexes(status, want, fresh, verdicts)
    return Tally(
        want=want,
        pods=pods,
        active=active,
        terminating=sum(pod.terminating for pod in pods),
        uncounted=uncounted,
        verdicts=verdicts,
        succeeded=job_indexes.count(completed) if want.indexed else succeeded,
        failed=failed + sum(verdicts[pod.uid].counts for pod in new_failed),
        completed_before=completed_before,
        completed=completed,
        failed_indexes=failed_indexes,
        delayed=_delayed(want, fresh, active, completed, failed_indexes),
        failures=failures_after(before, new_succeeded, new_failed),
    )


def _uncounted(status: Object) -> dict[str, list[str]]:
    noted = status.get("uncountedTerminatedPods") or {}
    return {kind: list(noted.get(kind) or ()) for kind in ("succeeded", "failed")}


def _failed_indexes(
    status: Object, want: Wanted, fresh: list[JobPod], verdicts: dict[str, Verdict]
) -> list[Interval] | None:
    limit = want.index_limit
    if limit is None:
        return None
    known = job_indexes.known(status.get("failedIndexes") or "", want.completions or 0)
    new = [
        pod.index
        for pod in fresh
        if pod.failed
        and (
            verdicts[pod.uid].action == "FailIndex"
            or (verdicts[pod.uid].counts and pod.index_failures >= limit)
        )
    ]
    return job_indexes.merged(known, job_indexes.of(new))


def _delayed(
    want: Wanted,
    fresh: list[JobPod],
    active: list[JobPod],
    completed: list[Interval],
    failed_indexes: list[Interval] | None,
) -> dict[int, JobPod]:
    """Of each index that shall get another pod the last one that failed."""
    if failed_indexes is None:
        return {}
    running = {pod.index for pod in active}
    found: dict[int, JobPod] = {}
    for pod in fresh:
        index = pod.index
        if not pod.failed or index in running or job_indexes.contains(completed, index):
            continue
        if job_indexes.contains(failed_indexes, index):
            continue
        if index not in found or _order(found[index]) <= _order(pod):
            found[index] = pod
    return found


def _order(pod: JobPod) -> tuple[int, float]:
    return pod.index_failures + pod.index_ignored, finished_s(pod)


# ── Counting ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Account:
    """One round of counting."""

    status: Object
    """To be written before a pod is released."""
    release: list[JobPod]
    """Pods that lose their finalizer next."""
    whole: bool
    """Whether every pod that is to be counted is underway."""


def account(
    status: Object, job: Object, count: Tally, ending: Object | None, changed: dict[str, int]
) -> Account:
    """`status` is the stored one with new times and conditions. `ending` is the interim condition of a Job that
    is to end; `changed` are `active`, `ready` and `terminating` as they are after pods were made and deleted."""
    tracked = {pod.uid for pod in count.pods if pod.tracked}
    noted, counted = _settled(count.uncounted, tracked)
    failing = ending is not None and ending["type"] == _FAILURE
    all_go = ending is not None or "deletionTimestamp" in job["metadata"]
    release: list[JobPod] = []
    indexes: list[int] = []
    whole = True
    for pod in sorted(count.pods, key=lambda pod: pod.index) if count.want.indexed else count.pods:
        if not pod.tracked or not (all_go or _may_go(count, pod)):
            continue
        if len(indexes) + len(noted["succeeded"]) + len(noted["failed"]) >= UNCOUNTED_MAX:
            whole = False
            break
        release.append(pod)
        _note(count, pod, failing, noted, indexes)
    totals = {kind: status.get(kind, 0) + number for kind, number in counted.items()}
    new = _with_counters(status, {**changed, **totals}, noted)
    return Account(_with_indexes(new, count) if count.want.indexed else new, release, whole)


def _may_go(count: Tally, pod: JobPod) -> bool:
    if pod.succeeded:
        return True
    return pod.failed and count.delayed.get(pod.index) is not pod


def _note(count: Tally, pod: JobPod, failing: bool, noted: dict[str, list[str]], indexes: list[int]) -> None:
    """Rule 1: write down how the pod that is released ended; what was written once stays."""
    want = count.want
    if not want.valid(pod) or pod.uid in noted["succeeded"] or pod.uid in noted["failed"]:
        return
    if pod.succeeded and not want.indexed:
        noted["succeeded"].append(pod.uid)
    elif pod.succeeded:
        # The index is enough to not count it again.
        if not job_indexes.contains(count.completed_before, pod.index):
            indexes.append(pod.index)
    elif pod.failed or failing:
        verdict = count.verdicts.get(pod.uid) or judge(want.failure_policy, pod)
        if verdict.counts:
            noted["failed"].append(pod.uid)


def _settled(noted: dict[str, list[str]], tracked: set[str]) -> tuple[dict[str, list[str]], dict[str, int]]:
    """What stays noted, because its finalizer is there, and how many of each kind are counted now."""
    left = {kind: [uid for uid in uids if uid in tracked] for kind, uids in noted.items()}
    return left, {kind: len(noted[kind]) - len(left[kind]) for kind in noted}


def _with_counters(status: Object, counters: dict[str, int], noted: dict[str, list[str]]) -> Object:
    """Counters of 0 are left out except those that the API stores."""
    new = without(status, *counters, "uncountedTerminatedPods")
    new |= {name: number for name, number in counters.items() if number or name in _ALWAYS}
    new["uncountedTerminatedPods"] = {kind: uids for kind, uids in noted.items() if uids}
    return new


def _with_indexes(status: Object, count: Tally) -> Object:
    new = without(status, "completedIndexes", "failedIndexes", "succeeded")
    if count.completed:
        new["completedIndexes"] = job_indexes.text_of(count.completed)
        new["succeeded"] = job_indexes.count(count.completed)
    if count.failed_indexes is not None:
        new["failedIndexes"] = job_indexes.text_of(count.failed_indexes)
    return new


def released(status: Object, pods: Iterable[JobPod]) -> Object:
    """The status once `pods` have lost their finalizers."""
    noted = _uncounted(status)
    gone = {pod.uid for pod in pods}
    left, counted = _settled(noted, {uid for uids in noted.values() for uid in uids if uid not in gone})
    if left == noted:
        return status
    totals = {kind: status.get(kind, 0) + number for kind, number in counted.items()}
    return _with_counters(status, totals, left)


def finished(status: Object, ending: Object, now: str) -> Object:
    """The status with the final condition, unless a pod is not counted yet or still terminating."""
    noted = _uncounted(status)
    if noted["succeeded"] or noted["failed"] or status.get("terminating"):
        return status
    final = {**ending, "type": _FINAL[ending["type"]]}
    new = {**status, "conditions": with_job_condition(status.get("conditions") or [], final, now)}
    if final["type"] == "Complete":
        new["completionTime"] = now
    return new


# ── Conditions ───────────────────────────────────────────────────────────────────────────────────────────


def condition(kind: str, reason: str, message: str, status: str = "True") -> Object:
    return {"type": kind, "status": status, "reason": reason, "message": message}


failure = partial(condition, _FAILURE)
success = partial(condition, _SUCCESS)


def interim(status: Object) -> Object | None:
    """The condition by which the Job said that it is to end."""
    for kind in (_SUCCESS, _FAILURE):
        known = find_condition(status.get("conditions") or [], kind)
        if known is not None and known["status"] == "True":
            return condition(kind, known.get("reason", ""), known.get("message", ""))
    return None


def is_finished(status: Object) -> bool:
    return any(
        entry["type"] in ("Complete", "Failed") and entry["status"] == "True"
        for entry in status.get("conditions") or ()
    )


def with_job_condition(conditions: list[Object], new: Object, now: str) -> list[Object]:
    """`conditions` with `new`; the same list when it says so already. What never was does not become False."""
    old = find_condition(conditions, new["type"])
    if old is None and new["status"] == "False":
        return conditions
    if old is not None and all(old.get(name, "") == value for name, value in new.items()):
        return conditions
    entry: dict[str, Any] = {"type": new["type"], "status": new["status"]}
    entry |= {"lastProbeTime": now, "lastTransitionTime": now}
    entry |= {name: new[name] for name in ("reason", "message") if new[name]}
    return [entry if c is old else c for c in conditions] if old is not None else [*conditions, entry]
