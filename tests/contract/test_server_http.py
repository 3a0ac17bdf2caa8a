"""The API over TLS as clients see it: real listener, real registry, real log store, a client of another make."""

import asyncio
import io
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from yarl import URL

from orchestrator.api.access import ADMIN
from orchestrator.api.item import Item
from orchestrator.api.options import WriteOptions
from orchestrator.api.resources import NODES, PODS, ResourceTable
from orchestrator.pki.authority import CertificateSpec
from orchestrator.pki.tls import server_context
from orchestrator.web.answer import Answer, Request, Response
from orchestrator.web.listener import Listener, when_lost
from orchestrator.web.upgrade import RawStream, TakenOver, connect, take_over
from tests.contract.api_support import Cluster

Json = dict[str, Any]
PODS_PATH = "/api/v1/namespaces/default/pods"
MAPS_PATH = "/api/v1/namespaces/default/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


def config_map(name: str, **data: str) -> Json:
    return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": data}


def pod(name: str, *containers: str, **spec: Any) -> Json:
    listed = [{"name": c, "image": "busybox"} for c in containers or ("c",)]
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": name},
        "spec": {"containers": listed, **spec},
    }


# the verbs


async def test_an_object_through_all_verbs(ready: Cluster) -> None:
    path = f"{MAPS_PATH}/a"
    status, made, _ = await ready.call("POST", MAPS_PATH, config_map("a", x="1"))
    assert (status, made["kind"], made["metadata"]["namespace"]) == (201, "ConfigMap", "default")
    status, got, answer = await ready.call("GET", path)
    assert (status, got) == (200, made)
    assert answer.headers["Content-Type"] == "application/json"
    made["data"]["x"] = "2"
    status, replaced, _ = await ready.call("PUT", path, made)
    assert (status, replaced["data"]) == (200, {"x": "2"})
    status, stale, _ = await ready.call("PUT", path, made)
    assert (status, stale["reason"]) == (409, "Conflict")
    status, patched, _ = await ready.call(
        "PATCH", path, {"data": {"y": "3"}}, headers={"Content-Type": "application/merge-patch+json"}
    )
    assert (status, patched["data"]) == (200, {"x": "2", "y": "3"})
    status, listed, _ = await ready.call("GET", MAPS_PATH)
    assert (status, listed["kind"], listed["items"]) == (200, "ConfigMapList", [patched])
    status, deleted, _ = await ready.call("DELETE", path)
    assert (status, deleted["kind"], deleted["status"]) == (200, "Status", "Success")
    assert deleted["details"] == {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}
    status, gone, _ = await ready.call("GET", path)
    assert (status, gone["message"]) == (404, 'configmaps "a" not found')


async def test_head_answers_the_head_of_get(ready: Cluster) -> None:
    await ready.call("POST", MAPS_PATH, config_map("a"))
    _, _, got = await ready.call("GET", f"{MAPS_PATH}/a")
    status, body, answer = await ready.call("HEAD", f"{MAPS_PATH}/a")
    assert (status, body) == (200, "")
    assert answer.headers["Content-Length"] == got.headers["Content-Length"]


async def test_delete_collection_answers_what_it_deleted(ready: Cluster) -> None:
    for name in ("a", "b"):
        await ready.call("POST", MAPS_PATH, config_map(name))
    status, deleted, _ = await ready.call("DELETE", f"{MAPS_PATH}?fieldSelector=metadata.name%3Da")
    assert (status, [item["metadata"]["name"] for item in deleted["items"]]) == (200, ["a"])
    _, left, _ = await ready.call("GET", MAPS_PATH)
    assert [item["metadata"]["name"] for item in left["items"]] == ["b"]


async def test_dry_run_stores_nothing_and_graceful_deletion_keeps_the_object(ready: Cluster) -> None:
    status, made, _ = await ready.call("POST", f"{MAPS_PATH}?dryRun=All", config_map("a"))
    assert status == 201
    assert "resourceVersion" not in made["metadata"]  # it has none before it is stored
    assert (await ready.call("GET", f"{MAPS_PATH}/a"))[0] == 404
    await ready.call("POST", PODS_PATH, pod("p", nodeName="n"))
    status, deleted, _ = await ready.call("DELETE", f"{PODS_PATH}/p", {"gracePeriodSeconds": 7})
    assert (status, deleted["metadata"]["deletionGracePeriodSeconds"]) == (200, 7)
    assert (await ready.call("GET", f"{PODS_PATH}/p"))[0] == 200


