"""What Jobs add to the metrics that Kubernetes' dashboards read."""

import pytest
from prometheus_client import REGISTRY

from orchestrator.api.resources import JOBS
from orchestrator.controllers.job import JobController
from orchestrator.controllers.jobmetrics import status_written
from tests.unit.controllers.test_job import Jobs


class Counts:
    """Differences of counters since it was made."""

    def __init__(self):
        self._before = self._now()

    def _now(self):
        return {
            (sample.name.removeprefix("job_controller_"), tuple(sorted(sample.labels.items()))): sample.value
            for family in REGISTRY.collect()
            if family.name.startswith("job_controller_")
            for sample in family.samples
            if sample.name.endswith("_total")
        }

    def grown(self):
        found = {key: value - self._before.get(key, 0) for key, value in self._now().items()}
        return {(name, *(value for _, value in labels)): n for (name, labels), n in found.items() if n}


@pytest.fixture
async def jobs(cluster):
    await cluster.start(JobController(cluster.client, cluster.clock, cluster.recorder))
    return Jobs(cluster)


async def test_a_job_that_fails_once_and_completes(jobs):
    counts = Counts()
    ignore = {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [7]}}
    await jobs.create(completions=2, parallelism=2, podFailurePolicy={"rules": [ignore]})
    one, other = await jobs.running()
    await jobs.end(one, 7)
    await jobs.end(other)
    await jobs.cluster.advance(15)
    for pod in await jobs.running():
        await jobs.end(pod)
    await jobs.cluster.settle()
    found = counts.grown()
    syncs = {key: n for key, n in found.items() if key[0] == "job_syncs_total"}
    assert {key[1:] for key in syncs} >= {
        ("pods_created", "NonIndexed", "success"),
        ("tracking", "NonIndexed", "success"),
    }
    assert {key: n for key, n in found.items() if key not in syncs} == {
        ("job_pods_creation_total", "new", "succeeded"): 3,
        ("job_pods_finished_total", "NonIndexed", "succeeded"): 2,
        ("jobs_finished_total", "NonIndexed", "CompletionsReached", "succeeded"): 1,
        ("pod_failures_handled_by_failure_policy_total", "Ignore"): 1,
        ("terminated_pods_tracking_finalizer_total", "add"): 3,
        ("terminated_pods_tracking_finalizer_total", "delete"): 3,
    }


async def test_a_job_of_another_controller_is_counted_once(jobs):
    counts = Counts()
    await jobs.create(managedBy="example.com/other")
    await jobs.cluster.patch(JOBS, "j", {"metadata": {"labels": {"a": "b"}}})
    await jobs.cluster.settle()
    assert counts.grown() == {("jobs_by_external_controller_total", "example.com/other"): 1}


@pytest.mark.parametrize(
    ("spec", "old", "new", "grown"),
    [
        ({}, {}, {"failed": 2}, {("job_pods_finished_total", "NonIndexed", "failed"): 2}),
        ({}, {"failed": 2}, {"failed": 1}, {}),
        (
            {"completionMode": "Indexed", "completions": 5, "backoffLimitPerIndex": 1},
            {"completedIndexes": "0", "succeeded": 1, "failedIndexes": ""},
            {"completedIndexes": "0-2", "succeeded": 3, "failedIndexes": "4", "failed": 2},
            {
                ("job_pods_finished_total", "Indexed", "succeeded"): 2,
                ("job_pods_finished_total", "Indexed", "failed"): 2,
                ("job_finished_indexes_total", "perIndex", "succeeded"): 2,
                ("job_finished_indexes_total", "perIndex", "failed"): 1,
            },
        ),
        (
            {},
            {},
            {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]},
            {("jobs_finished_total", "NonIndexed", "BackoffLimitExceeded", "failed"): 1},
        ),
    ],
)  # fmt: skip
def test_what_a_written_status_adds(spec, old, new, grown):
    counts = Counts()
    status_written(spec, old, new)
    assert counts.grown() == grown
