"""Priority and fairness over HTTP, and the objects that configure it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestrator.api.access import ADMIN
from orchestrator.api.item import Object
from orchestrator.api.resources import FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS, Resource
from orchestrator.assembly import fairness as keeping
from orchestrator.assembly.fairness import FairnessKeeper
from orchestrator.auth.authorizer import AuthorizerChain
from orchestrator.base.clock import SystemClock
from orchestrator.base.tasks import Supervisor
from orchestrator.client.local import LocalClient
from orchestrator.informer.cache import Informers
from orchestrator.server.fairness.defaults import AUTOUPDATE
from orchestrator.server.fairness.gate import Gate
from tests.contract.api_support import Cluster

PODS = "/api/v1/namespaces/default/pods"
BASE = "/apis/flowcontrol.apiserver.k8s.io/v1"
SCHEMAS, LEVELS = f"{BASE}/flowschemas", f"{BASE}/prioritylevelconfigurations"
READ = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}


@pytest.fixture
async def kept(ready: Cluster) -> AsyncIterator[Cluster]:
    """With the default objects, followed live."""
    authorizer: AuthorizerChain = ready.app._authorizer  # type: ignore[assignment]
    client, supervisor = LocalClient(ready.registry, authorizer, ADMIN, {}), Supervisor("test")
    await keeping.write(client)
    informers = Informers(client, supervisor)
    FairnessKeeper(client, informers, ready.app.fairness, supervisor, SystemClock()).start()
    informers.start()
    await _until(ready, SCHEMAS + "/catch-all", _has_condition)
    await ready.allow("jane", READ)
    yield ready
    await supervisor.stop()


def _has_condition(obj: Object) -> bool:
    return bool((obj.get("status") or {}).get("conditions"))


async def _until(cluster: Cluster, path: str, true: Any) -> Object:
    """Read `path` until what is read is `true` of."""
    async with asyncio.timeout(10):
        while True:
            status, obj, _ = await cluster.call("GET", path)
            if status == 200 and true(obj):
                return obj  # type: ignore[no-any-return]
            await asyncio.sleep(0.01)


def _schema(name: str, level: str, user: str = "jane", precedence: int = 50) -> Object:
    rule = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": True}
    return {
        "metadata": {"name": name},
        "spec": {
            "priorityLevelConfiguration": {"name": level},
            "matchingPrecedence": precedence,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [
                {
                    "subjects": [{"kind": "User", "user": {"name": user}}],
                    "resourceRules": [rule],
                    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
                }
            ],
        },
    }


def _level(name: str, shares: int) -> Object:
    limited = {"nominalConcurrencyShares": shares, "limitResponse": {"type": "Reject"}}
    limited["borrowingLimitPercent"] = 0
    return {"metadata": {"name": name}, "spec": {"type": "Limited", "limited": limited}}


async def _saturate(cluster: Cluster, name: str) -> Object:
    """A level without free seats, and a schema that sends jane there."""
    status, level, _ = await cluster.call("POST", LEVELS, _level(name, 1))
    assert status == 201, level
    status, schema, _ = await cluster.call("POST", SCHEMAS, _schema(name, name))
    assert status == 201, schema
    await _until(cluster, f"{SCHEMAS}/{name}", lambda obj: name in cluster.app.fairness.pool.levels)
    held = cluster.app.fairness.pool.levels[name]
    while held.try_enter(1):
        pass
    return {"level": level["metadata"]["uid"], "schema": schema["metadata"]["uid"]}


async def test_answers_say_how_the_request_was_counted(kept: Cluster) -> None:
    for path, schema, level in (
        (PODS, "exempt", "exempt"),
        ("/version", "exempt", "exempt"),
        ("/apis", "exempt", "exempt"),
        (PODS + "/absent", "exempt", "exempt"),
        (PODS + "?watch=1&timeoutSeconds=1", "exempt", "exempt"),
    ):
        _, wanted, _ = await kept.call("GET", f"{SCHEMAS}/{schema}")
        _, configuration, _ = await kept.call("GET", f"{LEVELS}/{level}")
        _, _, answer = await kept.call("GET", path)
        assert answer.headers["X-Kubernetes-PF-FlowSchema-UID"] == wanted["metadata"]["uid"], path
        assert answer.headers["X-Kubernetes-PF-PriorityLevel-UID"] == configuration["metadata"]["uid"]
    _, wanted, _ = await kept.call("GET", f"{SCHEMAS}/global-default")
    _, _, answer = await kept.call("GET", "/version", session=kept.user)
    assert answer.headers["X-Kubernetes-PF-FlowSchema-UID"] == wanted["metadata"]["uid"]


async def test_a_full_level_refuses_with_429_and_the_others_go_on(kept: Cluster) -> None:
    uids = await _saturate(kept, "narrow")
    status, body, answer = await kept.call("GET", PODS, session=kept.user)
    assert (status, body["reason"], answer.headers["Retry-After"]) == (429, "TooManyRequests", "1")
    assert answer.headers["X-Kubernetes-PF-FlowSchema-UID"] == uids["schema"]
    assert answer.headers["X-Kubernetes-PF-PriorityLevel-UID"] == uids["level"]
    assert (await kept.call("GET", PODS))[0] == 200
    assert (await kept.call("GET", "/livez", session=kept.anybody))[0] == 200
    _, text, _ = await kept.call("GET", "/metrics")
    labels = 'flow_schema="narrow",priority_level="narrow",reason="concurrency-limit"'
    assert f"apiserver_flowcontrol_rejected_requests_total{{{labels}}} 1.0" in text
    assert 'apiserver_flowcontrol_nominal_limit_seats{priority_level="narrow"}' in text
    assert "apiserver_flowcontrol_request_wait_duration_seconds_bucket" in text


async def test_a_deleted_schema_stops_to_count(kept: Cluster) -> None:
    await _saturate(kept, "narrow")
    assert (await kept.call("GET", PODS, session=kept.user))[0] == 429
    assert (await kept.call("DELETE", f"{SCHEMAS}/narrow"))[0] == 200
    async with asyncio.timeout(5):
        while True:
            if (await kept.call("GET", PODS, session=kept.user))[0] == 200:
                break
            await asyncio.sleep(0.01)


async def test_a_watch_gives_its_seat_back_when_it_has_begun(kept: Cluster) -> None:
    pool = kept.app.fairness.pool
    async with kept.user.get(kept.base + PODS + "?watch=1") as answer:
        assert answer.status == 200
        assert sum(level.seats for level in pool.levels.values()) == 0


async def test_a_request_that_takes_too_long_is_answered_504(
    kept: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def endless(*args: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(kept.registry, "get", endless)
    for limits in ("?timeout=10ms", ""):
        if not limits:
            monkeypatch.setattr(kept.app, "_gate", Gate(kept.app.fairness, timeout_s=0.01))
        status, body, _ = await kept.call("GET", PODS + "/x" + limits)
        assert (status, body["reason"]) == (504, "Timeout")
        assert body["message"] == "Timeout: request did not complete within the allotted timeout"
    assert begun.is_set()
    assert kept.app.fairness.pool.levels["exempt"].executing == 0


async def test_a_timeout_that_is_none_is_refused(kept: Cluster) -> None:
    status, body, _ = await kept.call("GET", PODS + "?timeout=soon")
    assert (status, body["reason"]) == (400, "BadRequest")


async def test_a_dangling_schema_says_so_until_its_level_exists(kept: Cluster) -> None:
    await kept.call("POST", SCHEMAS, _schema("lost", "later"))
    obj = await _until(kept, f"{SCHEMAS}/lost", _has_condition)
    (condition,) = obj["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Dangling", "True", "NotFound")
    await kept.call("POST", LEVELS, _level("later", 1))
    await _until(kept, f"{SCHEMAS}/lost", lambda obj: obj["status"]["conditions"][0]["reason"] == "Found")


async def _change(cluster: Cluster, path: str, patch: Object) -> Object:
    status, obj, _ = await cluster.call(
        "PATCH", path, patch, headers={"Content-Type": "application/merge-patch+json"}
    )
    assert status == 200, obj
    return obj  # type: ignore[no-any-return]


async def test_mandatory_objects_come_back_and_suggested_ones_follow_their_annotation(kept: Cluster) -> None:
    await kept.call("DELETE", f"{SCHEMAS}/exempt")
    await kept.call("DELETE", f"{LEVELS}/system")
    await _until(kept, f"{SCHEMAS}/exempt", _has_condition)
    await _until(kept, f"{LEVELS}/system", lambda obj: True)
    mine = {"metadata": {"annotations": {AUTOUPDATE: "false"}}}
    shares = {"spec": {"limited": {"nominalConcurrencyShares": 77}}}
    await _change(kept, f"{LEVELS}/system", mine | shares)
    await _change(kept, f"{LEVELS}/node-high", shares)
    await _until(
        kept, f"{LEVELS}/node-high", lambda obj: obj["spec"]["limited"]["nominalConcurrencyShares"] == 40
    )
    _, obj, _ = await kept.call("GET", f"{LEVELS}/system")
    assert obj["spec"]["limited"]["nominalConcurrencyShares"] == 77


def _named(name: str, annotation: str | None, **rest: Any) -> Object:
    metadata: Object = {"name": name, **rest}
    if annotation is not None:
        metadata["annotations"] = {AUTOUPDATE: annotation}
    return {"metadata": metadata, "spec": {"x": 1}}


@pytest.mark.parametrize(
    ("found", "updated", "deleted"),
    [
        (_named("a", "true"), {"x": 2}, []),
        (_named("a", "false"), None, []),
        (_named("a", None, generation=1), {"x": 2}, []),
        (_named("a", None, generation=2), {"x": 1}, []),
        (_named("old", "true"), None, ["old"]),
        (_named("mine", "false"), None, []),
        (_named("mine", None), None, []),
    ],
)
def test_who_owns_a_suggested_object(found: Object, updated: Object | None, deleted: list[str]) -> None:
    wanted = {"metadata": {"name": "a"}, "spec": {"x": 2}}
    _, update, delete = keeping.plan([wanted], [found])
    assert delete == deleted
    assert [obj["spec"] for obj in update] == ([updated] if updated else [])
    said = [obj["metadata"]["annotations"][AUTOUPDATE] for obj in update]
    assert said == [] if updated is None else ["true" if updated == {"x": 2} else "false"]


def test_every_default_object_is_written_and_right_the_second_time() -> None:
    for resource, standard in keeping.STANDARD:
        assert isinstance(resource, Resource) and resource in (FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS)
        assert keeping.plan(standard, []) == (standard, [], [])
        assert keeping.plan(standard, standard) == ([], [], [])