async def test_pages_continue_where_they_ended(ready: Cluster) -> None:
    for name in ("a", "b", "c"):
        await ready.call("POST", MAPS_PATH, config_map(name))
    _, first, _ = await ready.call("GET", f"{MAPS_PATH}?limit=2")
    assert [item["metadata"]["name"] for item in first["items"]] == ["a", "b"]
    assert first["metadata"]["remainingItemCount"] == 1
    _, second, _ = await ready.call("GET", MAPS_PATH, params={"continue": first["metadata"]["continue"]})
    assert [item["metadata"]["name"] for item in second["items"]] == ["c"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_unknown_and_duplicate_fields_are_warned_of(ready: Cluster) -> None:
    body = b'{"metadata":{"name":"a"},"nonsense":1,"data":{"x":"1","x":"2"}}'
    status, _, answer = await ready.call("POST", MAPS_PATH, body)
    assert status == 201
    warnings = answer.headers.getall("Warning")
    assert '299 - "unknown field \\"nonsense\\""' in warnings
    assert '299 - "duplicate field \\"data.x\\""' in warnings
    body = body.replace(b'"a"', b'"b"')
    status, refused, _ = await ready.call("POST", f"{MAPS_PATH}?fieldValidation=Strict", body)
    assert status == 400
    assert "strict decoding error" in refused["message"]


async def test_scale_and_binding(ready: Cluster) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod("x")["spec"]}
    deployment = {
        "metadata": {"name": "d"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template},
    }
    path = "/apis/apps/v1/namespaces/default/deployments"
    await ready.call("POST", path, deployment)
    _, scale, _ = await ready.call("GET", f"{path}/d/scale")
    assert (scale["kind"], scale["spec"]) == ("Scale", {"replicas": 1})
    scale["spec"]["replicas"] = 4
    status, scaled, _ = await ready.call("PUT", f"{path}/d/scale", scale)
    assert (status, scaled["spec"]) == (200, {"replicas": 4})
    await ready.call("POST", PODS_PATH, pod("p"))
    binding = {"kind": "Binding", "apiVersion": "v1", "metadata": {"name": "p"}, "target": {"name": "n1"}}
    status, bound, _ = await ready.call("POST", f"{PODS_PATH}/p/binding", binding)
    assert (status, bound["status"]) == (201, "Success")
    assert (await ready.call("GET", f"{PODS_PATH}/p"))[1]["spec"]["nodeName"] == "n1"


# forms


async def test_tables_and_metadata_instead_of_objects(ready: Cluster) -> None:
    await ready.call("POST", PODS_PATH, pod("p"))
    _, table, _ = await ready.call("GET", PODS_PATH, headers={"Accept": TABLE})
    assert (table["kind"], [c["name"] for c in table["columnDefinitions"]][:2]) == (
        "Table",
        ["Name", "Ready"],
    )
    assert table["metadata"]["resourceVersion"]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    _, listed, _ = await ready.call("GET", PODS_PATH, headers={"Accept": partial})
    assert listed["kind"] == "PartialObjectMetadataList"
    assert set(listed["items"][0]) == {"kind", "apiVersion", "metadata"}
    one = partial.replace("List", "")
    _, metadata, _ = await ready.call("GET", f"{PODS_PATH}/p", headers={"Accept": one})
    assert metadata["metadata"]["name"] == "p"


async def test_a_long_list_is_whole_in_every_form(ready: Cluster) -> None:
    """Longer than one slice of the body: the seams must not show."""
    names = [f"m{number:04}" for number in range(450)]
    options = WriteOptions()
    table = ResourceTable()
    resource = table.find("", "v1", "configmaps")
    assert resource is not None
    writes = [ready.registry.create(resource, "default", config_map(n), options, ADMIN) for n in names]
    await asyncio.gather(*writes)
    _, rows, _ = await ready.call("GET", MAPS_PATH, headers={"Accept": TABLE})
    assert [row["cells"][0] for row in rows["rows"]] == names


