"""Checking objects as kube-apiserver's decoder does: what is kept, pruned, rewritten, refused, and how it says so."""

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.errors import BadRequest
from orchestrator.api.resources import BUILT_IN, DEPLOYMENTS
from orchestrator.api.schema import Schemas
from orchestrator.api.schema_decode import Walk
from orchestrator.base.errors import StartupError

POD, SECRET, CONFIG_MAP, DEPLOYMENT = (
    ("", "v1", "Pod"),
    ("", "v1", "Secret"),
    ("", "v1", "ConfigMap"),
    DEPLOYMENTS,
)
schemas = Schemas.load()

CLEAN: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "labels": {"a": "b"}, "creationTimestamp": "2026-01-02T03:04:05Z"},
    "spec": {
        "replicas": 0,
        "selector": {"matchLabels": {"a": "b"}},
        "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}},
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "c",
                        "ports": [{"containerPort": 80}],
                        "resources": {"limits": {"cpu": "100m", "memory": "1500Mi"}},
                        "livenessProbe": {"httpGet": {"port": "http"}},
                    }
                ],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
            }
        },
    },
}


def refusal(kind: Any, obj: Any, validation: str = "Warn") -> str:
    """The message with which `obj` is refused, behind its constant beginning."""
    with pytest.raises(BadRequest) as caught:
        schemas.check(kind, obj, validation)
    return caught.value.message.partition("cannot be handled as a ")[2].partition(": ")[2]


def test_the_bundle_is_put_back_into_the_api_s_own_form() -> None:
    def walk(node: Any) -> None:
        if isinstance(node, dict):
            assert isinstance(node.get("type", ""), str | dict)
            assert "#/$defs" not in str(node.get("$ref", ""))
            for part in node.values():
                walk(part)

    for package in schemas.bundle.packages():
        for schema in schemas.bundle.fresh(package).values():
            walk(schema)
            assert "enum" not in schema.get("properties", {}).get("kind", {})
            assert "description" not in schema
    assert schemas.bundle.version.startswith("v1.36.")


def test_every_built_in_resource_has_a_schema_and_every_reference_a_target() -> None:
    assert [row.kind for row in BUILT_IN if not schemas.known(row)] == []
    for package in schemas.bundle.packages():
        for name in schemas.bundle.names(package):
            node = schemas.merge_hints(("", "", ""))
            for field in schemas.bundle.definition(name).get("properties", {}).values():
                assert node.child("x").type == ""
                if "$ref" in field:
                    assert schemas.bundle.definition(field["$ref"]) is not None


def test_a_clean_object_comes_back_as_itself() -> None:
    before = copy.deepcopy(CLEAN)
    checked, warnings = schemas.check(DEPLOYMENT, CLEAN, "Strict")
    assert checked is CLEAN
    assert warnings == []
    assert before == CLEAN


def test_the_slow_look_agrees_with_the_fast_one() -> None:
    walk = Walk(schemas.bundle)
    assert walk.definition("io.k8s.api.apps.v1.Deployment", CLEAN) == CLEAN
    assert walk.unknown == []


