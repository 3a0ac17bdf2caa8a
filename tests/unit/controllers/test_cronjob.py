from datetime import datetime

import pytest

from orchestrator.api.errors import Conflict
from orchestrator.api.item import Object
from orchestrator.api.resources import CRONJOBS, JOBS
from orchestrator.api.times import seconds
from orchestrator.controllers.cronjob import SCHEDULED, CronJobController, new_job, plan

CREATED = "2026-03-01T00:00:00Z"
POD = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox"}]}}


def cron_job(schedule="*/5 * * * *", *, last="", active=(), **spec) -> Object:
    status: Object = {"active": [{"name": name, "uid": name} for name in active]} if active else {}
    if last:
        status["lastScheduleTime"] = last
    return {
        "metadata": {"name": "c", "namespace": "default", "uid": "u", "creationTimestamp": CREATED},
        "spec": {
            "schedule": schedule, "concurrencyPolicy": "Allow", "jobTemplate": {"spec": {"template": POD}}, **spec,
        },
        "status": status,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("made", "now", "start", "again_s", "reasons"),
    [
        (cron_job(), "2026-03-01T00:04:00Z", "", 60.0, []),
        (cron_job(), "2026-03-01T00:05:30Z", "2026-03-01T00:05:00Z", 60.0, []),
        (cron_job(), "2026-03-01T00:09:30Z", "2026-03-01T00:05:00Z", 30.1, []),
        (cron_job(last="2026-03-01T00:05:00Z"), "2026-03-01T00:09:50Z", "", 10.1, []),
        # Only the latest of the times that were missed.
        (cron_job(), "2026-03-01T01:01:00Z", "2026-03-01T01:00:00Z", 60.0, []),
        (cron_job(), "2026-03-05T00:01:00Z", "2026-03-05T00:00:00Z", 60.0, ["TooManyMissedTimes"]),
        (cron_job("0 6 * * 1-5"), "2026-03-08T12:00:00Z", "2026-03-06T06:00:00Z", 60.0, []),
        (cron_job("@every 7m"), "2026-03-01T00:30:00Z", "2026-03-01T00:28:00Z", 60.0, []),
        (cron_job(startingDeadlineSeconds=20), "2026-03-01T00:05:10Z", "2026-03-01T00:05:00Z", 60.0, []),
        (cron_job(startingDeadlineSeconds=20), "2026-03-01T00:06:00Z", "", 60.0, ["MissSchedule"]),
        # With a deadline only what is within it can be too much.
        (
            cron_job("* * * * *", startingDeadlineSeconds=600),
            "2026-03-05T00:01:00Z", "2026-03-05T00:01:00Z", 60.0, [],
        ),
        (
            cron_job("* * * * *", startingDeadlineSeconds=86400),
            "2026-03-05T00:01:00Z", "2026-03-05T00:01:00Z", 60.0, ["TooManyMissedTimes"],
        ),
        (cron_job(suspend=True), "2026-03-01T00:06:00Z", "", None, []),
        (cron_job(timeZone="Nowhere/Land"), "2026-03-01T00:06:00Z", "", None, ["UnknownTimeZone"]),
        (cron_job("nonsense"), "2026-03-01T00:06:00Z", "", None, ["UnparseableSchedule"]),
        (cron_job("0 0 31 2 *"), "2026-03-01T00:06:00Z", "", None, ["InvalidSchedule"]),
        # A clock that went back: what was started is not started again.
        (cron_job(last="2026-03-01T02:00:00Z"), "2026-03-01T01:00:00Z", "", 60.0, []),
        # New York goes from 02:00 to 03:00 on 8 March: 02:30 does not happen.
        (
            cron_job("30 2 * * *", timeZone="America/New_York", last="2026-03-07T07:30:00Z"),
            "2026-03-08T23:00:00Z", "", 60.0, [],
        ),
        (
            cron_job("0 9 * * *", timeZone="Europe/Berlin", last="2026-03-28T08:00:00Z"),
            "2026-03-29T07:00:01Z", "2026-03-29T07:00:00Z", 60.0, [],
        ),
    ],
)  # fmt: skip
def test_when_a_job_starts(made, now, start, again_s, reasons):
    steps = plan(made, [], set(), seconds(now))
    assert steps.start_s == (seconds(start) if start else None)
    assert steps.look_again_s == (pytest.approx(again_s) if again_s else None)
    assert [note[1] for note in steps.notes] == reasons


@pytest.mark.parametrize(
    ("policy", "starts", "replaced", "reasons"),
    [
        ("Allow", True, [], []),
        ("Forbid", False, [], ["JobAlreadyActive"]),
        ("Replace", True, ["a"], []),
    ],
)
def test_what_happens_while_a_job_runs(policy, starts, replaced, reasons):
    made = cron_job(active=["a"], concurrencyPolicy=policy)
    running = {"metadata": {"name": "a", "uid": "a"}, "spec": {}}
    steps = plan(made, [running], set(), seconds("2026-03-01T00:05:30Z"))
    assert (steps.start_s is not None, [job["name"] for job in steps.replace]) == (starts, replaced)
    assert [note[1] for note in steps.notes] == reasons


