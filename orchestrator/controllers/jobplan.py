"""What is to be done for a Job: end it, make pods or delete some. Pure; called by the Job controller.

1. What it said already stays true; then a FailJob rule, more failures (or restarts) than the limit, the deadline,
   failed indexes, and the success policy end it, in this order.
2. A suspended Job loses all its pods.
3. Surplus pods, and of an indexed Job those with a wrong or double index, are deleted before any is made.
4. No more run than are still needed; where only ended pods are replaced, terminating ones hold their place.
5. It is complete when enough succeeded and none is active.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator.api import job_indexes
from orchestrator.api.item import Object
from orchestrator.api.times import seconds
from orchestrator.controllers.jobcount import Tally, failure, interim, success
from orchestrator.controllers.jobpods import JobPod, Wanted, restarts
from orchestrator.controllers.jobpolicies import index_wait_s, success_message
from orchestrator.controllers.objects import find_condition
from orchestrator.controllers.pods import BURST_MAX

_PHASE_RANK = {"Pending": 0, "Unknown": 1, "Running": 2}


@dataclass(frozen=True, slots=True)
class Steps:
    """Either `delete` or what is to be made: a `number` of pods, or one for each of `indexes`."""

    delete: list[JobPod] = field(default_factory=list)
    number: int = 0
    indexes: list[int] = field(default_factory=list)
    look_again_s: float | None = None


# ── Rule 1 ───────────────────────────────────────────────────────────────────────────────────────────────


def ending(job: Object, count: Tally, now_s: float) -> Object | None:
    """The interim condition of a Job that is to end."""
    return interim(job.get("status") or {}) or _failed(job, count, now_s) or _by_indexes(job, count)


def _failed(job: Object, count: Tally, now_s: float) -> Object | None:
    for verdict in count.verdicts.values():
        if verdict.action == "FailJob":
            return failure("PodFailurePolicy", verdict.message)
    if count.failed > count.want.backoff_limit or _restarted_too_often(job["spec"], count):
        return failure("BackoffLimitExceeded", "Job has reached the specified backoff limit")
    left_s = deadline_s(job, now_s)
    if left_s is not None and left_s <= 0:
        return failure("DeadlineExceeded", "Job was active longer than specified deadline")
    return None


def _restarted_too_often(spec: Object, count: Tally) -> bool:
    if spec["template"]["spec"].get("restartPolicy") != "OnFailure":
        return False
    number, limit = restarts(count.pods), count.want.backoff_limit
    return number > 0 if limit == 0 else number >= limit


def deadline_s(job: Object, now_s: float) -> float | None:
    """Seconds until the Job has been active for as long as it may be; None when no time runs."""
    limit_s, start = job["spec"].get("activeDeadlineSeconds"), (job.get("status") or {}).get("startTime")
    if limit_s is None or start is None or job["spec"].get("suspend") or _was_suspended(job):
        return None
    return float(seconds(start) + limit_s - now_s)


def _was_suspended(job: Object) -> bool:
    """Whether the Job is suspended, or resumed so lately that its time has not started anew."""
    known = find_condition((job.get("status") or {}).get("conditions") or [], "Suspended")
    return known is not None and known["status"] == "True"


def _by_indexes(job: Object, count: Tally) -> Object | None:
    if not count.want.indexed:
        return None
    spec, completions = job["spec"], count.want.completions or 0
    if count.failed_indexes is not None:
        number, most = job_indexes.count(count.failed_indexes), spec.get("maxFailedIndexes")
        if most is not None and number > most:
            text = "Job has exceeded the specified maximal number of failed indexes"
            return failure("MaxFailedIndexesExceeded", text)
        if number and number + job_indexes.count(count.completed) >= completions:
            return failure("FailedIndexes", "Job has failed indexes")
    message = success_message(spec.get("successPolicy"), completions, count.completed)
    return success("SuccessPolicy", message) if message else None


def complete(count: Tally, active: int) -> Object | None:
    """Rule 5; `active` pods are there after what was done in this round."""
    needed = count.want.completions
    if active or (count.succeeded == 0 if needed is None else count.succeeded < needed):
        return None
    return success("CompletionsReached", "Reached expected number of succeeded pods")


# ── Rules 2 to 4 ─────────────────────────────────────────────────────────────────────────────────────────


def plan(count: Tally, now_s: float) -> Steps:
    """What to make or delete for a Job that goes on."""
    want, active = count.want, len(count.active)
    if want.suspended:
        return Steps(delete=list(count.active))
    needed = _needed(count)
    surplus = _surplus(want, count.active, max(0, active - needed))
    if surplus:
        return Steps(delete=surplus[:BURST_MAX])
    missing = needed - active - (count.terminating if want.only_failed else 0)
    if missing <= 0:
        return Steps()
    missing = min(missing, BURST_MAX)
    if want.index_limit is not None:
        return _by_index(count, missing, now_s)
    wait_s = count.failures.wait_s(now_s)
    if wait_s > 0:
        return Steps(look_again_s=wait_s)
    return Steps(indexes=_free_indexes(count, missing)) if want.indexed else Steps(number=missing)


def _needed(count: Tally) -> int:
    want = count.want
    if want.completions is None:
        return len(count.active) if count.succeeded else want.parallelism
    return max(0, min(want.parallelism, want.completions - count.succeeded))


def _free_indexes(count: Tally, number: int) -> list[int]:
    busy = {pod.index for pod in count.active}
    if count.want.only_failed:
        busy |= {pod.index for pod in count.pods if pod.terminating}
    taken = job_indexes.merged(count.completed, job_indexes.of(index for index in busy if index >= 0))
    taken = job_indexes.merged(taken, count.failed_indexes or [])
    return job_indexes.missing(taken, number, count.want.completions or 0)


def _by_index(count: Tally, number: int, now_s: float) -> Steps:
    """Each index waits for itself."""
    waits = {index: index_wait_s(count.delayed.get(index), now_s) for index in _free_indexes(count, number)}
    ready = [index for index, wait_s in waits.items() if wait_s <= 0]
    later = [wait_s for wait_s in waits.values() if wait_s > 0]
    return Steps(indexes=ready, look_again_s=min(later, default=None))


def _surplus(want: Wanted, active: list[JobPod], least: int) -> list[JobPod]:
    wrong, kept = _misplaced(want, active) if want.indexed else ([], active)
    more = max(0, least - len(wrong))
    return wrong + (sorted(kept, key=_rank)[:more] if more else [])


def _misplaced(want: Wanted, active: Iterable[JobPod]) -> tuple[list[JobPod], list[JobPod]]:
    """Pods without a valid index, and all but the most valuable of each index; and the rest."""
    wrong: list[JobPod] = []
    best: dict[int, JobPod] = {}
    for pod in active:
        if not want.valid(pod):
            wrong.append(pod)
        elif pod.index not in best:
            best[pod.index] = pod
        else:
            worse, best[pod.index] = sorted((best[pod.index], pod), key=_rank)
            wrong.append(worse)
    return wrong, list(best.values())


def _rank(pod: JobPod) -> tuple[bool, int, bool, float, int, float, str]:
    """The pod to delete first sorts first: unassigned, pending, not ready, ready for a short time, restarted often,
    young."""
    view = pod.view
    ready = view.condition("Ready")
    since = ready.last_transition_time if ready is not None and view.ready else None
    created = view.metadata.creation_timestamp
    return (
        bool(view.spec.node_name),
        _PHASE_RANK.get(view.status.phase, 1),
        view.ready,
        -seconds(since) if since else 0.0,
        -restarts([pod]),
        -seconds(created) if created else 0.0,
        pod.uid,
    )
