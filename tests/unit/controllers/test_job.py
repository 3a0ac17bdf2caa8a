import asyncio

import pytest

from orchestrator.api.item import Object
from orchestrator.api.options import DeleteOptions
from orchestrator.api.resources import JOBS, PODS
from orchestrator.controllers.job import JobController
from orchestrator.controllers.jobpods import INDEX, INDEX_FAILURES, TRACKING

BUSYBOX = {"name": "main", "image": "busybox"}


@pytest.fixture
async def jobs(cluster):
    await cluster.start(JobController(cluster.client, cluster.clock, cluster.recorder))
    return Jobs(cluster)


class Jobs:
    """Jobs of a cluster, and the ends of their pods."""

    def __init__(self, cluster):
        self.cluster = cluster

    async def create(self, name="j", template=None, **spec) -> Object:
        pod = {"restartPolicy": "Never", "containers": [BUSYBOX], **(template or {})}
        body = {"metadata": {"name": name}, "spec": {"template": {"spec": pod}, **spec}}
        job = await self.cluster.create(JOBS, body)
        await self.cluster.settle()
        return job

    async def get(self, name="j") -> Object:
        return await self.cluster.get(JOBS, name)

    async def status(self, name="j") -> Object:
        return (await self.get(name)).get("status") or {}

    async def conditions(self, name="j") -> list[tuple[str, str]]:
        found = (await self.status(name)).get("conditions") or []
        return [(c["type"], c.get("reason", "")) for c in found if c["status"] == "True"]

    async def counts(self, name="j") -> tuple[int, int, int]:
        status = await self.status(name)
        return tuple(status.get(kind, 0) for kind in ("active", "succeeded", "failed"))

    async def running(self) -> list[Object]:
        pods = [pod for pod in await self.cluster.pods() if pod["status"]["phase"] in ("Pending", "Running")]
        pods = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        return sorted(pods, key=lambda pod: (index_of(pod), pod["metadata"]["name"]))

    async def end(self, pod: Object, code: int = 0, *, settle: bool = True, conditions=()) -> None:
        finished = timestamp_of(self.cluster.clock)
        state = {"terminated": {"exitCode": code, "finishedAt": finished}}
        status = {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [
                {
                    "name": "main",
                    "image": "b",
                    "imageID": "",
                    "ready": False,
                    "restartCount": 0,
                    "state": state,
                }
            ],
            "conditions": [{"type": "Ready", "status": "False"}, *conditions],
        }
        name = pod["metadata"]["name"]
        await self.cluster.patch(PODS, name, {"status": status}, type="strategic", subresource="status")
        if settle:
            await self.cluster.settle()

    async def end_all(self, code: int = 0) -> None:
        await asyncio.gather(*(self.end(pod, code, settle=False) for pod in await self.running()))
        await self.cluster.settle()


def timestamp_of(clock) -> str:
    from orchestrator.api.times import timestamp

    return timestamp(clock.now_s())


def index_of(pod: Object) -> int:
    return int((pod["metadata"].get("annotations") or {}).get(INDEX, -1))


async def test_a_job_runs_its_pods_counts_them_and_is_complete(jobs):
    await jobs.create(completions=5, parallelism=2)
    status = await jobs.status()
    assert (status["active"], status["ready"], status["terminating"]) == (2, 2, 0)
    assert status["startTime"] and status["uncountedTerminatedPods"] == {}
    pod = (await jobs.running())[0]
    assert pod["metadata"]["finalizers"] == [TRACKING]
    assert pod["metadata"]["labels"]["batch.kubernetes.io/job-name"] == "j"
    await jobs.end(pod)
    assert await jobs.counts() == (2, 1, 0)
    await jobs.end_all()
    assert await jobs.counts() == (2, 3, 0)
    await jobs.end_all()
    assert await jobs.counts() == (0, 5, 0)
    reached = "CompletionsReached"
    assert await jobs.conditions() == [("SuccessCriteriaMet", reached), ("Complete", reached)]
    assert (await jobs.status())["completionTime"]
    assert await jobs.cluster.events("Completed") == ["Job completed"]
    assert not any(pod["metadata"].get("finalizers") for pod in await jobs.cluster.pods())
    assert await jobs.cluster.is_at_rest()


