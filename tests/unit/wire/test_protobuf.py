"""Messages by table: zeros, maps, inline parts, choices, and hostile bytes."""

import pytest

from orchestrator.wire.protobuf import DEPTH_MAX, Codec
from orchestrator.wire.raw import WireError, bytes_field, number_field
from orchestrator.wire.tables import Tables

codec = Codec(Tables("kubernetes"))
CRD = "apiextensions.k8s.io_v1"


def test_a_zero_is_kept_only_where_go_writes_it_as_json() -> None:
    data = number_field(1, 0) + number_field(5, 0) + number_field(7, 0)  # replicas, minReadySeconds, paused
    assert codec.decode("apps_v1.DeploymentSpec", data) == {"replicas": 0}
    env = bytes_field(1, b"") + bytes_field(2, b"")
    assert codec.decode("core_v1.EnvVar", env) == {"name": ""}


def test_a_later_zero_unsets_an_earlier_value() -> None:
    assert codec.decode("apps_v1.DeploymentSpec", number_field(7, 1) + number_field(7, 0)) == {}


def test_an_empty_message_is_kept_and_a_zero_time_is_not() -> None:
    volume = bytes_field(1, b"tmp") + bytes_field(2, bytes_field(2, b""))
    assert codec.decode("core_v1.Volume", volume) == {"name": "tmp", "emptyDir": {}}
    assert codec.decode("meta_v1.ObjectMeta", bytes_field(8, b"")) == {}


def test_map_entries_may_leave_out_key_or_value() -> None:
    entries = (
        bytes_field(2, bytes_field(1, b"a")) + bytes_field(2, bytes_field(2, b"x")) + bytes_field(2, b"")
    )
    assert codec.decode("core_v1.ConfigMap", entries) == {"data": {"a": "", "": ""}}
    assert codec.decode("core_v1.ResourceRequirements", bytes_field(1, bytes_field(1, b"cpu"))) == {
        "limits": {"cpu": "0"}
    }


def test_packed_and_unpacked_numbers_are_both_lists() -> None:
    # PodSecurityContext.supplementalGroups = 4
    assert codec.decode("core_v1.PodSecurityContext", bytes_field(4, b"\x01\x02")) == {
        "supplementalGroups": [1, 2]
    }
    assert codec.decode("core_v1.PodSecurityContext", number_field(4, 1) + number_field(4, 2)) == {
        "supplementalGroups": [1, 2]
    }


def test_unknown_fields_are_skipped() -> None:
    assert codec.decode("core_v1.ConfigMap", number_field(999, 1) + bytes_field(998, b"x")) == {}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "additionalProperties": {"type": "string"}, "minimum": 0.0},
        {"additionalProperties": True},
        {"additionalProperties": False},
        {"items": {"type": "string"}, "x-kubernetes-int-or-string": True},
        {"items": [{"type": "string"}, {"$ref": "#/a"}], "default": {"a": None}},
        {"dependencies": {"a": ["b"], "c": {"type": "string"}}, "enum": ["a", 1]},
    ],
)
def test_choices_are_bare_values(schema: dict[str, object]) -> None:
    assert codec.decode(f"{CRD}.JSONSchemaProps", codec.encode(f"{CRD}.JSONSchemaProps", schema)) == schema


def test_depth_is_bounded_both_ways() -> None:
    nested: dict[str, object] = {}
    data = b""
    for _ in range(DEPTH_MAX + 1):
        nested, data = {"not": nested}, bytes_field(28, data)
    with pytest.raises(WireError, match="nested deeper"):
        codec.encode(f"{CRD}.JSONSchemaProps", nested)
    with pytest.raises(WireError, match="nested deeper"):
        codec.decode(f"{CRD}.JSONSchemaProps", data)


def test_errors_name_the_way_to_the_field() -> None:
    with pytest.raises(WireError, match=r"^spec: replicas: wire type 2 found where 0 belongs$"):
        codec.decode("apps_v1.Deployment", bytes_field(2, bytes_field(1, b"x")))
    with pytest.raises(WireError, match=r"^spec: replicas: str found where int belongs$"):
        codec.encode("apps_v1.Deployment", {"spec": {"replicas": "x"}})
    for broken in ({"spec": []}, {"metadata": {"labels": []}}, {"metadata": {"finalizers": {}}}):
        with pytest.raises(WireError, match="belongs"):
            codec.encode("apps_v1.Deployment", broken)
