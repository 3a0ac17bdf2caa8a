"""Jobs converge whatever is done to them: each pod is counted once, and then nothing is written."""

from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api import job_indexes
from orchestrator.api.resources import JOBS, PODS
from orchestrator.controllers.job import JobController
from orchestrator.controllers.jobpods import INDEX, TRACKING
from tests.unit.controllers.convergence import World, run, steps

POD = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox"}]}}


def is_tracked(pod: dict) -> bool:
    return TRACKING in (pod["metadata"].get("finalizers") or ())


def is_active(pod: dict) -> bool:
    return pod["status"]["phase"] in ("Pending", "Running") and "deletionTimestamp" not in pod["metadata"]


class Jobs(World):
    """One Job without indexes. What its status notes is remembered, and compared with what it counts."""

    quiet_s = 650.0  # Longer than the longest back-off.
    spec: ClassVar = {"completions": 6, "parallelism": 3, "backoffLimit": 5}

    def __init__(self, cluster):
        super().__init__(cluster)
        self.noted = {"succeeded": set(), "failed": set()}
        self.succeeded = set()
        """Uids of pods that succeeded and were let go by the Job that managed them."""

    def controllers(self, client):
        return [JobController(client, self.clock, self.recorder)]

    async def begin(self):
        spec = {**self.spec, "template": POD}
        await self.cluster.create(JOBS, {"metadata": {"name": "j"}, "spec": spec})

    async def do_spec(self, **spec):
        await self.cluster.patch(JOBS, "j", {"spec": spec})

    async def do_suspend(self, suspend):
        await self.do_spec(suspend=suspend)

    async def do_parallelism(self, number):
        await self.do_spec(parallelism=number)

    async def observe(self, write):
        if write.resource is JOBS and write.subresource == "status" and write.answer is not None:
            noted = write.answer["status"].get("uncountedTerminatedPods") or {}
            for kind, uids in noted.items():
                self.noted[kind] |= set(uids)
            assert not self.noted["succeeded"] & self.noted["failed"]
        if write.resource is PODS and write.verb == "patch" and write.before is not None:
            gone = is_tracked(write.before) and not is_tracked(write.answer)
            # One whose labels were changed is released: its end is nobody's.
            mine = write.before["metadata"].get("ownerReferences") and write.answer["metadata"].get(
                "ownerReferences"
            )
            if gone and mine and write.before["status"]["phase"] == "Succeeded":
                self.succeeded.add(write.before["metadata"]["uid"])

    async def final(self):
        job = await self.cluster.get(JOBS, "j")
        status, pods = job["status"], await self.cluster.list(PODS)
        mine = [pod for pod in pods if (pod["metadata"].get("ownerReferences") or [{}])[0].get("name") == "j"]
        active = [pod for pod in mine if is_active(pod)]
        finished = {each["type"] for each in status.get("conditions") or () if each["status"] == "True"}
        assert (status.get("active", 0), status["terminating"]) == (len(active), 0)
        assert not any(status["uncountedTerminatedPods"].values())
        assert all(is_tracked(pod) == is_active(pod) for pod in mine)
        assert not any(is_tracked(pod) for pod in pods if pod not in mine)
        self.check_counts(job["spec"], status, active, bool(finished & {"Complete", "Failed"}))

    def check_counts(self, spec, status, active, finished):
        assert status.get("failed", 0) == len(self.noted["failed"])
        assert status.get("succeeded", 0) == len(self.noted["succeeded"])
        assert self.succeeded <= self.noted["succeeded"] | self.noted["failed"]
        if finished:
            assert not active
            assert (
                status.get("succeeded", 0) >= spec["completions"] or status["failed"] > spec["backoffLimit"]
            )
        else:
            left = spec["completions"] - status.get("succeeded", 0)
            assert len(active) == (0 if spec["suspend"] else min(left, spec["parallelism"]))


class IndexedJobs(Jobs):
    """The same with indexes, each of which may fail once."""

    spec: ClassVar = {
        "completions": 4,
        "parallelism": 3,
        "completionMode": "Indexed",
        "backoffLimitPerIndex": 1,
    }

    async def do_size(self, number):
        await self.do_spec(completions=number, parallelism=number)

    def check_counts(self, spec, status, active, finished):
        completions = spec["completions"]
        done = job_indexes.parse(status.get("completedIndexes", ""), completions)
        failed = job_indexes.parse(status.get("failedIndexes", ""), completions)
        running = [int(pod["metadata"]["annotations"][INDEX]) for pod in active]
        assert job_indexes.overlap(done, failed) is None
        assert status.get("succeeded", 0) == job_indexes.count(done)
        assert status.get("failed", 0) == len(self.noted["failed"])
        assert len(set(running)) == len(running)
        left = completions - job_indexes.count(done) - job_indexes.count(failed)
        if finished:
            assert not active
        else:
            assert not any(job_indexes.contains(done + failed, index) for index in running)
            assert len(running) == (0 if spec["suspend"] else min(left, spec["parallelism"]))


_some = st.integers(0, 9)
ENDS = st.tuples(st.sampled_from(["finish_pod", "fail_pod"]), _some)
PLAIN = steps(
    ENDS,
    st.tuples(st.just("suspend"), st.booleans()),
    st.tuples(st.just("parallelism"), st.integers(0, 5)),
)
INDEXED = steps(
    ENDS,
    st.tuples(st.just("suspend"), st.booleans()),
    st.tuples(st.just("size"), st.integers(1, 6)),
)


@settings(max_examples=5)
@given(PLAIN)
def test_a_job_converges(script):
    run(Jobs, script)


@settings(max_examples=5)
@given(INDEXED)
def test_an_indexed_job_converges(script):
    run(IndexedJobs, script)


@pytest.mark.parametrize(
    "script",
    [
        # An answer that is lost, and a restart in the middle of counting.
        [
            ("settle",),
            ("fault", ["pass", "lost"]),
            ("finish_pod", 0),
            ("fail_pod", 1),
            ("restart",),
            ("settle",),
        ],
        [("settle",), ("lag", True), ("finish_pod", 0), ("delete_pod", 1), ("wait", 1.0), ("restart",)],
        [
            ("settle",),
            ("suspend", True),
            ("fault", ["refused", "lost", "conflict"]),
            ("settle",),
            ("suspend", False),
        ],
    ],
)
@pytest.mark.parametrize("world", [Jobs, IndexedJobs])
def test_what_went_wrong_once(world, script):
    run(world, script)
