"""A place is a letter: A available, S sick, T terminating, F failed, - absent; small ones are of the old revision."""

import pytest

from orchestrator.controllers.statefulplan import (
    Member,
    Observed,
    Places,
    Revisions,
    max_unavailable,
    members,
    plan,
    status,
)

OLD, NEW = ({"metadata": {"name": name}} for name in ("old", "new"))
REVISIONS = Revisions(OLD, NEW, 0)


def stateful_set(management="OrderedReady", replicas=3, kind="RollingUpdate", **rolling):
    strategy = {
        "type": kind,
        **({"rollingUpdate": {"partition": 0, **rolling}} if kind != "OnDelete" else {}),
    }
    spec = {"podManagementPolicy": management, "replicas": replicas, "updateStrategy": strategy}
    return {"metadata": {"name": "web", "namespace": "default", "generation": 2}, "spec": spec}


@pytest.fixture
def place(pod_item):
    def make(letter: str, ordinal: int) -> Member:
        name, state = f"web-{ordinal}", letter.upper()
        revision = "new" if letter.isupper() or letter == "-" else "old"
        if letter == "-":
            return Member(ordinal, name, revision)
        return Member(
            ordinal, name, revision, pod_item(name),
            terminating=state == "T", ended=state == "F", pending=state == "S", ready=state in "AT",
        )  # fmt: skip

    return make


@pytest.fixture
def places(place):
    def make(letters: str) -> Places:
        replicas, _, condemned = letters.partition("|")
        found = [place(letter, ordinal) for ordinal, letter in enumerate(replicas)]
        beyond = [place(letter, len(found) + at) for at, letter in enumerate(condemned)]
        return Places(found, beyond[::-1])

    return make


def done(stages) -> list[str]:
    return [f"{step.verb} {step.member.ordinal}" for stage in stages for step in stage]


@pytest.mark.parametrize(
    ("letters", "ordered", "parallel"),
    [
        ("---", ["create 0"], ["create 0", "create 1", "create 2"]),
        ("A--", ["create 1"], ["create 1", "create 2"]),
        ("S--", [], ["create 1", "create 2"]),
        ("AT-", [], ["create 2"]),
        ("AFA", ["delete 1"], ["delete 1"]),
        ("AAA", [], []),
        ("AAA|AA", ["delete 4"], ["delete 4", "delete 3"]),
        ("AAA|AT", [], ["delete 3"]),
        ("AAA|SA", ["delete 4"], ["delete 4", "delete 3"]),
        ("AAA|AS", ["delete 4"], ["delete 4", "delete 3"]),
        ("AAA|SS", [], ["delete 4", "delete 3"]),
        ("ASA|AA", [], ["delete 4", "delete 3"]),
        ("aaa", ["delete 2"], ["delete 2"]),
        ("aaA", ["delete 1"], ["delete 1"]),
        ("aaS", [], []),
        ("aaT", [], []),
        ("saa", [], ["delete 0"]),
        ("ssa", [], ["delete 1", "delete 0"]),
        ("aaf", ["delete 2"], ["delete 2"]),
        ("aaa|A", ["delete 3"], ["delete 3", "delete 2"]),
    ],
)
def test_steps_go_in_order_or_at_once(places, letters, ordered, parallel):
    for management, expected in (("OrderedReady", ordered), ("Parallel", parallel)):
        stages = plan(stateful_set(management), REVISIONS, places(letters), Observed())
        assert done(stages) == expected, management


@pytest.mark.parametrize(
    ("letters", "rolling", "management", "expected"),
    [
        ("aaaa", {"partition": 2}, "OrderedReady", ["delete 3"]),
        ("aaAA", {"partition": 2}, "OrderedReady", []),
        ("aaaa", {"maxUnavailable": 2}, "OrderedReady", ["delete 3", "delete 2"]),
        ("aaaa", {"maxUnavailable": "60%"}, "Parallel", ["delete 3", "delete 2"]),
        ("aaaT", {"maxUnavailable": 2}, "Parallel", ["delete 2"]),
        ("asaT", {"maxUnavailable": 2}, "Parallel", ["delete 1"]),
        ("saaa", {"maxUnavailable": 2, "partition": 1}, "Parallel", ["delete 3"]),
        ("aaaa", {"kind": "OnDelete"}, "OrderedReady", []),
    ],
)
def test_an_update_keeps_to_partition_and_max_unavailable(places, letters, rolling, management, expected):
    wanted = stateful_set(management, replicas=4, **rolling)
    assert done(plan(wanted, REVISIONS, places(letters), Observed())) == expected


@pytest.mark.parametrize(("value", "replicas", "pods"), [(1, 5, 1), ("10%", 5, 1), ("50%", 5, 2), (3, 2, 3)])
def test_percents_of_pods_round_down_but_let_one_go(value, replicas, pods):
    assert max_unavailable(value, replicas) == pods


def test_what_is_unkempt_is_put_right_where_it_does_not_halt(places):
    seen = Observed(unkempt={"web-0", "web-1", "web-3"}, lacking={"web-1"}, blocked={"web-2"})
    found = places("AS-|A")
    assert done(plan(stateful_set(), REVISIONS, found, seen)) == ["tidy 0", "claims 1"]
    parallel = done(plan(stateful_set("Parallel"), REVISIONS, found, seen))
    assert parallel == ["tidy 0", "claims 1", "tidy 1", "own 3", "delete 3"]


@pytest.mark.parametrize(
    ("letters", "partition", "current", "counts"),
    [
        ("---", 0, "old", (0, 0, 0, 0)),
        ("AAA", 0, "new", (3, 3, 3, 3)),
        ("aAA", 0, "old", (3, 3, 1, 2)),
        ("aaT", 0, "old", (3, 3, 2, 0)),
        ("AAA|A", 0, "old", (4, 4, 0, 4)),
        ("AAS", 0, "old", (3, 2, 0, 3)),
    ],
)
def test_status_counts_and_completes(places, letters, partition, current, counts):
    found = status(stateful_set(), REVISIONS, places(letters))
    names = ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas")
    assert tuple(found.get(name, 0) for name in names) == counts
    assert (found["currentRevision"], found["updateRevision"]) == (current, "new")


def test_places_below_the_partition_are_made_from_the_current_revision(pod_item):
    wanted = stateful_set(partition=1)
    wanted["spec"]["ordinals"] = {"start": 7}
    pods = [pod_item("web-8"), pod_item("web-2"), pod_item("web-08"), pod_item("other-7"), pod_item("web-x")]
    found = members(wanted, REVISIONS, pods, {"uid-web-8"}, 0.0)
    assert [(m.name, m.revision, m.pod is not None) for m in found.replicas] == [
        ("web-7", "old", False), ("web-8", "", True), ("web-9", "new", False),
    ]  # fmt: skip
    assert found.replicas[1].terminating
    assert [m.name for m in found.condemned] == ["web-2"]
