"""CronJobs and PodDisruptionBudgets converge whatever is done to them, clocks that jump included, and then rest."""

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.resources import CRONJOBS, JOBS, PODDISRUPTIONBUDGETS, PODS, REPLICASETS
from orchestrator.api.times import seconds
from orchestrator.controllers.cronjob import SCHEDULED, CronJobController, outcome_of
from orchestrator.controllers.disruption import TIMEOUT_S, DisruptionController
from orchestrator.controllers.job import JobController
from orchestrator.controllers.replicaset import ReplicaSetController
from tests.unit.controllers.convergence import World, run, steps

POD = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox"}]}}
HOUR_S = 3600.0


class Schedules(World):
    """One CronJob, due every ten minutes until the end, when it is suspended."""

    quiet_s = 650.0

    def controllers(self, client):
        return [
            CronJobController(client, self.clock, self.recorder),
            JobController(client, self.clock, self.recorder),
        ]

    async def begin(self):
        spec = {
            "schedule": "*/10 * * * *",
            "concurrencyPolicy": "Forbid",
            "successfulJobsHistoryLimit": 2,
            "failedJobsHistoryLimit": 1,
            "jobTemplate": {"spec": {"backoffLimit": 0, "template": POD}},
        }
        self.policy = "Forbid"
        await self.cluster.create(CRONJOBS, {"metadata": {"name": "c"}, "spec": spec})

    async def do_policy(self, policy):
        self.policy = policy
        await self.cluster.patch(CRONJOBS, "c", {"spec": {"concurrencyPolicy": policy}})

    async def do_suspend(self, suspend):
        await self.cluster.patch(CRONJOBS, "c", {"spec": {"suspend": suspend}})

    async def do_deadline(self, deadline_s):
        await self.cluster.patch(CRONJOBS, "c", {"spec": {"startingDeadlineSeconds": deadline_s}})

    async def do_jump(self, duration_s):
        self.clock._epoch_s += duration_s

    async def do_pass(self, duration_s):
        await self.cluster.advance(duration_s, step_s=duration_s / 2)

    async def do_delete_job(self, number):
        jobs = sorted(await self.cluster.list(JOBS), key=lambda job: job["metadata"]["name"])
        if jobs:
            await self.cluster.client.delete(JOBS, jobs[number % len(jobs)]["metadata"]["name"], "default")

    async def observe(self, write):
        if write.resource is JOBS and write.verb == "create" and write.answer is not None:
            meta = write.answer["metadata"]
            due_s = seconds(meta["annotations"][SCHEDULED])
            assert due_s % 600 == 0 and due_s <= self.clock.now_s(), "started what was not due"
            assert meta["name"] == f"c-{int(due_s) // 60}"

    async def _calm_down(self):
        self.client.faults.clear()
        self.client.going.set()
        await self.do_suspend(True)
        await super()._calm_down()

    async def final(self):
        cron_job, jobs = await self.cluster.get(CRONJOBS, "c"), await self.cluster.list(JOBS)
        going = {job["metadata"]["name"] for job in jobs if not outcome_of(job)}
        listed = {entry["name"] for entry in (cron_job.get("status") or {}).get("active") or ()}
        assert listed == going
        ended = [outcome_of(job) for job in jobs]
        assert ended.count("Complete") <= 2 and ended.count("Failed") <= 1
        last = (cron_job.get("status") or {}).get("lastScheduleTime")
        times = [seconds(job["metadata"]["annotations"][SCHEDULED]) for job in jobs]
        assert not times or max(times) <= seconds(last)


