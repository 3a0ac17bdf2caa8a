import pytest

from orchestrator.scheduler.profiles import default_plugins
from orchestrator.scheduler.queue import BACKOFF_MAX_S, STUCK_S, SchedulingQueue
from orchestrator.scheduler.rules.interface import ClusterEvent


@pytest.fixture
def queue():
    return SchedulingQueue(default_plugins().helped_by)


def popped(queue) -> list[str]:
    names = []
    while (waiting := queue.pop()) is not None:
        names.append(waiting.pod.name)
    return names


def test_priority_first_then_who_waits_longest(queue, pod):
    for now_s, (name, priority) in enumerate((("a", 0), ("b", 10), ("c", 0), ("d", 10))):
        queue.update(pod(name, priority=priority), now_s)
    assert popped(queue) == ["b", "d", "a", "c"]


@pytest.mark.parametrize(
    ("refused_by", "event", "moves"),
    [
        ("NodeResourcesFit", ClusterEvent.POD_REMOVED, True),
        ("NodeResourcesFit", ClusterEvent.NODE_TAINTS, False),
        ("TaintToleration", ClusterEvent.NODE_TAINTS, True),
        ("NodeAffinity", ClusterEvent.NODE_LABELS, True),
        ("NodeAffinity", ClusterEvent.POD_REMOVED, False),
        ("NodeUnschedulable", ClusterEvent.NODE_SCHEDULABLE, True),
        ("SomethingNew", ClusterEvent.POD_REMOVED, True),
    ],
)
def test_only_events_that_can_help_move_a_pod(queue, pod, refused_by, event, moves):
    queue.update(pod("a"), 0.0)
    queue.refuse(queue.pop(), frozenset((refused_by,)), 0.0)
    queue.happened(event, 60.0)
    assert popped(queue) == (["a"] if moves else [])


def test_a_pod_that_was_just_refused_waits_for_its_backoff(queue, pod):
    queue.update(pod("a"), 0.0)
    queue.refuse(queue.pop(), frozenset(("NodeResourcesFit",)), 0.0)
    queue.happened(ClusterEvent.POD_REMOVED, 0.5)
    assert queue.counts == {"active": 0, "backoff": 1, "unschedulable": 0}
    assert queue.due_s == 1.0
    queue.flush(0.9)
    assert popped(queue) == []
    queue.flush(1.0)
    assert popped(queue) == ["a"]


def test_backoff_doubles_up_to_its_bound(queue, pod):
    queue.update(pod("a"), 0.0)
    delays = []
    for _ in range(6):
        queue.retry(queue.pop(), 0.0)
        delays.append(queue.due_s)
        queue.flush(BACKOFF_MAX_S)
    assert delays == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_a_stuck_pod_is_tried_again_without_any_event(queue, pod):
    queue.update(pod("a"), 0.0)
    queue.refuse(queue.pop(), frozenset(("NodeAffinity",)), 0.0)
    queue.flush(STUCK_S - 1)
    assert popped(queue) == []
    queue.flush(STUCK_S)
    assert popped(queue) == ["a"]


def test_a_status_change_does_not_retry_but_a_new_requirement_does(queue, pod):
    queue.update(pod("a", nodeSelector={"x": "y"}), 0.0)
    queue.refuse(queue.pop(), frozenset(("NodeAffinity",)), 0.0)
    queue.update(pod("a", nodeSelector={"x": "y"}), 1.0)
    assert popped(queue) == []
    queue.update(pod("a"), 2.0)
    assert popped(queue) == ["a"]


def test_removed_pods_are_not_handed_out(queue, pod):
    for name in "abc":
        queue.update(pod(name), 0.0)
    queue.remove("uid-b")
    queue.remove("uid-unknown")
    assert popped(queue) == ["a", "c"]
    assert len(queue) == 0


def test_outdated_heap_entries_do_not_pile_up(queue, pod):
    queue.update(pod("a"), 0.0)
    for number in range(5000):
        queue.refuse(queue.pop(), frozenset(("NodeResourcesFit",)), float(number))
        queue.happened(ClusterEvent.POD_REMOVED, float(number) + 20)
    assert len(queue._timed) < 1100
