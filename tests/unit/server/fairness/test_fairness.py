"""From a request to its FlowSchema, live."""

from typing import Any

import pytest

from orchestrator.api.access import ADMIN, ANONYMOUS, Identity, component, node
from orchestrator.server import paths
from orchestrator.server.fairness.defaults import flow_schemas, priority_levels
from orchestrator.server.fairness.fairness import Fairness

_ACCOUNT = Identity(
    "system:serviceaccount:shop:cart",
    ("system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"),
)
_SYSTEM_ACCOUNT = Identity(
    "system:serviceaccount:kube-system:cni", ("system:serviceaccounts", "system:authenticated")
)
_JANE = Identity("jane", ("devs", "system:authenticated"))
_MANAGER = component("kube-controller-manager")
_LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/x"


@pytest.mark.parametrize(
    ("identity", "method", "path", "schema", "level"),
    [
        (ADMIN, "GET", "/api/v1/pods", "exempt", "exempt"),
        (ANONYMOUS, "GET", "/livez", "probes", "exempt"),
        (ANONYMOUS, "GET", "/version", "global-default", "global-default"),
        (_JANE, "GET", "/api/v1/namespaces/a/pods/x", "global-default", "global-default"),
        (_ACCOUNT, "GET", "/api/v1/namespaces/a/pods/x", "service-accounts", "workload-low"),
        (_SYSTEM_ACCOUNT, "GET", "/api/v1/nodes", "kube-system-service-accounts", "workload-high"),
        (_SYSTEM_ACCOUNT, "PUT", _LEASE, "system-leader-election", "leader-election"),
        (_SYSTEM_ACCOUNT, "GET", "/api/v1/namespaces/a/configmaps/x", "workload-leader-election",
         "leader-election"),
        (_MANAGER, "PUT", "/api/v1/namespaces/a/endpoints/x", "endpoint-controller", "workload-high"),
        (_MANAGER, "GET", "/api/v1/pods", "kube-controller-manager", "workload-high"),
        (component("kube-scheduler"), "POST", "/api/v1/namespaces/a/pods/x/binding", "kube-scheduler",
         "workload-high"),
        (node("n1"), "PATCH", "/api/v1/nodes/n1/status", "system-node-high", "node-high"),
        (node("n1"), "PUT", _LEASE, "system-node-high", "node-high"),
        (node("n1"), "GET", "/api/v1/pods", "system-nodes", "system"),
        (Identity("x"), "GET", "/apis", "catch-all", "catch-all"),
    ],
)  # fmt: skip
def test_default_schemas_classify_as_in_kubernetes(
    identity: Identity, method: str, path: str, schema: str, level: str
) -> None:
    flow = Fairness().flow_of(identity, paths.parse(method, path))
    assert (flow.name, flow.level.name) == (schema, level)


def _schema(name: str, level: str, precedence: int, rules: list[Any], method: str = "") -> Any:
    spec: Any = {
        "priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence,
        "rules": rules,
    }
    if method:
        spec["distinguisherMethod"] = {"type": method}
    return {"metadata": {"name": name, "uid": f"uid-{name}"}, "spec": spec}


_IN_SHOP = {
    "subjects": [{"kind": "User", "user": {"name": "jane"}}],
    "resourceRules": [
        {"verbs": ["list"], "apiGroups": [""], "resources": ["pods", "pods/log"], "namespaces": ["shop"]}
    ],
}


def _with(*schemas: Any) -> Fairness:
    fairness = Fairness()
    levels = priority_levels()
    for number, level in enumerate(levels):
        level["metadata"]["uid"] = f"level-{number}"
    fairness.configure([*flow_schemas(), *schemas], levels)
    return fairness


def _name(fairness: Fairness, identity: Identity, method: str, path: str) -> str:
    return fairness.flow_of(identity, paths.parse(method, path)).name


def test_a_schema_of_ones_own_takes_what_its_rules_name_and_nothing_else() -> None:
    fairness = _with(_schema("shop", "system", 300, [_IN_SHOP]))
    assert _name(fairness, _JANE, "GET", "/api/v1/namespaces/shop/pods") == "shop"
    for method, path in (
        ("GET", "/api/v1/namespaces/other/pods"),
        ("GET", "/api/v1/pods"),
        ("POST", "/api/v1/namespaces/shop/pods"),
        ("GET", "/api/v1/namespaces/shop/services"),
        ("GET", "/apis/apps/v1/namespaces/shop/pods"),
    ):
        assert _name(fairness, _JANE, method, path) == "global-default"