class Budgets(World):
    """A ReplicaSet of five with a budget, pods of which somebody evicts."""

    quiet_s = TIMEOUT_S + 30

    def controllers(self, client):
        return [
            ReplicaSetController(client, self.clock, self.recorder),
            DisruptionController(client, self.clock, self.recorder, self.cluster.table),
        ]

    async def begin(self):
        labels = {"app": "web"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "b"}]}}
        spec = {"replicas": 5, "selector": {"matchLabels": labels}, "template": template}
        await self.cluster.create(REPLICASETS, {"metadata": {"name": "web"}, "spec": spec})
        budget = {"minAvailable": 3, "selector": {"matchLabels": labels}}
        await self.cluster.create(PODDISRUPTIONBUDGETS, {"metadata": {"name": "b"}, "spec": budget})

    async def do_scale(self, number):
        await self.cluster.patch(REPLICASETS, "web", {"spec": {"replicas": number}})

    async def do_budget(self, field, value):
        spec = {"minAvailable": None, "maxUnavailable": None, field: value}
        await self.cluster.patch(PODDISRUPTIONBUDGETS, "b", {"spec": spec})

    async def do_evict(self, number):
        for pod in await self._picked(number):
            name = pod["metadata"]["name"]
            eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
            await self.cluster.client.create(PODS, eviction, "default", subresource="eviction", name=name)

    async def do_jump(self, duration_s):
        self.clock._epoch_s += duration_s

    async def final(self):
        budget, replicas = await self.cluster.get(PODDISRUPTIONBUDGETS, "b"), await self._replicas()
        status, spec = budget["status"], budget["spec"]
        pods = [pod for pod in await self.cluster.pods() if pod["metadata"]["labels"].get("app") == "web"]
        ready = sum(is_ready(pod) for pod in pods)
        if isinstance(spec.get("minAvailable"), int):
            desired, expected = spec["minAvailable"], len(pods)
        else:
            expected = replicas
            desired = max(0, replicas - spec["maxUnavailable"])
        assert not status.get("disruptedPods")
        assert status["observedGeneration"] == budget["metadata"]["generation"]
        assert (status["currentHealthy"], status["desiredHealthy"]) == (ready, desired)
        assert status["expectedPods"] == expected
        assert status["disruptionsAllowed"] == (max(0, ready - desired) if expected else 0)

    async def _replicas(self):
        return (await self.cluster.get(REPLICASETS, "web"))["spec"]["replicas"]


def is_ready(pod):
    conditions = pod["status"].get("conditions") or ()
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


_jumps = st.sampled_from([-2 * HOUR_S, -30.0, 45.0, 26 * HOUR_S])
SCHEDULES = steps(
    st.tuples(st.just("pass"), st.sampled_from([60.0, 400.0, 1300.0])),
    st.tuples(st.sampled_from(["finish_pod", "delete_job"]), st.integers(0, 9)),
    st.tuples(st.just("policy"), st.sampled_from(["Allow", "Forbid", "Replace"])),
    st.tuples(st.just("suspend"), st.booleans()),
    st.tuples(st.just("deadline"), st.sampled_from([None, 30, 900])),
    st.tuples(st.just("jump"), _jumps),
    max_size=10,
)
BUDGETS = steps(
    st.tuples(st.just("evict"), st.integers(0, 9)),
    st.tuples(st.just("scale"), st.integers(0, 6)),
    st.tuples(st.just("budget"), st.just("minAvailable"), st.integers(0, 6)),
    st.tuples(st.just("budget"), st.just("maxUnavailable"), st.integers(0, 3)),
    st.tuples(st.just("jump"), _jumps),
    max_size=10,
)


@settings(max_examples=5)
@given(SCHEDULES)
def test_a_cron_job_converges(script):
    run(Schedules, script)


@settings(max_examples=5)
@given(BUDGETS)
def test_a_budget_converges(script):
    run(Budgets, script)


def test_a_clock_that_went_far_ahead_and_back_starts_nothing_twice():
    run(Schedules, [("pass", 1300.0), ("jump", 26 * HOUR_S), ("pass", 60.0), ("finish_pod", 0),
                    ("jump", -26 * HOUR_S), ("pass", 1300.0), ("restart",), ("pass", 60.0)])  # fmt: skip


def test_an_eviction_that_never_happens_is_forgotten_though_clocks_jump():
    run(Budgets, [("settle",), ("stall", True), ("evict", 0), ("jump", -2 * HOUR_S), ("evict", 1),
                  ("restart",), ("wait", 12.0), ("jump", 45.0)])  # fmt: skip
