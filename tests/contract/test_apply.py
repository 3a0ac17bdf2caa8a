"""Server-side apply as clients meet it: over HTTP, and by an unmodified `kubectl`."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from orchestrator.api.schema import Schemas
from orchestrator.pki.authority import CertificateSpec
from orchestrator.pki.kubeconfig import render
from tests.contract.api_support import Cluster
from tests.contract.custom_support import custom_cluster, establish

load_schemas = cache(Schemas.load)

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
APPLY = {"Content-Type": "application/apply-patch+yaml"}
DEADLINE_S = 60.0

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


def config(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}


async def test_what_exists_may_be_applied_without_its_name(cluster: Cluster):
    path, nameless = f"{CONFIGMAPS}/a?fieldManager=one", {**config(k="2"), "metadata": None}
    status, obj, _ = await cluster.call("PATCH", path, nameless, headers=APPLY)
    assert status == 400
    assert obj["message"].endswith("name must be provided")
    await cluster.call("PATCH", path, config(k="1"), headers=APPLY)
    del nameless["metadata"]
    status, obj, _ = await cluster.call("PATCH", path, nameless, headers=APPLY)
    assert status == 200
    assert obj["data"] == {"k": "2"}
    assert [entry["fieldsV1"] for entry in obj["metadata"]["managedFields"]] == [{"f:data": {"f:k": {}}}]


async def test_apply_over_http(cluster: Cluster):
    path = f"{CONFIGMAPS}/a"
    status, obj, _ = await cluster.call("PATCH", path, config(k="1"), headers=APPLY)
    assert status == 422
    assert obj["details"]["causes"][0]["field"] == "fieldManager"
    status, obj, _ = await cluster.call("PATCH", f"{path}?fieldManager=one", config(k="1"), headers=APPLY)
    assert status == 201
    assert obj["metadata"]["managedFields"][0]["operation"] == "Apply"
    yaml = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: '2'\n"
    status, obj, _ = await cluster.call("PATCH", f"{path}?fieldManager=two", yaml, headers=APPLY)
    assert (status, obj["reason"]) == (409, "Conflict")
    assert obj["details"] == {
        "causes": [{"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.k"}]
    }
    status, obj, _ = await cluster.call("PATCH", f"{path}?fieldManager=two&force=true", yaml, headers=APPLY)
    assert (status, obj["data"]) == (200, {"k": "2"})


async def test_writers_without_a_name_are_known_by_their_program(cluster: Cluster):
    headers = {"User-Agent": "velero/1.0 (linux)"}
    _, obj, _ = await cluster.call("POST", CONFIGMAPS, config(k="1"), headers=headers)
    assert [entry["manager"] for entry in obj["metadata"]["managedFields"]] == ["velero"]
    _, obj, _ = await cluster.call("PUT", f"{CONFIGMAPS}/a?fieldManager=me", config(k="2"))
    assert sorted(entry["manager"] for entry in obj["metadata"]["managedFields"]) == ["me", "velero"]


@pytest.mark.parametrize("kind", ["application/apply-patch+cbor", "application/xml-patch"])
async def test_other_patches_are_refused_with_the_list_of_those_there_are(cluster: Cluster, kind: str):
    status, obj, _ = await cluster.call("PATCH", f"{CONFIGMAPS}/a", b"{}", headers={"Content-Type": kind})
    assert (status, obj["reason"]) == (415, "UnsupportedMediaType")
    assert obj["message"] == (
        "the body of the request was in an unknown format - accepted media types include: "
        "application/json-patch+json, application/merge-patch+json, "
        "application/strategic-merge-patch+json, application/apply-patch+yaml"
    )


async def test_only_an_apply_may_force(cluster: Cluster):
    headers = {"Content-Type": "application/merge-patch+json"}
    status, obj, _ = await cluster.call("PATCH", f"{CONFIGMAPS}/a?force=true", {}, headers=headers)
    assert status == 422
    assert "may not be specified for non-apply patch" in obj["message"]


async def test_field_validation_of_an_apply(cluster: Cluster):
    path = f"{CONFIGMAPS}/a?fieldManager=me&fieldValidation="
    twice = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: a}\ndata: {k: b}\n"
    status, obj, _ = await cluster.call("PATCH", path + "Strict", twice, headers=APPLY)
    assert status == 400
    assert obj["message"] == (
        "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n"
        '  line 5: key "data" already set in map'
    )
    status, _, answer = await cluster.call("PATCH", path + "Warn", twice, headers=APPLY)
    assert status == 201
    assert "duplicate field" in answer.headers["Warning"]


def definition() -> dict[str, Any]:
    part = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "size": {"type": "integer", "default": 1}},
    }
    spec = {
        "type": "object",
        "properties": {
            "parts": {
                "type": "array", "items": {**part, "required": ["name"]},
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            },
            "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            "whole": {"type": "object", "additionalProperties": {"type": "string"}, "x-kubernetes-map-type": "atomic"},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }  # fmt: skip
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "versions": [version],
                 "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}},
    }  # fmt: skip


THINGS = "/apis/example.com/v1/namespaces/default/things"


def thing(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": spec}


@pytest.fixture
async def things(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with custom_cluster(tmp_path, load_schemas()) as cluster:
        await cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": "default"}})
        await establish(cluster, definition())
        yield cluster


async def apply_thing(cluster: Cluster, manager: str, obj: Any, query: str = "") -> tuple[int, Any]:
    path = f"{THINGS}/t?fieldManager={manager}{query}"
    status, answer, _ = await cluster.call("PATCH", path, obj, headers=APPLY)
    return status, answer


async def test_custom_kinds_merge_as_their_schema_says(things: Cluster):
    first = thing(parts=[{"name": "a"}], tags=["x"], whole={"k": "1"}, free={"deep": {"y": [1]}})
    status, obj = await apply_thing(things, "one", first)
    assert status == 201, obj
    assert obj["spec"]["parts"] == [{"name": "a", "size": 1}]
    assert obj["metadata"]["managedFields"][0]["fieldsV1"] == {
        "f:spec": {
            "f:parts": {'k:{"name":"a"}': {".": {}, "f:name": {}}},
            "f:tags": {'v:"x"': {}},
            "f:whole": {},
            "f:free": {"f:deep": {".": {}, "f:y": {}}},
        }
    }
    second = thing(parts=[{"name": "b", "size": 2}], tags=["y"], free={"deep": {"z": 1}})
    status, obj = await apply_thing(things, "two", second)
    assert status == 200, obj
    assert [part["name"] for part in obj["spec"]["parts"]] == ["a", "b"]
    assert obj["spec"]["tags"] == ["x", "y"]
    assert obj["spec"]["free"] == {"deep": {"y": [1], "z": 1}}
    status, obj = await apply_thing(things, "two", thing(whole={"l": "2"}))
    assert (status, obj["message"]) == (
        409, 'Apply failed with 1 conflict: conflict with "one": .spec.whole'
    )  # fmt: skip
    status, obj = await apply_thing(things, "one", thing())
    assert obj["spec"] == {
        "parts": [{"name": "b", "size": 2}], "tags": ["y"], "free": {"deep": {"z": 1}}
    }  # fmt: skip
    status, obj = await apply_thing(things, "one", thing(unknown=1))
    assert status == 400
    assert obj["message"].endswith("Kind=Thing): .spec.unknown: field not declared in schema")


async def test_custom_kinds_know_no_strategic_merge(things: Cluster):
    await apply_thing(things, "one", thing(tags=["x"]))
    headers = {"Content-Type": "application/strategic-merge-patch+json"}
    status, obj, _ = await things.call("PATCH", f"{THINGS}/t", {"spec": {}}, headers=headers)
    assert status == 415
    assert "strategic" not in obj["message"]


class Kubectl:
    """The real client, with a kubeconfig of its own."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig

    async def __call__(self, *args: str, body: Any = None) -> tuple[int, str, str]:
        """Exit code, output and errors; `body` goes to standard input."""
        process = await asyncio.create_subprocess_exec(
            "kubectl", "--kubeconfig", str(self._kubeconfig), *args,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        given = json.dumps(body).encode() if body is not None else None
        out, err = await asyncio.wait_for(process.communicate(given), DEADLINE_S)
        return process.returncode or 0, out.decode(), err.decode()


@pytest.fixture
def kubectl(cluster: Cluster, tmp_path: Path) -> Kubectl:
    pair, _ = cluster.authority.ensure("kubectl", CertificateSpec("admin", ("system:masters",)))
    path = tmp_path / "kubeconfig"
    path.write_text(render(cluster.base, cluster.authority.pair.certificate_pem(), pair, "admin"))
    return Kubectl(path)


def deployment(replicas: int, image: str = "busybox") -> dict[str, Any]:
    labels = {"app": "web"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": image}]}}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod},
    }  # fmt: skip


@needs_kubectl
async def test_kubectl_goes_from_client_side_to_server_side_apply(cluster: Cluster, kubectl: Kubectl):
    path = "/apis/apps/v1/namespaces/default/deployments/web"
    code, out, err = await kubectl("apply", "-f", "-", body=deployment(2))
    assert (code, out) == (0, "deployment.apps/web created\n"), err
    _, obj, _ = await cluster.call("GET", path)
    assert [entry["manager"] for entry in obj["metadata"]["managedFields"]] == ["kubectl-client-side-apply"]

    code, out, err = await kubectl("apply", "--server-side", "-f", "-", body=deployment(3))
    assert (code, out) == (0, "deployment.apps/web serverside-applied\n"), err
    _, obj, _ = await cluster.call("GET", path)
    assert obj["spec"]["replicas"] == 3
    owners = {(entry["manager"], entry["operation"]) for entry in obj["metadata"]["managedFields"]}
    assert owners == {("kubectl", "Apply"), ("kubectl-last-applied", "Apply")}
    last = obj["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
    assert json.loads(last)["spec"]["replicas"] == 3

    code, _, err = await kubectl("scale", "deployment/web", "--replicas=7")
    assert code == 0, err
    code, _, err = await kubectl("apply", "--server-side", "-f", "-", body=deployment(3))
    assert code == 1
    assert 'conflict with "kubectl" with subresource "scale" using apps/v1: .spec.replicas' in err
    code, _, err = await kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", body=deployment(4))
    assert code == 0, err
    _, obj, _ = await cluster.call("GET", path)
    assert obj["spec"]["replicas"] == 4
    code, out, err = await kubectl("diff", "--server-side", "-f", "-", body=deployment(4))
    assert (code, out) == (0, ""), err
