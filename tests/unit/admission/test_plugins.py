"""Priority, tolerations, and the default chain as a whole."""

import random

import pytest

from orchestrator.admission.chain import AdmissionChain
from orchestrator.admission.default_tolerations import DefaultTolerationSeconds
from orchestrator.admission.plugins import default_plugins
from orchestrator.admission.priority import Priority
from orchestrator.api.errors import Forbidden, NotFound
from orchestrator.api.item import Item, encode
from orchestrator.api.priorities import CLAIMS
from orchestrator.api.resources import NAMESPACES, PODS, PRIORITYCLASSES, SERVICEACCOUNTS
from orchestrator.auth.authorizer import AuthorizerChain
from orchestrator.auth.node import NodeAuthorizer
from orchestrator.auth.rbac import Rbac
from orchestrator.base.clock import VirtualClock


class NoObjects:
    """A source of roles without roles."""

    def list(self):
        return []


def _pod(**spec):
    return {
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "a"}], **spec},
    }


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ({}, 0),
        ({"priority": 0, "preemptionPolicy": "PreemptLowerPriority"}, 0),
        ({"priorityClassName": "system-node-critical"}, 2_000_001_000),
        ({"priorityClassName": "system-cluster-critical"}, 2_000_000_000),
    ],
)
async def test_priority_is_the_classs(request_for, objects, spec, value):
    admitted = await AdmissionChain((Priority(objects),)).admit(request_for("CREATE", PODS, _pod(**spec)))
    assert admitted["spec"]["priority"] == value
    assert admitted["spec"]["preemptionPolicy"] == "PreemptLowerPriority"


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"priorityClassName": "x"}, "no PriorityClass with name x was found"),
        ({"priority": 5}, r"integer value of priority \(5\) must not be provided"),
        ({"preemptionPolicy": "Never"}, r"PreemptionPolicy \(Never\) must not be provided"),
    ],
)
async def test_a_priority_that_is_not_the_classs_is_refused(request_for, objects, spec, text):
    with pytest.raises(Forbidden, match=text):
        await AdmissionChain((Priority(objects),)).admit(request_for("CREATE", PODS, _pod(**spec)))


def _priority_class(name, **fields):
    return {"metadata": {"name": name}, "value": 7, "preemptionPolicy": "Never", **fields}


def _make_default(objects, name):
    """As the store holds the claim of the default class."""
    holder = {"metadata": {"name": PRIORITYCLASSES.key("", name)}}
    objects.held[CLAIMS.plural, "", "default"] = Item(encode(holder), 1)


async def test_a_stored_class_and_the_default_one(request_for, objects):
    chain = AdmissionChain((Priority(objects),))
    objects.put(PRIORITYCLASSES, _priority_class("seven"))
    named = await chain.admit(request_for("CREATE", PODS, _pod(priorityClassName="seven")))
    assert (named["spec"]["priority"], named["spec"]["preemptionPolicy"]) == (7, "Never")
    assert "priorityClassName" not in (await chain.admit(request_for("CREATE", PODS, _pod())))["spec"]
    _make_default(objects, "seven")
    unnamed = await chain.admit(request_for("CREATE", PODS, _pod()))
    assert (unnamed["spec"]["priority"], unnamed["spec"]["priorityClassName"]) == (7, "seven")


async def test_there_is_one_default_class(request_for, objects):
    chain = AdmissionChain((Priority(objects),))
    default = _priority_class("other", globalDefault=True)
    await chain.admit(request_for("CREATE", PRIORITYCLASSES, default))
    _make_default(objects, "seven")
    with pytest.raises(Forbidden, match="PriorityClass seven is already marked as default"):
        await chain.admit(request_for("CREATE", PRIORITYCLASSES, default))
    seven = _priority_class("seven", globalDefault=True)
    await chain.admit(request_for("UPDATE", PRIORITYCLASSES, seven, seven))


async def test_the_systems_classes_stay(request_for, objects):
    held = _priority_class("system-node-critical")
    with pytest.raises(Forbidden, match="this is a system priority class and cannot be deleted"):
        await AdmissionChain((Priority(objects),)).admit(request_for("DELETE", PRIORITYCLASSES, None, held))


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ([], ["not-ready", "unreachable"]),
        ([{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}], ["unreachable"]),
        ([{"operator": "Exists"}], []),
        ([{"operator": "Exists", "effect": "NoSchedule"}], ["not-ready", "unreachable"]),
    ],
)
async def test_tolerations_are_added_for_what_is_not_tolerated(request_for, given, added):
    chain = AdmissionChain((DefaultTolerationSeconds(),))
    spec = (await chain.admit(request_for("CREATE", PODS, _pod(tolerations=given))))["spec"]
    assert spec["tolerations"][: len(given)] == given
    new = spec["tolerations"][len(given) :]
    assert [entry["key"] for entry in new] == [f"node.kubernetes.io/{key}" for key in added]
    assert all(entry["tolerationSeconds"] == 300 and entry["effect"] == "NoExecute" for entry in new)


async def test_a_missing_namespace_is_named_before_its_missing_account(objects, request_for):
    chain = AdmissionChain(
        default_plugins(
            objects,
            AuthorizerChain(NodeAuthorizer(NoObjects()), Rbac(*[NoObjects()] * 4)),
            VirtualClock(),
            random.Random(1),
        )
    )
    with pytest.raises(NotFound, match="namespaces"):
        await chain.admit(request_for("CREATE", PODS, _pod()))
    objects.put(NAMESPACES, {"metadata": {"name": "default"}})
    objects.put(SERVICEACCOUNTS, {"metadata": {"name": "default", "namespace": "default"}})
    spec = (await chain.admit(request_for("CREATE", PODS, _pod())))["spec"]
    assert {"volumes", "priority", "tolerations", "serviceAccountName"} <= spec.keys()
