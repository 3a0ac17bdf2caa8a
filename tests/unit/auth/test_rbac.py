"""RBAC: which rule covers which request, who is bound, and that a change counts at once."""

from typing import Any

import pytest

from orchestrator.api.access import ANONYMOUS, Attributes, Identity
from orchestrator.api.errors import Forbidden
from orchestrator.api.item import Item, Object, encode
from orchestrator.api.schema import Schemas
from orchestrator.auth import policy
from orchestrator.auth.rbac import Rbac
from orchestrator.auth.rules import Rule

ANNA = Identity("anna", ("devs", "system:authenticated"))
SCHEMAS = Schemas.load()


def rule(**fields: Any) -> Rule:
    return Rule({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], **fields})


def ask(verb: str = "get", resource: str = "pods", **more: str) -> Attributes:
    return Attributes(verb, resource=resource, **more)


COVERED = [
    ("the very request", rule(), ask(), True),
    ("another verb", rule(), ask("delete"), False),
    ("any verb", rule(verbs=["*"]), ask("deletecollection"), True),
    ("another resource", rule(), ask(resource="secrets"), False),
    ("another group", rule(), ask(group="apps"), False),
    ("any group", rule(apiGroups=["*"]), ask(group="apps"), True),
    ("a resource does not cover its subresources", rule(), ask(subresource="log"), False),
    ("a subresource by name", rule(resources=["pods/log"]), ask(subresource="log"), True),
    ("a subresource does not cover the resource", rule(resources=["pods/log"]), ask(), False),
    ("a subresource of anything", rule(resources=["*/scale"]), ask(resource="x", subresource="scale"), True),
    ("anything covers subresources", rule(resources=["*"]), ask(subresource="exec"), True),
    ("a named object", rule(resourceNames=["a"]), ask(name="a"), True),
    ("another object", rule(resourceNames=["a"]), ask(name="b"), False),
    ("a list is of no name", rule(resourceNames=["a"]), ask("list"), False),
    ("a path is no resource", rule(verbs=["*"], resources=["*"], apiGroups=["*"]), Attributes("get", path="/x"), False),
    ("a path", Rule({"verbs": ["get"], "nonResourceURLs": ["/healthz"]}), Attributes("get", path="/healthz"), True),
    ("beneath", Rule({"verbs": ["get"], "nonResourceURLs": ["/apis/*"]}), Attributes("get", path="/apis/v1"), True),
    ("beside a path", Rule({"verbs": ["get"], "nonResourceURLs": ["/apis/*"]}), Attributes("get", path="/api"), False),
    ("a path rule covers no resource", Rule({"verbs": ["*"], "nonResourceURLs": ["*"]}), ask(), False),
    ("nothing set covers nothing", Rule({}), ask(), False),
]  # fmt: skip


@pytest.mark.parametrize(("why", "given", "request_", "covered"), COVERED, ids=[case[0] for case in COVERED])
def test_what_a_rule_covers(why: str, given: Rule, request_: Attributes, covered: bool) -> None:
    assert given.covers(request_) is covered


class Kept:
    """Objects of one kind, from memory."""

    def __init__(self, *objects: Object) -> None:
        self.objects = list(objects)

    def list(self) -> list[Item]:
        return [Item(encode(obj), 1) for obj in self.objects]


def role(name: str, namespace: str = "", **fields: Any) -> Object:
    rules = [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], **fields}]
    return {"metadata": {"name": name, "namespace": namespace}, "rules": rules}


def binding(subject: Object, kind: str = "Role", name: str = "reader", namespace: str = "") -> Object:
    return {
        "metadata": {"name": "b", "namespace": namespace},
        "roleRef": {"kind": kind, "name": name},
        "subjects": [subject],
    }


USER = {"kind": "User", "name": "anna"}
ROBOT = Identity("system:serviceaccount:a:robot", ("system:serviceaccounts", "system:authenticated"))


@pytest.mark.parametrize(
    ("subject", "identity", "allowed"),
    [
        (USER, ANNA, True),
        ({"kind": "Group", "name": "devs"}, ANNA, True),
        ({"kind": "Group", "name": "anna"}, ANNA, False),
        ({"kind": "User", "name": "devs"}, ANNA, False),
        ({"kind": "ServiceAccount", "name": "robot"}, ROBOT, True),
        ({"kind": "ServiceAccount", "name": "robot", "namespace": "b"}, ROBOT, False),
        ({"kind": "Group", "name": "system:serviceaccounts"}, ROBOT, True),
        (USER, ANONYMOUS, False),
    ],
)
def test_who_is_bound(subject: Object, identity: Identity, allowed: bool) -> None:
    rbac = Rbac(Kept(role("reader", "a")), Kept(), Kept(binding(subject, namespace="a")), Kept())
    assert rbac.allows(identity, ask(namespace="a")) is allowed


def test_a_role_holds_in_its_namespace_only() -> None:
    rbac = Rbac(Kept(role("reader", "a")), Kept(), Kept(binding(USER, namespace="a")), Kept())
    assert not rbac.allows(ANNA, ask(namespace="b"))
    assert not rbac.allows(ANNA, ask())


def test_a_cluster_role_bound_in_a_namespace_holds_there_only() -> None:
    bound = binding(USER, "ClusterRole", namespace="a")
    rbac = Rbac(Kept(), Kept(role("reader")), Kept(bound), Kept())
    assert rbac.allows(ANNA, ask(namespace="a"))
    assert not rbac.allows(ANNA, ask(namespace="b"))