async def test_large_answers_are_compressed_for_those_who_ask(ready: Cluster) -> None:
    await ready.call("POST", MAPS_PATH, config_map("a", x="y" * 200_000))
    headers = {"Accept-Encoding": "gzip"}
    async with ready.admin.get(f"{ready.base}{MAPS_PATH}/a", headers=headers) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert (await answer.json())["data"]["x"] == "y" * 200_000
    async with ready.admin.get(
        f"{ready.base}{MAPS_PATH}/a", headers={"Accept-Encoding": "identity"}
    ) as answer:
        assert "Content-Encoding" not in answer.headers
        assert len(await answer.read()) > 200_000


async def test_what_is_not_offered_is_406_and_what_is_not_understood_415(ready: Cluster) -> None:
    status, refused, _ = await ready.call("GET", MAPS_PATH, headers={"Accept": "text/html"})
    assert (status, refused["reason"]) == (406, "NotAcceptable")
    status, refused, _ = await ready.call("POST", MAPS_PATH, b"x", headers={"Content-Type": "text/plain"})
    assert (status, refused["reason"]) == (415, "UnsupportedMediaType")
    status, _, _ = await ready.call(
        "PATCH", f"{MAPS_PATH}/a", {}, headers={"Content-Type": "application/json"}
    )
    assert status == 415


# bad input


BAD: list[tuple[str, str, Any, int, str]] = [
    ("POST", MAPS_PATH, b"{", 400, "malformed JSON"),
    ("POST", MAPS_PATH, b"[]", 400, "must be an object"),
    ("POST", MAPS_PATH, b"", 400, "malformed JSON"),
    ("POST", MAPS_PATH, {"kind": "Pod", "metadata": {"name": "a"}}, 400, "cannot be handled as a ConfigMap"),
    (
        "POST",
        MAPS_PATH,
        {"apiVersion": "v2", "metadata": {"name": "a"}},
        400,
        "the API version in the data (v2) does not match the expected API version (v1)",
    ),
    ("POST", MAPS_PATH, {"metadata": {"name": "a", "namespace": "other"}}, 400, "does not match the namespace"),
    ("POST", MAPS_PATH, {"metadata": {"name": "a"}, "data": {"x": 1}}, 400, "ConfigMap.data"),
    ("POST", MAPS_PATH, {"metadata": {"name": "A_"}}, 422, "metadata.name"),
    (
        "PUT",
        f"{MAPS_PATH}/a",
        {"metadata": {"name": "b"}},
        400,
        "the name of the object (b) does not match the name on the URL (a)",
    ),
    ("GET", f"{MAPS_PATH}?labelSelector=a%3D%3D%3D", None, 400, "unable to parse requirement"),
    ("GET", f"{MAPS_PATH}?watch=1&fieldSelector=spec.x%3D1", None, 400, '"spec.x" is not a known field selector'),
    ("GET", "/api/v1/namespaces/default/nosuch", None, 404, "could not find the requested resource"),
    ("GET", "/apis/no.such/v1/things", None, 404, "could not find the requested resource"),
    ("GET", "/api/v1/namespaces/default/nodes", None, 404, "could not find the requested resource"),
    ("GET", "/api/v1/pods/p", None, 404, "could not find the requested resource"),
    ("POST", "/api/v1/pods", {}, 405, "does not allow this method"),
    ("POST", f"{MAPS_PATH}/a", {}, 405, "does not allow this method"),
    ("DELETE", "/api/v1/namespaces", None, 405, "does not allow this method"),
    ("PUT", MAPS_PATH, {}, 405, "does not allow this method"),
    ("PUT", "/apis/rbac.authorization.k8s.io/v1/clusterroles", {}, 405, "does not allow this method"),
    ("GET", f"{PODS_PATH}/p/binding", None, 405, "does not allow this method"),
    ("GET", f"{PODS_PATH}/p/nosuch", None, 404, "could not find the requested resource"),
    ("OPTIONS", MAPS_PATH, None, 405, "does not allow this method"),
    ("POST", "/api/v1", {}, 405, "does not allow this method"),
    ("POST", "/api/v1/watch/pods", {}, 405, "does not allow this method"),
    ("GET", "/api/v1/namespaces/%2e%2e/pods", None, 400, "not allowed"),
]  # fmt: skip


