"""Every kind has a strategy; the rules of the smaller kinds."""

import random

import pytest

from orchestrator.api.resources import BUILT_IN
from orchestrator.base.clock import VirtualClock
from orchestrator.registry.strategies import built_in

ROLE = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}


def test_every_stored_kind_has_a_strategy():
    strategies = built_in("fd00::/112", range(30000, 30010), VirtualClock(), random.Random(1))
    assert strategies.keys() == {(row.group, row.plural) for row in BUILT_IN if row.stored}


def test_namespace_gets_finalizer_label_and_phase(kind):
    namespaces = kind("", "namespaces").strategy
    created = namespaces.prepare_create({"metadata": {"name": "x"}})
    assert created == {
        "metadata": {"name": "x", "labels": {"kubernetes.io/metadata.name": "x"}},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }
    emptied = namespaces.prepare_update({**created, "spec": {}, "status": {}}, created, "")
    assert emptied == created, "neither finalizers nor phase change through the main resource"
    finalized = namespaces.prepare_update({**created, "spec": {}, "status": {}}, created, "finalize")
    assert finalized == {**created, "spec": {}}


def test_node_keeps_its_status_on_create_and_its_ranges_forever(kind):
    nodes = kind("", "nodes").strategy
    node = {
        "metadata": {"name": "n"},
        "spec": {"podCIDR": "10.0.0.0/24"},
        "status": {"capacity": {"cpu": "2000m"}},
    }
    old = nodes.prepare_create(node)
    assert old["spec"]["podCIDRs"] == ["10.0.0.0/24"]
    assert old["status"] == {"capacity": {"cpu": "2"}, "allocatable": {"cpu": "2"}}
    assert nodes.validate(old, None, "") == []
    moved = nodes.prepare_update({**old, "spec": {"podCIDR": "10.1.0.0/24"}, "status": {}}, old, "")
    assert moved["status"] == old["status"]
    assert [cause.field for cause in nodes.validate(moved, old, "")] == ["spec.podCIDRs"]
    taint = {"key": "a", "effect": "NoSchedule"}
    twice = nodes.prepare_update({**old, "spec": {**old["spec"], "taints": [taint, taint]}}, old, "")
    assert [cause.reason for cause in nodes.validate(twice, old, "")] == ["FieldValueDuplicate"]


@pytest.mark.parametrize(
    ("group", "plural", "obj", "expected"),
    [
        ("", "events", {"involvedObject": {"namespace": "default"}}, None),
        ("", "events", {"involvedObject": {}}, None),
        ("", "events", {"involvedObject": {"namespace": "other"}}, "does not match event.namespace"),
        (
            "",
            "events",
            {"involvedObject": {}, "eventTime": "t", "reason": "r", "action": "a", "reportingInstance": "i"},
            "reportingController: Required value",
        ),
        (
            "coordination.k8s.io",
            "leases",
            {"spec": {"holderIdentity": "a", "leaseDurationSeconds": 40}},
            None,
        ),
        ("coordination.k8s.io", "leases", {"spec": {"leaseDurationSeconds": 0}}, "must be greater than 0"),
        # A leader that steps down says so with an empty name.
        ("coordination.k8s.io", "leases", {"spec": {"holderIdentity": ""}}, None),
        ("", "endpoints", {"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 1}]}]}, None),
        ("", "endpoints", {"subsets": [{}]}, "must specify `addresses` or `notReadyAddresses`"),
        ("", "endpoints", {"subsets": [{"addresses": [{"ip": "127.0.0.1"}]}]}, "loopback range"),
        (
            "discovery.k8s.io",
            "endpointslices",
            {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]},
            None,
        ),
        ("discovery.k8s.io", "endpointslices", {"endpoints": []}, "addressType: Required value"),
        (
            "discovery.k8s.io",
            "endpointslices",
            {"addressType": "IPv4", "endpoints": [{}]},
            "at least 1 address",
        ),
        (
            "discovery.k8s.io",
            "endpointslices",
            {"addressType": "IPv4", "endpoints": [{"addresses": ["fd00::1"]}]},
            "must be an IPv4 address",
        ),
        (
            "discovery.k8s.io",
            "endpointslices",
            {"addressType": "IPv4", "ports": [{}, {}]},
            "ports[1].name: Duplicate",
        ),
        (
            "rbac.authorization.k8s.io",
            "roles",
            {"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]},
            None,
        ),
        (
            "rbac.authorization.k8s.io",
            "roles",
            {"rules": [{"verbs": ["get"], "apiGroups": [""]}]},
            "rules[0].resources: Required value: resource rules must supply at least one resource",
        ),
        (
            "rbac.authorization.k8s.io",
            "roles",
            {"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]},
            "namespaced rules cannot apply to non-resource URLs",
        ),
        (
            "rbac.authorization.k8s.io",
            "roles",
            {"rules": [{"apiGroups": [""], "resources": ["pods"]}]},
            "rules[0].verbs: Required value",
        ),
        (
            "rbac.authorization.k8s.io",
            "rolebindings",
            {"roleRef": ROLE, "subjects": [{"kind": "User", "name": "u"}]},
            None,
        ),
        (
            "rbac.authorization.k8s.io",
            "clusterrolebindings",
            {
                "roleRef": {**ROLE, "kind": "ClusterRole"},
                "subjects": [{"kind": "ServiceAccount", "name": "u"}],
            },
            "subjects[0].namespace: Required value",
        ),
        (
            "rbac.authorization.k8s.io",
            "rolebindings",
            {"roleRef": {**ROLE, "kind": "User"}},
            "roleRef.kind: Unsupported",
        ),
    ],
)
def test_small_kinds(kind, group, plural, obj, expected):
    found = kind(group, plural).problems(obj)
    if expected is None:
        assert found == []
    else:
        assert len(found) == 1 and expected in found[0]


def test_a_binding_fills_in_groups_and_keeps_its_role(kind):
    bindings = kind("rbac.authorization.k8s.io", "rolebindings")
    old = bindings.create(
        {"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "Group", "name": "g"}]}
    )
    assert old["roleRef"] == ROLE
    assert old["subjects"][0]["apiGroup"] == "rbac.authorization.k8s.io"
    assert (
        "cannot change roleRef" in bindings.update_problems({**old, "roleRef": {**ROLE, "name": "s"}}, old)[0]
    )


def test_an_endpoint_slice_counts_its_changes(kind):
    slices = kind("discovery.k8s.io", "endpointslices")
    old = slices.create(
        {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 1}]}
    )
    assert old["metadata"]["generation"] == 1
    assert old["ports"] == [{"name": "", "protocol": "TCP", "port": 1}]
    assert slices.update(old, old)["metadata"]["generation"] == 1
    assert slices.update({**old, "endpoints": []}, old)["metadata"]["generation"] == 2
