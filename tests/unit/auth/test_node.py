"""The node authorizer: a node reaches what its own pods name, and writes about itself."""

from typing import Any

import pytest

from orchestrator.api.access import Attributes, Identity, node
from orchestrator.api.item import Item, Object, encode
from orchestrator.auth.node import NodeAuthorizer, references

POD: Object = {
    "metadata": {"name": "web", "namespace": "a"},
    "spec": {
        "nodeName": "n1",
        "serviceAccountName": "robot",
        "imagePullSecrets": [{"name": "pull"}, {}],
        "volumes": [
            {"name": "1", "secret": {"secretName": "vol"}},
            {"name": "2", "configMap": {"name": "settings"}},
            {"name": "3", "projected": {"sources": [{"secret": {"name": "proj"}}, {"configMap": {"name": "root-ca"}}]}},
            {"name": "4", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "5", "ephemeral": {}},
            {"name": "6", "ephemeral": {"volumeClaimTemplate": {}}},
        ],
        "initContainers": [{"env": [{"name": "x", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}}]}],
        "containers": [
            {
                "envFrom": [{"configMapRef": {"name": "all"}}, {"secretRef": {"name": "whole"}}],
                "env": [{"name": "y", "valueFrom": {"configMapKeyRef": {"name": "one", "key": "k"}}}, {"name": "z"}],
            }
        ],
    },
}  # fmt: skip


class Pods:
    def by_index(self, name: str, value: str) -> list[Item]:
        assert name == "node"
        return [Item(encode(POD), 1)] if value == "n1" else []


class Volumes:
    """One that a pod of n1 has claimed, one whose directory is on n1, one of neither."""

    def by_index(self, name: str, value: str) -> list[Item]:
        found = {("claim", "a/data"): "claimed", ("node", "n1"): "here", ("claim", "b/data"): "strange"}
        volume = found.get((name, value))
        return [Item(encode({"metadata": {"name": volume}}), 1)] if volume else []


def ask(verb: str, resource: str, name: str = "", namespace: str = "a", **more: Any) -> Attributes:
    return Attributes(verb, resource=resource, name=name, namespace=namespace, **more)


LEASE = {"group": "coordination.k8s.io", "namespace": "kube-node-lease"}
CASES = [
    *[(ask("get", "secrets", name), True) for name in ("pull", "vol", "proj", "key", "whole")],
    *[(ask("get", "configmaps", name), True) for name in ("settings", "root-ca", "all", "one")],
    (ask("get", "secrets", "settings"), False),
    (ask("get", "secrets", "vol", "b"), False),
    (ask("list", "secrets"), False),
    (ask("update", "secrets", "vol"), False),
    (ask("create", "serviceaccounts", "robot", subresource="token"), True),
    (ask("create", "serviceaccounts", "other", subresource="token"), False),
    (ask("get", "serviceaccounts", "robot"), True),
    (ask("delete", "serviceaccounts", "robot"), False),
    *[(ask("get", "persistentvolumeclaims", name), True) for name in ("data", "web-6")],
    (ask("get", "persistentvolumeclaims", "data", "b"), False),
    (ask("list", "persistentvolumeclaims"), False),
    (ask("patch", "persistentvolumeclaims", "data"), False),
    *[
        (ask("get", "persistentvolumes", name, ""), name != "strange")
        for name in ("claimed", "here", "strange")
    ],
    *[
        (ask("patch", "persistentvolumes", name, ""), name == "here")
        for name in ("claimed", "here", "strange")
    ],
    *[(ask(verb, "persistentvolumes", "here", ""), False) for verb in ("delete", "update", "list", "create")],
    (ask("update", "nodes", "n1", "", subresource="status"), True),
    (ask("update", "nodes", "n2", "", subresource="status"), False),
    (ask("delete", "nodes", "n1", ""), False),
    (ask("list", "nodes", "", ""), True),
    *[(ask("get", kind, "n2", subresource="proxy"), False) for kind in ("nodes", "services", "pods")],
    (ask("get", "nodes", "n1", "", subresource="proxy"), False),
    (ask("list", "pods"), True),
    (ask("update", "pods", "web", subresource="status"), True),
    (ask("update", "pods", "web"), False),
    (ask("create", "pods", "web", subresource="exec"), False),
    (ask("delete", "pods", "web"), True),
    (ask("update", "leases", "n1", **LEASE), True),
    (ask("update", "leases", "n2", **LEASE), False),
    (ask("update", "leases", "n1", group="coordination.k8s.io"), False),
    (ask("watch", "services"), True),
    (ask("create", "services"), False),
    (ask("create", "events"), True),
    (ask("delete", "events"), False),
    (ask("list", "deployments", group="apps"), False),
    (Attributes("get", path="/metrics"), False),
]


@pytest.mark.parametrize(("request_", "allowed"), CASES)
def test_what_a_node_may(request_: Attributes, allowed: bool) -> None:
    assert NodeAuthorizer(Pods(), Volumes()).allows(node("n1"), request_) is allowed


@pytest.mark.parametrize(
    "identity",
    [
        node("n2"),
        Identity("system:node:n1", ("system:authenticated",)),
        Identity("n1", ("system:nodes",)),
        Identity("anna", ("system:authenticated",)),
    ],
)
def test_nobody_else_reads_the_secrets_of_its_pods(identity: Identity) -> None:
    assert not NodeAuthorizer(Pods()).allows(identity, ask("get", "secrets", "vol"))


def test_every_reference_of_a_pod_is_found() -> None:
    assert {name for _, name in references(POD)} == {
        "pull", "vol", "proj", "key", "whole", "settings", "root-ca", "all", "one", "", "data", "web-6",
    }  # fmt: skip