async def test_bad_requests_are_answered_by_a_status_that_says_why(ready: Cluster) -> None:
    surprises = []
    for method, path, body, code, message in BAD:
        data = body if isinstance(body, bytes | type(None)) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data is not None else {}
        url = URL(ready.base + path, encoded=True)
        async with ready.admin.request(method, url, data=data, headers=headers) as answer:
            status = await answer.json()
        found = (answer.status, status["kind"], status["code"])
        if found != (code, "Status", code) or message not in status["message"]:
            surprises.append((method, path, body, status))
    assert surprises == []


async def test_a_body_beyond_the_limit_is_413(ready: Cluster) -> None:
    body = json.dumps(config_map("a", x="y" * (3 * 1024 * 1024 + 1))).encode()
    headers = {"Content-Type": "application/json"}
    async with ready.admin.post(ready.base + MAPS_PATH, data=io.BytesIO(body), headers=headers) as answer:
        assert (answer.status, (await answer.json())["reason"]) == (413, "RequestEntityTooLarge")

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(400):
            yield b"x" * 10_000

    async with ready.admin.post(ready.base + MAPS_PATH, data=endless(), headers=headers) as answer:
        assert answer.status == 413
    assert (await ready.call("GET", f"{MAPS_PATH}/a"))[0] == 404


async def test_an_unexpected_error_tells_nothing(ready: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*args: Any) -> Item:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(ready.registry, "get", broken)
    status, body, _ = await ready.call("GET", f"{MAPS_PATH}/a")
    assert (status, body["reason"]) == (500, "InternalError")
    assert "secret" not in json.dumps(body)


# who may


async def test_nobody_anonymous_gets_beyond_health_and_version(cluster: Cluster) -> None:
    for path in ("/healthz", "/livez", "/readyz", "/version", "/livez/ping"):
        assert (await cluster.call("GET", path, session=cluster.anybody))[0] == 200
    for path in ("/api", "/apis", "/metrics", "/openapi/v3", "/api/v1/pods", "/", "/versions/../api"):
        status, body, _ = await cluster.call("GET", path, session=cluster.anybody)
        assert (path, status, body["reason"]) == (path, 401, "Unauthorized")
    bad = {"Authorization": "Bearer nonsense"}
    assert (await cluster.call("GET", "/version", session=cluster.anybody, headers=bad))[0] == 401