async def test_failed_pods_are_replaced_after_a_growing_delay_until_the_limit(jobs):
    await jobs.create(backoffLimit=2)
    for delay_s in (10, 20):
        await jobs.end_all(1)
        await jobs.cluster.advance(delay_s - 2, step_s=20)
        assert await jobs.running() == []
        await jobs.cluster.advance(3)
        assert len(await jobs.running()) == 1
    await jobs.end_all(1)
    assert await jobs.counts() == (0, 0, 3)
    exceeded = "BackoffLimitExceeded"
    assert await jobs.conditions() == [("FailureTarget", exceeded), ("Failed", exceeded)]
    assert await jobs.cluster.events(exceeded) == ["Job has reached the specified backoff limit"]
    assert await jobs.cluster.is_at_rest()


async def test_a_job_that_failed_ends_its_other_pods_and_waits_for_them(jobs):
    jobs.cluster.kubelet.hold = lambda pod: bool(pod.meta.deletion_timestamp)
    await jobs.create(completions=3, parallelism=3, backoffLimit=0)
    await jobs.end((await jobs.running())[0], 1)
    assert await jobs.conditions() == [("FailureTarget", "BackoffLimitExceeded")]
    status = await jobs.status()
    assert (status["terminating"], status["failed"], status.get("active")) == (2, 3, None)
    jobs.cluster.kubelet.hold = lambda pod: False
    await jobs.cluster.advance(2)
    assert [kind for kind, _ in await jobs.conditions()] == ["FailureTarget", "Failed"]


async def test_an_indexed_job_runs_every_index_once(jobs):
    await jobs.create(completions=5, parallelism=2, completionMode="Indexed")
    first, second = await jobs.running()
    assert [index_of(first), index_of(second)] == [0, 1]
    metadata, spec = first["metadata"], first["spec"]
    assert metadata["name"].startswith("j-0-") and metadata["labels"][INDEX] == "0"
    assert spec["hostname"] == "j-0"
    env = spec["containers"][0]["env"][0]
    assert env["name"] == "JOB_COMPLETION_INDEX"
    assert env["valueFrom"]["fieldRef"]["fieldPath"] == f"metadata.labels['{INDEX}']"
    await jobs.end(second)
    assert (await jobs.status())["completedIndexes"] == "1"
    await jobs.end_all()
    await jobs.end_all()
    status = await jobs.status()
    assert (status["completedIndexes"], status["succeeded"]) == ("0-4", 5)
    assert ("Complete", "CompletionsReached") in await jobs.conditions()


async def test_each_index_has_its_own_limit(jobs):
    await jobs.create(completions=3, parallelism=3, completionMode="Indexed", backoffLimitPerIndex=1)
    pods = await jobs.running()
    await jobs.end(pods[1], 1)
    await jobs.end(pods[0])
    assert "failed" not in await jobs.status()  # The failed pod is kept until its replacement is there.
    await jobs.cluster.advance(12, step_s=12)
    again = next(pod for pod in await jobs.running() if index_of(pod) == 1)
    assert again["metadata"]["annotations"][INDEX_FAILURES] == "1"
    await jobs.end(again, 1)
    status = await jobs.status()
    assert (status["failedIndexes"], status["failed"], status["completedIndexes"]) == ("1", 2, "0")
    await jobs.end_all()
    assert await jobs.conditions() == [("FailureTarget", "FailedIndexes"), ("Failed", "FailedIndexes")]
    assert (await jobs.status())["completedIndexes"] == "0,2"


async def test_too_many_failed_indexes_end_the_job(jobs):
    await jobs.create(
        completions=4, parallelism=4, completionMode="Indexed", backoffLimitPerIndex=0, maxFailedIndexes=1
    )
    for pod in (await jobs.running())[:2]:
        await jobs.end(pod, 1)
    assert ("Failed", "MaxFailedIndexesExceeded") in await jobs.conditions()
    assert (await jobs.status())["failedIndexes"] == "0,1"


