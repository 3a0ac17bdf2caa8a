"""Nobody grants what he does not hold: every way of trying, and the ways that are allowed."""

from typing import Any

import pytest

from orchestrator.admission.chain import AdmissionChain
from orchestrator.admission.escalation import RbacEscalation
from orchestrator.api.access import Attributes, Identity
from orchestrator.api.errors import Forbidden
from orchestrator.api.resources import CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES
from orchestrator.auth.rules import Rule

USER = Identity("ann", ("system:authenticated",))
READ_PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}
EVERYTHING = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}


class Held:
    """What the author holds, wherever he asks."""

    def __init__(self, *rules: dict[str, Any]) -> None:
        self._rules = [Rule(rule) for rule in rules]

    def allows(self, identity: Identity, attributes: Attributes) -> bool:
        return any(rule.covers(attributes) for rule in self._rules)

    def rules(self, identity: Identity, namespace: str) -> list[Rule]:
        return self._rules


def role(*rules: Any, name: str = "r") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, "rules": list(rules)}


GATHERING = {**role(), "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"gather": "yes"}}]}}


def binding(kind: str, name: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "b", "namespace": "default"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
        "subjects": [{"kind": "User", "name": "ann"}],
    }


@pytest.mark.parametrize(
    ("wanted", "held"),
    [
        (READ_PODS, READ_PODS),
        ({**READ_PODS, "verbs": ["get"]}, READ_PODS),
        ({**READ_PODS, "resourceNames": ["a"]}, READ_PODS),
        ({"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
         {"apiGroups": [""], "resources": ["*/log"], "verbs": ["get"]}),
        ({"nonResourceURLs": ["/metrics"], "verbs": ["get"]}, {"nonResourceURLs": ["/*"], "verbs": ["get"]}),
        (READ_PODS, EVERYTHING),
        (EVERYTHING, EVERYTHING),
        (EVERYTHING, {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["escalate"]}),
    ],
)  # fmt: skip
async def test_what_is_held_may_be_granted(objects, request_for, wanted, held):
    chain = AdmissionChain((RbacEscalation(objects, Held(held)),))
    await chain.admit(request_for("CREATE", ROLES, role(wanted), identity=USER))


@pytest.mark.parametrize(
    ("wanted", "held"),
    [
        (READ_PODS, {**READ_PODS, "verbs": ["get"]}),
        (READ_PODS, {**READ_PODS, "resourceNames": ["a"]}),
        ({**READ_PODS, "resources": ["pods", "secrets"]}, READ_PODS),
        ({**READ_PODS, "verbs": ["*"]}, READ_PODS),
        (EVERYTHING, READ_PODS),
        ({"nonResourceURLs": ["/*"], "verbs": ["get"]}, {"nonResourceURLs": ["/api/*"], "verbs": ["get"]}),
        ({"apiGroups": ["x"] * 100, "resources": ["y"] * 100, "verbs": ["z"] * 100}, READ_PODS),
    ],
)
async def test_what_is_not_held_may_not(objects, request_for, wanted, held):
    chain = AdmissionChain((RbacEscalation(objects, Held(held)),))
    with pytest.raises(Forbidden, match="attempting to grant RBAC permissions not currently held"):
        await chain.admit(request_for("CREATE", ROLES, role(wanted), identity=USER))


async def test_a_role_whose_rules_stay_may_be_labelled(objects, request_for):
    chain = AdmissionChain((RbacEscalation(objects, Held()),))
    old = role(EVERYTHING)
    new = {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}}
    await chain.admit(request_for("UPDATE", ROLES, new, old, identity=USER))


@pytest.mark.parametrize(("verb", "old"), [("CREATE", None), ("UPDATE", role()), ("UPDATE", GATHERING)])
async def test_gathering_the_rules_of_others_needs_every_right(objects, request_for, verb, old):
    wanted = role() if old is GATHERING else GATHERING
    request = request_for(verb, CLUSTERROLES, wanted, old, identity=USER)
    with pytest.raises(Forbidden, match="not currently held"):
        await AdmissionChain((RbacEscalation(objects, Held(READ_PODS)),)).admit(request)
    await AdmissionChain((RbacEscalation(objects, Held(EVERYTHING)),)).admit(request)


async def test_binding_a_role_needs_its_rules_or_the_verb(objects, request_for):
    objects.put(CLUSTERROLES, {"metadata": {"name": "cluster-admin"}, "rules": [EVERYTHING]})
    asked = request_for("CREATE", ROLEBINDINGS, binding("ClusterRole", "cluster-admin"), identity=USER)
    with pytest.raises(Forbidden, match="not currently held"):
        await AdmissionChain((RbacEscalation(objects, Held(READ_PODS)),)).admit(asked)
    bind = {
        "apiGroups": ["rbac.authorization.k8s.io"],
        "resources": ["clusterroles"],
        "verbs": ["bind"],
        "resourceNames": ["cluster-admin"],
    }
    await AdmissionChain((RbacEscalation(objects, Held(bind)),)).admit(asked)


async def test_a_role_that_is_not_there_can_not_be_bound_for_later(objects, request_for):
    chain = AdmissionChain((RbacEscalation(objects, Held(READ_PODS)),))
    asked = request_for("CREATE", CLUSTERROLEBINDINGS, binding("ClusterRole", "later"), identity=USER)
    with pytest.raises(Forbidden, match="not found"):
        await chain.admit(asked)
