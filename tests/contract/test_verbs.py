"""The verbs' options over HTTP, as kube-apiserver takes, refuses and words them."""

import json
from typing import Any

import pytest
from yarl import URL

from orchestrator.registry import indexing
from tests.contract.api_support import Cluster, Json

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"


def _map(name: str, labels: Json | None = None, **data: str) -> Json:
    metadata = {"name": name, **({"labels": labels} if labels else {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _pod(name: str) -> Json:
    spec = {"containers": [{"name": "c", "image": "i"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


async def _made(cluster: Cluster, path: str, *objects: Json) -> list[Json]:
    made = []
    for obj in objects:
        status, answer, _ = await cluster.call("POST", path, obj)
        assert status == 201, answer
        made.append(answer)
    return made


async def _events(cluster: Cluster, path: str, **headers: str) -> list[Json]:
    """What a watch says until it ends."""
    url = URL(cluster.base + path, encoded=True)
    async with cluster.admin.get(url, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return [json.loads(line) for line in (await answer.text()).splitlines()]


def _seen(events: list[Json]) -> list[tuple[str, Any]]:
    return [(event["type"], event["object"]["metadata"].get("name")) for event in events]


# list


async def test_remaining_items_are_counted_only_without_selectors(ready: Cluster) -> None:
    await _made(ready, MAPS, *(_map(f"c{n}", {"a": "b"}) for n in range(5)))
    _, page, _ = await ready.call("GET", f"{MAPS}?limit=2")
    assert page["metadata"]["remainingItemCount"] == 3
    _, selected, _ = await ready.call("GET", f"{MAPS}?limit=2&labelSelector=a%3Db")
    assert "remainingItemCount" not in selected["metadata"] and selected["metadata"]["continue"]
    _, rest, _ = await ready.call("GET", f"{MAPS}?limit=9&continue={page['metadata']['continue']}")
    assert len(rest["items"]) == 3 and not {"continue", "remainingItemCount"} & rest["metadata"].keys()
    assert rest["metadata"]["resourceVersion"] == page["metadata"]["resourceVersion"]


async def test_a_compacted_continuation_offers_another(ready: Cluster) -> None:
    await _made(ready, MAPS, *(_map(f"c{n}") for n in range(4)))
    _, page, _ = await ready.call("GET", f"{MAPS}?limit=2")
    await ready.registry._storage._store.compact(await _version(ready, "later"))
    status, expired, _ = await ready.call("GET", f"{MAPS}?limit=2&continue={page['metadata']['continue']}")
    assert (status, expired["reason"]) == (410, "Expired")
    _, rest, _ = await ready.call("GET", f"{MAPS}?limit=9&continue={expired['metadata']['continue']}")
    assert [item["metadata"]["name"] for item in rest["items"]] == ["c2", "c3", "later"]


async def _version(cluster: Cluster, name: str) -> int:
    (made,) = await _made(cluster, MAPS, _map(name))
    return int(made["metadata"]["resourceVersion"])


REFUSED: list[tuple[str, int, str]] = [
    ("resourceVersionMatch=Exact", 422,
     'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: '
     "resourceVersionMatch is forbidden unless resourceVersion is provided"),
    ("resourceVersionMatch=Exact&resourceVersion=0", 422,
     'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'),
    ("sendInitialEvents=true", 422, "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"),
    ("watch=1&sendInitialEvents=true", 422,
     "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"),
    ("continue=zz&resourceVersion=5", 400, "specifying resource version is not allowed when using continue"),
    ("continue=zz", 400, "continue key is not valid"),
    ("resourceVersion=999999999", 504, "Too large resource version"),
    ("limit=x", 400, 'parsing "x": invalid syntax'),
    ("labelSelector=a%20in%20x", 400, "unable to parse requirement"),
]  # fmt: skip


async def test_options_of_list_and_watch_that_are_refused(ready: Cluster) -> None:
    surprises = []
    for query, code, message in REFUSED:
        async with ready.admin.get(URL(f"{ready.base}{MAPS}?{query}", encoded=True)) as answer:
            found = await answer.json()
        if found.get("code") != code or message not in found["message"]:
            surprises.append((query, found))
    assert surprises == []


async def test_a_token_is_for_its_own_list(ready: Cluster) -> None:
    await _made(ready, MAPS, _map("a"), _map("b"))
    _, page, _ = await ready.call("GET", f"{MAPS}?limit=1")
    status, refused, _ = await ready.call("GET", f"{PODS}?continue={page['metadata']['continue']}")
    assert status == 400 and "continue key is not valid" in refused["message"]


@pytest.mark.parametrize("minimum", [1, 10_000])
async def test_selectors_find_the_same_with_and_without_an_index(
    ready: Cluster, minimum: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "INDEX_MIN", minimum)
    labels = [{"a": "1", "b": "x"}, {"a": "2"}, {"b": "y"}, {}]
    await _made(ready, MAPS, *(_map(f"c{n}", found) for n, found in enumerate(labels)))
    cases = {
        "a=1": "0", "a==2": "1", "a!=1": "123", "a in (1,2)": "01", "a notin (1)": "123", "b": "02", "!b": "13",
        "a>1": "1", "a<2": "0", "a=1,b=x": "0", "a=1,b=y": "", "b notin (x),b": "2", "c=1": "",
    }  # fmt: skip
    for _ in range(2):
        for selector, wanted in cases.items():
            _, found, _ = await ready.call("GET", MAPS, params={"labelSelector": selector, "limit": "9"})
            names = [item["metadata"]["name"] for item in found["items"]]
            mine = [name for name in names if name.startswith("c")]
            assert mine == [f"c{n}" for n in wanted], selector


# watch


async def test_a_watch_from_a_version_shows_deletions_at_their_own(ready: Cluster) -> None:
    (first,) = await _made(ready, MAPS, _map("a"))
    _, status, _ = await ready.call("DELETE", f"{MAPS}/a")
    events = await _events(
        ready, f"{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={first['metadata']['resourceVersion']}"
    )
    assert _seen(events) == [("DELETED", "a")]
    assert int(events[0]["object"]["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    assert status["status"] == "Success"


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", [("ADDED", "a"), ("ADDED", "b")]),
        ("&resourceVersion=0", [("ADDED", "a"), ("ADDED", "b")]),
        ("&fieldSelector=metadata.name%3Db", [("ADDED", "b")]),
        (
            "&resourceVersion=0&allowWatchBookmarks=true",
            [("ADDED", "a"), ("ADDED", "b"), ("BOOKMARK", None), ("BOOKMARK", None)],
        ),
        ("&sendInitialEvents=false&resourceVersionMatch=NotOlderThan", []),
        (
            "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion=1",
            [("ADDED", "a"), ("ADDED", "b"), ("BOOKMARK", None), ("BOOKMARK", None)],
        ),
    ],
)  # fmt: skip
async def test_where_a_watch_starts(ready: Cluster, query: str, wanted: list[tuple[str, str]]) -> None:
    await _made(ready, MAPS, _map("a"), _map("b"))
    events = await _events(ready, f"{MAPS}?watch=true&timeoutSeconds=1{query}")
    assert _seen(events) == wanted
    marks = [event["object"] for event in events if event["type"] == "BOOKMARK"]
    if marks:
        assert marks[0]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert "annotations" not in marks[-1]["metadata"] and marks[-1]["kind"] == "ConfigMap"


@pytest.mark.parametrize(
    "path", ["/api/v1/watch/namespaces/default/configmaps/b", "/api/v1/watch/configmaps"]
)
async def test_deprecated_paths_of_watches(ready: Cluster, path: str) -> None:
    await _made(ready, MAPS, _map("a"), _map("b"))
    wanted = ["b"] if path.endswith("/b") else ["a", "b"]
    assert [name for _, name in _seen(await _events(ready, f"{path}?timeoutSeconds=1"))] == wanted


async def test_a_version_too_old_is_an_event_with_its_code(ready: Cluster) -> None:
    await ready.registry._storage._store.compact(await _version(ready, "a"))
    (event,) = await _events(ready, f"{MAPS}?watch=1&resourceVersion=1")
    status = event["object"]
    assert (event["type"], status["code"], status["reason"]) == ("ERROR", 410, "Expired")
    assert status["message"].startswith("too old resource version: 1")


async def test_metadata_is_watched_alone(ready: Cluster) -> None:
    await _made(ready, MAPS, _map("a", x="secret"))
    accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    (event,) = await _events(ready, f"{MAPS}?watch=1&timeoutSeconds=1", Accept=accept)
    assert event["object"]["kind"] == "PartialObjectMetadata" and "data" not in event["object"]


# writes


DRY = [
    ("POST", MAPS, _map("new")),
    ("PUT", f"{MAPS}/old", _map("old", x="changed")),
    ("PATCH", f"{MAPS}/old", {"data": {"x": "changed"}}),
    ("DELETE", f"{MAPS}/old", None),
    ("DELETE", f"{MAPS}/old", {"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"]}),
    ("DELETE", MAPS, None),
]


async def test_a_dry_run_changes_nothing(ready: Cluster) -> None:
    await _made(ready, MAPS, _map("old", x="same"))
    _, before, _ = await ready.call("GET", MAPS)
    for method, path, body in DRY:
        headers = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else {}
        query = "" if body and "dryRun" in body else "?dryRun=All"
        status, answer, _ = await ready.call(method, path + query, body, headers=headers)
        assert status in (200, 201), answer
    assert (await ready.call("GET", MAPS))[1] == before


DELETES: list[tuple[Json, int, str]] = [
    ({"propagationPolicy": "Sideways"}, 422,
     'propagationPolicy: Unsupported value: "Sideways": supported values: "Foreground", "Background", "Orphan", "nil"'),
    ({"propagationPolicy": "Orphan", "orphanDependents": True}, 422,
     "orphanDependents and deletionPropagation cannot be both set"),
    ({"dryRun": ["Some"]}, 422, 'dryRun: Unsupported value: []string{"Some"}: supported values: "All"'),
    ({"preconditions": {"uid": "other"}}, 409, "the UID in the precondition (other) does not match the UID in record"),
    ({"preconditions": {"resourceVersion": "1"}}, 409, "the ResourceVersion in the precondition (1) does not match"),
    ({"kind": "Pod"}, 400, ""),
    ({"gracePeriodSeconds": "soon"}, 400, "gracePeriodSeconds"),
]  # fmt: skip


async def test_options_of_delete_that_are_refused(ready: Cluster) -> None:
    await _made(ready, MAPS, _map("a"))
    surprises = []
    for options, code, message in DELETES:
        status, answer, _ = await ready.call(
            "DELETE", f"{MAPS}/a", {"kind": "DeleteOptions", "apiVersion": "v1", **options}
        )
        if status != code or message not in answer["message"]:
            surprises.append((options, answer))
    assert surprises == []
    assert (await ready.call("DELETE", f"{MAPS}/a?uid=other"))[0] == 409
    assert (await ready.call("GET", f"{MAPS}/a"))[0] == 200


async def test_a_collection_is_deleted_by_its_selectors(ready: Cluster) -> None:
    await _made(ready, MAPS, _map("a", {"x": "1"}), _map("b", {"x": "2"}), _map("c", {"x": "1"}))
    status, deleted, _ = await ready.call(
        "DELETE", f"{MAPS}?labelSelector=x%3D1&propagationPolicy=Background"
    )
    assert status == 200 and [item["metadata"]["name"] for item in deleted["items"]] == ["a", "c"]
    _, left, _ = await ready.call("GET", MAPS)
    assert [item["metadata"]["name"] for item in left["items"]] == ["b"]


async def test_generated_names_are_unique(ready: Cluster) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "gen-"}}
    made = await _made(ready, MAPS, *([body] * 5))
    names = {obj["metadata"]["name"] for obj in made}
    assert len(names) == 5 and all(name.startswith("gen-") and len(name) == 9 for name in names)
    assert all(obj["metadata"]["generateName"] == "gen-" for obj in made)


async def test_reads_of_one_object_know_versions_too(ready: Cluster) -> None:
    await _made(ready, PODS, _pod("p"))
    assert (await ready.call("GET", f"{PODS}/p?resourceVersion=0"))[0] == 200
    status, refused, _ = await ready.call("GET", f"{PODS}/p?resourceVersion=999999999")
    assert status == 504 and refused["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    status, _, _ = await ready.call("HEAD", f"{PODS}/p")
    assert status == 200
