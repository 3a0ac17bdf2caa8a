"""A node gets service-account tokens for pods of its own only."""

import pytest

from orchestrator.api.access import ADMIN, node
from orchestrator.api.errors import Forbidden
from orchestrator.server.reviews import Bound, _check_node

POD = Bound("Pod", "web", "u1")


@pytest.mark.parametrize(
    ("bound", "where"),
    [(None, None), (Bound("Secret", "s", "u2"), None), (POD, None), (POD, ("n2", "u3"))],
    ids=["unbound", "bound to a secret", "pod of no node", "pod of another node"],
)
def test_a_node_is_refused(bound, where):
    with pytest.raises(Forbidden):
        _check_node(node("n1"), bound, where)
    assert _check_node(ADMIN, bound, where) is None


def test_a_node_gets_its_own():
    assert _check_node(node("n1"), POD, ("n1", "u4")) is None
