"""Media types over HTTP: protobuf and YAML answers of objects, lists, watches and errors; pretty; compression."""

import asyncio
import json
import struct

import pytest
import yaml

from orchestrator.server import present
from orchestrator.wire.kubernetes import MAGIC, decode_object, encode_object
from orchestrator.wire.raw import fields
from tests.contract.api_support import Cluster, Json

PROTOBUF = "application/vnd.kubernetes.protobuf"
PARTIAL = f"{PROTOBUF};as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
MAPS = "/api/v1/namespaces/default/configmaps"


def _map(name: str, **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data or {"k": "v"}}


async def _raw(
    cluster: Cluster, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, bytes, str]:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    async with cluster.admin.request(method, cluster.base + path, data=body, headers=named) as answer:
        return answer.status, await answer.read(), answer.headers["Content-Type"]


async def test_objects_go_and_come_as_protobuf(ready: Cluster) -> None:
    body = encode_object(_map("a", x="1"))
    status, data, kind = await _raw(ready, "POST", MAPS, body, Content_Type=PROTOBUF, Accept=PROTOBUF)
    assert (status, kind) == (201, PROTOBUF)
    obj = decode_object(data)
    assert obj["data"] == {"x": "1"} and obj["metadata"]["uid"]
    _, as_json, _ = await ready.call("GET", f"{MAPS}/a")
    assert (
        decode_object((await _raw(ready, "GET", f"{MAPS}/a", Accept=f"{PROTOBUF},application/json"))[1])
        == as_json
    )
    partial = decode_object((await _raw(ready, "GET", f"{MAPS}/a", Accept=PARTIAL))[1])
    assert partial == {**partial, "kind": "PartialObjectMetadata", "metadata": as_json["metadata"]}


async def test_a_list_as_protobuf_is_the_list_as_json(ready: Cluster) -> None:
    for n in range(30):
        await ready.call("POST", MAPS, _map(f"c{n}", n=str(n)))
    _, as_json, _ = await ready.call("GET", f"{MAPS}?limit=25")
    status, data, _ = await _raw(ready, "GET", f"{MAPS}?limit=25", Accept=PROTOBUF)
    found = decode_object(data)
    assert status == 200 and found["kind"] == "ConfigMapList"
    for item in found["items"]:
        item.pop("apiVersion", None), item.pop("kind", None)
    for item in as_json["items"]:
        item.pop("apiVersion"), item.pop("kind")
    assert found == as_json and found["metadata"]["remainingItemCount"] == 5


async def test_errors_and_plain_answers_are_protobuf_too(ready: Cluster) -> None:
    status, data, kind = await _raw(ready, "GET", f"{MAPS}/none", Accept=PROTOBUF)
    found = decode_object(data)
    assert (status, kind) == (404, PROTOBUF)
    assert (found["kind"], found["reason"], found["code"]) == ("Status", "NotFound", 404)
    assert found["details"] == {"name": "none", "kind": "configmaps"}
    await ready.call("POST", MAPS, _map("gone"))
    _, data, _ = await _raw(ready, "DELETE", f"{MAPS}/gone", Accept=PROTOBUF)
    assert decode_object(data)["status"] == "Success"
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    status, data, _ = await _raw(
        ready, "POST", path, encode_object(review), Content_Type=PROTOBUF, Accept=PROTOBUF
    )
    assert status == 201 and decode_object(data)["status"]["userInfo"]["username"] == "admin"


@pytest.mark.parametrize(("accept", "kind"), [(PROTOBUF, "ConfigMap"), (PARTIAL, "PartialObjectMetadata")])
async def test_a_watch_as_protobuf_is_frames_of_events(ready: Cluster, accept: str, kind: str) -> None:
    await ready.call("POST", MAPS, _map("a"))
    await ready.call("POST", MAPS, _map("b"))
    await ready.call("DELETE", f"{MAPS}/a")
    url = f"{ready.base}{MAPS}?watch=1&resourceVersion=1&timeoutSeconds=1&allowWatchBookmarks=true"
    async with ready.admin.get(url, headers={"Accept": accept}) as answer:
        assert answer.headers["Content-Type"] == f"{PROTOBUF};stream=watch"
        data = await answer.read()
    events = []
    while data:
        (size,) = struct.unpack(">I", data[:4])
        event = {number: bytes(value) for number, _, value in fields(memoryview(data[4 : 4 + size]))}
        (raw,) = [bytes(value) for _, _, value in fields(memoryview(event[2]))]
        assert raw.startswith(MAGIC)
        events.append((event[1].decode(), decode_object(raw)))
        data = data[4 + size :]
    seen = [(type_, obj["metadata"].get("name")) for type_, obj in events]
    assert seen == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a"), ("BOOKMARK", None)]
    assert {obj["kind"] for type_, obj in events} == {kind}