async def test_a_user_may_what_rules_say(ready: Cluster) -> None:
    status, body, _ = await ready.call("GET", PODS_PATH, session=ready.user)
    assert (status, body["reason"]) == (403, "Forbidden")
    assert body["message"] == (
        'pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default"'
    )
    await ready.allow("jane", {"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]})
    assert (await ready.call("GET", PODS_PATH, session=ready.user))[0] == 200


async def test_a_websocket_exec_needs_the_right_to_create(cluster: Cluster) -> None:
    await cluster.allow("jane", {"verbs": ["get"], "apiGroups": [""], "resources": ["pods/exec"]})
    path = f"{PODS_PATH}/p/exec?command=ls&stdout=1"
    status, body, _ = await cluster.call("GET", path, session=cluster.user)
    assert status == 403
    assert 'cannot create resource "pods/exec"' in body["message"]


async def test_impersonation_needs_the_right_and_then_holds(ready: Cluster) -> None:
    headers = {"Impersonate-User": "jane", "Impersonate-Group": "devs"}
    status, body, _ = await ready.call("GET", PODS_PATH, headers=headers)
    assert status == 403
    assert 'User "jane" cannot list' in body["message"]
    review = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    await ready.allow("jane", {"verbs": ["create"], "apiGroups": ["*"], "resources": ["selfsubjectreviews"]})
    _, body, _ = await ready.call("POST", review, {}, headers={**headers, "Impersonate-Extra-a%2Fb": "c"})
    info = body["status"]["userInfo"]
    assert (info["username"], info["groups"]) == ("jane", ["devs", "system:authenticated"])
    assert info["extra"] == {"a/b": ["c"]}
    status, body, _ = await ready.call(
        "GET", PODS_PATH, session=ready.user, headers={"Impersonate-User": "admin"}
    )
    assert status == 403
    assert 'cannot impersonate resource "users"' in body["message"]
    for alone in ({"Impersonate-Group": "devs"}, {"Impersonate-Extra-a": "c"}, {"Impersonate-Uid": "7"}):
        status, body, _ = await ready.call("GET", PODS_PATH, headers=alone)
        assert (status, body["reason"]) == (400, "BadRequest")


async def test_reviews_tell_what_authorization_decides(ready: Cluster) -> None:
    await ready.allow("jane", {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]})
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    for verb, allowed in (("get", True), ("delete", False)):
        spec = {"user": "jane", "resourceAttributes": {"verb": verb, "resource": "pods", "namespace": "x"}}
        status, review, _ = await ready.call("POST", path, {"spec": spec})
        assert (status, review["status"]) == (201, {"allowed": allowed})
    status, refused, _ = await ready.call("POST", path, {"spec": {"user": "jane"}})
    assert (status, refused["reason"]) == (422, "Invalid")


async def test_a_service_account_token_is_an_identity(ready: Cluster) -> None:
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    await ready.call("POST", accounts, {"metadata": {"name": "sa"}})
    request = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {"audiences": []}}
    status, made, _ = await ready.call("POST", f"{accounts}/sa/token", request)
    assert status == 201
    token = made["status"]["token"]
    headers = {"Authorization": f"Bearer {token}"}
    status, refused, _ = await ready.call("GET", PODS_PATH, session=ready.anybody, headers=headers)
    assert status == 403
    assert 'User "system:serviceaccount:default:sa"' in refused["message"]
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    _, review, _ = await ready.call("POST", path, {"spec": {"token": token}})
    assert review["status"]["user"]["username"] == "system:serviceaccount:default:sa"
    _, review, _ = await ready.call("POST", path, {"spec": {"token": token + "x"}})
    assert "authenticated" not in review["status"]
    request["spec"] = {"expirationSeconds": 5}
    status, refused, _ = await ready.call("POST", f"{accounts}/sa/token", request)
    assert status == 422
    assert "may not specify a duration less than 10 minutes" in refused["message"]


# watching


async def events_of(answer: aiohttp.ClientResponse, count: int) -> list[Json]:
    async with asyncio.timeout(5):
        return [json.loads(await answer.content.readline()) for _ in range(count)]


async def test_a_watch_shows_every_change_in_order(ready: Cluster) -> None:
    await ready.call("POST", MAPS_PATH, config_map("a", x="0"))
    async with ready.admin.get(f"{ready.base}{MAPS_PATH}?watch=1") as answer:
        assert answer.headers["Transfer-Encoding"] == "chunked"
        (first,) = await events_of(answer, 1)
        assert (first["type"], first["object"]["metadata"]["name"]) == ("ADDED", "a")
        patch = {"Content-Type": "application/merge-patch+json"}
        await ready.call("PATCH", f"{MAPS_PATH}/a", {"data": {"x": "1"}}, headers=patch)
        await ready.call("POST", MAPS_PATH, config_map("b"))
        await ready.call("DELETE", f"{MAPS_PATH}/a")
        events = await events_of(answer, 3)
        assert [event["type"] for event in events] == ["MODIFIED", "ADDED", "DELETED"]
        versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in [first, *events]]
        assert versions == sorted(set(versions))


async def test_a_watch_with_initial_events_ends_them_with_a_bookmark(ready: Cluster) -> None:
    query = "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    await ready.call("POST", MAPS_PATH, config_map("a"))
    async with ready.admin.get(f"{ready.base}{MAPS_PATH}?{query}") as answer:
        added, bookmark = await events_of(answer, 2)
    assert (added["type"], bookmark["type"], bookmark["object"]["kind"]) == ("ADDED", "BOOKMARK", "ConfigMap")
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_table_watch_names_its_columns_once(ready: Cluster) -> None:
    await ready.call("POST", MAPS_PATH, config_map("a"))
    url = f"{ready.base}{MAPS_PATH}?watch=1"
    async with ready.admin.get(url, headers={"Accept": TABLE}) as answer:
        await ready.call("POST", MAPS_PATH, config_map("b"))
        first, second = (event["object"] for event in await events_of(answer, 2))
    assert (first["kind"], first["columnDefinitions"][0]["name"]) == ("Table", "Name")
    assert (second["columnDefinitions"], second["rows"][0]["cells"][0]) == (None, "b")


