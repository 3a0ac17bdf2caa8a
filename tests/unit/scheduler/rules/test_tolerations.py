"""Which toleration covers which taint."""

import pytest

from orchestrator.scheduler.rules.tolerations import tolerates


@pytest.mark.parametrize(
    ("operator", "value", "of_taint", "covered"),
    [
        ("Equal", "5", "5", True),
        ("Equal", "5", "05", False),
        ("Gt", "950", "951", True),
        ("Gt", "950", "950", False),
        ("Gt", "-5", "-4", True),
        ("Lt", "950", "949", True),
        ("Lt", "950", "951", False),
        ("Lt", "950", "", False),
        ("Gt", "950", "many", False),
        ("Gt", "0", "9223372036854775808", False),
        ("In", "5", "5", False),
    ],
)
def test_values_are_compared_as_the_operator_says(operator, value, of_taint, covered):
    taint = {"key": "k", "value": of_taint, "effect": "NoSchedule"}
    toleration = {"key": "k", "operator": operator, "value": value}
    assert tolerates(toleration, taint) is covered
    assert not tolerates({**toleration, "key": "other"}, taint)