def test_a_cluster_binding_holds_everywhere() -> None:
    rbac = Rbac(Kept(), Kept(role("reader")), Kept(), Kept(binding(USER, "ClusterRole")))
    assert rbac.allows(ANNA, ask(namespace="b")) and rbac.allows(ANNA, ask())


def test_a_binding_to_a_role_that_is_not_there_grants_nothing() -> None:
    rbac = Rbac(Kept(role("reader", "b")), Kept(role("reader")), Kept(binding(USER, namespace="a")), Kept())
    assert not rbac.allows(ANNA, ask(namespace="a"))


def test_a_change_counts_from_the_next_decision_on() -> None:
    bindings = Kept(binding(USER, "ClusterRole"))
    rbac = Rbac(Kept(), Kept(role("reader")), Kept(), bindings)
    assert rbac.allows(ANNA, ask())
    bindings.objects.clear()
    rbac.invalidate()
    assert not rbac.allows(ANNA, ask())


def test_groups_of_one_user_are_not_those_of_another() -> None:
    """Decisions are remembered; the groups are part of the question."""
    rbac = Rbac(
        Kept(), Kept(role("reader")), Kept(), Kept(binding({"kind": "Group", "name": "devs"}, "ClusterRole"))
    )
    assert rbac.allows(ANNA, ask())
    assert not rbac.allows(Identity("anna", ("system:authenticated",)), ask())


async def test_a_refusal_is_in_kubernetes_words() -> None:
    rbac = Rbac(Kept(), Kept(), Kept(), Kept())
    with pytest.raises(Forbidden) as raised:
        await rbac.authorize(ANNA, Attributes("get", "apps", "deployments", "scale", "a", "web"))
    assert raised.value.message == (
        'deployments.apps "web" is forbidden: User "anna" cannot get resource "deployments/scale" '
        'in API group "apps" in the namespace "a"'
    )


def default_rbac() -> Rbac:
    return Rbac(Kept(), Kept(*policy.cluster_roles()), Kept(), Kept(*policy.cluster_role_bindings()))


DEFAULTS = [
    (Identity("root", ("system:masters",)), ask("delete", "secrets", namespace="a"), True),
    (ANONYMOUS, Attributes("get", path="/healthz"), True),
    (ANONYMOUS, Attributes("get", path="/version"), True),
    (ANONYMOUS, Attributes("get", path="/metrics"), False),
    (ANONYMOUS, Attributes("get", path="/apis"), False),
    (ANONYMOUS, ask("list"), False),
    (ANNA, Attributes("get", path="/openapi/v3"), True),
    (ANNA, ask("create", "selfsubjectaccessreviews", group="authorization.k8s.io"), True),
    (ANNA, ask("list"), False),
    (Identity("system:kube-scheduler"), ask("create", subresource="binding", namespace="a"), True),
    (Identity("system:kube-scheduler"), ask("get", "secrets", namespace="a"), False),
    (Identity("system:kube-controller-manager"), ask("create", "jobs", group="batch", namespace="a"), True),
    (Identity("system:kube-controller-manager"), ask("create", "replicasets", group="apps", namespace="a"), True),
    (Identity("system:kube-controller-manager"), ask("update", "deployments", group="apps"), True),
]  # fmt: skip


@pytest.mark.parametrize(("identity", "request_", "allowed"), DEFAULTS)
def test_what_the_default_roles_allow(identity: Identity, request_: Attributes, allowed: bool) -> None:
    assert default_rbac().allows(identity, request_) is allowed


@pytest.mark.parametrize(
    ("role_name", "request_", "allowed"),
    [
        ("view", ask("list", "deployments", group="apps", namespace="a"), True),
        ("view", ask("get", "secrets", namespace="a"), False),
        ("view", ask("create", "pods", namespace="a"), False),
        ("edit", ask("get", "secrets", namespace="a"), True),
        ("edit", ask("create", subresource="exec", namespace="a"), True),
        ("edit", ask("create", "rolebindings", group="rbac.authorization.k8s.io", namespace="a"), False),
        ("admin", ask("create", "rolebindings", group="rbac.authorization.k8s.io", namespace="a"), True),
        ("admin", ask("delete", "namespaces", name="a"), False),
    ],
)
def test_the_roles_for_people(role_name: str, request_: Attributes, allowed: bool) -> None:
    bound = binding(USER, "ClusterRole", role_name, "a")
    assert Rbac(Kept(), Kept(*policy.cluster_roles()), Kept(bound), Kept()).allows(ANNA, request_) is allowed


@pytest.mark.parametrize(
    "obj", [*policy.cluster_roles(), *policy.cluster_role_bindings()], ids=lambda o: o["metadata"]["name"]
)
def test_default_objects_are_valid(obj: Object) -> None:
    gvk = ("rbac.authorization.k8s.io", "v1", obj["kind"])
    checked, warnings = SCHEMAS.check(gvk, obj, "Strict")
    assert checked == obj and not warnings


def test_default_bindings_name_roles_that_exist() -> None:
    assert {role for role, _ in policy.CLUSTER_ROLE_BINDINGS.values()} <= policy.CLUSTER_ROLES.keys()
