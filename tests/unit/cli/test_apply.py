"""When an object is right, and manifests that can't be read."""

from pathlib import Path

import pytest

from orchestrator.base.errors import StartupError
from orchestrator.cli.apply import covers, read, resource_of

DEMO = Path(__file__).parents[3] / "config/examples/demo.yaml"


@pytest.mark.parametrize(
    ("found", "wanted", "right"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ({}, {"a": {}}, False),
        ({"a": [{"x": 1, "y": 2}]}, {"a": [{"x": 1}]}, True),
        ({"a": [{"x": 1}, {"x": 2}]}, {"a": [{"x": 1}]}, False),
        ({"a": None}, {"a": []}, False),
    ],
)
def test_an_object_is_right_when_it_holds_what_is_wanted(found, wanted, right):
    assert covers(found, wanted) is right


def test_the_demo_can_be_read_and_its_kinds_are_served():
    kinds = [(obj["kind"], resource_of(obj).plural) for obj in read(DEMO)]
    assert kinds == [
        ("ConfigMap", "configmaps"),
        ("Secret", "secrets"),
        ("Deployment", "deployments"),
        ("Service", "services"),
        ("Service", "services"),
    ]


def test_faults_name_the_file(tmp_path):
    with pytest.raises(StartupError, match="absent"):
        read(tmp_path / "absent.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(StartupError, match=r"bad\.yaml"):
        read(tmp_path / "bad.yaml")
    with pytest.raises(StartupError, match="Gadget"):
        resource_of({"apiVersion": "v1", "kind": "Gadget"})
