"""CronJob: starts a Job whenever its schedule says so.

1. `status.active` lists the Jobs that run. One that finished or is gone leaves the list; the latest success
   stands in `lastSuccessfulTime`.
2. Of the times that passed since the last start only the latest counts, and only within startingDeadlineSeconds.
   A start is named after its minute, so it never happens twice.
3. While Jobs run, Forbid lets a time pass and Replace deletes them first.
4. Of the Jobs that finished, the newest few of each outcome are kept.
5. A suspended CronJob, or one with a schedule or zone that can't be read, starts nothing.
6. Each thing is told once in an event. Clocks that jump are noticed within a minute.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from email.utils import format_datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from orchestrator.api import cron
from orchestrator.api.errors import AlreadyExists, ApiError, NotFound
from orchestrator.api.item import Item, Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import CRONJOBS, JOBS
from orchestrator.api.times import seconds, timestamp
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers import jobmetrics
from orchestrator.controllers.freshness import LAG_S, Freshness
from orchestrator.controllers.objects import (
    controller_index,
    controller_of,
    controller_reference,
    with_value,
    without,
)
from orchestrator.controllers.pods import Failure
from orchestrator.informer.cache import Informers, key_of
from orchestrator.informer.queue import WorkQueue

SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
LOOK_S_MAX = 60.0
_AFTER_S = 0.1
"""A time is looked at a moment after it came."""
_MISSED_MAX = 100
_UNEXPECTED = "Saw a job that the controller did not create or forgot: {}"

Note = tuple[str, str, str]
"""An event: type, reason, message."""


class CronJobController:
    name = "cronjob"
    watches = (CRONJOBS, JOBS)
    writes = (JOBS, CRONJOBS)

    def __init__(self, client: Client, clock: Clock, recorder: EventRecorder) -> None:
        self._client = client
        self._clock = clock
        self._recorder = recorder
        self._freshness = Freshness()
        self._told: dict[str, set[Note]] = {}

    def setup(self, informers: Informers, queue: WorkQueue) -> None:
        self._queue = queue
        self._cron_jobs = informers.of(CRONJOBS)
        self._jobs = informers.of(JOBS)
        self._jobs.add_index("controller", controller_index)
        self._cron_jobs.on_change(lambda old, new: queue.add(key_of(new or old)))  # type: ignore[arg-type]
        self._jobs.on_change(self._job_changed)

    async def reconcile(self, key: str) -> float | None:
        item = self._cron_jobs.get(key)
        if item is None:
            self._told.pop(key, None)
            self._freshness.forget(key)
            return None
        if not self._freshness.fresh(key):
            return LAG_S
        cron_job = item.object
        jobs = [job.object for job in self._jobs.by_index("controller", item.meta.uid)]
        gone = await self._gone(cron_job, jobs)
        steps = plan(cron_job, jobs, gone, self._clock.now_s())
        self._tell(key, cron_job, steps.notes)
        status, error = await self._act(key, cron_job, steps)
        for job in surplus(cron_job["spec"], jobs):
            status = await self._delete(cron_job, job, status)
        await self._write_status(key, cron_job, status)
        if error is not None:
            raise error
        return steps.look_again_s

    def _job_changed(self, old: Item | None, new: Item | None) -> None:
        for item in (old, new):
            owner = controller_of(item.meta) if item is not None else None
            if item is not None and owner is not None and owner.kind == "CronJob":
                self._queue.add(f"{item.meta.namespace}/{owner.name}")

    def _tell(self, key: str, cron_job: Object, notes: list[Note]) -> None:
        """Rule 6: what was not told in the round before."""
        for note in notes:
            if note not in self._told.get(key, ()):
                self._recorder.event(cron_job, *note)
        self._told[key] = set(notes)

    async def _gone(self, cron_job: Object, jobs: list[Object]) -> set[str]:
        """Uids of active Jobs that are no more, in the cache and live; what somebody listed without a name is none."""
        known, gone = {job["metadata"]["uid"] for job in jobs}, set()
        for reference in (cron_job.get("status") or {}).get("active") or ():
            uid, name = reference.get("uid", ""), reference.get("name", "")
            if uid in known and name:
                continue
            live = await self._live(name, cron_job["metadata"]["namespace"]) if name else None
            if live is None or live["metadata"]["uid"] != uid:
                gone.add(uid)
        return gone

    async def _live(self, name: str, namespace: str) -> Object | None:
        try:
            return await self._client.get(JOBS, name, namespace)
        except NotFound:
            return None

    async def _act(self, key: str, cron_job: Object, steps: "Plan") -> tuple[Object, ApiError | None]:
        """Rules 2 and 3. The status that follows, and what went wrong."""
        status = steps.status
        try:
            for reference in steps.replace:
                job = {"metadata": {**reference, "namespace": cron_job["metadata"]["namespace"]}}
                status = await self._delete(cron_job, job, status)
            if steps.start_s is not None:
                status = await self._start(key, cron_job, steps.start_s, status)
        except ApiError as error:
            return status, None if Failure("", error).final else error
        return status, None

    async def _start(self, key: str, cron_job: Object, start_s: float, status: Object) -> Object:
        namespace = cron_job["metadata"]["namespace"]
        wanted = new_job(cron_job, start_s)
        try:
            job = await self._client.create(JOBS, wanted, namespace)
            jobmetrics.SKEW_S.observe(max(0.0, self._clock.now_s() - start_s))
            text = f"Created job {job['metadata']['name']}"
            self._recorder.event(cron_job, "Normal", "SuccessfulCreate", text)
        except AlreadyExists:
            known = await self._live(wanted["metadata"]["name"], namespace)
            if known is None or not _owns(cron_job, known):
                return status
            job = known
        except ApiError as error:
            if not Failure("", error).final:
                text = f"Error creating job: {error.message}"
                self._recorder.event(cron_job, "Warning", "FailedCreate", text)
            raise
        self._freshness.wrote(key, self._jobs, job)
        active = without_job(status, job["metadata"]["uid"]).get("active") or ()
        return {**status, "active": [*active, _reference(job)], "lastScheduleTime": timestamp(start_s)}

    async def _delete(self, cron_job: Object, job: Object, status: Object) -> Object:
        """Delete a Job with its pods; the status without it."""
        meta = job["metadata"]
        options = DeleteOptions(propagation_policy="Background", uid=meta["uid"])
        try:
            await self._client.delete(JOBS, meta["name"], meta["namespace"], options)
        except NotFound:
            return without_job(status, meta["uid"])
        except ApiError as error:
            text = f"Deleted job: {error.message}"
            self._recorder.event(cron_job, "Warning", "FailedDelete", text)
            raise
        self._recorder.event(cron_job, "Normal", "SuccessfulDelete", f"Deleted job {meta['name']}")
        return without_job(status, meta["uid"])

    async def _write_status(self, key: str, cron_job: Object, new: Object) -> None:
        if new == (cron_job.get("status") or {}):
            return
        changed = with_value(cron_job, ("status",), new)
        try:
            written = await self._client.update(CRONJOBS, changed, subresource="status")
        except NotFound:
            return
        self._freshness.wrote(key, self._cron_jobs, written)


@dataclass(frozen=True, slots=True)
class Plan:
    """`status` without what is started now; `replace` are references of Jobs to delete before."""

    status: Object
    notes: list[Note]
    start_s: float | None = None
    replace: list[Object] = field(default_factory=list)
    look_again_s: float | None = None


def plan(cron_job: Object, jobs: list[Object], gone: set[str], now_s: float) -> Plan:
    """Rules 1, 2, 3 and 5. `jobs` are its own; `gone` uids of active ones that are no more."""
    status, notes = observed(cron_job, jobs, gone)
    spec = cron_job["spec"]
    if "deletionTimestamp" in cron_job["metadata"]:
        return Plan(status, notes)
    try:
        zone = zone_of(spec)
        if spec.get("suspend"):
            return Plan(status, notes)
        schedule = cron.parse(spec["schedule"])
    except ZoneInfoNotFoundError as error:
        return Plan(
            status,
            [*notes, ("Warning", "UnknownTimeZone", f'invalid timeZone: "{spec["timeZone"]}": {error}')],
        )
    except cron.CronError as error:
        text = f'unparseable schedule: "{spec["schedule"]}" : {error}'
        return Plan(status, [*notes, ("Warning", "UnparseableSchedule", text)])
    notes += _zone_notes(spec["schedule"])
    due = Due.of(schedule, zone, _earliest_s(cron_job), now_s, spec.get("startingDeadlineSeconds"))
    if due is None:
        text = f"invalid schedule: {spec['schedule']} : time difference between two schedules is less than 1 second"
        return Plan(status, [*notes, ("Warning", "InvalidSchedule", text)])
    return _start(cron_job, status, notes, due, now_s)


def _start(cron_job: Object, status: Object, notes: list[Note], due: "Due", now_s: float) -> Plan:
    spec, at_s, active = cron_job["spec"], due.latest_s, status.get("active") or []
    again_s = max(0.0, min(due.next_s - now_s + _AFTER_S, LOOK_S_MAX))
    deadline_s = spec.get("startingDeadlineSeconds")
    if at_s is None:
        return Plan(status, notes, look_again_s=again_s)
    if deadline_s is not None and at_s + deadline_s < now_s:
        when = format_datetime(datetime.fromtimestamp(at_s, UTC))
        notes.append(("Warning", "MissSchedule", f"Missed scheduled time to start a job: {when}"))
        return Plan(status, notes, look_again_s=again_s)
    if due.missed > _MISSED_MAX:
        text = (
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
        )
        notes.append(("Warning", "TooManyMissedTimes", text))
    name = job_name(cron_job, at_s)
    last = (cron_job.get("status") or {}).get("lastScheduleTime")
    if any(entry["name"] == name for entry in active) or (last and seconds(last) == at_s):
        return Plan(status, notes, look_again_s=again_s)
    if spec.get("concurrencyPolicy") == "Forbid" and active:
        text = "Not starting job because prior execution is running and concurrency policy is Forbid"
        notes.append(("Normal", "JobAlreadyActive", text))
        return Plan(status, notes, look_again_s=again_s)
    # A Job of this time that the status lacks, since it could not be written, is listed now.
    forgotten = ("Warning", "UnexpectedJob", _UNEXPECTED.format(name))
    notes = [note for note in notes if note != forgotten]
    replace = list(active) if spec.get("concurrencyPolicy") == "Replace" else []
    return Plan(status, notes, at_s, replace, again_s)


# ── What runs ────────────────────────────────────────────────────────────────────────────────────────────


def observed(cron_job: Object, jobs: Iterable[Object], gone: set[str]) -> tuple[Object, list[Note]]:
    """Rule 1: the status after what became of the Jobs."""
    status = cron_job.get("status") or {}
    names = {entry.get("uid", ""): entry.get("name", "") for entry in status.get("active") or ()}
    notes: list[Note] = []
    for job in jobs:
        uid, name, outcome = job["metadata"]["uid"], job["metadata"]["name"], outcome_of(job)
        if not outcome and uid not in names:
            notes.append(("Warning", "UnexpectedJob", _UNEXPECTED.format(name)))
        elif outcome and uid in names:
            status = without_job(status, uid)
            text = f"Saw completed job: {name}, condition: {outcome}"
            notes.append(("Normal", "SawCompletedJob", text))
        ended = (job.get("status") or {}).get("completionTime")
        if outcome == "Complete" and ended and ended > status.get("lastSuccessfulTime", ""):
            status = {**status, "lastSuccessfulTime": ended}
    for uid in gone:
        status = without_job(status, uid)
        notes.append(("Normal", "MissingJob", f"Active job went missing: {names[uid]}"))
    return status, notes


def outcome_of(job: Object) -> str:
    """`Complete`, `Failed`, or empty for a Job that is not finished."""
    for entry in (job.get("status") or {}).get("conditions") or ():
        if entry["type"] in ("Complete", "Failed") and entry["status"] == "True":
            return str(entry["type"])
    return ""


def without_job(status: Object, uid: str) -> Object:
    left = [entry for entry in status.get("active") or () if entry.get("uid", "") != uid]
    return {**status, "active": left} if left else without(status, "active")


def surplus(spec: Object, jobs: list[Object]) -> list[Object]:
    """Rule 4: Jobs to delete, oldest first."""
    found: list[Object] = []
    for outcome, name in (("Failed", "failedJobsHistoryLimit"), ("Complete", "successfulJobsHistoryLimit")):
        limit = spec.get(name)
        if limit is not None:
            ended = sorted((job for job in jobs if outcome_of(job) == outcome), key=_age)
            found += ended[: max(0, len(ended) - limit)]
    return [job for job in found if "deletionTimestamp" not in job["metadata"]]


def _age(job: Object) -> tuple[str, str]:
    return (job.get("status") or {}).get("startTime") or "~", job["metadata"]["name"]


# ── When ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Due:
    """`latest_s` is the last time that came, None when none did; `missed` how many came, estimated."""

    latest_s: float | None
    missed: int
    next_s: float

    @staticmethod
    def of(
        schedule: cron.Line | cron.Every,
        zone: tzinfo,
        earliest_s: float,
        now_s: float,
        deadline_s: float | None = None,
    ) -> "Due | None":
        """Times after `earliest_s`; None for a schedule that never comes true. Only those within the deadline, if
        there is one, are missed."""
        first = schedule.next_after(earliest_s, zone)
        second = schedule.next_after(first, zone) if first is not None else None
        if first is None or second is None:
            return None
        if now_s < first:
            return Due(None, 0, first)
        since = first if deadline_s is None else max(first, now_s - deadline_s)
        missed = int((now_s - since) / max(1.0, second - first)) + 1
        latest = _latest(schedule, zone, first, now_s)
        following = schedule.next_after(latest, zone)
        return Due(latest, missed, following) if following is not None else None


def _latest(schedule: cron.Line | cron.Every, zone: tzinfo, first: float, now_s: float) -> float:
    """The last time up to `now_s`, given the `first`."""
    if isinstance(schedule, cron.Every):
        return first + (now_s - first) // schedule.period_s * schedule.period_s
    low, high, latest = first, now_s, first
    while high - low > 1:
        middle = (low + high) / 2
        at = schedule.next_after(middle, zone)
        if at is not None and at <= now_s:
            low = latest = at
        else:
            high = middle
    return latest


def _earliest_s(cron_job: Object) -> float:
    """Times up to here are settled."""
    last = (cron_job.get("status") or {}).get("lastScheduleTime")
    return seconds(last or cron_job["metadata"]["creationTimestamp"])


def zone_of(spec: Object) -> tzinfo:
    """Raises `ZoneInfoNotFoundError`."""
    if not spec.get("timeZone"):
        return UTC
    try:
        return ZoneInfo(spec["timeZone"])
    except (OSError, ValueError) as error:
        raise ZoneInfoNotFoundError(f"unknown time zone {spec['timeZone']}") from error


def _zone_notes(schedule: str) -> list[Note]:
    if "TZ" not in schedule:
        return []
    text = (
        f'CRON_TZ or TZ used in schedule "{schedule}" is not officially supported, see'
        " https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
    )
    return [("Warning", "UnsupportedSchedule", text)]


# ── New Jobs ─────────────────────────────────────────────────────────────────────────────────────────────


def job_name(cron_job: Object, start_s: float) -> str:
    return f"{cron_job['metadata']['name']}-{int(start_s) // 60}"


def new_job(cron_job: Object, start_s: float) -> Object:
    """The Job of the time `start_s`."""
    template, zone = cron_job["spec"]["jobTemplate"], zone_of(cron_job["spec"])
    wanted = template.get("metadata") or {}
    when = datetime.fromtimestamp(start_s, zone).isoformat().replace("+00:00", "Z")
    metadata: Object = {
        "name": job_name(cron_job, start_s),
        "namespace": cron_job["metadata"]["namespace"],
        "annotations": {**(wanted.get("annotations") or {}), SCHEDULED: when},
        "ownerReferences": [controller_reference(CRONJOBS, cron_job)],
    }
    if wanted.get("labels"):
        metadata["labels"] = wanted["labels"]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"]}


def _owns(cron_job: Object, job: Object) -> bool:
    uid = cron_job["metadata"]["uid"]
    references = job["metadata"].get("ownerReferences") or ()
    return any(entry.get("controller") and entry["uid"] == uid for entry in references)


def _reference(job: Object) -> Object:
    names = ("namespace", "name", "uid", "resourceVersion")
    return {"kind": "Job", "apiVersion": "batch/v1", **{name: job["metadata"][name] for name in names}}