@pytest.mark.parametrize(
    ("action", "finished", "failed"), [("FailJob", True, 1), ("Ignore", False, 0), ("Count", False, 1)]
)
async def test_what_a_failure_policy_says_of_an_exit_code(jobs, action, finished, failed):
    rule = {"action": action, "onExitCodes": {"operator": "In", "values": [42]}}
    await jobs.create(podFailurePolicy={"rules": [rule]}, backoffLimit=1)
    pod = (await jobs.running())[0]
    await jobs.end(pod, 42)
    assert (await jobs.counts())[2] == failed
    name = pod["metadata"]["name"]
    expected = (
        f"Container main for pod default/{name} failed with exit code 42 matching FailJob rule at index 0"
    )
    assert bool(await jobs.conditions()) is finished
    if finished:
        assert (await jobs.status())["conditions"][-1]["message"] == expected
        assert await jobs.cluster.events("PodFailurePolicy") == [expected]
    else:
        await jobs.cluster.advance(12, step_s=12)
        assert len(await jobs.running()) == 1


async def test_a_disruption_can_be_ignored_and_an_index_given_up_at_once(jobs):
    rules = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
        {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [1]}},
    ]
    await jobs.create(
        completions=2, parallelism=2, completionMode="Indexed", backoffLimitPerIndex=3,
        podFailurePolicy={"rules": rules},
    )  # fmt: skip
    pods = await jobs.running()
    await jobs.end(pods[0], 137, conditions=[{"type": "DisruptionTarget", "status": "True"}])
    await jobs.end(pods[1], 2)
    status = await jobs.status()
    assert (status["failedIndexes"], status["failed"]) == ("1", 1)
    await jobs.cluster.advance(12, step_s=12)
    annotations = (await jobs.running())[0]["metadata"]["annotations"]
    assert annotations[INDEX_FAILURES] == "0"
    assert annotations["batch.kubernetes.io/job-index-ignored-failure-count"] == "1"


async def test_a_success_policy_ends_the_job_early(jobs):
    await jobs.create(
        completions=5, parallelism=5, completionMode="Indexed",
        successPolicy={"rules": [{"succeededIndexes": "1,3", "succeededCount": 1}]},
    )  # fmt: skip
    pods = await jobs.running()
    await jobs.end(pods[0])
    assert await jobs.conditions() == []
    await jobs.end(pods[3])
    await jobs.cluster.advance(2)
    assert await jobs.conditions() == [("SuccessCriteriaMet", "SuccessPolicy"), ("Complete", "SuccessPolicy")]
    status = await jobs.status()
    assert (status["completedIndexes"], status.get("failed"), await jobs.running()) == ("0,3", None, [])
    assert status["conditions"][-1]["message"] == "Matched rules at index 0"


async def test_a_suspended_job_has_no_pods_and_starts_its_time_anew(jobs):
    await jobs.create(parallelism=2, completions=2, activeDeadlineSeconds=60)
    start = (await jobs.status())["startTime"]
    await jobs.cluster.advance(40, step_s=40)
    await jobs.cluster.patch(JOBS, "j", {"spec": {"suspend": True}})
    await jobs.cluster.advance(1)
    assert await jobs.running() == []
    assert (await jobs.conditions(), await jobs.counts()) == ([("Suspended", "JobSuspended")], (0, 0, 0))
    await jobs.cluster.advance(100, step_s=100)
    await jobs.cluster.patch(JOBS, "j", {"spec": {"suspend": False}})
    await jobs.cluster.settle()
    assert (await jobs.conditions(), len(await jobs.running())) == ([], 2)
    assert (await jobs.status())["startTime"] > start
    assert await jobs.cluster.events("Suspended") + await jobs.cluster.events("Resumed") == [
        "Job suspended",
        "Job resumed",
    ]
    await jobs.cluster.advance(61, step_s=61)
    assert ("Failed", "DeadlineExceeded") in await jobs.conditions()


