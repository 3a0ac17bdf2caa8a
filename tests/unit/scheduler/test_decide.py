"""Decisions: what users read when a pod does not fit, ties, and what outweighs what."""

import random
from collections import Counter

import pytest

from orchestrator.scheduler.decide import Decider
from orchestrator.scheduler.rules.columns import Columns

NO_SCHEDULE = {"key": "k", "value": "v", "effect": "NoSchedule"}


def decider(*nodes, seed=1) -> Decider:
    columns = Columns()
    for node in nodes:
        columns.set_node(node)
    return Decider(columns, random.Random(seed))


def test_without_nodes_the_message_says_so(pod):
    assert decider().decide(pod()).message == "no nodes available to schedule pods"


@pytest.mark.parametrize(
    ("spec", "nodes", "message"),
    [
        (
            {"cpu": "3"},
            [{"cpu": "2"}, {"cpu": "1"}, {"taints": [NO_SCHEDULE]}],
            "0/3 nodes are available: 1 node(s) had untolerated taint {k: v}, 2 Insufficient cpu.",
        ),
        (
            {"cpu": "3", "memory": "2Gi"},
            [{"cpu": "2", "memory": "1Gi"}],
            "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory.",
        ),
        ({}, [{"pods": "0"}], "0/1 nodes are available: 1 Too many pods."),
        ({}, [{"unschedulable": True}], "0/1 nodes are available: 1 node(s) were unschedulable."),
        (
            {"nodeSelector": {"disk": "ssd"}},
            [{}, {"labels": {"disk": "hdd"}}],
            "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.",
        ),
        (
            {"nodeName": "nowhere"},
            [{}],
            "0/1 nodes are available: 1 node(s) didn't match the requested node name.",
        ),
        (
            {"overhead": {"example.com/gpu": "1"}},
            [{}],
            "0/1 nodes are available: 1 Insufficient example.com/gpu.",
        ),
    ],
)
def test_why_a_pod_does_not_fit(pod, node, spec, nodes, message):
    made = [node(f"n{number}", **parts) for number, parts in enumerate(nodes)]
    assert decider(*made).decide(pod(**spec)).message == message


def test_the_emptier_node_wins_and_every_placement_counts(pod, node):
    decide = decider(node("small", cpu="2"), node("large", cpu="8"))
    placed = []
    for number in range(9):
        wanted = pod(f"p{number}", cpu="1")
        chosen = decide.decide(wanted).node
        if chosen:
            decide.columns.place(wanted, chosen)
        placed.append(chosen)
    assert placed[0] == "large"
    assert set(placed) == {"large", "small"}  # nine of ten cores are used, so both must be


def test_ties_spread_over_all_equal_nodes(pod, node):
    decide = decider(*(node(f"n{number}") for number in range(5)))
    chosen = Counter(decide.decide(pod()).node for _ in range(500))
    assert len(chosen) == 5
    assert min(chosen.values()) > 50


def test_equal_seeds_decide_equally(pod, node):
    def run(seed: int) -> list[str]:
        decide = decider(*(node(f"n{number}") for number in range(7)), seed=seed)
        return [decide.decide(pod()).node for _ in range(50)]

    assert run(3) == run(3) != run(4)


def test_two_pods_do_not_share_a_host_port_unless_addresses_differ(pod, node):
    def with_port(name, address):
        ports = [{"containerPort": 80, "hostPort": 80, "hostIP": address}]
        return pod(name, containers=[{"name": "c", "image": "i", "ports": ports}])

    decide = decider(node("n1"))
    decide.columns.place(with_port("a", "10.0.0.1"), "n1")
    assert decide.decide(with_port("b", "10.0.0.2")).node == "n1"
    for address in ("10.0.0.1", ""):
        refused = decide.decide(with_port("c", address))
        assert refused.message == (
            "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."
        )
    decide.columns.displace("uid-a")
    assert decide.decide(with_port("c", "")).node == "n1"


def test_preferred_affinity_and_soft_taints_outweigh_free_room(pod, node):
    soft = {"key": "s", "value": "", "effect": "PreferNoSchedule"}
    prefer = {
        "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 10,
                    "preference": {"matchExpressions": [{"key": "z", "operator": "In", "values": ["a"]}]},
                }
            ]
        }
    }
    decide = decider(
        node("free"), node("soft", labels={"z": "a"}, taints=[soft]), node("zone", labels={"z": "a"})
    )
    decide.columns.place(pod("busy", cpu="2"), "zone")
    assert decide.decide(pod()).node == "free"
    assert decide.decide(pod(affinity=prefer)).node == "zone"
