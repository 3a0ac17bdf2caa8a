"""What an agent may write."""

import pytest

from orchestrator.admission.chain import AdmissionChain
from orchestrator.admission.node_restriction import NodeRestriction
from orchestrator.api.access import node
from orchestrator.api.errors import Forbidden
from orchestrator.api.resources import CONFIGMAPS, LEASES, NODES, PODS
from orchestrator.api.resources import PERSISTENTVOLUMES as VOLUMES

N1 = node("n1")
_MIRROR = {"kubernetes.io/config.mirror": "x"}


def _node(name, labels=None, taints=None):
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": {"taints": taints or []}}


def _pod(node_name, annotations=None, labels=None):
    metadata = {"name": "p", "annotations": annotations or {}, "labels": labels or {}}
    return {"metadata": metadata, "spec": {"nodeName": node_name}}


def _lease(name, namespace="kube-node-lease"):
    return {"metadata": {"name": name, "namespace": namespace}}


_TAINTED = _node("n1", taints=[{"key": "k", "effect": "NoSchedule"}])


def _volume(node, finalizers, path="/volumes/v"):
    marks = {"orchestrator.internal/node": node}
    metadata = {"name": "v", "annotations": marks, "finalizers": finalizers}
    return {"metadata": metadata, "spec": {"local": {"path": path}}}


_LABELLED = _node("n1", labels={"node-restriction.kubernetes.io/zone": "a"})

ALLOWED = [
    ("CREATE", NODES, _TAINTED, None, ""),
    ("UPDATE", NODES, _node("n1", labels={"a": "b"}), _node("n1"), ""),
    ("UPDATE", NODES, _node("n1"), _node("n1"), "status"),
    ("CREATE", PODS, _pod("n1", _MIRROR), None, ""),
    ("DELETE", PODS, None, _pod("n1"), ""),
    ("DELETE", PODS, None, _pod("n1"), "eviction"),
    ("UPDATE", PODS, _pod("n1"), _pod("n1"), "status"),
    ("UPDATE", LEASES, _lease("n1"), _lease("n1"), ""),
    ("UPDATE", CONFIGMAPS, _pod("n2"), _pod("n2"), ""),
    ("UPDATE", VOLUMES, _volume("n1", ["b"]), _volume("n1", ["a", "b"]), ""),
]
REFUSED = [
    ("UPDATE", VOLUMES, _volume("n1", ["b"]), _volume("n2", ["a", "b"]), "", "lie on it"),
    ("UPDATE", VOLUMES, _volume("n1", [], path="/etc"), _volume("n1", []), "", "only take finalizers"),
    ("UPDATE", VOLUMES, _volume("n2", []), _volume("n1", []), "", "only take finalizers"),
    ("DELETE", VOLUMES, None, _volume("n1", []), "", "only take finalizers"),
    ("UPDATE", NODES, _node("n2"), _node("n2"), "", 'not allowed to modify node "n2"'),
    ("UPDATE", NODES, _TAINTED, _node("n1"), "", "taints"),
    ("CREATE", NODES, _LABELLED, None, "", "labels"),
    ("UPDATE", NODES, _node("n1"), _LABELLED, "", "labels"),
    ("CREATE", PODS, _pod("n1"), None, "", "only create mirror pods"),
    ("CREATE", PODS, _pod("n2", _MIRROR), None, "", "spec.nodeName set to itself"),
    ("DELETE", PODS, None, _pod("n2"), "", "only delete pods with spec.nodeName"),
    ("UPDATE", PODS, _pod("n1"), _pod("n2"), "status", "only update pod status"),
    ("UPDATE", PODS, _pod("n1", labels={"a": "b"}), _pod("n1"), "status", "cannot update labels"),
    ("UPDATE", PODS, _pod("n1"), _pod("n1"), "", "unexpected operation"),
    ("UPDATE", PODS, _pod("n1"), _pod(""), "binding", "unexpected operation"),
    ("UPDATE", LEASES, _lease("n2"), _lease("n2"), "", "same name"),
    ("UPDATE", LEASES, _lease("n1", "default"), _lease("n1"), "", "kube-node-lease"),
]


@pytest.fixture
def chain():
    return AdmissionChain((NodeRestriction(),))


@pytest.mark.parametrize(("operation", "resource", "new", "old", "subresource"), ALLOWED)
async def test_an_agent_may(chain, request_for, operation, resource, new, old, subresource):
    await chain.admit(request_for(operation, resource, new, old, N1, subresource))


@pytest.mark.parametrize(("operation", "resource", "new", "old", "subresource", "text"), REFUSED)
async def test_an_agent_may_not(chain, request_for, operation, resource, new, old, subresource, text):
    with pytest.raises(Forbidden, match=text):
        await chain.admit(request_for(operation, resource, new, old, N1, subresource))
    await chain.admit(request_for(operation, resource, new, old, subresource=subresource))
