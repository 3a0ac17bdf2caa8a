"""Decisions: what users read when a pod does not fit, and agreement with a slow oracle on random clusters."""

import random
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.scheduler.decide import Decider
from orchestrator.scheduler.rules.columns import Columns

CORDONED = {"key": "node.kubernetes.io/unschedulable", "value": "", "effect": "NoSchedule"}
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


# ── The oracle: the same rules, node by node, in plain Python ────────────────────────────────────────────

KEYS, VALUES = ("a", "b"), ("1", "2", "3")
OPERATORS = {
    "In": lambda value, wanted: value in wanted,
    "NotIn": lambda value, wanted: value not in wanted,
    "Exists": lambda value, wanted: value is not None,
    "DoesNotExist": lambda value, wanted: value is None,
    "Gt": lambda value, wanted: value is not None and int(value) > int(wanted[0]),
    "Lt": lambda value, wanted: value is not None and int(value) < int(wanted[0]),
}


def oracle_term(term, labels) -> bool:
    expressions = term["matchExpressions"]
    return bool(expressions) and all(
        OPERATORS[e["operator"]](labels.get(e["key"]), e.get("values", [])) for e in expressions
    )


def oracle_tolerates(spec, taint) -> bool:
    return any(
        t.get("effect", taint["effect"]) == taint["effect"]
        and t.get("key", taint["key"]) == taint["key"]
        and (t["operator"] == "Exists" or t.get("value") == taint["value"])
        for t in spec["tolerations"]
    )


def oracle_fits(spec, node, pods) -> bool:
    labels = node["labels"]
    if any(labels.get(k) != v for k, v in spec["nodeSelector"].items()):
        return False
    terms = spec["required"]
    if terms and not any(oracle_term(term, labels) for term in terms):
        return False
    if node["unschedulable"] and not oracle_tolerates(spec, CORDONED):
        return False
    hard = [t for t in node["taints"] if t["effect"] != "PreferNoSchedule"]
    if any(not oracle_tolerates(spec, taint) for taint in hard):
        return False
    if any(spec["port"] and spec["port"] == other["port"] for other in pods):
        return False
    used_cpu = sum(other["cpu"] for other in pods) + spec["cpu"]
    used_memory = sum(other["memory"] for other in pods) + spec["memory"]
    return used_cpu <= node["cpu"] and used_memory <= node["memory"] and len(pods) < node["pods"]


