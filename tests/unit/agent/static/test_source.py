"""What a file says, and why it says no pod."""

import json
import os

import pytest

from orchestrator.agent.static.source import HASH, SOURCE, BadFile, parse, read, signature
from orchestrator.api.schema import Schemas
from orchestrator.assembly.staticpods import static_pod

YAML = b"""
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  priorityClassName: system-node-critical
  containers:
  - {name: main, image: busybox}
---
apiVersion: v1
kind: Pod
metadata: {name: second}
"""


@pytest.fixture(scope="module")
def prepare():
    schemas = Schemas.load()
    return lambda pod: static_pod(schemas, pod)


def pod(**spec):
    body = {"containers": [{"name": "main", "image": "busybox"}], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": body}


def parsed(prepare, content, path="/m/a.yaml", node="n1"):
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return parse(path, data, node, "2026-01-01T00:00:00Z", prepare)


def test_a_pod_belongs_to_its_node_and_file(prepare):
    found = parsed(prepare, YAML)
    meta, spec = found["metadata"], found["spec"]
    assert (meta["name"], meta["namespace"], spec["nodeName"], meta["labels"]) == (
        "web-n1", "default", "n1", {"app": "web"},
    )  # fmt: skip
    assert meta["annotations"][SOURCE] == "file" and meta["annotations"][HASH] == meta["uid"]
    assert spec["priority"] == 2_000_001_000 and spec["restartPolicy"] == "Always"
    assert {"operator": "Exists", "effect": "NoExecute"} in spec["tolerations"]
    again, elsewhere = parsed(prepare, YAML), parsed(prepare, YAML, node="n2")
    changed, moved = parsed(prepare, YAML + b"# x"), parsed(prepare, YAML, path="/m/b.yaml")
    assert again["metadata"]["uid"] == meta["uid"]
    assert len({p["metadata"]["uid"] for p in (found, elsewhere, changed, moved)}) == 4


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "malformed YAML"),
        (b"- a", "it is no Pod|object"),
        (b"\xff\xfe\x00", "UTF-8"),
        ({"apiVersion": "v1", "kind": "Service", "metadata": {}, "spec": {}}, "it is no Pod of v1"),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}, "metadata and spec are required"),
        (pod(containers=[]), "spec.containers: Required value"),
        (pod(containers=[{"name": "main", "image": "b", "imge": 1}]), "imge"),
        (pod(serviceAccountName="robot"), "static pods may not reference serviceaccounts"),
        (pod(volumes=[{"name": "v", "configMap": {"name": "c"}}]), "may not reference configmaps"),
        (
            pod(volumes=[{"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}}]),
            "may not reference secrets",
        ),
        (
            pod(containers=[{"name": "m", "image": "b", "envFrom": [{"secretRef": {"name": "s"}}]}]),
            "may not reference secrets",
        ),
    ],
)
def test_what_is_no_static_pod(prepare, content, why):
    with pytest.raises(BadFile, match=why):
        parsed(prepare, content)


def test_which_files_count(tmp_path):
    assert signature(tmp_path / "absent") == ()
    for name in ("b.json", "a.yaml", ".hidden"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "big").write_bytes(b"x" * (1024 * 1024 + 1))
    files = read(tmp_path)
    assert [path.rpartition("/")[2] for path in files.contents] == ["a.yaml", "b.json"]
    assert [path.rpartition("/")[2] for path in files.errors] == ["big"]
    assert files.signature == signature(tmp_path)
    (tmp_path / "a.yaml").write_bytes(b"yy")
    assert files.signature != signature(tmp_path)
    assert list(read(tmp_path / "b.json").contents.values()) == [b"x"]
