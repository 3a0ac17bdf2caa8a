import pytest

from orchestrator.api.item import Object
from orchestrator.controllers.jobcount import Tally, tally
from orchestrator.controllers.jobplan import plan
from orchestrator.controllers.jobpods import INDEX, TRACKING, job_pod, wanted
from orchestrator.controllers.jobpolicies import BACKOFF_MAX_S, Failures

NOW_S = 1_700_000_000.0
NONE = Failures()


@pytest.fixture
def counted(pod_item):
    def count(spec: Object, status: Object, *pods: str, failures: Failures = NONE) -> Tally:
        """Each pod is `phase` or `phase:index`; a phase in lower case is being deleted."""
        items = []
        for number, text in enumerate(pods):
            phase, _, index = text.partition(":")
            meta: Object = {"finalizers": [TRACKING], "creationTimestamp": "2023-11-14T22:00:00Z"}
            if index:
                meta["annotations"] = {INDEX: index}
            if phase.islower():
                meta["deletionTimestamp"] = "2023-11-14T22:13:00Z"
            items.append(pod_item(f"p{number}", meta=meta, status={"phase": phase.capitalize()}))
        want = wanted(spec)
        return tally(status, want, [job_pod(item, want, set()) for item in items], failures)

    return count


@pytest.mark.parametrize(
    ("spec", "status", "pods", "number", "deleted"),
    [
        ({"completions": 3, "parallelism": 2}, {}, (), 2, []),
        ({"completions": 3, "parallelism": 5}, {"succeeded": 2}, (), 1, []),
        ({"completions": 3, "parallelism": 2}, {}, ("Running", "Succeeded"), 1, []),
        ({"completions": 2, "parallelism": 1}, {}, ("Running", "Pending"), 0, ["p1"]),
        ({"completions": 2, "parallelism": 2, "suspend": True}, {}, ("Running",), 0, ["p0"]),
        ({"parallelism": 3}, {}, ("Running",), 2, []),
        ({"parallelism": 3}, {"succeeded": 1}, ("Running",), 0, []),
        ({"completions": 2, "parallelism": 2}, {}, ("running",), 2, []),
        ({"completions": 2, "parallelism": 2, "podReplacementPolicy": "Failed"}, {}, ("running",), 1, []),
    ],
)
def test_how_many_pods_a_job_makes_or_deletes(counted, spec, status, pods, number, deleted):
    steps = plan(counted(spec, status, *pods), NOW_S)
    assert (steps.number, [pod.item.meta.name for pod in steps.delete]) == (number, deleted)


@pytest.mark.parametrize(
    ("status", "pods", "indexes", "deleted"),
    [
        ({}, (), [0, 1, 2], []),
        ({"completedIndexes": "0,2"}, ("Running:1",), [3, 4], []),
        ({}, ("Running:0", "Pending:0", "Running:7", "Running"), [], ["p1", "p2", "p3"]),
    ],
)
def test_which_indexes_get_pods(counted, status, pods, indexes, deleted):
    spec = {"completions": 5, "parallelism": 3, "completionMode": "Indexed"}
    steps = plan(counted(spec, status, *pods), NOW_S)
    assert (steps.indexes, sorted(pod.item.meta.name for pod in steps.delete)) == (indexes, deleted)


@pytest.mark.parametrize(("number", "delay_s"), [(1, 10.0), (2, 20.0), (4, 80.0), (20, BACKOFF_MAX_S)])
def test_failures_in_a_row_delay_the_next_pod(counted, number, delay_s):
    spec = {"completions": 1, "parallelism": 1}
    count = counted(spec, {}, failures=Failures(number, NOW_S))
    assert plan(count, NOW_S).look_again_s == delay_s
    assert plan(count, NOW_S + delay_s).number == 1
