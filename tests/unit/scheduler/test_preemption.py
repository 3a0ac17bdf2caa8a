"""Who must go for a more urgent pod, by the documented rules."""

import random

import pytest

from orchestrator.api.selectors import from_set
from orchestrator.scheduler.decide import Decider
from orchestrator.scheduler.preemption import Budget, Preemption
from orchestrator.scheduler.rules.columns import Columns

PORT = [{"name": "c", "image": "i", "ports": [{"containerPort": 1, "hostPort": 80}]}]


class Trial:
    def __init__(self, *nodes):
        self.columns = Columns()
        for node in nodes:
            self.columns.set_node(node)
        self.nominated = {}
        self.decider = Decider(self.columns, random.Random(1), nominated=self.nominated)
        self.preemption = Preemption(self.columns, random.Random(1))

    def find(self, pod, budgets=()):
        before = {uid: place[0] for uid, place in self.columns.placed.items()}
        found = self.preemption.find(self.decider, pod, budgets)
        assert {uid: place[0] for uid, place in self.columns.placed.items()} == before
        return found.node or "", sorted(victim.name for victim in found.victims), found.message


def test_no_more_go_than_must_and_the_least_urgent_first(pod, node):
    trial = Trial(node("n", cpu="4"))
    for name, cpu, priority in (("a", "2", 5), ("b", "1", 1), ("c", "1", 3)):
        trial.columns.place(pod(name, cpu=cpu, priority=priority), "n")
    assert trial.find(pod("new", cpu="1", priority=10)) == ("n", ["b"], "")
    assert trial.find(pod("new", cpu="2", priority=10)) == ("n", ["b", "c"], "")
    assert trial.find(pod("new", cpu="3", priority=10)) == ("n", ["a", "b"], "")


def test_the_node_with_the_least_urgent_victim_then_the_fewest(pod, node):
    trial = Trial(node("low", cpu="2"), node("high", cpu="2"), node("two", cpu="2"))
    trial.columns.place(pod("l", cpu="2", priority=1), "low")
    trial.columns.place(pod("h", cpu="2", priority=5), "high")
    trial.columns.place(pod("t1", cpu="1", priority=1), "two")
    trial.columns.place(pod("t2", cpu="1", priority=1), "two")
    assert trial.find(pod("new", cpu="2", priority=10)) == ("low", ["l"], "")


def test_of_equals_who_has_run_longer_stays_whoever_was_written_to_last(pod, node):
    trial = Trial(node("n", cpu="2"), node("m", cpu="2"))
    young = {"status": {"startTime": "2026-01-02T00:00:00Z"}}
    old = {"status": {"startTime": "2026-01-01T00:00:00Z"}}
    for name, place, spec in (("a", "n", young), ("b", "n", old), ("c", "m", old), ("d", "m", old)):
        trial.columns.place(pod(name, cpu="1", **spec), place)
    assert trial.find(pod("new", cpu="1", priority=10)) == ("n", ["a"], "")


def test_budgets_are_respected_where_another_node_will_do(pod, node):
    trial = Trial(node("kept", cpu="2"), node("free", cpu="2"))
    trial.columns.place(pod("k", cpu="2", meta={"labels": {"app": "k"}}), "kept")
    trial.columns.place(pod("f", cpu="2", priority=5), "free")
    budget = Budget("default", from_set({"app": "k"}), 0)
    assert trial.find(pod("new", cpu="2", priority=10), [budget]) == ("free", ["f"], "")
    trial.columns.displace("uid-f")
    trial.columns.remove_node("free")
    assert trial.find(pod("new", cpu="2", priority=10), [budget]) == ("kept", ["k"], "")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"priority": 0}, "0/1 nodes are available: 1 No preemption victims found for incoming pod."),
        (
            {"priority": 9, "nodeSelector": {"a": "b"}},
            "0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
        ),
        ({"priority": 9, "cpu": "9"}, "0/1 nodes are available: 1 Insufficient cpu."),
        ({"priority": 9, "preemptionPolicy": "Never"}, "not eligible due to preemptionPolicy=Never."),
    ],
)
def test_why_nobody_goes(pod, node, spec, message):
    trial = Trial(node("n", cpu="2"))
    trial.columns.place(pod("there", cpu="2"), "n")
    assert trial.find(pod("new", **{"cpu": "2", **spec})) == ("", [], message)


def test_a_port_is_made_free_too(pod, node):
    trial = Trial(node("n"))
    trial.columns.place(pod("other"), "n")
    trial.columns.place(pod("holder", containers=PORT), "n")
    assert trial.find(pod("new", containers=PORT, priority=1)) == ("n", ["holder"], "")


def test_nominated_room_is_kept_from_pods_that_are_not_more_urgent(pod, node):
    trial = Trial(node("n", cpu="2"))
    waiting = pod("waiting", cpu="2", priority=5)
    trial.columns.place(waiting, "n")
    trial.nominated[waiting.uid] = waiting
    assert trial.decider.decide(pod("less", cpu="1", priority=4)).node == ""
    assert trial.decider.decide(pod("same", cpu="1", priority=5)).node == ""
    assert trial.decider.decide(pod("more", cpu="1", priority=6)).node == "n"
    assert trial.decider.decide(waiting).node == "n"
    assert waiting.uid in trial.columns.placed


def test_a_pod_that_is_only_nominated_is_no_company(pod, node):
    trial = Trial(node("n"), node("other"))
    waiting = pod("waiting", priority=5, meta={"labels": {"app": "db"}})
    trial.columns.place(waiting, "n")
    trial.nominated[waiting.uid] = waiting
    term = {"labelSelector": {"matchLabels": {"app": "db"}}, "topologyKey": "kubernetes.io/hostname"}
    near = {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}
    assert trial.decider.decide(pod("near", **near)).node == ""
    away = {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}
    assert trial.decider.decide(pod("away", **away)).node == "other"
    del trial.nominated[waiting.uid]
    assert trial.decider.decide(pod("near", **near)).node == "n"


def test_what_was_found_for_a_kind_of_pod_is_not_believed_of_a_row_that_changed(pod, node):
    trial = Trial(*(node(f"n{at}", cpu="2") for at in range(8)))
    rng = random.Random(3)
    for at in range(300):
        name = f"p{at % 40}"
        if f"uid-{name}" in trial.columns.placed:
            trial.columns.displace(f"uid-{name}")
        else:
            began = {"startTime": f"2026-01-01T00:{at // 60:02}:{at % 60:02}Z"}
            there = pod(name, cpu=rng.choice(("1", "2")), priority=rng.randrange(4), status=began)
            trial.columns.place(there, f"n{rng.randrange(8)}")
        new = pod("new", cpu="2", priority=3)
        if trial.decider.decide(new).node:
            continue
        fresh = Preemption(trial.columns, random.Random(1)).find(trial.decider, new, ())
        node_name, victims, message = trial.find(new)
        assert (node_name, message) == (fresh.node or "", fresh.message)
        assert victims == sorted(victim.name for victim in fresh.victims)