def test_unknown_fields_are_pruned_and_named_with_indexes() -> None:
    obj = {
        "spec": {
            "foo": 1,
            "template": {"spec": {"containers": [{"name": "a"}, {"name": "b", "bar": {"x": 1}}]}},
        }
    }
    before = copy.deepcopy(obj)
    faults = ['unknown field "spec.foo"', 'unknown field "spec.template.spec.containers[1].bar"']
    pruned = {"spec": {"template": {"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}}}
    assert schemas.check(DEPLOYMENT, obj, "Ignore") == (pruned, [])
    assert schemas.check(DEPLOYMENT, obj, "Warn") == (pruned, faults)
    assert refusal(DEPLOYMENT, obj, "Strict") == f"strict decoding error: {', '.join(faults)}"
    assert obj == before


def test_duplicates_are_treated_like_unknown_fields() -> None:
    assert schemas.check(CONFIG_MAP, {"data": {}}, "Warn", ["data"])[1] == ['duplicate field "data"']
    assert schemas.check(CONFIG_MAP, {"data": {}}, "Ignore", ["data"])[1] == []
    with pytest.raises(BadRequest, match='duplicate field "data"'):
        schemas.check(CONFIG_MAP, {"data": {}}, "Strict", ["data"])


def test_a_flood_of_unknown_fields_is_named_up_to_a_bound() -> None:
    checked, warnings = schemas.check(CONFIG_MAP, {f"x{i}": 1 for i in range(500)}, "Warn")
    assert (checked, len(warnings)) == ({}, 100)


@pytest.mark.parametrize(
    ("kind", "obj", "message"),
    [
        (
            DEPLOYMENT,
            {"spec": {"replicas": "3"}},
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            DEPLOYMENT,
            {"spec": {"replicas": 2**31}},
            "json: cannot unmarshal number 2147483648 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            DEPLOYMENT,
            {"spec": {"replicas": 1.5}},
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            DEPLOYMENT,
            {"spec": {"paused": 1}},
            "json: cannot unmarshal number into Go struct field DeploymentSpec.spec.paused of type bool",
        ),
        (
            DEPLOYMENT,
            {"spec": []},
            "json: cannot unmarshal array into Go struct field Deployment.spec of type v1.DeploymentSpec",
        ),
        (
            DEPLOYMENT,
            {"spec": {"template": {"spec": {"containers": {}}}}},
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers "
            "of type []v1.Container",
        ),
        (
            POD,
            {"spec": {"containers": [{"image": True}]}},
            "json: cannot unmarshal bool into Go struct field Container.spec.containers.image of type string",
        ),
        (
            CONFIG_MAP,
            {"metadata": {"labels": {"a": 1}}},
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            CONFIG_MAP,
            {"data": []},
            "json: cannot unmarshal array into Go struct field ConfigMap.data of type map[string]string",
        ),
        (CONFIG_MAP, "x", "json: cannot unmarshal string into Go value of type v1.ConfigMap"),
        (SECRET, {"data": {"a": "YQ="}}, "illegal base64 data at input byte 3"),
        (SECRET, {"data": {"a": "!"}}, "illegal base64 data at input byte 0"),
        (
            POD,
            {"spec": {"containers": [{"readinessProbe": {"httpGet": {"port": True}}}]}},
            "json: cannot unmarshal bool into Go value of type int32",
        ),
        (
            POD,
            {"metadata": {"deletionTimestamp": "soon"}},
            'parsing time "soon" as "2006-01-02T15:04:05Z07:00": it is not of that form',
        ),
        (
            POD,
            {"metadata": {"deletionTimestamp": "2026-02-30T00:00:00Z"}},
            'parsing time "2026-02-30T00:00:00Z": a part of it is out of range',
        ),
    ],
)
def test_a_wrong_type_is_refused_with_the_decoder_s_words(kind: Any, obj: Any, message: str) -> None:
    assert refusal(kind, obj) == message


@pytest.mark.parametrize("value", ["", "1.5.5", "10 Mi", "1e", "abc", True, None, [], {}])
def test_a_bad_quantity_is_refused(value: Any) -> None:
    obj = {"spec": {"containers": [{"resources": {"requests": {"cpu": value}}}]}}
    if value is None:
        assert schemas.check(POD, obj, "Strict")[0]["spec"]["containers"][0]["resources"]["requests"] == {
            "cpu": "0"
        }
    else:
        assert refusal(POD, obj).startswith("quantities must match the regular expression")


def test_values_come_back_as_the_api_writes_them() -> None:
    limits = {"cpu": 1, "a": 0.5, "memory": "1024Mi", "b": "1000m"}
    obj = {"spec": {"containers": [{"resources": {"limits": limits}}]}}
    assert schemas.check(POD, obj, "Strict")[0]["spec"]["containers"][0]["resources"]["limits"] == {
        "cpu": "1",
        "a": "500m",
        "memory": "1Gi",
        "b": "1",
    }
    assert schemas.check(SECRET, {"data": {"a": "YWFh\nYWFh"}}, "Strict")[0] == {"data": {"a": "YWFhYWFh"}}
    lease = {"spec": {"renewTime": "2026-01-02T03:04:05+02:00", "leaseDurationSeconds": 1}}
    assert schemas.check(("coordination.k8s.io", "v1", "Lease"), lease, "Strict")[0]["spec"]["renewTime"] == (
        "2026-01-02T01:04:05.000000Z"
    )


def test_nulls_disappear_from_structs_and_become_zeros_in_lists_and_maps() -> None:
    obj = {
        "metadata": {"creationTimestamp": None, "labels": {"a": None}},
        "spec": {"containers": [{"name": "c", "command": [None], "env": [None]}], "volumes": None},
    }
    assert schemas.check(POD, obj, "Strict")[0] == {
        "metadata": {"labels": {"a": ""}},
        "spec": {"containers": [{"name": "c", "command": [""], "env": [{}]}]},
    }


def test_free_form_fields_keep_everything() -> None:
    revision = {
        "metadata": {"name": "x", "managedFields": [{"fieldsV1": {"f:spec": {"f:x": {}}}}]},
        "revision": 1,
        "data": {"spec": {"anything": [None, 1.5]}, "n": None},
    }
    assert schemas.check(("apps", "v1", "ControllerRevision"), revision, "Strict")[0] is revision
    crd = {
        "spec": {
            "versions": [
                {"schema": {"openAPIV3Schema": {"additionalProperties": False, "default": {"x": None}}}}
            ]
        }
    }
    assert schemas.check(("apiextensions.k8s.io", "v1", "CustomResourceDefinition"), crd, "Strict")[0] is crd


def test_a_kind_without_a_schema_passes_unchecked() -> None:
    obj = {"spec": {"anything": None}}
    assert schemas.check(("example.com", "v1", "Widget"), obj, "Strict") == (obj, [])
    assert not schemas.known(("example.com", "v1", "Widget"))


def test_options_are_known_in_every_group() -> None:
    options = ("policy", "v1", "DeleteOptions")
    assert schemas.check(options, {"gracePeriodSeconds": 0, "preconditions": {"uid": "x"}}, "Strict")[1] == []
    assert "of type int64" in refusal(options, {"gracePeriodSeconds": "0"})


def test_merge_hints_of_the_lists_that_patches_meet() -> None:
    spec = schemas.merge_hints(DEPLOYMENT).child("spec")
    containers = spec.child("template").child("spec").child("containers")
    assert (containers.patch_strategy, containers.merge_key) == (("merge",), "name")
    assert (containers.list_type, containers.map_keys) == ("map", ("name",))
    ports = containers.item().child("ports")
    assert (ports.map_keys, ports.map_key_defaults) == (("containerPort", "protocol"), {"protocol": "TCP"})
    assert containers.item().child("command").list_type == "atomic"
    assert spec.child("strategy").patch_strategy == ("retainKeys",)
    assert spec.child("selector").map_type == "atomic"
    assert spec.child("replicas").type == "integer"
    metadata = schemas.merge_hints(POD).child("metadata")
    assert metadata.child("finalizers").list_type == "set"
    assert metadata.child("labels").is_map
    assert metadata.child("ownerReferences").merge_key == "uid"
    volumes = schemas.merge_hints(POD).child("spec").child("volumes")
    assert volumes.patch_strategy == ("merge", "retainKeys")


def test_hints_of_unknown_places_are_empty_all_the_way_down() -> None:
    node = schemas.merge_hints(("example.com", "v1", "Widget")).child("spec").item().child("x")
    assert (node.type, node.merge_key, node.patch_strategy, node.list_type, node.map_keys) == (
        "",
        "",
        (),
        "",
        (),
    )
    assert not node.has("x")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "x"]) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)
POD_SPEC = sorted(schemas.bundle.definition("io.k8s.api.core.v1.PodSpec")["properties"])


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(POD_SPEC), json_values, max_size=4))
def test_any_value_is_checked_or_refused_and_the_result_is_stable(spec: dict[str, Any]) -> None:
    try:
        checked, _ = schemas.check(POD, {"spec": spec}, "Ignore")
    except BadRequest:
        return
    assert schemas.check(POD, checked, "Strict") == (checked, [])


def test_a_missing_or_foreign_bundle_stops_the_start_with_a_fix(tmp_path: Path) -> None:
    foreign = tmp_path / "schemas.bin"
    for content in (None, b"", b"something else entirely", b"ORCSCHM1\x05\x00\x00\x00xxxxx"):
        if content is not None:
            foreign.write_bytes(content)
        with pytest.raises(StartupError) as caught:
            Schemas.load(foreign)
        assert "hatch_build.py" in caught.value.fix