def test_a_job_is_named_and_marked_by_its_time_in_the_zone():
    made = new_job(cron_job(timeZone="Asia/Kolkata"), seconds("2026-03-01T00:05:00Z"))
    minute = int(datetime.fromisoformat("2026-03-01T00:05:00+00:00").timestamp()) // 60
    assert made["metadata"]["name"] == f"c-{minute}"
    assert made["metadata"]["annotations"][SCHEDULED] == "2026-03-01T05:35:00+05:30"
    utc = new_job(cron_job(), seconds("2026-03-01T00:05:00Z"))
    assert utc["metadata"]["annotations"][SCHEDULED] == "2026-03-01T00:05:00Z"


async def finish(cluster, name, kind="Complete"):
    job = await cluster.get(JOBS, name)
    now = job["metadata"]["creationTimestamp"]
    interim = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}[kind]
    status: Object = {
        "startTime": now,
        "conditions": [
            {"type": each, "status": "True", "lastTransitionTime": now} for each in (interim, kind)
        ],
    }
    if kind == "Complete":
        status["completionTime"] = now
    await cluster.client.update(JOBS, {**job, "status": status}, subresource="status")
    await cluster.settle()


async def jobs_of(cluster) -> list[str]:
    return sorted(job["metadata"]["name"] for job in await cluster.list(JOBS))


async def create(cluster, **spec):
    body = {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": POD}}, **spec}
    await cluster.create(CRONJOBS, {"metadata": {"name": "c"}, "spec": body})
    await cluster.settle()


@pytest.fixture
async def running(cluster):
    await cluster.start(CronJobController(cluster.client, cluster.clock, cluster.recorder), kubelet=False)
    return cluster


async def test_jobs_start_are_listed_and_old_ones_go(running):
    await create(running, successfulJobsHistoryLimit=1, failedJobsHistoryLimit=0)
    await running.advance(61, step_s=61)
    first = (await jobs_of(running))[0]
    status = (await running.get(CRONJOBS, "c"))["status"]
    assert [entry["name"] for entry in status["active"]] == [first]
    assert int(first.rpartition("-")[2]) * 60 == seconds(status["lastScheduleTime"])
    owner = (await running.get(JOBS, first))["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["controller"]) == ("CronJob", True)
    await finish(running, first)
    status = (await running.get(CRONJOBS, "c"))["status"]
    assert "active" not in status and status["lastSuccessfulTime"]
    for kind in ("Complete", "Failed"):
        await running.advance(60, step_s=60)
        await finish(running, (await jobs_of(running))[-1], kind)
    assert len(await jobs_of(running)) == 1 and first not in await jobs_of(running)
    assert len(await running.events("SawCompletedJob")) == 3
    assert len(await running.events("SuccessfulDelete")) == 2


async def test_a_job_that_runs_is_replaced(running):
    await create(running, concurrencyPolicy="Replace")
    await running.advance(61, step_s=61)
    (first,) = await jobs_of(running)
    await running.advance(60, step_s=60)
    (second,) = await jobs_of(running)
    assert first != second
    status = (await running.get(CRONJOBS, "c"))["status"]
    assert [entry["name"] for entry in status["active"]] == [second]


async def test_a_job_that_went_missing_leaves_the_list_and_forbid_goes_on(running):
    await create(running, concurrencyPolicy="Forbid")
    await running.advance(61, step_s=61)
    (first,) = await jobs_of(running)
    await running.advance(60, step_s=60)
    assert await jobs_of(running) == [first]
    await running.client.delete(JOBS, first, "default")
    await running.settle()
    assert await running.events("MissingJob") == [f"Active job went missing: {first}"]
    assert len(await jobs_of(running)) == 1 and first not in await jobs_of(running)


async def test_a_status_that_could_not_be_written_starts_nothing_twice(running):
    update, failures = running.client.update, 3

    async def unlucky(resource, *args, **options):
        nonlocal failures
        if resource is CRONJOBS and failures:
            failures -= 1
            raise Conflict("no")
        return await update(resource, *args, **options)

    running.client.update = unlucky
    await create(running)
    await running.advance(61, step_s=61)
    status = (await running.get(CRONJOBS, "c"))["status"]
    assert [entry["name"] for entry in status["active"]] == await jobs_of(running)
    assert (failures, await running.events("UnexpectedJob")) == (0, [])


async def test_a_suspended_cron_job_writes_nothing(running):
    await create(running, suspend=True)
    assert await running.is_at_rest(600)


async def test_what_somebody_listed_as_active_without_a_name_or_uid_leaves_the_list(running):
    await create(running, concurrencyPolicy="Forbid")
    active = [{}, {"name": "x"}, {"uid": "u1"}]
    await running.client.patch(CRONJOBS, "c", "default", {"status": {"active": active}}, subresource="status")
    await running.advance(301, step_s=30)
    names = await jobs_of(running)
    assert len(names) == 1
    assert [entry["name"] for entry in (await running.get(CRONJOBS, "c"))["status"]["active"]] == names
