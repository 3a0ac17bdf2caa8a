"""Discovery and OpenAPI as clients ask for them: forms, caching, and the operations that kubectl looks for."""

import re
from typing import Any

import pytest

from orchestrator.wire.kubernetes import decode_object
from tests.contract.api_support import Cluster

PROTOBUF = "application/vnd.kubernetes.protobuf"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


@pytest.mark.parametrize("profile", ["", ";profile=nopeer"])
async def test_aggregated_discovery_is_asked_for_once(cluster: Cluster, profile: str) -> None:
    headers = {"Accept": f"{AGGREGATED}{profile},application/json;q=0.5"}
    status, found, answer = await cluster.call("GET", "/apis", headers=headers)
    assert status == 200 and found["kind"] == "APIGroupDiscoveryList"
    assert answer.headers["Content-Type"].startswith(AGGREGATED) and answer.headers["Vary"] == "Accept"
    headers["If-None-Match"] = answer.headers["ETag"]
    status, body, again = await cluster.call("GET", "/apis", headers=headers)
    assert (status, body, again.headers["ETag"]) == (304, "", answer.headers["ETag"])


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/api", "APIVersions"),
        ("/apis", "APIGroupList"),
        ("/apis/apps", "APIGroup"),
        ("/apis/apps/v1", "APIResourceList"),
    ],
)
async def test_legacy_discovery_as_protobuf_says_the_same(cluster: Cluster, path: str, kind: str) -> None:
    _, as_json, _ = await cluster.call("GET", path)
    async with cluster.admin.get(cluster.base + path, headers={"Accept": PROTOBUF}) as answer:
        assert answer.headers["Content-Type"] == PROTOBUF
        found = decode_object(await answer.read())
    assert found["kind"] == kind
    assert _without_empty(found) == _without_empty({"apiVersion": "v1", **as_json})


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_empty(part) for key, part in value.items() if part not in ("", [], None)}
    return [_without_empty(part) for part in value] if isinstance(value, list) else value


async def test_every_document_of_the_index_is_there_and_kept_for_ever(cluster: Cluster) -> None:
    _, index, _ = await cluster.call("GET", "/openapi/v3")
    paths = index["paths"]
    assert {"api", "api/v1", "apis", "apis/apps", "apis/apps/v1", "version"} <= paths.keys()
    for path in ("api", "apis/apps", "apis/apps/v1", "version"):
        status, document, answer = await cluster.call("GET", paths[path]["serverRelativeURL"])
        assert (status, document["openapi"]) == (200, "3.0.0")
        assert "immutable" in answer.headers["Cache-Control"]
        assert _dangling(document) == set()


def _dangling(document: Any) -> set[str]:
    """References that lead nowhere."""
    wanted = set(re.findall(r"'\$ref': '#/components/schemas/([^']+)'", str(document)))
    return wanted - document.get("components", {}).get("schemas", {}).keys()


async def test_an_old_hash_leads_to_the_new_one(cluster: Cluster) -> None:
    _, index, _ = await cluster.call("GET", "/openapi/v3")
    url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
    async with cluster.admin.get(
        cluster.base + "/openapi/v3/apis/apps/v1?hash=OLD", allow_redirects=False
    ) as answer:
        assert (answer.status, answer.headers["Location"]) == (301, url)


async def test_operations_say_what_kubectl_checks(cluster: Cluster) -> None:
    """The verifier of dry runs and field validation looks for the kind and its PATCH parameters."""
    _, document, _ = await cluster.call("GET", "/openapi/v3/apis/apps/v1")
    item = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]
    patch = item["patch"]
    assert patch["x-kubernetes-group-version-kind"] == {
        "group": "apps",
        "kind": "Deployment",
        "version": "v1",
    }
    assert {"dryRun", "fieldValidation", "fieldManager", "force"} <= {
        part["name"] for part in patch["parameters"]
    }
    assert [item[method]["x-kubernetes-action"] for method in ("get", "put", "delete")] == [
        "get",
        "put",
        "delete",
    ]
    watch = document["paths"]["/apis/apps/v1/watch/deployments"]["get"]
    assert (watch["x-kubernetes-action"], watch["operationId"]) == (
        "watchlist", "watchAppsV1DeploymentListForAllNamespaces",
    )  # fmt: skip


async def test_fields_are_explained(cluster: Cluster) -> None:
    _, document, _ = await cluster.call("GET", "/openapi/v3/api/v1")
    schemas = document["components"]["schemas"]
    for name in ("Pod", "PodSpec", "Container", "Service", "ConfigMap"):
        schema = schemas[f"io.k8s.api.core.v1.{name}"]
        silent = [field for field, part in schema["properties"].items() if not part.get("description")]
        assert schema["description"] and silent == []
    exec_ = document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/exec"]
    assert {"command", "container", "stdin", "tty"} <= {part["name"] for part in exec_["parameters"]}