async def test_a_compacted_version_ends_a_watch_with_410(ready: Cluster) -> None:
    for name in "abc":
        await ready.call("POST", MAPS_PATH, config_map(name))
    await ready.registry._storage._store.compact(ready.registry.revision)
    async with ready.admin.get(f"{ready.base}{MAPS_PATH}?watch=1&resourceVersion=1") as answer:
        assert answer.status == 200
        (event,) = await events_of(answer, 1)
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


async def test_a_watch_ends_in_time_with_its_client_and_with_the_server(ready: Cluster) -> None:
    async with ready.admin.get(f"{ready.base}{MAPS_PATH}?watch=1&timeoutSeconds=1") as answer:
        assert await asyncio.wait_for(answer.read(), 5) == b""
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=ready.admin_tls))
    gone = await session.get(f"{ready.base}{MAPS_PATH}?watch=1")
    stays = await ready.admin.get(f"{ready.base}{PODS_PATH}?watch=1")
    assert ready.app._watchers.count == 2
    gone.close()
    await session.close()
    await until(lambda: ready.app._watchers.count == 1)
    await ready.app.close()
    assert await asyncio.wait_for(stays.read(), 5) == b""
    assert ready.app._watchers.count == 0


async def until(holds: Any) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.005)


# discovery


async def test_discovery_in_both_forms(cluster: Cluster) -> None:
    _, core, _ = await cluster.call("GET", "/api/v1")
    pods = next(entry for entry in core["resources"] if entry["name"] == "pods")
    assert (pods["kind"], pods["shortNames"], pods["namespaced"]) == ("Pod", ["po"], True)
    scale = {"name": "deployments/scale", "kind": "Scale", "group": "autoscaling", "version": "v1"}
    _, apps, _ = await cluster.call("GET", "/apis/apps/v1")
    assert scale.items() <= next(e for e in apps["resources"] if e["name"] == "deployments/scale").items()
    _, groups, _ = await cluster.call("GET", "/apis")
    assert "apps" in [group["name"] for group in groups["groups"]]
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    _, aggregated, answer = await cluster.call("GET", "/apis", headers={"Accept": accept})
    assert aggregated["kind"] == "APIGroupDiscoveryList"
    assert answer.headers["Content-Type"] == accept.split(",")[0]
    again = {"Accept": accept, "If-None-Match": answer.headers["ETag"]}
    assert (await cluster.call("GET", "/apis", headers=again))[0] == 304
    assert (await cluster.call("GET", "/apis/no.such"))[0] == 404


async def test_openapi_is_linked_by_hash(cluster: Cluster) -> None:
    _, index, _ = await cluster.call("GET", "/openapi/v3")
    url = index["paths"]["apis/coordination.k8s.io/v1"]["serverRelativeURL"]
    status, document, answer = await cluster.call("GET", url)
    assert (status, document["openapi"]) == (200, "3.0.0")
    assert "immutable" in answer.headers["Cache-Control"]
    assert (await cluster.call("GET", url, headers={"If-None-Match": answer.headers["ETag"]}))[0] == 304
    assert (await cluster.call("GET", "/openapi/v3/apis/no.such/v1"))[0] == 404


async def test_plain_paths(cluster: Cluster) -> None:
    status, text, _ = await cluster.call("GET", "/no/such/page")
    assert (status, text["reason"]) == (404, "NotFound")
    _, version, _ = await cluster.call("GET", "/version")
    assert (version["major"], version["minor"], version["gitVersion"]) == ("1", "36", "v1.36.0")
    _, text, _ = await cluster.call("GET", "/readyz?verbose")
    assert text == "[+]ping ok\n[+]store ok\nreadyz check passed\n"
    _, text, _ = await cluster.call("GET", "/metrics")
    assert "apiserver_request_total" in text


