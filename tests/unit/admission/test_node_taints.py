"""New nodes take no pods before they report that they are ready."""

import pytest

from orchestrator.admission.chain import AdmissionChain
from orchestrator.admission.node_taints import NOT_READY, TaintNodesByCondition
from orchestrator.api.resources import NODES

OWN = {"key": "gpu", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("given", "taints"),
    [
        (None, [NOT_READY]),
        ([OWN], [OWN, NOT_READY]),
        ([NOT_READY, OWN], [NOT_READY, OWN]),
        ([{**NOT_READY, "effect": "NoExecute"}], [{**NOT_READY, "effect": "NoExecute"}, NOT_READY]),
    ],
)
async def test_a_new_node_is_tainted_once(request_for, given, taints):
    node = {"metadata": {"name": "n"}, "spec": {} if given is None else {"taints": given}}
    admitted = await AdmissionChain((TaintNodesByCondition(),)).admit(request_for("CREATE", NODES, node))
    assert admitted["spec"]["taints"] == taints