def oracle_scores(spec, nodes, placed) -> dict[str, int]:
    fitting = {n: node for n, node in nodes.items() if oracle_fits(spec, node, placed[n])}
    soft = {
        n: sum(t["effect"] == "PreferNoSchedule" and not oracle_tolerates(spec, t) for t in node["taints"])
        for n, node in fitting.items()
    }
    preferred = {
        n: sum(weight for weight, term in spec["preferred"] if oracle_term(term, node["labels"]))
        for n, node in fitting.items()
    }
    scores = {}
    for n, node in fitting.items():
        parts = []
        for resource, missing in (("cpu", 100), ("memory", 200 * 2**20)):
            used = sum(other[resource] or missing for other in [*placed[n], spec])
            free = Fraction(max(node[resource] - used, 0) * 100, node[resource]) if node[resource] else None
            if free is not None:
                parts.append(int(free))
        least = sum(parts) // len(parts) if parts else 0
        bad, good = max(soft.values()), max(preferred.values())
        scores[n] = least
        scores[n] += 3 * (100 - (soft[n] * 100 // bad if bad else 0)) if ANY_SOFT(nodes) else 0
        scores[n] += 2 * (preferred[n] * 100 // good if good else 0)
    return scores


def ANY_SOFT(nodes) -> bool:  # a constant for every node otherwise
    return any(t["effect"] == "PreferNoSchedule" for node in nodes.values() for t in node["taints"])


def expression(draw):
    operator = draw(st.sampled_from(sorted(OPERATORS)))
    made = {"key": draw(st.sampled_from(KEYS)), "operator": operator}
    if operator in ("In", "NotIn"):
        made["values"] = draw(st.lists(st.sampled_from(VALUES), min_size=1, max_size=2))
    elif operator in ("Gt", "Lt"):
        made["values"] = [draw(st.sampled_from(VALUES))]
    return made


@st.composite
def terms(draw):
    return {"matchExpressions": [expression(draw) for _ in range(draw(st.integers(1, 2)))]}


_label_sets = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))
_taints = st.builds(
    lambda key, value, effect: {"key": key, "value": value, "effect": effect},
    st.sampled_from(KEYS), st.sampled_from(VALUES[:2]),
    st.sampled_from(("NoSchedule", "NoExecute", "PreferNoSchedule")),
)  # fmt: skip
_tolerations = st.one_of(
    st.just({"operator": "Exists"}),
    st.builds(lambda key: {"key": key, "operator": "Exists"}, st.sampled_from(KEYS)),
    st.builds(
        lambda key, value, effect: {"key": key, "operator": "Equal", "value": value, "effect": effect},
        st.sampled_from(KEYS), st.sampled_from(VALUES[:2]), st.sampled_from(("NoSchedule", "PreferNoSchedule")),
    ),
)  # fmt: skip
_nodes = st.fixed_dictionaries(
    {
        "cpu": st.sampled_from((0, 1000, 4000)),
        "memory": st.sampled_from((2**30, 2**33)),
        "pods": st.sampled_from((2, 110)),
        "labels": _label_sets,
        "taints": st.lists(_taints, max_size=1),
        "unschedulable": st.sampled_from((False, False, False, True)),
    }
)
_pods = st.fixed_dictionaries(
    {
        "cpu": st.sampled_from((0, 100, 900)),
        "memory": st.sampled_from((0, 2**29)),
        "nodeSelector": st.one_of(st.just({}), st.just({}), _label_sets),
        "required": st.one_of(st.just([]), st.lists(terms(), max_size=2)),
        "preferred": st.one_of(st.just([]), st.lists(st.tuples(st.integers(1, 100), terms()), max_size=2)),
        "tolerations": st.lists(_tolerations, max_size=2),
        "port": st.sampled_from((0, 0, 80)),
    }
)


def build_pod(pod, name, spec):
    affinity = {}
    if spec["required"]:
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": spec["required"]}
    if spec["preferred"]:
        affinity["preferredDuringSchedulingIgnoredDuringExecution"] = [
            {"weight": weight, "preference": term} for weight, term in spec["preferred"]
        ]
    requests = {k: v for k, v in (("cpu", f"{spec['cpu']}m"), ("memory", str(spec["memory"]))) if spec[k]}
    ports = [{"containerPort": 1, "hostPort": spec["port"]}] if spec["port"] else []
    container = {"name": "c", "image": "i", "resources": {"requests": requests}, "ports": ports}
    return pod(
        name, containers=[container], affinity={"nodeAffinity": affinity},
        nodeSelector=spec["nodeSelector"], tolerations=spec["tolerations"],
    )  # fmt: skip


def build_node(node, name, facts):
    return node(
        name, cpu=f"{facts['cpu']}m", memory=str(facts["memory"]), pods=str(facts["pods"]), labels=facts["labels"],
        taints=facts["taints"], unschedulable=facts["unschedulable"],
    )  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_decision_is_the_oracles_while_everything_changes(pod, node, data):
    """Shared evaluations are repaired through placements, departures, node changes and node losses."""
    decide = decider(seed=5)
    nodes, placed, on = {}, {}, {}
    specs = data.draw(st.lists(_pods, min_size=1, max_size=3))
    for number in range(data.draw(st.integers(1, 14))):
        action = data.draw(st.sampled_from(("node", "node", "pod", "pod", "pod", "pod", "leave", "lose")))
        if action == "node":
            name = f"n{data.draw(st.integers(0, 9))}"
            nodes[name] = data.draw(_nodes)
            placed.setdefault(name, [])
            decide.columns.set_node(build_node(node, name, nodes[name]))
        elif action == "leave" and on:
            gone = data.draw(st.sampled_from(sorted(on)))
            name, spec = on.pop(gone)
            placed[name].remove(spec)
            decide.columns.displace(f"uid-{gone}")
        elif action == "lose" and nodes:
            name = data.draw(st.sampled_from(sorted(nodes)))
            del nodes[name]
            decide.columns.remove_node(name)
        elif action == "pod":
            spec = data.draw(st.sampled_from(specs))
            made = build_pod(pod, f"p{number}", spec)
            expected = oracle_scores(spec, nodes, placed)
            found = decide.scores(made)
            soft = 300 if expected and not ANY_SOFT(nodes) and next(iter(found.values()), 0) >= 300 else 0
            assert {n: score - soft for n, score in found.items()} == expected
            chosen = decide.decide(made).node
            assert chosen in expected or (not expected and not chosen)
            if chosen:
                assert expected[chosen] == max(expected.values())
                decide.columns.place(made, chosen)
                placed[chosen].append(spec)
                on[f"p{number}"] = (chosen, spec)