# agents


@dataclass
class FakeAgent:
    """An agent's API that notes what it was asked; exec echoes, logs come in two pieces."""

    asked: list[str]
    release: asyncio.Event
    ended: int = 0
    """Streams whose reader has gone."""

    async def handle(self, request: Request) -> Response:
        self.asked.append(f"{request.method} {request.raw_path} {request.headers.get('Upgrade', '')}".strip())
        if request.path.startswith("/exec/default/p/refuses"):
            return Answer(404, b'container "refuses" not found\n', b"Content-Type: text/plain\r\n")
        if "Upgrade" in request.headers:
            assert "Authorization" not in request.headers
            stream = await take_over(
                request, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n"
            )
            while data := await stream.read():
                stream.write(data)
                await stream.drain()
            stream.close()
            return TakenOver()
        response = Response(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        when_lost(request, self._lost)
        await response.write(b"first\n")
        await self.release.wait()
        await response.write(b"second\n")
        return response

    def _lost(self) -> None:
        self.ended += 1
        self.release.set()


@pytest.fixture
async def agent(ready: Cluster) -> AsyncIterator[FakeAgent]:
    fake = FakeAgent([], asyncio.Event())
    pair, _ = ready.authority.ensure("agent", CertificateSpec("n", (), ("127.0.0.1",), ("server",)))
    tls = server_context(pair, ready.authority.pair.certificate)
    listener = Listener(fake.handle, "127.0.0.1", 0, tls)
    port = await listener.start()
    node = {
        "metadata": {"name": "n"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        },
    }
    await ready.registry.create(NODES, "", node, WriteOptions(), ADMIN)
    await ready.call("PUT", "/api/v1/nodes/n/status", node)
    await ready.registry.create(
        PODS, "default", pod("p", "c", "refuses", nodeName="n"), WriteOptions(), ADMIN
    )
    yield fake
    fake.release.set()
    await listener.close(grace_s=1.0)


async def upgrade(cluster: Cluster, path: str, protocol: str = "SPDY/3.1") -> tuple[RawStream, bytes]:
    stream = await connect("127.0.0.1", cluster.port, tls=cluster.admin_tls, server_hostname="127.0.0.1")
    stream.write(
        f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n"
        "X-Stream-Protocol-Version: v4.channel.k8s.io\r\nAuthorization: Bearer not-passed-on\r\n\r\n".encode()
    )
    return stream, await stream.read_until(b"\r\n\r\n", 10_000)


@pytest.mark.parametrize("protocol", ["SPDY/3.1", "websocket"])
async def test_exec_is_relayed_byte_for_byte(ready: Cluster, agent: FakeAgent, protocol: str) -> None:
    path = f"{PODS_PATH}/p/exec?container=c&command=sh&command=-c&stdin=true&stdout=true&tty=true"
    stream, head = await upgrade(ready, path, protocol)
    assert head.startswith(b"HTTP/1.1 101 ")
    assert agent.asked == [f"POST /exec/default/p/c?input=1&output=1&tty=1&command=sh&command=-c {protocol}"]
    sent = random.Random(1).randbytes(600_000)
    back = b""
    for start in range(0, len(sent), 50_000):
        stream.write(sent[start : start + 50_000])
        await stream.drain()
    async with asyncio.timeout(10):
        while len(back) < len(sent):
            back += await stream.read()
    assert back == sent
    stream.close()
    await stream.wait_closed()


async def test_refusals_of_exec_are_a_status(ready: Cluster, agent: FakeAgent) -> None:
    cases = [
        ("container=refuses&command=ls&stdout=1", 404, 'container "refuses" not found'),
        ("command=ls&stdout=1", 400, "choose one of: [c refuses]"),
        ("container=z&command=ls&stdout=1", 400, "container z is not valid for pod p"),
        ("container=c&stdout=1", 400, "at least 1 command"),
    ]
    for query, code, message in cases:
        stream, head = await upgrade(ready, f"{PODS_PATH}/p/exec?{query}")
        body = json.loads(await stream.read())
        assert head.startswith(b"HTTP/1.1 %d " % code)
        assert message in body["message"]
        stream.close()
        await stream.wait_closed()
    status, body, _ = await ready.call("POST", f"{PODS_PATH}/p/exec?container=c&command=ls&stdout=1")
    assert (status, body["message"]) == (400, "Upgrade request required")


async def test_logs_are_passed_on_as_they_come(ready: Cluster, agent: FakeAgent) -> None:
    url = f"{ready.base}{PODS_PATH}/p/log?container=c&follow=true&tailLines=5&timestamps=false"
    async with ready.admin.get(url) as answer:
        assert await asyncio.wait_for(answer.content.readline(), 5) == b"first\n"
        agent.release.set()
        assert await answer.content.readline() == b"second\n"
    assert agent.asked == ["GET /containerLogs/default/p/c?follow=true&tailLines=5"]
    assert (await ready.call("HEAD", f"{PODS_PATH}/p/log?container=c"))[0] == 405
    status, body, _ = await ready.call("GET", f"{PODS_PATH}/p/log?container=c&tailLines=-1")
    assert (status, body["details"]["causes"][0]["field"]) == (422, "tailLines")


async def test_a_followed_log_ends_with_its_client(ready: Cluster, agent: FakeAgent) -> None:
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=ready.admin_tls))
    answer = await session.get(f"{ready.base}{PODS_PATH}/p/log?container=c&follow=true")
    assert await asyncio.wait_for(answer.content.readline(), 5) == b"first\n"
    answer.close()
    await session.close()
    await until(lambda: agent.ended == 1)


