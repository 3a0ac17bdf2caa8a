import pytest

from orchestrator.api.item import Object
from orchestrator.api.resources import JOBS
from orchestrator.api.times import timestamp
from orchestrator.controllers.ttlafterfinished import TtlAfterFinishedController, remaining_s

POD = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox"}]}}


async def finished_job(cluster, ttl_s: int | None) -> None:
    spec = {"template": POD} if ttl_s is None else {"template": POD, "ttlSecondsAfterFinished": ttl_s}
    job = await cluster.create(JOBS, {"metadata": {"name": "j"}, "spec": spec})
    now = timestamp(cluster.clock.now_s())
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("FailureTarget", "Failed")
    ]
    status: Object = {"startTime": now, "conditions": conditions}
    await cluster.client.update(JOBS, {**job, "status": status}, subresource="status")
    await cluster.settle()


@pytest.fixture
async def running(cluster):
    controller = TtlAfterFinishedController(cluster.client, cluster.clock, cluster.recorder)
    await cluster.start(controller, kubelet=False)
    return cluster


async def test_a_finished_job_goes_when_its_time_is_over(running):
    await finished_job(running, 100)
    await running.advance(98, step_s=98)
    await running.get(JOBS, "j")
    await running.advance(3, step_s=3)
    job = await running.get(JOBS, "j")  # Its pods go first, by the garbage collector.
    assert job["metadata"]["finalizers"] == ["foregroundDeletion"]


async def test_without_a_time_it_stays(running):
    await finished_job(running, None)
    assert await running.is_at_rest(1000)
    await running.patch(JOBS, "j", {"spec": {"ttlSecondsAfterFinished": 2000}})
    await running.advance(900, step_s=300)
    assert "deletionTimestamp" not in (await running.get(JOBS, "j"))["metadata"]
    await running.advance(600, step_s=300)
    assert "deletionTimestamp" in (await running.get(JOBS, "j"))["metadata"]


def test_a_job_that_does_not_say_since_when_it_is_finished_stays():
    conditions = [{"type": "Complete", "status": "True"}]
    job = {"metadata": {}, "spec": {"ttlSecondsAfterFinished": 0}, "status": {"conditions": conditions}}
    assert remaining_s(job, 0.0) is None
