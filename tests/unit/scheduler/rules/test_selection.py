import pytest

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
