"""Metadata rules that hold for every kind."""

import pytest

from orchestrator.api.resources import CLUSTERROLES, CONFIGMAPS, NAMESPACES, NODES
from orchestrator.registry.strategies.meta import ANNOTATIONS_BYTES_MAX, validate_meta


def _problems(resource=CONFIGMAPS, **metadata):
    base = {"name": "x"} | ({"namespace": "default"} if resource.namespaced else {})
    found = validate_meta({"metadata": {**base, **metadata}}, resource)
    return [f"{cause.field}: {cause.message}" for cause in found]


def test_ordinary_metadata_is_fine():
    assert (
        _problems(
            labels={"app": "web", "ex.com/a": ""},
            annotations={"Ex.com/A": "any text\n"},
            finalizers=["ex.com/f", "orphan"],
            generateName="web-",
            ownerReferences=[
                {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "u", "controller": True}
            ],
        )
        == []
    )
    assert _problems(CLUSTERROLES, name="system:node") == []


@pytest.mark.parametrize(
    ("resource", "metadata", "expected"),
    [
        (CONFIGMAPS, {"name": ""}, "metadata.name: Required value: name or generateName is required"),
        (CONFIGMAPS, {"name": "A_b"}, 'metadata.name: Invalid value: "A_b": a lowercase RFC 1123 subdomain'),
        (NAMESPACES, {"name": "a.b"}, 'metadata.name: Invalid value: "a.b": a lowercase RFC 1123 label'),
        (CLUSTERROLES, {"name": "a/b"}, "metadata.name: Invalid value: \"a/b\": may not contain '/'"),
        (CONFIGMAPS, {"generateName": "A-"}, "metadata.generateName: Invalid value"),
        (NODES, {"namespace": "a"}, "metadata.namespace: Forbidden: not allowed on this type"),
        (CONFIGMAPS, {"labels": {"a/b/c": ""}}, 'metadata.labels: Invalid value: "a/b/c": a qualified name'),
        (
            CONFIGMAPS,
            {"labels": {"a": "b c"}},
            'metadata.labels: Invalid value: "b c": a valid label must be',
        ),
        (
            CONFIGMAPS,
            {"annotations": {"": "x"}},
            'metadata.annotations: Invalid value: "": name part must be',
        ),
        (
            CONFIGMAPS,
            {"annotations": {"a": "x" * ANNOTATIONS_BYTES_MAX}},
            "metadata.annotations: Too long: may not be more than 262144 bytes",
        ),
        (
            CONFIGMAPS,
            {"finalizers": ["mine"]},
            'metadata.finalizers[0]: Invalid value: "mine": name is neither',
        ),
        (
            CONFIGMAPS,
            {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "a"}]},
            'metadata.ownerReferences[0].uid: Invalid value: "": must not be empty',
        ),
        (
            CONFIGMAPS,
            {
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "P", "name": n, "uid": n, "controller": True} for n in "ab"
                ]
            },
            "Only one reference can have Controller set to true",
        ),
        (
            CONFIGMAPS,
            {"ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "e", "uid": "u"}]},
            "is disallowed from being an owner",
        ),
    ],
)
def test_a_fault_is_named(resource, metadata, expected):
    found = _problems(resource, **metadata)
    assert found and expected in found[0]