def test_the_lower_precedence_wins_then_the_name() -> None:
    fairness = _with(
        _schema("b", "system", 300, [_IN_SHOP]),
        _schema("a", "system", 300, [_IN_SHOP]),
        _schema("z", "system", 299, [_IN_SHOP]),
    )
    path = "/api/v1/namespaces/shop/pods"
    assert _name(fairness, _JANE, "GET", path) == "z"
    assert _name(_with(_schema("b", "system", 9, [_IN_SHOP]), _schema("a", "system", 9, [_IN_SHOP])), _JANE,
                 "GET", path) == "a"  # fmt: skip


def test_a_schema_whose_level_is_missing_is_left_out() -> None:
    fairness = _with(_schema("shop", "nowhere", 300, [_IN_SHOP]))
    assert _name(fairness, _JANE, "GET", "/api/v1/namespaces/shop/pods") == "global-default"


def test_paths_match_exactly_or_by_prefix() -> None:
    rule = {
        "subjects": [{"kind": "Group", "group": {"name": "*"}}],
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/metrics", "/openapi/*"]}],
    }
    fairness = _with(_schema("paths", "system", 5, [rule]))
    for path, wanted in (
        ("/metrics", "paths"),
        ("/openapi/v3", "paths"),
        ("/metricsx", "global-default"),
        ("/api/v1/pods", "global-default"),
    ):
        assert _name(fairness, _JANE, "GET", path) == wanted


def test_flows_are_told_apart_by_user_or_namespace() -> None:
    info = paths.parse("GET", "/api/v1/namespaces/shop/pods")
    for method, wanted in (("ByUser", "s/jane"), ("ByNamespace", "s/shop"), ("", "s")):
        flow = _with(_schema("s", "system", 300, [_IN_SHOP], method)).flow_of(_JANE, info)
        assert flow.of(_JANE, info) == wanted


def test_a_new_configuration_takes_effect_and_keeps_the_counts() -> None:
    fairness = _with(_schema("shop", "system", 300, [_IN_SHOP]))
    info = paths.parse("GET", "/api/v1/namespaces/shop/pods")
    before = fairness.flow_of(_JANE, info)
    before.counts.dispatched = 7
    fairness.configure([*flow_schemas(), _schema("shop", "system", 200, [_IN_SHOP])], priority_levels())
    after = fairness.flow_of(_JANE, info)
    assert after is not before
    assert after.counts.dispatched == 7 and after.level is before.level
    after.counts.executing = 1
    fairness.configure([], [])
    assert fairness.flow_of(_JANE, info).name == "global-default"
    assert ("system", "shop") in fairness.counts  # a request of it is still worked on
    after.counts.executing = 0
    fairness.configure([], [])
    assert ("system", "shop") not in fairness.counts


def test_mandatory_objects_are_imagined_where_they_are_missing() -> None:
    fairness = Fairness()
    fairness.configure([_schema("shop", "mine", 300, [_IN_SHOP])], [
        {"metadata": {"name": "mine", "uid": "u"}, "spec": {"type": "Limited", "limited": {}}}
    ])  # fmt: skip
    assert set(fairness.pool.levels) == {"exempt", "catch-all", "mine"}
    assert _name(fairness, ADMIN, "GET", "/api") == "exempt"
    assert _name(fairness, _JANE, "GET", "/api") == "catch-all"


def test_answers_carry_the_uids_once_they_are_known() -> None:
    info = paths.parse("GET", "/api/v1/namespaces/shop/pods")
    assert Fairness().flow_of(_JANE, info).block == b""
    flow = _with(_schema("shop", "exempt", 300, [_IN_SHOP])).flow_of(_JANE, info)
    assert flow.block == (
        b"X-Kubernetes-PF-FlowSchema-UID: uid-shop\r\nX-Kubernetes-PF-PriorityLevel-UID: level-0\r\n"
    )