async def test_an_expired_watch_ends_with_a_status_as_protobuf(ready: Cluster) -> None:
    await ready.call("POST", MAPS, _map("a"))
    await ready.registry._storage._store.compact(ready.registry.revision)
    _, data, _ = await _raw(ready, "GET", f"{MAPS}?watch=1&resourceVersion=1", Accept=PROTOBUF)
    event = {number: bytes(value) for number, _, value in fields(memoryview(data[4:]))}
    (raw,) = [bytes(value) for _, _, value in fields(memoryview(event[2]))]
    assert event[1] == b"ERROR" and decode_object(raw)["code"] == 410


async def test_what_a_table_can_not_be_falls_back_or_is_refused(ready: Cluster) -> None:
    table = f"{PROTOBUF};as=Table;v=v1;g=meta.k8s.io"
    status, body, _ = await _raw(ready, "GET", MAPS, Accept=table)
    assert status == 406 and json.loads(body)["reason"] == "NotAcceptable"
    _, body, kind = await _raw(ready, "GET", MAPS, Accept=f"{table},application/json")
    assert kind == "application/json" and json.loads(body)["kind"] == "ConfigMapList"


async def test_a_review_is_no_row_of_a_table(ready: Cluster) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    review = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    status, answer, _ = await ready.call("POST", path, review, headers={"Accept": table})
    assert (status, answer["reason"]) == (406, "NotAcceptable")
    accept = {"Accept": f"{table},application/json"}
    status, answer, _ = await ready.call("POST", path, review, headers=accept)
    assert (status, answer["kind"]) == (201, "SelfSubjectAccessReview")


async def test_nothing_is_written_for_an_answer_that_can_not_be_given(ready: Cluster) -> None:
    status, _, _ = await _raw(
        ready,
        "POST",
        MAPS,
        json.dumps(_map("no")).encode(),
        Content_Type="application/json",
        Accept="text/html",
    )
    assert status == 406
    assert (await ready.call("GET", f"{MAPS}/no"))[0] == 404


async def test_yaml_and_pretty_are_for_people(ready: Cluster) -> None:
    await ready.call("POST", MAPS, _map("a", text="two\nlines"))
    _, as_json, _ = await ready.call("GET", f"{MAPS}/a")
    for path in (f"{MAPS}/a", MAPS):
        _, body, kind = await _raw(ready, "GET", path, Accept="application/yaml")
        assert kind == "application/yaml" and not body.startswith(b"{")
        found = yaml.safe_load(body)
        assert found.get("items", [found])[0]["data"] == as_json["data"]
        _, body, _ = await _raw(ready, "GET", f"{path}?pretty=true")
        assert body.startswith(b'{\n  "') and json.loads(body)
    status, _, _ = await _raw(ready, "GET", f"{MAPS}?watch=1", Accept="application/yaml")
    assert status == 406


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
async def test_a_long_list_leaves_in_parts_and_is_whole(
    ready: Cluster, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(present, "STREAM_MIN_BYTES", 20_000)
    monkeypatch.setattr(present, "SLICE", 7)
    async with asyncio.TaskGroup() as group:
        for n in range(60):
            group.create_task(ready.call("POST", MAPS, _map(f"c{n:02}", text="x" * 1000)))
    async with ready.admin.get(ready.base + MAPS, headers={"Accept-Encoding": encoding}) as answer:
        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert answer.headers.get("Content-Encoding", "identity") == encoding
        found = await answer.json()
    assert [item["metadata"]["name"] for item in found["items"]] == [f"c{n:02}" for n in range(60)]
