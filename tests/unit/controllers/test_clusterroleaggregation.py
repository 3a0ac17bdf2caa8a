"""Aggregating ClusterRoles hold what the roles that they select hold."""

from typing import Any

from orchestrator.api.item import Item, Object, encode
from orchestrator.api.resources import CLUSTERROLES
from orchestrator.auth import policy
from orchestrator.controllers.clusterroleaggregation import ClusterRoleAggregationController, plan


def _rule(verb: str) -> Object:
    return {"verbs": [verb], "apiGroups": ["example.com"], "resources": ["things"]}


def _role(name: str, labels: Any, *verbs: str, **fields: Any) -> Object:
    return {"metadata": {"name": name, "labels": labels}, "rules": [*map(_rule, verbs)], **fields}


SELECTS = {
    "aggregationRule": {
        "clusterRoleSelectors": [{"matchLabels": {"to": "all"}}, {"matchLabels": {"to": "x"}}]
    }
}


async def test_rules_follow_the_roles_that_are_selected(cluster: Any) -> None:
    await cluster.create(CLUSTERROLES, _role("sum", {"to": "x"}, "patch", **SELECTS))
    await cluster.create(CLUSTERROLES, _role("b", {"to": "x"}, "get", "list"))
    controller = ClusterRoleAggregationController(cluster.client, cluster.clock, cluster.recorder)
    await cluster.start(controller, kubelet=False)

    async def rules() -> list[str]:
        await cluster.settle()
        return [rule["verbs"][0] for rule in (await cluster.get(CLUSTERROLES, "sum"))["rules"]]

    assert await rules() == ["get", "list"]
    await cluster.create(CLUSTERROLES, _role("a", {"to": "all"}, "list", "watch"))
    assert await rules() == ["list", "watch", "get"]
    await cluster.patch(CLUSTERROLES, "sum", {"rules": [_rule("delete")]})
    assert await rules() == ["list", "watch", "get"]
    await cluster.client.delete(CLUSTERROLES, "b")
    assert await rules() == ["list", "watch"]
    assert await cluster.is_at_rest()


def test_default_roles_hold_from_the_start_what_they_gather() -> None:
    roles = [{"apiVersion": "rbac.authorization.k8s.io/v1", **role} for role in policy.cluster_roles()]
    items = [Item(encode(role), 1) for role in roles]
    for role in roles:
        changed = plan(role, items)
        gathered = role["rules"] if changed is None else changed["rules"]
        assert all(rule in gathered for rule in role["rules"]) and len(gathered) == len(role["rules"])
