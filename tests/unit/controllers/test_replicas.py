import random
from collections import Counter

import pytest

from orchestrator.api.errors import ApiError, Cause, Forbidden, InternalError
from orchestrator.api.item import Object
from orchestrator.controllers.pods import Failure
from orchestrator.controllers.replicas import deletion_rank, plan, status

NOW_S = 1_700_000_000.0
READY = {"type": "Ready", "status": "True", "lastTransitionTime": "2023-11-14T22:00:00Z"}
RUNNING = {"phase": "Running", "conditions": [READY]}


def replica_set(name="rs", replicas=3, **spec) -> Object:
    labels = {"app": name}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "busybox"}]}}
    return {
        "metadata": {"name": name, "namespace": "default", "uid": "u"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod, **spec},
    }


@pytest.mark.parametrize(
    ("replicas", "pods", "gone", "create", "delete"),
    [
        (3, [], (), 3, []),
        (3, [("a", {})], (), 2, []),
        (1, [("a", RUNNING)], (), 0, []),
        (1, [("a", {"phase": "Failed"})], (), 1, []),
        (1, [("a", RUNNING), ("b", {})], (), 0, ["b"]),
        (0, [("a", RUNNING)], (), 0, ["a"]),
        (0, [("a", RUNNING)], ("uid-a",), 0, []),
        (1, [("a", RUNNING)], ("uid-a",), 1, []),
    ],
)
def test_plan_counts_only_pods_that_will_stay(pod_item, replicas, pods, gone, create, delete):
    items = [pod_item(name, status=status) for name, status in pods]
    steps = plan(replica_set(replicas=replicas), items, set(gone), Counter, NOW_S)
    assert (steps.create, [pod.meta.name for pod in steps.delete]) == (create, delete)


def test_the_least_valuable_pod_goes_first(pod_item):
    bound = {"spec": {"nodeName": "n1"}}
    old, new = "2023-11-14T20:00:00Z", "2023-11-14T22:13:00Z"
    ranked = [
        pod_item("unassigned", status=RUNNING),
        pod_item("pending", status={"phase": "Pending"}, **bound),
        pod_item("unready", status={"phase": "Running"}, **bound),
        pod_item(
            "cheap", status=RUNNING, **bound,
            meta={"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-5"}},
        ),
        pod_item("crowded", status=RUNNING, spec={"nodeName": "n2"}),
        pod_item("fresh", status={**RUNNING, "conditions": [{**READY, "lastTransitionTime": new}]}, **bound),
        pod_item("restarted", status={**RUNNING, "containerStatuses": [{"restartCount": 4}]}, **bound),
        pod_item("young", status=RUNNING, meta={"creationTimestamp": new}, **bound),
        pod_item("old", status=RUNNING, meta={"creationTimestamp": old}, **bound),
    ]  # fmt: skip
    crowds = Counter({"n1": 1, "n2": 2})
    found = sorted(
        random.Random(1).sample(ranked, len(ranked)), key=lambda pod: deletion_rank(pod, crowds, NOW_S)
    )
    assert [pod.meta.name for pod in found] == [pod.meta.name for pod in ranked]


def test_a_ready_pod_is_available_only_after_min_ready_seconds(pod_item):
    item = pod_item("a", status=RUNNING)  # ready since 22:00:00, 800 s before NOW_S
    steps = plan(replica_set(replicas=1, minReadySeconds=900), [item], set(), Counter, NOW_S)
    assert (steps.counts["readyReplicas"], steps.counts["availableReplicas"]) == (1, 0)
    assert steps.look_again_s == 100


def test_errors_of_a_namespace_that_goes_away_are_final():
    going = Forbidden("no", causes=(Cause("NamespaceTerminating", "", "metadata.namespace"),))
    outcomes = [Failure("FailedCreate", error).final for error in (going, Forbidden("no"), ApiError("no"))]
    assert outcomes == [True, False, False]


def test_a_failure_that_is_told_already_is_not_told_in_other_words():
    counts = {"replicas": 0}
    first = status(replica_set(), counts, Failure("FailedCreate", InternalError("pod a")), NOW_S)
    owner = {**replica_set(), "status": first}
    assert status(owner, counts, Failure("FailedCreate", InternalError("pod b")), NOW_S + 9) == first
    assert "conditions" not in status(owner, counts, None, NOW_S + 9)


@pytest.mark.parametrize("cost", ["1_0", "x", "", "+3", " 4"])
def test_a_deletion_cost_that_is_no_number_counts_as_none(pod_item, cost):
    annotations = {"controller.kubernetes.io/pod-deletion-cost": cost}
    plain, odd = pod_item("a"), pod_item("a", meta={"annotations": annotations})
    assert deletion_rank(odd, Counter(), NOW_S) == deletion_rank(plain, Counter(), NOW_S)