async def test_only_pods_that_ended_are_replaced_if_asked(jobs):
    jobs.cluster.kubelet.hold = lambda pod: bool(pod.meta.deletion_timestamp)
    await jobs.create(podReplacementPolicy="Failed")
    pod = (await jobs.running())[0]
    await jobs.cluster.client.delete(PODS, pod["metadata"]["name"], "default")
    await jobs.cluster.advance(15, step_s=15)
    assert ((await jobs.status())["terminating"], await jobs.running()) == (1, [])
    await jobs.end(pod, 143)
    await jobs.cluster.advance(15, step_s=15)
    assert (len(await jobs.running()), (await jobs.counts())[2]) == (1, 1)


async def test_an_elastic_job_shrinks_and_grows(jobs):
    await jobs.create(completions=4, parallelism=4, completionMode="Indexed")
    await jobs.end((await jobs.running())[3])
    assert (await jobs.status())["completedIndexes"] == "3"
    await jobs.cluster.patch(JOBS, "j", {"spec": {"completions": 2, "parallelism": 2}})
    await jobs.cluster.settle()
    assert [index_of(pod) for pod in await jobs.running()] == [0, 1]
    assert await jobs.counts() == (2, 0, 0)
    await jobs.cluster.patch(JOBS, "j", {"spec": {"completions": 3, "parallelism": 3}})
    await jobs.cluster.settle()
    assert [index_of(pod) for pod in await jobs.running()] == [0, 1, 2]


async def test_pods_are_adopted_with_the_finalizer_and_released_without(jobs):
    await jobs.create(parallelism=2, completions=4)
    pod = (await jobs.running())[0]["metadata"]["name"]
    await jobs.cluster.patch(PODS, pod, {"metadata": {"ownerReferences": None, "finalizers": None}})
    await jobs.cluster.settle()
    metadata = (await jobs.cluster.get(PODS, pod))["metadata"]
    assert (metadata["ownerReferences"][0]["name"], metadata["finalizers"]) == ("j", [TRACKING])
    await jobs.cluster.patch(PODS, pod, {"metadata": {"labels": None}})
    await jobs.cluster.settle()
    metadata = (await jobs.cluster.get(PODS, pod))["metadata"]
    assert "ownerReferences" not in metadata and "finalizers" not in metadata
    assert len(await jobs.running()) == 3


async def test_the_pods_of_a_job_that_is_gone_are_let_go(jobs):
    await jobs.create(parallelism=3, completions=3)
    await jobs.cluster.client.delete(JOBS, "j", "default", DeleteOptions(propagation_policy="Background"))
    await jobs.cluster.settle()
    assert not any(pod["metadata"].get("finalizers") for pod in await jobs.cluster.pods())
    await jobs.create("k")
    pod = (await jobs.running())[0]["metadata"]["name"]
    other = {"metadata": {"ownerReferences": None, "labels": None}}
    await jobs.cluster.patch(PODS, pod, other)
    await jobs.cluster.settle()
    assert not (await jobs.cluster.get(PODS, pod))["metadata"].get("finalizers")


async def test_a_job_of_another_controller_is_left_alone(jobs):
    await jobs.create(managedBy="example.com/queue")
    assert (await jobs.status(), await jobs.running()) == ({}, [])


async def test_restarts_within_a_pod_count_against_the_limit(jobs):
    await jobs.create(template={"restartPolicy": "OnFailure"}, backoffLimit=2)
    pod = (await jobs.running())[0]["metadata"]["name"]
    state = {"name": "main", "image": "b", "imageID": "", "ready": False, "restartCount": 2}
    status = {"status": {"containerStatuses": [state]}}
    await jobs.cluster.patch(PODS, pod, status, type="strategic", subresource="status")
    await jobs.cluster.advance(2)
    assert ("Failed", "BackoffLimitExceeded") in await jobs.conditions()


async def test_without_completions_one_success_lets_the_others_finish(jobs):
    await jobs.create(parallelism=3, completions=None)
    await jobs.end((await jobs.running())[0])
    assert await jobs.counts() == (2, 1, 0)
    assert len(await jobs.running()) == 2
    await jobs.end_all()
    assert ("Complete", "CompletionsReached") in await jobs.conditions()
