import numpy as np
import pytest

from orchestrator.scheduler.rules.affinity import NodeAffinity
from orchestrator.scheduler.rules.columns import Columns
from orchestrator.scheduler.rules.selection import NodeChoice


def affinity(*terms):
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return {"affinity": {"nodeAffinity": required}}


def field(operator, *names):
    return {"matchFields": [{"key": "metadata.name", "operator": operator, "values": list(names)}]}


ZONE = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}


@pytest.mark.parametrize(
    ("spec", "allowed"),
    [
        ({}, True),
        ({"nodeSelector": {"zone": "a"}}, True),
        ({"nodeSelector": {"zone": "b"}}, False),
        (affinity(ZONE), True),
        (affinity(), False),
        (affinity({}), False),
        (affinity({}, ZONE), True),
        (affinity(field("In", "n1")), True),
        (affinity(field("In", "n2")), False),
        (affinity(field("NotIn", "n2")), True),
        (affinity(field("In", "n2"), ZONE), True),
        (affinity({**ZONE, **field("In", "n2")}), False),
        ({"nodeSelector": {"zone": "b"}, **affinity(field("In", "n1"))}, False),
    ],
)
def test_a_node_is_chosen_by_labels_and_name(spec, allowed):
    assert NodeChoice(spec).allows("n1", {"zone": "a"}) is allowed


@pytest.mark.parametrize(
    "spec",
    [
        {"nodeSelector": {"zone": "z1"}},
        affinity(field("In", "n3")),
        affinity(field("In", "n3", "nowhere")),
        affinity(field("NotIn", "n3", "nowhere")),
        affinity(field("In", "nowhere")),
        affinity(ZONE, field("In", "n3")),
    ],
)
def test_the_rule_over_columns_agrees(pod, node, spec):
    nodes = [node(f"n{number}", labels={"zone": "a" if number % 2 else "z1"}) for number in range(12)]
    columns = Columns()
    for entry in nodes:
        columns.set_node(entry)
    rows = np.array([columns.row(entry.name) for entry in nodes], np.int64)
    choice = NodeChoice(spec)
    expected = [choice.allows(entry.name, entry.labels) for entry in nodes]
    assert NodeAffinity().filter(columns, pod(**spec), rows, None).tolist() == expected