async def test_an_agent_that_is_away_is_an_error_with_its_address(ready: Cluster) -> None:
    node = {
        "metadata": {"name": "n"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 1}},
        },
    }
    await ready.registry.create(NODES, "", node, WriteOptions(), ADMIN)
    await ready.call("PUT", "/api/v1/nodes/n/status", node)
    await ready.registry.create(PODS, "default", pod("p", nodeName="n"), WriteOptions(), ADMIN)
    status, body, _ = await ready.call("GET", f"{PODS_PATH}/p/log")
    assert status == 500
    assert "error dialing backend: dial tcp 127.0.0.1:1" in body["message"]


async def test_an_unscheduled_pod_has_no_log_and_no_exec(ready: Cluster) -> None:
    await ready.call("POST", PODS_PATH, pod("p"))
    assert (await ready.call("GET", f"{PODS_PATH}/p/log"))[:2] == (200, "")
    path = f"{PODS_PATH}/p/exec?command=ls&stdout=1"
    status, body, _ = await ready.call("POST", path, headers={"Connection": "Upgrade", "Upgrade": "SPDY/3.1"})
    assert (status, body["message"]) == (400, "pod p does not have a host assigned")


async def test_bodies_that_are_only_asked_with_are_checked_like_objects(ready: Cluster) -> None:
    reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    status, refused, _ = await ready.call("POST", reviews, {"spec": {"resourceAttributes": 1}})
    assert (status, refused["reason"]) == (400, "BadRequest")
    assert "spec.resourceAttributes" in refused["message"]
    body = {"spec": {"resourceAttributes": {"verb": "get"}, "nonsense": 1}}
    status, refused, _ = await ready.call("POST", f"{reviews}?fieldValidation=Strict", body)
    assert (status, "unknown field" in refused["message"]) == (400, True)
    status, refused, _ = await ready.call("POST", reviews, {"kind": "TokenReview", **body})
    assert status == 400
    await ready.call("POST", PODS_PATH, pod("p"))
    for subresource, body in (("binding", {"target": 1}), ("eviction", {"deleteOptions": "now"})):
        status, refused, _ = await ready.call("POST", f"{PODS_PATH}/p/{subresource}", body)
        assert (status, refused["reason"]) == (400, "BadRequest"), subresource
    status, _, _ = await ready.call("POST", f"{PODS_PATH}/p/binding", {
        "metadata": {"name": "another"}, "target": {"name": "n"}
    })  # fmt: skip
    assert status == 400
    status, evicted, _ = await ready.call(
        "POST", f"{PODS_PATH}/p/eviction", {"apiVersion": "policy/v1beta1", "kind": "Eviction"}
    )
    assert (status, evicted["status"]) == (201, "Success")
